// Scheduled jobs over HTTP, with one shard and with several: the book, the caller, the devices and their rows are on
// different threads then.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "raw_clients.hpp"
#include "sim/hub/hub.hpp"
#include "sim/protocol/device_routes.hpp"

namespace twinstorm::hub::testing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;

/// The machine's clocks, and on demand an hour later at once.
class JumpingClock final : public Clock {
 public:
  MonoTime mono() const override { return machine_.mono() + Nanos{ahead_.load()}; }
  WallTime wall() const override { return machine_.wall() + Nanos{ahead_.load()}; }
  void jump(Nanos by) { ahead_ += by.count(); }

 private:
  SteadyClock machine_;
  std::atomic<int64_t> ahead_{0};
};

class JobsTest : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override { start({}); }
  void start(HubConfig config) {
    hub.reset();
    config.threads = GetParam();
    config.clock = clock;
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
  }
  RawHttp service(std::string_view policy = "iothubowner") const {
    return RawHttp{hub->ports().http, hub->policy_connection_string(policy)};
  }
  DeviceLogin create_device(const std::string& id, const json& more = json::object()) {
    json body = {{"deviceId", id}};
    body.update(more);
    const HttpReply reply = service().request("PUT", "/devices/" + id, body.dump());
    EXPECT_EQ(reply.status, 200) << reply.body;
    DeviceLogin login;
    login.device_id = id;
    login.key = reply.json()["authentication"]["symmetricKey"]["primaryKey"];
    return login;
  }
  /// Devices d000 to d<count - 1>.
  void create_devices(int count) {
    RawHttp http = service();
    for (int first = 0; first < count; first += 100) {
      json entries = json::array();
      for (int i = first; i < std::min(count, first + 100); ++i) {
        entries.push_back({{"id", fmt::format("d{:03}", i)},
                           {"importMode", "create"},
                           {"status", "enabled"},
                           {"tags", {{"parity", i % 2 == 0 ? "even" : "odd"}}}});
      }
      ASSERT_EQ(http.request("POST", "/devices", entries.dump()).status, 200);
    }
  }
  std::unique_ptr<RawMqtt> device(const DeviceLogin& login) {
    auto mqtt = std::make_unique<RawMqtt>(hub->ports().mqtt);
    const auto connack = mqtt->login(login);
    EXPECT_TRUE(connack && connack->code == mqtt::ConnackCode::accepted);
    return mqtt;
  }
  static json update(const std::string& id, const std::string& condition, json patch) {
    patch["etag"] = "*";
    return {{"jobId", id}, {"type", "scheduleUpdateTwin"}, {"updateTwin", patch}, {"queryCondition", condition}};
  }
  static json method(const std::string& id, const std::string& condition, json call) {
    return {{"jobId", id},
            {"type", "scheduleDeviceMethod"},
            {"cloudToDeviceMethod", std::move(call)},
            {"queryCondition", condition}};
  }
  HttpReply put(const json& job) {
    return service("service").request("PUT", "/jobs/v2/" + job["jobId"].get<std::string>(), job.dump());
  }
  json get(const std::string& id) { return service("service").request("GET", "/jobs/v2/" + id).json(); }
  HttpReply cancel(const std::string& id) { return service("service").request("POST", "/jobs/v2/" + id + "/cancel"); }
  /// Status and error name.
  static std::string outcome(const HttpReply& reply) {
    return fmt::format("{} {}", reply.status, reply.header("iothub-errorcode"));
  }
  /// The job once it has this status.
  json wait_for(const std::string& id, const std::string& status) {
    json job;
    for (int i = 0; i < 1000; ++i) {
      job = get(id);
      if (job["status"] == status) return job;
      std::this_thread::sleep_for(10ms);
    }
    ADD_FAILURE() << "no " << status << ": " << job;
    return job;
  }
  static json statistics(int devices, int succeeded, int failed, int running = 0) {
    return {{"deviceCount", devices},
            {"succeededCount", succeeded},
            {"failedCount", failed},
            {"runningCount", running},
            {"pendingCount", devices - succeeded - failed - running}};
  }
  json rows(const std::string& where, int page = 1000) {
    json all = json::array();
    std::string continuation;
    RawHttp http = service("service");
    do {
      std::string headers = fmt::format("x-ms-max-item-count: {}\r\n", page);
      if (!continuation.empty()) headers += "x-ms-continuation: " + continuation + "\r\n";
      const HttpReply reply = http.request("POST", "/devices/query",
                                           json{{"query", "SELECT * FROM devices.jobs " + where}}.dump(), headers);
      EXPECT_EQ(reply.status, 200) << reply.body;
      EXPECT_EQ(reply.header("x-ms-item-type"), "DeviceJob");
      for (const json& row : reply.json()) all.push_back(row);
      continuation = reply.header("x-ms-continuation");
    } while (!continuation.empty());
    return all;
  }
  json twin(const std::string& id) { return service().request("GET", "/twins/" + id).json(); }

  std::shared_ptr<JumpingClock> clock = std::make_shared<JumpingClock>();
  std::unique_ptr<Hub> hub;
};

