// A hub with a tier over loopback, on a clock that the test moves: what clients see of rates and daily messages.
#include <list>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "raw_clients.hpp"

namespace twinstorm::hub::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kSilenceMs = 120;  // more than the hub's tick, which follows the moved clock

class ThrottleHubTest : public ::testing::TestWithParam<unsigned> {
 protected:
  void start(std::optional<Tier> tier, uint32_t units = 1, HubConfig config = {}) {
    clock = std::make_shared<ManualClock>();
    config.threads = GetParam();
    config.tier = tier;
    config.units = units;
    config.clock = clock;
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
  }
  RawHttp service() { return RawHttp{hub->ports().http, hub->owner_connection_string()}; }
  std::unique_ptr<RawHttp> another() {
    return std::make_unique<RawHttp>(hub->ports().http, hub->owner_connection_string());
  }
  DeviceLogin create(const std::string& id) {
    const HttpReply reply = service().request("PUT", "/devices/" + id, fmt::format(R"({{"deviceId":"{}"}})", id));
    EXPECT_EQ(reply.status, 200) << reply.body;
    DeviceLogin login;
    login.device_id = id;
    login.key = reply.json()["authentication"]["symmetricKey"]["primaryKey"];
    login.keep_alive = 1'000;
    return login;
  }
  static std::string bulk(int first, int count, std::string_view mode = "create") {
    std::string body = "[";
    for (int i = 0; i < count; ++i) {
      body += fmt::format(R"({}{{"id":"bulk{}","importMode":"{}"}})", i == 0 ? "" : ",", first + i, mode);
    }
    return body + "]";
  }
  nlohmann::json throttle() {
    RawHttp local{hub->ports().http, {}};
    return local.request("GET", "/twinstorm/throttle").json();
  }
  nlohmann::json figures(std::string_view operation) {
    const nlohmann::json all = throttle();
    for (const auto& each : all["classes"]) {
      if (each["class"] == operation) return each;
    }
    ADD_FAILURE() << "no class " << operation;
    return {};
  }
  bool grows_to(uint64_t HubCounts::*member, uint64_t value) {
    for (int i = 0; i < 500 && hub->counts().*member < value; ++i) std::this_thread::sleep_for(milliseconds{10});
    return hub->counts().*member == value;
  }

  std::shared_ptr<ManualClock> clock;
  std::unique_ptr<Hub> hub;
};

