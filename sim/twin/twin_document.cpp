#include "sim/twin/twin_document.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/twin/merge.hpp"

namespace twinstorm::twin {
namespace {

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array kStatusNames{"enabled", "disabled"};
constexpr std::array kConnectionNames{"Disconnected", "Connected"};
constexpr std::array kAuthenticationNames{"sas", "selfSigned", "certificateAuthority", "none"};

bool is_hidden(std::string_view name) { return name == "$version" || name == "$metadata"; }

/// `section` without the `$version` and `$metadata` that SDKs echo.
Value without_hidden(const Value& section) {
  Value visible = Value::object();
  visible.reserve(section.size());
  for (const Member& member : section.members()) {
    if (!is_hidden(member.name())) visible.append(member.name(), member.value);
  }
  return visible;
}

/// What a service body says about one section.
struct SectionBody {
  bool present = false;
  const Value* value = nullptr;  // as in the body; nullptr when absent or null
  Value visible;                 // set when the body's own object has members to ignore

  const Value& content() const { return visible.is_object() ? visible : *value; }
};

SectionBody section_of(const Value* value) {
  SectionBody section;
  section.present = value != nullptr;
  if (value == nullptr || value->is_null()) return section;
  section.value = value;
  if (std::any_of(value->members().begin(), value->members().end(),
                  [](const Member& m) { return is_hidden(m.name()); })) {
    section.visible = without_hidden(*value);
  }
  return section;
}

struct ServiceBody {
  SectionBody tags, desired;
};

TwinResult<ServiceBody> read_service_body(const Value& body) {
  if (!body.is_object()) return argument_invalid("The body is not a JSON object.");
  const Value* properties = body.find("properties");
  if (properties != nullptr && !properties->is_object()) return argument_invalid("'properties' is not a JSON object.");
  return ServiceBody{section_of(body.find("tags")),
                     section_of(properties == nullptr ? nullptr : properties->find("desired"))};
}

std::string notification_text(const Value& patch, int64_t version) {
  std::string text;
  write(patch, text);
  text.pop_back();
  fmt::format_to(std::back_inserter(text), R"({}"$version":{}}})", patch.empty() ? "" : ",", version);
  return text;
}

void count_service_write(TwinDocument& twin, bool desired_written) {
  ++twin.etag;
  ++twin.version;
  if (desired_written) ++twin.desired.version;
}

Stamp desired_stamp(const TwinDocument& twin, WallTime now) {
  return {now, static_cast<uint32_t>(twin.desired.version)};
}

void write_optional(std::string_view text, std::string& out) {
  if (text.empty()) {
    out += "null";
  } else {
    write_string(text, out);
  }
}

}  // namespace

const char* to_string(DeviceStatus status) { return kStatusNames[static_cast<size_t>(status)]; }
const char* to_string(ConnectionState state) { return kConnectionNames[static_cast<size_t>(state)]; }
const char* to_string(AuthenticationType type) { return kAuthenticationNames[static_cast<size_t>(type)]; }

Result<AuthenticationType> parse_authentication_type(std::string_view text) {
  for (size_t i = 0; i < kAuthenticationNames.size(); ++i) {
    if (text == kAuthenticationNames[i]) return static_cast<AuthenticationType>(i);
  }
  return make_error(ErrorCode::invalid_argument, fmt::format("authenticationType '{}' is not one of {}", text,
                                                             fmt::join(kAuthenticationNames, ", ")));
}

void PropertyBag::assign(Value new_values, int64_t new_version, Stamp stamp) {
  TS_ASSERT(new_values.is_object());
  values = std::move(new_values);
  version = new_version;
  metadata = Metadata::mirror(values, stamp);
  counted_bytes = counted_size(values);
}

TwinDocument TwinDocument::fresh(std::string_view device_id, std::string_view module_id, WallTime now) {
  TwinDocument twin;
  twin.device_id = device_id;
  twin.module_id = module_id;
  twin.desired.metadata.set({now, 0});
  twin.reported.metadata.set({now, 0});
  return twin;
}

void set_tags(TwinDocument& twin, Value tags) {
  TS_ASSERT(tags.is_object());
  twin.tags = std::move(tags);
  twin.tags_counted_bytes = counted_size(twin.tags);
}

void set_desired_author(TwinDocument& twin, std::shared_ptr<const PropertyAuthor> author) {
  auto authors = std::make_shared<Authorships>();
  if (twin.desired_authors != nullptr) {
    for (const Authorship& each : *twin.desired_authors) {
      if (has_version(twin.desired.metadata, each.version)) authors->push_back(each);
    }
  }
  authors->push_back({static_cast<uint32_t>(twin.desired.version), std::move(author)});
  twin.desired_authors = std::move(authors);
}

size_t TwinDocument::heap_bytes() const {
  size_t bytes = 0;
  for (const std::string* text : {&device_id, &module_id, &device_etag, &status_reason, &model_id, &device_scope,
                                  &x509_primary, &x509_secondary}) {
    if (text->capacity() > 15) bytes += text->capacity() + 1;  // beyond the inline buffer of std::string
  }
  for (const Value* value : {&parent_scopes, &configurations, &tags, &desired.values, &reported.values}) {
    bytes += value->heap_bytes();
  }
  return bytes + desired.metadata.heap_bytes() + reported.metadata.heap_bytes();
}

std::string format_etag(uint64_t counter) {
  std::array<uint8_t, 9> bytes{};
  for (size_t i = 8; i-- > 0; counter >>= 8) bytes[i] = static_cast<uint8_t>(counter);
  std::string text;
  for (size_t i = 0; i < 9; i += 3) {
    const uint32_t group = uint32_t{bytes[i]} << 16 | uint32_t{bytes[i + 1]} << 8 | bytes[i + 2];
    for (int shift = 18; shift >= 0; shift -= 6) text += kBase64[group >> shift & 63];
  }
  text.back() = '=';  // the ninth byte is padding
  return text;
}

Result<uint64_t> parse_etag(std::string_view text) {
  uint64_t counter = 0;
  bool valid = text.size() == 12 && text.back() == '=';
  for (size_t i = 0; valid && i < 11; ++i) {
    const size_t digit = kBase64.find(text[i]);
    valid = digit != std::string_view::npos && (i < 10 || digit % 4 == 0);
    counter = i < 10 ? counter << 6 | digit : counter << 4 | digit >> 2;
  }
  if (!valid) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("etag: '{}' is not the base64 text of 8 bytes, such as AAAAAAAAAAE=", text));
  }
  return counter;
}

