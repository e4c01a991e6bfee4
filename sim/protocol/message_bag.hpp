// What travels beside a message's body: system and application properties, as a property bag in an MQTT topic
// (device.md 3.5) and as headers of an HTTP request or answer (device.md 5).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm::protocol {

/// Application property that asks for feedback about a cloud-to-device message; part of the application properties in
/// bags, a header of its own over HTTP.
inline constexpr std::string_view kAckProperty = "iothub-ack";
/// What the hub adds to a message published with the retain flag; its value is undocumented, `true` is ours.
inline constexpr std::string_view kRetainProperty = "mqtt-retain";
/// What the hub adds to a device's will: `iothub-MessageType=Will`.
inline constexpr std::string_view kMessageTypeProperty = "iothub-MessageType";

/// Decoded. System properties that are absent, bare or empty are "": the protocol gives those no different meaning.
struct MessageProperties {
  std::string output;            ///< `$.on`: the module output the message leaves by
  std::string message_id;        ///< `$.mid`
  std::string correlation_id;    ///< `$.cid`
  std::string user_id;           ///< `$.uid`
  std::string to;                ///< `$.to`
  std::string content_type;      ///< `$.ct`
  std::string content_encoding;  ///< `$.ce`
  std::string interface_id;      ///< `$.ifid`
  std::string expiry;            ///< `$.exp`, ISO 8601
  std::string subject;           ///< `$.sub`, the plug-and-play component
  /// Everything else in order, unknown names that begin with `$.` included. A bare key has no value, `k=` an empty one.
  std::vector<Property> application;

  /// The value of an application property; nullopt when absent or bare.
  std::optional<std::string_view> find(std::string_view name) const;
  friend bool operator==(const MessageProperties&, const MessageProperties&) = default;
};

/// Reads a raw bag; names may be written `$.mid` or `%24.mid`. `+` is a plus. One trailing `/` is ignored (module
/// outputs of the SDK). Fails with `invalid_argument` on an empty name or broken percent-encoding.
Result<MessageProperties> parse_message_bag(std::string_view bag);
/// As the service and the SDK write it: system properties first, `$` as `%24`, blank as `%20`, `/` as `%2F`.
void append_message_bag(std::string& out, const MessageProperties& properties);
std::string format_message_bag(const MessageProperties& properties);

/// What a bag adds to a message's size: values of system properties, names and values of the others (device.md 7.5).
struct BagSize {
  uint32_t properties = 0;
  size_t bytes = 0;
};
/// Accepts exactly what `parse_message_bag` does, without allocating: the hub's telemetry path. nullopt: malformed.
std::optional<BagSize> measure_message_bag(std::string_view bag);
/// The same of decoded properties.
BagSize measure(const MessageProperties& properties);

/// Takes one HTTP header of a message (`iothub-messageid`, `iothub-app-k`, `dt-subject`, `Content-Type` is none of
/// them), name in any case. False when the header is not about the message.
bool take_message_header(MessageProperties& properties, std::string_view name, std::string_view value);
/// Calls `header(name, value)` for each header that describes `properties` to a device that receives over HTTP. Names
/// and values that no header can carry (control characters, blanks in names) are left out. A bare application property
/// has an empty value here.
void for_each_message_header(const MessageProperties& properties,
                             const std::function<void(std::string_view, std::string_view)>& header);

}  // namespace twinstorm::protocol
