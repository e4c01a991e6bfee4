// The run's own model of what every twin must hold at the end, and the comparison with what the hub holds.
//
// Every patch the hub accepted is merged in the order of its `$version`, every reported patch in the order of its
// acknowledgement. A request whose answer never came may or may not have been applied: its values are kept as possible,
// and a difference they explain is no difference. Memory is bounded by the size of the twins, not by the length of the
// run. A plain object, one per shard, that shard's thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::run {

class Oracle {
 public:
  /// More unanswered requests of one device than this, and its twin is reported as unchecked.
  static constexpr size_t kUnknownMax = 16;

  explicit Oracle(uint32_t devices) : devices_(devices) {}

  /// The state before the run, for devices that existed already. `twin` is the service's JSON. False if unreadable.
  bool seed(uint32_t device, std::string_view twin);
  /// `at` is when the answer came.
  void desired_accepted(uint32_t device, int64_t version, std::string_view desired, bool replaced, WallTime at = {});
  void desired_unknown(uint32_t device, std::string_view desired);
  /// `version` is what the acknowledgement said; 0: nothing.
  void reported_accepted(uint32_t device, std::string_view patch, int64_t version = 0, WallTime at = {});
  void reported_unknown(uint32_t device, std::string_view patch);

  enum class Verdict : uint8_t { matches, differs, unchecked };
  struct Comparison {
    Verdict verdict = Verdict::matches;
    /// `properties.desired.climate.minTemperature is 61, expected 64; the last change was acknowledged as version 7 at
    /// 2026-01-02T03:04:05.678Z, the hub holds version 6`
    std::string difference;
  };
  /// `twin` is the service's JSON of the device.
  Comparison compare(uint32_t device, std::string_view twin);

 private:
  struct Pending {
    int64_t version = 0;
    bool replaced = false;
    twin::Value value;
  };
  struct Acknowledged {
    int64_t version = 0;
    WallTime at{};
  };
  struct Device {
    twin::Value desired = twin::Value::object();
    twin::Value reported = twin::Value::object();
    int64_t version = 1;  // desired is the state at this version
    Acknowledged desired_last, reported_last;
    std::vector<Pending> pending;  // accepted beyond a gap: an answer overtook another
    std::vector<twin::Value> desired_unknown, reported_unknown;
    bool unchecked = false;
  };
  static void merge_pending(Device& device, bool over_gaps);
  static void keep_unknown(Device& device, std::vector<twin::Value>& list, std::string_view patch);

  std::vector<Device> devices_;
};

}  // namespace twinstorm::run
