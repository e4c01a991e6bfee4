// Reading WebSocket frames (RFC 6455), either role, without a buffer: payload comes out as views into the caller's
// bytes, headers and control frames that have not arrived whole stay with the caller. Sans-I/O.
//
//     for (;;) {
//       const auto step = framer.next(bytes);       // a client's bytes may be const, a server's are unmasked in place
//       bytes = bytes.subspan(step.consumed);
//       switch (step.kind) ...                      // until need_more or error
//     }
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "sim/protocol/ws/frame.hpp"

namespace twinstorm::ws {

enum class Role : uint8_t {
  client,  ///< reads frames without a mask
  server,  ///< reads frames with one
};

/// Message bytes that a peer may send in one message, all its fragments together.
inline constexpr uint32_t kMessageMaxDefault = 16 * 1024 * 1024;

/// What `Framer::next` found.
struct Step {
  enum class Kind : uint8_t {
    need_more,  ///< nothing in these bytes is whole: keep them and come back with more behind them
    data,       ///< `payload`: the next bytes of a binary message, as much of a frame as is here; may be empty
    ping,       ///< `payload`: to be sent back in a pong
    pong,       ///< `payload`: whatever it is
    close,      ///< `code`, `payload` (the reason): answer with a close frame, unless this is the answer, and end
    error,      ///< `code` to close with, `problem` in words
  };
  Kind kind = Kind::need_more;
  size_t consumed = 0;       ///< bytes of the input that are done with; the payload may be among them
  std::string_view payload;  ///< into the input, already unmasked
  bool message_end = false;  ///< data: the message ends behind this payload
  CloseCode code = CloseCode::no_status;
  std::string_view problem;  ///< static storage
};

/// 20 bytes of plain values. Text messages are an error: MQTT and AMQP travel in binary ones. Extensions are never
/// agreed on, so reserved bits are an error too. After `close` or `error` everything further is consumed and ignored.
class Framer {
 public:
  explicit Framer(Role role, uint32_t message_max = kMessageMaxDefault) : message_max_{message_max}, role_{role} {}

  /// Either role; unmasks payload in place in the server's.
  Step next(std::span<char> bytes);
  /// The client's role only: nothing to unmask.
  Step next(std::string_view bytes);

  bool closed() const { return closed_; }

 private:
  Step parse(std::string_view bytes);
  Step fail(CloseCode code, std::string_view problem);
  Step take_data(std::string_view bytes, size_t header_size);

  uint32_t remaining_ = 0;     // of the current data frame's payload
  uint32_t message_size_ = 0;  // announced so far, all fragments
  uint32_t message_max_;
  uint32_t mask_ = 0;  // rotated so that its first byte belongs to the next payload byte
  Role role_;
  bool in_message_ : 1 = false;
  bool final_ : 1 = false;  // the current frame ends its message
  bool closed_ : 1 = false;
};
static_assert(sizeof(Framer) <= 20, "part of every device on WebSocket");

}  // namespace twinstorm::ws
