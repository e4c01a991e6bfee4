// Service level objectives: one line of text, one question, one answer.
//
//   slo        = metric [ "service" ] statistic comparison value [ "during" phase ]
//              | ( "conflicts" | "retries" | "throttled" ) comparison value [ "during" phase ]   ; of all streams
//   metric     = operation | stream | "convergence" | "convergenceSystem" | "queryStaleness" | "scheduleLag"
//   operation  = "connect" | "getTwin" | "report" | "reportedUpdate" | "telemetry" | "patchDesired" | "patchTags"
//              | "replaceTwin" | "query" | "backendGetTwin" | "method" | "createDevice" | "deleteDevice" | "bulk" |
//              "job"
//   stream     = name                            ; a back end, or <fleet>.<operation>
//   statistic  = "p50" | "p90" | "p95" | "p99" | "p999" | "mean" | "max"
//              | "errors" | "rate" | "dropped" | "count" | "conflicts" | "retries" | "throttled"
//   comparison = "<" | "<=" | ">" | ">="
//   value      = duration                        ; latency statistics: 250us, 500ms, 2s
//              | share                           ; errors, dropped, conflicts, throttled: 0.1%
//              | rate                            ; rate: 50/s
//              | integer                         ; count
//              | number                          ; retries: 0.5
//   phase      = name
//   name       = ( letter | digit | "_" | "-" | "." )+
//
// Words are separated by blanks; blanks around the comparison are optional. Latency is measured from the intended start
// unless `service` follows the metric. Without `during`, all phases with `record: true` are judged together.
//
// Definitions. errors = (failed + timed out) / sent; for convergence (lost + unconverged + failed) / started; for
// queryStaleness not visible in time / (visible + not visible).
// dropped = dropped / asked. rate = acknowledged per second of the judged phases; for convergence applied per second.
// count = acknowledged; for convergence applied; for queryStaleness visible. conflicts = answers 412 / (sent +
// retries). retries = repeated changes / acknowledged. throttled = answers 429 that ended an operation / sent. A
// latency percentile needs 10 samples beyond it, else it's undecided.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "metrics/op.hpp"
#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

struct RecorderLayout;
struct Totals;

enum class SloMetric : uint8_t {
  operation,
  stream,
  all_streams,  ///< conflicts, retries and throttled only
  convergence,
  convergence_system,
  query_staleness,
  schedule_lag
};
enum class SloStatistic : uint8_t {
  p50,
  p90,
  p95,
  p99,
  p999,
  mean,
  max,
  errors,
  rate,
  dropped,
  count,
  conflicts,
  retries,
  throttled
};
enum class SloComparison : uint8_t { less, less_equal, greater, greater_equal };

/// The run ends early when an objective does not hold over a window of the phase that runs (abort_watch.hpp).
struct AbortRule {
  Nanos after{0};                         ///< from the start of each phase: nothing is judged before
  Nanos over = std::chrono::seconds{10};  ///< length of the window, at least a second
  uint64_t samples = 20;                  ///< fewer in the window decide nothing (rates need none)
  friend bool operator==(const AbortRule&, const AbortRule&) = default;
};

struct SloSpec {
  std::string text;  ///< as written, trimmed
  SloMetric metric = SloMetric::operation;
  std::optional<OpKind> operation;  ///< if metric == operation
  std::string stream;               ///< if metric == stream
  bool service = false;             ///< latency from when it was sent, not from when it was due
  SloStatistic statistic = SloStatistic::p99;
  SloComparison comparison = SloComparison::less;
  double threshold = 0;  ///< seconds, share (0.001 = 0.1 %), per second, per success, or a count, by statistic
  std::string phase;     ///< empty = all recorded phases
  std::optional<AbortRule> abort{};  ///< also judged while the run goes on

  friend bool operator==(const SloSpec&, const SloSpec&) = default;
};

/// Parses one objective. A name that's no operation is taken as a stream; `check_slo` tells whether it exists. Errors
/// are `invalid_argument` and name the objective, the word at fault and the fix.
Result<SloSpec> parse_slo(std::string_view text);

/// Whether the stream and the phase it names exist in `layout`, with "did you mean".
Result<void> check_slo(const SloSpec& spec, const RecorderLayout& layout);

/// The quantile of a percentile statistic: p999 -> 0.999.
std::optional<double> quantile_of(SloStatistic statistic);
std::string_view to_string(SloStatistic statistic);    ///< `p99`, `errors`...
std::string_view to_string(SloComparison comparison);  ///< `<`, `<=`, `>`, `>=`

/// One sentence part for reports: `p99 of convergence below 500 ms during "steady"`.
std::string describe(const SloSpec& spec);
/// A value of the statistic's unit as text: `412 ms`, `0.05 %`, `49.9/s`, `1,234`.
std::string format_slo_value(SloStatistic statistic, double value);

enum class SloStatus : uint8_t { passed, failed, undecided };
std::string_view to_string(SloStatus status);

struct SloResult {
  SloSpec spec;
  SloStatus status = SloStatus::undecided;
  std::optional<double> actual;  ///< in the threshold's unit; absent if there was nothing to compute it from
  uint64_t samples = 0;          ///< the count the actual value stands on
  std::string detail;            ///< one sentence: the actual value against the target, or why it's undecided
};

/// Judges against final totals. Undecided isn't a pass: too few samples, nothing sent, no such phase or stream.
SloResult judge(const SloSpec& spec, const Totals& totals);

}  // namespace twinstorm::metrics
