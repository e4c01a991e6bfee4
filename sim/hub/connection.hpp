// One accepted socket, plain or with TLS or WebSocket framing on it: readiness-driven reading into the shard's buffer,
// writing with a bounded backlog, one deadline.
//
// An idle connection holds no buffer: only the incomplete end of a message and unsent bytes are kept, in blocks that
// exist only then. All members belong to the shard's thread.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "sim/base/time.hpp"
#include "sim/hub/hub.hpp"
#include "sim/net/asio.hpp"
#include "sim/net/certificates.hpp"
#include "sim/net/tls.hpp"
#include "sim/protocol/ws/framer.hpp"

namespace twinstorm::hub {

class Shard;

/// Slot and generation: never reused for another connection of the same shard.
using ConnectionId = uint64_t;
inline constexpr ConnectionId kNoConnection = ~ConnectionId{0};

/// WebSocket framing of one connection, the server's side; its messages' content is one stream of bytes.
struct WebSocket {
  explicit WebSocket(uint32_t message_max) : framer{ws::Role::server, message_max} {}

  ws::Framer framer;
  std::string pending;      ///< the incomplete end of a header or control frame; or frames that came with the upgrade
  bool close_sent = false;  ///< nothing may follow a close frame
};

/// A connected socket and what lies on it.
struct Channel {
  net::TcpSocket socket;
  net::TlsSession tls = {};                   ///< empty: the bytes go plain; the handshake may still be ahead
  std::unique_ptr<WebSocket> websocket = {};  ///< null: the bytes go unframed

  /// A descriptor without a loop; closed with the object, for a hub that stops may never get to take it up.
  class Descriptor {
   public:
    explicit Descriptor(net::TcpSocket::native_handle_type handle) : handle_{handle} {}
    Descriptor(Descriptor&& other) noexcept : handle_{other.release()} {}
    Descriptor& operator=(Descriptor&&) = delete;
    ~Descriptor();
    net::TcpSocket::native_handle_type get() const { return handle_; }
    net::TcpSocket::native_handle_type release() { return std::exchange(handle_, -1); }

   private:
    net::TcpSocket::native_handle_type handle_;
  };
  /// A channel between two event loops: what `Connection::release` gives and the next owner's loop takes up.
  struct Parked {
    Descriptor descriptor;
    net::TcpSocket::protocol_type protocol;
    net::TlsSession tls;
    std::unique_ptr<WebSocket> websocket;

    Channel revive(net::IoContext& io) &&;
  };
};

class Connection {
 public:
  /// Which of the counters this connection's bytes belong to.
  struct Counters {
    uint64_t HubCounts::*bytes_in;
    uint64_t HubCounts::*bytes_out;
  };
  /// The socket must belong to the shard's loop.
  Connection(Shard& shard, Channel channel, Counters counters);
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

  /// Called once, when the shard has adopted the connection and the TLS handshake is over. Sets the first deadline.
  virtual void on_start() = 0;
  /// Takes whole messages off the front of `bytes` and returns how many bytes they had. What is left comes again with
  /// more behind it. May close.
  virtual size_t on_bytes(std::string_view bytes) = 0;
  /// The peer closed its side, or the socket or the TLS handshake failed; then `on_start` may not have been called. The
  /// connection is closed afterwards.
  virtual void on_peer_gone() = 0;
  /// The peer broke the rules of WebSocket framing. The connection is closed afterwards.
  virtual void on_broken_framing() { on_peer_gone(); }
  /// The deadline has passed. Returns the next one, MonoTime::max() for none; may close.
  virtual MonoTime on_deadline(MonoTime now) = 0;
  /// The hub stops, or drops the connection for a reason of its own; `on_start` may not have been called. The
  /// connection is closed afterwards.
  virtual void on_shutdown() = 0;
  /// `send` found more than `backlog_limit` bytes waiting for a peer that does not read. The connection is closed
  /// afterwards.
  virtual void on_slow_reader() = 0;
  virtual size_t backlog_limit() const = 0;
  /// The backlog has left.
  virtual void on_sent() {}
  /// The time given to `Shard::wake` has come. May close.
  virtual void on_wake(MonoTime) {}

