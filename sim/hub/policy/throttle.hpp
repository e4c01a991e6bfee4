// Holds operations to a rate, as the service does (service.md 13.2): a burst goes through at once, then operations are
// held back so that they leave at the limit's rate (shaping), and when too much is held back they are refused.
//
// One bucket a class for the whole hub, shared by all shards: the generic cell rate algorithm on one atomic, the time
// at which the bucket would be full again. No lock, no timer, no background work; sans-I/O: time is a parameter and
// whoever is told to wait sees to it himself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "sim/base/time.hpp"
#include "sim/hub/policy/tiers.hpp"

namespace twinstorm::hub {

/// How much may come at once after a quiet time, in time of the rate: S1's 100 twin reads a second allow 6,000.
inline constexpr Nanos kThrottleBurst = std::chrono::seconds{60};
/// How long an operation may have to wait; what would wait longer is refused.
inline constexpr Nanos kThrottleBacklog = std::chrono::seconds{10};

/// Delays of shaped operations: counts by size, any thread adds, any reads. Values are kept to 1/16 of themselves,
/// below 1 ms to 1/16 ms; the largest is exact.
class DelayHistogram {
 public:
  struct Summary {
    uint64_t count = 0;
    Nanos p50{};
    Nanos p99{};
    Nanos max{};
    Nanos sum{};
  };
  void add(Nanos delay);
  /// All zero when nothing was added.
  Summary read() const;

 private:
  static constexpr size_t kBuckets = 16 * 16;
  static size_t bucket_of(uint64_t sixteenths);

  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<int64_t> max_{0};
  std::atomic<int64_t> sum_{0};
};

/// What one class has seen. Operations, and in `..._cost` how much they counted (entries of a bulk request, messages of
/// a batch, 4 KB steps).
struct ThrottleFigures {
  OperationClass operation{};
  double per_second = 0;  ///< the limit; 0 = the tier has no such operation
  double burst = 0;       ///< how much may come at once
  double backlog = 0;     ///< how much may wait
  uint64_t admitted = 0;  ///< let through, at once or after a delay
  uint64_t admitted_cost = 0;
  uint64_t shaped = 0;  ///< of the admitted, those that had to wait
  uint64_t refused = 0;
  uint64_t refused_cost = 0;
  uint64_t abandoned = 0;         ///< of the shaped, those whose client left before their turn: they were not done
  DelayHistogram::Summary delay;  ///< of the shaped
};

class Throttle {
 public:
  struct Admission {
    Nanos delay{};         ///< the operation is to be done so much later; zero = now
    bool refused = false;  ///< 429; nothing was taken from the bucket
  };

  /// `started` false: until `start` everything is let through and nothing is counted, so that all buckets are full
  /// then.
  explicit Throttle(const TierLimits& limits, bool started = true);
  void start() { started_.store(true, std::memory_order_relaxed); }
  bool started() const { return started_.load(std::memory_order_relaxed); }

  /// Takes `cost` out of the class's bucket. Operations that are told to wait leave in the order of asking. Never
  /// admits more than burst + rate x time, whatever threads ask. `now` of different threads may differ a little; a
  /// class that the tier has not is refused.
  Admission admit(OperationClass operation, uint32_t cost, MonoTime now);
  /// An admitted operation that had to wait was not done because its client left. What it cost stays spent.
  void abandoned(OperationClass operation) { at(operation).abandoned.fetch_add(1, std::memory_order_relaxed); }

  ThrottleFigures figures(OperationClass operation) const;

 private:
  struct alignas(64) Bucket {
    std::atomic<int64_t> full_at{0};  // ns of MonoTime; in the past = full
    uint32_t per_minute = 0;
    std::atomic<uint64_t> admitted{0};
    std::atomic<uint64_t> admitted_cost{0};
    std::atomic<uint64_t> refused{0};
    std::atomic<uint64_t> refused_cost{0};
    std::atomic<uint64_t> abandoned{0};
    DelayHistogram delays;
  };
  Bucket& at(OperationClass operation) { return buckets_[static_cast<size_t>(operation)]; }

  std::array<Bucket, kOperationClasses> buckets_;
  std::atomic<bool> started_;
};

}  // namespace twinstorm::hub
