// Faults that a hub commits on purpose, so that a tool's claims about lost, swapped and doubled updates can be checked:
// every n-th operation of a kind goes wrong, and what went wrong is remembered exactly.
//
// `GET /twinstorm/planted` (the hub's own resource, as `counts`) answers
//
//   {"planted":[{"kind":"dropNotification","deviceId":"therm-00042","version":7,"time":"2026-01-02T03:04:05.678Z"}],
//    "forgotten":0}
//
// `version` is that of desired properties, for `loseReported` that of reported ones. A hub without faults has no object
// of this class. One serves all shards of a hub, so that "every n-th" is exact; any thread, sans-I/O.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::hub {

enum class Fault : uint8_t {
  drop_notification,       ///< a desired notification is not sent
  swap_notifications,      ///< it is held back until the device's next one has been sent
  duplicate_notification,  ///< it is sent twice
  lose_reported,           ///< a reported patch is answered 204 with its version, and not stored
  forget_desired,          ///< a service's PATCH is answered 200 with the changed twin, and not stored
};
inline constexpr size_t kFaults = 5;
/// `dropNotification` and so on.
const char* to_string(Fault fault);

/// How often; 0 = never.
struct FaultPlan {
  std::array<uint32_t, kFaults> every{};
  bool none() const { return every == std::array<uint32_t, kFaults>{}; }
  friend bool operator==(const FaultPlan&, const FaultPlan&) = default;
};
/// Reads `dropNotification:1000,loseReported:500`. Error: `invalid_argument` naming the part and what is accepted.
Result<FaultPlan> parse_fault_plan(std::string_view text);

class PlantedFaults {
 public:
  static constexpr size_t kKeptMax = 1000;  ///< planted faults remembered; older ones are forgotten and counted
  static constexpr size_t kHeldMax = 1000;  ///< notifications held back at a time; beyond it none is

  explicit PlantedFaults(FaultPlan plan) : plan_{plan} {}

  /// Counts one operation that `fault` could spoil; true when it is an n-th one: the caller spoils it.
  bool strikes(Fault fault);
  /// Remembers and logs what was spoiled.
  void record(Fault fault, std::string_view key, int64_t version, WallTime at);

  struct Held {
    int64_t version = 0;
    std::string body;
  };
  /// Keeps a notification of identity `key` for later. False when one is held already, or too many are.
  bool hold(const std::string& key, int64_t version, std::string_view body);
  /// The one held back, which has to be sent now.
  std::optional<Held> take_held(const std::string& key);
  /// The identity's connection ended: what was held for it is never sent, as any notification then.
  void drop_held(const std::string& key);

  std::string to_json() const;

 private:
  struct Planted {
    Fault fault;
    std::string key;
    int64_t version;
    WallTime at;
  };

  const FaultPlan plan_;
  mutable std::mutex mutex_;
  std::array<uint64_t, kFaults> seen_{};
  std::deque<Planted> planted_;
  uint64_t forgotten_ = 0;
  std::map<std::string, Held> held_;
};

}  // namespace twinstorm::hub
