// One TCP connection as the fleet needs it: no buffer of its own, no allocation while idle.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sim/net/shard_io.hpp"

namespace twinstorm::net {

/// Why a stream ended.
enum class StreamEnd : uint8_t {
  connect_failed,  ///< refused, unreachable, reset or no local resources; errno is in `TcpStream::last_errno()`
  peer_closed,     ///< orderly end of the peer's bytes
  io_error,        ///< reset or another socket error
};

/// What a stream tells its owner, on the shard's thread. The owner may close the stream inside any call.
class StreamEvents {
 public:
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

/// A non-blocking client socket driven by readiness: it waits for readability, reads into the shard's shared buffer and
/// keeps only an incomplete tail (docs/decisions.md, "No buffer per device"). Reusable after `close`. Not thread-safe;
/// must not move while open; must be destroyed before the ShardIo's context.
class TcpStream {
 public:
  explicit TcpStream(ShardIo& io) : io_{&io}, socket_{io.context.get_executor()} {}
  TcpStream(const TcpStream&) = delete;
  TcpStream& operator=(const TcpStream&) = delete;
  ~TcpStream() { close(); }

  /// Starts a connect; ends in `on_stream_connected` or `on_stream_ended(connect_failed)`, never inside this call.
  void connect(const Endpoint& peer, StreamEvents& events);
  /// Takes all of `bytes` or nothing. One write call in the good case; what the kernel does not take is kept (one
  /// pooled block) and written when the socket is writable.
  SendResult send(std::string_view bytes);
  /// Closes without further events. `reset` sends RST instead of FIN (a scripted connection loss).
  void close(bool reset = false);
  bool open() const { return socket_.is_open(); }
  bool send_pending() const { return unsent_ != nullptr; }
  int last_errno() const { return last_errno_; }
  ShardIo& io() { return *io_; }

 private:
  void wait_readable();
  void wait_writable();
  void read_available();
  void end(StreamEnd reason, int error);

  ShardIo* io_;
  TcpSocket socket_;
  StreamEvents* events_ = nullptr;
  std::unique_ptr<std::string> tail_;
  std::unique_ptr<std::string> unsent_;
  uint32_t generation_ = 0;  // handlers of an earlier connection recognise themselves as stale
  int last_errno_ = 0;
};

}  // namespace twinstorm::net