INSTANTIATE_TEST_SUITE_P(Shards, JobsTest, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

TEST_P(JobsTest, AnUpdateDoesToEveryTwinWhatAPatchDoes) {
  const DeviceLogin login = create_device("d1");
  create_device("d2");
  create_device("other");
  auto dev = device(login);
  ASSERT_TRUE(dev->subscribe("$iothub/twin/PATCH/properties/desired/#"));
  const json patch = {{"tags", {{"ring", 2}}}, {"properties", {{"desired", {{"speed", 5}, {"gone", nullptr}}}}}};
  const HttpReply created = put(update("job-1", "deviceId IN ['d1', 'd2']", patch));
  EXPECT_EQ(created.status, 200);
  EXPECT_EQ(created.json(), json::parse(R"({"jobId":"job-1","type":"scheduleUpdateTwin","status":"queued"})"));
  const json job = wait_for("job-1", "completed");
  EXPECT_EQ(job["deviceJobStatistics"], statistics(2, 2, 0));
  EXPECT_EQ(job["queryCondition"], "deviceId IN ['d1', 'd2']");
  EXPECT_EQ(job["updateTwin"]["properties"], patch["properties"]);
  EXPECT_EQ(job["maxExecutionTimeInSeconds"], 3600);
  for (const char* member : {"createdTime", "startTime", "endTime"}) EXPECT_TRUE(job.contains(member)) << member;

  const auto notification = dev->next_publish();
  ASSERT_TRUE(notification);
  EXPECT_EQ(notification->topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
  EXPECT_EQ(json::parse(notification->payload), json::parse(R"({"speed":5,"gone":null,"$version":2})"));

  // The same PATCH on a twin that the job has not touched.
  service().request("PATCH", "/twins/other", patch.dump());
  const json patched = twin("other");
  for (const char* id : {"d1", "d2"}) {
    const json updated = twin(id);
    EXPECT_EQ(updated["tags"], patched["tags"]);
    EXPECT_EQ(updated["etag"], patched["etag"]);
    EXPECT_EQ(updated["version"], patched["version"]);
    EXPECT_EQ(updated["properties"]["desired"]["$version"], patched["properties"]["desired"]["$version"]);
    EXPECT_EQ(updated["properties"]["desired"]["$metadata"]["speed"]["$lastUpdatedVersion"], 2);
  }
  const HubCounts counts = hub->counts();
  EXPECT_EQ(counts.jobs_created, 1u);
  EXPECT_EQ(counts.jobs_completed, 1u);
  EXPECT_EQ(counts.job_device_operations_succeeded, 2u);
  EXPECT_EQ(counts.desired_patches, 1u);  // that of the service itself
  EXPECT_EQ(counts.desired_notifications_sent, 1u);
}

TEST_P(JobsTest, AMethodReachesTheDevicesThatAreThere) {
  auto dev = device(create_device("d1"));
  create_device("off");
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  ASSERT_EQ(put(method("job-1", "*", {{"methodName", "reboot"}, {"payload", {{"delay", 5}}}})).status, 200);
  const auto request = dev->next_publish();
  ASSERT_TRUE(request);
  EXPECT_THAT(request->topic, HasSubstr("$iothub/methods/POST/reboot/"));
  EXPECT_EQ(request->payload, R"({"delay":5})");
  json running;
  for (int i = 0; i < 500 && running["deviceJobStatistics"] != statistics(2, 0, 1, 1); ++i) running = get("job-1");
  EXPECT_EQ(running["deviceJobStatistics"], statistics(2, 0, 1, 1));
  EXPECT_EQ(running["status"], "running");
  EXPECT_EQ(rows("WHERE deviceId = 'd1'")[0]["status"], "running");
  EXPECT_EQ(outcome(cancel("job-1")), "405 OperationNotAllowedInCurrentState");

  const auto topic = protocol::parse_hub_topic(request->topic);
  dev->publish(fmt::format("$iothub/methods/res/207/?$rid={}", topic->rid), R"({"ok":true})");
  const json job = wait_for("job-1", "completed");
  EXPECT_EQ(job["deviceJobStatistics"], statistics(2, 1, 1));
  EXPECT_EQ(job["cloudToDeviceMethod"]["methodName"], "reboot");

  const json all = rows("WHERE devices.jobs.jobId = 'job-1'");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["deviceId"], "d1");
  EXPECT_EQ(all[0]["jobType"], "scheduleDeviceMethod");
  EXPECT_EQ(all[0]["status"], "completed");
  EXPECT_EQ(all[0]["outcome"], json::parse(R"({"deviceMethodResponse":{"status":207,"payload":{"ok":true}}})"));
  for (const char* member : {"startTimeUtc", "endTimeUtc", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"}) {
    EXPECT_TRUE(all[0].contains(member)) << member;
  }
  EXPECT_EQ(all[1]["deviceId"], "off");
  EXPECT_EQ(all[1]["status"], "failed");
  EXPECT_EQ(all[1]["error"]["code"], "404103");
  EXPECT_EQ(rows("WHERE devices.jobs.status = 'failed' AND devices.jobs.jobType = 'scheduleDeviceMethod'").size(), 1u);

  const HubCounts counts = hub->counts();
  EXPECT_EQ(counts.job_device_operations_succeeded, 1u);
  EXPECT_EQ(counts.job_device_operations_failed, 1u);
  EXPECT_EQ(counts.methods_called, 0u);  // by the service itself
  EXPECT_EQ(counts.methods_sent, 1u);
}

TEST_P(JobsTest, ConditionsSelectOverAllShards) {
  create_devices(250);
  put(update("evens", "tags.parity = 'even'", {{"tags", {{"seen", true}}}}));
  EXPECT_EQ(wait_for("evens", "completed")["deviceJobStatistics"], statistics(125, 125, 0));
  put(update("all", "*", {{"tags", {{"all", true}}}}));
  EXPECT_EQ(wait_for("all", "completed")["deviceJobStatistics"], statistics(250, 250, 0));
  put(update("none", "tags.parity = 'none'", {{"tags", {{"x", 1}}}}));
  EXPECT_EQ(wait_for("none", "completed")["deviceJobStatistics"], statistics(0, 0, 0));
  const HttpReply count = service().request(
      "POST", "/devices/query",
      R"({"query":"SELECT COUNT() AS n FROM devices WHERE tags.seen = true AND tags.parity = 'even'"})");
  EXPECT_EQ(count.json()[0]["n"], 125);
  const json all = rows("WHERE jobId = 'all'", 40);
  ASSERT_EQ(all.size(), 250u);
  for (int i = 0; i < 250; ++i) EXPECT_EQ(all[static_cast<size_t>(i)]["deviceId"], fmt::format("d{:03}", i));
  EXPECT_EQ(rows("", 7).size(), 375u);
  EXPECT_EQ(rows("WHERE deviceId = 'd002'", 1).size(), 2u);
}

TEST_P(JobsTest, ModulesAreLeftAlone) {
  create_device("d1");
  service().request("PUT", "/devices/d1/modules/m", R"({"deviceId":"d1","moduleId":"m"})");
  put(update("all", "*", {{"tags", {{"x", 1}}}}));
  EXPECT_EQ(wait_for("all", "completed")["deviceJobStatistics"], statistics(1, 1, 0));
  EXPECT_FALSE(service().request("GET", "/twins/d1/modules/m").json()["tags"].contains("x"));
  put(update("modules", "FROM devices.modules WHERE moduleId = 'm'", {{"tags", {{"x", 1}}}}));
  EXPECT_THAT(wait_for("modules", "failed")["failureReason"].get<std::string>(), HasSubstr("selects modules"));
}

TEST_P(JobsTest, AnInvalidConditionIsTakenAndFailsLater) {
  ASSERT_EQ(put(update("bad", "tags.ring = = 3", {{"tags", {{"x", 1}}}})).status, 200);
  const json job = wait_for("bad", "failed");
  EXPECT_THAT(job["failureReason"].get<std::string>(), HasSubstr("query"));
  EXPECT_EQ(job["deviceJobStatistics"], statistics(0, 0, 0));
  EXPECT_EQ(hub->counts().jobs_failed, 1u);
  EXPECT_EQ(rows("").size(), 0u);
}

TEST_P(JobsTest, AScheduledJobStartsAtItsTimeOrIsCancelled) {
  create_device("d1");
  json job = update("later", "*", {{"tags", {{"x", 1}}}});
  job["startTime"] = format_iso8601(clock->wall() + 1h);
  EXPECT_EQ(put(job).json()["status"], "queued");
  EXPECT_EQ(get("later")["status"], "scheduled");
  job["jobId"] = "never";
  EXPECT_EQ(put(job).status, 200);
  const HttpReply cancelled = cancel("never");
  EXPECT_EQ(cancelled.status, 200);
  EXPECT_EQ(cancelled.json()["jobId"], "never");
  EXPECT_EQ(cancelled.json()["status"], "cancelled");
  EXPECT_EQ(get("never")["status"], "cancelled");
  EXPECT_EQ(outcome(cancel("never")), "405 OperationNotAllowedInCurrentState");
  EXPECT_EQ(rows("").size(), 0u);
  clock->jump(1h);
  EXPECT_EQ(wait_for("later", "completed")["deviceJobStatistics"], statistics(1, 1, 0));
  EXPECT_EQ(get("never")["status"], "cancelled");
  EXPECT_EQ(outcome(cancel("later")), "405 OperationNotAllowedInCurrentState");
  EXPECT_EQ(hub->counts().jobs_cancelled, 1u);
}

TEST_P(JobsTest, RefusalsAreTheDocumentedOnes) {
  create_device("d1");
  EXPECT_EQ(outcome(cancel("ghost")), "404 JobNotFound");
  const HttpReply unknown = service().request("GET", "/jobs/v2/ghost");
  EXPECT_EQ(unknown.status, 200);
  EXPECT_EQ(unknown.json(), json::parse(R"({"jobId":"ghost","type":"unknown","status":"unknown"})"));
  EXPECT_EQ(put(update("twice", "*", {{"tags", {{"x", 1}}}})).status, 200);
  EXPECT_EQ(outcome(put(update("twice", "*", {{"tags", {{"x", 1}}}}))), "409 JobAlreadyExists");
  wait_for("twice", "completed");
  EXPECT_EQ(outcome(put(update("twice", "*", {{"tags", {{"x", 1}}}}))), "409 JobAlreadyExists");
  EXPECT_EQ(outcome(put(update("Upper", "*", {{"tags", {{"x", 1}}}}))), "400 ArgumentInvalid");
  EXPECT_EQ(outcome(put(update("a_b", "*", {{"tags", {{"x", 1}}}}))), "400 ArgumentInvalid");
  json job = update("etag", "*", {{"tags", {{"x", 1}}}});
  job["updateTwin"]["etag"] = "AAAAAAAAAAE=";
  EXPECT_EQ(outcome(put(job)), "400 ArgumentInvalid");
  job["updateTwin"].erase("etag");
  EXPECT_EQ(outcome(put(job)), "400 ArgumentInvalid");
  job = update("far", "*", {{"tags", {{"x", 1}}}});
  job["startTime"] = format_iso8601(clock->wall() + 169h);
  EXPECT_EQ(outcome(put(job)), "400 ArgumentInvalid");
  EXPECT_EQ(outcome(service("registryReadWrite").request("GET", "/jobs/v2/x")), "401 IotHubUnauthorizedAccess");
  EXPECT_EQ(outcome(service().request("POST", "/jobs/create", "{}")), "501 NotImplemented");
  EXPECT_EQ(hub->counts().jobs_created, 1u);
  EXPECT_EQ(hub->counts().jobs_refused, 7u);
}

TEST_P(JobsTest, TheRequestsOfAJobThatTakesTooLongFail) {
  auto silent = device(create_device("silent"));
  ASSERT_TRUE(silent->subscribe("$iothub/methods/POST/#"));
  json job = method("slow", "*", {{"methodName", "m"}, {"responseTimeoutInSeconds", 300}});
  job["maxExecutionTimeInSeconds"] = 60;
  ASSERT_EQ(put(job).status, 200);
  const auto request = silent->next_publish();
  ASSERT_TRUE(request);
  clock->jump(61s);
  const json failed = wait_for("slow", "failed");
  EXPECT_EQ(failed["deviceJobStatistics"], statistics(1, 0, 1));
  EXPECT_EQ(failed["failureReason"], "The maximum execution time of 60 s has passed.");
  EXPECT_EQ(rows("")[0]["error"]["code"], "500008");
  // An answer that comes now changes nothing.
  const auto topic = protocol::parse_hub_topic(request->topic);
  silent->publish(fmt::format("$iothub/methods/res/200/?$rid={}", topic->rid), "{}");
  EXPECT_TRUE(silent->subscribe("$iothub/twin/res/#"));
  EXPECT_EQ(get("slow"), failed);
}

TEST_P(JobsTest, ADeviceThatIsRemovedMeanwhileFails) {
  auto gone = device(create_device("gone"));
  ASSERT_TRUE(gone->subscribe("$iothub/methods/POST/#"));
  put(method("job", "*", {{"methodName", "m"}, {"responseTimeoutInSeconds", 300}}));
  ASSERT_TRUE(gone->next_publish());
  service().request("DELETE", "/devices/gone", {}, "If-Match: *\r\n");
  EXPECT_EQ(wait_for("job", "completed")["deviceJobStatistics"], statistics(1, 0, 1));
  EXPECT_EQ(rows("WHERE deviceId = 'gone'")[0]["error"]["code"], "404001");
}

TEST_P(JobsTest, AResultPerTwinIsKept) {
  create_device("small");
  create_device("full");
  const json filler = {{"a", std::string(4000, 'x')}};
  service().request("PATCH", "/twins/full", json{{"tags", filler}}.dump());
  put(update("fill", "*", {{"tags", {{"b", std::string(4000, 'y')}, {"c", std::string(400, 'z')}}}}));
  EXPECT_EQ(wait_for("fill", "completed")["deviceJobStatistics"], statistics(2, 1, 1));
  const json failed = rows("WHERE status = 'failed'");
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0]["deviceId"], "full");
  EXPECT_EQ(failed[0]["error"]["code"], "400004");
  EXPECT_THAT(failed[0]["error"]["description"].get<std::string>(), HasSubstr("size"));
}

