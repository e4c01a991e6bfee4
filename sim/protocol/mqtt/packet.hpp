// MQTT 3.1.1 vocabulary (OASIS standard, 29 October 2014): packet types, decoded packets, reasons for refusing bytes.
//
// Decoded packets are views into the caller's bytes and live as long as those.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <boost/system/result.hpp>

namespace twinstorm::mqtt {

/// Section 2.2.1; the values are those of the first byte's upper half.
enum class PacketType : uint8_t {
  connect = 1,
  connack = 2,
  publish = 3,
  puback = 4,
  pubrec = 5,
  pubrel = 6,
  pubcomp = 7,
  subscribe = 8,
  suback = 9,
  unsubscribe = 10,
  unsuback = 11,
  pingreq = 12,
  pingresp = 13,
  disconnect = 14,
};
/// `CONNECT`, `PUBLISH`, ... as the standard spells them.
const char* to_string(PacketType type);

enum class Qos : uint8_t { at_most_once = 0, at_least_once = 1, exactly_once = 2 };

/// CONNACK return codes, section 3.2.2.3.
enum class ConnackCode : uint8_t {
  accepted = 0,
  unacceptable_protocol_version = 1,
  identifier_rejected = 2,
  server_unavailable = 3,
  bad_user_name_or_password = 4,
  not_authorized = 5,
};

inline constexpr uint8_t kSubackFailure = 0x80;
/// Section 2.2.3: four length bytes.
inline constexpr size_t kRemainingLengthMax = 268'435'455;
/// IoT Hub takes messages of 256 KB; topic and headers come on top (device.md 3.9).
inline constexpr size_t kMaxPacketDefault = 272 * 1024;

/// Why bytes are not MQTT 3.1.1. `describe` gives the sentence with the clause.
enum class DecodeError : uint8_t {
  none,
  reserved_packet_type,
  wrong_fixed_header_flags,
  remaining_length_too_long,
  packet_too_large,
  truncated_packet,
  trailing_bytes,
  invalid_utf8,
  null_character,
  wrong_protocol_name,
  unacceptable_protocol_level,  ///< answer CONNACK 1, then close [MQTT-3.1.2-2]
  reserved_connect_flag,
  invalid_will,
  password_without_user_name,
  invalid_connack_flags,
  invalid_return_code,
  session_present_on_refusal,
  invalid_qos,
  dup_on_qos0,
  zero_packet_id,
  empty_topic,
  wildcard_in_topic_name,
  invalid_topic_filter,
  no_topic_filter,
  reserved_subscribe_bits,
  wrong_packet_size,
  unexpected_packet,  ///< a type the receiving side may not get in this state
};
/// One sentence naming the field and the clause, e.g. `packet identifier is 0 [MQTT-2.3.1-1]`. Static text.
const char* describe(DecodeError error);
[[noreturn]] void throw_exception_from_error(DecodeError error, const boost::source_location& where);

template <class T>
using Decoded = boost::system::result<T, DecodeError>;

struct Will {
  std::string_view topic;
  std::string_view message;
  Qos qos = Qos::at_most_once;
  bool retain = false;
};

/// CONNECT, section 3.1. Also what the encoder takes.
struct Connect {
  std::string_view client_id;       ///< may be empty: whether that is acceptable is the server's matter [MQTT-3.1.3-8]
  uint16_t keep_alive_seconds = 0;  ///< 0 = off
  bool clean_session = false;
  std::optional<Will> will;
  std::optional<std::string_view> user_name;
  std::optional<std::string_view> password;  ///< binary
};

struct Connack {
  bool session_present = false;
  ConnackCode code = ConnackCode::accepted;
};

struct Publish {
  std::string_view topic;
  std::string_view payload;
  Qos qos = Qos::at_most_once;
  uint16_t packet_id = 0;  ///< 0 when qos is at_most_once
  bool retain = false;
  bool dup = false;
};

struct Subscription {
  std::string_view filter;
  Qos qos = Qos::at_most_once;
};

/// The checked payload of a SUBSCRIBE (filter + qos) or UNSUBSCRIBE (filter): a forward range over the packet's bytes.
class TopicFilters {
 public:
  class Iterator {
   public:
    using value_type = Subscription;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Iterator(std::string_view rest, bool with_qos) : rest_{rest}, with_qos_{with_qos} {}
    Subscription operator*() const {
      const size_t size = filter_size();
      return {rest_.substr(2, size), with_qos_ ? static_cast<Qos>(rest_[2 + size]) : Qos::at_most_once};
    }
    Iterator& operator++() {
      rest_.remove_prefix(2 + filter_size() + (with_qos_ ? 1U : 0U));
      return *this;
    }
    Iterator operator++(int) {
      auto old = *this;
      ++*this;
      return old;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.rest_.size() == b.rest_.size(); }

   private:
    size_t filter_size() const { return size_t{static_cast<uint8_t>(rest_[0])} * 256 + static_cast<uint8_t>(rest_[1]); }
    std::string_view rest_;
    bool with_qos_ = true;
  };

  TopicFilters() = default;
  /// `payload` must have passed the decoder.
  TopicFilters(std::string_view payload, bool with_qos) : payload_{payload}, with_qos_{with_qos} {}
  Iterator begin() const { return {payload_, with_qos_}; }
  Iterator end() const { return {std::string_view{}, with_qos_}; }
  size_t size() const {
    size_t count = 0;
    for (auto i = begin(); i != end(); ++i) ++count;
    return count;
  }

 private:
  std::string_view payload_;
  bool with_qos_ = true;
};

struct Subscribe {
  uint16_t packet_id = 0;
  TopicFilters filters;
};

struct Suback {
  uint16_t packet_id = 0;
  std::string_view return_codes;  ///< one byte per filter: 0, 1, 2 or 0x80
};

struct Unsubscribe {
  uint16_t packet_id = 0;
  TopicFilters filters;
};

}  // namespace twinstorm::mqtt
