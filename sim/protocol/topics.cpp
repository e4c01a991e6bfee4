#include "sim/protocol/topics.hpp"

#include "sim/protocol/text.hpp"

namespace twinstorm::protocol {
namespace {

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// The text up to the next `/`, which is taken too; nullopt when there is none or nothing in front of it.
std::optional<std::string_view> take_segment(std::string_view& text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0) return std::nullopt;
  const auto segment = text.substr(0, slash);
  text.remove_prefix(slash + 1);
  return segment;
}

/// `$rid` and `$version` out of `?$rid=..&$version=..`; other parameters are ignored (device.md 3.7).
struct TopicParameters {
  std::string_view rid;
  std::optional<int64_t> version;
};
std::optional<TopicParameters> parse_parameters(std::string_view text) {
  if (!take_prefix(text, "?")) return std::nullopt;
  TopicParameters out;
  for (TextSplitter pairs{text, '&'}; pairs.next();) {
    auto pair = pairs.part();
    if (take_prefix(pair, "$rid=")) {
      out.rid = pair;
    } else if (take_prefix(pair, "$version=")) {
      out.version = parse_decimal<int64_t>(pair);
      if (!out.version) return std::nullopt;
    }
  }
  return out;
}

/// `{status}/?$rid=..`
struct StatusAndParameters {
  int status = 0;
  TopicParameters parameters;
};
std::optional<StatusAndParameters> parse_status(std::string_view text) {
  const auto segment = take_segment(text);
  if (!segment) return std::nullopt;
  const auto status = parse_decimal<int>(*segment);
  const auto parameters = parse_parameters(text);
  if (!status || !parameters || parameters->rid.empty()) return std::nullopt;
  return StatusAndParameters{*status, *parameters};
}

/// `devices/{id}/` or `devices/{id}/modules/{id}/` taken off the front.
struct Identity {
  std::string_view device_id;
  std::string_view module_id;
};
std::optional<Identity> take_identity(std::string_view& text) {
  if (!take_prefix(text, "devices/")) return std::nullopt;
  Identity out;
  const auto device_id = take_segment(text);
  if (!device_id) return std::nullopt;
  out.device_id = *device_id;
  if (take_prefix(text, "modules/")) {
    const auto module_id = take_segment(text);
    if (!module_id) return std::nullopt;
    out.module_id = *module_id;
  }
  return out;
}

}  // namespace

std::optional<DeviceTopic> parse_device_topic(std::string_view topic) {
  DeviceTopic out;
  if (take_prefix(topic, "$iothub/")) {
    std::optional<TopicParameters> parameters;
    if (take_prefix(topic, "twin/GET/")) {
      out.kind = DeviceTopic::Kind::twin_get;
      parameters = parse_parameters(topic);
    } else if (take_prefix(topic, "twin/PATCH/properties/reported/")) {
      out.kind = DeviceTopic::Kind::reported_patch;
      parameters = parse_parameters(topic);
    } else if (take_prefix(topic, "methods/res/")) {
      const auto answer = parse_status(topic);
      if (!answer) return std::nullopt;
      out.kind = DeviceTopic::Kind::method_response;
      out.status = answer->status;
      parameters = answer->parameters;
    }
    if (!parameters || parameters->rid.empty()) return std::nullopt;
    out.rid = parameters->rid;
    out.version = parameters->version;
    return out;
  }
  const auto identity = take_identity(topic);
  if (!identity || !take_prefix(topic, "messages/events")) return std::nullopt;
  if (!topic.empty() && !take_prefix(topic, "/")) return std::nullopt;
  out.kind = DeviceTopic::Kind::telemetry;
  out.device_id = identity->device_id;
  out.module_id = identity->module_id;
  out.bag = topic;
  return out;
}

