#include "metrics/canary.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::metrics {

namespace {

constexpr std::array kCompared{0.5, 0.9, 0.99};

double seconds_of(uint64_t micros) { return static_cast<double>(micros) / 1e6; }

std::string percentile_name(double q) { return fmt::format("p{:g}", q * 100); }

std::string duration(double seconds) { return format_duration(from_seconds(seconds)); }

std::string with_error(const PercentileEstimate& e) {
  return fmt::format("{} ({} to {})", duration(e.value), e.low ? duration(*e.low) : "0",
                     e.high ? duration(*e.high) : "?");
}

/// Bounds of the bucket that holds the sample of `rank` (from 1), microseconds.
struct Bucket {
  uint64_t lowest = 0, highest = 0;
};
Bucket bucket_of_rank(const HistogramSnapshot& histogram, uint64_t rank) {
  Bucket found;
  uint64_t seen = 0;
  bool done = false;
  histogram.for_each_bucket([&](uint64_t lowest, uint64_t highest, uint64_t count) {
    seen += count;
    if (!done && seen >= rank) found = {lowest, highest}, done = true;
  });
  return found;
}

CanaryVerdict worst(const std::vector<CanaryPercentile>& percentiles) {
  auto verdict = CanaryVerdict::too_few_samples;
  for (const auto& each : percentiles) {
    if (each.verdict == CanaryVerdict::disagree) return CanaryVerdict::disagree;
    if (each.verdict == CanaryVerdict::agree) verdict = CanaryVerdict::agree;
  }
  return verdict;
}

/// The percentile that differs most, measured in allowances.
struct Difference {
  const CanaryRow* row = nullptr;
  const CanaryPercentile* percentile = nullptr;
  double allowances = 0;
};
Difference largest_difference(const CanaryRecord& record) {
  Difference largest;
  for (const auto& row : record.rows) {
    for (const auto& each : row.percentiles) {
      if (each.verdict != CanaryVerdict::disagree) continue;
      const double allowances =
          interval_gap(*each.canary, *each.fleet) / record.allowance.of(each.canary->value, each.fleet->value);
      if (allowances > largest.allowances) largest = {&row, &each, allowances};
    }
  }
  return largest;
}

std::string describe(const Difference& difference) {
  const auto& each = *difference.percentile;
  return fmt::format("{} of {} in phase \"{}\": the fleet says {}, the canary {}", percentile_name(each.q),
                     difference.row->operation, difference.row->phase, with_error(*each.fleet),
                     with_error(*each.canary));
}

}  // namespace

RankInterval percentile_ranks(uint64_t samples, double q, double confidence) {
  TS_ASSERT(q > 0 && q < 1 && confidence > 0 && confidence < 1);
  if (samples == 0) return {0, 1};
  // B = how many samples lie at or below the quantile, binomial. Summed over the range that holds all of its mass but
  // some 1e-20, from a starting value by logarithms that the normalisation below makes exact.
  const auto n = static_cast<double>(samples);
  const double mean = n * q, deviation = std::sqrt(n * q * (1 - q));
  const auto first = static_cast<uint64_t>(std::max(0.0, std::floor(mean - 10 * deviation - 30)));
  const auto last = static_cast<uint64_t>(std::min(n, std::ceil(mean + 10 * deviation + 30)));
  // Relative to the mode, so that nothing under- or overflows.
  const auto mode = std::clamp(static_cast<uint64_t>((n + 1) * q), first, last);
  std::vector<double> mass(last - first + 1);
  mass[mode - first] = 1;
  const double odds = q / (1 - q);
  for (uint64_t k = mode; k < last; ++k) {
    mass[k + 1 - first] = mass[k - first] * (n - static_cast<double>(k)) / static_cast<double>(k + 1) * odds;
  }
  for (uint64_t k = mode; k > first; --k) {
    mass[k - 1 - first] = mass[k - first] * static_cast<double>(k) / (n - static_cast<double>(k - 1)) / odds;
  }
  double total = 0;
  for (const double each : mass) total += each;

  const double error = (1 - confidence) / 2 * total;
  RankInterval ranks{0, samples + 1};
  // The sample of rank l is above the quantile if B < l.
  double below = 0;
  for (uint64_t k = first; k <= last; ++k) {
    below += mass[k - first];
    if (below > error) {
      ranks.low = k;
      break;
    }
  }
  // The sample of rank u is at or below the quantile if B >= u.
  double above = 0;
  for (uint64_t k = last + 1; k-- > first;) {
    above += mass[k - first];
    if (above > error) {
      ranks.high = k + 1;
      break;
    }
  }
  return ranks;
}

