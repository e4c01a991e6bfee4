#include "sim/hub/store/device_record.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>
#include <openssl/rand.h>

#include "sim/base/assert.hpp"
#include "sim/hub/store/lagged_twins.hpp"
#include "sim/hub/text.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

constexpr size_t kDeviceIdMax = 128;
constexpr size_t kStatusReasonMax = 128;
constexpr size_t kKeyBytesMin = 16;
constexpr size_t kKeyBytesMax = 64;
constexpr uint8_t kFreeTakeOvers = 3;
constexpr uint8_t kTakeOversCounted = 16;
constexpr Nanos kTakeOverDelayFirst = std::chrono::milliseconds{100};
constexpr Nanos kTakeOverDelayMax = std::chrono::seconds{5};
constexpr Nanos kTakeOverCalm = std::chrono::seconds{10};             // after this the count begins anew
constexpr int64_t kTicksFromYearOneTo1970 = 621'355'968'000'000'000;  // 100 ns ticks, the service's generationId

const twin::Value* find_any_case(const twin::Value& object, std::string_view name) {
  for (const twin::Member& member : object.members()) {
    if (equal_ignoring_case(member.name(), name)) return &member.value;
  }
  return nullptr;
}

/// The text of an optional string member; null and absent are "".
ServiceResult<std::string> optional_text(const twin::Value& object, std::string_view name) {
  const twin::Value* found = find_any_case(object, name);
  if (found == nullptr || found->is_null()) return std::string{};
  if (!found->is_string()) return twin::argument_invalid(fmt::format("'{}' must be a string", name));
  return std::string{found->text()};
}

bool is_key(std::string_view base64) {
  const auto bytes = protocol::base64_decode(base64);
  return bytes && bytes->size() >= kKeyBytesMin && bytes->size() <= kKeyBytesMax;
}

bool is_thumbprint(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
         });
}

ServiceResult<void> read_authentication(const twin::Value& authentication, bool is_module, IdentityRequest& request) {
  if (!authentication.is_object()) return twin::argument_invalid("'authentication' must be an object");
  bool has_thumbprint = false;
  if (const twin::Value* x509 = find_any_case(authentication, "x509Thumbprint"); x509 != nullptr && x509->is_object()) {
    auto primary = optional_text(*x509, "primaryThumbprint");
    if (!primary) return primary.error();
    auto secondary = optional_text(*x509, "secondaryThumbprint");
    if (!secondary) return secondary.error();
    for (const std::string* thumbprint : {&*primary, &*secondary}) {
      if (!thumbprint->empty() && !is_thumbprint(*thumbprint)) {
        return twin::argument_invalid("StringIsNotThumbprint, 40 or 64 hexadecimal digits are expected");
      }
    }
    request.x509_primary = std::move(*primary);
    request.x509_secondary = std::move(*secondary);
    has_thumbprint = !request.x509_primary.empty() || !request.x509_secondary.empty();
  }
  auto type = optional_text(authentication, "type");
  if (!type) return type.error();
  if (type->empty()) {
    request.authentication_type =
        has_thumbprint ? twin::AuthenticationType::self_signed : twin::AuthenticationType::sas;
  } else {
    const auto parsed = twin::parse_authentication_type(*type);
    if (!parsed) return twin::argument_invalid(parsed.error().message);
    request.authentication_type = *parsed;
    if (*parsed == twin::AuthenticationType::none) {
      if (!is_module) return twin::argument_invalid("authentication type 'none' is not allowed for a device");
      request.authentication_type = twin::AuthenticationType::sas;
    }
  }
  if (const twin::Value* symmetric = find_any_case(authentication, "symmetricKey");
      symmetric != nullptr && symmetric->is_object()) {
    auto primary = optional_text(*symmetric, "primaryKey");
    if (!primary) return primary.error();
    auto secondary = optional_text(*symmetric, "secondaryKey");
    if (!secondary) return secondary.error();
    if (primary->empty() != secondary->empty()) {
      return twin::argument_invalid("Either no keys or both keys can be set");
    }
    if (!primary->empty() && (!is_key(*primary) || !is_key(*secondary))) {
      return twin::argument_invalid("Invalid device key length, base64 of 16 to 64 bytes is expected");
    }
    request.primary_key = std::move(*primary);
    request.secondary_key = std::move(*secondary);
  }
  return {};
}

std::string edge_scope(const DeviceRecord& record) {
  return fmt::format("ms-azure-iot-edge://{}-{}", record.twin.device_id, record.generation_id);
}

uint64_t first_identity_etag() {
  // Nine digits, as on the live service: nobody should rely on where it starts.
  uint32_t random = 0;
  TS_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&random), sizeof(random)) == 1);
  return 100'000'000 + random % 800'000'000;
}

