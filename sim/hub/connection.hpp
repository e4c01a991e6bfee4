// One accepted socket: readiness-driven reading into the shard's buffer, writing with a bounded backlog, one deadline.
//
// An idle connection holds no buffer: only the incomplete end of a message and unsent bytes are kept, in blocks that
// exist only then. All members belong to the shard's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/hub/hub.hpp"
#include "sim/net/asio.hpp"
#include "sim/net/certificates.hpp"

namespace twinstorm::hub {

class Shard;

/// Slot and generation: never reused for another connection of the same shard.
using ConnectionId = uint64_t;
inline constexpr ConnectionId kNoConnection = ~ConnectionId{0};

class Connection {
 public:
  /// Which of the counters this connection's bytes belong to.
  struct Counters {
    uint64_t HubCounts::*bytes_in;
    uint64_t HubCounts::*bytes_out;
  };
  /// The socket must belong to the shard's loop.
  Connection(Shard& shard, net::TcpSocket socket, Counters counters);
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  ConnectionId id() const { return id_; }
  bool closed() const { return closed_; }
  /// The certificate that the peer showed in the TLS handshake, not judged yet; nullptr: none, or no TLS. Valid as long
  /// as the connection is not moved or closed.
  const net::PeerCertificate* peer_certificate() const;

 protected:
  friend class Shard;

  /// Called once, when the shard has adopted the connection. Sets the first deadline.
  virtual void on_start() = 0;
  /// Takes whole messages off the front of `bytes` and returns how many bytes they had. What is left comes again with
  /// more behind it. May close.
  virtual size_t on_bytes(std::string_view bytes) = 0;
  /// The peer closed its side or the socket failed. The connection is closed afterwards.
  virtual void on_peer_gone() = 0;
  /// The deadline has passed. Returns the next one, MonoTime::max() for none; may close.
  virtual MonoTime on_deadline(MonoTime now) = 0;
  /// The hub stops, or drops the connection for a reason of its own. The connection is closed afterwards.
  virtual void on_shutdown() = 0;
  /// `send` found more than `backlog_limit` bytes waiting for a peer that does not read. The connection is closed
  /// afterwards.
  virtual void on_slow_reader() = 0;
  virtual size_t backlog_limit() const = 0;
  /// The backlog has left.
  virtual void on_sent() {}

  /// Writes now what the socket takes and keeps the rest. Views may point anywhere but into the backlog.
  void send(std::string_view bytes);
  /// Ends the sending side once everything sent has left, throws away what the peer still sends and closes when it
  /// closes, at the latest a second later: closing at once could reset the connection before the peer has read our
  /// answer.
  void close_after_sending();
  void close();
  /// Stops calling on_bytes until `resume`.
  void pause() { paused_ = true; }
  /// Hands bytes to on_bytes and keeps what is left. From on_start only: bytes that were read elsewhere.
  void deliver(std::string_view fresh);
  /// Continues with what has arrived since `pause`.
  void resume();
  /// (Re)sets the deadline to `at`.
  void set_deadline(MonoTime at);
  /// Unsent bytes are waiting.
  bool has_backlog() const { return backlog_ != nullptr; }

  Shard& shard() const { return shard_; }
  net::TcpSocket& socket() { return socket_; }
  /// Takes the socket away for another shard; the connection is retired.
  net::TcpSocket::native_handle_type release();

 private:
  void wait_readable();
  void wait_writable();
  void read();
  void flush();
  void start(ConnectionId id);
  MonoTime deadline_passed(MonoTime now);
  void linger();
  void handler_ended();
  Shard& shard_;
  Counters counters_;
  net::TcpSocket socket_;
  std::unique_ptr<std::string> tail_;     // incomplete message, or bytes that came while paused
  std::unique_ptr<std::string> backlog_;  // unsent bytes
  ConnectionId id_ = kNoConnection;
  MonoTime watched_ = MonoTime::max();  // when the shard will look at the deadline
  MonoTime deadline_ = MonoTime::max();
  uint8_t handlers_ = 0;  // pending asynchronous waits that refer to this object
  bool waiting_readable_ = false;
  bool paused_ = false;
  bool closed_ = false;
  bool close_when_sent_ = false;
  bool lingering_ = false;  // our side is shut down; reading away what the peer still sends
};

}  // namespace twinstorm::hub
