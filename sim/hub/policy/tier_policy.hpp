// Everything a hub with a tier holds its clients to: rates (throttle.hpp), the day's messages (quota.hpp), operations
// and identities the tier has not. One object for all shards; any thread. A hub without a tier has none:
//
//   if (TierPolicy* policy = shard.shared().policy.get()) { ... }
//
// An operation goes through three steps: `check` (does the tier have it, are messages left), `throttle().admit`, and,
// once it is done, `charge`. Both refusals are ServiceErrors; a 429 also closes an HTTP connection. `Shard::admit` and
// `Shard::charge` do that with the shard's clock and counts.
//
// `GET /twinstorm/throttle` (the hub's own resource; from this machine without a token, else ServiceConnect) answers
// with the figures since the start of the hub, all classes in the order of OperationClass:
//
//   {"tier": "S1", "units": 2,
//    "classes": [
//      {"class": "identityRegistry", "limitPerSecond": 3.3333333333333335, "burst": 200, "backlog": 33.333333333333336,
//       "admitted": 12, "admittedCost": 210, "shaped": 2, "refused": 1, "refusedCost": 100, "abandoned": 0,
//       "delay": {"p50": 1.5, "p99": 3, "max": 3.0, "sum": 4.5}},
//      ...],
//    "quota": {"limit": 800000, "used": 4711, "refused": 0, "messageBytes": 4096, "resetsAt": "2026-11-24T00:00:00Z"}}
//
// `admitted`, `shaped`, `refused`, `abandoned` count operations, `...Cost` what they counted (entries of a bulk
// request, messages of a batch, 4 KB steps of a method's payload). `shaped` are those of the admitted that had to wait,
// `delay` theirs, in seconds (p50, p99, max are null when there is none); `abandoned` those of the shaped that were not
// done because the client left. A class that the tier has not (basic tiers) has "limitPerSecond": 0. `quota.used` is
// today's. A hub without a tier answers {"tier": null, "units": 0, "classes": [], "quota": null}.
//
// `HubConfig::tier_on_request`: nothing is held to rates or charged until `POST /twinstorm/throttle` (RegistryWrite),
// which answers the same figures. So a run sets its fleet up and then meets full buckets; there is no way back.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/policy/quota.hpp"
#include "sim/hub/policy/throttle.hpp"
#include "sim/hub/policy/tiers.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::hub {

/// What a service operation is held to; nothing for operations without a limit of their own.
struct OperationPolicy {
  OperationClass operation{};
  const char* type = "";  ///< `TwinRead`, `ConfigurationWrite`: how a 429 names it
  bool metered = false;   ///< charged to the day's messages
};
std::optional<OperationPolicy> policy_of(protocol::ServiceOperation operation);

/// What devices do, and what the service does by other ways than its own API.
inline constexpr OperationPolicy kConnect{OperationClass::connects, "Connect", false};
inline constexpr OperationPolicy kTelemetry{OperationClass::d2c_sends, "DeviceToCloudSend", true};
inline constexpr OperationPolicy kMessageSend{OperationClass::c2d_sends, "CloudToDeviceSend", true};
inline constexpr OperationPolicy kMessageReceive{OperationClass::c2d_receives, "CloudToDeviceReceive", false};
inline constexpr OperationPolicy kDeviceTwinRead{OperationClass::twin_reads, "TwinRead", true};
inline constexpr OperationPolicy kDeviceTwinUpdate{OperationClass::twin_updates, "TwinWrite", true};
inline constexpr OperationPolicy kJobDeviceOperation{OperationClass::job_device_operations, "JobDeviceOperation", true};

/// `iothub-errorcode` of what the tier's rates refuse.
inline constexpr std::string_view kThrottledName = "ThrottlingBacklogTimeout";
/// 429: `The request has been throttled. Wait 10 seconds and try again. Operation type: <type>`.
ServiceError throttled(std::string_view type);
/// The same as devices see it in twin answers: 429001 (device.md 7.5).
ServiceError device_throttled(std::string_view type);

/// One reading of all figures.
struct TierFigures {
  Tier tier{};
  uint32_t units = 0;
  std::vector<ThrottleFigures> classes;  ///< all, in the order of OperationClass
  uint64_t quota_limit = 0;
  uint64_t quota_used = 0;     ///< today
  uint64_t quota_refused = 0;  ///< operations
  uint32_t message_bytes = 0;
  WallTime quota_resets{};
};
/// The JSON of `GET /twinstorm/throttle`; `figures` nullptr: of a hub without a tier.
std::string to_json(const TierFigures* figures);

class TierPolicy {
 public:
  /// `units` must have passed `check_units`.
  /// `started` false: rates and daily messages hold from `start` on; what the tier has not is refused before, too.
  TierPolicy(Tier tier, uint32_t units, bool started = true)
      : limits_{limits_of(tier, units)}, throttle_{limits_, started} {}
  void start() { throttle_.start(); }

  const TierLimits& limits() const { return limits_; }
  Throttle& throttle() { return throttle_; }
  DailyQuota& quota() { return quota_; }

  /// 403 when the tier has no such operation, or when it is metered and the day's messages are used up.
  ServiceResult<void> check(OperationClass operation, bool metered, std::string_view host_name, WallTime now);
  /// `check`, then the throttle. A refusal is a 403 or a 429.
  struct Verdict {
    Nanos delay{};  ///< the operation is to be done so much later
    std::optional<ServiceError> refusal;
  };
  Verdict decide(const OperationPolicy& operation, uint32_t cost, std::string_view host_name, MonoTime now,
                 WallTime wall);
  /// Charges what payloads of these sizes cost.
  void charge(uint64_t bytes, WallTime now) {
    if (throttle_.started()) quota_.charge(charged_messages(bytes, limits_.message_bytes), now);
  }
  /// A direct method: both sides count at least 1, and an offline device's missing answer, too.
  void charge_method(uint64_t request_bytes, uint64_t answer_bytes, WallTime now) {
    charge(request_bytes, now);
    charge(answer_bytes, now);
  }

  /// Takes a place for another device or module. Error: 413002 when the tier's are taken.
  ServiceResult<void> take_identity();
  void add_identities(uint64_t n) { identities_.fetch_add(n, std::memory_order_relaxed); }
  void give_back_identities(uint64_t n) { identities_.fetch_sub(n, std::memory_order_relaxed); }
  uint64_t identities() const { return identities_.load(std::memory_order_relaxed); }

  TierFigures figures(WallTime now) const;

 private:
  const TierLimits limits_;
  Throttle throttle_;
  DailyQuota quota_{limits_.messages_per_day};
  std::atomic<uint64_t> identities_{0};
};

}  // namespace twinstorm::hub
