// Telemetry, cloud-to-device messages and direct methods through a running hub, with one shard and with several: the
// caller, the device and its owner are on different threads then, and nobody may notice.
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hub_fixture.hpp"
#include "sim/protocol/device_routes.hpp"

namespace twinstorm::hub::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// The machine's clocks, some times as fast: what takes seconds in the protocol takes less in a test.
class FastClock final : public Clock {
 public:
  static constexpr int kFactor = 20;
  MonoTime mono() const override { return mono_ + (machine_.mono() - mono_) * kFactor; }
  WallTime wall() const override { return wall_ + (machine_.mono() - mono_) * kFactor; }

 private:
  SteadyClock machine_;
  MonoTime mono_ = machine_.mono();
  WallTime wall_ = machine_.wall();
};

class MessagesTest : public ShardedHub {
 protected:
  void SetUp() override { start(); }

  /// An HTTP client that speaks as the device.
  std::unique_ptr<RawHttp> device_http(const DeviceLogin& login) {
    auto http = std::make_unique<RawHttp>(hub->ports().http, std::string{});
    http->token = protocol::make_sas_token("hub.localhost/devices/" + login.device_id,
                                           *protocol::base64_decode(login.key), 4'000'000'000);
    return http;
  }
  static void answer_method(RawMqtt& device, const MqttPublish& request, int status, std::string_view payload) {
    const auto topic = protocol::parse_hub_topic(request.topic);
    ASSERT_TRUE(topic) << request.topic;
    device.publish(fmt::format("$iothub/methods/res/{}/?$rid={}", status, topic->rid), payload);
  }
  static std::string puback(uint16_t packet_id) {
    std::string out;
    mqtt::encode_puback(out, packet_id);
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Shards, MessagesTest, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

// --- Direct methods ------------------------------------------------------------------------------------------------

TEST_P(MessagesTest, AMethodTravelsToTheDeviceAndBack) {
  auto dev = device(create("dev1"));
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  RawHttp caller = service("service");
  caller.write("POST", "/twins/dev1/methods?api-version=2021-04-12",
               R"({"methodName":"reboot","payload":{"delay":5.0},"responseTimeoutInSeconds":30,)"
               R"("connectTimeoutInSeconds":0})");
  const auto request = dev->next_publish();
  ASSERT_TRUE(request);
  EXPECT_THAT(request->topic, ::testing::StartsWith("$iothub/methods/POST/reboot/?$rid="));
  EXPECT_EQ(request->payload, R"({"delay":5.0})");
  answer_method(*dev, *request, 207, R"({"ok":true})");
  const HttpReply reply = caller.read();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, R"({"status":207,"payload":{"ok":true}})");
  EXPECT_EQ(reply.header("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(caller.request("GET", "/twins/dev1").status, 200);  // the connection goes on
}

TEST_P(MessagesTest, ManyCallsAreAnsweredInAnyOrder) {
  constexpr int kCalls = 60;
  auto dev = device(create("dev1"));
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  std::vector<std::unique_ptr<RawHttp>> callers;
  for (int i = 0; i < kCalls; ++i) {
    callers.push_back(std::make_unique<RawHttp>(hub->ports().http, hub->service_connection_string()));
    callers.back()->write("POST", "/twins/dev1/methods", fmt::format(R"({{"methodName":"m","payload":{}}})", i));
  }
  std::vector<MqttPublish> requests;
  for (int i = 0; i < kCalls; ++i) {
    const auto request = dev->next_publish();
    ASSERT_TRUE(request);
    requests.push_back(*request);
  }
  for (auto request = requests.rbegin(); request != requests.rend(); ++request) {
    answer_method(*dev, *request, 200, request->payload);
  }
  for (int i = 0; i < kCalls; ++i) {
    EXPECT_EQ(callers[static_cast<size_t>(i)]->read().body, fmt::format(R"({{"status":200,"payload":{}}})", i));
  }
  EXPECT_EQ(hub->counts().methods_answered, static_cast<uint64_t>(kCalls));
}

TEST_P(MessagesTest, AnOfflineDeviceIsToldAtOnceAndAWaitedForOneIsCalled) {
  const DeviceLogin login = create("dev1");
  RawHttp caller = service();
  const HttpReply offline = caller.request("POST", "/twins/dev1/methods", R"({"methodName":"m"})");
  EXPECT_EQ(offline.status, 404);
  EXPECT_EQ(offline.header("iothub-errorcode"), "DeviceNotOnline");
  EXPECT_THAT(offline.body, HasSubstr(R"(\"errorCode\":404103)"));
  caller.write("POST", "/twins/dev1/methods", R"({"methodName":"m","connectTimeoutInSeconds":20})");
  ASSERT_TRUE(counts_reach(&HubCounts::methods_called, 2));
  auto dev = device(login);
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  const auto request = dev->next_publish();
  ASSERT_TRUE(request);
  answer_method(*dev, *request, 200, "");
  EXPECT_EQ(caller.read().body, R"({"status":200,"payload":null})");
}

TEST_P(MessagesTest, TimeoutsAndLargePayloads) {
  HubConfig config;
  config.clock = std::make_shared<FastClock>();
  start(std::move(config));
  auto dev = device(create("dev1"));
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  const HttpReply late =
      service().request("POST", "/twins/dev1/methods", R"({"methodName":"m","responseTimeoutInSeconds":5})");
  EXPECT_EQ(late.status, 504);
  EXPECT_EQ(late.header("iothub-errorcode"), "GatewayTimeout");
  EXPECT_THAT(late.body, HasSubstr(R"(\"errorCode\":504101)"));
  dev->next_publish();
  RawHttp caller = service();
  const std::string largest(128 * 1024 - 2, 'x');
  caller.write("POST", "/twins/dev1/methods",
               fmt::format(R"({{"methodName":"m","payload":"{}","responseTimeoutInSeconds":300}})", largest));
  const auto request = dev->next_publish();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->payload.size(), 128u * 1024);
  answer_method(*dev, *request, 200, '"' + largest + '"');
  EXPECT_EQ(caller.read().status, 200);
}

TEST_P(MessagesTest, ACallerThatIsGoneHurtsNobody) {
  auto dev = device(create("dev1"));
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  {
    RawHttp caller = service();
    caller.write("POST", "/twins/dev1/methods", R"({"methodName":"m"})");
    ASSERT_TRUE(counts_reach(&HubCounts::methods_sent, 1));
  }
  const auto request = dev->next_publish();
  ASSERT_TRUE(request);
  answer_method(*dev, *request, 200, "1");
  EXPECT_TRUE(dev->alive());
  EXPECT_TRUE(counts_reach(&HubCounts::methods_answered, 1));
  EXPECT_EQ(service().request("GET", "/twins/dev1").status, 200);
}

TEST_P(MessagesTest, StoppingWithPendingCallsEndsThem) {
  auto dev = device(create("dev1"));
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  RawHttp sent = service();
  sent.write("POST", "/twins/dev1/methods", R"({"methodName":"m"})");
  create("dev2");
  RawHttp waiting = service();
  waiting.write("POST", "/twins/dev2/methods", R"({"methodName":"m","connectTimeoutInSeconds":30})");
  ASSERT_TRUE(counts_reach(&HubCounts::methods_called, 2));
  hub->stop();
  EXPECT_TRUE(sent.ends());
  EXPECT_TRUE(waiting.ends());
}

TEST_P(MessagesTest, DeletingTheDeviceEndsItsCalls) {
  auto dev = device(create("dev1"));
  ASSERT_TRUE(dev->subscribe("$iothub/methods/POST/#"));
  RawHttp caller = service();
  caller.write("POST", "/twins/dev1/methods", R"({"methodName":"m"})");
  ASSERT_TRUE(counts_reach(&HubCounts::methods_sent, 1));
  EXPECT_EQ(service().request("DELETE", "/devices/dev1", "", "If-Match: *\r\n").status, 204);
  const HttpReply reply = caller.read();
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.header("iothub-errorcode"), "DeviceNotFound");
}

// --- Cloud to device -----------------------------------------------------------------------------------------------

TEST_P(MessagesTest, AMessageReachesTheDeviceAndFeedbackTheService) {
  const DeviceLogin login = create("dev1");
  auto dev = device(login);
  ASSERT_TRUE(dev->subscribe("devices/dev1/messages/devicebound/#", mqtt::Qos::at_least_once));
  RawHttp back_end = service();
  EXPECT_EQ(back_end
                .request("POST", protocol::extension_target::enqueue("dev1"), "hello",
                         "iothub-messageid: m 1\r\niothub-app-colour: light blue\r\niothub-ack: full\r\n")
                .status,
            204);
  const auto message = dev->next_publish();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->topic,
            "devices/dev1/messages/devicebound/%24.mid=m%201&%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound&"
            "colour=light%20blue&iothub-ack=full");
  EXPECT_EQ(message->payload, "hello");
  EXPECT_EQ(back_end.request("GET", "/devices/dev1").json()["cloudToDeviceMessageCount"], 1);

  dev->shut();  // not acknowledged: the next connection of the session gets it again
  auto again = device(login);
  const auto repeated = again->next();
  ASSERT_TRUE(repeated);
  EXPECT_EQ(repeated->type, mqtt::PacketType::publish);
  EXPECT_EQ(repeated->flags, 0x0a);  // DUP, QoS 1
  again->send(puback(1));
  ASSERT_TRUE(counts_reach(&HubCounts::c2d_completed, 1));
  ASSERT_TRUE(counts_reach(&HubCounts::feedback_records, 1));
  EXPECT_EQ(back_end.request("GET", "/twins/dev1").json()["cloudToDeviceMessageCount"], 0);
  HttpReply feedback;
  for (int i = 0; i < 100 && feedback.status != 200; ++i) {  // it crosses threads on its way
    feedback = back_end.request("GET", "/messages/serviceBound/feedback?api-version=2021-04-12");
  }
  EXPECT_EQ(feedback.header("content-type"), "application/vnd.microsoft.iothub.feedback.json");
  EXPECT_EQ(feedback.json()[0]["originalMessageId"], "m 1");
  EXPECT_EQ(feedback.json()[0]["statusCode"], "Success");
  const std::string etag = feedback.header("etag");
  EXPECT_EQ(back_end.request("DELETE", "/messages/serviceBound/feedback/" + etag.substr(1, etag.size() - 2)).status,
            204);
}

TEST_P(MessagesTest, OnlyTheServiceMayUseTheHubsOwnResources) {
  create("dev1");
  EXPECT_EQ(service("registryReadWrite").request("POST", protocol::extension_target::enqueue("dev1"), "x").status, 401);
  EXPECT_EQ(service("registryRead").request("DELETE", "/devices/dev1/commands").status, 401);
  EXPECT_EQ(service("device").request("POST", "/twins/dev1/methods", R"({"methodName":"m"})").status, 401);
  EXPECT_EQ(service("service").request("POST", protocol::extension_target::enqueue("dev1"), "x").status, 204);
  EXPECT_EQ(service("service").request("DELETE", "/devices/dev1/commands").json()["totalMessagesPurged"], 1);
}

// --- Devices over HTTP -----------------------------------------------------------------------------------------------

TEST_P(MessagesTest, ADeviceSendsAndPollsOverHttp) {
  const DeviceLogin login = create("dev1");
  const auto client = device_http(login);
  RawHttp& dev = *client;
  RawHttp back_end = service();
  EXPECT_EQ(back_end.request("GET", protocol::extension_target::watch_events("dev1")).body, "[]");
  // As the SDK sends it: chunked, no content type.
  dev.send(
      "POST /devices/dev1/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: hub.localhost\r\n"
      "Authorization: " +
      dev.token +
      "\r\niothub-to: /devices/dev1/messages/events\r\niothub-app-k: v\r\nIoTHub-MessageId: m1\r\n"
      "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  const HttpReply sent = dev.read();
  EXPECT_EQ(sent.status, 204);
  EXPECT_EQ(sent.header("content-length"), "");
  EXPECT_EQ(
      dev.request("POST", protocol::device_target::events("dev1"), R"([{"body": "b25l"},{"body": "dHdv"}])").status,
      204);  // JSON by name only: one message
  const auto seen = back_end.request("GET", protocol::extension_target::watch_events("dev1")).json();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0]["body"], "YWJj");
  EXPECT_EQ(seen[0]["properties"]["k"], "v");
  EXPECT_EQ(seen[0]["systemProperties"]["messageId"], "m1");