TEST_P(JobsTest, JobsAreListedByKindAndStateInPages) {
  for (int i = 0; i < 5; ++i) put(update(fmt::format("u{}", i), "*", {{"tags", {{"x", i}}}}));
  for (int i = 0; i < 2; ++i) {
    json later = method(fmt::format("m{}", i), "*", {{"methodName", "m"}});
    later["startTime"] = format_iso8601(clock->wall() + 1h);
    put(later);
  }
  for (int i = 0; i < 5; ++i) wait_for(fmt::format("u{}", i), "completed");
  const auto list = [&](const std::string& filter, int page) {
    std::vector<std::string> ids;
    std::string token;
    do {
      std::string headers = fmt::format("x-ms-max-item-count: {}\r\n", page);
      if (!token.empty()) headers += "x-ms-continuation: " + token + "\r\n";
      const HttpReply reply =
          service("service").request("GET", "/jobs/v2/query?api-version=2021-04-12" + filter, {}, headers);
      EXPECT_EQ(reply.status, 200) << reply.body;
      EXPECT_EQ(reply.header("x-ms-item-type"), "JobResponse");
      EXPECT_LE(reply.json().size(), static_cast<size_t>(page));
      for (const json& job : reply.json()) ids.push_back(job["jobId"]);
      token = reply.header("x-ms-continuation");
    } while (!token.empty());
    return ids;
  };
  using ::testing::ElementsAre;
  for (int page = 1; page < 9; ++page) {
    EXPECT_THAT(list("", page), ElementsAre("m1", "m0", "u4", "u3", "u2", "u1", "u0")) << page;
  }
  EXPECT_THAT(list("&jobType=scheduleDeviceMethod", 1), ElementsAre("m1", "m0"));
  EXPECT_THAT(list("&jobStatus=completed&jobType=scheduleUpdateTwin", 2), ElementsAre("u4", "u3", "u2", "u1", "u0"));
  EXPECT_THAT(list("&jobStatus=scheduled", 10), ElementsAre("m1", "m0"));
  EXPECT_THAT(list("&jobStatus=completed&jobType=scheduleDeviceMethod", 10), ElementsAre());
  EXPECT_THAT(list("&jobType=export", 10), ElementsAre());
  RawHttp http = service();
  EXPECT_EQ(outcome(http.request("GET", "/jobs/v2/query?jobType=nonsense")), "400 ArgumentInvalid");
  EXPECT_EQ(outcome(http.request("GET", "/jobs/v2/query?jobStatus=nonsense")), "400 ArgumentInvalid");
  for (const char* size : {"0", "-1", "x", "1.5", "10001"}) {
    EXPECT_EQ(outcome(http.request("GET", "/jobs/v2/query", {}, fmt::format("x-ms-max-item-count: {}\r\n", size))),
              "400 ArgumentInvalid")
        << size;
  }
  const std::string token =
      http.request("GET", "/jobs/v2/query", {}, "x-ms-max-item-count: 2\r\n").header("x-ms-continuation");
  const auto with = [&](const std::string& changed, const std::string& filter = "") {
    return outcome(http.request("GET", "/jobs/v2/query?api-version=2021-04-12" + filter, {},
                                "x-ms-continuation: " + changed + "\r\n"));
  };
  EXPECT_EQ(with(token), "200 ");
  EXPECT_EQ(with(token, "&jobStatus=completed"), "400 ArgumentInvalid");
  EXPECT_EQ(with("garbage"), "400 ArgumentInvalid");
  for (size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == 'Q' ? 'g' : 'Q';
    EXPECT_EQ(with(changed), "400 ArgumentInvalid") << i;
  }
}

