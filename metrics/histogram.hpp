// Latency distributions at HdrHistogram's resolution: every value from 1 us to 1 h to three significant digits.
//
// Two types. `LatencyHistogram` is what a shard writes: one writer thread, any number of readers, no locks, no
// read-modify- write. `HistogramSnapshot` is a plain value for everybody else: add, subtract, ask for percentiles.
//
// The bucket layout is HdrHistogram's for (lowest 1, highest 3.6e9, 3 significant digits) with a unit of 1 us, index
// for index, so that counts can be written to its log format and read by its tools. Source: HdrHistogram,
// AbstractHistogram.java.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "sim/base/time.hpp"

namespace twinstorm::metrics {

/// The index arithmetic, in microseconds.
namespace layout {

inline constexpr int kSignificantDigits = 3;
inline constexpr uint64_t kLowestMicros = 1;
inline constexpr uint64_t kHighestMicros = 3'600'000'000;
inline constexpr int kSubBucketHalfCountMagnitude = 10;
inline constexpr uint64_t kSubBucketHalfCount = uint64_t{1} << kSubBucketHalfCountMagnitude;
inline constexpr uint64_t kSubBucketMask = 2 * kSubBucketHalfCount - 1;
inline constexpr size_t kBucketCount = 22;  // 2048 << 21 is the first power that exceeds kHighestMicros
inline constexpr size_t kCountsLength = (kBucketCount + 1) * kSubBucketHalfCount;
static_assert(kCountsLength == 23'552, "the counts length HdrHistogram_c's own tests pin for (1, 3.6e9, 3)");

constexpr size_t index_of(uint64_t micros) {
  const int bucket = 64 - std::countl_zero(micros | kSubBucketMask) - (kSubBucketHalfCountMagnitude + 1);
  const auto sub_bucket = micros >> bucket;
  return ((static_cast<size_t>(bucket) + 1) << kSubBucketHalfCountMagnitude) + sub_bucket - kSubBucketHalfCount;
}
/// The smallest value that falls into the bucket.
constexpr uint64_t lowest_in(size_t index) {
  const auto bucket = static_cast<int>(index >> kSubBucketHalfCountMagnitude) - 1;
  const auto sub_bucket = (index & (kSubBucketHalfCount - 1)) + kSubBucketHalfCount;
  return bucket < 0 ? sub_bucket - kSubBucketHalfCount : static_cast<uint64_t>(sub_bucket) << bucket;
}
/// The largest value that falls into the bucket.
constexpr uint64_t highest_in(size_t index) { return lowest_in(index + 1) - 1; }

/// Nearest microsecond; negative durations count as 0.
constexpr uint64_t to_micros(Nanos value) {
  return value.count() <= 0 ? 0 : (static_cast<uint64_t>(value.count()) + 500) / 1000;
}

}  // namespace layout

/// Samples that must lie beyond a percentile before it is worth printing (after Rally).
inline constexpr uint64_t kSamplesBeyondMin = 10;

/// Whether `count` samples carry the q-quantile: at least `kSamplesBeyondMin` of them lie beyond it.
bool enough_samples(uint64_t count, double q);

/// A distribution as a plain value. Empty ones own no memory; others 184 KiB.
class HistogramSnapshot {
 public:
  void record(Nanos value, uint64_t times = 1);
  /// Adds `times` samples to the bucket `index` (< layout::kCountsLength) and widens min and max by that bucket's
  /// bounds; the exact sum is not known, so the bucket's middle is used. For readers of stored histograms.
  void add_to_bucket(size_t index, uint64_t times);

  void add(const HistogramSnapshot& other);
  /// What was recorded after `earlier` was taken. `earlier` must be an older snapshot of the same source(s). min and
  /// max of the difference are exact to bucket resolution.
  void subtract(const HistogramSnapshot& earlier);

  uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  /// Values above one hour: recorded as one hour, and counted here.
  uint64_t saturated() const { return saturated_; }
  Nanos sum() const { return sum_; }
  Nanos mean() const;  ///< 0 when empty
  Nanos min() const { return empty() ? Nanos{0} : min_; }
  Nanos max() const { return empty() ? Nanos{0} : max_; }

