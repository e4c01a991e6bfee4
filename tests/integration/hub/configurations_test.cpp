// Automatic device management over HTTP, with devices over MQTT: one shard and several (service.md 9).
#include <chrono>
#include <functional>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "raw_clients.hpp"
#include "sim/hub/hub.hpp"

namespace twinstorm::hub::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ConfigurationsTest : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override { start({}); }

  void start(HubConfig config) {
    config.threads = GetParam();
    config.configuration_interval = interval;
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
  }

  HttpReply ask(std::string_view method, std::string_view target, const json& body = nullptr,
                std::string_view headers = {}) const {
    RawHttp http{hub->ports().http, hub->owner_connection_string()};
    return http.request(method, target, body.is_null() ? "" : body.dump(), headers);
  }
  /// Status and error name.
  std::string outcome(std::string_view method, std::string_view target, const json& body = nullptr,
                      std::string_view headers = {}) const {
    const HttpReply reply = ask(method, target, body, headers);
    const std::string error = reply.header("iothub-errorcode");
    return error.empty() ? std::to_string(reply.status) : fmt::format("{} {}", reply.status, error);
  }
  json get(std::string_view target) const {
    const HttpReply reply = ask("GET", target);
    EXPECT_EQ(reply.status, 200) << target << ": " << reply.body;
    return reply.json();
  }

  std::string create_device(const std::string& id, const json& tags = json::object(), bool edge = false) const {
    const HttpReply made = ask("PUT", "/devices/" + id, {{"deviceId", id}, {"capabilities", {{"iotEdge", edge}}}});
    EXPECT_EQ(made.status, 200) << made.body;
    set_tags(id, tags);
    return made.json()["authentication"]["symmetricKey"]["primaryKey"].get<std::string>();
  }
  void set_tags(const std::string& id, const json& tags) const {
    EXPECT_EQ(ask("PATCH", "/twins/" + id, {{"tags", tags}}).status, 200);
  }
  static json device_configuration(const std::string& condition, const json& value, int priority = 0) {
    return {{"content", {{"deviceContent", {{"properties.desired.fw", value}}}}},
            {"targetCondition", condition},
            {"priority", priority}};
  }
  /// Creates or replaces one, which also brings about an evaluation.
  void put(const std::string& id, const json& body, std::string_view headers = {}) const {
    const HttpReply reply = ask("PUT", "/configurations/" + id, body, headers);
    EXPECT_EQ(reply.status, 200) << reply.body;
  }
  /// An evaluation without any change.
  void evaluate_anew(const std::string& id) const {
    json current = get("/configurations/" + id);
    put(id, current, "If-Match: *\r\n");
  }

  static void eventually(const std::function<bool()>& holds, const std::string& what) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (!holds()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << "waited 10 s for: " << what;
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
  }
  json twin(const std::string& id) const { return get("/twins/" + id); }
  json fw(const std::string& id) const { return twin(id)["properties"]["desired"]["fw"]; }
  std::string status(const std::string& id, const std::string& configuration) const {
    const json entries = twin(id).value("configurations", json::object());
    return entries.contains(configuration) ? entries[configuration]["status"].get<std::string>() : "";
  }
  size_t rows(const std::string& query) const {
    return ask("POST", "/devices/query", {{"query", query}}).json().size();
  }
  HubCounts counts() const { return hub->counts(); }

  Nanos interval = std::chrono::hours{1};  // only changes bring about evaluations unless a test says otherwise
  std::unique_ptr<Hub> hub;
};

