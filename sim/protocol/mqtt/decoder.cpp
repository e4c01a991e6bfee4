#include "sim/protocol/mqtt/decoder.hpp"

#include <cstring>

#include "sim/protocol/topics.hpp"

namespace twinstorm::mqtt {
namespace {

uint8_t byte_at(std::string_view bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

/// Reads fields off the front; after the first field that does not fit, everything reads as empty and `short_` stays
/// set.
class FieldReader {
 public:
  explicit FieldReader(std::string_view body) : rest_{body} {}

  uint8_t u8() {
    if (rest_.empty()) return fail();
    const auto value = byte_at(rest_, 0);
    rest_.remove_prefix(1);
    return value;
  }
  uint16_t u16() {
    if (rest_.size() < 2) return fail();
    const auto value = static_cast<uint16_t>(byte_at(rest_, 0) << 8 | byte_at(rest_, 1));
    rest_.remove_prefix(2);
    return value;
  }
  std::string_view bytes() {
    const size_t size = u16();
    if (rest_.size() < size) {
      fail();
      return {};
    }
    const auto value = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return value;
  }
  std::string_view rest() const { return rest_; }
  bool truncated() const { return short_; }

 private:
  uint8_t fail() {
    short_ = true;
    rest_ = {};
    return 0;
  }

  std::string_view rest_;
  bool short_ = false;
};

constexpr uint64_t repeat(uint8_t byte) { return 0x0101'0101'0101'0101U * byte; }
/// Nonzero exactly when one of the eight bytes is zero.
constexpr uint64_t has_zero(uint64_t word) { return (word - repeat(0x01)) & ~word & repeat(0x80); }

/// True when every byte is ASCII, not zero and, for topic names, not a wildcard: the usual topic, eight bytes a step.
bool is_plain_ascii(std::string_view text, bool without_wildcards) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & repeat(0x80)) != 0 || has_zero(word) != 0) return false;
    if (without_wildcards && (has_zero(word ^ repeat('+')) | has_zero(word ^ repeat('#'))) != 0) return false;
  }
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (c <= 0 || (without_wildcards && (c == '+' || c == '#'))) return false;
  }
  return true;
}

DecodeError check_topic_name(std::string_view topic) {
  if (topic.empty()) return DecodeError::empty_topic;
  if (is_plain_ascii(topic, true)) return DecodeError::none;
  if (const auto error = check_utf8(topic); error != DecodeError::none) return error;
  return topic.find_first_of("+#") != std::string_view::npos ? DecodeError::wildcard_in_topic_name : DecodeError::none;
}

DecodeError check_filter(std::string_view filter) {
  if (filter.empty()) return DecodeError::empty_topic;
  if (const auto error = check_utf8(filter); error != DecodeError::none) return error;
  return protocol::is_valid_filter(filter) ? DecodeError::none : DecodeError::invalid_topic_filter;
}

/// Section 2.2.2, table 2.2. PUBLISH carries real flags.
bool flags_allowed(PacketType type, uint8_t flags) {
  switch (type) {
    case PacketType::publish:
      return true;
    case PacketType::pubrel:
    case PacketType::subscribe:
    case PacketType::unsubscribe:
      return flags == 2;
    default:
      return flags == 0;
  }
}

struct FilterList {
  uint16_t packet_id;
  TopicFilters filters;
};

Decoded<FilterList> decode_filters(std::string_view body, bool with_qos) {
  FieldReader head{body};
  const auto packet_id = head.u16();
  if (head.truncated()) return DecodeError::truncated_packet;
  if (packet_id == 0) return DecodeError::zero_packet_id;
  if (head.rest().empty()) return DecodeError::no_topic_filter;
  FieldReader fields{head.rest()};
  while (!fields.rest().empty()) {
    const auto filter = fields.bytes();
    const auto qos = with_qos ? fields.u8() : uint8_t{0};
    if (fields.truncated()) return DecodeError::truncated_packet;
    if (const auto error = check_filter(filter); error != DecodeError::none) return error;
    if ((qos & 0xfc) != 0) return DecodeError::reserved_subscribe_bits;
    if (qos == 3) return DecodeError::invalid_qos;
  }
  return FilterList{packet_id, TopicFilters{head.rest(), with_qos}};
}

}  // namespace

DecodeError check_utf8(std::string_view text) {
  if (is_plain_ascii(text, false)) return DecodeError::none;
  for (size_t i = 0; i < text.size();) {
    const auto lead = byte_at(text, i);
    if (lead == 0) return DecodeError::null_character;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    // RFC 3629 section 4: the second byte's range excludes overlong forms, surrogates and points above U+10FFFF.
    size_t size = 0;
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      size = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      size = 3;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      size = 4;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return DecodeError::invalid_utf8;
    }
    if (text.size() - i < size) return DecodeError::invalid_utf8;
    for (size_t k = 1; k < size; ++k) {
      const auto next = byte_at(text, i + k);
      if (next < low || next > high) return DecodeError::invalid_utf8;
      low = 0x80;
      high = 0xbf;
    }
    i += size;
  }
  return DecodeError::none;
}

