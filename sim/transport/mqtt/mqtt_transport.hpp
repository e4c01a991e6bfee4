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
  Sent subscribe() override;
  Sent get_twin(uint32_t request) override;
  Sent report(uint32_t request, std::string_view patch) override;
  Sent send_telemetry(std::string_view device_id, std::string_view payload, uint16_t& message) override;
  void forget_telemetry(uint16_t message) override { session_.release_packet_id(message); }
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
  uint8_t subacks_ = 0;
  bool granted_ = true;
};
static_assert(sizeof(MqttTransport) <= 160, "a link is part of every idle device");

}  // namespace twinstorm::transport
