// Everything the hub knows about one identity: a device, or a module of one. The twin document holds what both identity
// and twin show (status, capabilities, connection state, ...), so nothing is kept twice.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/hub/messaging/event_watch.hpp"
#include "sim/hub/messaging/message_queue.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm::hub {

/// The topic filters a device may hold (device.md 3.4); a session is the set of them.
enum Subscription : uint8_t {
  kTwinResponses = 1,
  kDesired = 2,
  kMethods = 4,
  kCloudToDevice = 8,
  kInputs = 16,
  kMessagesAtLeastOnce = 32,  ///< cloud-to-device messages or inputs were granted QoS 1
};

/// A live connection of an identity, as the rest of its shard sees it.
class DeviceLink {
 public:
  enum class CloseReason : uint8_t {
    goodbye,  ///< DISCONNECT: the only end by the device that cancels a will
    client,   ///< end of stream or reset by the device
    keep_alive,
    take_over,
    protocol,
    slow_reader,
    token_expired,
    hub,        ///< identity deleted or disabled, or shutdown
    throttled,  ///< telemetry beyond what the tier allows
  };

  /// Sends one desired-property notification; `body` is the JSON with `$version`.
  virtual void notify_desired(int64_t version, std::string_view body) = 0;
  /// Sends one direct-method request; false when the device has not subscribed to methods. `payload` is JSON.
  virtual bool invoke_method(std::string_view name, std::string_view rid, std::string_view payload) = 0;
  /// The identity's message queue has something new; the link takes what it can deliver now.
  virtual void messages_waiting() = 0;
  /// Ends the connection without a packet (device.md 3.3). The link must not be used afterwards.
  virtual void close(CloseReason reason) = 0;

 protected:
  ~DeviceLink() = default;
};

/// Two clients with one identity and automatic reconnects displace each other without end (some hundred times a second
/// on loopback). The first few take-overs are free, then each waits longer.
class TakeOverDamper {
 public:
  /// How long the next take-over has to wait.
  Nanos delay(MonoTime now) const;
  void count(MonoTime now);

 private:
  MonoTime last_{};
  uint8_t recent_ = 0;  // take-overs with less than ten calm seconds in between
};

class LaggedTwins;

struct DeviceRecord {
  twin::TwinDocument twin;

  uint64_t identity_etag = 0;  ///< printed as base64 of its decimal text
  std::string generation_id;   ///< decimal count of 100 ns ticks since year 1, fixed at creation
  std::string primary_key;     ///< base64
  std::string secondary_key;   ///< base64
  std::string managed_by;      ///< modules only: who looks after it
  WallTime connection_state_updated = twin::kNever;

  uint8_t subscriptions = 0;    ///< of the stored MQTT session
  bool session_stored = false;  ///< a session with clean session 0 exists
  DeviceLink* link = nullptr;   ///< set while connected
  TakeOverDamper take_overs;

  std::unique_ptr<MessageQueue> messages;  ///< cloud-to-device; created by the first message
  std::unique_ptr<EventWatch> watch;       ///< set while somebody looks at the identity's telemetry

  /// `deviceId` or `deviceId/moduleId`: the key of the store, the MQTT client id and the name in topics.
  std::string key() const;
  bool is_module() const { return !twin.module_id.empty(); }

  /// The service's twin JSON, serialised at most once between two changes.
  const std::string& service_twin();
  /// Must be called after every change of `twin`.
  void touch() {
    cached_.clear();
    if (lagged_ != nullptr) tell_queries();
  }

 private:
  friend class RecordTable;
  void tell_queries();

  std::string cached_;
  LaggedTwins* lagged_ = nullptr;  ///< what queries see, where that is not the twin itself
};

/// What a PUT /devices/{id} body or a bulk entry asks for.
struct IdentityRequest {
  twin::DeviceStatus status = twin::DeviceStatus::enabled;
  std::string status_reason;
  twin::AuthenticationType authentication_type = twin::AuthenticationType::sas;
  std::string primary_key;  ///< empty = generate both
  std::string secondary_key;
  std::string x509_primary;
  std::string x509_secondary;
  bool iot_edge = false;
  std::string device_scope;
  twin::Value parent_scopes;  ///< array of strings, or null when absent
  std::string managed_by;     ///< modules only
};

/// 1 to 128 characters of the documented alphabet (service.md 3.1). Error: 400.
ServiceResult<void> check_device_id(std::string_view id);

/// Reads the writable members of an identity (service.md 4.1); member names in any case, as bulk clients differ.
/// Errors: 400 naming the member.
ServiceResult<IdentityRequest> parse_identity(const twin::Value& body, bool is_module);

/// A new identity with a fresh twin. Keys are generated where the request has none.
DeviceRecord make_record(std::string_view device_id, std::string_view module_id, const IdentityRequest& request,
                         WallTime now);
/// A full replacement of the identity's writable part; the twin's properties and tags stay.
void replace_identity(DeviceRecord& record, const IdentityRequest& request, WallTime now);

/// Base64 of an ASCII decimal (service.md 3.2).
std::string format_identity_etag(uint64_t counter);
/// Absent is not allowed here: `*`, or the value, each bare or in double quotes.
bool identity_etag_matches(const DeviceRecord& record, std::string_view if_match);

/// Whether times are printed without `Z` (the answer to a create) or with it (everything later).
enum class IdentityEcho : uint8_t { created, stored };
void write_identity(const DeviceRecord& record, IdentityEcho echo, std::string& out);

/// 32 bytes of the operating system's random source, base64.
std::string generate_key();

}  // namespace twinstorm::hub
