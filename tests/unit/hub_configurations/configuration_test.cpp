// What a configuration's request may say, and how a configuration is printed (service.md 9).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fixture.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kContent = R"({"deviceContent":{"properties.desired.fw":{"channel":"stable"}}})";

std::string patch_of(std::string_view content) {
  const twin::Value value = json(content);
  const auto parsed = parse_configuration_content(&value);
  EXPECT_TRUE(parsed) << content << ": " << (parsed ? "" : parsed.error().message);
  return parsed ? twin::write(parsed->patch) : "";
}

std::string content_error(std::string_view content) { return refusal("c", body(content)); }

std::string condition_error(std::string_view condition, ConfigurationKind kind = ConfigurationKind::device) {
  const auto parsed = parse_target_condition(condition, kind);
  if (parsed) return {};
  EXPECT_EQ(parsed.error().status, 400);
  EXPECT_EQ(parsed.error().name, "InvalidConfigurationTargetCondition");
  EXPECT_EQ(parsed.error().message.find(';'), std::string::npos);
  return parsed.error().message;
}

TEST(ConfigurationContent, DottedKeysBecomeOneDesiredPatch) {
  EXPECT_EQ(patch_of(kContent), R"({"properties":{"desired":{"fw":{"channel":"stable"}}}})");
  EXPECT_EQ(patch_of(R"({"deviceContent":{"properties.desired":{"a":1,"b":{"c":2}}}})"),
            R"({"properties":{"desired":{"a":1,"b":{"c":2}}}})");
  EXPECT_EQ(patch_of(R"({"deviceContent":{"properties.desired.a.b":1,"properties.desired.a.c":2,
                                          "properties.desired.d":"x"}})"),
            R"({"properties":{"desired":{"a":{"b":1,"c":2},"d":"x"}}})");
  EXPECT_EQ(patch_of(R"({"moduleContent":{"properties.desired.a":1.0}})"), R"({"properties":{"desired":{"a":1.0}}})");
}

TEST(ConfigurationContent, MembersThatAreNullCountAsAbsentAndAreNotEchoed) {
  const twin::Value value = json(R"({"deviceContent":{"properties.desired.a":1},"modulesContent":null,"other":3})");
  const auto parsed = parse_configuration_content(&value);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(twin::write(parsed->json), R"({"deviceContent":{"properties.desired.a":1}})");
}

TEST(ConfigurationContent, ExactlyOneOfTheThreeKinds) {
  EXPECT_THAT(refusal("c", R"({"id":"c"})"), StartsWith("InvalidConfigurationContent: 'content' must be an object"));
  EXPECT_THAT(refusal("c", R"({"content":[]})"), StartsWith("InvalidConfigurationContent: "));
  EXPECT_THAT(content_error("{}"), HasSubstr("none of deviceContent, moduleContent and modulesContent"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired.a":1},
                                "moduleContent":{"properties.desired.a":1}})"),
              HasSubstr("deviceContent and moduleContent, exactly one is allowed"));
}

TEST(ConfigurationContent, KeysThatAreNoDesiredPropertiesAreNamed) {
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.reported.a":1}})"),
              HasSubstr("'properties.reported.a' in 'deviceContent' is neither 'properties.desired' nor"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desiredx":1}})"), HasSubstr("is neither"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"a;b":1}})"), HasSubstr("'a,b'"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired":3}})"), HasSubstr("must be an object"));
  EXPECT_THAT(content_error(R"({"deviceContent":{}})"), HasSubstr("must be an object with keys"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired.":1}})"), HasSubstr("is empty in places"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired.a..b":1}})"), HasSubstr("is empty in places"));
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired.a b":1}})"),
              StartsWith("InvalidConfigurationContent: "));
}

TEST(ConfigurationContent, KeysMustNotOverlapWhateverTheirOrder) {
  for (const char* content : {R"({"deviceContent":{"properties.desired.a":{"b":1},"properties.desired.a.c":1}})",
                              R"({"deviceContent":{"properties.desired.a.c":1,"properties.desired.a":{"b":1}}})"}) {
    EXPECT_THAT(content_error(content), HasSubstr("part of another key")) << content;
  }
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired":{},"properties.desired.a":1}})"),
              HasSubstr("give one of both"));
}

TEST(ConfigurationContent, FollowsTheLimitsOfDesiredProperties) {
  EXPECT_THAT(content_error(R"({"deviceContent":{"properties.desired.a":[null]}})"),
              StartsWith("InvalidConfigurationContent: "));
  std::string values = "{";
  for (int i = 0; i < 9; ++i) values += fmt::format(R"({}"k{}":"{}")", i == 0 ? "" : ",", i, std::string(4000, 'x'));
  values += "}";
  EXPECT_THAT(content_error(fmt::format(R"({{"deviceContent":{{"properties.desired.a":{}}}}})", values)),
              HasSubstr("'Properties.Desired' size should be less than 32768 bytes"));
}