bool if_match_allows(const TwinDocument& twin, std::string_view if_match) {
  if (if_match.size() >= 2 && if_match.front() == '"' && if_match.back() == '"') {
    if_match = if_match.substr(1, if_match.size() - 2);
  }
  return if_match.empty() || if_match == "*" || if_match == format_etag(twin.etag);
}

TwinResult<Value> parse_body(std::string_view json) {
  Result<Value> value = parse_value(json);
  if (!value) {
    std::string reason = std::move(value.error().message);
    std::replace(reason.begin(), reason.end(), ';', ',');
    return argument_invalid("The body is " + reason);
  }
  if (!value->is_object()) return argument_invalid("The body is not a JSON object.");
  return std::move(*value);
}

TwinResult<ServiceChange> apply_service_patch(TwinDocument& twin, const Value& body, WallTime now,
                                              const TwinLimits& limits) {
  const TwinResult<ServiceBody> sections = read_service_body(body);
  if (!sections) return sections.error();
  const auto& [tags, desired] = *sections;

  uint32_t tags_after = 0;
  uint32_t desired_after = 0;
  const auto check = [&](const SectionBody& section, Section which, const Value& target, uint32_t before,
                         uint32_t& after) -> TwinResult<void> {
    if (section.value == nullptr) return {};
    if (const auto fine = check_members(section.content(), which, Nulls::remove, limits); !fine) return fine;
    after = counted_size_after(target, before, section.content());
    return check_growth(which, before, after, limits);
  };
  if (auto fine = check(tags, Section::tags, twin.tags, twin.tags_counted_bytes, tags_after); !fine)
    return fine.error();
  if (auto fine = check(desired, Section::desired, twin.desired.values, twin.desired.counted_bytes, desired_after);
      !fine) {
    return fine.error();
  }

  ServiceChange change{tags.present, desired.present, {}};
  if (!tags.present && !desired.present) return change;
  count_service_write(twin, desired.present);
  if (tags.value != nullptr) {
    merge_patch(twin.tags, tags.content());
    twin.tags_counted_bytes = tags_after;
  } else if (tags.present) {
    set_tags(twin, Value::object());
  }
  if (desired.value != nullptr) {
    if (!only_removes_missing(twin.desired.values, desired.content())) {
      change.notification = notification_text(desired.content(), twin.desired.version);
    }
    merge_patch(twin.desired.values, twin.desired.metadata, desired.content(), desired_stamp(twin, now));
    twin.desired.counted_bytes = desired_after;
  } else if (desired.present) {
    const Value patch = replacement_patch(twin.desired.values, Value::object());
    if (!patch.empty()) change.notification = notification_text(patch, twin.desired.version);
    twin.desired.assign(Value::object(), twin.desired.version, desired_stamp(twin, now));
  }
  return change;
}

TwinResult<ServiceChange> replace_twin(TwinDocument& twin, const Value& body, WallTime now, const TwinLimits& limits) {
  TwinResult<ServiceBody> sections = read_service_body(body);
  if (!sections) return sections.error();
  const auto replacement = [&](const SectionBody& section, Section which, uint32_t before) -> TwinResult<Value> {
    if (section.value == nullptr) return Value::object();
    if (const auto fine = check_members(section.content(), which, Nulls::refused, limits); !fine) return fine.error();
    if (const auto fine = check_growth(which, before, counted_size(section.content()), limits); !fine)
      return fine.error();
    return section.content();
  };
  TwinResult<Value> tags = replacement(sections->tags, Section::tags, twin.tags_counted_bytes);
  if (!tags) return tags.error();
  TwinResult<Value> desired = replacement(sections->desired, Section::desired, twin.desired.counted_bytes);
  if (!desired) return desired.error();

  ServiceChange change{true, sections->desired.present || !twin.desired.values.empty(), {}};
  count_service_write(twin, change.desired_written);
  set_tags(twin, std::move(*tags));
  if (change.desired_written) {
    const Value patch = replacement_patch(twin.desired.values, *desired);
    if (!patch.empty()) change.notification = notification_text(patch, twin.desired.version);
    twin.desired.assign(std::move(*desired), twin.desired.version, desired_stamp(twin, now));
  }
  return change;
}

