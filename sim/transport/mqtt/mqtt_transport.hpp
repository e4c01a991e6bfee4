// A device on MQTT 3.1.1 over TCP: the sans-I/O session on a stream.
#pragma once

#include "sim/net/tcp_stream.hpp"
#include "sim/protocol/mqtt/client_session.hpp"
#include "sim/transport/device_transport.hpp"

namespace twinstorm::transport {

/// Part of every simulated device, so its size is pinned below. Created once per device and reused by every reconnect.
class MqttTransport final : public DeviceTransport, private net::StreamEvents {
 public:
  /// `events` and `clock` outlive the link. The first packet identifier depends on the device, so that links do not
  /// move in step.
  MqttTransport(net::ShardIo& io, const Clock& clock, TransportEvents& events, LocalDevice device);

  void connect(const LinkTarget& target, Nanos timeout) override;
  Sent subscribe(Subscriptions set, DeviceName name) override;
  Sent unsubscribe(Subscriptions set, DeviceName name) override;
  Sent get_twin(uint32_t request) override;
  Sent report(uint32_t request, std::string_view patch) override;
  Sent send_telemetry(const Telemetry& telemetry, uint16_t& message) override;
  void forget_telemetry(uint16_t message) override { session_.release_packet_id(message); }
  Sent send_method_response(std::string_view rid, int status, std::string_view payload) override;
  void disconnect() override;
  void abort() override;
  MonoTime next_deadline() const override { return session_.next_deadline(); }
  void on_time(MonoTime now) override;

 private:
  friend struct MqttTransportHandler;

  void on_stream_connected() override;
  size_t on_stream_bytes(std::string_view bytes) override;
  void on_stream_ended(net::StreamEnd end) override;
  void fail(DisconnectReason reason);
  Sent flush(const protocol::ByteWriter& out);

  net::TcpStream stream_;
  mqtt::ClientSession session_;
  const Clock& clock_;
  TransportEvents& events_;
  LocalDevice device_;
  uint32_t timeout_ms_ = 0;
  uint8_t subacks_missing_ = 0;
  bool granted_ = true;
};
static_assert(sizeof(MqttTransport) <= 160, "a link is part of every idle device");

}  // namespace twinstorm::transport
