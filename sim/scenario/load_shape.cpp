#include "sim/scenario/load_shape.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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

void LoadShape::add(std::vector<Segment>& to_list, long double length, long double from, long double to) const {
  const long double start = to_list.empty() ? 0 : to_list.back().start + to_list.back().length;
  const long double room = seconds_of(length_) - start;
  if (length <= 0 || room <= 0) return;
  long double before = 0;
  if (!to_list.empty()) {
    const auto& last = to_list.back();
    before = last.before + last.length * (last.from + last.slope * last.length / 2);
  }
  to_list.push_back({start, std::min(length, room), from, from == to ? 0 : (to - from) / length, before});
}

/// `rate` holds from the last segment to the end.
void LoadShape::finish(std::vector<Segment> segments, long double rate) {
  add(segments, kNever, rate, rate);
  segments_ = std::make_shared<const std::vector<Segment>>(std::move(segments));
}

LoadShape LoadShape::constant(Rate rate, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  shape.finish({}, rate.per_second);
  return shape;
}

LoadShape LoadShape::ramp(Rate from, Rate to, Nanos over, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  std::vector<Segment> segments;
  shape.add(segments, seconds_of(over), from.per_second, to.per_second);
  shape.finish(std::move(segments), to.per_second);
  return shape;
}

LoadShape LoadShape::steps(const std::vector<RateStep>& steps, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  std::vector<Segment> segments;
  for (const auto& step : steps) {
    shape.add(segments, seconds_of(step.length), step.rate.per_second, step.rate.per_second);
  }
  if (!steps.empty()) shape.finish(std::move(segments), steps.back().rate.per_second);
  return shape;
}

LoadShape LoadShape::spike(Rate base, Rate peak, Nanos at, Nanos hold, Nanos length) {
  LoadShape shape;
  shape.length_ = length;
  std::vector<Segment> segments;
  shape.add(segments, seconds_of(at), base.per_second, base.per_second);
  shape.add(segments, seconds_of(hold), peak.per_second, peak.per_second);
  shape.finish(std::move(segments), base.per_second);
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

LoadShape LoadShape::arrivals_at(std::shared_ptr<const std::vector<Nanos>> offsets, double scale, Nanos length) {
  TS_ASSERT(offsets != nullptr && scale > 0 && std::is_sorted(offsets->begin(), offsets->end()));
  LoadShape shape;
  shape.length_ = length;
  shape.listed_ = std::move(offsets);
  shape.scale_ = scale;
  return shape;
}

/// Listed arrivals up to and at `t`.
size_t LoadShape::listed_by(Nanos t) const {
  return static_cast<size_t>(std::upper_bound(listed_->begin(), listed_->end(), t) - listed_->begin());
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
  const Nanos inside = std::clamp(t, Nanos{0}, length_);
  if (listed_ != nullptr) return static_cast<double>(listed_by(inside)) * scale_;
  const long double seconds = seconds_of(inside);
  if (period_ > 0) return static_cast<double>(sine_count(seconds));
  if (segments_ == nullptr || segments_->empty()) return 0;
  auto segment = std::upper_bound(segments_->begin(), segments_->end(), seconds,
                                  [](long double at, const Segment& s) { return at < s.start; });
  if (segment != segments_->begin()) --segment;
  const long double into = seconds - segment->start;
  if (segment->pauses()) return static_cast<double>(segment->before);
  return static_cast<double>(segment->before + into * (segment->from + segment->slope * into / 2));
}

Nanos LoadShape::time_of(long double count) const {
  if (count < 0) return Nanos{0};
  if (listed_ != nullptr) {
    const long double at = std::floor(count / static_cast<long double>(scale_) + 1e-9L);
    if (at >= static_cast<long double>(listed_->size())) return Nanos::max();
    const Nanos due = (*listed_)[static_cast<size_t>(at)];
    return due < length_ ? due : Nanos::max();
  }
  if (period_ > 0) {
    const Nanos due = nanos_of(sine_inverse(count));
    return due < length_ ? due : Nanos::max();
  }
  if (segments_ == nullptr || segments_->empty()) return Nanos::max();
  // The last segment that starts with no more than `count` behind it holds the answer, unless it never gets beyond.
  // Rates such as 0.1/s are not exact in binary: the slack keeps an arrival that belongs behind a pause from being
  // pulled in front of it. Where nothing pauses, the neighbours agree at the border and no slack is wanted.
  const auto& all = *segments_;
  const long double slack = 1e-9L + count * 1e-12L;
  const auto slack_at = [&](size_t i) {
    return all[i].pauses() || (i + 1 < all.size() && all[i + 1].pauses()) ? slack : 0;
  };
  auto at = static_cast<size_t>(
      std::upper_bound(all.begin(), all.end(), count + slack,
                       [](long double value, const Segment& segment) { return value < segment.before; }) -
      all.begin());
  while (at > 0 && all[at - 1].before > count + slack_at(at - 1)) --at;
  if (at == 0) return Nanos::max();
  const auto& segment = all[at - 1];
  if (segment.pauses()) return at == all.size() ? Nanos::max() : nanos_of(all[at].start);
  // from * x + slope * x^2 / 2 = rest, solved in the form that does not cancel.
  const long double rest = std::max(count - segment.before, 0.0L);
  const long double square = segment.from * segment.from + 2 * segment.slope * rest;
  if (square < 0) return Nanos::max();
  const long double divisor = segment.from + std::sqrt(square);
  const long double into = divisor > 0 ? 2 * rest / divisor : 0;
  const Nanos due = nanos_of(segment.start + into);
  return due < length_ ? due : Nanos::max();
}

Nanos LoadShape::due_at(uint64_t n) const { return time_of(static_cast<long double>(n)); }

Rate LoadShape::rate_at(Nanos t) const {
  if (t < Nanos{0} || t >= length_) return {};
  if (listed_ != nullptr) {
    const Nanos half = std::chrono::milliseconds{500};
    return {static_cast<double>(listed_by(t + half) - listed_by(t - half)) * scale_};
  }
  const long double seconds = seconds_of(t);
  if (period_ > 0) return {static_cast<double>(mean_ + amplitude_ * std::sin(kTwoPi * seconds / period_))};
  if (segments_ == nullptr || segments_->empty()) return {};
  const auto segment = std::prev(std::upper_bound(segments_->begin(), segments_->end(), seconds,
                                                  [](long double at, const Segment& s) { return at < s.start; }));
  return {static_cast<double>(segment->from + segment->slope * (seconds - segment->start))};
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
  if (listed_ != nullptr) {
    // The fullest second.
    size_t most = 0;
    for (size_t first = 0, behind = 0; first < listed_->size(); ++first) {
      while (behind < listed_->size() && (*listed_)[behind] < (*listed_)[first] + std::chrono::seconds{1}) ++behind;
      most = std::max(most, behind - first);
    }
    return {static_cast<double>(most) * scale_};
  }
  if (segments_ == nullptr) return {};
  long double peak = 0;
  for (const auto& segment : *segments_) {
    peak = std::max(peak, segment.from);
    if (segment.slope > 0) peak = std::max(peak, segment.from + segment.slope * segment.length);
  }
  return {static_cast<double>(peak)};
}

}  // namespace twinstorm::scenario