TwinResult<int64_t> apply_reported_patch(TwinDocument& twin, const Value& patch, WallTime now,
                                         const TwinLimits& limits) {
  if (const auto fine = check_members(patch, Section::reported, Nulls::remove, limits); !fine) return fine.error();
  PropertyBag& bag = twin.reported;
  const uint32_t after = counted_size_after(bag.values, bag.counted_bytes, patch);
  if (const auto fine = check_growth(Section::reported, bag.counted_bytes, after, limits); !fine) return fine.error();
  merge_patch(bag.values, bag.metadata, patch, Stamp{now, 0});
  bag.counted_bytes = after;
  ++twin.version;
  ++bag.version;
  return bag.version;
}

void write_properties(const PropertyBag& bag, bool with_metadata, std::string& out,
                      std::span<const Authorship> authors) {
  write(bag.values, out);
  out.pop_back();
  if (!bag.values.empty()) out += ',';
  if (with_metadata) {
    out += R"("$metadata":)";
    write_metadata(bag.values, bag.metadata, out, authors);
    out += ',';
  }
  out += R"("$version":)";
  const fmt::format_int version{bag.version};
  out.append(version.data(), version.size());
  out += '}';
}

void write_service_twin(const TwinDocument& twin, std::string& out) {
  out += R"({"deviceId":)";
  write_string(twin.device_id, out);
  if (!twin.module_id.empty()) {
    out += R"(,"moduleId":)";
    write_string(twin.module_id, out);
  }
  out += R"(,"etag":")";
  out += format_etag(twin.etag);
  out += R"(","deviceEtag":)";
  write_string(twin.device_etag, out);
  out += R"(,"status":")";
  out += to_string(twin.status);
  out += '"';
  if (!twin.status_reason.empty()) {
    out += R"(,"statusReason":)";
    write_string(twin.status_reason, out);
  }
  out += R"(,"statusUpdateTime":")";
  out += TwinTimeText{twin.status_update_time}.view();
  out += R"(","connectionState":")";
  out += to_string(twin.connection_state);
  out += R"(","lastActivityTime":")";
  out += TwinTimeText{twin.last_activity_time}.view();
  fmt::format_to(std::back_inserter(out), R"(","cloudToDeviceMessageCount":{},"authenticationType":"{}")",
                 twin.cloud_to_device_message_count, to_string(twin.authentication_type));
  write_x509_thumbprint(twin, out += R"(,"x509Thumbprint":)");
  out += R"(,"modelId":)";
  write_string(twin.model_id, out);
  fmt::format_to(std::back_inserter(out), R"(,"version":{})", twin.version);
  if (!twin.tags.empty()) write(twin.tags, out += R"(,"tags":)");
  const std::span<const Authorship> authors =
      twin.desired_authors == nullptr ? std::span<const Authorship>{} : std::span{*twin.desired_authors};
  write_properties(twin.desired, true, out += R"(,"properties":{"desired":)", authors);
  write_properties(twin.reported, true, out += R"(,"reported":)");
  out += '}';
  if (!twin.configurations.is_null()) write(twin.configurations, out += R"(,"configurations":)");
  out += twin.iot_edge ? R"(,"capabilities":{"iotEdge":true})" : R"(,"capabilities":{"iotEdge":false})";
  if (!twin.device_scope.empty()) write_string(twin.device_scope, out += R"(,"deviceScope":)");
  if (!twin.parent_scopes.is_null()) write(twin.parent_scopes, out += R"(,"parentScopes":)");
  out += '}';
}

void write_x509_thumbprint(const TwinDocument& twin, std::string& out) {
  write_optional(twin.x509_primary, out += R"({"primaryThumbprint":)");
  write_optional(twin.x509_secondary, out += R"(,"secondaryThumbprint":)");
  out += '}';
}

void write_device_twin(const TwinDocument& twin, std::string& out) {
  write_properties(twin.desired, false, out += R"({"desired":)");
  write_properties(twin.reported, false, out += R"(,"reported":)");
  out += '}';
}

void write_device_error(const TwinError& error, std::string_view tracking_id, WallTime now, std::string& out) {
  const TwinTimeText time{now};
  fmt::format_to(std::back_inserter(out), R"({{"errorCode":{},"trackingId":)", error.error_code);
  write_string(tracking_id, out);
  write_string(error.message, out += R"(,"message":)");
  fmt::format_to(std::back_inserter(out), R"(,"timestampUtc":"{}"}})", time.view());
}

}  // namespace twinstorm::twin
