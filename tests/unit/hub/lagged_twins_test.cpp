#include "sim/hub/store/lagged_twins.hpp"

#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/hub/store/device_store.hpp"

namespace twinstorm::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LaggedTwinsTest : public ::testing::Test {
 protected:
  static twin::TwinDocument version(int64_t number, std::string_view id = "a") {
    auto twin = twin::TwinDocument::fresh(id, "", WallTime{});
    twin.version = number;
    return twin;
  }
  /// The version queries see; 0 = none.
  static int64_t seen(LaggedTwins& twins, std::string_view id = "a") {
    const auto* twin = twins.find(id);
    return twin == nullptr ? 0 : twin->version;
  }
  void write(LaggedTwins& twins, int64_t number) { twins.changed("a", version(number)); }

  ManualClock clock;
};

TEST_F(LaggedTwinsTest, CreationChangeAndRemovalAreSeenAfterTheLag) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  write(twins, 2);
  EXPECT_EQ(seen(twins), 0);
  clock.advance(seconds{5});
  EXPECT_EQ(seen(twins), 2);
  write(twins, 3);
  clock.advance(milliseconds{4999});
  EXPECT_EQ(seen(twins), 2);
  clock.advance(milliseconds{1});
  EXPECT_EQ(seen(twins), 3);
  twins.removed("a");
  clock.advance(milliseconds{4999});
  EXPECT_EQ(seen(twins), 3);
  clock.advance(milliseconds{1});
  EXPECT_EQ(seen(twins), 0);
  EXPECT_EQ(twins.waiting(), 0u);
}

TEST_F(LaggedTwinsTest, EachWriteHasItsOwnLag) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  for (int64_t number = 2; number < 7; ++number) {
    write(twins, number);
    clock.advance(seconds{1});
  }
  for (int64_t number = 2; number < 7; ++number) {
    EXPECT_EQ(seen(twins), number);
    clock.advance(seconds{1});
  }
}

TEST_F(LaggedTwinsTest, ATwinThatIsMadeAnewIsSeenToGoAndComeBack) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  write(twins, 9);
  twins.settle();
  twins.removed("a");
  clock.advance(seconds{1});
  write(twins, 2);
  EXPECT_EQ(seen(twins), 9);
  clock.advance(seconds{4});
  EXPECT_EQ(seen(twins), 0);
  clock.advance(seconds{1});
  EXPECT_EQ(seen(twins), 2);
}

TEST_F(LaggedTwinsTest, VersionsNeverGoBackAndNeverComeBeforeTheirShortestLag) {
  LaggedTwins twins{Distribution::uniform(milliseconds{100}, seconds{3}), clock, 7};
  std::map<int64_t, MonoTime> written;
  int64_t last = 0;
  for (int64_t number = 2; number < 3000; ++number) {
    write(twins, number);
    written[number] = clock.mono();
    clock.advance(milliseconds{number % 400});
    const int64_t now_seen = seen(twins);
    EXPECT_GE(now_seen, last);
    if (now_seen > last) {
      EXPECT_GE(clock.mono() - written[now_seen], milliseconds{100});
    }
    last = now_seen;
    EXPECT_LE(twins.waiting(), LaggedTwins::kVersionsMax);
  }
  clock.advance(seconds{3});
  EXPECT_EQ(seen(twins), 2999);
}

TEST_F(LaggedTwinsTest, ATwinThatIsWrittenWithoutEndIsSeenToMoveAndHoldsBoundedMemory) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  int64_t last = 0;
  int moves = 0;
  for (int64_t number = 2; number < 20'000; ++number) {
    write(twins, number);
    clock.advance(milliseconds{1});
    ASSERT_LE(twins.waiting(), LaggedTwins::kVersionsMax);
    moves += seen(twins) != last ? 1 : 0;
    last = seen(twins);
  }
  EXPECT_GT(moves, 15);
  EXPECT_GT(last, 20'000 - 10'100);  // never further back than twice the lag
}

TEST_F(LaggedTwinsTest, TheSameSeedDrawsTheSameLags) {
  const auto moments = [](uint64_t seed) {
    ManualClock own;
    LaggedTwins twins{Distribution::exponential(seconds{1}), own, seed};
    std::vector<int64_t> seen_at;
    for (int64_t number = 2; number < 50; ++number) {
      twins.changed("a", version(number));
      own.advance(milliseconds{300});
      seen_at.push_back(seen(twins));
    }
    return seen_at;
  };
  EXPECT_EQ(moments(3), moments(3));
  EXPECT_NE(moments(3), moments(4));
}

TEST_F(LaggedTwinsTest, ActivityAloneIsNoWrite) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  auto twin = version(2);
  twins.changed("a", twin);
  twins.settle();
  twin.last_activity_time = clock.wall();
  twins.changed("a", twin);
  EXPECT_EQ(twins.waiting(), 0u);
  EXPECT_EQ(twins.find("a")->last_activity_time, clock.wall());
}

TEST_F(LaggedTwinsTest, AConnectionIsAWrite) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  auto twin = version(2);
  twins.changed("a", twin);
  twins.settle();
  twin.connection_state = twin::ConnectionState::connected;
  twins.changed("a", twin);
  EXPECT_EQ(twins.find("a")->connection_state, twin::ConnectionState::disconnected);
  clock.advance(seconds{5});
  EXPECT_EQ(twins.find("a")->connection_state, twin::ConnectionState::connected);
}

TEST_F(LaggedTwinsTest, VisitsInOrderBehindAKeyWhatQueriesSee) {
  LaggedTwins twins{Distribution::constant(seconds{5}), clock, 1};
  for (const char* id : {"d", "b", "a"}) twins.changed(id, version(2, id));
  twins.settle();
  twins.changed("c", version(2, "c"));
  twins.removed("d");
  const auto visited = [&twins](std::string_view after) {
    std::string ids;
    twins.visit_after(after, [&ids](const twin::TwinDocument& twin) {
      ids += twin.device_id;
      return true;
    });
    return ids;
  };
  EXPECT_EQ(visited(""), "abd");
  EXPECT_EQ(visited("a"), "bd");
  clock.advance(seconds{5});
  EXPECT_EQ(visited(""), "abc");
}

TEST_F(LaggedTwinsTest, EveryTouchOfARecordIsAWriteForQueriesWhileTheRecordIsCurrent) {
  DeviceStore store;
  store.lag_queries(Distribution::constant(seconds{5}), clock, 1);
  DeviceRecord& record = store.devices.insert(make_record("a", "", {}, clock.wall()));
  EXPECT_EQ(store.devices.find_queried("a"), nullptr);
  EXPECT_NE(store.devices.find("a"), nullptr);
  store.devices.settle();
  const auto body = twin::parse_value(R"({"tags":{"ring":1}})");
  ASSERT_TRUE(twin::apply_service_patch(record.twin, *body, clock.wall()).has_value());
  record.touch();
  EXPECT_TRUE(store.devices.find_queried("a")->tags.empty());
  clock.advance(seconds{5});
  EXPECT_FALSE(store.devices.find_queried("a")->tags.empty());
  store.erase(record);
  EXPECT_EQ(store.devices.find("a"), nullptr);
  EXPECT_NE(store.devices.find_queried("a"), nullptr);
  clock.advance(seconds{5});
  EXPECT_EQ(store.devices.find_queried("a"), nullptr);
}

}  // namespace
}  // namespace twinstorm::hub