std::optional<HubTopic> parse_hub_topic(std::string_view topic) {
  HubTopic out;
  if (take_prefix(topic, kTwinResponsePrefix)) {
    const auto answer = parse_status(topic);
    if (!answer || answer->status < 0) return std::nullopt;
    out.kind = HubTopic::Kind::twin_response;
    out.status = answer->status;
    out.rid = answer->parameters.rid;
    out.version = answer->parameters.version;
    return out;
  }
  if (take_prefix(topic, kDesiredPrefix)) {
    const auto parameters = parse_parameters(topic);
    if (!parameters || !parameters->version) return std::nullopt;
    out.kind = HubTopic::Kind::desired;
    out.version = parameters->version;
    return out;
  }
  if (take_prefix(topic, kMethodPrefix)) {
    const size_t question = topic.find('?');
    if (question == std::string_view::npos) return std::nullopt;
    const auto parameters = parse_parameters(topic.substr(question));
    out.kind = HubTopic::Kind::method;
    out.name = topic.substr(0, question);
    if (!out.name.empty() && out.name.back() == '/') out.name.remove_suffix(1);
    if (!parameters || parameters->rid.empty() || out.name.empty()) return std::nullopt;
    out.rid = parameters->rid;
    return out;
  }
  const auto identity = take_identity(topic);
  if (!identity) return std::nullopt;
  if (take_prefix(topic, "messages/devicebound/")) {
    out.kind = HubTopic::Kind::c2d;
    out.bag = topic;
    return out;
  }
  if (!identity->module_id.empty() && take_prefix(topic, "inputs/")) {
    const auto name = take_segment(topic);
    if (!name) return std::nullopt;
    out.kind = HubTopic::Kind::input;
    out.name = *name;
    out.bag = topic;
    return out;
  }
  return std::nullopt;
}

std::optional<HubFilter> parse_hub_filter(std::string_view filter, std::string_view device_id,
                                          std::string_view module_id) {
  if (filter == kTwinResponseFilter) return HubFilter::twin_responses;
  if (filter == kDesiredFilter) return HubFilter::desired;
  if (filter == kMethodFilter) return HubFilter::methods;
  if (!take_prefix(filter, "devices/") || !take_prefix(filter, device_id) || !take_prefix(filter, "/")) {
    return std::nullopt;
  }
  if (module_id.empty()) {
    if (filter == "messages/devicebound/#") return HubFilter::devicebound;
  } else if (take_prefix(filter, "modules/") && take_prefix(filter, module_id) && filter == "/inputs/#") {
    return HubFilter::inputs;
  }
  return std::nullopt;
}

bool topic_matches(std::string_view filter, std::string_view topic) {
  // A leading wildcard does not match the server's own topics [MQTT-4.7.2-1].
  if (!topic.empty() && topic.front() == '$' && !filter.empty() && (filter.front() == '#' || filter.front() == '+')) {
    return false;
  }
  while (true) {
    const auto filter_end = filter.find('/');
    const auto topic_end = topic.find('/');
    const auto level = filter.substr(0, filter_end);
    if (level == "#") return true;
    if (level != "+" && level != topic.substr(0, topic_end)) return false;
    const bool filter_ends = filter_end == std::string_view::npos;
    const bool topic_ends = topic_end == std::string_view::npos;
    if (filter_ends) return topic_ends;
    filter.remove_prefix(filter_end + 1);
    // "sport/#" matches "sport" itself, section 4.7.1.2.
    if (topic_ends) return filter == "#";
    topic.remove_prefix(topic_end + 1);
  }
}

bool is_valid_filter(std::string_view filter) {
  if (filter.empty()) return false;
  for (size_t i = filter.find_first_of("+#"); i != std::string_view::npos; i = filter.find_first_of("+#", i + 1)) {
    if (i != 0 && filter[i - 1] != '/') return false;
    const bool last = i + 1 == filter.size();
    if (filter[i] == '#' ? !last : !last && filter[i + 1] != '/') return false;
  }
  return true;
}