TEST(ConfigurationContent, ADeploymentNeedsTheAgentAndMayReplaceOrMerge) {
  EXPECT_THAT(content_error(R"({"modulesContent":{"$edgeHub":{"properties.desired":{"a":1}}}})"),
              HasSubstr("'$edgeAgent'"));
  const twin::Value value = json(R"({"modulesContent":{"$edgeAgent":{"properties.desired":{"a":1}},
                                     "sensor":{"properties.desired.b":2}}})");
  const auto parsed = parse_configuration_content(&value);
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->modules.size(), 2U);
  EXPECT_EQ(parsed->modules[0].module_id, "$edgeAgent");
  EXPECT_TRUE(parsed->modules[0].replaces);
  EXPECT_FALSE(parsed->modules[1].replaces);
  EXPECT_EQ(twin::write(parsed->modules[1].patch), R"({"properties":{"desired":{"b":2}}})");
}

TEST(TargetCondition, StarIsAllAndEmptyIsNone) {
  const auto all = parse_target_condition("*", ConfigurationKind::device);
  ASSERT_TRUE(all);
  EXPECT_TRUE(all->query->matches(device("d")));
  for (const char* none : {"", "  "}) {
    const auto parsed = parse_target_condition(none, ConfigurationKind::device);
    ASSERT_TRUE(parsed);
    EXPECT_FALSE(parsed->query.has_value());
  }
  const auto modules = parse_target_condition("*", ConfigurationKind::module);
  ASSERT_TRUE(modules);
  EXPECT_EQ(modules->query->source(), query::Source::modules);
}

TEST(TargetCondition, RefersToIdsTagsAndReportedPropertiesOnly) {
  for (const char* fine :
       {"deviceId = 'a' AND tags.x IN ['b']", "is_defined(properties.reported.a.b)", "from devices where tags.x = 1",
        "NOT (properties.reported.$version > 3 OR startswith(deviceId, 'x'))"}) {
    EXPECT_EQ(condition_error(fine), "") << fine;
  }
  for (const char* refused : {"properties.desired.a = 1", "tags.a = 1 OR status = 'enabled'", "etag = 'x'",
                              "is_defined(configurations.[[c]].status)", "connectionState = 'Connected'",
                              "deviceId IN ['a'] AND NOT (version * 2 > 4)", "moduleId = 'm'"}) {
    EXPECT_THAT(condition_error(refused), HasSubstr("deviceId, tags and properties.reported only")) << refused;
  }
}

TEST(TargetCondition, ModulesAreNamedByTheirSource) {
  EXPECT_EQ(condition_error("FROM devices.modules WHERE moduleId = 'm' AND tags.a = 1", ConfigurationKind::module), "");
  EXPECT_THAT(condition_error("tags.a = 1", ConfigurationKind::module), HasSubstr("begins with 'FROM devices.modules"));
  EXPECT_THAT(condition_error("from devices.modules where tags.a = 1"), HasSubstr("a deviceContent is on devices"));
  EXPECT_THAT(condition_error("from devices.jobs where tags.a = 1"), HasSubstr("devices"));
  EXPECT_NE(condition_error("tags.a ="), "");
  EXPECT_NE(condition_error("tags.a = 1;"), "");
}

TEST(ConfigurationRequest, IdsAreLowerCase) {
  EXPECT_EQ(refusal("a1-+%_*!'", body(kContent)), "");
  EXPECT_EQ(refusal(std::string(128, 'a'), body(kContent)), "");
  for (const std::string& id : {std::string{"Upper"}, std::string{"a.b"}, std::string{"a:b"}, std::string(129, 'a'),
                                std::string{"a b"}, std::string{"a;b"}}) {
    EXPECT_THAT(refusal(id, body(kContent)), StartsWith("ArgumentInvalid: ")) << id;
  }
}

TEST(ConfigurationRequest, OtherMembersAreChecked) {
  const auto with = [](std::string_view more) {
    return refusal("c", fmt::format(R"({{"content":{},{}}})", kContent, more));
  };
  EXPECT_EQ(with(R"("id":"c","etag":"MQ==","createdTimeUtc":"x","systemMetrics":{"results":{}},"labels":null,
                   "metrics":null,"priority":null,"targetCondition":null,"schemaVersion":null)"),
            "");
  EXPECT_THAT(with(R"("id":"d")"), HasSubstr("the id in the body, 'd', is not that in the path, 'c'"));
  EXPECT_THAT(with(R"("labels":{"a":1})"), HasSubstr("'labels' must be an object of strings"));
  EXPECT_THAT(with(R"("labels":[])"), HasSubstr("'labels'"));
  EXPECT_THAT(with(R"("priority":-1)"), HasSubstr("'priority' must be a whole number"));
  EXPECT_THAT(with(R"("priority":1.5)"), HasSubstr("'priority'"));
  EXPECT_THAT(with(R"("targetCondition":5)"), HasSubstr("'targetCondition' must be a string"));
  EXPECT_THAT(with(R"("metrics":{"queries":{"m":"SELECT"}})"), HasSubstr("the metric query 'm': "));
  EXPECT_THAT(with(R"("metrics":{"queries":{"m":1}})"), HasSubstr("the metric query 'm' must be a string"));
  std::string many;
  for (int i = 0; i < 21; ++i) many += fmt::format(R"({}"m{}":"SELECT * FROM devices")", i == 0 ? "" : ",", i);
  EXPECT_THAT(with(fmt::format(R"("metrics":{{"queries":{{{}}}}})", many)), HasSubstr("has 21 queries, at most 20"));
}

