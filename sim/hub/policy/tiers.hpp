// What a tier of the service and its units allow (service.md 13): rates by class of operation, messages a day, other
// limits that a hub enforces. Plain numbers; who is held to them is decided in throttle.hpp, quota.hpp,
// tier_policy.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm::hub {

enum class Tier : uint8_t { f1, b1, b2, b3, s1, s2, s3 };
/// `F1`, `B1`, ... `S3`.
const char* to_string(Tier tier);
/// In any case. Error: `invalid_argument` with the names there are.
Result<Tier> parse_tier(std::string_view text);
/// B1 to B3: no C2D, twins, direct methods, jobs, configurations.
bool is_basic(Tier tier);
/// 1 to the most units of the tier (F1: 1, B3 and S3: 10, others: 200). Error: `invalid_argument` naming that.
Result<void> check_units(Tier tier, uint32_t units);

/// Operations that share one rate of the hub (service.md 13.1).
enum class OperationClass : uint8_t {
  identity_registry,      ///< reads and writes of identities; a bulk request of n counts n
  connects,               ///< MQTT connections let in
  d2c_sends,              ///< messages; a batch counts each of its messages
  queries,                ///< pages
  c2d_sends,              ///< cloud-to-device messages
  c2d_receives,           ///< devices that ask for messages over HTTPS
  direct_methods,         ///< 4 KB steps of the request's payload; at least one a call
  twin_reads,             ///< by devices and the service
  twin_updates,           ///< by devices and the service
  jobs,                   ///< create, get, cancel, query
  job_device_operations,  ///< what jobs do to devices
  configurations,
  file_uploads,  ///< initiations
};
inline constexpr size_t kOperationClasses = 13;
/// `identityRegistry`, `d2cSends`, ...: lowerCamel of the enumerator.
const char* to_string(OperationClass operation);

struct TierLimits {
  Tier tier = Tier::s1;
  uint32_t units = 1;
  /// By class, of the whole hub, counted as the class counts. 0 = the tier has no such operation.
  std::array<uint32_t, kOperationClasses> per_minute{};
  uint64_t messages_per_day = 0;     ///< of the whole hub
  uint32_t message_bytes = 4096;     ///< a larger one is charged as several
  uint64_t identities_max = 0;       ///< devices and modules
  uint32_t concurrent_jobs_max = 0;  ///< scheduled ones included
  uint32_t configurations_max = 0;

  bool has(OperationClass operation) const { return per_minute[static_cast<size_t>(operation)] != 0; }
};
/// `units` must have passed `check_units`.
TierLimits limits_of(Tier tier, uint32_t units);

}  // namespace twinstorm::hub
