// What every byte stream of the fleet has in common: how it is dialled, what it tells its owner, how sending went.
//
// TcpStream, TlsStream and WsStream<Lower> have the same members (see TcpStream), so that what stands on them is a
// template over the stream and pays for nothing it does not use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/net/asio.hpp"
#include "sim/net/tls.hpp"

namespace twinstorm::net {

/// Where and how to connect. Read during `connect` only, so everything may be a temporary.
struct StreamTarget {
  Endpoint endpoint;
  // TLS.
  const TlsContext* tls = nullptr;            ///< needed; shared with OpenSSL by reference count
  std::string server_name{};                  ///< that the certificate must carry, and SNI
  const CertifiedKey* certificate = nullptr;  ///< what we show when asked; null = nothing
  // WebSocket.
  std::string websocket_host{};
  std::string websocket_path{};
  Address source{};  ///< to connect from; unspecified: the system chooses
};

/// Why a stream ended. In `on_stream_ended`, `error_text()` says more.
enum class StreamEnd : uint8_t {
  connect_failed,    ///< refused, unreachable, reset or no local resources; errno is in `last_errno()`
  untrusted,         ///< TLS: the peer's certificate was not accepted by us
  handshake_failed,  ///< TLS: any other failure before the connection stood
  upgrade_refused,   ///< WebSocket: the answer to the upgrade request was not 101, or not as it must be
  peer_closed,       ///< orderly end of the peer's bytes; before `on_stream_connected` too
  protocol_error,    ///< WebSocket: frames that break the rules; TLS: records that do
  io_error,          ///< reset or another socket error
};

/// What a stream tells its owner, on the shard's thread. The owner may close the stream inside any call.
class StreamEvents {
 public:
  /// Bytes may be sent from here on.
  virtual void on_stream_connected() = 0;
  /// `bytes` holds the kept tail followed by what just arrived; valid during the call. Returns how many were consumed;
  /// the rest is kept and handed in again, in front of newer bytes.
  virtual size_t on_stream_bytes(std::string_view bytes) = 0;
  virtual void on_stream_ended(StreamEnd end) = 0;

 protected:
  ~StreamEvents() = default;
};

enum class SendResult : uint8_t {
  sent,         ///< handed to the kernel, or kept and being written
  would_block,  ///< earlier bytes are still waiting: nothing was taken
  closed,       ///< not connected
};

}  // namespace twinstorm::net
