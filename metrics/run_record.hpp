// The record of a finished run: everything a report, a comparison or a CI job needs, and nothing else is ever read for
// them.
//
// In memory it is `RunContents`; on disk a folder (docs/measuring.md):
//
//   summary.json    RunRecord, schema twinstorm/summary/1 (metrics/schema/summary.schema.json)
//   series.ndjson   one IntervalSnapshot a line, usually one a second
//   events.ndjson   one RunEvent a line
//   operations.hlog, convergence.hlog, generator.hlog   full distributions, HdrHistogram log 1.3, one line per recorded
//                   phase and series; tags `<stream>.intended`, `<stream>.service`, `convergence.<leg>`,
//                   `queryStaleness`, `scheduleLag`
//   resolved.yaml   the scenario as it ran, defaults included
//   env.json        the machine and the build
//   manifest.json   sha256 and size of each file above, written last
//
// `report.html` and `junit.xml` may lie beside them; they are made from the record and are in no manifest. In JSON all
// durations are seconds as numbers, all shares 0..1. docs/measuring.md shows each file with an example.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "metrics/aggregator.hpp"
#include "metrics/canary.hpp"
#include "metrics/hdr_log.hpp"
#include "metrics/slo.hpp"
#include "metrics/validity.hpp"
#include "sim/base/result.hpp"

