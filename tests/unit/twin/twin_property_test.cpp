// Random twins and patches against an independent, slow reference: nlohmann::json::merge_patch for the values, and
// naive re-implementations here for metadata, sizes and notifications. The seed is printed; set TWINSTORM_TEST_SEED to
// repeat.
#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/base/rng.hpp"
#include "sim/twin/merge.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm::twin {
namespace {

using Json = nlohmann::ordered_json;

uint64_t test_seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("TWINSTORM_TEST_SEED");
    const uint64_t chosen = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::printf("TWINSTORM_TEST_SEED=%llu\n", static_cast<unsigned long long>(chosen));
    return chosen;
  }();
  return seed;
}

class Random {
 public:
  explicit Random(uint64_t index) : rng_{test_seed(), "twin property test", index} {}
  uint64_t below(uint64_t bound) { return rng_.below(bound); }

  // Few keys, so that patches hit existing members often; some too long for the inline form.
  std::string key() {
    static const std::vector<std::string> kKeys{"a", "b",  "c", "d", "telemetryConfig", "sendFrequencyInSecs",
                                                "ü", "x:y"};
    return kKeys[below(kKeys.size())];
  }
  Json scalar() {
    switch (below(6)) {
      case 0:
        return below(2) == 0;
      case 1:
        return static_cast<int64_t>(below(1000)) - 500;
      case 2:
        return 0.5 * static_cast<double>(below(100));
      case 3:
        return std::string(below(40), 'x');
      case 4:
        return "line\nbreak \u0085 \"quoted\"";
      default:
        return Json::array({1, "two", Json::array({true}), Json::object({{"in", "array"}})});
    }
  }
  Json object(int depth, bool with_nulls) {
    Json result = Json::object();
    for (uint64_t i = below(6); i > 0; --i) {
      const uint64_t kind = below(10);
      if (with_nulls && kind < 3) {
        result[key()] = nullptr;
      } else if (depth > 0 && kind < 7) {
        result[key()] = object(depth - 1, with_nulls);
      } else {
        result[key()] = scalar();
      }
    }
    return result;
  }

 private:
  Rng rng_;
};

Value to_value(const Json& json) { return parse_value(json.dump()).value(); }
Json to_json(const Value& value) { return Json::parse(write(value)); }

// ordered_json compares members in order; twins do not care about it.
bool same(const Json& a, const Json& b) { return nlohmann::json::parse(a.dump()) == nlohmann::json::parse(b.dump()); }

/// service.md 5.4, literally.
uint32_t naive_size(const Json& json) {
  const auto text_size = [](const std::string& text) {
    uint32_t size = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const bool c1 = byte == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0;
      if (c1) {
        ++i;
      } else if (byte >= 0x20) {
        ++size;
      }
    }
    return size;
  };
  if (json.is_string()) return text_size(json.get<std::string>());
  if (json.is_number()) return 8;
  if (json.is_boolean()) return 4;
  uint32_t size = 0;
  for (const auto& [key, value] : json.items()) size += (json.is_object() ? text_size(key) : 0) + naive_size(value);
  return size;
}

/// The metadata tree as JSON: what a patch names gets the stamp, whole new subtrees included, the rest stays.
Json naive_metadata(const Json& before_values, const Json& before, const Json& patch, const std::string& time,
                    int64_t version) {
  const auto entry = [&] {
    Json fresh = Json::object({{"$lastUpdated", time}});
    if (version != 0) fresh["$lastUpdatedVersion"] = version;
    return fresh;
  };
  Json after = before.is_null() ? entry() : before;
  after.update(entry());
  for (const auto& [key, change] : patch.items()) {
    if (change.is_null()) {
      after.erase(key);
    } else if (change.is_object()) {
      const bool merges = before_values.contains(key) && before_values[key].is_object();
      after[key] = naive_metadata(merges ? before_values[key] : Json::object(), merges ? before[key] : Json{}, change,
                                  time, version);
    } else {
      after[key] = entry();
    }
  }
  return after;
}

Json metadata_json(const PropertyBag& bag) {
  std::string text;
  write_metadata(bag.values, bag.metadata, text);
  return Json::parse(text);
}

constexpr uint64_t kCases = 4'000;

TEST(TwinProperties, MergeAgreesWithAnIndependentMergePatch) {
  for (uint64_t i = 0; i < kCases; ++i) {
    Random random{i};
    Json reference = random.object(4, false);
    const Json patch = random.object(4, true);
    Value target = to_value(reference);
    const uint32_t predicted = counted_size_after(target, counted_size(target), to_value(patch));
    const bool silent = only_removes_missing(target, to_value(patch));
    const Json before = reference;
    reference.merge_patch(patch);
    merge_patch(target, to_value(patch));
    ASSERT_TRUE(same(to_json(target), reference)) << "case " << i << ": " << before << " + " << patch;
    ASSERT_EQ(counted_size(target), naive_size(reference)) << "case " << i << ": " << reference;
    ASSERT_EQ(predicted, counted_size(target)) << "case " << i << ": " << before << " + " << patch;
    ASSERT_TRUE(!silent || same(before, reference)) << "case " << i;
  }
}

