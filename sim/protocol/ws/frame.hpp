// WebSocket frames (RFC 6455 section 5): writing them. Reading is the Framer's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "sim/protocol/byte_writer.hpp"

namespace twinstorm::ws {

using protocol::ByteSink;

enum class Opcode : uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

/// The statuses of section 7.4.1 in use here.
enum class CloseCode : uint16_t {
  normal = 1000,
  going_away = 1001,
  protocol_error = 1002,
  unsupported_data = 1003,
  no_status = 1005,  ///< never on the wire: a close frame without a body
  invalid_data = 1007,
  policy_violation = 1008,
  too_big = 1009,
  internal_error = 1011,
};

inline constexpr size_t kHeaderMax = 14;        ///< bytes in front of a payload: 2 + 8 of length + 4 of mask
inline constexpr size_t kControlMax = 125;      ///< bytes of a control frame's payload
inline constexpr size_t kCloseReasonMax = 123;  ///< bytes of text behind the code

/// Masks or unmasks in place (section 5.3); `offset` is the position of `bytes` within its frame. The key is its four
/// bytes as they stand on the wire, first byte most significant.
void apply_mask(std::span<char> bytes, uint32_t key, uint64_t offset = 0);

/// A client's frames carry `mask`, a server's none (section 5.1).
template <ByteSink Out>
void append_frame_header(Out& out, Opcode opcode, uint64_t payload_size, std::optional<uint32_t> mask,
                         bool final = true) {
  const auto push = [&out](uint64_t byte) { out.push_back(static_cast<char>(byte & 0xff)); };
  const unsigned masked = mask ? 0x80 : 0;
  push((final ? 0x80u : 0u) | static_cast<unsigned>(opcode));
  if (payload_size <= 125) {
    push(masked | payload_size);
  } else if (payload_size <= 0xffff) {
    push(masked | 126);
    for (int shift = 8; shift >= 0; shift -= 8) push(payload_size >> shift);
  } else {
    push(masked | 127);
    for (int shift = 56; shift >= 0; shift -= 8) push(payload_size >> shift);
  }
  if (mask) {
    for (int shift = 24; shift >= 0; shift -= 8) push(*mask >> shift);
  }
}

/// One whole frame. Of a ByteWriter that overflows nothing usable stays: check it.
template <ByteSink Out>
void append_frame(Out& out, Opcode opcode, std::string_view payload, std::optional<uint32_t> mask, bool final = true) {
  append_frame_header(out, opcode, payload.size(), mask, final);
  const size_t start = out.size();
  out.append(payload);
  if (mask && out.size() == start + payload.size()) apply_mask({out.data() + start, payload.size()}, *mask);
}

/// A close frame; `no_status` sends none. The reason is cut at 123 bytes, so keep it ASCII.
template <ByteSink Out>
void append_close(Out& out, CloseCode code, std::string_view reason, std::optional<uint32_t> mask) {
  char payload[kControlMax];
  protocol::ByteWriter body{payload};
  if (code != CloseCode::no_status) {
    body.push_back(static_cast<char>(static_cast<uint16_t>(code) >> 8));
    body.push_back(static_cast<char>(static_cast<uint16_t>(code) & 0xff));
    body.append(reason.substr(0, kCloseReasonMax));
  }
  append_frame(out, Opcode::close, body.view(), mask);
}

}  // namespace twinstorm::ws
