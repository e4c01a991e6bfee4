// One device's conversation with a hub, in the same shape for every protocol: what a device can ask, and what it is
// told.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/net/asio.hpp"

namespace twinstorm::transport {

/// Position of a device within its shard.
using LocalDevice = uint32_t;

/// Where the devices of a run connect. Shared, read-only.
struct LinkTarget {
  net::Endpoint endpoint;
  std::string host_name;  ///< as in the user name and the SAS resource, without port
};

/// What CONNECT says about a device; assembled when it is needed and never stored per device.
struct Identity {
  std::string client_id;
  std::string user_name;
  std::string password;  ///< SAS token
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
  virtual void on_connected(LocalDevice device) = 0;
  virtual void on_connect_refused(LocalDevice device, ConnectRefusal refusal) = 0;
  /// Twin responses and desired-property notifications are subscribed; `granted` is false when the hub refused one.
  virtual void on_subscribed(LocalDevice device, bool granted) = 0;
  virtual void on_twin_response(LocalDevice device, const TwinResponse& response) = 0;
  virtual void on_desired(LocalDevice device, int64_t version, std::string_view patch) = 0;
  virtual void on_telemetry_acknowledged(LocalDevice device, uint16_t message) = 0;
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

  /// Dials and introduces the device; ends in `on_connected` or `on_connect_refused`. `timeout` bounds the wait for the
  /// hub's answer on the protocol's own clock; the owner keeps an overall deadline of its own.
  virtual void connect(const LinkTarget& target, Nanos timeout) = 0;
  /// Subscribes to twin responses and desired properties; ends in `on_subscribed`.
  virtual Sent subscribe() = 0;
  virtual Sent get_twin(uint32_t request) = 0;
  /// `patch` is a JSON object.
  virtual Sent report(uint32_t request, std::string_view patch) = 0;
  /// At-least-once telemetry. `message` receives the number that `on_telemetry_acknowledged` will name.
  virtual Sent send_telemetry(std::string_view device_id, std::string_view payload, uint16_t& message) = 0;
  /// The acknowledgement of `message` is no longer waited for.
  virtual void forget_telemetry(uint16_t message) { static_cast<void>(message); }
  /// Says goodbye and closes; no further events.
  virtual void disconnect() = 0;
  /// Closes as a lost network would look to the hub (RST); no further events.
  virtual void abort() = 0;
  /// When `on_time` wants to be called (keep-alive); MonoTime::max() when never.
  virtual MonoTime next_deadline() const = 0;
  virtual void on_time(MonoTime now) = 0;
};

}  // namespace twinstorm::transport