  EXPECT_EQ(dev.request("GET", protocol::device_target::messages("dev1")).status, 204);
  back_end.request("POST", protocol::extension_target::enqueue("dev1"), std::string("a\0b", 3),
                   "iothub-messageid: c1\r\n");
  const HttpReply polled = dev.request("GET", protocol::device_target::messages("dev1"));
  EXPECT_EQ(polled.status, 200);
  EXPECT_EQ(polled.body, std::string("a\0b", 3));
  EXPECT_EQ(polled.header("iothub-messageid"), "c1");
  const std::string token = polled.header("etag").substr(1, polled.header("etag").size() - 2);
  EXPECT_EQ(dev.request("GET", protocol::device_target::messages("dev1")).status, 204);
  EXPECT_EQ(
      dev.request("DELETE", protocol::device_target::complete("dev1", token), "", "If-Match: " + token + "\r\n").status,
      204);
  EXPECT_EQ(dev.request("DELETE", protocol::device_target::complete("dev1", token)).status, 412);

  dev.token.clear();
  EXPECT_EQ(dev.request("POST", protocol::device_target::events("dev1"), "x").status, 401);
  EXPECT_EQ(dev.request("PUT", protocol::device_target::events("dev1"), "x").status, 405);
  EXPECT_EQ(hub->counts().telemetry_http, 2u);
}

