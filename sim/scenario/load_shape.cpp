#include "sim/scenario/load_shape.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sim/base/assert.hpp"

namespace twinstorm::scenario {
namespace {

constexpr long double kNever = std::numeric_limits<long double>::infinity();
constexpr long double kTwoPi = 6.283185307179586476925286766559005768L;

long double seconds_of(Nanos t) {
  return t == LoadShape::kForever ? kNever : static_cast<long double>(t.count()) / 1e9L;
}

Nanos nanos_of(long double seconds) {
  // 9.2e9 s is where the count of nanoseconds would leave 63 bits.
  if (!(seconds < 9.2e9L)) return Nanos::max();
  return Nanos{llroundl(seconds * 1e9L)};
}

}  // namespace

void LoadShape::add(long double length, long double from, long double to) {
  const long double start = segments_.empty() ? 0 : segments_.back().start + segments_.back().length;
  const long double room = seconds_of(length_) - start;
  if (length <= 0 || room <= 0) return;
  long double before = 0;
  if (!segments_.empty()) {
    const auto& last = segments_.back();
    before = last.before + last.length * (last.from + last.slope * last.length / 2);
  }
  segments_.push_back({start, std::min(length, room), from, from == to ? 0 : (to - from) / length, before});
}

void LoadShape::add_until_end(long double rate) { add(kNever, rate, rate); }

LoadShape LoadShape::constant(Rate rate, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  shape.add_until_end(rate.per_second);
  return shape;
}

LoadShape LoadShape::ramp(Rate from, Rate to, Nanos over, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  shape.add(seconds_of(over), from.per_second, to.per_second);
  shape.add_until_end(to.per_second);
  return shape;
}

LoadShape LoadShape::steps(const std::vector<RateStep>& steps, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  for (const auto& step : steps) shape.add(seconds_of(step.length), step.rate.per_second, step.rate.per_second);
  if (!steps.empty()) shape.add_until_end(steps.back().rate.per_second);
  return shape;
}

LoadShape LoadShape::spike(Rate base, Rate peak, Nanos at, Nanos hold, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  shape.add(seconds_of(at), base.per_second, base.per_second);
  shape.add(seconds_of(hold), peak.per_second, peak.per_second);
  shape.add_until_end(base.per_second);
  return shape;
}

LoadShape LoadShape::sine(Rate mean, Rate amplitude, Nanos period, Nanos length) {
  TS_ASSERT(amplitude.per_second <= mean.per_second && period > Nanos{0});  // no negative rates
  LoadShape shape;
  shape.length_ = length;
  shape.mean_ = mean.per_second;
  shape.amplitude_ = amplitude.per_second;
  shape.period_ = seconds_of(period);
  return shape;
}

long double LoadShape::sine_count(long double seconds) const {
  // The integral of the rate, with 1 - cos written as 2 sin^2 because the difference cancels near 0.
  const long double half = std::sin(kTwoPi * seconds / period_ / 2);
  return mean_ * seconds + amplitude_ * period_ / kTwoPi * 2 * half * half;
}

long double LoadShape::sine_inverse(long double count) const {
  if (mean_ <= 0) return kNever;
  // One period holds mean * period arrivals exactly, so only the rest needs a search, and keeps its precision.
  const long double per_period = mean_ * period_;
  const long double whole = std::floor(count / per_period);
  const long double rest = count - whole * per_period;
  long double low = 0, high = period_, t = rest / mean_;
  // Newton inside a shrinking bracket; bisection when it leaves it (the rate touches 0 when amplitude == mean).
  for (int step = 0; step < 100 && high - low > 1e-12L; ++step) {
    const long double excess = sine_count(t) - rest;
    (excess > 0 ? high : low) = t;
    const long double rate = mean_ + amplitude_ * std::sin(kTwoPi * t / period_);
    const long double newton = t - excess / rate;
    const long double before = t;
    t = rate > 0 && newton > low && newton < high ? newton : (low + high) / 2;
    if (std::abs(t - before) < 1e-13L) break;
  }
  return whole * period_ + t;
}

double LoadShape::count_by(Nanos t) const {
  const long double seconds = seconds_of(std::clamp(t, Nanos{0}, length_));
  if (period_ > 0) return static_cast<double>(sine_count(seconds));
  if (segments_.empty()) return 0;
  auto segment = std::upper_bound(segments_.begin(), segments_.end(), seconds,
                                  [](long double at, const Segment& s) { return at < s.start; });
  if (segment != segments_.begin()) --segment;
  const long double into = seconds - segment->start;
  if (segment->pauses()) return static_cast<double>(segment->before);
  return static_cast<double>(segment->before + into * (segment->from + segment->slope * into / 2));
}

Nanos LoadShape::time_of(long double count) const {
  if (count < 0) return Nanos{0};
  if (period_ > 0) {
    const Nanos due = nanos_of(sine_inverse(count));
    return due < length_ ? due : Nanos::max();
  }
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    // The last segment that starts with no more than `count` behind it holds the answer, unless it never gets beyond.
    // Rates such as 0.1/s are not exact in binary: the slack keeps an arrival that belongs behind a pause from being
    // pulled in front of it. Where nothing pauses, the neighbours agree at the border and no slack is wanted.
    const bool at_pause = segment->pauses() || (std::next(segment) != segments_.rend() && std::next(segment)->pauses());
    const long double slack = at_pause ? 1e-9L + count * 1e-12L : 0;
    if (segment->before > count + slack) continue;
    const long double rest = std::max(count - segment->before, 0.0L);
    if (segment->pauses()) {
      if (segment == segments_.rbegin()) return Nanos::max();
      return nanos_of(std::prev(segment)->start);
    }
    // from * x + slope * x^2 / 2 = rest, solved in the form that does not cancel.
    const long double square = segment->from * segment->from + 2 * segment->slope * rest;
    if (square < 0) return Nanos::max();
    const long double divisor = segment->from + std::sqrt(square);
    const long double into = divisor > 0 ? 2 * rest / divisor : 0;
    const Nanos due = nanos_of(segment->start + into);
    return due < length_ ? due : Nanos::max();
  }
  return Nanos::max();
}

Nanos LoadShape::due_at(uint64_t n) const { return time_of(static_cast<long double>(n)); }

Rate LoadShape::rate_at(Nanos t) const {
  if (t < Nanos{0} || t >= length_) return {};
  const long double seconds = seconds_of(t);
  if (period_ > 0) return {static_cast<double>(mean_ + amplitude_ * std::sin(kTwoPi * seconds / period_))};
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    if (segment->start > seconds) continue;
    return {static_cast<double>(segment->from + segment->slope * (seconds - segment->start))};
  }
  return {};
}

uint64_t LoadShape::arrivals() const {
  TS_ASSERT(length_ != kForever);
  auto n = static_cast<uint64_t>(std::ceil(count_by(length_)));
  while (n > 0 && due_at(n - 1) == Nanos::max()) --n;
  while (due_at(n) != Nanos::max()) ++n;
  return n;
}

Rate LoadShape::peak_rate() const {
  if (period_ > 0) return {static_cast<double>(mean_ + amplitude_)};
  long double peak = 0;
  for (const auto& segment : segments_) {
    peak = std::max(peak, segment.from);
    if (segment.slope > 0) peak = std::max(peak, segment.from + segment.slope * segment.length);
  }
  return {static_cast<double>(peak)};
}

}  // namespace twinstorm::scenario