TEST_P(JobsTest, ATierBoundsTheNumberOfJobsAndTheRateOfTheirWork) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / fmt::format("jobs-test-{}-{}.json", getpid(), GetParam());
  constexpr int kBurst = 600;  // 10 device operations a second of S1, for a minute
  constexpr int kMore = 5;
  json twins = json::array();
  for (int i = 0; i < kBurst + kMore; ++i) twins.push_back({{"deviceId", fmt::format("d{:03}", i)}});
  std::ofstream{file} << json{{"twins", twins}};
  HubConfig config;
  config.import_file = file;
  config.tier = Tier::s1;
  config.units = 1;
  start(std::move(config));
  std::filesystem::remove(file);

  const SteadyClock steady;
  const MonoTime begin = steady.mono();
  ASSERT_EQ(put(update("all", "*", {{"tags", {{"x", 1}}}})).status, 200);
  json second = update("second", "*", {{"tags", {{"x", 2}}}});
  EXPECT_EQ(outcome(put(second)), "429 ThrottlingMaxActiveJobCountExceeded");
  EXPECT_EQ(wait_for("all", "completed")["deviceJobStatistics"], statistics(kBurst + kMore, kBurst + kMore, 0));
  EXPECT_GE(steady.mono() - begin, 300ms);  // five at 10/s, and the first of them may leave at once
  second["startTime"] = format_iso8601(clock->wall() + 1h);
  EXPECT_EQ(put(second).status, 200);
  EXPECT_EQ(outcome(put(update("third", "*", {{"tags", {{"x", 3}}}}))), "429 ThrottlingMaxActiveJobCountExceeded");

  const json throttle = service().request("GET", "/twinstorm/throttle").json();
  const auto& classes = throttle["classes"];
  const auto work = std::find_if(classes.begin(), classes.end(),
                                 [](const json& each) { return each["class"] == "jobDeviceOperations"; });
  ASSERT_NE(work, classes.end());
  EXPECT_EQ((*work)["admitted"], kBurst + kMore);
  EXPECT_GE((*work)["shaped"], kMore - 1);
  EXPECT_EQ((*work)["refused"], 0);
  EXPECT_EQ(throttle["quota"]["used"], kBurst + kMore);  // one message each
}