INSTANTIATE_TEST_SUITE_P(Shards, ThrottleHubTest, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

TEST_P(ThrottleHubTest, ATierOnRequestLetsTheSetUpThroughAndMeetsTheRunWithFullBuckets) {
  HubConfig config;
  config.tier_on_request = true;
  start(Tier::s1, 1, std::move(config));
  RawHttp owner = service();
  for (int i = 0; i < 5; ++i) ASSERT_EQ(owner.request("POST", "/devices", bulk(100 * i, 100)).status, 200);
  ASSERT_EQ(owner.request("GET", "/twins/bulk0").status, 200);
  EXPECT_EQ(figures("identityRegistry")["admitted"], 0);
  EXPECT_EQ(throttle()["quota"]["used"], 0);

  RawHttp nobody{hub->ports().http, {}};
  EXPECT_EQ(nobody.request("POST", "/twinstorm/throttle").status, 401) << "reading needs no token here, starting does";
  RawHttp reader{hub->ports().http, hub->policy_connection_string("registryRead")};
  EXPECT_EQ(reader.request("POST", "/twinstorm/throttle").status, 401);
  const HttpReply begun = owner.request("POST", "/twinstorm/throttle");
  ASSERT_EQ(begun.status, 200) << begun.body;
  EXPECT_EQ(begun.json()["tier"], "S1");

  EXPECT_EQ(owner.request("POST", "/devices", bulk(500, 100)).status, 200) << "counts 100, all there is";
  EXPECT_EQ(owner.request("POST", "/devices", bulk(600, 100)).status, 429);
  ASSERT_EQ(service().request("GET", "/twins/bulk0").status, 200);
  EXPECT_EQ(figures("identityRegistry")["admitted"], 1);
  EXPECT_EQ(throttle()["quota"]["used"], 1);
}

TEST_P(ThrottleHubTest, RequestsBeyondTheBurstWaitTheirTurnThenAreRefusedWithTheDocumentedAnswer) {
  start(Tier::s1);
  RawHttp first = service();
  ASSERT_EQ(first.request("POST", "/devices", bulk(0, 100)).status, 200) << "counts 100, all there is";
  std::list<std::unique_ptr<RawHttp>> waiting;
  for (int i = 0; i < 16; ++i) {  // 10 s of 100 a minute
    waiting.push_back(another());
    waiting.back()->write("GET", "/devices/bulk1");
    ASSERT_TRUE(grows_to(&HubCounts::throttle_shaped, static_cast<uint64_t>(i) + 1));
  }
  EXPECT_FALSE(waiting.front()->receive(kSilenceMs));

  RawHttp refused = service();
  const HttpReply reply = refused.request("GET", "/devices/bulk1");
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.header("iothub-errorcode"), "ThrottlingBacklogTimeout");
  EXPECT_EQ(reply.header("connection"), "close");
  EXPECT_EQ(reply.header("retry-after"), "");
  EXPECT_EQ(reply.json()["Message"],
            "ErrorCode:ThrottlingBacklogTimeout;The request has been throttled. Wait 10 seconds and try again. "
            "Operation type: RegistryRead");
  EXPECT_THAT(reply.json()["ExceptionMessage"].get<std::string>(), StartsWith("Tracking ID:"));
  EXPECT_TRUE(refused.ends());

  clock->advance(milliseconds{600});  // one turn, and the first gets it
  EXPECT_EQ(waiting.front()->read().status, 200);
  waiting.pop_front();
  EXPECT_FALSE(waiting.front()->receive(kSilenceMs));
  clock->advance(seconds{9});
  for (const auto& each : waiting) EXPECT_EQ(each->read().status, 200);
  EXPECT_EQ(waiting.back()->request("GET", "/twins/bulk1").status, 200) << "the connection goes on";

  const auto registry = figures("identityRegistry");
  EXPECT_EQ(registry["admitted"], 17);
  EXPECT_EQ(registry["admittedCost"], 116);
  EXPECT_EQ(registry["shaped"], 16);
  EXPECT_EQ(registry["refused"], 1);
  EXPECT_DOUBLE_EQ(registry["delay"]["max"], 9.6);
  EXPECT_NEAR(registry["delay"]["sum"], 0.6 * 16 * 17 / 2, 1e-6);
  EXPECT_EQ(hub->counts().throttle_refused, 1u);
  EXPECT_EQ(hub->counts().registry_refused, 1u);
}

TEST_P(ThrottleHubTest, PipelinedRequestsKeepTheirOrderAndOtherClassesAreFree) {
  start(Tier::s1);
  RawHttp client = service();
  ASSERT_EQ(client.request("POST", "/devices", bulk(0, 100)).status, 200);
  client.write("GET", "/devices/bulk1");
  client.write("GET", "/twins/bulk1");
  EXPECT_FALSE(client.receive(kSilenceMs));
  RawHttp other = service();
  EXPECT_EQ(other.request("GET", "/twins/bulk1").status, 200);
  clock->advance(milliseconds{600});
  EXPECT_THAT(client.read().body, HasSubstr("symmetricKey"));
  EXPECT_THAT(client.read().body, HasSubstr("properties"));
}

TEST_P(ThrottleHubTest, ARequestWhoseClientLeavesWhileItWaitsIsNotDone) {
  start(Tier::s1);
  RawHttp first = service();
  ASSERT_EQ(first.request("POST", "/devices", bulk(0, 100)).status, 200);
  {
    RawHttp leaver = service();
    leaver.write("PUT", "/devices/late", R"({"deviceId":"late"})");
    ASSERT_TRUE(grows_to(&HubCounts::throttle_shaped, 1));
  }
  clock->advance(milliseconds{600});
  EXPECT_TRUE(grows_to(&HubCounts::throttle_abandoned, 1));
  EXPECT_EQ(figures("identityRegistry")["abandoned"], 1);
  clock->advance(seconds{60});
  EXPECT_EQ(service().request("GET", "/devices/late").status, 404);
}

