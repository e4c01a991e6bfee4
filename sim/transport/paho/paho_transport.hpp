// A device on Paho MQTT C++: `engine: paho`. Same conversation as the native transport, somebody else's client.
//
// Paho calls back on its own thread; each event is handed to the shard's loop as plain data, and everything below runs
// there. An event of a connection that was closed meanwhile is dropped: it names the connection it belongs to, and what
// is posted never keeps the transport alive.
//
// Limits: a few hundred devices (see paho_client.hpp); SAS only, because Paho reads client certificates from files; a
// cut looks like an orderly DISCONNECT to the hub; bytes are not counted; keep-alive is Paho's own.
#pragma once

#include <memory>
#include <string>

#include "sim/net/shard_io.hpp"
#include "sim/transport/device_transport.hpp"
#include "sim/transport/paho/paho_client.hpp"

namespace twinstorm::transport {

class PahoTransport final : public DeviceTransport {
 public:
  /// `io` and `events` outlive the transport.
  PahoTransport(net::ShardIo& io, TransportEvents& events, LocalDevice device, PahoLink link);
  ~PahoTransport() override;

  /// Connecting may take a second longer than the network does. `timeout` is rounded down to seconds, at least one.
  void connect(const LinkTarget& target, Nanos timeout) override;
  std::string_view refusal_text() const override { return refusal_text_; }
  Sent subscribe(Subscriptions set, DeviceName name) override;
  Sent unsubscribe(Subscriptions set, DeviceName name) override;
  Sent get_twin(uint32_t request) override;
  Sent report(uint32_t request, std::string_view patch) override;
  Sent send_telemetry(const Telemetry& telemetry, uint16_t& message) override;
  Sent send_method_response(std::string_view rid, int status, std::string_view payload) override;
  void disconnect() override;
  void abort() override;
  MonoTime next_deadline() const override { return MonoTime::max(); }
  void on_time(MonoTime) override {}

 private:
  /// Lives as long as the transport; what Paho's thread posts holds it weakly.
  struct Anchor {
    PahoTransport* transport;
  };
  enum class State : uint8_t { closed, connecting, connected };

  void handle(PahoEvent&& event);
  void handle_message(const PahoEvent& event);
  void refuse(ConnectRefusal refusal, std::string text);

  net::ShardIo& io_;
  TransportEvents& events_;
  LocalDevice device_;
  PahoLink link_;
  std::shared_ptr<PahoLibrary> library_;
  std::shared_ptr<Anchor> anchor_;
  std::unique_ptr<PahoClient> client_;
  std::string refusal_text_;
  uint32_t attempt_ = 0;  // of `connect`: events of earlier ones are dropped
  State state_ = State::closed;
  uint8_t subscriptions_open_ = 0;
  bool granted_ = true;
};

}  // namespace twinstorm::transport