void write_identity_time(WallTime time, IdentityEcho echo, std::string& out) {
  const twin::TwinTimeText formatted{time};
  std::string_view text = formatted.view();
  if (echo == IdentityEcho::created && text.ends_with('Z')) text.remove_suffix(1);
  twin::write_string(text, out);
}

void write_text_or_null(std::string_view text, std::string& out) {
  if (text.empty()) {
    out += "null";
  } else {
    twin::write_string(text, out);
  }
}

}  // namespace

Nanos TakeOverDamper::delay(MonoTime now) const {
  if (recent_ < kFreeTakeOvers || now - last_ > kTakeOverCalm) return Nanos::zero();
  return std::min<Nanos>(kTakeOverDelayFirst * (int64_t{1} << (recent_ - kFreeTakeOvers)), kTakeOverDelayMax);
}

void TakeOverDamper::count(MonoTime now) {
  recent_ = now - last_ > kTakeOverCalm ? uint8_t{1} : std::min<uint8_t>(recent_ + 1, kTakeOversCounted);
  last_ = now;
}

std::string DeviceRecord::key() const {
  return twin.module_id.empty() ? twin.device_id : fmt::format("{}/{}", twin.device_id, twin.module_id);
}

const std::string& DeviceRecord::service_twin() {
  if (cached_.empty()) twin::write_service_twin(twin, cached_);
  return cached_;
}

void DeviceRecord::tell_queries() { lagged_->changed(key(), twin); }

ServiceResult<void> check_device_id(std::string_view id) {
  constexpr std::string_view kSpecials = "-:.+%_#*?!(),=@;$'";
  const auto allowed = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kSpecials.find(c) != std::string_view::npos;
  };
  if (id.empty() || id.size() > kDeviceIdMax) {
    return twin::argument_invalid(
        fmt::format("an identity needs 1 to {} characters, this has {}", kDeviceIdMax, id.size()));
  }
  if (!std::all_of(id.begin(), id.end(), allowed)) {
    return twin::argument_invalid(fmt::format("'{}' has a character outside of ASCII letters, digits and {}", id,
                                              "- : . + % _ # * ? ! ( ) , = @ $ ' and a semicolon"));
  }
  return {};
}

ServiceResult<IdentityRequest> parse_identity(const twin::Value& body, bool is_module) {
  IdentityRequest request;
  auto status = optional_text(body, "status");
  if (!status) return status.error();
  if (equal_ignoring_case(*status, "disabled")) {
    request.status = twin::DeviceStatus::disabled;
  } else if (!status->empty() && !equal_ignoring_case(*status, "enabled")) {
    return twin::argument_invalid(fmt::format("status '{}' is neither 'enabled' nor 'disabled'", *status));
  }
  auto reason = optional_text(body, "statusReason");
  if (!reason) return reason.error();
  if (reason->size() > kStatusReasonMax) {
    return twin::argument_invalid(fmt::format("statusReason is longer than {} characters", kStatusReasonMax));
  }
  request.status_reason = std::move(*reason);
  if (const twin::Value* authentication = find_any_case(body, "authentication");
      authentication != nullptr && !authentication->is_null()) {
    if (auto read = read_authentication(*authentication, is_module, request); !read) return read.error();
  }
  if (const twin::Value* capabilities = find_any_case(body, "capabilities"); capabilities != nullptr) {
    const twin::Value* edge = find_any_case(*capabilities, "iotEdge");
    request.iot_edge = edge != nullptr && edge->is_true();
  }
  auto scope = optional_text(body, "deviceScope");
  if (!scope) return scope.error();
  request.device_scope = std::move(*scope);
  if (const twin::Value* scopes = find_any_case(body, "parentScopes"); scopes != nullptr && !scopes->is_null()) {
    const auto elements = scopes->elements();
    if (!scopes->is_array() ||
        !std::all_of(elements.begin(), elements.end(), [](const twin::Value& each) { return each.is_string(); })) {
      return twin::argument_invalid("'parentScopes' must be an array of strings");
    }
    request.parent_scopes = *scopes;
  }
  auto managed_by = optional_text(body, "managedBy");
  if (!managed_by) return managed_by.error();
  request.managed_by = std::move(*managed_by);
  return request;
}

DeviceRecord make_record(std::string_view device_id, std::string_view module_id, const IdentityRequest& request,
                         WallTime now) {
  DeviceRecord record;
  record.twin = twin::TwinDocument::fresh(device_id, module_id, now);
  record.identity_etag = first_identity_etag();
  record.generation_id = std::to_string(now.time_since_epoch().count() / 100 + kTicksFromYearOneTo1970);
  replace_identity(record, request, now);
  record.twin.status_update_time = twin::kNever;
  return record;
}

