#include <initializer_list>
#include <vector>

#include <fmt/format.h>

#include "sim/twin/twin_document.hpp"

// TwinDocument::from_json: the service's JSON form, read back member by member.
namespace twinstorm::twin {
namespace {

Error wrong(std::string_view member, std::string_view expected) {
  return make_error(ErrorCode::invalid_argument, fmt::format("{}: not {}", member, expected));
}

/// Collects the first problem, so that the members below read as a list.
class Reader {
 public:
  explicit Reader(const Value& json) : json_{json} {}

  void text(std::string_view name, std::string& into) {
    const Value* value = present(name);
    if (value == nullptr) return;
    if (!value->is_string()) return fail(wrong(name, "a string"));
    into = value->text();
  }
  template <class Integer>
  void integer(std::string_view name, Integer& into) {
    const Value* value = present(name);
    if (value == nullptr) return;
    const auto number = value->as_int();
    if (!number || *number < 0) return fail(wrong(name, "an integer of 0 or more"));
    into = static_cast<Integer>(*number);
  }
  template <class T, class Parse>
  void parsed(std::string_view name, T& into, Parse parse) {
    const Value* value = present(name);
    if (value == nullptr) return;
    if (!value->is_string()) return fail(wrong(name, "a string"));
    auto result = parse(value->text());
    if (!result)
      return fail(make_error(ErrorCode::invalid_argument, fmt::format("{}: {}", name, result.error().message)));
    into = *result;
  }
  /// nullptr when absent or null.
  const Value* object(std::string_view name) {
    const Value* value = present(name);
    if (value == nullptr || value->is_object()) return value;
    fail(wrong(name, "an object"));
    return nullptr;
  }
  const Value* present(std::string_view name) const {
    const Value* value = json_.find(name);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  void fail(Error error) {
    if (error_.message.empty()) error_ = std::move(error);
  }
  const Error& error() const { return error_; }

 private:
  const Value& json_;
  Error error_;
};

/// The entry of `values` told by `json`, its `$metadata` tree; what is missing takes `inherited`.
Result<Metadata> read_metadata(const Value& values, const Value* json, Stamp inherited) {
  Stamp stamp = inherited;
  if (json != nullptr) {
    if (const Value* time = json->find("$lastUpdated"); time != nullptr && time->is_string()) {
      const Result<WallTime> parsed = parse_twin_time(time->text());
      if (!parsed) return parsed.error();
      stamp.time = *parsed;
    }
    if (const Value* version = json->find("$lastUpdatedVersion")) {
      stamp.version = static_cast<uint32_t>(version->as_int().value_or(0));
    }
  }
  Metadata entry{stamp};
  for (const Member& member : values.members()) {
    Result<Metadata> child = read_metadata(member.value, json != nullptr ? json->find(member.name()) : nullptr, stamp);
    if (!child) return child;
    entry.append(std::move(*child));
  }
  return entry;
}

Result<PropertyBag> read_bag(std::string_view name, const Value* json) {
  PropertyBag bag;
  if (json == nullptr) return bag;
  if (!json->is_object()) return wrong(name, "an object");
  const Value* metadata = nullptr;
  for (const Member& member : json->members()) {
    if (member.name() == "$version") {
      const auto version = member.value.as_int();
      if (!version) return wrong(fmt::format("{}.$version", name), "an integer");
      bag.version = *version;
    } else if (member.name() == "$metadata") {
      metadata = &member.value;
    } else {
      bag.values.append(member.name(), member.value);
    }
  }
  Result<Metadata> tree = read_metadata(bag.values, metadata, Stamp{});
  if (!tree) {
    return make_error(ErrorCode::invalid_argument, fmt::format("{}.$metadata: {}", name, tree.error().message));
  }
  bag.metadata = std::move(*tree);
  bag.counted_bytes = counted_size(bag.values);
  return bag;
}

template <class Enum>
auto named(std::initializer_list<Enum> all) {
  return [all = std::vector<Enum>{all}](std::string_view text) -> Result<Enum> {
    for (const Enum candidate : all) {
      if (text == to_string(candidate)) return candidate;
    }
    return make_error(ErrorCode::invalid_argument, fmt::format("'{}' is not known", text));
  };
}

}  // namespace

Result<TwinDocument> TwinDocument::from_json(const Value& json) {
  if (!json.is_object()) return make_error(ErrorCode::invalid_argument, "twin: not an object");
  TwinDocument twin;
  Reader reader{json};
  reader.text("deviceId", twin.device_id);
  reader.text("moduleId", twin.module_id);
  reader.parsed("etag", twin.etag, parse_etag);
  reader.text("deviceEtag", twin.device_etag);
  reader.parsed("status", twin.status, named({DeviceStatus::enabled, DeviceStatus::disabled}));
  reader.text("statusReason", twin.status_reason);
  reader.parsed("statusUpdateTime", twin.status_update_time, parse_twin_time);
  reader.parsed("connectionState", twin.connection_state,
                named({ConnectionState::connected, ConnectionState::disconnected}));
  reader.parsed("lastActivityTime", twin.last_activity_time, parse_twin_time);
  reader.integer("cloudToDeviceMessageCount", twin.cloud_to_device_message_count);
  reader.parsed("authenticationType", twin.authentication_type, parse_authentication_type);
  reader.text("modelId", twin.model_id);
  reader.integer("version", twin.version);
  reader.text("deviceScope", twin.device_scope);
  if (const Value* thumbprint = reader.object("x509Thumbprint")) {
    // The live service has been seen with both spellings (service.md 5.1).
    Reader inner{*thumbprint};
    for (const char* name : {"primaryThumbprint", "PrimaryThumbprint"}) inner.text(name, twin.x509_primary);
    for (const char* name : {"secondaryThumbprint", "SecondaryThumbprint"}) inner.text(name, twin.x509_secondary);
    if (!inner.error().message.empty()) reader.fail(inner.error());
  }
  if (const Value* capabilities = reader.object("capabilities")) {
    const Value* edge = capabilities->find("iotEdge");
    twin.iot_edge = edge != nullptr && edge->is_true();
  }
  if (const Value* configurations = reader.object("configurations")) twin.configurations = *configurations;
  if (const Value* scopes = reader.present("parentScopes")) {
    if (!scopes->is_array()) reader.fail(wrong("parentScopes", "an array"));
    twin.parent_scopes = *scopes;
  }
  if (const Value* tags = reader.object("tags")) set_tags(twin, *tags);
  if (const Value* properties = reader.object("properties")) {
    Result<PropertyBag> desired = read_bag("properties.desired", properties->find("desired"));
    if (!desired) return desired.error();
    Result<PropertyBag> reported = read_bag("properties.reported", properties->find("reported"));
    if (!reported) return reported.error();
    twin.desired = std::move(*desired);
    twin.reported = std::move(*reported);
  }
  if (twin.device_id.empty()) reader.fail(make_error(ErrorCode::invalid_argument, "deviceId: missing"));
  if (!reader.error().message.empty()) return reader.error();
  return twin;
}

}  // namespace twinstorm::twin
