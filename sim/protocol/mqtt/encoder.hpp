// MQTT 3.1.1 packets to bytes, appended to a `std::string` or a `protocol::ByteWriter`.
//
// Sizes are computed first, so nothing is written twice and no temporary is made. Strings longer than 65,535 bytes and
// packets longer than the protocol's maximum are the caller's defect (TS_ASSERT). A `ByteWriter` without room ends up
// `overflowed()`: rewind it to where the packet began.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "sim/base/assert.hpp"
#include "sim/protocol/byte_writer.hpp"
#include "sim/protocol/mqtt/packet.hpp"

namespace twinstorm::mqtt {

using protocol::ByteSink;
using protocol::ByteWriter;

namespace detail {

template <ByteSink Out>
void put_u16(Out& out, uint16_t value) {
  const char bytes[2] = {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
  out.append(std::string_view{bytes, 2});
}

template <ByteSink Out>
void put_string(Out& out, std::string_view text) {
  TS_ASSERT(text.size() <= 0xffff);
  put_u16(out, static_cast<uint16_t>(text.size()));
  out.append(text);
}

/// Section 2.2.3; returns how many bytes were filled.
inline size_t fill_remaining_length(char (&bytes)[4], size_t length) {
  TS_ASSERT(length <= kRemainingLengthMax);
  size_t count = 0;
  do {
    const auto low = static_cast<uint8_t>(length & 0x7f);
    length >>= 7;
    bytes[count++] = static_cast<char>(length != 0 ? low | 0x80 : low);
  } while (length != 0);
  return count;
}

template <ByteSink Out>
void put_fixed_header(Out& out, PacketType type, uint8_t flags, size_t remaining_length) {
  out.push_back(static_cast<char>(static_cast<uint8_t>(type) << 4 | flags));
  char bytes[4];
  const size_t count = fill_remaining_length(bytes, remaining_length);
  out.append(std::string_view{bytes, count});
}

constexpr uint8_t publish_flags(Qos qos, bool retain, bool dup) {
  return static_cast<uint8_t>((dup ? 8 : 0) | static_cast<uint8_t>(qos) << 1 | (retain ? 1 : 0));
}

template <ByteSink Out>
void put_packet_id_only(Out& out, PacketType type, uint8_t flags, uint16_t packet_id) {
  put_fixed_header(out, type, flags, 2);
  put_u16(out, packet_id);
}

}  // namespace detail

template <ByteSink Out>
void encode_connect(Out& out, const Connect& connect) {
  size_t length = 10 + 2 + connect.client_id.size();
  uint8_t flags = connect.clean_session ? 0x02 : 0x00;
  if (connect.will) {
    length += 4 + connect.will->topic.size() + connect.will->message.size();
    flags |=
        static_cast<uint8_t>(0x04 | static_cast<uint8_t>(connect.will->qos) << 3 | (connect.will->retain ? 0x20 : 0));
  }
  if (connect.user_name) length += 2 + connect.user_name->size(), flags |= 0x80;
  if (connect.password) length += 2 + connect.password->size(), flags |= 0x40;
  detail::put_fixed_header(out, PacketType::connect, 0, length);
  detail::put_string(out, "MQTT");
  out.push_back(4);
  out.push_back(static_cast<char>(flags));
  detail::put_u16(out, connect.keep_alive_seconds);
  detail::put_string(out, connect.client_id);
  if (connect.will) {
    detail::put_string(out, connect.will->topic);
    detail::put_string(out, connect.will->message);
  }
  if (connect.user_name) detail::put_string(out, *connect.user_name);
  if (connect.password) detail::put_string(out, *connect.password);
}

template <ByteSink Out>
void encode_connack(Out& out, const Connack& connack) {
  detail::put_fixed_header(out, PacketType::connack, 0, 2);
  out.push_back(connack.session_present ? 1 : 0);
  out.push_back(static_cast<char>(connack.code));
}

/// Bytes of a whole PUBLISH with a topic and a payload of these sizes.
constexpr size_t publish_size(size_t topic_bytes, size_t payload_bytes, Qos qos = Qos::at_most_once) {
  const size_t length = 2 + topic_bytes + (qos == Qos::at_most_once ? 0 : 2) + payload_bytes;
  return 1 + (length < 128 ? 1 : length < 16'384 ? 2 : length < 2'097'152 ? 3 : 4) + length;
}

template <ByteSink Out>
void encode_publish(Out& out, const Publish& publish) {
  const bool with_id = publish.qos != Qos::at_most_once;
  detail::put_fixed_header(out, PacketType::publish, detail::publish_flags(publish.qos, publish.retain, publish.dup),
                           2 + publish.topic.size() + (with_id ? 2U : 0U) + publish.payload.size());
  detail::put_string(out, publish.topic);
  if (with_id) detail::put_u16(out, publish.packet_id);
  out.append(publish.payload);
}

template <ByteSink Out>
void encode_publish(Out& out, std::string_view topic, std::string_view payload, Qos qos = Qos::at_most_once,
                    uint16_t packet_id = 0, bool retain = false, bool dup = false) {
  encode_publish(out, Publish{topic, payload, qos, packet_id, retain, dup});
}

template <ByteSink Out>
void encode_puback(Out& out, uint16_t packet_id) {
  detail::put_packet_id_only(out, PacketType::puback, 0, packet_id);
}

template <ByteSink Out>
void encode_subscribe(Out& out, uint16_t packet_id, std::span<const Subscription> subscriptions) {
  TS_ASSERT(!subscriptions.empty());
  size_t length = 2;
  for (const auto& s : subscriptions) length += 3 + s.filter.size();
  detail::put_fixed_header(out, PacketType::subscribe, 2, length);
  detail::put_u16(out, packet_id);
  for (const auto& s : subscriptions) {
    detail::put_string(out, s.filter);
    out.push_back(static_cast<char>(s.qos));
  }
}

/// One code per filter of the SUBSCRIBE: the granted QoS or `kSubackFailure`.
template <ByteSink Out>
void encode_suback(Out& out, uint16_t packet_id, std::span<const uint8_t> return_codes) {
  detail::put_fixed_header(out, PacketType::suback, 0, 2 + return_codes.size());
  detail::put_u16(out, packet_id);
  for (const uint8_t code : return_codes) out.push_back(static_cast<char>(code));
}

template <ByteSink Out>
void encode_unsubscribe(Out& out, uint16_t packet_id, std::span<const std::string_view> filters) {
  TS_ASSERT(!filters.empty());
  size_t length = 2;
  for (const auto filter : filters) length += 2 + filter.size();
  detail::put_fixed_header(out, PacketType::unsubscribe, 2, length);
  detail::put_u16(out, packet_id);
  for (const auto filter : filters) detail::put_string(out, filter);
}

template <ByteSink Out>
void encode_unsuback(Out& out, uint16_t packet_id) {
  detail::put_packet_id_only(out, PacketType::unsuback, 0, packet_id);
}

template <ByteSink Out>
void encode_pingreq(Out& out) {
  detail::put_fixed_header(out, PacketType::pingreq, 0, 0);
}

template <ByteSink Out>
void encode_pingresp(Out& out) {
  detail::put_fixed_header(out, PacketType::pingresp, 0, 0);
}

template <ByteSink Out>
void encode_disconnect(Out& out) {
  detail::put_fixed_header(out, PacketType::disconnect, 0, 0);
}

/// One PUBLISH written in place when the sizes are not known beforehand: construct, append the topic to `out()`, call
/// `begin_payload()`, append the payload to `out()`, call `finish()`.
///
///     PublishWriter publish{writer};
///     append_reported_patch(publish.out(), rid);
///     publish.begin_payload();
///     render(publish.out());
///     if (!publish.finish()) ...  // no room: nothing of it is left in the writer
///
/// The length bytes are patched at the end (body moved by one or two bytes when the guess was wrong). Payload renderers
/// that only know `std::string` use `encode_publish` on a string instead.
class PublishWriter {
 public:
  explicit PublishWriter(ByteWriter& out, Qos qos = Qos::at_most_once, uint16_t packet_id = 0, bool retain = false,
                         bool dup = false);
  ByteWriter& out() { return out_; }
  void begin_payload();
  /// False when the buffer was too small or the topic longer than 65,535 bytes: the writer is rewound to where this
  /// packet began, without the overflow flag.
  bool finish();

 private:
  ByteWriter& out_;
  size_t start_;
  size_t payload_ = 0;
  uint16_t packet_id_;
  bool with_id_;
};

}  // namespace twinstorm::mqtt