TEST(WrittenConfiguration, ShowsWhatTheServiceShows) {
  ConfigurationCatalog catalog;
  auto parsed = request("fw-stable", R"({"content":{"deviceContent":{"properties.desired.fw":1}},
      "labels":{"owner":"x"},"priority":10,"targetCondition":"tags.location.region='US'",
      "metrics":{"queries":{"ok":"SELECT deviceId FROM devices WHERE tags.ok = true"}}})");
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto made = catalog.put("fw-stable", std::nullopt, std::move(*parsed), kNow, 100);
  ASSERT_TRUE(made);
  std::string out;
  write_configuration(**made, out);
  EXPECT_EQ(out,
            R"({"id":"fw-stable","schemaVersion":"1.0","labels":{"owner":"x"},)"
            R"("content":{"deviceContent":{"properties.desired.fw":1}},"targetCondition":"tags.location.region='US'",)"
            R"("createdTimeUtc":"2026-05-28T20:26:40Z","lastUpdatedTimeUtc":"2026-05-28T20:26:40Z","priority":10,)"
            R"("systemMetrics":{"results":{"targetedCount":0,"appliedCount":0},"queries":{)"
            R"("targetedCount":"select deviceId from devices where tags.location.region='US'",)"
            R"("appliedCount":"select deviceId from devices where configurations.[[fw-stable]].status = 'Applied'"}},)"
            R"("metrics":{"results":{},"queries":{"ok":"SELECT deviceId FROM devices WHERE tags.ok = true"}},)"
            R"("etag":"MQ=="})");
  catalog.set_metric("fw-stable", "ok", "SELECT deviceId FROM devices WHERE tags.ok = true", 7);
  out.clear();
  write_configuration(**made, out);
  EXPECT_THAT(out, HasSubstr(R"("metrics":{"results":{"ok":7},)"));
}

TEST(WrittenConfiguration, SystemQueriesAreQueriesOfTheLanguage) {
  const std::string module_content = R"({"moduleContent":{"properties.desired.a":1}})";
  for (const auto& [content, condition, targeted] :
       {std::tuple{std::string{kContent}, "*", "select deviceId from devices"},
        std::tuple{std::string{kContent}, "", "select deviceId from devices where false"},
        std::tuple{std::string{kContent}, "from devices where tags.a=1", "select deviceId from devices where tags.a=1"},
        std::tuple{module_content, "*", "select deviceId, moduleId from devices.modules"},
        std::tuple{module_content, "FROM devices.modules WHERE tags.a = 1",
                   "select deviceId, moduleId FROM devices.modules WHERE tags.a = 1"}}) {
    Configuration configuration;
    configuration.id = "a-b+c%d_*!'";
    auto parsed = request(configuration.id, body(content, condition));
    ASSERT_TRUE(parsed) << parsed.error().message;
    configuration.content = parsed->content;
    configuration.settings = parsed->settings;
    EXPECT_EQ(targeted_query(configuration), targeted);
    EXPECT_TRUE(query::Query::parse(targeted)) << targeted;
    EXPECT_TRUE(query::Query::parse(applied_query(configuration))) << applied_query(configuration);
  }
}

TEST(TestQueries, NamesWhatIsWrongInEach) {
  const auto answer = [](std::string_view text) {
    const auto tested = test_configuration_queries(json(text));
    return tested ? *tested : tested.error().message;
  };
  EXPECT_EQ(answer("{}"), R"({"targetConditionError":null,"customMetricQueryErrors":{}})");
  EXPECT_EQ(answer(R"({"targetCondition":"tags.a = 1",
                       "customMetricQueries":{"m":"SELECT deviceId FROM devices"}})"),
            R"({"targetConditionError":null,"customMetricQueryErrors":{}})");
  EXPECT_EQ(answer(R"({"targetCondition":"from devices.modules where tags.a = 1"})"),
            R"({"targetConditionError":null,"customMetricQueryErrors":{}})");
  EXPECT_THAT(answer(R"({"targetCondition":"*"})"), StartsWith(R"({"targetConditionError":"'*' is not)"));
  EXPECT_THAT(answer(R"({"targetCondition":"status = 'enabled'"})"), HasSubstr("properties.reported only"));
  EXPECT_THAT(answer(R"({"customMetricQueries":{"good":"SELECT * FROM devices","bad":"SELECT","worse":1}})"),
              ::testing::AllOf(HasSubstr(R"("customMetricQueryErrors":{"bad":")"),
                               HasSubstr(R"("worse":"the query must be a string")")));
  EXPECT_THAT(answer(R"({"customMetricQueries":[]})"), HasSubstr("must be an object"));
}

}  // namespace
}  // namespace twinstorm::hub::testing