void replace_identity(DeviceRecord& record, const IdentityRequest& request, WallTime now) {
  twin::TwinDocument& twin = record.twin;
  if (twin.status != request.status) twin.status_update_time = now;
  twin.status = request.status;
  twin.status_reason = request.status_reason;
  twin.authentication_type = request.authentication_type;
  twin.x509_primary = request.x509_primary;
  twin.x509_secondary = request.x509_secondary;
  twin.iot_edge = request.iot_edge;
  record.managed_by = request.managed_by;
  if (request.iot_edge && !record.is_module()) {
    // A new edge device that names a scope means its parent's; its own follows from id and generation.
    const bool named_parent = twin.device_scope.empty() && !request.device_scope.empty();
    twin.parent_scopes = named_parent && request.parent_scopes.empty()
                             ? twin::Value::array({twin::Value::string(request.device_scope)})
                             : request.parent_scopes;
    twin.device_scope = edge_scope(record);
  } else {
    twin.device_scope = request.device_scope;
    twin.parent_scopes = request.parent_scopes;
  }
  if (request.authentication_type == twin::AuthenticationType::sas) {
    record.primary_key = request.primary_key.empty() ? generate_key() : request.primary_key;
    record.secondary_key = request.secondary_key.empty() ? generate_key() : request.secondary_key;
  } else {
    record.primary_key.clear();
    record.secondary_key.clear();
  }
  ++record.identity_etag;
  twin.device_etag = format_identity_etag(record.identity_etag);
  record.touch();
}

std::string format_identity_etag(uint64_t counter) { return protocol::base64_encode(std::to_string(counter)); }

bool identity_etag_matches(const DeviceRecord& record, std::string_view if_match) {
  if (if_match.size() >= 2 && if_match.front() == '"' && if_match.back() == '"') {
    if_match = if_match.substr(1, if_match.size() - 2);
  }
  return if_match == "*" || if_match == record.twin.device_etag;
}

void write_identity(const DeviceRecord& record, IdentityEcho echo, std::string& out) {
  const twin::TwinDocument& twin = record.twin;
  out += R"({"deviceId":)";
  twin::write_string(twin.device_id, out);
  if (record.is_module()) {
    out += R"(,"moduleId":)";
    twin::write_string(twin.module_id, out);
    out += R"(,"managedBy":)";
    write_text_or_null(record.managed_by, out);
  }
  fmt::format_to(std::back_inserter(out), R"(,"generationId":"{}","etag":"{}","connectionState":"{}")",
                 record.generation_id, twin.device_etag, to_string(twin.connection_state));
  if (!record.is_module()) {
    fmt::format_to(std::back_inserter(out), R"(,"status":"{}","statusReason":)", to_string(twin.status));
    write_text_or_null(twin.status_reason, out);
    out += R"(,"statusUpdatedTime":)";
    write_identity_time(twin.status_update_time, echo, out);
  }
  out += R"(,"connectionStateUpdatedTime":)";
  write_identity_time(record.connection_state_updated, echo, out);
  out += R"(,"lastActivityTime":)";
  write_identity_time(twin.last_activity_time, echo, out);
  fmt::format_to(std::back_inserter(out), R"(,"cloudToDeviceMessageCount":{},"authentication":{{"symmetricKey":)",
                 twin.cloud_to_device_message_count);
  out += R"({"primaryKey":)";
  write_text_or_null(record.primary_key, out);
  out += R"(,"secondaryKey":)";
  write_text_or_null(record.secondary_key, out);
  out += R"(},"x509Thumbprint":{"primaryThumbprint":)";
  write_text_or_null(twin.x509_primary, out);
  out += R"(,"secondaryThumbprint":)";
  write_text_or_null(twin.x509_secondary, out);
  fmt::format_to(std::back_inserter(out), R"(}},"type":"{}"}})", to_string(twin.authentication_type));
  if (!record.is_module()) {
    fmt::format_to(std::back_inserter(out), R"(,"capabilities":{{"iotEdge":{}}})", twin.iot_edge);
    if (!twin.device_scope.empty()) {
      out += R"(,"deviceScope":)";
      twin::write_string(twin.device_scope, out);
    }
    out += R"(,"parentScopes":)";
    if (twin.parent_scopes.is_array()) {
      twin::write(twin.parent_scopes, out);
    } else {
      out += "[]";
    }
  }
  out += '}';
}

std::string generate_key() {
  std::array<unsigned char, 32> bytes;
  TS_ASSERT(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  return protocol::base64_encode({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace twinstorm::hub