namespace twinstorm::metrics {

/// Keeps the order of members, so that a summary begins with its verdict. Converts to and from `nlohmann::json`.
using Json = nlohmann::ordered_json;

inline constexpr std::string_view kSummarySchema = "twinstorm/summary/1";
inline constexpr std::string_view kManifestSchema = "twinstorm/manifest/1";

/// A distribution in numbers, seconds. A percentile is absent (JSON null) with fewer than 10 samples beyond it; the
/// others are absent with no sample.
struct LatencyRecord {
  uint64_t count = 0;
  std::optional<double> mean, min, p50, p90, p95, p99, p999, max;
  friend bool operator==(const LatencyRecord&, const LatencyRecord&) = default;
};
LatencyRecord summarise(const HistogramSnapshot& histogram);

/// What queries brought. JSON `operations.query.pages`.
struct PagesRecord {
  uint64_t pages = 0, rows = 0;  ///< of all pages answered, those of queries that failed later included
  std::optional<double> pages_per_query, rows_per_query;  ///< means over queries that ended with success
  uint64_t pages_max = 0, rows_max = 0;                   ///< of one query that ended with success
  friend bool operator==(const PagesRecord&, const PagesRecord&) = default;
};

/// JSON `operations.<kind>`, `operations.<kind>.streams.<stream>`.
struct OperationRecord {
  uint64_t asked = 0, sent = 0, acknowledged = 0, failed = 0, timed_out = 0, dropped = 0;
  uint64_t in_flight = 0, not_started = 0;
  double rate_per_second = 0;  ///< acknowledged over the time of the phases it covers
  LatencyRecord intended, service;
  std::optional<double> unsuccessful_max;          ///< longest time to a failure or timeout, seconds
  uint64_t conflicts = 0, retries = 0;             ///< answers 412, and changes sent once more because of them
  std::optional<PagesRecord> pages;                ///< present if pages of query results were answered
  std::map<std::string, uint64_t> errors;          ///< error class -> count, without zeros
  std::map<std::string, OperationRecord> streams;  ///< one level deep: present for kinds, empty for streams
  /// (failed + timedOut) / sent; absent if nothing was sent.
  std::optional<double> error_share() const;
  /// conflicts / (sent + retries): the share of all changes sent that met a twin changed meanwhile; absent if none was
  /// sent.
  std::optional<double> conflict_share() const;
  /// retries / acknowledged; absent if nothing was acknowledged.
  std::optional<double> retries_per_success() const;
  friend bool operator==(const OperationRecord&, const OperationRecord&) = default;
};

struct ConvergenceRecord {
  uint64_t started = 0, applied = 0, superseded = 0, lost = 0, unconverged = 0, failed = 0, apply_failed = 0, open = 0;
  uint64_t duplicate = 0, reordered = 0;
  uint64_t backlog_max = 0;
  LatencyRecord total, system, patch, delivery, apply, acknowledge;
  friend bool operator==(const ConvergenceRecord&, const ConvergenceRecord&) = default;
};

/// How long after their acknowledgement writes showed in queries. JSON `queryStaleness`.
struct StalenessRecord {
  uint64_t started = 0, visible = 0, not_visible = 0, unknown = 0, open = 0;
  std::optional<double> resolution;  ///< seconds between two looks: the figures are exact to this
  LatencyRecord since_acknowledged;  ///< of the visible ones
  friend bool operator==(const StalenessRecord&, const StalenessRecord&) = default;
};

struct PhaseRecord {
  std::string name;
  bool recorded = true;
  double start_seconds = 0;  ///< since the run's start
  double duration_seconds = 0;
  std::string note;                                   ///< why it ended if not by its plan, e.g. `timed out after 60 s`
  std::map<std::string, OperationRecord> operations;  ///< by kind, streams inside
  ConvergenceRecord convergence;
  std::optional<StalenessRecord> staleness;  ///< absent if no write was looked for
  LatencyRecord schedule_lag;
  friend bool operator==(const PhaseRecord&, const PhaseRecord&) = default;
};

/// One row of JSON `errors[]`: all of one class in one stream, over all phases.
struct ErrorRecord {
  std::string operation, stream, error;
  uint64_t count = 0;
  double first_seconds = 0, last_seconds = 0;  ///< since the run's start, whole seconds, not below 0
  friend bool operator==(const ErrorRecord&, const ErrorRecord&) = default;
};

/// JSON `slos[]`: {slo, description, status, target, actual, samples, unit, phase, detail}.
struct SloRecord {
  std::string slo;          ///< as written
  std::string description;  ///< `describe()`
  std::string status;       ///< passed, failed, undecided
  std::string unit;         ///< seconds, share, perSecond, count
  double target = 0;
  std::optional<double> actual;
  uint64_t samples = 0;
  std::string phase;  ///< empty = all recorded phases
  std::string detail;
  friend bool operator==(const SloRecord&, const SloRecord&) = default;
};
SloRecord to_record(const SloResult& result);

struct RunInfo {
  std::string id;        ///< name of the folder by default
  std::string scenario;  ///< its name
  std::string description;
  uint64_t seed = 0;
  std::string started_at;  ///< ISO 8601, UTC
  double duration_seconds = 0;
  double recorded_seconds = 0;      ///< sum of the recorded phases
  std::string version;              ///< of twinstorm
  std::string target;               ///< `embedded` or the host name; never a secret
  std::string command;              ///< to run it again
  std::vector<std::string> forced;  ///< what the machine lacks and `--force` went beyond, one sentence each
  friend bool operator==(const RunInfo&, const RunInfo&) = default;
};

struct DevicesRecord {
  uint64_t target = 0;         ///< asked for by the scenario
  uint64_t connected = 0;      ///< at the end of the last phase
  uint64_t connected_max = 0;  ///< most at any look
  uint64_t reconnects = 0;
  std::map<std::string, uint64_t> reconnect_reasons;  ///< without zeros
  uint64_t methods_answered = 0, messages_received = 0;
  friend bool operator==(const DevicesRecord&, const DevicesRecord&) = default;
};

struct GeneratorRecord {
  double cpu_seconds = 0;
  uint64_t resident_bytes = 0;  ///< at the end
  std::optional<double> heap_bytes_per_device;
  uint64_t bytes_in = 0, bytes_out = 0;
  LatencyRecord schedule_lag;       ///< recorded phases
  std::vector<double> busy_shares;  ///< per shard, recorded phases
  double dropped_share = 0;         ///< recorded phases
  friend bool operator==(const GeneratorRecord&, const GeneratorRecord&) = default;
};

/// The embedded hub, and the comparison of its counts with ours.
struct HubRecord {
  std::optional<double> cpu_seconds;
  std::optional<uint64_t> resident_bytes;
  HubComparison comparison;  ///< JSON: checked, matches, rows
  friend bool operator==(const HubRecord&, const HubRecord&) = default;
};

/// One class of operations in the books of a hub with a tier, over the whole run. JSON `throttling.classes[]`.
struct ThrottlingClass {
  std::string name;                                       ///< lowerCamel, e.g. `twinReads`
  std::optional<double> limit_per_second;                 ///< what the tier and its units allow; absent = no limit
  uint64_t admitted = 0;                                  ///< let through, at once or after a delay
  uint64_t shaped = 0;                                    ///< of these, after a delay
  uint64_t refused = 0;                                   ///< answered 429
  std::optional<double> delay_p50, delay_p99, delay_max;  ///< of the shaped ones, seconds
  double delay_sum = 0;                                   ///< of the shaped ones, seconds
  friend bool operator==(const ThrottlingClass&, const ThrottlingClass&) = default;
};

/// What the hub's tier did to the run, as the hub counted it. JSON `throttling`; absent when the hub has no tier.
struct ThrottlingRecord {
  std::string tier;  ///< `S1`
  uint64_t units = 1;
  std::vector<ThrottlingClass> classes;             ///< in the hub's order
  std::optional<uint64_t> quota_used, quota_limit;  ///< messages of the day
  friend bool operator==(const ThrottlingRecord&, const ThrottlingRecord&) = default;
};

/// All operations of all phases, warm-up included: the sums that must add up and that the hub must have seen.
struct LedgerRecord {
  bool holds = true;
  uint64_t asked = 0, sent = 0, acknowledged = 0, failed = 0, timed_out = 0, dropped = 0, in_flight = 0,
           not_started = 0;
  friend bool operator==(const LedgerRecord&, const LedgerRecord&) = default;
};

/// One worker process of the generator. JSON `workers[]`; none when the generator was a single process.
struct WorkerRecord {
  std::string name;  ///< `worker-1`
  uint64_t devices = 0;
  double cpu_seconds = 0;
  bool lost = false;
  std::string end;  ///< of a lost one: `was killed by signal 9 (Killed)`
  uint64_t pid = 0;
  uint64_t shards = 0;
  uint64_t resident_bytes = 0;             ///< at the end; pages that processes share count in each. 0 of a lost one
  double busy_share = 0;                   ///< of its busiest shard in its busiest recorded phase, 0..1
  std::optional<double> schedule_lag_p99;  ///< recorded phases, seconds; absent with too few samples
  LedgerRecord ledger;                     ///< its part of the run's; of a lost one until then
  friend bool operator==(const WorkerRecord&, const WorkerRecord&) = default;
};

/// summary.json.
struct RunRecord {
  Verdict verdict;
  std::vector<ValidityFinding> validity;  ///< JSON `validity {valid, findings[]}`
  RunInfo run;
  std::vector<PhaseRecord> phases;
  std::map<std::string, OperationRecord> operations;  ///< by kind, recorded phases; only kinds the scenario has
  ConvergenceRecord convergence;                      ///< recorded phases
  std::optional<StalenessRecord> staleness;           ///< recorded phases; absent if no write was looked for
  DevicesRecord devices;
  LedgerRecord ledger;
  std::vector<ErrorRecord> errors;  ///< all phases, most frequent first
  std::vector<SloRecord> slos;
  std::vector<InvariantResult> invariants;
  GeneratorRecord generator;
  std::optional<HubRecord> hub;
  std::optional<ThrottlingRecord> throttling;
  std::optional<CanaryRecord> canary;  ///< absent when it was switched off
  std::vector<WorkerRecord> workers;
  friend bool operator==(const RunRecord&, const RunRecord&) = default;
};

struct RunEvent {
  double at_seconds = 0;  ///< since the run's start
  std::string kind;       ///< `phase`, `storm`, `error`, `note`, `signal`
  std::string text;       ///< one line for people
  friend bool operator==(const RunEvent&, const RunEvent&) = default;
};

/// What only the runner knows about a phase.
struct PhaseTiming {
  double start_seconds = 0;
  double duration_seconds = 0;
  std::string note;
};

/// All phases and streams together.
LedgerRecord ledger_of(const Totals& totals);
/// Seconds; absent with too few samples beyond `q` (histogram.hpp).
std::optional<double> percentile_seconds(const HistogramSnapshot& histogram, double q);

/// Fills `phases`, `operations`, `convergence`, `staleness`, `ledger`, `errors`, the counted parts of `devices`
/// and the measured parts of `generator` (schedule lag, dropped share, bytes) from final totals. Sets the totals' phase
/// durations from `timings` (one per phase of the layout; shorter = not run). `start` turns error stamps into seconds
/// of the run.
void fill_measurements(RunRecord& record, Totals& totals, const std::vector<PhaseTiming>& timings, WallTime start);

/// The full distributions of the recorded phases, ready for the `.hlog` files.
struct RunHistograms {
  HdrLog operations, convergence, generator;
};
RunHistograms collect_histograms(const Totals& totals, const std::vector<PhaseTiming>& timings, WallTime start);

/// The flat `ci` object of summary.json, derived from the record: the numbers scripts ask for most.
Json ci_block(const RunRecord& record);

Json to_json(const RunRecord& record);
Result<RunRecord> run_record_from_json(const Json& json);
Json to_json(const IntervalSnapshot& snapshot);
Result<IntervalSnapshot> interval_from_json(const Json& json);
Json to_json(const RunEvent& event);
Result<RunEvent> event_from_json(const Json& json);

struct RunContents {
  RunRecord record;
  std::vector<IntervalSnapshot> series;
  std::vector<RunEvent> events;
  RunHistograms histograms;
  std::string resolved_yaml;
  std::string env_json = "{}";  ///< text of env.json
};

struct LoadedRun : RunContents {
  std::filesystem::path folder;
  /// The sum over recorded phases of one tag (`rollout.intended`, `convergence.total`, `scheduleLag`); empty if there's
  /// none.
  HistogramSnapshot histogram(std::string_view tag) const;
};

/// Writes a run bit by bit, so that a long run holds no series in memory and an interrupted one leaves its series
/// behind. Everything but the two `.ndjson` files is written whole to a temporary name and renamed. Errors (`io`) name
/// the path and the system's words. Not thread-safe.
class RunWriter {
 public:
  /// Makes the folder (and its parents). Refuses one that already holds a summary.json (`already_exists`).
  static Result<RunWriter> create(const std::filesystem::path& folder);
  RunWriter(RunWriter&&) noexcept;
  RunWriter& operator=(RunWriter&&) noexcept;
  ~RunWriter();

  Result<void> append(const IntervalSnapshot& snapshot);
  Result<void> append(const RunEvent& event);
  /// Writes the remaining files and, last, the manifest. The record is complete and verifiable only after this.
  Result<void> finish(const RunRecord& record, const RunHistograms& histograms, std::string_view resolved_yaml,
                      std::string_view env_json);
  const std::filesystem::path& folder() const;

 private:
  struct State;
  explicit RunWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// All at once: `RunWriter` from begin to end.
Result<void> write_run(const std::filesystem::path& folder, const RunContents& contents);

/// Reads and verifies a run folder (or the path of its summary.json). Refuses (`not_found`, `corrupt`, `io`) a folder
/// without manifest, and any file that's missing, changed since the run, or not what it should be; the message names
/// the file.
Result<LoadedRun> load_run(const std::filesystem::path& folder);

/// Only summary.json, without a manifest: for baselines that were copied out of their folder.
Result<RunRecord> load_summary(const std::filesystem::path& file);

/// Replaces `file` in one step (temporary file in the same folder, fsync, rename). Errors name the path and the errno
/// text.
Result<void> write_file_atomically(const std::filesystem::path& file, std::string_view content);

}  // namespace twinstorm::metrics
