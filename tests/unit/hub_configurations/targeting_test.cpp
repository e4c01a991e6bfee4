// Which configurations a twin has and takes, and what its metadata says about who wrote a value.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fixture.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class TargetingTest : public ::testing::Test {
 protected:
  void add(std::string_view id, std::string_view condition, int64_t priority = 0) {
    put(id, body(R"({"deviceContent":{"properties.desired.a":1}})", condition, priority));
  }
  void put(std::string_view id, const std::string& text, std::optional<std::string_view> if_match = std::nullopt) {
    auto parsed = request(id, text);
    ASSERT_TRUE(parsed) << parsed.error().message;
    ASSERT_TRUE(catalog.put(id, if_match, std::move(*parsed), kNow, 1000));
  }
  /// One evaluation of one twin; ids of the configurations it takes now.
  std::vector<std::string> evaluate(twin::TwinDocument& twin) {
    const auto set = catalog.targets();
    counts.assign(set->targets.size(), {});
    const Marking marking = mark_targets(twin, &twin, *set, counts);
    changed = marking.changed;
    std::vector<std::string> taken;
    for (const size_t each : marking.apply) {
      taken.push_back(set->targets[each].id);
      mark_applied(twin, taken.back());
    }
    return taken;
  }
  static std::string entries(const twin::TwinDocument& twin) { return twin::write(twin.configurations); }

  ConfigurationCatalog catalog;
  std::vector<TargetCounts> counts;
  bool changed = false;
};

TEST_F(TargetingTest, ATwinIsTargetedFirstAndAppliedOnceItsContentIsWritten) {
  add("c", "tags.a = 1");
  twin::TwinDocument twin = device("d", R"({"a":1})");
  const auto set = catalog.targets();
  std::vector<TargetCounts> found(1);
  EXPECT_THAT(mark_targets(twin, &twin, *set, found).apply, ElementsAre(0));
  EXPECT_EQ(entries(twin), R"({"c":{"status":"Targeted"}})");
  EXPECT_EQ(found[0], (TargetCounts{1, 0}));
  mark_applied(twin, "c");
  EXPECT_EQ(entries(twin), R"({"c":{"status":"Applied"}})");
}

TEST_F(TargetingTest, ASecondEvaluationChangesNothing) {
  add("c", "tags.a = 1");
  twin::TwinDocument twin = device("d", R"({"a":1})");
  EXPECT_THAT(evaluate(twin), ElementsAre("c"));
  EXPECT_THAT(evaluate(twin), IsEmpty());
  EXPECT_FALSE(changed);
  EXPECT_EQ(counts[0], (TargetCounts{1, 1}));
}

TEST_F(TargetingTest, OnlyTheFirstInPrecedenceIsTakenAndTheOthersStayTargeted) {
  add("low", "*", 1);
  add("high", "*", 2);
  twin::TwinDocument twin = device("d");
  EXPECT_THAT(evaluate(twin), ElementsAre("high"));
  EXPECT_EQ(configuration_status(twin, "high"), "Applied");
  EXPECT_EQ(configuration_status(twin, "low"), "Targeted");
}

TEST_F(TargetingTest, ATwinThatLeavesLosesTheEntryAndTheNextTakesOver) {
  add("low", "*", 1);
  add("high", "tags.ring = 1", 2);
  twin::TwinDocument twin = device("d", R"({"ring":1})");
  evaluate(twin);
  twin::set_tags(twin, json(R"({"ring":2})"));
  EXPECT_THAT(evaluate(twin), ElementsAre("low"));
  EXPECT_EQ(entries(twin), R"({"low":{"status":"Applied"}})");
  twin::set_tags(twin, json(R"({"ring":1})"));
  EXPECT_THAT(evaluate(twin), ElementsAre("high")) << "taken again";
  EXPECT_EQ(configuration_status(twin, "low"), "Targeted");
}

TEST_F(TargetingTest, TheLastEntryTakesTheMemberAlong) {
  add("c", "tags.a = 1");
  twin::TwinDocument twin = device("d", R"({"a":1})");
  evaluate(twin);
  twin::set_tags(twin, json("{}"));
  evaluate(twin);
  EXPECT_TRUE(changed);
  EXPECT_TRUE(twin.configurations.is_null());
}

