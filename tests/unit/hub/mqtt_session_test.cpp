// One MQTT conversation with scripted bytes: no socket, no thread, a clock that stands still.
#include "mqtt_fixture.hpp"

namespace twinstorm::hub {
namespace {

using ::testing::HasSubstr;

TEST_F(MqttSessionTest, AnswersAllPacketsOfOneReadAtOnce) {
  RecordedPort port;
  auto session = open(port);
  EXPECT_THAT(port.take(), ::testing::ElementsAre("CONNACK"));
  const std::string bytes = subscribe(protocol::kTwinResponseFilter) + publish("$iothub/twin/GET/?$rid=1", " ") +
                            publish("$iothub/twin/PATCH/properties/reported/?$rid=2", R"({"a":1})");
  EXPECT_EQ(session->feed(bytes), bytes.size());
  EXPECT_THAT(port.take(),
              ::testing::ElementsAre(
                  "SUBACK", R"($iothub/twin/res/200/?$rid=1 {"desired":{"$version":1},"reported":{"$version":1}})",
                  "$iothub/twin/res/204/?$rid=2&$version=2 "));
}

TEST_F(MqttSessionTest, ManyLargeAnswersAreNotGatheredInMemory) {
  RecordedPort port;
  auto session = open(port);
  session->feed(subscribe(protocol::kTwinResponseFilter) +
                publish("$iothub/twin/PATCH/properties/reported/?$rid=1",
                        R"({"a":")" + std::string(4000, 'x') + R"(","b":")" + std::string(4000, 'y') + R"("})"));
  port.take();
  constexpr size_t kGets = 1000;
  std::string gets;
  for (size_t i = 0; i < kGets; ++i) gets += publish("$iothub/twin/GET/?$rid=2", " ");
  EXPECT_EQ(session->feed(gets), gets.size());
  EXPECT_EQ(port.take().size(), kGets);
  EXPECT_LT(port.largest_write, 80u * 1024);

  // A device that does not read any of it: writing ends the session in the middle of what it sent.
  int writes = 0;
  port.after_write = [&] {
    if (++writes == 2) session->close(DeviceLink::CloseReason::slow_reader);
  };
  EXPECT_LT(session->feed(gets), gets.size());
  EXPECT_EQ(writes, 2);
  EXPECT_TRUE(session->ended());
  EXPECT_EQ(counts().disconnects, 1u);
  EXPECT_EQ(counts().disconnects_slow_reader, 1u);
}

TEST_F(MqttSessionTest, LeavesAnIncompletePacketAlone) {
  RecordedPort port;
  auto session = open(port);
  const std::string bytes = publish("devices/dev1/messages/events/", "payload");
  EXPECT_EQ(session->feed(bytes.substr(0, bytes.size() - 1)), 0u);
  EXPECT_EQ(session->feed(bytes), bytes.size());
  EXPECT_EQ(shard().counts().read().telemetry_messages, 1u);
}

TEST_F(MqttSessionTest, WhatCameBeforeAViolationIsStillAnswered) {
  RecordedPort port;
  auto session = open(port);
  session->feed(subscribe(protocol::kTwinResponseFilter));
  port.take();
  session->feed(publish("$iothub/twin/GET/?$rid=1", " ") + publish("not/allowed", "x"));
  EXPECT_EQ(port.take().size(), 1u);
  EXPECT_TRUE(port.ended);
  EXPECT_EQ(record->link, nullptr);
  EXPECT_EQ(record->twin.connection_state, twin::ConnectionState::disconnected);
  EXPECT_EQ(shard().counts().read().disconnects_protocol, 1u);
}

TEST_F(MqttSessionTest, TheClientIdMustBeTheDeviceOfTheUserName) {
  const ConnectDecision other = decide_connect(connect("dev2"), nullptr, shard());
  EXPECT_EQ(other.code, mqtt::ConnackCode::not_authorized);
  EXPECT_THAT(other.reason, HasSubstr("'dev2'"));
  mqtt::Connect nameless = connect();
  nameless.user_name.reset();
  EXPECT_EQ(decide_connect(nameless, nullptr, shard()).code, mqtt::ConnackCode::not_authorized);
  record->twin.status = twin::DeviceStatus::disabled;
  EXPECT_THAT(decide_connect(connect(), nullptr, shard()).reason, HasSubstr("disabled"));
}

TEST_F(MqttSessionTest, KeepsTheSessionOfADeviceThatAskedForIt) {
  RecordedPort port;
  auto first = open(port);
  first->feed(subscribe(protocol::kDesiredFilter));
  first->close(DeviceLink::CloseReason::client);
  EXPECT_TRUE(decide_connect(connect(), nullptr, shard()).session_present);
  EXPECT_EQ(record->subscriptions, kDesired);
  EXPECT_FALSE(decide_connect(connect("dev1", true), nullptr, shard()).session_present);
  RecordedPort clean_port;
  auto clean = open(clean_port, connect("dev1", true));
  EXPECT_EQ(record->subscriptions, 0);
  clean->feed(subscribe(protocol::kDesiredFilter));
  clean->close(DeviceLink::CloseReason::client);
  EXPECT_EQ(record->subscriptions, 0);
  EXPECT_FALSE(decide_connect(connect(), nullptr, shard()).session_present);
}

TEST_F(MqttSessionTest, TakeOverEndsTheOlderConnectionFirst) {
  RecordedPort older_port;
  RecordedPort newer_port;
  auto older = open(older_port);
  auto newer = open(newer_port);
  EXPECT_TRUE(older_port.ended);
  EXPECT_TRUE(older->ended());
  EXPECT_EQ(record->link, newer.get());
  EXPECT_EQ(record->twin.connection_state, twin::ConnectionState::connected);
  EXPECT_EQ(shard().counts().read().connected_devices, 1u);
}

TEST_F(MqttSessionTest, NotificationsGoToSubscribersOnly) {
  RecordedPort port;
  auto session = open(port);
  port.take();
  const auto patch = [&] {
    const auto body = twin::parse_body(R"({"properties":{"desired":{"a":null,"b":{"c":1}}}})");
    ASSERT_TRUE(patch_twin(*record, *body, clock.wall()));
  };
  patch();
  EXPECT_TRUE(port.take().empty());
  session->feed(subscribe(protocol::kDesiredFilter));
  port.take();
  patch();
  EXPECT_THAT(port.take(),
              ::testing::ElementsAre(
                  R"($iothub/twin/PATCH/properties/desired/?$version=3 {"a":null,"b":{"c":1},"$version":3})"));
}

TEST_F(MqttSessionTest, PatienceIsOneAndAHalfKeepAlives) {
  RecordedPort port;
  auto session = open(port);
  EXPECT_EQ(session->silent_until(), clock.mono() + std::chrono::seconds{15});
  clock.advance(std::chrono::seconds{9});
  std::string ping;
  mqtt::encode_pingreq(ping);
  session->feed(ping);
  EXPECT_EQ(session->silent_until(), clock.mono() + std::chrono::seconds{15});

  mqtt::Connect patient = connect();
  patient.keep_alive_seconds = 60'000;
  RecordedPort patient_port;
  auto capped = open(patient_port, patient);
  EXPECT_EQ(capped->silent_until(), clock.mono() + std::chrono::seconds{1767});
}

TEST_F(MqttSessionTest, ActivityShowsInTheTwin) {
  RecordedPort port;
  auto session = open(port);
  EXPECT_THAT(record->service_twin(),
              HasSubstr(R"("connectionState":"Connected","lastActivityTime":"2023-11-14T22:13:20Z")"));
  clock.advance(std::chrono::seconds{5});
  session->feed(publish("devices/dev1/messages/events/", "x"));
  EXPECT_THAT(record->service_twin(), HasSubstr(R"("lastActivityTime":"2023-11-14T22:13:25Z")"));
}

}  // namespace
}  // namespace twinstorm::hub