// --- Connections ---------------------------------------------------------------------------------------------------

TEST_P(MessagesTest, AFightForOneIdentityIsSlowedDown) {
  const DeviceLogin login = create("dev1");
  std::vector<std::unique_ptr<RawMqtt>> fighters;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 7; ++i) fighters.push_back(device(login));  // each waits for its CONNACK
  // One to begin with, three free take-overs, then 100, 200 and 400 ms.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 600ms);
  EXPECT_EQ(hub->counts().connects_damped, 3u);
  EXPECT_EQ(hub->counts().disconnects_take_over, 6u);
  EXPECT_TRUE(fighters.front()->ends());
  EXPECT_TRUE(fighters.back()->alive());
}

TEST_P(MessagesTest, AHeldBackConnectOfAClientThatHasLeftTakesNothingOver) {
  const DeviceLogin login = create("dev1");
  std::vector<std::unique_ptr<RawMqtt>> fighters;
  for (int i = 0; i < 4; ++i) fighters.push_back(device(login));
  for (int i = 0; i < 2; ++i) {  // with nothing and with more behind the CONNECT
    RawMqtt gone{hub->ports().mqtt};
    gone.send(RawMqtt::connect_packet(login));
    if (i == 1) gone.publish("devices/dev1/messages/events/", "x");
    gone.shut();
    EXPECT_TRUE(counts_reach(&HubCounts::connects_refused, static_cast<uint64_t>(i) + 1));
  }
  EXPECT_EQ(hub->counts().connects_damped, 2u);
  EXPECT_EQ(hub->counts().disconnects_take_over, 3u);
  EXPECT_TRUE(fighters.back()->alive());
}

