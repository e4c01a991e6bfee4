#include "metrics/histogram.hpp"

#include <cmath>
#include <new>
#include <utility>

#include <sys/mman.h>

#include "sim/base/assert.hpp"

namespace twinstorm::metrics {
namespace {

constexpr size_t kCountsBytes = layout::kCountsLength * sizeof(uint64_t);

Nanos from_micros(uint64_t micros) { return Nanos{static_cast<int64_t>(micros) * 1000}; }

}  // namespace

bool enough_samples(uint64_t count, double q) {
  // The tiny addend keeps 1000 samples enough for p99 although 1 - 0.99 is a little less than 0.01.
  return static_cast<double>(count) * (1.0 - q) + 1e-6 >= static_cast<double>(kSamplesBeyondMin);
}

// --- HistogramSnapshot -----------------------------------------------------------------------------------

void HistogramSnapshot::reserve_buckets() {
  if (counts_.empty()) counts_.resize(layout::kCountsLength);
}

void HistogramSnapshot::record(Nanos value, uint64_t times) {
  if (times == 0) return;
  value = std::max(value, Nanos{0});
  auto micros = layout::to_micros(value);
  if (micros > layout::kHighestMicros) {
    micros = layout::kHighestMicros;
    saturated_ += times;
  }
  const auto index = layout::index_of(micros);
  reserve_buckets();
  first_ = empty() ? index : std::min(first_, index);
  last_ = empty() ? index : std::max(last_, index);
  counts_[index] += times;
  count_ += times;
  sum_ += value * static_cast<int64_t>(times);
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
}

void HistogramSnapshot::add_to_bucket(size_t index, uint64_t times) {
  TS_ASSERT(index < layout::kCountsLength);
  if (times == 0) return;
  const auto low = layout::lowest_in(index);
  const auto high = layout::highest_in(index);
  reserve_buckets();
  first_ = empty() ? index : std::min(first_, index);
  last_ = empty() ? index : std::max(last_, index);
  counts_[index] += times;
  count_ += times;
  // Unsigned, because a stored count may be anything.
  const auto middle = static_cast<uint64_t>(((from_micros(low) + from_micros(high)) / 2).count());
  sum_ = Nanos{static_cast<int64_t>(static_cast<uint64_t>(sum_.count()) + middle * times)};
  min_ = std::min(min_, from_micros(low));
  max_ = std::max(max_, from_micros(high));
}

void HistogramSnapshot::add(const HistogramSnapshot& other) {
  if (other.empty()) return;
  if (empty()) {
    *this = other;
    return;
  }
  for (size_t i = other.first_; i <= other.last_; ++i) counts_[i] += other.counts_[i];
  first_ = std::min(first_, other.first_);
  last_ = std::max(last_, other.last_);
  count_ += other.count_;
  saturated_ += other.saturated_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

void HistogramSnapshot::subtract(const HistogramSnapshot& earlier) {
  if (earlier.empty()) return;
  TS_ASSERT(count_ >= earlier.count_);
  size_t first = layout::kCountsLength;
  size_t last = 0;
  for (size_t i = first_; i <= last_; ++i) {
    TS_ASSERT(counts_[i] >= earlier.counts_[i]);
    counts_[i] -= earlier.counts_[i];
    if (counts_[i] == 0) continue;
    first = std::min(first, i);
    last = i;
  }
  count_ -= earlier.count_;
  // Counters beside the buckets may have been read one event apart from them.
  saturated_ -= std::min(saturated_, earlier.saturated_);
  sum_ = std::max(sum_ - earlier.sum_, Nanos{0});
  if (count_ == 0) {
    *this = HistogramSnapshot{};
    return;
  }
  first_ = first;
  last_ = last;
  min_ = std::max(min_, from_micros(layout::lowest_in(first)));
  max_ = std::min(max_, from_micros(layout::highest_in(last)));
}

Nanos HistogramSnapshot::mean() const { return empty() ? Nanos{0} : sum_ / static_cast<int64_t>(count_); }

uint64_t HistogramSnapshot::value_at(double q) const {
  if (empty()) return 0;
  // HdrHistogram steps to the next smaller number first, so that 99.0 of 100 samples means the 99th, not the 100th.
  const auto share = std::clamp(std::nextafter(q, -1.0), 0.0, 1.0);
  const auto rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = first_; i <= last_; ++i) {
    seen += counts_[i];
    if (seen >= rank) return layout::highest_in(i);
  }
  return layout::highest_in(last_);
}

Nanos HistogramSnapshot::percentile(double q) const { return std::min(from_micros(value_at(q)), max()); }

std::optional<Nanos> HistogramSnapshot::percentile_if_enough(double q) const {
  if (!enough_samples(count_, q)) return std::nullopt;
  return percentile(q);
}

uint64_t HistogramSnapshot::count_at_or_below(Nanos limit) const {
  if (empty() || limit < Nanos{0}) return 0;
  const auto micros = static_cast<uint64_t>(limit.count()) / 1000;
  uint64_t total = 0;
  for (size_t i = first_; i <= last_ && layout::highest_in(i) <= micros; ++i) total += counts_[i];
  return total;
}

bool operator==(const HistogramSnapshot& a, const HistogramSnapshot& b) {
  if (a.count_ != b.count_ || a.saturated_ != b.saturated_) return false;
  if (a.empty()) return true;
  return a.sum_ == b.sum_ && a.min_ == b.min_ && a.max_ == b.max_ && a.counts_ == b.counts_;
}

// --- LatencyHistogram ------------------------------------------------------------------------------------

LatencyHistogram::LatencyHistogram() {
  // Straight from the kernel: zeroed, page-aligned (so no cache line is shared with a neighbour), not resident until
  // touched, and shared with processes forked later. Huge pages would make the first record cost 2 MiB.
  void* memory =
      mmap(nullptr, kCountsBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc{};
  madvise(memory, kCountsBytes, MADV_NOHUGEPAGE);
  counts_ = static_cast<uint64_t*>(memory);
}

LatencyHistogram::~LatencyHistogram() {
  if (counts_ != nullptr) munmap(counts_, kCountsBytes);
}

LatencyHistogram::LatencyHistogram(LatencyHistogram&& other) noexcept
    : counts_{std::exchange(other.counts_, nullptr)},
      count_{other.count_},
      saturated_{other.saturated_},
      sum_ns_{other.sum_ns_},
      min_ns_{other.min_ns_},
      max_ns_{other.max_ns_} {}

void LatencyHistogram::add_to(HistogramSnapshot& into) const {
  if (count() == 0) return;
  // min and max bound the buckets in use. A bucket the writer has filled but not yet covered by them is seen next time.
  const auto low = load(min_ns_);
  const auto high = load(max_ns_);
  const auto first = layout::index_of(std::min(layout::to_micros(Nanos{low}), layout::kHighestMicros));
  const auto last = layout::index_of(std::min(layout::to_micros(Nanos{high}), layout::kHighestMicros));
  if (first > last) return;
  const bool was_empty = into.empty();
  into.reserve_buckets();
  uint64_t total = 0;
  for (size_t i = first; i <= last; ++i) {
    const auto n = load(counts_[i]);
    into.counts_[i] += n;
    total += n;
  }
  if (total == 0) return;
  into.first_ = was_empty ? first : std::min(into.first_, first);
  into.last_ = was_empty ? last : std::max(into.last_, last);
  into.count_ += total;
  into.saturated_ += load(saturated_);
  into.sum_ += Nanos{static_cast<int64_t>(load(sum_ns_))};
  into.min_ = std::min(into.min_, Nanos{low});
  into.max_ = std::max(into.max_, Nanos{high});
}

HistogramSnapshot LatencyHistogram::snapshot() const {
  HistogramSnapshot result;
  add_to(result);
  return result;
}

}  // namespace twinstorm::metrics
