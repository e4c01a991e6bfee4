// A device on MQTT 3.1.1: the sans-I/O session on any of the streams.
#pragma once

#include <memory>

#include "sim/net/tcp_stream.hpp"
#include "sim/net/tls_stream.hpp"
#include "sim/net/ws_stream.hpp"
#include "sim/protocol/mqtt/client_session.hpp"
#include "sim/transport/device_transport.hpp"

namespace twinstorm::transport {

/// Part of every simulated device, so its size is pinned below. Created once per device and reused by every reconnect.
template <class Stream>
class BasicMqttTransport final : public DeviceTransport, private net::StreamEvents {
 public:
  /// `events` and `clock` outlive the link. The first packet identifier depends on the device, so that links do not
  /// move in step.
  BasicMqttTransport(net::ShardIo& io, const Clock& clock, TransportEvents& events, LocalDevice device);

  void connect(const LinkTarget& target, Nanos timeout) override;
  std::string_view refusal_text() const override { return stream_.error_text(); }
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
  struct Handler;

  void on_stream_connected() override;
  size_t on_stream_bytes(std::string_view bytes) override;
  void on_stream_ended(net::StreamEnd end) override;
  void refuse(ConnectRefusal refusal, std::string_view text);
  void fail(DisconnectReason reason);
  Sent flush(const protocol::ByteWriter& out);

  Stream stream_;
  mqtt::ClientSession session_;
  const Clock& clock_;
  TransportEvents& events_;
  LocalDevice device_;
  uint32_t timeout_ms_ = 0;
  uint8_t subacks_missing_ = 0;
  bool granted_ = true;
};

using MqttTransport = BasicMqttTransport<net::TcpStream>;
using MqttTlsTransport = BasicMqttTransport<net::TlsStream>;
using MqttWsTransport = BasicMqttTransport<net::WsStream<net::TcpStream>>;
using MqttWssTransport = BasicMqttTransport<net::WsStream<net::TlsStream>>;
extern template class BasicMqttTransport<net::TcpStream>;
extern template class BasicMqttTransport<net::TlsStream>;
extern template class BasicMqttTransport<net::WsStream<net::TcpStream>>;
extern template class BasicMqttTransport<net::WsStream<net::TlsStream>>;
static_assert(sizeof(MqttTransport) <= 160, "a link is part of every idle device");
static_assert(sizeof(MqttTlsTransport) <= 176, "a link is part of every idle device");
static_assert(sizeof(MqttWsTransport) <= 216, "a link is part of every idle device");
static_assert(sizeof(MqttWssTransport) <= 232, "a link is part of every idle device");

/// Which stream MQTT stands on.
enum class MqttCarrier : uint8_t { tcp, tls, ws, wss };
constexpr MqttCarrier carrier(bool websocket, bool tls) {
  return websocket ? (tls ? MqttCarrier::wss : MqttCarrier::ws) : (tls ? MqttCarrier::tls : MqttCarrier::tcp);
}
/// The link of that kind; parameters as of BasicMqttTransport. What a carrier needs is in the LinkTarget of `connect`.
std::unique_ptr<DeviceTransport> make_mqtt_transport(MqttCarrier carrier, net::ShardIo& io, const Clock& clock,
                                                     TransportEvents& events, LocalDevice device);

}  // namespace twinstorm::transport
