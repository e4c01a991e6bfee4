// Random delays, as scenarios and flags write them: `50ms`, `{uniform: [10ms, 50ms]}`,
// `{lognormal: {p50: 20ms, p99: 200ms}}`, `{exponential: {mean: 20ms}}`, `{normal: {mean: 20ms, stddev: 5ms}}`.
#pragma once

#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"

namespace twinstorm {

/// A distribution of non-negative durations. A value of 24 bytes; sampling allocates nothing.
class Distribution {
 public:
  enum class Kind : uint8_t { constant, uniform, lognormal, exponential, normal };

  Distribution() = default;  ///< always 0
  static Distribution constant(Nanos value) { return {Kind::constant, value, Nanos{0}}; }
  static Distribution uniform(Nanos low, Nanos high) { return {Kind::uniform, low, high}; }
  /// The lognormal with these two percentiles. Requires 0 < p50 <= p99.
  static Distribution lognormal(Nanos p50, Nanos p99) { return {Kind::lognormal, p50, p99}; }
  static Distribution exponential(Nanos mean) { return {Kind::exponential, mean, Nanos{0}}; }
  /// Negative draws become 0.
  static Distribution normal(Nanos mean, Nanos stddev) { return {Kind::normal, mean, stddev}; }

  /// Reads one of the five forms above, the outer braces being optional; spaces do not matter. Errors
  /// (`invalid_argument`) name what was wrong and show a form that works.
  static Result<Distribution> parse(std::string_view text);

  Nanos sample(Rng& rng) const;
  Nanos mean() const;
  Kind kind() const { return kind_; }
  bool is_zero() const { return kind_ == Kind::constant && a_ == Nanos{0}; }
  /// As a scenario writes it (flow style YAML): reading it again, there or with `parse`, gives an equal value.
  std::string to_yaml() const;
  friend bool operator==(const Distribution&, const Distribution&) = default;

 private:
  Distribution(Kind kind, Nanos a, Nanos b) : kind_{kind}, a_{a}, b_{b} {}
  Kind kind_ = Kind::constant;
  Nanos a_{0}, b_{0};
};

}  // namespace twinstorm
