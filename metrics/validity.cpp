#include "metrics/validity.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "metrics/aggregator.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::metrics {
namespace {

std::string percent(double share) { return fmt::format("{:.3g} %", share * 100); }

}  // namespace

bool HubComparison::matches() const {
  return checked && std::all_of(rows.begin(), rows.end(), [](const HubRow& row) { return row.agrees(); });
}

RunValidity check_validity(const ValidityInputs& in, const ValidityLimits& limits) {
  RunValidity out;
  const auto find = [&](std::string_view code, std::string text) {
    out.findings.push_back({std::string(code), std::move(text)});
  };

  const auto lag = in.totals.schedule_lag();
  if (!lag.empty() && lag.percentile(0.99) > limits.schedule_lag_p99_max) {
    find("scheduleLag",
         fmt::format(
             "operations started late: schedule lag p99 {} is above {}; the generator was too busy (fewer devices, a "
             "lower rate or more shards)",
             format_duration(lag.percentile(0.99)), format_duration(limits.schedule_lag_p99_max)));
  }

  uint64_t asked = 0;
  uint64_t dropped = 0;
  for (StreamIndex s = 0; s < in.totals.layout.streams.size(); ++s) {
    const auto op = in.totals.stream(s);
    asked += op.asked;
    dropped += op.dropped;
  }
  if (asked != 0) {
    const auto share = static_cast<double>(dropped) / static_cast<double>(asked);
    if (share > limits.dropped_share_max) {
      find("dropped",
           fmt::format("{} of {} operations ({}) were never sent, above {}; the load asked for was not the load made",
                       format_count(dropped), format_count(asked), percent(share), percent(limits.dropped_share_max)));
    }
  }

  for (size_t i = 0; i < in.busy_shares.size(); ++i) {
    if (in.busy_shares[i] <= limits.busy_share_max) continue;
    find("shardBusy", fmt::format("shard {} worked {} of the recorded time, above {}; use more shards or a lower rate",
                                  i, percent(in.busy_shares[i]), percent(limits.busy_share_max)));
  }

  const auto step = Nanos{std::abs(in.clock_step.count())};
  if (step > limits.clock_step_max) {
    find("clockStep", fmt::format("the wall clock stepped by {} during the run, above {}", format_duration(step),
                                  format_duration(limits.clock_step_max)));
  }

  if (!in.totals.ledger_holds()) {
    const auto all = in.totals.everything();
    find("ledger",
         fmt::format("the ledger does not add up (asked {}, sent {}, dropped {}, acknowledged {}, failed {}, timed out "
                     "{}): a defect of the generator, please report it",
                     all.asked, all.sent, all.dropped, all.acknowledged, all.failed, all.timed_out));
  }

  if (in.hub.checked && !in.hub.matches()) {
    std::string text = "tool and hub counted differently:";
    std::string_view separator = " ";
    for (const auto& row : in.hub.rows) {
      if (row.agrees()) continue;
      text += fmt::format("{}{} {} here, {} there", separator, row.name, format_count(row.run), format_count(row.hub));
      separator = "; ";
    }
    find("hubCounts", std::move(text));
  }
  if (in.hub_lost) find("hubLost", "the embedded hub ended before the run did; see its log");
  for (const auto& worker : in.workers_lost) {
    find("workerLost",
         fmt::format("worker \"{}\" was lost; its part of the load and of the counts is missing", worker));
  }
  for (const auto& slo : in.slos) {
    if (slo.status != SloStatus::undecided || in.aborted) continue;
    find("tooFewSamples", fmt::format("\"{}\" could not be decided: {}", slo.spec.text, slo.detail));
  }
  return out;
}

// --- invariants ------------------------------------------------------------------------------------------

std::string_view to_string(InvariantStatus status) {
  switch (status) {
    case InvariantStatus::held:
      return "held";
    case InvariantStatus::violated:
      return "violated";
    case InvariantStatus::undecided:
      return "undecided";
    case InvariantStatus::not_checked:
      return "notChecked";
  }
  return "notChecked";
}

std::optional<InvariantStatus> parse_invariant_status(std::string_view text) {
  for (const auto status :
       {InvariantStatus::held, InvariantStatus::violated, InvariantStatus::undecided, InvariantStatus::not_checked}) {
    if (to_string(status) == text) return status;
  }
  return std::nullopt;
}

namespace {

ConvergenceTotals all_convergence(const Totals& totals) {
  ConvergenceTotals sum;
  for (const auto& phase : totals.phases) sum.add(phase.convergence);
  return sum;
}

}  // namespace

InvariantResult check_no_lost_updates(const Totals& totals, std::vector<std::string> examples) {
  InvariantResult result{std::string(kNoLostUpdates), InvariantStatus::held, {}, std::move(examples)};
  const auto c = all_convergence(totals);
  if (c.lost + c.unconverged != 0) {
    result.status = InvariantStatus::violated;
    result.detail = fmt::format("{} of {} updates were lost and {} did not converge", format_count(c.lost),
                                format_count(c.started), format_count(c.unconverged));
  } else if (c.started == 0) {
    result.status = InvariantStatus::undecided;
    result.detail = "no update was started, so none could be lost";
  } else if (c.open() != 0) {
    result.status = InvariantStatus::undecided;
    result.detail =
        fmt::format("{} of {} updates were still open when the run ended (a settle phase would wait for them)",
                    format_count(c.open()), format_count(c.started));
  } else {
    result.detail = fmt::format(
        "{} updates: {} applied, {} superseded, {} refused by the hub{}, none lost", format_count(c.started),
        format_count(c.applied), format_count(c.superseded), format_count(c.failed),
        c.apply_failed == 0 ? "" : fmt::format(", {} failed on the device as asked", format_count(c.apply_failed)));
  }
  return result;
}