std::optional<PercentileEstimate> estimate_percentile(const HistogramSnapshot& histogram, double q) {
  const auto value = histogram.percentile_if_enough(q);
  if (!value) return std::nullopt;
  const auto ranks = percentile_ranks(histogram.count(), q);
  PercentileEstimate estimate{to_seconds(*value), {}, {}};
  if (ranks.low >= 1) estimate.low = std::min(estimate.value, seconds_of(bucket_of_rank(histogram, ranks.low).lowest));
  if (ranks.high <= histogram.count()) {
    estimate.high = std::max(estimate.value, seconds_of(bucket_of_rank(histogram, ranks.high).highest));
  }
  return estimate;
}

std::string_view to_string(CanaryVerdict verdict) {
  switch (verdict) {
    case CanaryVerdict::agree:
      return "agree";
    case CanaryVerdict::disagree:
      return "disagree";
    case CanaryVerdict::too_few_samples:
      return "tooFewSamples";
  }
  return "tooFewSamples";
}

std::optional<CanaryVerdict> parse_canary_verdict(std::string_view text) {
  for (const auto verdict : {CanaryVerdict::agree, CanaryVerdict::disagree, CanaryVerdict::too_few_samples}) {
    if (to_string(verdict) == text) return verdict;
  }
  return std::nullopt;
}

double interval_gap(const PercentileEstimate& a, const PercentileEstimate& b) {
  double gap = 0;
  if (a.high && b.low) gap = std::max(gap, *b.low - *a.high);
  if (b.high && a.low) gap = std::max(gap, *a.low - *b.high);
  return gap;
}

CanaryPercentile compare_percentile(double q, const HistogramSnapshot& canary, const HistogramSnapshot& fleet,
                                    const CanaryAllowance& allowance) {
  CanaryPercentile out{q, estimate_percentile(canary, q), estimate_percentile(fleet, q),
                       CanaryVerdict::too_few_samples};
  if (out.canary && out.fleet) {
    const bool apart = interval_gap(*out.canary, *out.fleet) > allowance.of(out.canary->value, out.fleet->value);
    out.verdict = apart ? CanaryVerdict::disagree : CanaryVerdict::agree;
  }
  return out;
}

CanaryRow compare_operation(std::string phase, std::string operation, const HistogramSnapshot& canary,
                            const HistogramSnapshot& fleet, const CanaryAllowance& allowance) {
  CanaryRow row{std::move(phase), std::move(operation), canary.count(), fleet.count(), {}, {}};
  for (const double q : kCompared) row.percentiles.push_back(compare_percentile(q, canary, fleet, allowance));
  row.verdict = worst(row.percentiles);
  return row;
}

void judge_canary(CanaryRecord& record) {
  record.verdict = CanaryVerdict::too_few_samples;
  size_t agreeing = 0, disagreeing = 0;
  for (const auto& row : record.rows) {
    agreeing += row.verdict == CanaryVerdict::agree ? 1 : 0;
    disagreeing += row.verdict == CanaryVerdict::disagree ? 1 : 0;
  }
  if (disagreeing > 0) {
    record.verdict = CanaryVerdict::disagree;
    record.detail = fmt::format(
        "the fleet's latencies differ from those of the independent client by more than the sampling error and the "
        "allowance, in {} of {} comparisons; most in {}",
        disagreeing, agreeing + disagreeing, describe(largest_difference(record)));
  } else if (agreeing > 0) {
    record.verdict = CanaryVerdict::agree;
    record.detail = fmt::format("the fleet's latencies agree with those of the independent client in {} {}", agreeing,
                                agreeing == 1 ? "comparison" : "comparisons");
  } else {
    record.detail = record.state.empty()
                        ? "the canary has too few samples of what the fleet did to compare (a median needs 20)"
                        : record.state;
  }
}

std::optional<std::string> canary_invalidates(const CanaryRecord& record) {
  const auto largest = largest_difference(record);
  if (largest.row == nullptr || largest.allowances <= record.allowance.invalid_factor) return std::nullopt;
  return fmt::format(
      "an independent client timed the same operations very differently ({}): the generator measured itself, or the "
      "machine had no room for either; use fewer devices or a lower rate, or switch the check off with canary: false",
      describe(largest));
}

}  // namespace twinstorm::metrics