TEST_P(MessagesTest, AnExpiredTokenEndsALiveConnection) {
  HubConfig config;
  config.token_grace = Nanos::zero();
  start(std::move(config));
  const DeviceLogin login = create("dev1");
  mqtt::Connect connect;
  connect.client_id = "dev1";
  connect.keep_alive_seconds = 60;
  const std::string user = "hub.localhost/dev1/?api-version=2021-04-12";
  const auto expiry = unix_seconds(SteadyClock{}.wall()) + 2;
  const std::string password =
      protocol::make_sas_token("hub.localhost/devices/dev1", *protocol::base64_decode(login.key), expiry);
  connect.user_name = user;
  connect.password = password;
  std::string packet;
  mqtt::encode_connect(packet, connect);
  RawMqtt dev{hub->ports().mqtt};
  dev.send(packet);
  ASSERT_TRUE(dev.connack());
  EXPECT_TRUE(dev.alive());
  EXPECT_TRUE(dev.ends());
  EXPECT_TRUE(counts_reach(&HubCounts::disconnects_token_expired, 1));
  std::this_thread::sleep_for(1100ms);  // a token is good until its second is over
  RawMqtt late{hub->ports().mqtt};
  late.send(packet);
  const auto refused = late.connack();
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->code, mqtt::ConnackCode::not_authorized);
}

TEST_P(MessagesTest, AWillComesFromALostConnection) {
  const DeviceLogin login = create("dev1");
  RawHttp back_end = service();
  back_end.request("GET", protocol::extension_target::watch_events("dev1"));
  mqtt::Connect connect;
  const std::string user = "hub.localhost/dev1/?api-version=2021-04-12";
  const std::string password =
      protocol::make_sas_token("hub.localhost/devices/dev1", *protocol::base64_decode(login.key), 4'000'000'000);
  const std::string last_words(20'000, 'w');
  connect.client_id = "dev1";
  connect.user_name = user;
  connect.password = password;
  connect.will = mqtt::Will{"devices/dev1/messages/events/%24.mid=w1", last_words, mqtt::Qos::at_least_once, false};
  std::string packet;
  mqtt::encode_connect(packet, connect);
  {
    RawMqtt dev{hub->ports().mqtt};
    dev.send(packet);
    ASSERT_TRUE(dev.connack());
  }
  ASSERT_TRUE(counts_reach(&HubCounts::telemetry_wills, 1));
  const auto seen = back_end.request("GET", protocol::extension_target::watch_events("dev1")).json();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0]["properties"]["iothub-MessageType"], "Will");
  EXPECT_EQ(seen[0]["systemProperties"]["messageId"], "w1");
  EXPECT_EQ(seen[0]["bodySize"], 20'000);
}

TEST_P(MessagesTest, TenThousandSubscriptionsCostOneConnection) {
  const DeviceLogin login = create("dev1");
  auto dev = device(login);
  std::vector<mqtt::Subscription> filters(10'000, {"$iothub/methods/POST/#", mqtt::Qos::at_most_once});
  std::string packet;
  mqtt::encode_subscribe(packet, 1, filters);
  dev->send(packet);
  EXPECT_TRUE(dev->ends());
  EXPECT_TRUE(device(login)->alive());
  EXPECT_EQ(hub->counts().subscribes, 0u);
}

}  // namespace
}  // namespace twinstorm::hub::testing
