// One MQTT 3.1.1 conversation through Paho MQTT C++: somebody else's client, for fleets that ask for it
// (`engine: paho`) and for the canary that checks our own stopwatch.
//
// What to know about the library (measured and read, docs/measuring.md, "The canary"):
//  - It runs all clients of a process on one sending and one receiving thread behind one mutex: good for a few hundred
//    devices, not for a fleet.
//  - Its receiving thread may sit in poll for a second before it notices a new socket: connecting takes up to a second
//    while nothing else is received.
//  - It calls back with that mutex held, and destroying a client takes it: once the destructor of `PahoClient` has
//    returned, nothing is called any more. A callback must therefore not wait for the thread that destroys.
//  - It cannot cut a connection as a lost network would: every end says DISCONNECT.
//  - Over WebSocket version 1.3.12 leaves the second of two frames that arrive together unread until more bytes come
//  (two
//    SUBACKs from our hub are enough), so it is used over TCP and TLS only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/net/tls.hpp"
#include "sim/transport/device_transport.hpp"

namespace twinstorm::transport {

/// How Paho reaches a hub.
struct PahoLink {
  bool tls = false;
  std::string trust_store;  ///< with `tls`: PEM file of the trusted CAs; empty: the system's bundle
  net::TlsVersion version = net::TlsVersion::any;
};

/// `tcp://127.0.0.1:1883`, `ssl://hub.example.net:8883`. With TLS Paho checks the certificate against the
/// host in here: the name, but the address for loopback, which a bare system may be unable to look up.
std::string paho_uri(const LinkTarget& target, const PahoLink& link);

/// Something that happened on the connection, as plain data.
struct PahoEvent {
  enum class Kind : uint8_t { connected, refused, subscribed, message, acknowledged, lost };
  Kind kind = Kind::message;
  bool session_present = false;                          ///< connected
  bool granted = false;                                  ///< subscribed: one call of `subscribe` is answered
  ConnectRefusal refusal = ConnectRefusal::unreachable;  ///< refused
  uint16_t number = 0;                                   ///< acknowledged: as `publish_acknowledged` returned it
  std::string topic;                                     ///< message
  std::string text;                                      ///< message: payload; refused: Paho's words
};

/// Not thread-safe: one thread owns it. Move it nowhere; Paho knows its address.
class PahoClient {
 public:
  /// Called on Paho's threads, one call at a time per process; must be quick and must not throw.
  using Sink = std::function<void(PahoEvent&&)>;

  /// Errors: `invalid_argument` with Paho's words (a URI it cannot use).
  static Result<std::unique_ptr<PahoClient>> create(const std::string& uri, const std::string& client_id, Sink sink);
  /// Says DISCONNECT if connected. Waits for a callback that is running. The last client of the process also waits for
  /// Paho's threads to end, about a second: hold a `PahoLibrary` where that would hurt.
  ~PahoClient();
  PahoClient(const PahoClient&) = delete;
  PahoClient& operator=(const PahoClient&) = delete;

  /// Begins to connect; ends in `connected` or `refused`. At most once per client. An error means that nothing was
  /// begun.
  Result<void> connect(const Identity& identity, const PahoLink& link, Nanos timeout);
  /// false: not connected.
  bool subscribe(const std::string& filter, int qos);
  bool unsubscribe(const std::string& filter);
  /// At most once. Returns when Paho has it; false: not connected.
  bool publish(const std::string& topic, std::string_view payload);
  /// At least once: the packet identifier that `acknowledged` will name; nothing when not connected.
  std::optional<uint16_t> publish_acknowledged(const std::string& topic, std::string_view payload);
  /// Begins to say goodbye; events may still follow until the destructor.
  void disconnect();

 private:
  struct Impl;
  explicit PahoClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Keeps Paho's threads from ending with a client that is not the last one to come: hold one as long as more may
/// follow. The last one to go waits for the threads, about a second.
class PahoLibrary {
 public:
  static std::shared_ptr<PahoLibrary> hold();
  ~PahoLibrary();

 private:
  struct Impl;
  PahoLibrary();
  std::unique_ptr<Impl> impl_;
};

/// `Paho MQTT C++ 1.2.0`.
std::string paho_version();

}  // namespace twinstorm::transport
