// One device's conversation with a hub, in the same shape for every protocol: what a device can ask, and what it is
// told.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/net/asio.hpp"
#include "sim/net/tls.hpp"

namespace twinstorm::transport {

/// Position of a device within its shard.
using LocalDevice = uint32_t;

/// Where the devices of a run connect. Shared, read-only.
struct LinkTarget {
  net::Endpoint endpoint;
  std::string host_name;  ///< as in the user name and the SAS resource, without port
  // For links over TLS.
  const net::TlsContext* tls = nullptr;  ///< outlives the links
  std::string server_name{};             ///< that the certificate must carry, and SNI; empty = `host_name`
  // For links over WebSocket.
  std::string websocket_host{};  ///< the `Host` header; empty = `host_name`
  std::string websocket_path = "/$iothub/websocket";
  std::vector<net::Address> sources{};  ///< device i of a shard connects from i mod size; empty: the system chooses

  const std::string& verified_name() const { return server_name.empty() ? host_name : server_name; }
};

/// Whose topics: a device, or one of its modules when `module_id` is not empty. Views.
struct DeviceName {
  std::string_view device_id;
  std::string_view module_id{};
};

/// What a device may subscribe to; sets are made with `|`.
enum class Subscriptions : uint8_t {
  none = 0,
  twin_responses = 1,
  desired = 2,
  methods = 4,
  devicebound = 8,  ///< cloud-to-device messages; devices only, modules have none
  twin = twin_responses | desired,
};
constexpr Subscriptions operator|(Subscriptions a, Subscriptions b) {
  return static_cast<Subscriptions>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr bool contains(Subscriptions set, Subscriptions one) {
  return (static_cast<uint8_t>(set) & static_cast<uint8_t>(one)) == static_cast<uint8_t>(one);
}

/// One device-to-cloud message. Views.
struct Telemetry {
  DeviceName from;
  std::string_view payload;
  std::string_view bag{};  ///< encoded properties (sim/protocol/topics.hpp), may be empty
};

/// What CONNECT says about a device; assembled when it is needed and never stored per device.
struct Identity {
  std::string client_id;
  std::string user_name;
  std::string password;  ///< SAS token; empty: none is sent (X.509)
  uint16_t keep_alive_seconds = 240;
  void clear() { client_id.clear(), user_name.clear(), password.clear(); }
};

/// Why a connection attempt ended without a connection.
enum class ConnectRefusal : uint8_t {
  unreachable,   ///< TCP connect failed
  closed,        ///< the peer closed before it answered
  unavailable,   ///< CONNACK 3
  unauthorized,  ///< CONNACK 4 or 5
  rejected,      ///< CONNACK 1 or 2
  protocol,      ///< the answer made no sense
  untrusted,     ///< TLS: the server's certificate was not accepted by us
  handshake,     ///< TLS: any other failure before the connection stood
  upgrade,       ///< WebSocket: the server did not answer 101, or not as it must
};

/// Why an established connection ended without our asking.
enum class DisconnectReason : uint8_t {
  hub_closed,  ///< orderly end of the hub's bytes
  keep_alive,  ///< PINGRESP missing
  protocol,    ///< the hub's bytes made no sense
  io,          ///< reset or another socket error
};

/// The answer to a twin request.
struct TwinResponse {
  int status = 0;
  uint32_t request = 0;            ///< `$rid`
  std::optional<int64_t> version;  ///< `$version` of an accepted reported patch
  std::string_view body;           ///< valid during the call
};

/// What a link tells its owner, on the shard's thread. The owner may close the link inside any call.
class TransportEvents {
 public:
  /// Asked when the bytes of CONNECT are needed: fill the cleared `identity`.
  virtual void identify(LocalDevice device, Identity& identity) = 0;
  /// Asked by `connect` of a link over TLS: what the device shows when the server asks for a certificate; null =
  /// nothing. Read before `connect` returns.
  virtual const net::CertifiedKey* client_certificate(LocalDevice device) {
    static_cast<void>(device);
    return nullptr;
  }
  /// `session_present`: the hub kept the subscriptions of an earlier connection (MQTT-3.2.2-2).
  virtual void on_connected(LocalDevice device, bool session_present) = 0;
  /// `DeviceTransport::refusal_text` tells more, during this call.
  virtual void on_connect_refused(LocalDevice device, ConnectRefusal refusal) = 0;
  /// Everything asked for with `subscribe` is answered; `granted` is false when the hub refused one.
  virtual void on_subscribed(LocalDevice device, bool granted) = 0;
  virtual void on_twin_response(LocalDevice device, const TwinResponse& response) = 0;
  virtual void on_desired(LocalDevice device, int64_t version, std::string_view patch) = 0;
  virtual void on_telemetry_acknowledged(LocalDevice device, uint16_t message) = 0;
  /// A direct method: answer with `send_method_response`, with `rid` as it stands. Views are valid during the call.
  virtual void on_method(LocalDevice device, std::string_view name, std::string_view rid, std::string_view payload) {
    static_cast<void>(device), static_cast<void>(name), static_cast<void>(rid), static_cast<void>(payload);
  }
  /// A cloud-to-device message, already acknowledged when it asked for it (as the SDK does over MQTT). `bag`: the raw
  /// property bag.
  virtual void on_message(LocalDevice device, std::string_view bag, std::string_view payload) {
    static_cast<void>(device), static_cast<void>(bag), static_cast<void>(payload);
  }
  virtual void on_disconnected(LocalDevice device, DisconnectReason reason) = 0;

 protected:
  ~TransportEvents() = default;
};

/// How a request left, or why it did not.
enum class Sent : uint8_t {
  ok,
  would_block,  ///< earlier bytes are still waiting for the peer: nothing was sent
  offline,      ///< no connection
};

/// One link. Calls never block; answers come through TransportEvents. Single thread.
class DeviceTransport {
 public:
  virtual ~DeviceTransport() = default;

  /// Dials and introduces the device; ends in `on_connected` or `on_connect_refused`. `target` is read during the call.
  /// `timeout` bounds the wait for the
  /// hub's answer on the protocol's own clock; the owner keeps an overall deadline of its own.
  virtual void connect(const LinkTarget& target, Nanos timeout) = 0;
  /// A sentence for people about the refusal that `on_connect_refused` is telling; valid during that call, empty when
  /// the reason says it all.
  virtual std::string_view refusal_text() const { return {}; }
  /// One SUBSCRIBE per filter, as the SDK does it; ends in `on_subscribed` once all are answered. An empty set sends
  /// nothing and ends in nothing.
  virtual Sent subscribe(Subscriptions set, DeviceName name) = 0;
  /// Ends in nothing.
  virtual Sent unsubscribe(Subscriptions set, DeviceName name) {
    static_cast<void>(set), static_cast<void>(name);
    return Sent::ok;
  }
  virtual Sent get_twin(uint32_t request) = 0;
  /// `patch` is a JSON object.
  virtual Sent report(uint32_t request, std::string_view patch) = 0;
  /// At-least-once telemetry. `message` receives the number that `on_telemetry_acknowledged` will name.
  virtual Sent send_telemetry(const Telemetry& telemetry, uint16_t& message) = 0;
  /// The acknowledgement of `message` is no longer waited for.
  virtual void forget_telemetry(uint16_t message) { static_cast<void>(message); }
  /// `rid` as `on_method` named it; `payload` is JSON or empty.
  virtual Sent send_method_response(std::string_view rid, int status, std::string_view payload) {
    static_cast<void>(rid), static_cast<void>(status), static_cast<void>(payload);
    return Sent::offline;
  }
  /// Says goodbye and closes; no further events.
  virtual void disconnect() = 0;
  /// Closes as a lost network would look to the hub (RST); no further events.
  virtual void abort() = 0;
  /// When `on_time` wants to be called (keep-alive); MonoTime::max() when never.
  virtual MonoTime next_deadline() const = 0;
  virtual void on_time(MonoTime now) = 0;
};

}  // namespace twinstorm::transport
