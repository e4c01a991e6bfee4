// A load written down beforehand: rates over time, or the moment of each arrival, as a file of CSV or JSON lines.
//
//   # rates: from this second on, so many a second      # arrivals: one line each
//   seconds,rate                                        seconds
//   0,50                                                0.012
//   10,400                                              0.013
//   15.5,50                                             1.75
//
// or, a line each, {"seconds": 10, "rate": 400} and {"seconds": 0.012}. Blank lines and lines that begin with # do not
// count, nor does a first line of names. Seconds count from the start of the phase. Rates are totals; before the first
// line nothing arrives, and the last rate holds to the end of the phase. Times of rates must grow, times of arrivals
// must not go back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/scenario/load_shape.hpp"

namespace twinstorm::scenario {

inline constexpr size_t kMaxTraceBytes = 64 * 1024 * 1024;
inline constexpr size_t kMaxTraceRates = 100'000;
inline constexpr size_t kMaxTraceArrivals = 1'000'000;

/// What a trace file holds. A cheap value: copies share the content.
class Trace {
 public:
  Trace() = default;  ///< empty
  /// Reads the text of a file; `file` is for messages only. The error (`invalid_argument`) is the first mistake, as
  /// `traffic.csv:17: "abc" is not a number of seconds`.
  static Result<Trace> parse(std::string_view text, std::string_view file);

  bool empty() const { return steps_ == nullptr && arrivals_ == nullptr; }
  /// Each arrival on a line of its own, rather than rates.
  bool lists_arrivals() const { return arrivals_ != nullptr; }
  /// The shape of a phase that lasts `length`, with `scale` times the rates or arrivals.
  LoadShape shape(double scale, Nanos length) const;
  size_t lines() const { return lines_; }  ///< rates or arrivals
  Nanos end() const;                       ///< of the last line
  /// Of the content: a file with another one is another load. 16 hexadecimal digits.
  const std::string& digest() const { return digest_; }
  /// `12 rates over 1 min`, `3,000 arrivals over 20 s`.
  std::string describe() const;
  friend bool operator==(const Trace& a, const Trace& b) { return a.digest_ == b.digest_; }

 private:
  std::shared_ptr<const std::vector<RateStep>> steps_;
  std::shared_ptr<const std::vector<Nanos>> arrivals_;
  size_t lines_ = 0;
  std::string digest_;
};

}  // namespace twinstorm::scenario