TEST_F(TargetingTest, ADeletedOneLeavesTheTwinAndTheNextTakesOver) {
  add("low", "*", 1);
  add("high", "*", 2);
  twin::TwinDocument twin = device("d");
  evaluate(twin);
  ASSERT_TRUE(catalog.remove("high", std::nullopt));
  EXPECT_THAT(evaluate(twin), ElementsAre("low"));
  EXPECT_EQ(entries(twin), R"({"low":{"status":"Applied"}})");
}

TEST_F(TargetingTest, OneCreatedAnewUnderTheSameIdIsTakenAnew) {
  add("c", "*");
  twin::TwinDocument twin = device("d");
  evaluate(twin);
  ASSERT_TRUE(catalog.remove("c", std::nullopt));
  add("c", "*");
  EXPECT_THAT(evaluate(twin), ElementsAre("c"));
}

TEST_F(TargetingTest, EntriesOfConfigurationsTheHubNeverHadAreLeftAlone) {
  add("c", "tags.a = 1");
  twin::TwinDocument twin = device("d", R"({"a":1})");
  twin.configurations = json(R"({"imported":{"status":"Applied"}})");
  evaluate(twin);
  EXPECT_EQ(entries(twin), R"({"imported":{"status":"Applied"},"c":{"status":"Applied"}})");
}

TEST_F(TargetingTest, ConditionsLookAtTheTwinAsQueriesSeeIt) {
  add("c", "tags.a = 1");
  twin::TwinDocument twin = device("d", R"({"a":2})");
  const twin::TwinDocument older = device("d", R"({"a":1})");
  const auto set = catalog.targets();
  std::vector<TargetCounts> found(1);
  EXPECT_THAT(mark_targets(twin, nullptr, *set, found).apply, IsEmpty()) << "just created";
  EXPECT_THAT(mark_targets(twin, &older, *set, found).apply, ElementsAre(0));
  EXPECT_EQ(configuration_status(twin, "c"), "Targeted");
}

TEST_F(TargetingTest, KindsDoNotCompete) {
  add("devices", "*", 1);
  put("edge", body(R"({"modulesContent":{"$edgeAgent":{"properties.desired":{"a":1}}}})", "*", 9));
  put("modules", body(R"({"moduleContent":{"properties.desired.a":1}})", "FROM devices.modules WHERE tags.a = 1", 9));
  twin::TwinDocument plain = device("d", R"({"a":1})");
  EXPECT_THAT(evaluate(plain), ElementsAre("devices"));
  twin::TwinDocument gateway = device("g", R"({"a":1})", true);
  EXPECT_THAT(evaluate(gateway), ::testing::UnorderedElementsAre("devices", "edge"));
  twin::TwinDocument module = module_twin("d", "m", R"({"a":1})");
  EXPECT_THAT(evaluate(module), ElementsAre("modules"));
}

TEST_F(TargetingTest, AgreesWithAnEvaluationFromScratch) {
  Rng rng{20261123};
  constexpr int kConfigurations = 12;
  std::vector<std::pair<int64_t, int64_t>> wanted(kConfigurations);  // priority, value of tags.t
  std::vector<twin::TwinDocument> twins;
  std::vector<std::string> holds(30);  // what each twin has applied, by the reference
  for (int i = 0; i < 30; ++i) twins.push_back(device(fmt::format("d{}", i), R"({"t":0})"));
  std::vector<int> created;  // in order of creation
  for (int round = 0; round < 200; ++round) {
    const int which = static_cast<int>(rng.next() % kConfigurations);
    const std::string id = fmt::format("c{}", which);
    const bool exists = catalog.all().contains(id);
    if (exists && rng.next() % 3 == 0) {
      ASSERT_TRUE(catalog.remove(id, std::nullopt));
      std::erase(created, which);
    } else {
      wanted[static_cast<size_t>(which)] = {static_cast<int64_t>(rng.next() % 3), static_cast<int64_t>(rng.next() % 3)};
      const auto [priority, tag] = wanted[static_cast<size_t>(which)];
      put(id, body(R"({"deviceContent":{"properties.desired.a":1}})", fmt::format("tags.t = {}", tag), priority),
          exists ? std::optional<std::string_view>{"*"} : std::nullopt);
      if (!exists) created.push_back(which);
    }
    for (int i = 0; i < 3; ++i) {
      twin::set_tags(twins[rng.next() % twins.size()], json(fmt::format(R"({{"t":{}}})", rng.next() % 3)));
    }
    const auto set = catalog.targets();
    for (twin::TwinDocument& twin : twins) {
      evaluate(twin);
      const int64_t tag = *twin.tags.find("t")->as_int();
      int best = -1;
      size_t entries_expected = 0;
      for (const int each : created) {
        const auto [priority, wants] = wanted[static_cast<size_t>(each)];
        if (wants != tag) continue;
        ++entries_expected;
        if (best < 0 || priority >= wanted[static_cast<size_t>(best)].first) best = each;
      }
      ASSERT_EQ(twin.configurations.size(), entries_expected) << entries(twin);
      for (const twin::Member& entry : twin.configurations.members()) {
        const bool first = entry.name() == fmt::format("c{}", best);
        ASSERT_EQ(entry.value.find("status")->text(), first ? "Applied" : "Targeted") << entries(twin);
      }
    }
    catalog.evaluated(*set, counts);
  }
}

