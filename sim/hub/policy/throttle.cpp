#include "sim/hub/policy/throttle.hpp"

#include <algorithm>
#include <bit>

namespace twinstorm::hub {
namespace {

constexpr uint32_t kSteps = 16;                       // buckets to a doubling
constexpr Nanos kFinest = Nanos{1'000'000} / kSteps;  // 1/16 ms
constexpr int64_t kNanosPerMinute = 60'000'000'000;

/// What `cost` takes to flow back, rounded up: rather a nanosecond late than one operation too many.
int64_t time_of(uint32_t cost, uint32_t per_minute) {
  return (int64_t{cost} * kNanosPerMinute + per_minute - 1) / per_minute;
}

/// The middle of what `bucket_of` puts into a bucket.
Nanos middle_of(size_t bucket) {
  if (bucket < kSteps) return kFinest * static_cast<int64_t>(bucket) + kFinest / 2;
  const size_t doublings = bucket / kSteps - 1;
  const int64_t low = static_cast<int64_t>(kSteps + bucket % kSteps) << doublings;
  return kFinest * low + kFinest * (int64_t{1} << doublings) / 2;
}

void raise_to(std::atomic<int64_t>& largest, int64_t value) {
  int64_t seen = largest.load(std::memory_order_relaxed);
  while (seen < value && !largest.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

}  // namespace

size_t DelayHistogram::bucket_of(uint64_t sixteenths) {
  if (sixteenths < kSteps) return sixteenths;
  const auto doublings = static_cast<size_t>(std::bit_width(sixteenths)) - 5;
  return std::min(kBuckets - 1, kSteps * (doublings + 1) + (sixteenths >> doublings) - kSteps);
}

void DelayHistogram::add(Nanos delay) {
  buckets_[bucket_of(static_cast<uint64_t>(delay / kFinest))].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(delay.count(), std::memory_order_relaxed);
  raise_to(max_, delay.count());
}

DelayHistogram::Summary DelayHistogram::read() const {
  std::array<uint64_t, kBuckets> counts;
  Summary summary;
  for (size_t i = 0; i < kBuckets; ++i) summary.count += counts[i] = buckets_[i].load(std::memory_order_relaxed);
  if (summary.count == 0) return summary;
  summary.max = Nanos{max_.load(std::memory_order_relaxed)};
  summary.sum = Nanos{sum_.load(std::memory_order_relaxed)};
  const auto at_rank = [&](uint64_t rank) {
    size_t bucket = 0;
    for (uint64_t below = counts[0]; below < rank; below += counts[bucket]) ++bucket;
    return std::min(middle_of(bucket), summary.max);
  };
  summary.p50 = at_rank((summary.count + 1) / 2);
  summary.p99 = at_rank(summary.count - summary.count / 100);
  return summary;
}

Throttle::Throttle(const TierLimits& limits, bool started) : started_{started} {
  for (size_t i = 0; i < kOperationClasses; ++i) buckets_[i].per_minute = limits.per_minute[i];
}

Throttle::Admission Throttle::admit(OperationClass operation, uint32_t cost, MonoTime now) {
  if (!started()) return {};
  Bucket& bucket = at(operation);
  const auto refuse = [&] {
    bucket.refused.fetch_add(1, std::memory_order_relaxed);
    bucket.refused_cost.fetch_add(cost, std::memory_order_relaxed);
    return Admission{.delay = {}, .refused = true};
  };
  if (bucket.per_minute == 0) return refuse();
  const int64_t taken = time_of(cost, bucket.per_minute);
  const int64_t at_once_until = now.time_since_epoch().count() + kThrottleBurst.count();
  int64_t full_at = bucket.full_at.load(std::memory_order_relaxed);
  int64_t delay = 0;
  int64_t next = 0;
  do {
    next = std::max(full_at, now.time_since_epoch().count()) + taken;
    delay = next - at_once_until;
    if (delay > kThrottleBacklog.count()) return refuse();
  } while (!bucket.full_at.compare_exchange_weak(full_at, next, std::memory_order_relaxed));
  bucket.admitted.fetch_add(1, std::memory_order_relaxed);
  bucket.admitted_cost.fetch_add(cost, std::memory_order_relaxed);
  if (delay <= 0) return {};
  bucket.delays.add(Nanos{delay});
  return {.delay = Nanos{delay}, .refused = false};
}

ThrottleFigures Throttle::figures(OperationClass operation) const {
  const Bucket& bucket = buckets_[static_cast<size_t>(operation)];
  ThrottleFigures figures;
  figures.operation = operation;
  figures.per_second = bucket.per_minute / 60.0;
  figures.burst = figures.per_second * to_seconds(kThrottleBurst);
  figures.backlog = figures.per_second * to_seconds(kThrottleBacklog);
  figures.admitted = bucket.admitted.load(std::memory_order_relaxed);
  figures.admitted_cost = bucket.admitted_cost.load(std::memory_order_relaxed);
  figures.delay = bucket.delays.read();
  figures.shaped = figures.delay.count;
  figures.refused = bucket.refused.load(std::memory_order_relaxed);
  figures.refused_cost = bucket.refused_cost.load(std::memory_order_relaxed);
  figures.abandoned = bucket.abandoned.load(std::memory_order_relaxed);
  return figures;
}

}  // namespace twinstorm::hub
