// The twin of a device or a module, as the service keeps it: identity mirror, tags, desired and reported properties
// with versions and metadata, and the few ways it can change (service.md 5, device.md 7).
//
// A document belongs to one thread. No I/O, no clock: the time of a change is a parameter. About 0.5 KB plus 32 bytes
// and 24 bytes of metadata a property; the serialised form is not cached here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sim/twin/limits.hpp"
#include "sim/twin/metadata.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::twin {

enum class DeviceStatus : uint8_t { enabled, disabled };
enum class ConnectionState : uint8_t { disconnected, connected };
enum class AuthenticationType : uint8_t { sas, self_signed, certificate_authority, none };

/// The wire spellings: `enabled`, `Connected`, `selfSigned`, ...
const char* to_string(DeviceStatus status);
const char* to_string(ConnectionState state);
const char* to_string(AuthenticationType type);
Result<AuthenticationType> parse_authentication_type(std::string_view text);

/// `properties.desired` or `properties.reported`.
struct PropertyBag {
  Value values = Value::object();  ///< without `$version` and `$metadata`
  int64_t version = 1;             ///< `$version`
  Metadata metadata;               ///< `$metadata`
  uint32_t counted_bytes = 0;      ///< counted_size(values)

  /// Replaces everything; each entry of the metadata becomes `stamp`.
  void assign(Value new_values, int64_t new_version, Stamp stamp);
};

struct TwinDocument {
  std::string device_id;  ///< `deviceId`
  std::string module_id;  ///< `moduleId`, empty for a device
  uint64_t etag = 1;      ///< `etag`: the service-side write counter, printed as base64 of 8 big-endian bytes
  int64_t version = 2;    ///< `version`: grows with every write of either side

  // Mirrored from the identity; the registry sets them, no twin write does.
  std::string device_etag;               ///< `deviceEtag`
  std::string status_reason;             ///< `statusReason`, omitted when empty
  std::string model_id;                  ///< `modelId`, "" without plug and play
  std::string device_scope;              ///< `deviceScope`, omitted when empty
  std::string x509_primary;              ///< `x509Thumbprint.primaryThumbprint`, null when empty
  std::string x509_secondary;            ///< `x509Thumbprint.secondaryThumbprint`, null when empty
  Value parent_scopes;                   ///< `parentScopes`, an array of strings; null = omitted
  Value configurations;                  ///< `configurations`, {"<id>":{"status":...}}; null = omitted
  WallTime status_update_time = kNever;  ///< `statusUpdateTime`
  WallTime last_activity_time = kNever;  ///< `lastActivityTime`
  uint32_t cloud_to_device_message_count = 0;
  DeviceStatus status = DeviceStatus::enabled;
  ConnectionState connection_state = ConnectionState::disconnected;
  AuthenticationType authentication_type = AuthenticationType::sas;
  bool iot_edge = false;  ///< `capabilities.iotEdge`

  uint32_t tags_counted_bytes = 0;  ///< counted_size(tags)
  Value tags = Value::object();     ///< omitted when empty
  PropertyBag desired;
  PropertyBag reported;
  std::shared_ptr<const Authorships> desired_authors;  ///< set once a configuration has written desired properties

  /// A twin as it is right after registration: etag 1, version 2, both `$version` 1, both `$metadata` only
  /// `$lastUpdated`.
  static TwinDocument fresh(std::string_view device_id, std::string_view module_id, WallTime now);
  /// Reads the service's JSON form back, every member of it. Unknown members are ignored; a missing metadata entry
  /// takes its parent's. Errors (`invalid_argument`) name the member.
  static Result<TwinDocument> from_json(const Value& json);

  size_t heap_bytes() const;
};

/// Replaces the tags without counting a write: for import and registration.
void set_tags(TwinDocument& twin, Value tags);

/// Says that `author` wrote the current version of the desired properties. Authors of which nothing is left are
/// dropped.
void set_desired_author(TwinDocument& twin, std::shared_ptr<const PropertyAuthor> author);

/// `AAAAAAAAAAE=` for 1.
std::string format_etag(uint64_t counter);
Result<uint64_t> parse_etag(std::string_view text);
/// True when an `If-Match` value lets the write through: empty (absent), `*`, or the current ETag, each bare or in
/// double quotes (service.md 3.2).
bool if_match_allows(const TwinDocument& twin, std::string_view if_match);

/// What a service write did.
struct ServiceChange {
  bool tags_written = false;
  bool desired_written = false;
  /// JSON for `$iothub/twin/PATCH/properties/desired/?$version=<desired.version>`, `$version` included; empty = nothing
  /// to tell (tags only, or only missing members removed).
  std::string notification;
};

/// Body text to value; anything that is not a JSON object is 400 ArgumentInvalid.
TwinResult<Value> parse_body(std::string_view json);

/// PATCH /twins/{id}: merges `tags` and `properties.desired` of `body`, whichever are there; read-only members, other
/// members and `$version` / `$metadata` inside a section are ignored, as SDKs echo whole twins. A section that is null
/// is emptied. All or nothing: on error the twin is untouched. A write that changes no value still counts
/// (service.md 5.3).
TwinResult<ServiceChange> apply_service_patch(TwinDocument& twin, const Value& body, WallTime now,
                                              const TwinLimits& limits = {});
/// PUT /twins/{id}: replaces tags and desired; what the body leaves out is emptied. null anywhere is 400.
/// `desired.$version` moves when the body has desired properties or when some are wiped.
TwinResult<ServiceChange> replace_twin(TwinDocument& twin, const Value& body, WallTime now,
                                       const TwinLimits& limits = {});
/// The device's PATCH of its reported properties; returns the new reported `$version`.
/// Errors: 400 / 400004 for `$version` or `$metadata` in the body and for illegal content, 403 / 403100 for size.
TwinResult<int64_t> apply_reported_patch(TwinDocument& twin, const Value& patch, WallTime now,
                                         const TwinLimits& limits = {});

/// Appends the full twin in the member order of service.md 5.1.
void write_service_twin(const TwinDocument& twin, std::string& out);
/// Appends `{"desired":{...,"$version":n},"reported":{...,"$version":m}}`, what a device gets (device.md 3.6).
void write_device_twin(const TwinDocument& twin, std::string& out);
/// Appends one bag; `with_metadata` adds `$metadata` before `$version`.
void write_properties(const PropertyBag& bag, bool with_metadata, std::string& out,
                      std::span<const Authorship> authors = {});

/// Appends `{"primaryThumbprint":...,"secondaryThumbprint":...}`.
void write_x509_thumbprint(const TwinDocument& twin, std::string& out);

/// `{"errorCode":400004,"trackingId":"...","message":"...","timestampUtc":"..."}`, the error body of MQTT and AMQP twin
/// operations (device.md 7.5). `tracking_id` is 32 hex digits chosen by the caller.
void write_device_error(const TwinError& error, std::string_view tracking_id, WallTime now, std::string& out);

}  // namespace twinstorm::twin
