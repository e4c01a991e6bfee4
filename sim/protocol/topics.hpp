// The MQTT names of IoT Hub: topics, filters, property bags and the user name (device.md 3.1, 3.4, 3.5).
//
// Builders append to any `ByteSink`; parsers return views into the topic and never allocate. Ids stand raw in topics.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/protocol/byte_writer.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::protocol {

/// What every transport of the reference SDK sends (device.md 1).
inline constexpr std::string_view kApiVersion = "2021-04-12";

// Filters a device subscribes to.
inline constexpr std::string_view kTwinResponseFilter = "$iothub/twin/res/#";
inline constexpr std::string_view kDesiredFilter = "$iothub/twin/PATCH/properties/desired/#";
inline constexpr std::string_view kMethodFilter = "$iothub/methods/POST/#";

// Prefixes in front of ids, statuses and versions.
inline constexpr std::string_view kTwinGetPrefix = "$iothub/twin/GET/?$rid=";
inline constexpr std::string_view kReportedPatchPrefix = "$iothub/twin/PATCH/properties/reported/?$rid=";
inline constexpr std::string_view kTwinResponsePrefix = "$iothub/twin/res/";
inline constexpr std::string_view kDesiredPrefix = "$iothub/twin/PATCH/properties/desired/";
inline constexpr std::string_view kMethodPrefix = "$iothub/methods/POST/";
inline constexpr std::string_view kMethodResponsePrefix = "$iothub/methods/res/";

// --- What a device publishes -----------------------------------------------------------------------------------------

template <ByteSink Out>
void append_twin_get(Out& out, std::string_view rid) {
  out.append(kTwinGetPrefix);
  out.append(rid);
}
/// Request ids of our own devices are counters, written in decimal.
template <ByteSink Out>
void append_twin_get(Out& out, uint32_t rid) {
  out.append(kTwinGetPrefix);
  append_decimal(out, rid);
}

template <ByteSink Out>
void append_reported_patch(Out& out, std::string_view rid) {
  out.append(kReportedPatchPrefix);
  out.append(rid);
}
template <ByteSink Out>
void append_reported_patch(Out& out, uint32_t rid) {
  out.append(kReportedPatchPrefix);
  append_decimal(out, rid);
}

/// `devices/{id}/messages/events/{bag}`; the bag is already encoded and may be empty, the slash in front stays.
template <ByteSink Out>
void append_telemetry(Out& out, std::string_view device_id, std::string_view bag = {}) {
  out.append(std::string_view{"devices/"});
  out.append(device_id);
  out.append(std::string_view{"/messages/events/"});
  out.append(bag);
}

template <ByteSink Out>
void append_method_response(Out& out, int status, std::string_view rid) {
  out.append(kMethodResponsePrefix);
  append_decimal(out, status);
  out.append(std::string_view{"/?$rid="});
  out.append(rid);
}

/// `devices/{id}/messages/devicebound/#`.
template <ByteSink Out>
void append_devicebound_filter(Out& out, std::string_view device_id) {
  out.append(std::string_view{"devices/"});
  out.append(device_id);
  out.append(std::string_view{"/messages/devicebound/#"});
}

// --- What a hub publishes --------------------------------------------------------------------------------------------

template <ByteSink Out>
void append_twin_response(Out& out, int status, std::string_view rid, std::optional<int64_t> version = std::nullopt) {
  out.append(kTwinResponsePrefix);
  append_decimal(out, status);
  out.append(std::string_view{"/?$rid="});
  out.append(rid);
  if (version) {
    out.append(std::string_view{"&$version="});
    append_decimal(out, *version);
  }
}

template <ByteSink Out>
void append_desired_notification(Out& out, int64_t version) {
  out.append(kDesiredPrefix);
  out.append(std::string_view{"?$version="});
  append_decimal(out, version);
}

template <ByteSink Out>
void append_method_call(Out& out, std::string_view method, std::string_view rid) {
  out.append(kMethodPrefix);
  out.append(method);
  out.append(std::string_view{"/?$rid="});
  out.append(rid);
}

/// `devices/{id}/modules/{mid}/inputs/{input}/{bag}`: the slash behind the name stays with an empty bag.
template <ByteSink Out>
void append_input(Out& out, std::string_view device_id, std::string_view module_id, std::string_view input,
                  std::string_view bag) {
  out.append(std::string_view{"devices/"});
  out.append(device_id);
  out.append(std::string_view{"/modules/"});
  out.append(module_id);
  out.append(std::string_view{"/inputs/"});
  out.append(input);
  out.push_back('/');
  out.append(bag);
}