INSTANTIATE_TEST_SUITE_P(Shards, ConfigurationsTest, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

TEST_P(ConfigurationsTest, AreCreatedReadUpdatedListedAndDeletedUnderTheirETags) {
  const HttpReply made = ask("PUT", "/configurations/fw-stable", device_configuration("tags.ring = 1", "1.2", 10));
  ASSERT_EQ(made.status, 200) << made.body;
  EXPECT_EQ(made.header("etag"), R"("MQ==")");
  EXPECT_EQ(made.header("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(made.json()["etag"], "MQ==");
  EXPECT_EQ(made.json()["id"], "fw-stable");
  EXPECT_EQ(made.json()["schemaVersion"], "1.0");
  EXPECT_EQ(made.json()["systemMetrics"]["results"], json({{"targetedCount", 0}, {"appliedCount", 0}}));

  EXPECT_EQ(outcome("PUT", "/configurations/fw-stable", device_configuration("*", "2")),
            "409 ConfigurationAlreadyExists");
  EXPECT_EQ(outcome("PUT", "/configurations/fw-stable", device_configuration("*", "2"), "If-Match: MQ==\r\n"),
            "409 ConfigurationAlreadyExists");
  EXPECT_EQ(outcome("PUT", "/configurations/fw-stable", device_configuration("*", "2"), "If-Match: \"OQ==\"\r\n"),
            "412 PreconditionFailed");
  EXPECT_EQ(outcome("PUT", "/configurations/other", device_configuration("*", "2"), "If-Match: \"*\"\r\n"),
            "404 ConfigurationNotFound");
  const HttpReply updated =
      ask("PUT", "/configurations/fw-stable", device_configuration("tags.ring = 2", "other"), "If-Match: \"MQ==\"\r\n");
  EXPECT_EQ(updated.status, 200) << updated.body;
  EXPECT_EQ(updated.json()["content"], json({{"deviceContent", {{"properties.desired.fw", "1.2"}}}}))
      << "content is immutable";
  EXPECT_EQ(updated.json()["targetCondition"], "tags.ring = 2");
  EXPECT_EQ(updated.json()["etag"], "Mg==");

  put("a", device_configuration("*", 1));
  const json all = get("/configurations?top=1");
  ASSERT_EQ(all.size(), 2U) << "top is not looked at";
  EXPECT_EQ(all[0]["id"], "a");
  EXPECT_EQ(all[1], get("/configurations/fw-stable"));

  EXPECT_EQ(outcome("DELETE", "/configurations/fw-stable", nullptr, "If-Match: \"MQ==\"\r\n"),
            "412 PreconditionFailed");
  EXPECT_EQ(outcome("DELETE", "/configurations/fw-stable"), "204");
  EXPECT_EQ(outcome("DELETE", "/configurations/fw-stable"), "404 ConfigurationNotFound");
  EXPECT_EQ(outcome("GET", "/configurations/fw-stable"), "404 ConfigurationNotFound");
}

TEST_P(ConfigurationsTest, BadRequestsAreNamed) {
  const json good = device_configuration("*", 1);
  json no_content = good;
  no_content.erase("content");
  EXPECT_EQ(outcome("PUT", "/configurations/c", no_content), "400 InvalidConfigurationContent");
  EXPECT_EQ(outcome("PUT", "/configurations/c", {{"content", {{"deviceContent", {{"tags.a", 1}}}}}}),
            "400 InvalidConfigurationContent");
  EXPECT_EQ(outcome("PUT", "/configurations/c", device_configuration("status = 'enabled'", 1)),
            "400 InvalidConfigurationTargetCondition");
  EXPECT_EQ(outcome("PUT", "/configurations/c", device_configuration("tags.a = ", 1)),
            "400 InvalidConfigurationTargetCondition");
  EXPECT_EQ(outcome("PUT", "/configurations/Upper", good), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("PUT", "/configurations/c", "text"), "400 ArgumentInvalid");
  const HttpReply refused = ask("PUT", "/configurations/c", no_content);
  EXPECT_THAT(refused.json()["Message"].get<std::string>(), StartsWith("ErrorCode:InvalidConfigurationContent;"));
  EXPECT_EQ(counts().configurations_refused, 7U);
  EXPECT_EQ(counts().configuration_writes, 0U);
}

TEST_P(ConfigurationsTest, AHundredAreTaken) {
  for (int i = 0; i < 100; ++i) put(fmt::format("c{}", i), device_configuration("", i));
  EXPECT_EQ(outcome("PUT", "/configurations/more", device_configuration("", 1)), "403 ConfigurationCountLimitExceeded");
}

TEST_P(ConfigurationsTest, QueriesCanBeTestedBefore) {
  const HttpReply tested =
      ask("POST", "/configurations/testQueries",
          {{"targetCondition", "*"}, {"customMetricQueries", {{"good", "SELECT * FROM devices"}, {"bad", "SELECT"}}}});
  EXPECT_EQ(tested.status, 200) << tested.body;
  EXPECT_TRUE(tested.json()["targetConditionError"].is_string());
  EXPECT_FALSE(tested.json()["customMetricQueryErrors"].contains("good"));
  EXPECT_TRUE(tested.json()["customMetricQueryErrors"]["bad"].is_string());
}

TEST_P(ConfigurationsTest, ContentReachesTheTargetsTheirDevicesAndTheQueries) {
  const std::string key = create_device("in", {{"ring", 1}});
  create_device("in2", {{"ring", 1}});
  create_device("out", {{"ring", 2}});
  RawMqtt device{hub->ports().mqtt};
  ASSERT_EQ(device.login({.device_id = "in", .key = key})->code, mqtt::ConnackCode::accepted);
  ASSERT_TRUE(device.subscribe("$iothub/twin/PATCH/properties/desired/#"));
  const json before = twin("in");

  json wanted = device_configuration("tags.ring = 1", {{"channel", "stable"}}, 10);
  wanted["metrics"] = {{"queries",
                        {{"ring1", "SELECT deviceId FROM devices WHERE tags.ring = 1"},
                         {"done",
                          "SELECT deviceId FROM devices WHERE configurations.[[fw]].status = "
                          "'Applied' AND properties.desired.fw.channel = 'stable'"},
                         {"groups", "SELECT tags.ring AS r, COUNT() AS n FROM devices GROUP BY tags.ring"}}}};
  put("fw", wanted);
  const auto told = device.next_publish();
  ASSERT_TRUE(told);
  EXPECT_EQ(told->topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
  EXPECT_EQ(told->payload, R"({"fw":{"channel":"stable"},"$version":2})");

  eventually([&] { return get("/configurations/fw")["metrics"]["results"].size() == 3; }, "the metrics");
  const json after = twin("in");
  EXPECT_EQ(after["configurations"], json({{"fw", {{"status", "Applied"}}}}));
  EXPECT_EQ(after["version"], before["version"].get<int>() + 1) << "one desired write";
  EXPECT_NE(after["etag"], before["etag"]);
  const json& leaf = after["properties"]["desired"]["$metadata"]["fw"]["channel"];
  EXPECT_EQ(leaf["$lastUpdatedBy"], "fw");
  EXPECT_TRUE(leaf["$lastUpdatedByDigest"].is_string());
  EXPECT_EQ(leaf["$lastUpdatedVersion"], 2);
  EXPECT_FALSE(twin("out").contains("configurations"));
  EXPECT_TRUE(fw("out").is_null());

  const json configuration = get("/configurations/fw");
  EXPECT_EQ(configuration["systemMetrics"]["results"], json({{"targetedCount", 2}, {"appliedCount", 2}}));
  EXPECT_EQ(configuration["metrics"]["results"], json({{"ring1", 2}, {"done", 2}, {"groups", 2}}));
  for (const char* name : {"targetedCount", "appliedCount"}) {
    EXPECT_EQ(rows(configuration["systemMetrics"]["queries"][name].get<std::string>()), 2U) << name;
  }
  EXPECT_EQ(counts().configurations_applied, 2U);
  EXPECT_EQ(counts().desired_patches, 0U) << "no back end wrote";
  EXPECT_EQ(counts().desired_notifications_sent, 1U);

  evaluate_anew("fw");
  create_device("late", {{"ring", 1}});
  evaluate_anew("fw");
  eventually([&] { return status("late", "fw") == "Applied"; }, "the late device");
  EXPECT_EQ(twin("in")["version"], after["version"]) << "what is applied is not written again";
}

TEST_P(ConfigurationsTest, TheHighestPriorityWinsAndTheNextTakesOverWhenATwinLeaves) {
  for (int i = 0; i < 8; ++i) create_device(fmt::format("d{}", i), {{"ring", 1}});
  put("base", device_configuration("*", "base", 1));
  put("ring", device_configuration("tags.ring = 1", "ring", 5));
  eventually([&] { return get("/configurations/ring")["systemMetrics"]["results"]["appliedCount"] == 8; }, "ring");
  EXPECT_EQ(status("d0", "base"), "Targeted");
  EXPECT_EQ(status("d0", "ring"), "Applied");
  EXPECT_EQ(fw("d0"), "ring");
  EXPECT_EQ(get("/configurations/base")["systemMetrics"]["results"], json({{"targetedCount", 8}, {"appliedCount", 0}}));

  set_tags("d0", {{"ring", 2}});
  evaluate_anew("base");
  eventually([&] { return status("d0", "base") == "Applied"; }, "the next highest");
  EXPECT_EQ(status("d0", "ring"), "");
  EXPECT_EQ(fw("d0"), "base");

  put("later", device_configuration("*", "later", 5));  // equal priority, created later
  eventually([&] { return get("/configurations/later")["systemMetrics"]["results"]["appliedCount"] == 8; }, "later");
  EXPECT_EQ(fw("d1"), "later");
  EXPECT_EQ(rows("SELECT deviceId FROM devices WHERE configurations.[[ring]].status = 'Targeted'"), 7U);

  EXPECT_EQ(outcome("DELETE", "/configurations/later"), "204");
  eventually([&] { return status("d1", "ring") == "Applied" && status("d0", "base") == "Applied"; }, "after deletion");
  EXPECT_EQ(status("d1", "later"), "");
  EXPECT_EQ(fw("d1"), "ring");
}

TEST_P(ConfigurationsTest, DeletionLeavesWhatWasApplied) {
  create_device("d");
  put("c", device_configuration("*", "kept"));
  eventually([&] { return status("d", "c") == "Applied"; }, "applied");
  EXPECT_EQ(outcome("DELETE", "/configurations/c"), "204");
  eventually([&] { return !twin("d").contains("configurations"); }, "the entry to go");
  EXPECT_EQ(fw("d"), "kept");
}

TEST_P(ConfigurationsTest, AnEmptyConditionIsForNoTwin) {
  create_device("d");
  put("none", device_configuration("", "x", 9));
  put("all", device_configuration("*", "y", 1));
  eventually([&] { return status("d", "all") == "Applied"; }, "applied");
  EXPECT_EQ(status("d", "none"), "");
}

TEST_P(ConfigurationsTest, ModulesAreTargetedByConditionsOverModules) {
  create_device("d");
  for (const char* id : {"m1", "m2"}) {
    ASSERT_EQ(ask("PUT", fmt::format("/devices/d/modules/{}", id), {{"deviceId", "d"}, {"moduleId", id}}).status, 200);
  }
  ASSERT_EQ(ask("PATCH", "/twins/d/modules/m1", {{"tags", {{"role", "camera"}}}}).status, 200);
  put("m", {{"content", {{"moduleContent", {{"properties.desired.rate", 5}}}}},
            {"targetCondition", "from devices.modules where tags.role = 'camera'"}});
  eventually([&] { return get("/configurations/m")["systemMetrics"]["results"]["appliedCount"] == 1; }, "applied");
  EXPECT_EQ(get("/twins/d/modules/m1")["properties"]["desired"]["rate"], 5);
  EXPECT_FALSE(get("/twins/d/modules/m2").contains("configurations"));
  EXPECT_FALSE(twin("d").contains("configurations"));
  EXPECT_EQ(rows(get("/configurations/m")["systemMetrics"]["queries"]["appliedCount"].get<std::string>()), 1U);
}

TEST_P(ConfigurationsTest, ATwinThatCannotTakeTheContentStaysTargeted) {
  json big = json::object();
  for (int i = 0; i < 8; ++i) big[fmt::format("k{}", i)] = std::string(4000, 'x');
  create_device("full");
  ASSERT_EQ(ask("PATCH", "/twins/full", {{"properties", {{"desired", {{"own", big}}}}}}).status, 200);
  create_device("empty");
  put("c", device_configuration("*", {{"a", std::string(2000, 'y')}}));
  eventually([&] { return status("empty", "c") == "Applied"; }, "the other");
  eventually([&] { return counts().configurations_not_applied == 1; }, "the refusal");
  EXPECT_EQ(status("full", "c"), "Targeted");
  ASSERT_EQ(ask("PATCH", "/twins/full", {{"properties", {{"desired", {{"own", nullptr}}}}}}).status, 200);
  evaluate_anew("c");
  eventually([&] { return status("full", "c") == "Applied"; }, "it fits now");
}

TEST_P(ConfigurationsTest, DeploymentsWriteTheModulesOfEdgeDevicesOnly) {
  create_device("gw", {{"site", 1}}, true);
  create_device("plain", {{"site", 1}});
  ASSERT_EQ(ask("PATCH", "/twins/gw/modules/$edgeAgent", {{"properties", {{"desired", {{"old", 1}}}}}}).status, 200);
  put("deploy", {{"content",
                  {{"modulesContent",
                    {{"$edgeAgent", {{"properties.desired", {{"schemaVersion", "1.1"}}}}},
                     {"$edgeHub", {{"properties.desired.routes", {{"up", "FROM /* INTO $upstream"}}}}},
                     {"sensor", {{"properties.desired.rate", 7}}}}}}},
                 {"targetCondition", "tags.site = 1"}});
  eventually([&] { return get("/configurations/deploy")["systemMetrics"]["results"]["appliedCount"] == 1; }, "applied");
  EXPECT_EQ(status("gw", "deploy"), "Applied");
  EXPECT_EQ(status("plain", "deploy"), "");
  const json agent = get("/twins/gw/modules/$edgeAgent")["properties"]["desired"];
  EXPECT_EQ(agent["schemaVersion"], "1.1");
  EXPECT_FALSE(agent.contains("old")) << "properties.desired as a whole replaces";
  EXPECT_EQ(get("/twins/gw/modules/$edgeHub")["properties"]["desired"]["routes"]["up"], "FROM /* INTO $upstream");
  EXPECT_EQ(get("/twins/gw/modules/sensor")["properties"]["desired"]["rate"], 7) << "made by the deployment";
  EXPECT_EQ(get("/configurations/deploy")["systemMetrics"]["results"],
            json({{"targetedCount", 1}, {"appliedCount", 1}}));
}

TEST_P(ConfigurationsTest, ContentCanBeAppliedToOneEdgeDevice) {
  create_device("gw", {}, true);
  create_device("plain");
  const json content = {{"modulesContent", {{"$edgeAgent", {{"properties.desired", {{"a", 1}}}}}}}};
  EXPECT_EQ(outcome("POST", "/devices/gw/applyConfigurationContent", content), "204");
  EXPECT_EQ(get("/twins/gw/modules/$edgeAgent")["properties"]["desired"]["a"], 1);
  EXPECT_EQ(outcome("POST", "/devices/plain/applyConfigurationContent", content), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("POST", "/devices/nobody/applyConfigurationContent", content), "404 DeviceNotFound");
  EXPECT_EQ(outcome("POST", "/devices/gw/applyConfigurationContent", {{"modulesContent", {{"x", 1}}}}),
            "400 InvalidConfigurationContent");
}

TEST_P(ConfigurationsTest, AreEvaluatedAgainEveryInterval) {
  interval = std::chrono::milliseconds{300};
  start({});
  create_device("d");
  put("c", device_configuration("tags.ring = 1", "x"));
  eventually([&] { return counts().configuration_writes == 1; }, "the configuration");
  set_tags("d", {{"ring", 1}});
  eventually([&] { return status("d", "c") == "Applied"; }, "an evaluation by time");
  set_tags("d", {{"ring", 2}});
  eventually([&] { return status("d", "c").empty(); }, "another one");
  eventually([&] { return get("/configurations/c")["systemMetrics"]["results"]["targetedCount"] == 0; }, "the figures");
}

TEST_P(ConfigurationsTest, PermissionsAreThoseOfTheRegistry) {
  RawHttp device{hub->ports().http, hub->policy_connection_string("device")};
  EXPECT_EQ(device.request("GET", "/configurations").status, 401);
  RawHttp reader{hub->ports().http, hub->policy_connection_string("registryRead")};
  EXPECT_EQ(reader.request("GET", "/configurations").status, 200);
  EXPECT_EQ(reader.request("PUT", "/configurations/c", device_configuration("*", 1).dump()).status, 401);
}

TEST_P(ConfigurationsTest, AThousandTwinsAreWorkedOffWhileTheHubAnswers) {
  for (int batch = 0; batch < 20; ++batch) {
    json entries = json::array();
    for (int i = 0; i < 100; ++i) {
      entries.push_back({{"id", fmt::format("d{:02}{:02}", batch, i)}, {"tags", {{"ring", i % 2}}}});
    }
    ASSERT_EQ(ask("POST", "/devices", entries).status, 200);
  }
  put("c", device_configuration("tags.ring = 1", "x"));
  eventually([&] { return get("/configurations/c")["systemMetrics"]["results"]["appliedCount"] == 1000; }, "all");
  EXPECT_EQ(rows("SELECT deviceId FROM devices WHERE properties.desired.fw = 'x'"), 1000U);
  EXPECT_EQ(counts().configurations_applied, 1000U);
}

}  // namespace
}  // namespace twinstorm::hub::testing