// --- Authors ---------------------------------------------------------------------------------------------------------

std::string desired_json(const twin::TwinDocument& twin) {
  std::string out;
  twin::write_service_twin(twin, out);
  const size_t start = out.find(R"("desired":)");
  return out.substr(start, out.find(R"(,"reported")") - start);
}

TEST(PropertyAuthors, LeavesThatAConfigurationWroteNameIt) {
  twin::TwinDocument twin = device("d");
  ASSERT_TRUE(twin::apply_service_patch(twin, json(R"({"properties":{"desired":{"own":1,"fw":{"old":1}}}})"), kNow));
  EXPECT_THAT(desired_json(twin), Not(HasSubstr("$lastUpdatedBy")));
  ASSERT_TRUE(twin::apply_service_patch(twin, json(R"({"properties":{"desired":{"fw":{"channel":"x"}}}})"), kNow));
  twin::set_desired_author(twin, std::make_shared<const twin::PropertyAuthor>(twin::PropertyAuthor{"c", "123"}));
  EXPECT_EQ(desired_json(twin),
            R"("desired":{"own":1,"fw":{"old":1,"channel":"x"},"$metadata":{"$lastUpdated":"2026-05-28T20:26:40Z",)"
            R"("$lastUpdatedVersion":3,"own":{"$lastUpdated":"2026-05-28T20:26:40Z","$lastUpdatedVersion":2},)"
            R"("fw":{"$lastUpdated":"2026-05-28T20:26:40Z","$lastUpdatedVersion":3,)"
            R"("old":{"$lastUpdated":"2026-05-28T20:26:40Z","$lastUpdatedVersion":2},)"
            R"("channel":{"$lastUpdated":"2026-05-28T20:26:40Z","$lastUpdatedVersion":3,"$lastUpdatedBy":"c",)"
            R"("$lastUpdatedByDigest":"123"}}},"$version":3})");
}

TEST(PropertyAuthors, AValueThatABackEndWritesAgainLosesItsAuthor) {
  twin::TwinDocument twin = device("d");
  const auto write = [&](std::string_view values, const char* author) {
    ASSERT_TRUE(
        twin::apply_service_patch(twin, json(fmt::format(R"({{"properties":{{"desired":{}}}}})", values)), kNow));
    if (author == nullptr) return;
    twin::set_desired_author(twin, std::make_shared<const twin::PropertyAuthor>(twin::PropertyAuthor{author, "1"}));
  };
  write(R"({"a":1,"b":1})", "first");
  write(R"({"b":2})", "second");
  EXPECT_EQ(twin.desired_authors->size(), 2U);
  write(R"({"a":2})", nullptr);
  EXPECT_THAT(desired_json(twin), Not(HasSubstr("first")));
  EXPECT_THAT(desired_json(twin), HasSubstr("second"));
  for (int i = 0; i < 50; ++i) write(R"({"b":3})", "third");
  EXPECT_EQ(twin.desired_authors->size(), 1U) << "authors of which nothing is left are dropped";
}

}  // namespace
}  // namespace twinstorm::hub::testing
