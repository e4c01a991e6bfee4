// The canary: one device on somebody else's MQTT client does what the fleet does and times it with its own stopwatch.
// Here is what its figures are compared by: percentiles with their sampling error, and a verdict.
//
// The sampling error of a percentile comes from order statistics: of n independent samples the number that lies at or
// below the true q-quantile is binomial (n, q), so the samples of two fixed ranks enclose it with a known probability,
// whatever the distribution. Source: H. A. David, H. N. Nagaraja, "Order Statistics", 3rd edition, section 7.1;
// G. J. Hahn, W. Q. Meeker, "Statistical Intervals", section 5.2.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/histogram.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

/// Of every interval below. High, because a run compares many percentiles at once.
inline constexpr double kCanaryConfidence = 0.99;

/// Ranks in the sorted samples, counted from 1, that enclose a quantile. `low` 0: no sample is certainly below it;
/// `high` above the number of samples: none certainly above.
struct RankInterval {
  uint64_t low = 0, high = 0;
  friend bool operator==(const RankInterval&, const RankInterval&) = default;
};
/// The narrowest ranks of which each side errs with at most (1 - confidence) / 2. `q` and `confidence` inside (0, 1).
RankInterval percentile_ranks(uint64_t samples, double q, double confidence = kCanaryConfidence);

/// A percentile and where it may lie, seconds. A bound is absent where the samples give none.
struct PercentileEstimate {
  double value = 0;
  std::optional<double> low, high;
  friend bool operator==(const PercentileEstimate&, const PercentileEstimate&) = default;
};
/// nullopt unless `enough_samples`. The bounds are those of the buckets that hold the ranks.
std::optional<PercentileEstimate> estimate_percentile(const HistogramSnapshot& histogram, double q);

enum class CanaryVerdict : uint8_t { agree, disagree, too_few_samples };
/// `agree disagree tooFewSamples`.
std::string_view to_string(CanaryVerdict verdict);
std::optional<CanaryVerdict> parse_canary_verdict(std::string_view text);

/// What canary and fleet may differ by beyond their sampling errors: another client, other threads, and a device that
/// is mostly idle (docs/measuring.md, "The canary", has the measurements).
struct CanaryAllowance {
  double seconds = 0.002;
  double share = 0.5;  ///< of the smaller of the two values
  /// A difference this many times the allowance makes the run invalid.
  double invalid_factor = 5;
  double of(double a, double b) const { return seconds + share * (a < b ? a : b); }
  friend bool operator==(const CanaryAllowance&, const CanaryAllowance&) = default;
};

/// One percentile of one operation.
struct CanaryPercentile {
  double q = 0.5;
  std::optional<PercentileEstimate> canary, fleet;
  CanaryVerdict verdict = CanaryVerdict::too_few_samples;
  friend bool operator==(const CanaryPercentile&, const CanaryPercentile&) = default;
};
/// `gap`: the distance between the two intervals in seconds, 0 when they meet.
CanaryPercentile compare_percentile(double q, const HistogramSnapshot& canary, const HistogramSnapshot& fleet,
                                    const CanaryAllowance& allowance);
double interval_gap(const PercentileEstimate& a, const PercentileEstimate& b);

/// What the canary did in one phase, in one operation: `getTwin`, `report`, `telemetry`, or `delivery` (a desired patch
/// sent by a back end until the device holds it, the leg of convergence of that name).
struct CanaryRow {
  std::string phase, operation;
  uint64_t canary_samples = 0, fleet_samples = 0;
  std::vector<CanaryPercentile> percentiles;
  CanaryVerdict verdict = CanaryVerdict::too_few_samples;  ///< the worst of the percentiles
  friend bool operator==(const CanaryRow&, const CanaryRow&) = default;
};
CanaryRow compare_operation(std::string phase, std::string operation, const HistogramSnapshot& canary,
                            const HistogramSnapshot& fleet, const CanaryAllowance& allowance = {});

/// Its own books; no part of any total of the run.
struct CanaryCounts {
  uint64_t sent = 0, acknowledged = 0, failed = 0, timed_out = 0;
  uint64_t unknown() const { return sent - acknowledged; }  ///< may or may not have reached the hub
  friend bool operator==(const CanaryCounts&, const CanaryCounts&) = default;
};

/// JSON `canary`.
struct CanaryRecord {
  std::string device, client;
  std::string state;  ///< empty: it worked; else why there is nothing to compare, a sentence
  double confidence = kCanaryConfidence;
  CanaryAllowance allowance;
  std::map<std::string, CanaryCounts> operations;  ///< whole run; with `connect` and `patchDesired`
  std::vector<CanaryRow> rows;
  CanaryVerdict verdict = CanaryVerdict::too_few_samples;
  std::string detail;  ///< the verdict as a sentence
  std::optional<double> cpu_seconds;
  friend bool operator==(const CanaryRecord&, const CanaryRecord&) = default;
};

/// Sets `verdict` and `detail` from `rows` (and `state`): one disagreeing row is enough, one agreeing row too if none
/// disagrees.
void judge_canary(CanaryRecord& record);
/// Why the run cannot be believed, or nothing: a percentile differs by more than `invalid_factor` allowances.
std::optional<std::string> canary_invalidates(const CanaryRecord& record);

}  // namespace twinstorm::metrics
