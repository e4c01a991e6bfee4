// One socket as the fleet needs it: no buffer of its own, no allocation while idle. With or without TLS.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sim/net/shard_io.hpp"
#include "sim/net/stream.hpp"

namespace twinstorm::net {

/// Bytes as they are.
class TcpWire {
 public:
  Result<void> prepare(int descriptor, const StreamTarget& target);
  TlsStatus handshake() { return TlsStatus::ok; }
  TlsStatus read(int descriptor, std::span<char> into, size_t& got);
  TlsStatus write(int descriptor, std::string_view bytes, size_t& put);
  /// Nothing more can come before the descriptor is readable again.
  bool drained(size_t got, size_t asked) const { return got < asked; }
  void close(bool /*politely*/) {}
  // After `failed`, or `closed` before the connection stood.
  StreamEnd end_of(bool /*connected*/) const { return StreamEnd::io_error; }
  int error_number() const;
  std::string error() const;
};

/// Bytes in TLS records.
class TlsWire {
 public:
  Result<void> prepare(int descriptor, const StreamTarget& target);
  TlsStatus handshake() { return session_.handshake(); }
  TlsStatus read(int descriptor, std::span<char> into, size_t& got);
  TlsStatus write(int descriptor, std::string_view bytes, size_t& put);
  bool drained(size_t /*got*/, size_t /*asked*/) const { return !session_.has_pending(); }
  void close(bool politely);
  StreamEnd end_of(bool connected);
  int error_number() const { return session_.socket_error(); }
  std::string error() const { return session_.error(); }
  const TlsSession& session() const { return session_; }

 private:
  // In this order: the session refers to the ticket.
  TlsTicket ticket_;  // survives `close`, so that the next connection can resume
  TlsSession session_;
};

/// A non-blocking client socket driven by readiness: it waits for readability, reads into the shard's shared buffer and
/// keeps only an incomplete tail (docs/decisions.md, "No buffer per device"). Reusable after `close`. Not thread-safe;
/// must not move while open; must be destroyed before the ShardIo's context, and not before the handlers that `close`
/// cancelled have run, unless the loop never runs again.
template <class Wire>
class SocketStream {
 public:
  explicit SocketStream(ShardIo& io) : io_{&io}, socket_{io.context.get_executor()} {}
  SocketStream(const SocketStream&) = delete;
  SocketStream& operator=(const SocketStream&) = delete;
  ~SocketStream() { close(); }

  /// Starts a connect; ends in `on_stream_connected` or `on_stream_ended`, never inside this call. Of a TLS connection
  /// the handshake is part of it; nobody here limits its time.
  void connect(const StreamTarget& target, StreamEvents& events);
  void connect(const Endpoint& peer, StreamEvents& events) { connect(StreamTarget{.endpoint = peer}, events); }
  /// Takes all of `bytes` or nothing. One write call in the good case; what the kernel does not take is kept (one
  /// pooled block) and written when the socket is writable.
  SendResult send(std::string_view bytes);
  /// Closes without further events. `reset` sends RST instead of FIN (a scripted connection loss).
  void close(bool reset = false);
  bool open() const { return socket_.is_open(); }
  bool send_pending() const { return unsent_ != nullptr; }
  int last_errno() const { return last_errno_; }
  /// A sentence for people about the end that `on_stream_ended` is telling; valid during that call.
  std::string_view error_text() const { return io_->error_text; }
  ShardIo& io() { return *io_; }
  const Wire& wire() const { return wire_; }

 private:
  enum class State : uint8_t { closed, connecting, shaking_hands, open };

  void shake_hands();
  void wait_readable();
  void wait_writable();
  void on_writable();
  void read_available();
  bool write_unsent();
  void fail(TlsStatus status);
  void end(StreamEnd reason, int error, std::string_view text);

  ShardIo* io_;
  TcpSocket socket_;
  StreamEvents* events_ = nullptr;
  std::unique_ptr<std::string> tail_;
  std::unique_ptr<std::string> unsent_;
  uint32_t generation_ = 0;  // handlers of an earlier connection recognise themselves as stale
  int16_t last_errno_ = 0;
  State state_ = State::closed;
  bool waiting_readable_ : 1 = false;
  bool waiting_writable_ : 1 = false;
  [[no_unique_address]] Wire wire_;
};

extern template class SocketStream<TcpWire>;
extern template class SocketStream<TlsWire>;

}  // namespace twinstorm::net
