// Bytes to MQTT packets: framing first (`next_frame`), then one typed decoder per packet.
//
// Strict: every MUST of MQTT 3.1.1 that is visible in one packet is checked, and `DecodeError` names the clause.
// Stateless, allocation-free, never reads outside its argument. Whether a packet may come now is the session's matter.
#pragma once

#include <cstdint>
#include <string_view>

#include "sim/protocol/mqtt/packet.hpp"

namespace twinstorm::mqtt {

enum class FrameStatus : uint8_t { complete, need_more, malformed };

struct FrameResult {
  FrameStatus status = FrameStatus::need_more;
  DecodeError error = DecodeError::none;  ///< set when malformed
  PacketType type = PacketType::connect;  ///< complete: checked to be one of the enumerators
  uint8_t flags = 0;                      ///< complete: the first byte's lower half, checked against section 2.2.2
  size_t size = 0;        ///< complete: bytes of the whole packet; need_more: that size if already known, else 0
  std::string_view body;  ///< complete: variable header and payload
};

/// Looks at the front of `bytes`. `max_packet` bounds the whole packet and is checked as soon as the length is known,
/// so a caller never buffers more than it.
FrameResult next_frame(std::string_view bytes, size_t max_packet = kMaxPacketDefault);

/// `body` is `FrameResult::body` of a packet of that type.
Decoded<Connect> decode_connect(std::string_view body);
Decoded<Connack> decode_connack(std::string_view body);
/// Topic and payload are views into `body`. Checks the topic name (UTF-8, no U+0000, no wildcard, not empty).
Decoded<Publish> decode_publish(uint8_t flags, std::string_view body);
/// PUBACK and UNSUBACK (and PUBREC, PUBREL, PUBCOMP): the packet identifier.
Decoded<uint16_t> decode_packet_id(std::string_view body);
inline Decoded<uint16_t> decode_puback(std::string_view body) { return decode_packet_id(body); }
inline Decoded<uint16_t> decode_unsuback(std::string_view body) { return decode_packet_id(body); }
Decoded<Subscribe> decode_subscribe(std::string_view body);
Decoded<Suback> decode_suback(std::string_view body);
Decoded<Unsubscribe> decode_unsubscribe(std::string_view body);
/// PINGREQ, PINGRESP and DISCONNECT: no body. `DecodeError::none` when that holds.
DecodeError check_empty(std::string_view body);

/// What section 1.5.3 asks of a UTF-8 string: `none`, `invalid_utf8` (ill-formed, surrogates, overlong) or
/// `null_character`.
DecodeError check_utf8(std::string_view text);

}  // namespace twinstorm::mqtt