  /// The smallest recorded value v (as the highest value its bucket stands for) such that a share `q` in [0, 1] of all
  /// samples is <= v: HdrHistogram's getValueAtPercentile. In microseconds; 0 when empty.
  uint64_t value_at(double q) const;
  /// `value_at`, but never above the exact maximum.
  Nanos percentile(double q) const;
  /// `percentile(q)` if `enough_samples`.
  std::optional<Nanos> percentile_if_enough(double q) const;
  /// Samples that are certainly <= `limit`: sum over buckets that end at or below it.
  uint64_t count_at_or_below(Nanos limit) const;

  uint64_t at(size_t index) const { return counts_.empty() ? 0 : counts_[index]; }

  /// Calls `fn(lowest_micros, highest_micros, count)` for each non-empty bucket, ascending.
  template <class Fn>
  void for_each_bucket(Fn&& fn) const {
    if (empty()) return;
    for (size_t i = first_; i <= last_; ++i) {
      if (counts_[i] != 0) fn(layout::lowest_in(i), layout::highest_in(i), counts_[i]);
    }
  }

  friend bool operator==(const HistogramSnapshot& a, const HistogramSnapshot& b);

 private:
  friend class LatencyHistogram;
  void reserve_buckets();

  std::vector<uint64_t> counts_;  // empty until the first sample
  size_t first_ = 0, last_ = 0;   // every non-zero count lies in [first_, last_] (meaningful if count_ != 0)
  uint64_t count_ = 0;
  uint64_t saturated_ = 0;
  Nanos sum_{0};
  Nanos min_ = Nanos::max();
  Nanos max_{0};
};

/// The writer's side. 184 KiB of address space each, of which only touched pages become resident. Exactly one thread
/// calls `record`; any thread may read at any time and sees each number no smaller than it saw before. A reader may see
/// the totals one event ahead of or behind the buckets; exact numbers need the writer to have finished (joined).
class alignas(64) LatencyHistogram {
 public:
  LatencyHistogram();
  ~LatencyHistogram();
  LatencyHistogram(LatencyHistogram&& other) noexcept;  ///< before the writer starts only
  LatencyHistogram& operator=(LatencyHistogram&&) = delete;

  /// Writer only. Negative values count as 0, values above one hour as one hour (and in `saturated`).
  void record(Nanos value) {
    auto micros = layout::to_micros(value);
    if (micros > layout::kHighestMicros) [[unlikely]] {
      micros = layout::kHighestMicros;
      bump(saturated_, 1);
    }
    bump(counts_[layout::index_of(micros)], 1);
    const auto nanos = std::max<int64_t>(value.count(), 0);
    bump(sum_ns_, static_cast<uint64_t>(nanos));
    if (nanos > load(max_ns_)) store(max_ns_, nanos);
    if (nanos < load(min_ns_)) store(min_ns_, nanos);
    bump(count_, 1);
  }

  /// Any thread.
  uint64_t count() const { return load(count_); }
  /// Any thread: adds the present contents to `into`. Nothing is read when `count()` is 0.
  void add_to(HistogramSnapshot& into) const;
  HistogramSnapshot snapshot() const;

 private:
  // Plain words accessed through atomic_ref: the buckets come zeroed from the kernel and must stay untouched until
  // used.
  template <class T>
  static T load(const T& word) {
    return std::atomic_ref<T>(const_cast<T&>(word)).load(std::memory_order_relaxed);
  }
  template <class T>
  static void store(T& word, T value) {
    std::atomic_ref<T>(word).store(value, std::memory_order_relaxed);
  }
  static void bump(uint64_t& word, uint64_t by) { store(word, load(word) + by); }

  uint64_t* counts_;
  uint64_t count_ = 0;
  uint64_t saturated_ = 0;
  uint64_t sum_ns_ = 0;
  int64_t min_ns_ = std::numeric_limits<int64_t>::max();
  int64_t max_ns_ = 0;
};

}  // namespace twinstorm::metrics
