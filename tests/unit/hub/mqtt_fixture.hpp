// A shard without a thread, a device, and MQTT sessions that write into memory; the clock stands still.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/frontends/mqtt/mqtt_session.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::hub {
class RecordedPort final : public MqttPort {
 public:
  void write(std::string_view bytes) override {
    written.append(bytes);
    largest_write = std::max(largest_write, bytes.size());
    if (after_write) after_write();
  }
  void end() override { ended = true; }
  void wake_at(MonoTime at) override { wakes.push_back(at); }
  void stop_reading() override { reading = false; }
  /// Topics and payloads written since the last call, with ` #id` for QoS 1 and ` dup`; other packets by their name.
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
      std::string line = std::string{publish->topic} + " " + std::string{publish->payload};
      if (publish->qos == mqtt::Qos::at_least_once) line += " #" + std::to_string(publish->packet_id);
      if (publish->dup) line += " dup";
      packets.push_back(std::move(line));
    }
    written.clear();
    return packets;
  }

  std::string written;
  size_t largest_write = 0;
  std::function<void()> after_write;
  bool ended = false;
  bool reading = true;
  std::vector<MonoTime> wakes;
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
  static std::string subscribe(std::string_view filter, mqtt::Qos qos = mqtt::Qos::at_most_once) {
    std::string out;
    const mqtt::Subscription wanted{filter, qos};
    mqtt::encode_subscribe(out, 1, {&wanted, 1});
    return out;
  }
  static std::string publish(std::string_view topic, std::string_view payload, mqtt::Qos qos = mqtt::Qos::at_most_once,
                             bool retain = false) {
    std::string out;
    mqtt::encode_publish(out, topic, payload, qos, qos == mqtt::Qos::at_most_once ? 0 : 7, retain);
    return out;
  }
  static std::string puback(uint16_t packet_id) {
    std::string out;
    mqtt::encode_puback(out, packet_id);
    return out;
  }
  static std::string disconnect() {
    std::string out;
    mqtt::encode_disconnect(out);
    return out;
  }
  HubCounts counts() { return shard().counts().read(); }
  /// Telemetry of the device since the last call, as JSON; the first call starts the watch.
  std::string watched() {
    std::string out;
    EXPECT_TRUE(shard().messaging().watch(*record, out));
    return out;
  }

  HubConfig config;
  std::optional<AccessControl> access;
  ManualClock clock;
  HubShared shared;
  DeviceRecord* record = nullptr;
};

}  // namespace twinstorm::hub