/// `devices/{id}/messages/devicebound/{bag}`.
template <ByteSink Out>
void append_devicebound(Out& out, std::string_view device_id, std::string_view bag) {
  out.append(std::string_view{"devices/"});
  out.append(device_id);
  out.append(std::string_view{"/messages/devicebound/"});
  out.append(bag);
}

// --- Parsing -------------------------------------------------------------------------------------------------------

/// What a device published, as the hub sees it. Members that the kind has not are empty.
struct DeviceTopic {
  enum class Kind : uint8_t { twin_get, reported_patch, telemetry, method_response };
  Kind kind = Kind::telemetry;
  std::string_view rid;            ///< twin_get, reported_patch, method_response: to be echoed as it stands
  std::optional<int64_t> version;  ///< reported_patch: the optional `$version` precondition
  int status = 0;                  ///< method_response: any number, negative ones too
  std::string_view device_id;      ///< telemetry
  std::string_view module_id;      ///< telemetry of a module
  std::string_view bag;            ///< telemetry: the raw property bag
};
/// nullopt: a topic the hub does not support (the service closes the connection, device.md 3.9).
std::optional<DeviceTopic> parse_device_topic(std::string_view topic);

/// What the hub published, as a device sees it.
struct HubTopic {
  enum class Kind : uint8_t { twin_response, desired, method, c2d, input };
  Kind kind = Kind::desired;
  int status = 0;                  ///< twin_response: 200, 204, 4xx ...
  std::string_view rid;            ///< twin_response, method
  std::optional<int64_t> version;  ///< twin_response of a PATCH; desired
  std::string_view name;           ///< method name or module input
  std::string_view bag;            ///< c2d, input
};
std::optional<HubTopic> parse_hub_topic(std::string_view topic);

/// The subscriptions the service supports (device.md 3.4).
enum class HubFilter : uint8_t { twin_responses, desired, methods, devicebound, inputs };
/// `device_id`/`module_id` are those of the connection: filters for someone else's topics are not supported (nullopt).
std::optional<HubFilter> parse_hub_filter(std::string_view filter, std::string_view device_id,
                                          std::string_view module_id = {});

/// MQTT 3.1.1 section 4.7 for valid filters and topic names, including the rule for topics that begin with `$`.
bool topic_matches(std::string_view filter, std::string_view topic);
/// MQTT 3.1.1 section 4.7.1: `#` alone in the last level, `+` alone in its level, not empty.
bool is_valid_filter(std::string_view filter);

// --- Property bag ------------------------------------------------------------------------------------------------

/// One property, decoded. A bare key (`p1`) has no value, `p2=` has an empty one.
struct Property {
  std::string key;
  std::optional<std::string> value;
  friend bool operator==(const Property&, const Property&) = default;
};
/// `k=v&k2=&k3`, each side percent-encoded UTF-8; a trailing `/` behind the bag (module outputs of the SDK) is ignored.
/// Fails with `invalid_argument` on an empty key or broken percent-encoding.
Result<std::vector<Property>> decode_property_bag(std::string_view bag);
/// As the SDK writes it: `$` is encoded too, blank is `%20`.
std::string encode_property_bag(const std::vector<Property>& properties);
/// Decoded value of one (decoded) key, without decoding the rest; nullopt when absent or bare.
std::optional<std::string> find_property(std::string_view bag, std::string_view key);

// --- User name ---------------------------------------------------------------------------------------------------

/// `{host}/{device}[/{module}]/?api-version=..[&model-id=..][&DeviceClientType=..]` (device.md 3.1).
struct MqttUserName {
  std::string host_name;
  std::string device_id;
  std::string module_id;
  std::string api_version;         ///< empty: an old client; twin operations then answer 400
  std::string model_id;            ///< sent unencoded
  std::string device_client_type;  ///< decoded
  friend bool operator==(const MqttUserName&, const MqttUserName&) = default;
};
std::string format_mqtt_user_name(const MqttUserName& name);
/// Accepts `/api-version=` without `?` and unknown parameters. Fails with `unauthorized` on a missing host or device
/// id.
Result<MqttUserName> parse_mqtt_user_name(std::string_view text);

}  // namespace twinstorm::protocol