Result<std::vector<Property>> decode_property_bag(std::string_view bag) {
  if (!bag.empty() && bag.back() == '/') bag.remove_suffix(1);
  std::vector<Property> out;
  for (TextSplitter pairs{bag, '&'}; pairs.next();) {
    const auto pair = pairs.part();
    const size_t equals = pair.find('=');
    auto key = percent_decode(pair.substr(0, equals));
    if (!key) return make_error(ErrorCode::invalid_argument, "property name: " + key.error().message);
    if (key->empty()) return make_error(ErrorCode::invalid_argument, "property without a name in the property bag");
    Property property{std::move(*key), std::nullopt};
    if (equals != std::string_view::npos) {
      auto value = percent_decode(pair.substr(equals + 1));
      if (!value) {
        return make_error(ErrorCode::invalid_argument, "property " + property.key + ": " + value.error().message);
      }
      property.value = std::move(*value);
    }
    out.push_back(std::move(property));
  }
  return out;
}

std::string encode_property_bag(const std::vector<Property>& properties) {
  std::string out;
  for (const auto& property : properties) {
    if (!out.empty()) out += '&';
    append_percent_encoded(out, property.key);
    if (property.value) {
      out += '=';
      append_percent_encoded(out, *property.value);
    }
  }
  return out;
}

std::optional<std::string> find_property(std::string_view bag, std::string_view key) {
  if (!bag.empty() && bag.back() == '/') bag.remove_suffix(1);
  for (TextSplitter pairs{bag, '&'}; pairs.next();) {
    const auto pair = pairs.part();
    const size_t equals = pair.find('=');
    const auto name = percent_decode(pair.substr(0, equals));
    if (!name || *name != key) continue;
    if (equals == std::string_view::npos) return std::nullopt;
    auto value = percent_decode(pair.substr(equals + 1));
    return value ? std::optional{std::move(*value)} : std::nullopt;
  }
  return std::nullopt;
}

std::string format_mqtt_user_name(const MqttUserName& name) {
  std::string out = name.host_name + "/" + name.device_id;
  if (!name.module_id.empty()) out += "/" + name.module_id;
  out += "/?api-version=";
  out += name.api_version;
  if (!name.model_id.empty()) out += "&model-id=" + name.model_id;
  if (!name.device_client_type.empty()) {
    out += "&DeviceClientType=";
    // As JavaScript's encodeURIComponent, which the reference SDK uses here: these five stay (device.md 3.1).
    for (const char c : name.device_client_type) {
      if (std::string_view{"!'()*"}.find(c) != std::string_view::npos) {
        out += c;
      } else {
        append_percent_encoded(out, {&c, 1});
      }
    }
  }
  return out;
}

Result<MqttUserName> parse_mqtt_user_name(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    std::string message = "MQTT user name \"";
    message.append(text).append("\" ").append(why).append(" (want {host}/{device}/?api-version=...)");
    return make_error(ErrorCode::unauthorized, std::move(message));
  };
  auto rest = text;
  const auto host = take_segment(rest);
  if (!host) return bad("has no host name");
  MqttUserName out;
  out.host_name = *host;
  const size_t device_end = rest.find('/');
  out.device_id = rest.substr(0, device_end);
  if (out.device_id.empty()) return bad("has no device id");
  if (device_end == std::string_view::npos) return out;
  rest.remove_prefix(device_end + 1);

  // What follows is the parameters, or a module id and the parameters. Old clients leave the question mark out.
  const auto is_parameters = [](std::string_view part) {
    return part.empty() || part.front() == '?' || part.substr(0, 12) == "api-version=";
  };
  if (!is_parameters(rest)) {
    const size_t module_end = rest.find('/');
    out.module_id = rest.substr(0, module_end);
    rest = module_end == std::string_view::npos ? std::string_view{} : rest.substr(module_end + 1);
    if (!is_parameters(rest)) return bad("has too many parts");
  }
  take_prefix(rest, "?");
  for (TextSplitter pairs{rest, '&'}; pairs.next();) {
    auto pair = pairs.part();
    if (take_prefix(pair, "api-version=")) {
      out.api_version = pair;
    } else if (take_prefix(pair, "model-id=")) {
      auto model = percent_decode(pair);  // some clients do encode it
      out.model_id = model ? std::move(*model) : std::string{pair};
    } else if (take_prefix(pair, "DeviceClientType=")) {
      auto agent = percent_decode(pair);
      out.device_client_type = agent ? std::move(*agent) : std::string{pair};
    }
  }
  return out;
}

}  // namespace twinstorm::protocol