InvariantResult check_versions_monotonic(const Totals& totals, std::vector<std::string> examples) {
  InvariantResult result{std::string(kVersionsMonotonic), InvariantStatus::held, {}, std::move(examples)};
  const auto c = all_convergence(totals);
  if (c.reordered != 0) {
    result.status = InvariantStatus::violated;
    result.detail =
        fmt::format("{} notifications carried a version below one the device already had", format_count(c.reordered));
  } else if (c.started == 0) {
    result.status = InvariantStatus::undecided;
    result.detail = "no update was started, so no version was seen";
  } else {
    result.detail = fmt::format("no version went back in {} updates", format_count(c.started));
  }
  return result;
}

InvariantResult check_no_duplicates(const Totals& totals, std::vector<std::string> examples) {
  InvariantResult result{std::string(kNoDuplicates), InvariantStatus::held, {}, std::move(examples)};
  const auto c = all_convergence(totals);
  if (c.duplicate != 0) {
    result.status = InvariantStatus::violated;
    result.detail =
        fmt::format("{} notifications carried a version the device had been told already", format_count(c.duplicate));
  } else if (c.started == 0) {
    result.status = InvariantStatus::undecided;
    result.detail = "no update was started, so none could come twice";
  } else {
    result.detail = fmt::format("no notification came twice in {} updates", format_count(c.started));
  }
  return result;
}

InvariantResult check_final_state(uint64_t checked, uint64_t differing, std::vector<std::string> examples) {
  InvariantResult result{std::string(kFinalStateMatches), InvariantStatus::held, {}, std::move(examples)};
  if (checked == 0) {
    result.status = InvariantStatus::undecided;
    result.detail = "no device was compared";
  } else if (differing != 0) {
    result.status = InvariantStatus::violated;
    result.detail = fmt::format("{} of {} devices ended with a state that differs from what was asked",
                                format_count(differing), format_count(checked));
  } else {
    result.detail = fmt::format("all {} devices compared ended with the state that was asked", format_count(checked));
  }
  return result;
}

// --- verdict ---------------------------------------------------------------------------------------------

std::string_view to_string(VerdictStatus status) {
  switch (status) {
    case VerdictStatus::passed:
      return "passed";
    case VerdictStatus::failed:
      return "failed";
    case VerdictStatus::invalid:
      return "invalid";
    case VerdictStatus::aborted:
      return "aborted";
  }
  return "aborted";
}

std::optional<VerdictStatus> parse_verdict_status(std::string_view text) {
  for (const auto status :
       {VerdictStatus::passed, VerdictStatus::failed, VerdictStatus::invalid, VerdictStatus::aborted}) {
    if (to_string(status) == text) return status;
  }
  return std::nullopt;
}

Verdict decide(const VerdictInputs& in) {
  Verdict verdict;
  // The first reason given decides status and code; all are listed.
  const auto because = [&](VerdictStatus status, int code, std::string reason) {
    if (verdict.reasons.empty()) {
      verdict.status = status;
      verdict.exit_code = code;
    }
    verdict.reasons.push_back(std::move(reason));
  };

  constexpr int kSigint = 2;
  if (in.signal != 0) {
    const bool interrupt = in.signal == kSigint;
    because(VerdictStatus::aborted, interrupt ? exit_code::kInterrupted : exit_code::kTerminated,
            interrupt ? "interrupted by the user (SIGINT)" : "ended from outside (SIGTERM)");
  }
  for (const auto& finding : in.validity.findings) {
    because(VerdictStatus::invalid, exit_code::kInvalid, fmt::format("invalid ({}): {}", finding.code, finding.text));
  }
  // No answer is no pass: what could not be decided makes the run invalid, like any other lack of evidence.
  const bool listed = std::any_of(in.validity.findings.begin(), in.validity.findings.end(),
                                  [](const ValidityFinding& finding) { return finding.code == "tooFewSamples"; });
  for (const auto& slo : in.slos) {
    if (slo.status != SloStatus::undecided || listed || in.aborted_by) continue;
    because(VerdictStatus::invalid, exit_code::kInvalid,
            fmt::format("\"{}\" could not be decided: {}", slo.spec.text, slo.detail));
  }
  for (const auto& invariant : in.invariants) {
    if (invariant.status != InvariantStatus::undecided || in.aborted_by) continue;
    because(VerdictStatus::invalid, exit_code::kInvalid,
            fmt::format("{} could not be decided: {}", invariant.name, invariant.detail));
  }
  for (const auto& invariant : in.invariants) {
    if (invariant.status != InvariantStatus::violated) continue;
    because(VerdictStatus::failed, exit_code::kCorrectness,
            fmt::format("{} violated: {}", invariant.name, invariant.detail));
  }
  if (in.aborted_by) {
    because(VerdictStatus::aborted, exit_code::kAborted, "ended early by " + *in.aborted_by);
  }
  for (const auto& slo : in.slos) {
    if (slo.status != SloStatus::failed) continue;
    because(VerdictStatus::failed, exit_code::kSlo, fmt::format("\"{}\" failed: {}", slo.spec.text, slo.detail));
  }
  for (const auto& regression : in.regressions) because(VerdictStatus::failed, exit_code::kRegression, regression);
  return verdict;
}

}  // namespace twinstorm::metrics
