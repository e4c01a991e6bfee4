// Messages over one MQTT conversation: telemetry, wills, cloud-to-device, module inputs, direct methods.
#include <fmt/format.h>

#include "mqtt_fixture.hpp"
#include "sim/protocol/sas.hpp"

namespace twinstorm::hub {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::string_view kEvents = "devices/dev1/messages/events/";
constexpr std::string_view kDeviceBound = "devices/dev1/messages/devicebound/#";

class MqttMessagesTest : public MqttSessionTest {
 protected:
  std::unique_ptr<MqttSession> open_quietly(RecordedPort& port, const mqtt::Connect& packet = connect()) {
    auto session = open(port, packet);
    port.take();
    return session;
  }
  void send(std::string body, Nanos ttl = kCloudMessageTtl) {
    CloudMessage message;
    message.body = std::move(body);
    message.expires = clock.wall() + ttl;
    ASSERT_TRUE(shard().messaging().enqueue(*record, std::move(message)));
  }
  static mqtt::Connect with_will(std::string_view topic, std::string_view message, bool retain = false,
                                 mqtt::Qos qos = mqtt::Qos::at_least_once) {
    mqtt::Connect packet = connect();
    packet.will = mqtt::Will{topic, message, qos, retain};
    return packet;
  }
};

// --- Telemetry -----------------------------------------------------------------------------------------------------

TEST_F(MqttMessagesTest, TelemetryCountsByQosWithItsProperties) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(publish(std::string{kEvents} + "%24.mid=ab&key=value", "12345", mqtt::Qos::at_least_once));
  session->feed(publish(kEvents, "1"));
  EXPECT_THAT(port.take(), ElementsAre("PUBACK"));
  EXPECT_EQ(counts().telemetry_messages, 2u);
  EXPECT_EQ(counts().telemetry_qos1, 1u);
  EXPECT_EQ(counts().telemetry_qos0, 1u);
  EXPECT_EQ(counts().telemetry_bytes, 6u);
  EXPECT_EQ(counts().telemetry_property_bytes, 2u + 3u + 5u);
}