TEST_P(JobsTest, TheHubCanStopInTheMiddle) {
  create_devices(500);
  auto silent = device(create_device("silent"));
  ASSERT_TRUE(silent->subscribe("$iothub/methods/POST/#"));
  for (int i = 0; i < 10; ++i) {
    put(update(fmt::format("u{}", i), "*", {{"properties", {{"desired", {{"x", i}}}}}}));
    put(method(fmt::format("m{}", i), "*", {{"methodName", "m"}, {"connectTimeoutInSeconds", 30}}));
  }
  hub->stop();
}

TEST_P(JobsTest, ALargeJobLetsOthersIn) {
  create_devices(900);
  create_device("patched");
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(put(update(fmt::format("big-{}", i), "*", {{"properties", {{"desired", {{"x", i}}}}}})).status, 200);
  }
  RawHttp http = service();
  std::vector<Nanos> took;
  const SteadyClock steady;
  do {
    const MonoTime begin = steady.mono();
    ASSERT_EQ(http.request("PATCH", "/twins/patched", R"({"tags":{"a":1}})").status, 200);
    took.push_back(steady.mono() - begin);
    ASSERT_LT(took.size(), 100'000u);
  } while (hub->counts().jobs_completed < 20);
  EXPECT_EQ(hub->counts().job_device_operations_succeeded, 20u * 901u);
  std::sort(took.begin(), took.end());
  EXPECT_LT(took[took.size() / 2], 100ms);  // far above what it takes; a job that stalls a shard shows all the same
}

}  // namespace
}  // namespace twinstorm::hub::testing