TEST_P(ThrottleHubTest, QueriesAndMethodsHaveRatesOfTheirOwn) {
  start(Tier::s1);
  create("dev1");
  RawHttp client = service();
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(client.request("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})").status, 200);
  }
  client.write("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})");
  EXPECT_FALSE(client.receive(kSilenceMs));
  clock->advance(seconds{3});
  EXPECT_EQ(client.read().status, 200);
  const std::string payload(10'000, 'x');  // three steps of 4 KB
  const HttpReply offline = client.request("POST", "/twins/dev1/methods",
                                           fmt::format(R"({{"methodName":"reboot","payload":"{}"}})", payload));
  EXPECT_EQ(offline.status, 404);
  EXPECT_EQ(figures("directMethods")["admitted"], 1);
  EXPECT_EQ(figures("directMethods")["admittedCost"], 3);
  // 21 pages of one chunk each, three chunks of the method and one for the answer there was not.
  EXPECT_EQ(throttle()["quota"]["used"], 21 + 3 + 1);
}

TEST_P(ThrottleHubTest, ABatchCountsItsMessagesAndTelemetryOverMqttWaitsForItsTurn) {
  start(Tier::s1);
  const DeviceLogin login = create("dev1");
  RawMqtt device{hub->ports().mqtt};
  ASSERT_TRUE(device.login(login));
  std::string batch = "[";
  for (int i = 0; i < 500; ++i) batch += fmt::format(R"({}{{"body":"eA=="}})", i == 0 ? "" : ",");
  batch += "]";
  RawHttp http{hub->ports().http, {}};
  http.token =
      protocol::make_sas_token("hub.localhost/devices/dev1", *protocol::base64_decode(login.key), 4'000'000'000);
  for (int i = 0; i < 12; ++i) {  // 6,000: all there is
    http.send(
        fmt::format("POST /devices/dev1/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: hub.localhost\r\n"
                    "Authorization: {}\r\nContent-Type: application/vnd.microsoft.iothub.json\r\n"
                    "Content-Length: {}\r\n\r\n{}",
                    http.token, batch.size(), batch));
    ASSERT_EQ(http.read().status, 204);
  }
  EXPECT_EQ(figures("d2cSends")["admittedCost"], 6'000);
  device.publish("devices/dev1/messages/events/", "x", mqtt::Qos::at_least_once);
  EXPECT_TRUE(device.alive()) << "the ping is answered, the publication is not yet";
  clock->advance(milliseconds{10});
  const auto puback = device.next();
  ASSERT_TRUE(puback);
  EXPECT_EQ(puback->type, mqtt::PacketType::puback);
  http.write("POST", "/devices/dev1/messages/events", "y");
  EXPECT_FALSE(http.receive(kSilenceMs));
  clock->advance(milliseconds{10});
  EXPECT_EQ(http.read().status, 204);
  EXPECT_EQ(hub->counts().telemetry_messages, 6'002u);
}

TEST_P(ThrottleHubTest, ConnectsBeyondTheRateWaitForTheirConnack) {
  HubConfig config;
  config.check_sas = false;
  start(Tier::s1, 1, std::move(config));
  ASSERT_EQ(service().request("POST", "/devices", bulk(0, 100)).status, 200);
  DeviceLogin login;
  login.key = "a2V5";
  for (int i = 0; i < 6'000; ++i) {
    login.device_id = fmt::format("bulk{}", i % 100);
    RawMqtt device{hub->ports().mqtt};
    const auto connack = device.login(login);
    ASSERT_TRUE(connack && connack->code == mqtt::ConnackCode::accepted) << i;
  }
  clock->advance(seconds{0});
  std::list<std::unique_ptr<RawMqtt>> waiting;
  for (int i = 0; i < 2; ++i) {
    login.device_id = fmt::format("bulk{}", i);
    waiting.push_back(std::make_unique<RawMqtt>(hub->ports().mqtt));
    waiting.back()->send(RawMqtt::connect_packet(login));
    ASSERT_TRUE(grows_to(&HubCounts::throttle_shaped, static_cast<uint64_t>(i) + 1));
  }
  EXPECT_FALSE(waiting.front()->receive(kSilenceMs));
  waiting.back()->shut();
  clock->advance(milliseconds{20});
  const auto connack = waiting.front()->connack();
  EXPECT_TRUE(connack && connack->code == mqtt::ConnackCode::accepted);
  EXPECT_TRUE(grows_to(&HubCounts::throttle_abandoned, 1));
}

TEST_P(ThrottleHubTest, TheDaysMessagesEndAndComeBackAtMidnight) {
  start(Tier::f1);
  const DeviceLogin login = create("dev1");
  RawHttp http{hub->ports().http, {}};
  http.token =
      protocol::make_sas_token("hub.localhost/devices/dev1", *protocol::base64_decode(login.key), 4'000'000'000);
  for (int i = 0; i < 16; ++i) {  // 500 chunks of 512 bytes each
    ASSERT_EQ(http.request("POST", "/devices/dev1/messages/events", std::string(500 * 512, 'x')).status, 204);
  }
  const HttpReply refused = http.request("POST", "/devices/dev1/messages/events", "x");
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.header("iothub-errorcode"), "IotHubQuotaExceeded");
  EXPECT_THAT(refused.json()["Message"].get<std::string>(),
              HasSubstr("exceeded the allocated quota. Max allowed message count : '8000'"));
  RawHttp client = service();
  EXPECT_EQ(client.request("GET", "/twins/dev1").status, 403);
  EXPECT_EQ(client.request("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})").status, 403);
  EXPECT_EQ(client.request("GET", "/devices/dev1").status, 200) << "identities are free";
  EXPECT_EQ(throttle()["quota"]["used"], 8'000);
  EXPECT_EQ(throttle()["quota"]["refused"], 3);
  EXPECT_EQ(hub->counts().quota_refused, 3u);
  clock->advance(std::chrono::hours{24});
  RawHttp tomorrow = service();
  const HttpReply twin = tomorrow.request("GET", "/twins/dev1");
  EXPECT_EQ(twin.status, 200);
  EXPECT_EQ(throttle()["quota"]["used"], (twin.body.size() + 511) / 512);
}

TEST_P(ThrottleHubTest, AFreeHubHasPlaceFor500Devices) {
  start(Tier::f1);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(service().request("POST", "/devices", bulk(100 * i, 100)).status, 200);
    clock->advance(seconds{60});
  }
  const HttpReply full = service().request("PUT", "/devices/more", R"({"deviceId":"more"})");
  EXPECT_EQ(full.status, 413);
  EXPECT_EQ(full.header("iothub-errorcode"), "TooManyDevices");
  EXPECT_EQ(service().request("DELETE", "/devices/bulk7", {}, "If-Match: *\r\n").status, 204);
  EXPECT_EQ(service().request("PUT", "/devices/more", R"({"deviceId":"more"})").status, 200);
}

TEST_P(ThrottleHubTest, ABasicHubRefusesWhatItLacks) {
  start(Tier::b1);
  create("dev1");
  RawHttp client = service();
  for (const auto& [method, target] : {std::pair{"GET", "/twins/dev1"}, std::pair{"GET", "/configurations?top=5"},
                                       std::pair{"GET", "/jobs/v2/query"}}) {
    const HttpReply reply = client.request(method, target);
    EXPECT_EQ(reply.status, 403) << target;
    EXPECT_EQ(reply.header("iothub-errorcode"), "OperationNotAvailableInCurrentTier");
  }
  EXPECT_EQ(client.request("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})").status, 200);
  EXPECT_EQ(hub->counts().tier_refused, 3u);
}

TEST_P(ThrottleHubTest, WithoutATierNothingIsHeldOrCharged) {
  start(std::nullopt);
  RawHttp client = service();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.request("POST", "/devices", bulk(100 * i, 100)).status, 200);
  EXPECT_EQ(throttle().dump(), R"({"classes":[],"quota":null,"tier":null,"units":0})");
  EXPECT_EQ(hub->counts().throttle_shaped, 0u);
}

TEST(ThrottleHub, SaysWhatUnitsCanBeHad) {
  HubConfig config;
  config.tier = Tier::s3;
  config.units = 11;
  const auto hub = Hub::start(std::move(config));
  ASSERT_FALSE(hub);
  EXPECT_EQ(hub.error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(hub.error().message, "11 units of S3 cannot be had: give 1 to 10");
}

}  // namespace
}  // namespace twinstorm::hub::testing