TEST_F(MqttMessagesTest, BodyAndPropertiesTogetherMayHave256KiB) {
  RecordedPort port;
  auto session = open_quietly(port);
  const std::string topic = std::string{kEvents} + "k=1234";
  session->feed(publish(topic, std::string(262'144 - 5, 'x'), mqtt::Qos::at_least_once));
  EXPECT_FALSE(port.ended);
  EXPECT_EQ(counts().telemetry_messages, 1u);
  session->feed(publish(topic, std::string(262'144 - 4, 'x'), mqtt::Qos::at_least_once));
  EXPECT_TRUE(port.ended);
  EXPECT_EQ(counts().telemetry_messages, 1u);
  EXPECT_EQ(counts().disconnects_protocol, 1u);
}

TEST_F(MqttMessagesTest, AFullBodyWithoutPropertiesIsAccepted) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(publish(kEvents, std::string(262'144, 'x')));
  EXPECT_EQ(counts().telemetry_messages, 1u);
  session->feed(publish(kEvents, std::string(262'145, 'x')));
  EXPECT_TRUE(port.ended);
}

TEST_F(MqttMessagesTest, WhatNoDeviceMayPublishEndsTheConnection) {
  for (const std::string& topic :
       {std::string{kEvents} + "%zz=1", std::string{kEvents} + "=1", std::string{"devices/dev2/messages/events/"},
        std::string{"devices/dev1/modules/m/messages/events/"}, std::string{"$iothub/unknown/?$rid=1"},
        std::string{"devices/dev1/messages/devicebound/x"}, std::string{"$iothub/twin/res/200/?$rid=1"}}) {
    RecordedPort port;
    auto session = open_quietly(port);
    session->feed(publish(topic, "x", mqtt::Qos::at_least_once));
    EXPECT_TRUE(port.ended) << topic;
    EXPECT_THAT(port.take(), IsEmpty()) << topic;
  }
  EXPECT_EQ(counts().telemetry_messages, 0u);
}

TEST_F(MqttMessagesTest, QosTwoEndsTheConnection) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(publish(kEvents, "x", mqtt::Qos::exactly_once));
  EXPECT_TRUE(port.ended);
}

TEST_F(MqttMessagesTest, TheRetainFlagBecomesAProperty) {
  RecordedPort port;
  auto session = open_quietly(port);
  watched();
  session->feed(publish(std::string{kEvents} + "a=1", "x", mqtt::Qos::at_most_once, true));
  EXPECT_THAT(watched(), HasSubstr(R"("properties":{"a":"1","mqtt-retain":"true"})"));
  RecordedPort other;
  auto next = open_quietly(other);
  EXPECT_THAT(other.take(), IsEmpty());  // nothing is retained for later subscribers
}

TEST_F(MqttMessagesTest, AModulesOutputIsTelemetryWithANameAndATrailingSlash) {
  DeviceRecord* module = *register_device(shard(), "dev1", "mod1", {}, clock.wall());
  mqtt::Connect packet = connect("dev1/mod1");
  packet.user_name = "localhost/dev1/mod1/?api-version=2021-04-12";
  RecordedPort port;
  auto session = open_quietly(port, packet);
  std::string seen;
  shard().messaging().watch(*module, seen);
  session->feed(publish("devices/dev1/modules/mod1/messages/events/%24.on=out1&k=v/", "x"));
  seen.clear();
  shard().messaging().watch(*module, seen);
  EXPECT_THAT(seen, HasSubstr(R"("systemProperties":{"outputName":"out1"},"properties":{"k":"v"})"));
  session->feed(publish(kEvents, "x"));  // the device's own topic is someone else's
  EXPECT_TRUE(port.ended);
  session->close(DeviceLink::CloseReason::hub);
}

// --- Will ------------------------------------------------------------------------------------------------------------

TEST_F(MqttMessagesTest, ALostConnectionLeavesItsWillAsTelemetry) {
  RecordedPort port;
  auto session = open_quietly(port, with_will("devices/dev1/messages/events/a=1", "gone", true));
  watched();
  session->close(DeviceLink::CloseReason::client);
  EXPECT_THAT(watched(),
              HasSubstr(R"("properties":{"a":"1","iothub-MessageType":"Will","mqtt-retain":"true"},"bodySize":4)"));
  EXPECT_EQ(counts().telemetry_wills, 1u);
  EXPECT_EQ(counts().telemetry_messages, 1u);
}

TEST_F(MqttMessagesTest, DisconnectCancelsTheWillAndEveryAbnormalEndDoesNot) {
  using Reason = DeviceLink::CloseReason;
  for (const Reason reason :
       {Reason::keep_alive, Reason::take_over, Reason::protocol, Reason::slow_reader, Reason::token_expired}) {
    RecordedPort port;
    open(port, with_will(kEvents, "gone"))->close(reason);
  }
  EXPECT_EQ(counts().telemetry_wills, 5u);
  RecordedPort port;
  auto polite = open(port, with_will(kEvents, "gone"));
  polite->feed(disconnect());
  EXPECT_TRUE(port.ended);
  RecordedPort removed;
  open(removed, with_will(kEvents, "gone"))->close(Reason::hub);
  EXPECT_EQ(counts().telemetry_wills, 5u);
}

TEST_F(MqttMessagesTest, AWillThatCouldNotBePublishedRefusesTheConnect) {
  const auto refused = [&](const mqtt::Connect& packet) {
    const ConnectDecision decision = decide_connect(packet, nullptr, shard());
    EXPECT_EQ(decision.code, mqtt::ConnackCode::not_authorized);
    return decision.reason;
  };
  EXPECT_THAT(refused(with_will("devices/dev2/messages/events/", "x")), HasSubstr("not a telemetry topic"));
  EXPECT_THAT(refused(with_will("last/words", "x")), HasSubstr("'last/words'"));
  EXPECT_THAT(refused(with_will("$iothub/twin/GET/?$rid=1", "x")), HasSubstr("not a telemetry topic"));
  EXPECT_THAT(refused(with_will("devices/dev1/messages/events/%zz", "x")), HasSubstr("malformed"));
  EXPECT_THAT(refused(with_will(kEvents, "x", false, mqtt::Qos::exactly_once)), HasSubstr("QoS 2"));
  EXPECT_THAT(refused(with_will(kEvents, std::string(262'145, 'x'))), HasSubstr("too large"));
}

// --- Cloud to device -----------------------------------------------------------------------------------------------

TEST_F(MqttMessagesTest, MessagesComeOneByOneAsTheyAreAcknowledged) {
  RecordedPort port;
  auto session = open_quietly(port);
  send("one");
  send("two");
  EXPECT_THAT(port.take(), IsEmpty());  // not subscribed yet
  EXPECT_THAT(record->service_twin(), HasSubstr(R"("cloudToDeviceMessageCount":2)"));
  session->feed(subscribe(kDeviceBound, mqtt::Qos::exactly_once));
  EXPECT_THAT(port.take(), ElementsAre("SUBACK", "devices/dev1/messages/devicebound/ one #1"));
  session->feed(puback(1));
  EXPECT_THAT(port.take(), ElementsAre("devices/dev1/messages/devicebound/ two #2"));
  session->feed(puback(1));  // once more: means nothing
  EXPECT_THAT(port.take(), IsEmpty());
  session->feed(puback(2));
  EXPECT_THAT(record->service_twin(), HasSubstr(R"("cloudToDeviceMessageCount":0)"));
  EXPECT_EQ(counts().c2d_enqueued, 2u);
  EXPECT_EQ(counts().c2d_sent, 2u);
  EXPECT_EQ(counts().c2d_completed, 2u);
}

TEST_F(MqttMessagesTest, TheBagIsEncodedAsTheServiceDoes) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(subscribe(kDeviceBound, mqtt::Qos::at_least_once));
  port.take();
  CloudMessage message;
  message.properties.message_id = "abc";
  message.properties.to = "/devices/dev1/messages/devicebound";
  message.properties.application = {{"p1", std::nullopt}, {"p2", ""}, {"p3", "a string"}};
  message.body = "hello";
  ASSERT_TRUE(shard().messaging().enqueue(*record, std::move(message)));
  EXPECT_THAT(port.take(), ElementsAre("devices/dev1/messages/devicebound/"
                                       "%24.mid=abc&%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound&p1&p2=&p3=a%"
                                       "20string hello #1"));
}

TEST_F(MqttMessagesTest, AnUnacknowledgedMessageComesAgainWithDupInTheNextConnection) {
  RecordedPort first_port;
  auto first = open_quietly(first_port);
  first->feed(subscribe(kDeviceBound, mqtt::Qos::at_least_once));
  send("one");
  send("two");
  first->close(DeviceLink::CloseReason::client);
  RecordedPort port;
  auto session = open(port);
  EXPECT_THAT(port.take(), ElementsAre("CONNACK", "devices/dev1/messages/devicebound/ one #1 dup"));
  session->feed(puback(1));
  EXPECT_THAT(port.take(), ElementsAre("devices/dev1/messages/devicebound/ two #2"));
}

TEST_F(MqttMessagesTest, ACleanSessionGetsMessagesOnlyAfterItSubscribes) {
  RecordedPort first_port;
  auto first = open_quietly(first_port);
  first->feed(subscribe(kDeviceBound, mqtt::Qos::at_least_once));
  send("one");
  first->close(DeviceLink::CloseReason::client);
  RecordedPort port;
  auto session = open(port, connect("dev1", true));
  EXPECT_THAT(port.take(), ElementsAre("CONNACK"));
  session->feed(subscribe(kDeviceBound, mqtt::Qos::at_least_once));
  EXPECT_THAT(port.take(), ElementsAre("SUBACK", "devices/dev1/messages/devicebound/ one #2"));  // no DUP
}

TEST_F(MqttMessagesTest, WithQosZeroSendingIsCompleting) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(subscribe(kDeviceBound));
  port.take();
  send("one");
  send("two");
  EXPECT_THAT(port.take(),
              ElementsAre("devices/dev1/messages/devicebound/ one", "devices/dev1/messages/devicebound/ two"));
  EXPECT_EQ(counts().c2d_completed, 2u);
  EXPECT_TRUE(record->messages->empty());
}

TEST_F(MqttMessagesTest, AFullQueueOfLargeMessagesDoesNotMakeASlowReaderOfTheDevice) {
  {
    RecordedPort port;
    auto session = open_quietly(port);
    session->feed(subscribe(kDeviceBound));
    session->close(DeviceLink::CloseReason::client);
  }
  for (size_t i = 0; i < kQueueDepthMax; ++i) send(std::string(60'000, 'x'));
  RecordedPort port;
  auto session = open(port);
  EXPECT_LT(record->messages->size(), kQueueDepthMax);
  for (int sweeps = 0; sweeps < 10 && !record->messages->empty(); ++sweeps) {
    clock.advance(1s);
    shard().messaging().tick(clock.mono());
  }
  EXPECT_EQ(port.take().size(), 1 + kQueueDepthMax);
  EXPECT_LT(port.largest_write, config.max_pending_bytes);
  EXPECT_EQ(counts().c2d_completed, kQueueDepthMax);
}

TEST_F(MqttMessagesTest, MessagesOfARemovedIdentityArePurged) {
  CloudMessage message;
  message.feedback = FeedbackWanted::full;
  message.expires = clock.wall() + 10s;
  ASSERT_TRUE(shard().messaging().enqueue(*record, std::move(message)));
  send("two");
  unregister(shard(), *record);
  EXPECT_EQ(counts().c2d_enqueued, 2u);
  EXPECT_EQ(counts().c2d_purged, 2u);
  EXPECT_EQ(counts().feedback_records, 1u);
  record = *register_device(shard(), "dev1", {}, {}, clock.wall());
  EXPECT_EQ(record->messages, nullptr);
}

TEST_F(MqttMessagesTest, AnExpiredMessageIsNotDeliveredAndReportedWhenAsked) {
  CloudMessage message;
  message.properties.message_id = "m1";
  message.expires = clock.wall() + 10s;
  message.feedback = FeedbackWanted::full;
  ASSERT_TRUE(shard().messaging().enqueue(*record, std::move(message)));
  clock.advance(11s);
  shard().messaging().tick(clock.mono());
  EXPECT_EQ(counts().c2d_expired, 1u);
  EXPECT_THAT(record->service_twin(), HasSubstr(R"("cloudToDeviceMessageCount":0)"));
  const FeedbackQueue::Batch* batch = shard().messaging().feedback().receive("t", clock.wall());
  ASSERT_NE(batch, nullptr);
  EXPECT_EQ(batch->records.at(0).original_message_id, "m1");
  EXPECT_EQ(batch->records.at(0).outcome, MessageOutcome::expired);
  EXPECT_EQ(batch->records.at(0).device_generation_id, record->generation_id);
}

TEST_F(MqttMessagesTest, AModuleGetsItsInputs) {
  DeviceRecord* module = *register_device(shard(), "dev1", "mod1", {}, clock.wall());
  mqtt::Connect packet = connect("dev1/mod1");
  packet.user_name = "localhost/dev1/mod1/?api-version=2021-04-12";
  RecordedPort port;
  auto session = open_quietly(port, packet);
  session->feed(subscribe("devices/dev1/modules/mod1/inputs/#", mqtt::Qos::at_least_once));
  port.take();
  CloudMessage message;
  message.input = "in1";
  message.body = "x";
  message.expires = WallTime::max();
  ASSERT_TRUE(shard().messaging().enqueue(*module, std::move(message)));
  EXPECT_THAT(port.take(), ElementsAre("devices/dev1/modules/mod1/inputs/in1/ x #1"));
  session->feed(subscribe(kDeviceBound));  // the device's, not the module's
  EXPECT_TRUE(port.ended);
}

// --- Direct methods ------------------------------------------------------------------------------------------------

TEST_F(MqttMessagesTest, AMethodGoesToTheDeviceAndItsAnswerComesBack) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(subscribe(protocol::kMethodFilter));
  port.take();
  std::string outcome;
  MethodRequest request;
  request.name = "reboot";
  request.payload = R"({"delay":5})";
  shard().messaging().methods().call(*record, request, clock.mono(), [&](MethodOutcome answer) {
    outcome = fmt::format("{} {}", answer->status, answer->payload);
  });
  EXPECT_THAT(port.take(), ElementsAre(R"($iothub/methods/POST/reboot/?$rid=1 {"delay":5})"));
  session->feed(publish("$iothub/methods/res/200/?$rid=1", R"({"ok":true})"));
  EXPECT_EQ(outcome, R"(200 {"ok":true})");
  EXPECT_FALSE(port.ended);
  session->feed(publish("$iothub/methods/res/200/?$rid=1", "again"));  // unused, but no offence
  EXPECT_FALSE(port.ended);
  EXPECT_EQ(counts().method_answers_unused, 1u);
}

TEST_F(MqttMessagesTest, ADeviceMayAnswerWithAnyNumber) {
  RecordedPort port;
  auto session = open_quietly(port);
  session->feed(subscribe(protocol::kMethodFilter));
  int status = 0;
  MethodRequest request;
  request.name = "m";
  request.payload = "null";
  shard().messaging().methods().call(*record, request, clock.mono(),
                                     [&](MethodOutcome answer) { status = answer->status; });
  session->feed(publish("$iothub/methods/res/-7/?$rid=1", R"("no")"));
  EXPECT_EQ(status, -7);
  EXPECT_FALSE(port.ended);
}

TEST_F(MqttMessagesTest, AWaitingMethodGoesOutWithTheSubscriptionOrTheStoredSession) {
  const auto call = [&] {
    MethodRequest request;
    request.name = "m";
    request.payload = "null";
    request.connect_timeout = 10s;
    shard().messaging().methods().call(*record, request, clock.mono(), [](const MethodOutcome&) {});
  };
  call();
  RecordedPort port;
  auto session = open(port);
  EXPECT_THAT(port.take(), ElementsAre("CONNACK"));
  session->feed(subscribe(protocol::kMethodFilter) + subscribe(protocol::kTwinResponseFilter));
  EXPECT_THAT(port.take(), ElementsAre("SUBACK", "$iothub/methods/POST/m/?$rid=1 null", "SUBACK"));
  session->close(DeviceLink::CloseReason::client);
  call();
  RecordedPort again_port;
  auto again = open(again_port);
  EXPECT_THAT(again_port.take(), ElementsAre("CONNACK", "$iothub/methods/POST/m/?$rid=2 null"));
}

// --- Session rules -------------------------------------------------------------------------------------------------

TEST_F(MqttMessagesTest, MoreThanFiveFiltersInOnePacketEndTheConnection) {
  RecordedPort port;
  auto session = open_quietly(port);
  std::vector<mqtt::Subscription> filters(5, {protocol::kMethodFilter, mqtt::Qos::exactly_once});
  std::string packet;
  mqtt::encode_subscribe(packet, 1, filters);
  session->feed(packet);
  EXPECT_EQ(port.written, std::string("\x90\x07\x00\x01\x01\x01\x01\x01\x01", 9));  // QoS 2 is granted 1
  filters.push_back(filters.front());
  packet.clear();
  mqtt::encode_subscribe(packet, 2, filters);
  session->feed(packet);
  EXPECT_TRUE(port.ended);
}

TEST_F(MqttMessagesTest, ForeignAndWildFiltersEndTheConnection) {
  for (const char* filter :
       {"#", "+/#", "$iothub/#", "$iothub/twin/+/#", "devices/dev2/messages/devicebound/#",
        "devices/+/messages/devicebound/#", "devices/dev1/messages/events/#", "devices/dev1/modules/m/inputs/#"}) {
    RecordedPort port;
    auto session = open_quietly(port);
    session->feed(subscribe(filter));
    EXPECT_TRUE(port.ended) << filter;
    EXPECT_THAT(port.take(), IsEmpty()) << filter;
  }
}

TEST_F(MqttMessagesTest, TheModelIdShowsInTheTwin) {
  mqtt::Connect packet = connect();
  packet.user_name = "localhost/dev1/?api-version=2021-04-12&model-id=dtmi:com:ex;1&DeviceClientType=x";
  RecordedPort port;
  auto session = open(port, packet);
  EXPECT_THAT(record->service_twin(), HasSubstr(R"("modelId":"dtmi:com:ex;1")"));
}

TEST_F(MqttMessagesTest, OldApiVersionsHaveNoArraysAndNoneHasNoTwin) {
  const auto answer = [&](std::string_view parameters) {
    mqtt::Connect packet = connect();
    const std::string user = "localhost/dev1/" + std::string{parameters};
    packet.user_name = user;
    RecordedPort port;
    auto session = open(port, packet);
    session->feed(subscribe(protocol::kTwinResponseFilter));
    port.take();
    session->feed(publish("$iothub/twin/PATCH/properties/reported/?$rid=1", R"({"a":{"b":[1]}})"));
    const auto packets = port.take();
    return packets.empty() ? std::string{} : packets.front();
  };
  EXPECT_THAT(answer("?api-version=2021-04-12"), HasSubstr("res/204/"));
  EXPECT_THAT(answer("?api-version=2019-10-01"), HasSubstr("res/204/"));
  EXPECT_THAT(answer("?api-version=2018-06-30"), HasSubstr("arrays are not supported before api-version 2019-10-01"));
  EXPECT_THAT(answer(""), HasSubstr("res/400/"));
  EXPECT_THAT(answer("?api-version=latest"), HasSubstr("res/400/"));
}

TEST_F(MqttMessagesTest, AHubThatDoesNotServeAnswersThree) {
  shared.serving = false;
  EXPECT_EQ(decide_connect(connect(), nullptr, shard()).code, mqtt::ConnackCode::server_unavailable);
}

TEST_F(MqttMessagesTest, ATokenEndsItsConnectionAfterTheGrace) {
  config.check_sas = true;
  access.emplace(*AccessControl::make(config));
  const int64_t expiry = unix_seconds(clock.wall()) + 60;
  const std::string token =
      protocol::make_sas_token("localhost/devices/dev1", *protocol::base64_decode(record->primary_key), expiry);
  mqtt::Connect packet = connect();
  packet.keep_alive_seconds = 0;
  packet.password = token;
  RecordedPort port;
  auto session = open(port, packet);
  EXPECT_EQ(session->deadline(), clock.mono() + 60s + config.token_grace);
  clock.advance(64s);
  session->check_deadline(clock.mono());
  EXPECT_FALSE(port.ended);
  clock.advance(1s);
  session->check_deadline(clock.mono());
  EXPECT_TRUE(port.ended);
  EXPECT_EQ(counts().disconnects_token_expired, 1u);
  EXPECT_EQ(decide_connect(packet, nullptr, shard()).code, mqtt::ConnackCode::not_authorized);
}

TEST_F(MqttMessagesTest, EveryEndIsCountedOnce) {
  using Reason = DeviceLink::CloseReason;
  for (const Reason reason : {Reason::goodbye, Reason::client, Reason::keep_alive, Reason::take_over, Reason::protocol,
                              Reason::slow_reader, Reason::token_expired, Reason::hub}) {
    RecordedPort port;
    auto session = open(port);
    session->close(reason);
    session->close(Reason::hub);  // means nothing any more
  }
  const HubCounts c = counts();
  EXPECT_EQ(c.disconnects, 8u);
  EXPECT_EQ(c.disconnects_client, 2u);
  EXPECT_EQ(c.disconnects_client + c.disconnects_keep_alive + c.disconnects_take_over + c.disconnects_protocol +
                c.disconnects_slow_reader + c.disconnects_token_expired + c.disconnects_hub,
            c.disconnects);
}

TEST(TakeOverDamperTest, AFewAreFreeThenEachWaitsLongerUntilThereIsCalm) {
  TakeOverDamper damper;
  MonoTime now{1000s};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(damper.delay(now), Nanos::zero());
    damper.count(now);
    now += 1ms;
  }
  EXPECT_EQ(damper.delay(now), 100ms);
  damper.count(now);
  EXPECT_EQ(damper.delay(now), 200ms);
  for (int i = 0; i < 100; ++i) damper.count(now);
  EXPECT_EQ(damper.delay(now), 5s);
  now += 11s;
  EXPECT_EQ(damper.delay(now), Nanos::zero());
  damper.count(now);
  EXPECT_EQ(damper.delay(now), Nanos::zero());
}

}  // namespace
}  // namespace twinstorm::hub
