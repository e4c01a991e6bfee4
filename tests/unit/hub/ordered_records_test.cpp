#include "sim/hub/store/ordered_records.hpp"

#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/base/rng.hpp"

namespace twinstorm::hub {
namespace {

TEST(KeyOrder, IsThatOfDevicesAndThenOfTheirModules) {
  const std::vector<std::string> ordered{"a", "a/", "a/x", "a/y", "a!", "a-b", "a-b/m", "a0", "b"};
  for (size_t i = 0; i < ordered.size(); ++i) {
    for (size_t j = 0; j < ordered.size(); ++j) EXPECT_EQ(KeyOrder{}(ordered[i], ordered[j]), i < j);
  }
}

/// Against a map, through random insertions and removals that fill, split, empty and merge leaves.
TEST(OrderedRecords, AgreeWithAMapWhateverComesAndGoes) {
  Rng rng{42};
  DeviceRecord record;  // only its address matters
  std::map<std::string, DeviceRecord*, KeyOrder> expected;
  OrderedRecords records;
  const auto key_of = [](uint64_t number) { return fmt::format("d{:05}", number); };
  for (int round = 0; round < 12'000; ++round) {
    // Grows for two thirds of the time, then shrinks to nearly nothing.
    const bool add = rng.below(10) < (round < 8000 ? 8u : 1u);
    const std::string key = key_of(rng.below(4000));
    const auto found = expected.find(key);
    if (add && found == expected.end()) {
      const auto place = expected.emplace(key, &record).first;
      records.insert(place->first, record);
    } else if (!add && found != expected.end()) {
      records.erase(key);
      expected.erase(found);
    }
    if (round % 500 != 0) continue;
    ASSERT_EQ(records.size(), expected.size());
    auto at = records.begin();
    for (const auto& [each, pointer] : expected) {
      ASSERT_EQ(at->first, each);
      ++at;
    }
    ASSERT_TRUE(at == records.end());
    const std::string probe = key_of(rng.below(4100));
    const auto key_at = [&](auto position, auto end) {
      return position == end ? std::string{} : std::string{position->first};
    };
    ASSERT_EQ(key_at(records.lower_bound(probe), records.end()), key_at(expected.lower_bound(probe), expected.end()));
    ASSERT_EQ(key_at(records.upper_bound(probe), records.end()), key_at(expected.upper_bound(probe), expected.end()));
    size_t visited = 0;
    records.visit_from(records.upper_bound(probe), [&visited](const DeviceRecord&) { return ++visited > 0; });
    ASSERT_EQ(visited, static_cast<size_t>(std::distance(expected.upper_bound(probe), expected.end())));
    ASSERT_LE(records.leaves(), 2 + records.size() / 32);
  }
}

}  // namespace
}  // namespace twinstorm::hub