TEST(TwinProperties, MetadataAgreesWithANaiveTree) {
  for (uint64_t i = 0; i < kCases / 8; ++i) {
    Random random{1'000'000 + i};
    TwinDocument twin = TwinDocument::fresh("d", "", WallTime{});
    Json values = Json::object();
    Json desired_metadata = metadata_json(twin.desired);
    Json reported_metadata = metadata_json(twin.reported);
    for (int step = 1; step <= 8; ++step) {
      const WallTime now{std::chrono::seconds{step}};
      const std::string time = format_iso8601(now);
      const Json patch = random.object(3, true);
      const Json body{{"properties", {{"desired", patch}}}};
      ASSERT_TRUE(apply_service_patch(twin, to_value(body), now));
      ASSERT_TRUE(apply_reported_patch(twin, to_value(patch), now));
      desired_metadata = naive_metadata(values, desired_metadata, patch, time, step + 1);
      reported_metadata = naive_metadata(values, reported_metadata, patch, time, 0);
      values.merge_patch(patch);
      ASSERT_TRUE(same(to_json(twin.desired.values), values)) << "case " << i << " step " << step;
      ASSERT_TRUE(same(metadata_json(twin.desired), desired_metadata)) << "case " << i << " step " << step << "\n"
                                                                       << metadata_json(twin.desired) << "\n"
                                                                       << desired_metadata;
      ASSERT_TRUE(same(metadata_json(twin.reported), reported_metadata)) << "case " << i << " step " << step;
      ASSERT_EQ(twin.reported.counted_bytes, naive_size(values));
      ASSERT_EQ(twin.version, static_cast<int64_t>(twin.etag) + twin.reported.version);
    }
  }
}

// A device that applies every notification to its own copy must end with the hub's desired properties.
TEST(TwinProperties, NotificationsAloneKeepADeviceUpToDate) {
  for (uint64_t i = 0; i < kCases / 8; ++i) {
    Random random{2'000'000 + i};
    TwinDocument twin = TwinDocument::fresh("d", "", WallTime{});
    Json device = Json::object();
    for (int step = 0; step < 8; ++step) {
      const bool put = random.below(3) == 0;
      const Json body{{"properties", {{"desired", random.object(3, !put)}}}};
      const auto change = (put ? replace_twin : apply_service_patch)(twin, to_value(body), WallTime{}, TwinLimits{});
      ASSERT_TRUE(change) << body;
      if (change->notification.empty()) continue;
      const Json notification = Json::parse(change->notification);
      ASSERT_EQ(notification["$version"], twin.desired.version);
      device.merge_patch(notification);
    }
    device.erase("$version");
    ASSERT_TRUE(same(device, to_json(twin.desired.values))) << "case " << i << ": " << device;
  }
}

TEST(TwinProperties, ExportAndImportAreInverse) {
  for (uint64_t i = 0; i < kCases / 8; ++i) {
    Random random{3'000'000 + i};
    TwinDocument twin = TwinDocument::fresh("d", "", WallTime{});
    for (int step = 0; step < 3; ++step) {
      const WallTime now{std::chrono::milliseconds{1 + random.below(1'000'000)}};
      const Json body{{"tags", random.object(2, true)}, {"properties", {{"desired", random.object(3, true)}}}};
      ASSERT_TRUE(apply_service_patch(twin, to_value(body), now));
      ASSERT_TRUE(apply_reported_patch(twin, to_value(random.object(3, true)), now));
    }
    std::string json;
    write_service_twin(twin, json);
    std::string again;
    write_service_twin(TwinDocument::from_json(parse_value(json).value()).value(), again);
    ASSERT_EQ(again, json) << "case " << i;
  }
}

// Thousands of members at once take the hashed path of the merge.
TEST(TwinProperties, LargePatchesMergeTheSameWay) {
  for (uint64_t i = 0; i < 4; ++i) {
    Random random{4'000'000 + i};
    Json reference = Json::object();
    Json patch = Json::object();
    for (int k = 0; k < 1500; ++k) {
      reference["k" + std::to_string(random.below(2000))] = k;
      patch["k" + std::to_string(random.below(2000))] = random.below(3) == 0 ? Json{} : Json(k);
    }
    PropertyBag bag;
    bag.assign(to_value(reference), 1, Stamp{});
    const uint32_t predicted = counted_size_after(bag.values, bag.counted_bytes, to_value(patch));
    nlohmann::json expected = nlohmann::json::parse(reference.dump());
    expected.merge_patch(nlohmann::json::parse(patch.dump()));
    merge_patch(bag.values, bag.metadata, to_value(patch), Stamp{WallTime{}, 2});
    ASSERT_EQ(nlohmann::json::parse(write(bag.values)), expected);
    ASSERT_EQ(bag.metadata.size(), bag.values.size());
    ASSERT_EQ(predicted, counted_size(bag.values));
    for (size_t at = 0; at < bag.values.size(); ++at) {
      const bool patched = patch.contains(std::string{bag.values.members()[at].name()});
      ASSERT_EQ(bag.metadata.child(at).last_updated_version(), patched ? 2U : 0U);
    }
  }
}

}  // namespace
}  // namespace twinstorm::twin