  /// Writes now what the socket takes and keeps the rest. Views may point anywhere but into the backlog.
  void send(std::string_view bytes);
  /// Ends the sending side once everything sent has left, throws away what the peer still sends and closes when it
  /// closes, at the latest a second later: closing at once could reset the connection before the peer has read our
  /// answer. A peer that for `connect_timeout` takes nothing of what is left is not waited for.
  void close_after_sending();
  void close();
  /// Stops calling on_bytes until `resume`.
  void pause() { paused_ = true; }
  /// Hands bytes to on_bytes and keeps what is left. From on_start only: bytes that were read elsewhere.
  void deliver(std::string_view fresh);
  /// Continues with what has arrived since `pause`.
  void resume();
  /// Gives back the memory of `peer_certificate`, which is made again when asked for.
  void forget_peer_certificate() { peer_certificate_.reset(); }
  /// The peer has closed or reset its side, which a paused connection does not notice by itself.
  bool peer_has_left();
  /// (Re)sets the deadline to `at`.
  void set_deadline(MonoTime at);
  /// Unsent bytes are waiting.
  bool has_backlog() const { return backlog_ != nullptr; }

  Shard& shard() const { return shard_; }
  /// Takes the channel away for another connection, of this or another shard; this one is retired. From on_bytes only.
  /// Nothing when it cannot move: the peer has reset the socket, or does not read what was sent.
  std::optional<Channel::Parked> release();

 private:
  enum class Io : uint8_t { done, want_read, want_write, ended };
  using Readiness = net::TcpSocket::wait_type;

  void start(ConnectionId id);
  void begin();
  /// A step of the TLS handshake. The shard calls it in turn with those of other connections.
  void continue_handshake();
  void fail_handshake(std::string_view reason);
  void wait_to_read(Readiness readiness = net::TcpSocket::wait_read);
  void wait_to_write(Readiness readiness);
  void read();
  Io read_plain(std::span<char> into, size_t& got);
  Io read_tls(std::span<char> into, size_t& got);
  void flush();
  /// Hands what was read to `deliver`, without its framing.
  void take(std::span<char> bytes);
  void unwrap(std::span<char> bytes);
  void send_frame(ws::Opcode opcode, std::string_view payload);
  void send_close(ws::CloseCode code, std::string_view reason);
  void send_raw(std::string_view bytes);
  /// Writes from the front of `bytes` as much as the channel takes.
  Io write(std::string_view bytes, size_t& put);
  MonoTime deadline_passed(MonoTime now);
  /// While closing: bytes are left in the socket, fewer than at the last look. Its readiness alone would not do: a
  /// large buffer is writable only after a third of it has left.
  bool peer_takes_on();
  void linger();
  void handler_ended();
  Shard& shard_;
  Counters counters_;
  net::TcpSocket socket_;
  net::TlsSession tls_;
  std::unique_ptr<WebSocket> websocket_;
  mutable std::unique_ptr<const net::PeerCertificate> peer_certificate_;  // made when first asked for
  std::unique_ptr<std::string> tail_;     // incomplete message, or bytes that came while paused
  std::unique_ptr<std::string> backlog_;  // unsent bytes
  ConnectionId id_ = kNoConnection;
  MonoTime watched_ = MonoTime::max();  // when the shard will look at the deadline
  MonoTime deadline_ = MonoTime::max();
  static constexpr int kAnyNumber = std::numeric_limits<int>::max();
  int unsent_seen_ = kAnyNumber;
  uint8_t handlers_ = 0;  // pending asynchronous waits that refer to this object
  bool waiting_to_read_ = false;
  bool handshaking_ = false;
  bool tls_drained_ = false;  // OpenSSL holds no bytes that no readiness would announce
  bool paused_ = false;
  bool closed_ = false;
  bool close_when_sent_ = false;
  bool lingering_ = false;  // our side is shut down; reading away what the peer still sends
};

}  // namespace twinstorm::hub
