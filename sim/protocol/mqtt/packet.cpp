#include "sim/protocol/mqtt/packet.hpp"

#include <stdexcept>
#include <string>

namespace twinstorm::mqtt {

const char* to_string(PacketType type) {
  switch (type) {
    case PacketType::connect:
      return "CONNECT";
    case PacketType::connack:
      return "CONNACK";
    case PacketType::publish:
      return "PUBLISH";
    case PacketType::puback:
      return "PUBACK";
    case PacketType::pubrec:
      return "PUBREC";
    case PacketType::pubrel:
      return "PUBREL";
    case PacketType::pubcomp:
      return "PUBCOMP";
    case PacketType::subscribe:
      return "SUBSCRIBE";
    case PacketType::suback:
      return "SUBACK";
    case PacketType::unsubscribe:
      return "UNSUBSCRIBE";
    case PacketType::unsuback:
      return "UNSUBACK";
    case PacketType::pingreq:
      return "PINGREQ";
    case PacketType::pingresp:
      return "PINGRESP";
    case PacketType::disconnect:
      return "DISCONNECT";
  }
  return "reserved";
}

const char* describe(DecodeError error) {
  switch (error) {
    case DecodeError::none:
      return "no error";
    case DecodeError::reserved_packet_type:
      return "packet type 0 or 15 is reserved [MQTT 2.2.1]";
    case DecodeError::wrong_fixed_header_flags:
      return "fixed header flags differ from the packet type's reserved value [MQTT-2.2.2-2]";
    case DecodeError::remaining_length_too_long:
      return "remaining length has more than four bytes [MQTT 2.2.3]";
    case DecodeError::packet_too_large:
      return "packet is longer than this side accepts";
    case DecodeError::truncated_packet:
      return "packet ends inside a field [MQTT 2.2.3]";
    case DecodeError::trailing_bytes:
      return "bytes behind the last field of the packet [MQTT 2.2.3]";
    case DecodeError::invalid_utf8:
      return "string is not well-formed UTF-8 [MQTT-1.5.3-1]";
    case DecodeError::null_character:
      return "string contains U+0000 [MQTT-1.5.3-2]";
    case DecodeError::wrong_protocol_name:
      return "protocol name is not \"MQTT\" [MQTT-3.1.2-1]";
    case DecodeError::unacceptable_protocol_level:
      return "protocol level is not 4 [MQTT-3.1.2-2]";
    case DecodeError::reserved_connect_flag:
      return "reserved connect flag is set [MQTT-3.1.2-3]";
    case DecodeError::invalid_will:
      return "will QoS is 3, or will QoS or retain without a will [MQTT-3.1.2-13, -14, -15]";
    case DecodeError::password_without_user_name:
      return "password flag without user name flag [MQTT-3.1.2-22]";
    case DecodeError::invalid_connack_flags:
      return "reserved bits of the connect acknowledge flags are set [MQTT 3.2.2.1]";
    case DecodeError::invalid_return_code:
      return "return code is reserved [MQTT 3.2.2.3, MQTT-3.9.3-2]";
    case DecodeError::session_present_on_refusal:
      return "session present together with a refusal [MQTT-3.2.2-4]";
    case DecodeError::invalid_qos:
      return "QoS is 3 [MQTT-3.3.1-4, MQTT-3.8.3-4]";
    case DecodeError::dup_on_qos0:
      return "DUP flag on a QoS 0 message [MQTT-3.3.1-2]";
    case DecodeError::zero_packet_id:
      return "packet identifier is 0 [MQTT-2.3.1-1]";
    case DecodeError::empty_topic:
      return "topic name or filter is empty [MQTT-4.7.3-1]";
    case DecodeError::wildcard_in_topic_name:
      return "topic name contains a wildcard [MQTT-3.3.2-2]";
    case DecodeError::invalid_topic_filter:
      return "wildcard of the topic filter does not stand alone in its level, or # is not last [MQTT-4.7.1-2, -3]";
    case DecodeError::no_topic_filter:
      return "SUBSCRIBE or UNSUBSCRIBE without a topic filter [MQTT-3.8.3-3, MQTT-3.10.3-2]";
    case DecodeError::reserved_subscribe_bits:
      return "reserved bits of the requested QoS are set [MQTT-3.8.3-4]";
    case DecodeError::wrong_packet_size:
      return "packet has not the only length its type allows [MQTT 3]";
    case DecodeError::unexpected_packet:
      return "packet type may not be received now [MQTT 3.1, 3.2, 4.8]";
  }
  return "unknown error";
}

void throw_exception_from_error(DecodeError error, const boost::source_location& where) {
  throw std::runtime_error(std::string{where.file_name()} + ":" + std::to_string(where.line()) + ": " +
                           describe(error));
}

}  // namespace twinstorm::mqtt
