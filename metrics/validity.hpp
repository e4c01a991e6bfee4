// Whether the numbers of a run may be believed, whether what had to hold held, and the one verdict and exit code that
// follow from both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/slo.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

struct Totals;

// --- validity --------------------------------------------------------------------------------------------

struct ValidityLimits {
  Nanos schedule_lag_p99_max = std::chrono::milliseconds{100};
  double dropped_share_max = 0.01;
  double busy_share_max = 0.95;  ///< of the recorded time, for the busiest shard
  Nanos clock_step_max = std::chrono::milliseconds{100};
};

/// One count that tool and hub must agree on.
struct HubRow {
  std::string name;      ///< as in the hub's counts
  uint64_t run = 0;      ///< seen to succeed by the tool
  uint64_t hub = 0;      ///< counted by the hub
  uint64_t unknown = 0;  ///< sent without an answer: the hub may have counted them or not
  bool agrees() const { return run <= hub && hub - run <= unknown; }
  friend bool operator==(const HubRow&, const HubRow&) = default;
};
struct HubComparison {
  bool checked = false;  ///< false: the target has no counts to compare with (a real service)
  std::vector<HubRow> rows;
  bool matches() const;  ///< checked, and each row agrees
  friend bool operator==(const HubComparison&, const HubComparison&) = default;
};

struct ValidityInputs {
  const Totals& totals;
  std::vector<double> busy_shares;  ///< per shard over the recorded phases, 0..1
  Nanos clock_step{0};              ///< largest seen change of (wall - monotonic) between two looks
  HubComparison hub;
  bool hub_lost = false;                  ///< the embedded hub ended before the run did
  std::vector<std::string> workers_lost;  ///< names
  std::vector<SloResult> slos;
  bool aborted = false;  ///< an objective ended the run early: what could not be decided is no surprise
};

/// One reason not to believe the run. `code` is stable: `scheduleLag dropped shardBusy clockStep ledger hubCounts
/// hubLost phaseTimeout workerLost tooFewSamples canary`.
struct ValidityFinding {
  std::string code;
  std::string text;  ///< one sentence with the number, its limit and what to do
  friend bool operator==(const ValidityFinding&, const ValidityFinding&) = default;
};

struct RunValidity {
  std::vector<ValidityFinding> findings;  ///< in the order of the codes above
  bool valid() const { return findings.empty(); }
};

RunValidity check_validity(const ValidityInputs& inputs, const ValidityLimits& limits = {});

// --- invariants ------------------------------------------------------------------------------------------

enum class InvariantStatus : uint8_t { held, violated, undecided, not_checked };
std::string_view to_string(InvariantStatus status);  ///< `held violated undecided notChecked`
std::optional<InvariantStatus> parse_invariant_status(std::string_view text);

inline constexpr std::string_view kNoLostUpdates = "noLostUpdates";
inline constexpr std::string_view kVersionsMonotonic = "versionsMonotonic";
inline constexpr std::string_view kFinalStateMatches = "finalStateMatches";
inline constexpr std::string_view kNoDuplicates = "noDuplicates";

struct InvariantResult {
  std::string name;
  InvariantStatus status = InvariantStatus::not_checked;
  std::string detail;                 ///< one sentence with the numbers
  std::vector<std::string> examples;  ///< at most a few, each with device, version and UTC time (docs/measuring.md)
  friend bool operator==(const InvariantResult&, const InvariantResult&) = default;
};

/// Nothing lost and nothing unconverged, over all phases; failures of simulated work are what was asked for. Undecided
/// while updates are open, or if none was started.
InvariantResult check_no_lost_updates(const Totals& totals, std::vector<std::string> examples = {});
/// No device saw a version below one it had. Undecided if no update was started.
InvariantResult check_versions_monotonic(const Totals& totals, std::vector<std::string> examples = {});
/// No notification of a version came twice. Undecided if no update was started.
InvariantResult check_no_duplicates(const Totals& totals, std::vector<std::string> examples = {});
/// `differing` of `checked` devices end with a reported state that isn't their desired state.
InvariantResult check_final_state(uint64_t checked, uint64_t differing, std::vector<std::string> examples = {});

// --- verdict ---------------------------------------------------------------------------------------------

enum class VerdictStatus : uint8_t { passed, failed, invalid, aborted };
std::string_view to_string(VerdictStatus status);
std::optional<VerdictStatus> parse_verdict_status(std::string_view text);

/// The exit codes a finished run can have (README, "Exit codes").
namespace exit_code {
inline constexpr int kPassed = 0;
inline constexpr int kCorrectness = 10;
inline constexpr int kSlo = 11;
inline constexpr int kRegression = 12;
inline constexpr int kInvalid = 13;
inline constexpr int kAborted = 14;
inline constexpr int kInterrupted = 130;  ///< SIGINT
inline constexpr int kTerminated = 143;   ///< SIGTERM
}  // namespace exit_code

struct VerdictInputs {
  RunValidity validity;
  std::vector<InvariantResult> invariants;
  std::vector<SloResult> slos;
  std::vector<std::string> regressions;   ///< one sentence each, from the comparison with a baseline
  std::optional<std::string> aborted_by;  ///< what ended the run early: AbortWatch::Finding::text
  int signal = 0;                         ///< SIGINT (2) or SIGTERM (15) if that ended the run, else 0
};

struct Verdict {
  VerdictStatus status = VerdictStatus::passed;
  int exit_code = 0;
  std::vector<std::string> reasons;  ///< every reason of every kind, worst first; empty if passed
  friend bool operator==(const Verdict&, const Verdict&) = default;
};

/// When several hold the order is: interrupted (130, 143), invalid (13), correctness (10), aborted by an objective
/// (14), objective failed (11), regression (12). An objective or invariant that could not be decided makes the run
/// invalid: no answer is no pass, unless an objective ended the run before there could be one. Invariants nobody asked
/// for (`notChecked`) change nothing.
Verdict decide(const VerdictInputs& inputs);

}  // namespace twinstorm::metrics
