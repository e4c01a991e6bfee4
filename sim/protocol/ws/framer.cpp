#include "sim/protocol/ws/framer.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "sim/base/assert.hpp"
#include "sim/protocol/mqtt/decoder.hpp"

namespace twinstorm::ws {
namespace {

uint8_t byte_at(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

uint64_t big_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value = value << 8 | byte_at(bytes, i);
  return value;
}

/// The key as the bytes that meet payload from `offset` on.
uint32_t rotated(uint32_t key, uint64_t offset) { return std::rotl(key, static_cast<int>(offset % 4) * 8); }

/// Section 7.4: what may stand in a close frame.
bool is_valid_close_code(uint64_t code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/// The reason of a close frame must be UTF-8; NUL and noncharacters, which MQTT forbids besides, are not our business.
bool is_utf8(std::string_view text) { return mqtt::check_utf8(text) != mqtt::DecodeError::invalid_utf8; }

}  // namespace

void apply_mask(std::span<char> bytes, uint32_t key, uint64_t offset) {
  key = rotated(key, offset);
  // Eight bytes at a time; the key laid out as on the wire.
  char wire[8];
  for (int i = 0; i < 8; ++i) wire[i] = static_cast<char>(key >> (24 - i % 4 * 8) & 0xff);
  uint64_t wide = 0;
  std::memcpy(&wide, wire, sizeof wide);
  size_t at = 0;
  for (; at + sizeof wide <= bytes.size(); at += sizeof wide) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    word ^= wide;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  for (size_t i = 0; at < bytes.size(); ++at, ++i) bytes[at] = static_cast<char>(bytes[at] ^ wire[i]);
}

Step Framer::next(std::string_view bytes) {
  TS_ASSERT(role_ == Role::client);
  return parse(bytes);
}

Step Framer::next(std::span<char> bytes) {
  const Step step = parse({bytes.data(), bytes.size()});
  if (role_ == Role::server && !step.payload.empty()) {
    const auto payload = bytes.subspan(static_cast<size_t>(step.payload.data() - bytes.data()), step.payload.size());
    if (step.kind == Step::Kind::data) {
      // `parse` has turned the key past this payload already: turn it back.
      apply_mask(payload, rotated(mask_, 4 - payload.size() % 4));
    } else {
      apply_mask(payload, mask_, step.kind == Step::Kind::close ? 2 : 0);
    }
  }
  return step;
}

Step Framer::fail(CloseCode code, std::string_view problem) {
  closed_ = true;
  return {.kind = Step::Kind::error, .payload = {}, .code = code, .problem = problem};
}

Step Framer::take_data(std::string_view bytes, size_t header_size) {
  Step step{.kind = Step::Kind::data, .payload = bytes.substr(header_size, remaining_)};
  const auto size = static_cast<uint32_t>(step.payload.size());
  step.consumed = header_size + size;
  remaining_ -= size;
  mask_ = rotated(mask_, size);
  if (remaining_ == 0 && final_) {
    step.message_end = true;
    in_message_ = false;
    message_size_ = 0;
  }
  return step;
}

Step Framer::parse(std::string_view bytes) {
  if (closed_) return {.kind = Step::Kind::need_more, .consumed = bytes.size(), .payload = {}, .problem = {}};
  if (remaining_ > 0) return bytes.empty() ? Step{} : take_data(bytes, 0);
  if (bytes.empty()) return {};

  const uint8_t first = byte_at(bytes, 0);
  const bool final = (first & 0x80) != 0;
  if ((first & 0x70) != 0) {
    return fail(CloseCode::protocol_error, "a reserved bit is set, but no extension was agreed on");
  }
  const auto opcode = static_cast<Opcode>(first & 0x0f);
  const bool control = (first & 0x08) != 0;
  switch (opcode) {
    case Opcode::continuation:
      if (!in_message_) return fail(CloseCode::protocol_error, "a continuation frame without a message to continue");
      break;
    case Opcode::binary:
      if (in_message_) return fail(CloseCode::protocol_error, "a new message inside a fragmented one");
      break;
    case Opcode::text:
      return fail(CloseCode::unsupported_data, "a text message; only binary ones are spoken here");
    case Opcode::close:
    case Opcode::ping:
    case Opcode::pong:
      if (!final) return fail(CloseCode::protocol_error, "a fragmented control frame");
      break;
    default:
      return fail(CloseCode::protocol_error, "a frame with a reserved opcode");
  }
  if (bytes.size() < 2) return {};
  const uint8_t second = byte_at(bytes, 1);
  const bool masked = (second & 0x80) != 0;
  if (masked != (role_ == Role::server)) {
    return fail(CloseCode::protocol_error,
                masked ? "a masked frame from a server" : "a frame without mask from a client");
  }
  uint64_t size = second & 0x7f;
  if (control && size > kControlMax) return fail(CloseCode::protocol_error, "a control frame over 125 bytes");
  const size_t size_bytes = size == 126 ? 2 : size == 127 ? 8 : 0;
  const size_t header_size = 2 + size_bytes + (masked ? 4 : 0);
  if (bytes.size() < 2 + size_bytes) return {};
  if (size_bytes > 0) {
    size = big_endian(bytes.substr(2, size_bytes));
    if (size <= (size_bytes == 2 ? 125u : 0xffffu) || size >> 63 != 0) {
      return fail(CloseCode::protocol_error, "a frame length that is not in its shortest form");
    }
  }
  if (!control && size > message_max_ - message_size_) return fail(CloseCode::too_big, "the message is too long");
  if (bytes.size() < header_size + (control ? size : 0)) return {};
  if (masked) mask_ = static_cast<uint32_t>(big_endian(bytes.substr(2 + size_bytes, 4)));

  if (!control) {
    in_message_ = true;
    final_ = final;
    remaining_ = static_cast<uint32_t>(size);
    message_size_ += remaining_;
    return take_data(bytes, header_size);
  }

  Step step{.kind = opcode == Opcode::ping ? Step::Kind::ping : Step::Kind::pong,
            .consumed = header_size + size,
            .payload = bytes.substr(header_size, size),
            .problem = {}};
  if (opcode != Opcode::close) return step;

  // The only control payload that is understood here, so it is unmasked on the side.
  char body[kControlMax];
  std::copy(step.payload.begin(), step.payload.end(), body);
  if (masked) apply_mask({body, size}, mask_);
  const std::string_view plain{body, size};
  if (size == 1) return fail(CloseCode::protocol_error, "a close frame with half a status code");
  if (size >= 2) {
    const uint64_t code = big_endian(plain.substr(0, 2));
    if (!is_valid_close_code(code))
      return fail(CloseCode::protocol_error, "a close frame with a code that is not allowed");
    if (!is_utf8(plain.substr(2))) return fail(CloseCode::invalid_data, "a close reason that is not UTF-8");
    step.code = static_cast<CloseCode>(code);
    step.payload.remove_prefix(2);
  }
  step.kind = Step::Kind::close;
  closed_ = true;
  return step;
}

}  // namespace twinstorm::ws
