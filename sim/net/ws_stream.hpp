// A WebSocket on top of a TCP or TLS stream: the client's side, MQTT inside binary messages (device.md 3.10).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sim/net/tcp_stream.hpp"
#include "sim/net/tls_stream.hpp"
#include "sim/protocol/ws/framer.hpp"

namespace twinstorm::net {

/// Members and rules as of SocketStream. One message per `send`; what comes in is a stream of bytes, whatever messages
/// it came in. Pings are answered here. Nothing is buffered but a frame header or control frame that is not whole.
template <class Lower>
class WsStream final : private StreamEvents {
 public:
  explicit WsStream(ShardIo& io) : lower_{io} {}
  WsStream(const WsStream&) = delete;
  WsStream& operator=(const WsStream&) = delete;
  ~WsStream() { close(); }

  void connect(const StreamTarget& target, StreamEvents& events);
  /// At most `ShardIo::kBufferSize` bytes.
  SendResult send(std::string_view bytes);
  void close(bool reset = false);
  bool open() const { return lower_.open(); }
  bool send_pending() const { return lower_.send_pending(); }
  int last_errno() const { return lower_.last_errno(); }
  std::string_view error_text() const { return lower_.error_text(); }
  ShardIo& io() { return lower_.io(); }
  const Lower& lower() const { return lower_; }

 private:
  enum class State : uint8_t { closed, opening, open };

  void on_stream_connected() override;
  size_t on_stream_bytes(std::string_view bytes) override;
  void on_stream_ended(StreamEnd end) override;
  size_t check_response(std::string_view bytes);
  bool deliver(std::string_view payload);
  void end(StreamEnd reason, std::string_view text);
  SendResult send_frame(ws::Opcode opcode, std::string_view payload);
  uint32_t next_mask() { return static_cast<uint32_t>(io().masks.next()); }

  Lower lower_;
  StreamEvents* events_ = nullptr;
  std::unique_ptr<std::string> kept_;  // the upgrade request until it is answered, then bytes the owner did not take
  ws::Framer framer_{ws::Role::client};
  uint32_t generation_ = 0;
  State state_ = State::closed;
};

extern template class WsStream<TcpStream>;
extern template class WsStream<TlsStream>;
static_assert(sizeof(WsStream<TcpStream>) <= sizeof(TcpStream) + 56, "part of every idle device on WebSocket");

}  // namespace twinstorm::net
