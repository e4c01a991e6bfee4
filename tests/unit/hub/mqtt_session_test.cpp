// One MQTT conversation with scripted bytes: no socket, no thread, a clock that stands still.
#include "sim/hub/frontends/mqtt/mqtt_session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::hub {
namespace {

using ::testing::HasSubstr;

class RecordedPort final : public MqttPort {
 public:
  void write(std::string_view bytes) override { written.append(bytes); }
  void end() override { ended = true; }
  /// Topics and payloads written since the last call; other packets by their name.
  std::vector<std::string> take() {
    std::vector<std::string> packets;
    std::string_view rest = written;
    while (!rest.empty()) {
      const auto frame = mqtt::next_frame(rest);
      if (frame.status != mqtt::FrameStatus::complete) {
        packets.push_back("garbage");
        break;
      }
      rest.remove_prefix(frame.size);
      if (frame.type != mqtt::PacketType::publish) {
        packets.push_back(mqtt::to_string(frame.type));
        continue;
      }
      const auto publish = mqtt::decode_publish(frame.flags, frame.body);
      packets.push_back(std::string{publish->topic} + " " + std::string{publish->payload});
    }
    written.clear();
    return packets;
  }

  std::string written;
  bool ended = false;
};

class MqttSessionTest : public ::testing::Test {
 protected:
  MqttSessionTest() {
    config.check_sas = false;
    config.policies = with_keys(default_policies());
    access.emplace(*AccessControl::make(config));
    shared.config = &config;
    shared.access = &*access;
    shared.clock = &clock;
    shared.shards.push_back(std::make_unique<Shard>(ShardId{0}, shared));
    record = *register_device(shard(), "dev1", {}, {}, clock.wall());
  }
  ~MqttSessionTest() override {
    if (record->link != nullptr) record->link->close(DeviceLink::CloseReason::hub);
  }
  Shard& shard() { return *shared.shards.front(); }

  static mqtt::Connect connect(std::string_view client_id = "dev1", bool clean = false) {
    mqtt::Connect packet;
    packet.client_id = client_id;
    packet.keep_alive_seconds = 10;
    packet.clean_session = clean;
    packet.user_name = "localhost/dev1/?api-version=2021-04-12";
    packet.password = "any";
    return packet;
  }
  std::unique_ptr<MqttSession> open(RecordedPort& port, const mqtt::Connect& packet = connect()) {
    const ConnectDecision decision = decide_connect(packet, nullptr, shard());
    EXPECT_EQ(decision.code, mqtt::ConnackCode::accepted) << decision.reason;
    auto session = std::make_unique<MqttSession>(shard(), port, packet, decision);
    session->begin();
    return session;
  }
  static std::string subscribe(std::string_view filter) {
    std::string out;
    const mqtt::Subscription wanted{filter, mqtt::Qos::at_most_once};
    mqtt::encode_subscribe(out, 1, {&wanted, 1});
    return out;
  }
  static std::string publish(std::string_view topic, std::string_view payload) {
    std::string out;
    mqtt::encode_publish(out, topic, payload);
    return out;
  }

  HubConfig config;
  std::optional<AccessControl> access;
  ManualClock clock;
  HubShared shared;
  DeviceRecord* record = nullptr;
};

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