FrameResult next_frame(std::string_view bytes, size_t max_packet) {
  FrameResult result;
  if (bytes.empty()) return result;
  const auto malformed = [&](DecodeError error) {
    result.status = FrameStatus::malformed;
    result.error = error;
    return result;
  };
  const auto first = byte_at(bytes, 0);
  const auto type = static_cast<uint8_t>(first >> 4);
  if (type == 0 || type == 15) return malformed(DecodeError::reserved_packet_type);
  result.type = static_cast<PacketType>(type);
  result.flags = first & 0x0f;
  if (!flags_allowed(result.type, result.flags)) return malformed(DecodeError::wrong_fixed_header_flags);

  size_t length = 0;
  size_t header = 1;
  for (int shift = 0;; shift += 7) {
    if (shift == 28) return malformed(DecodeError::remaining_length_too_long);
    if (header == bytes.size()) return result;
    const auto byte = byte_at(bytes, header++);
    length |= static_cast<size_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) break;
  }
  result.size = header + length;
  if (result.size > max_packet) return malformed(DecodeError::packet_too_large);
  if (bytes.size() < result.size) return result;
  result.status = FrameStatus::complete;
  result.body = bytes.substr(header, length);
  return result;
}

Decoded<Connect> decode_connect(std::string_view body) {
  FieldReader fields{body};
  const auto name = fields.bytes();
  if (fields.truncated()) return DecodeError::truncated_packet;
  if (name != "MQTT") return DecodeError::wrong_protocol_name;
  const auto level = fields.u8();
  if (fields.truncated()) return DecodeError::truncated_packet;
  if (level != 4) return DecodeError::unacceptable_protocol_level;
  const auto flags = fields.u8();
  Connect connect;
  connect.keep_alive_seconds = fields.u16();
  if (fields.truncated()) return DecodeError::truncated_packet;

  const bool has_will = (flags & 0x04) != 0;
  const auto will_qos = static_cast<uint8_t>(flags >> 3 & 3);
  const bool has_user = (flags & 0x80) != 0;
  const bool has_password = (flags & 0x40) != 0;
  if ((flags & 0x01) != 0) return DecodeError::reserved_connect_flag;
  if (will_qos == 3 || (!has_will && (flags & 0x38) != 0)) return DecodeError::invalid_will;
  if (has_password && !has_user) return DecodeError::password_without_user_name;
  connect.clean_session = (flags & 0x02) != 0;

  connect.client_id = fields.bytes();
  if (has_will) {
    Will will;
    will.topic = fields.bytes();
    will.message = fields.bytes();
    will.qos = static_cast<Qos>(will_qos);
    will.retain = (flags & 0x20) != 0;
    connect.will = will;
  }
  if (has_user) connect.user_name = fields.bytes();
  if (has_password) connect.password = fields.bytes();
  if (fields.truncated()) return DecodeError::truncated_packet;
  if (!fields.rest().empty()) return DecodeError::trailing_bytes;

  if (const auto error = check_utf8(connect.client_id); error != DecodeError::none) return error;
  if (has_user) {
    if (const auto error = check_utf8(*connect.user_name); error != DecodeError::none) return error;
  }
  if (has_will) {
    if (const auto error = check_topic_name(connect.will->topic); error != DecodeError::none) return error;
  }
  return connect;
}

Decoded<Connack> decode_connack(std::string_view body) {
  if (body.size() != 2) return DecodeError::wrong_packet_size;
  const auto flags = byte_at(body, 0);
  const auto code = byte_at(body, 1);
  if ((flags & 0xfe) != 0) return DecodeError::invalid_connack_flags;
  if (code > 5) return DecodeError::invalid_return_code;
  if (flags == 1 && code != 0) return DecodeError::session_present_on_refusal;
  return Connack{flags == 1, static_cast<ConnackCode>(code)};
}

Decoded<Publish> decode_publish(uint8_t flags, std::string_view body) {
  const auto qos = static_cast<uint8_t>(flags >> 1 & 3);
  if (qos == 3) return DecodeError::invalid_qos;
  Publish publish;
  publish.qos = static_cast<Qos>(qos);
  publish.dup = (flags & 8) != 0;
  publish.retain = (flags & 1) != 0;
  if (publish.dup && qos == 0) return DecodeError::dup_on_qos0;
  FieldReader fields{body};
  publish.topic = fields.bytes();
  if (qos != 0) publish.packet_id = fields.u16();
  if (fields.truncated()) return DecodeError::truncated_packet;
  if (const auto error = check_topic_name(publish.topic); error != DecodeError::none) return error;
  if (qos != 0 && publish.packet_id == 0) return DecodeError::zero_packet_id;
  publish.payload = fields.rest();
  return publish;
}

Decoded<uint16_t> decode_packet_id(std::string_view body) {
  if (body.size() != 2) return DecodeError::wrong_packet_size;
  const auto packet_id = FieldReader{body}.u16();
  if (packet_id == 0) return DecodeError::zero_packet_id;
  return packet_id;
}

Decoded<Subscribe> decode_subscribe(std::string_view body) {
  const auto list = decode_filters(body, true);
  if (!list) return list.error();
  return Subscribe{list->packet_id, list->filters};
}

Decoded<Unsubscribe> decode_unsubscribe(std::string_view body) {
  const auto list = decode_filters(body, false);
  if (!list) return list.error();
  return Unsubscribe{list->packet_id, list->filters};
}

Decoded<Suback> decode_suback(std::string_view body) {
  FieldReader fields{body};
  Suback suback;
  suback.packet_id = fields.u16();
  suback.return_codes = fields.rest();
  if (fields.truncated() || suback.return_codes.empty()) return DecodeError::truncated_packet;
  if (suback.packet_id == 0) return DecodeError::zero_packet_id;
  for (size_t i = 0; i < suback.return_codes.size(); ++i) {
    const auto code = byte_at(suback.return_codes, i);
    if (code > 2 && code != kSubackFailure) return DecodeError::invalid_return_code;
  }
  return suback;
}

DecodeError check_empty(std::string_view body) {
  return body.empty() ? DecodeError::none : DecodeError::wrong_packet_size;
}

}  // namespace twinstorm::mqtt
