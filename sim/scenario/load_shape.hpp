// When work is due, as a pure function of the time since the start of a phase. No clock, no state: safe to copy, to
// share between threads and to print.
//
// Every shape but sine and lists of arrivals is a chain of segments whose rate changes linearly, so counting and its
// inverse have closed forms.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::scenario {

/// A rate held for a time.
struct RateStep {
  Rate rate;
  Nanos length{0};
  friend bool operator==(const RateStep&, const RateStep&) = default;
};

/// Expected arrivals over time. A cheap value: copies share what is long. Offsets are from the start of the phase;
/// results agree with exact arithmetic to 1 ns.
class LoadShape {
 public:
  /// "No end": a phase that lasts until something holds.
  static constexpr Nanos kForever = Nanos::max();

  LoadShape() = default;  ///< nothing ever arrives
  static LoadShape constant(Rate rate, Nanos length);
  /// From `from` to `to` in a straight line over `over`, then `to` until `length`.
  static LoadShape ramp(Rate from, Rate to, Nanos over, Nanos length);
  /// One rate after the other; the last one holds until `length`.
  static LoadShape steps(const std::vector<RateStep>& steps, Nanos length);
  /// `base`, but `peak` in [at, at + hold).
  static LoadShape spike(Rate base, Rate peak, Nanos at, Nanos hold, Nanos length);
  /// mean + amplitude * sin(2 pi t / period). Requires 0 <= amplitude <= mean and period > 0.
  static LoadShape sine(Rate mean, Rate amplitude, Nanos period, Nanos length);
  /// An arrival at each of `offsets`, which do not go back. With `scale` 2 each comes twice, with 0.5 every second one
  /// is left out. Requires scale > 0. Its `rate_at` counts the second around t.
  static LoadShape arrivals_at(std::shared_ptr<const std::vector<Nanos>> offsets, double scale, Nanos length);

  /// Expected arrivals in [0, t]; never decreases; constant outside [0, length].
  double count_by(Nanos t) const;
  /// When arrival n (from 0) is due: the last moment at which not more than n are expected. The first arrival of a
  /// constant load is due at 0. `Nanos::max()` if it never comes.
  Nanos due_at(uint64_t n) const;
  /// `due_at` for a count that need not be whole: the inverse of `count_by`. Poisson arrivals go through here.
  Nanos time_of(long double count) const;
  /// The rate asked at t, for charts; 0 outside [0, length).
  Rate rate_at(Nanos t) const;
  Nanos length() const { return length_; }
  /// Number of arrivals due before the end; for a Poisson load the expectation, rounded. Requires a finite length.
  uint64_t arrivals() const;
  Rate peak_rate() const;

  /// Whether arrivals are random (exponential gaps in units of expected count) around this shape.
  bool poisson() const { return poisson_; }
  LoadShape& set_poisson(bool on) {
    poisson_ = on;
    return *this;
  }

 private:
  struct Segment {
    long double start = 0;   ///< seconds from the start of the phase
    long double length = 0;  ///< seconds; infinite for the last one of an endless shape
    long double from = 0;    ///< arrivals per second at the start
    long double slope = 0;   ///< change of the rate per second
    long double before = 0;  ///< expected arrivals before this segment
    bool pauses() const { return from == 0 && slope == 0; }
  };
  void add(std::vector<Segment>& to_list, long double length, long double from, long double to) const;
  void finish(std::vector<Segment> segments, long double rate);
  size_t listed_by(Nanos t) const;
  long double sine_count(long double seconds) const;
  long double sine_inverse(long double count) const;

  std::shared_ptr<const std::vector<Segment>> segments_;
  std::shared_ptr<const std::vector<Nanos>> listed_;  ///< arrivals_at only
  double scale_ = 1;                                  ///< arrivals_at only
  Nanos length_{0};
  long double mean_ = 0, amplitude_ = 0, period_ = 0;  ///< sine only: period > 0
  bool poisson_ = false;
};

}  // namespace twinstorm::scenario
