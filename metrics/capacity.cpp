#include "metrics/capacity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "sim/base/assert.hpp"

namespace twinstorm::metrics {

namespace {

constexpr std::array<std::string_view, 4> kVerdicts{"holds", "breaks", "generator", "unusable"};
constexpr std::array<std::string_view, 6> kLimits{"none", "objective", "generator", "range", "nothing", "unusable"};
constexpr int kUnusableMax = 2;  // at one rate; then the search says why and ends

}  // namespace

std::string_view to_string(ProbeVerdict verdict) { return kVerdicts[static_cast<size_t>(verdict)]; }
std::string_view to_string(CapacitySearch::Limit limit) { return kLimits[static_cast<size_t>(limit)]; }

std::optional<ProbeVerdict> parse_probe_verdict(std::string_view text) {
  const auto found = std::find(kVerdicts.begin(), kVerdicts.end(), text);
  if (found == kVerdicts.end()) return std::nullopt;
  return static_cast<ProbeVerdict>(found - kVerdicts.begin());
}

ProbeVerdict probe_verdict(const RunRecord& record) {
  switch (record.verdict.status) {
    case VerdictStatus::passed:
      return ProbeVerdict::holds;
    case VerdictStatus::failed:
      return ProbeVerdict::breaks;
    case VerdictStatus::aborted:
      return record.verdict.exit_code == exit_code::kAborted ? ProbeVerdict::breaks : ProbeVerdict::unusable;
    case VerdictStatus::invalid:
      break;
  }
  const auto found = [&](std::string_view code) {
    return std::any_of(record.validity.begin(), record.validity.end(),
                       [&](const ValidityFinding& finding) { return finding.code == code; });
  };
  if (found("scheduleLag") || found("shardBusy") || found("canary")) return ProbeVerdict::generator;
  if (found("hubLost") || found("dropped") || found("phaseTimeout")) return ProbeVerdict::breaks;
  return ProbeVerdict::unusable;
}

CapacitySearch::CapacitySearch(const Options& options) : options_{options} {
  TS_ASSERT(options.start > 0 && options.precision > 0);
  options_.lowest = std::min(options.lowest, options.start);
  options_.highest = std::max(options.highest, options.start);
}

std::optional<double> CapacitySearch::upper() const {
  for (const auto& [factor, rate] : rates_) {
    if (rate.settled_bad() && !rate.settled_good()) return factor;
  }
  return std::nullopt;
}

std::optional<double> CapacitySearch::lower() const {
  const auto bad = upper();
  std::optional<double> best;
  for (const auto& [factor, rate] : rates_) {
    if (bad && factor >= *bad) break;
    if (rate.good()) best = factor;
  }
  return best;
}

std::optional<double> CapacitySearch::next() const {
  if (given_up_ || runs_ >= kRunsMax) return std::nullopt;
  if (rates_.empty()) return options_.start;
  const auto low = lower();
  const auto high = upper();
  // What broke once is run again before anything is concluded from it.
  for (const auto& [factor, rate] : rates_) {
    if (high && factor >= *high) break;
    if (rate.broke + rate.generator > 0 && !rate.settled_good()) return factor;
    if (rate.runs() == 0) return factor;  // only unusable so far
  }
  if (!high) {
    if (*low < options_.highest) return std::min(*low * 2, options_.highest);
  } else if (!low) {
    if (*high > options_.lowest) return std::max(*high / 2, options_.lowest);
    return std::nullopt;
  } else if (*high / *low > 1 + options_.precision) {
    return std::sqrt(*low * *high);
  }
  if (!rates_.at(*low).settled_good()) return low;
  return std::nullopt;
}

void CapacitySearch::record(ProbeVerdict verdict) {
  const auto factor = next();
  TS_ASSERT(factor.has_value());
  ++runs_;
  auto& rate = rates_[*factor];
  switch (verdict) {
    case ProbeVerdict::holds:
      ++rate.held;
      break;
    case ProbeVerdict::breaks:
      ++rate.broke;
      break;
    case ProbeVerdict::generator:
      ++rate.generator;
      break;
    case ProbeVerdict::unusable:
      if (++rate.unusable >= kUnusableMax) given_up_ = true;
      break;
  }
}

CapacitySearch::Result CapacitySearch::result() const {
  Result result;
  result.lower = lower();
  result.upper = upper();
  if (result.lower) {
    const auto& rate = rates_.at(*result.lower);
    result.held = rate.held;
    result.runs = rate.runs();
  }
  if (next()) return result;
  if (given_up_ || runs_ >= kRunsMax) {
    result.limit = Limit::unusable;
  } else if (!result.upper) {
    result.limit = Limit::range;
  } else if (rates_.at(*result.upper).generator > 0) {
    result.limit = Limit::generator;
  } else {
    result.limit = result.lower ? Limit::objective : Limit::nothing;
  }
  return result;
}

CapacityProbe capacity_probe(const RunRecord& record, double factor, std::string run) {
  CapacityProbe probe;
  probe.run = std::move(run);
  probe.factor = factor;
  probe.verdict = probe_verdict(record);
  probe.reasons = record.verdict.reasons;
  for (const auto& [kind, operation] : record.operations) {
    if (operation.intended.count > 0) probe.latencies.emplace(kind, operation.intended);
  }
  if (record.convergence.total.count > 0) probe.latencies.emplace("convergence", record.convergence.total);
  if (!record.generator.busy_shares.empty()) {
    probe.busy_share = *std::max_element(record.generator.busy_shares.begin(), record.generator.busy_shares.end());
  }
  probe.schedule_lag = record.generator.schedule_lag.p99;
  return probe;
}

}  // namespace twinstorm::metrics
