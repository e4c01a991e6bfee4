// A socket that speaks MQTT: reads CONNECT wherever it was accepted, moves to the shard that owns the device, and
// carries its session there.
#pragma once

#include <optional>
#include <string>

#include "sim/hub/connection.hpp"
#include "sim/hub/frontends/mqtt/mqtt_session.hpp"

namespace twinstorm::hub {

class MqttConnection final : public Connection, private MqttPort {
 public:
  /// `received`: bytes another shard has read already.
  MqttConnection(Shard& shard, Channel channel, std::string received = {});

 private:
  void on_start() override;
  size_t on_bytes(std::string_view bytes) override;
  void on_peer_gone() override { lose(DeviceLink::CloseReason::client); }
  void on_broken_framing() override { lose(DeviceLink::CloseReason::protocol); }
  MonoTime on_deadline(MonoTime now) override;
  void on_wake(MonoTime now) override;
  void on_shutdown() override { lose(DeviceLink::CloseReason::hub); }
  void on_slow_reader() override { lose(DeviceLink::CloseReason::slow_reader); }
  size_t backlog_limit() const override { return shard().config().max_pending_bytes; }

  void write(std::string_view bytes) override { send(bytes); }
  void end() override { Connection::close(); }
  void wake_at(MonoTime at) override { shard().wake(id(), at); }
  void stop_reading() override { pause(); }

  size_t on_connect(std::string_view bytes);
  /// True when the CONNECT has to wait because the identity is being fought for (TakeOverDamper).
  bool hold(const DeviceRecord& record);
  /// True when the CONNECT has to wait, or is refused, because of the rates of the hub's tier.
  bool limit();
  void wait(Nanos delay);
  void refuse(mqtt::ConnackCode code, std::string_view reason);
  void move_to(Shard& owner, std::string_view bytes);
  void lose(DeviceLink::CloseReason reason);

  std::string received_;
  std::optional<MqttSession> session_;
  bool refused_ = false;
  bool held_ = false;
  bool admitted_ = false;  // by the tier's rates
};

}  // namespace twinstorm::hub
