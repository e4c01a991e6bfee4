// Adds the shards up: once a second what happened since the last look (`take`), and at the end everything (`totals`).
//
// Reads the recorders' words without locks. A snapshot taken while shards run may see a counter one event ahead of a
// bucket; totals taken after the shards have joined are exact. Not thread-safe itself: one caller.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "metrics/histogram.hpp"
#include "metrics/op.hpp"
#include "metrics/shard_recorder.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

/// A distribution of one interval, as drawn over time. Unlike the summary's, these percentiles are given for any count:
/// an interval has few samples, and its p99 is then simply one of the largest.
struct IntervalLatency {
  uint64_t count = 0;
  Nanos p50{0}, p90{0}, p99{0}, max{0};
  friend bool operator==(const IntervalLatency&, const IntervalLatency&) = default;
};

/// What happened between two looks. Doubles as one line of `series.ndjson`.
struct IntervalSnapshot {
  struct Stream {
    std::string name;
    uint64_t asked = 0, sent = 0, acknowledged = 0, failed = 0, timed_out = 0, dropped = 0;
    uint64_t in_flight = 0;      ///< open at the end of the interval
    double rate_per_second = 0;  ///< acknowledged
    uint64_t conflicts = 0, retries = 0, pages = 0, rows = 0;
    uint64_t throttled = 0;             ///< of the failed ones: answered 429
    std::optional<double> target_rate;  ///< asked for by the load shape; set by the runner where it knows
    IntervalLatency intended, service;
    friend bool operator==(const Stream&, const Stream&) = default;
  };
  struct Convergence {
    uint64_t started = 0, applied = 0, superseded = 0, lost = 0, unconverged = 0, failed = 0, apply_failed = 0;
    uint64_t duplicate = 0, reordered = 0;
    uint64_t backlog = 0;  ///< updates started and not ended, at the end of the interval
    IntervalLatency total, system;
    friend bool operator==(const Convergence&, const Convergence&) = default;
  };

  /// Writes looked for in queries.
  struct Staleness {
    uint64_t started = 0, visible = 0, not_visible = 0, unknown = 0;
    uint64_t open = 0;  ///< started and not ended, at the end of the interval
    IntervalLatency since_acknowledged;
    friend bool operator==(const Staleness&, const Staleness&) = default;
  };

  double at_seconds = 0;  ///< end of the interval, since the aggregator's start
  double seconds = 0;     ///< its length
  std::string phase;      ///< set by the runner; the phase at the end of the interval
  std::vector<Stream> streams;
  Convergence convergence;
  Staleness staleness;
  DeviceCounts devices;
  uint64_t reconnects = 0;
  std::array<uint64_t, kErrorClassCount> errors{};  ///< all streams
  IntervalLatency schedule_lag;
  std::vector<double> busy_shares;  ///< per shard, 0..1
  uint64_t bytes_in = 0, bytes_out = 0;
  std::optional<double> cpu_share;         ///< of the generator's process, 1 = one core; set by the runner
  std::optional<uint64_t> resident_bytes;  ///< of the generator's process; set by the runner
  friend bool operator==(const IntervalSnapshot&, const IntervalSnapshot&) = default;
};

/// Everything counted about one stream, or the sum of several.
struct OpTotals {
  struct ErrorCount {
    uint64_t count = 0;
    int64_t first_seconds = 0, last_seconds = 0;  ///< since 1970, meaningful if count != 0
  };
  uint64_t asked = 0, sent = 0, acknowledged = 0, failed = 0, timed_out = 0, dropped = 0;
  std::array<ErrorCount, kErrorClassCount> errors;
  Nanos unsuccessful_max{0};            ///< longest time from due to failure or timeout
  HistogramSnapshot intended, service;  ///< acknowledged operations only
  uint64_t conflicts = 0, retries = 0;  ///< answers 412, and changes sent once more because of them
  uint64_t pages = 0, rows = 0;         ///< of all pages answered, those of queries that failed later included
  uint64_t query_pages = 0, query_rows = 0, pages_max = 0, rows_max = 0;  ///< of queries that ended with success

  void add(const OpTotals& other);
  uint64_t in_flight() const { return sent - acknowledged - failed - timed_out; }
  uint64_t not_started() const { return asked - sent - dropped; }
  /// asked >= sent + dropped and sent >= acknowledged + failed + timedOut, and the histograms hold each acknowledged
  /// operation once. Exact after the shards have joined.
  bool ledger_holds() const;
};

struct ConvergenceTotals {
  uint64_t started = 0, applied = 0, superseded = 0, lost = 0, unconverged = 0, failed = 0, apply_failed = 0;
  uint64_t duplicate = 0, reordered = 0;
  uint64_t backlog_max = 0;  ///< most of these updates open at once, as seen at the aggregator's looks
  /// `total` has each update whose value reached its device (applied and superseded), the rest only applied ones.
  HistogramSnapshot total, system, patch, delivery, apply, acknowledge;

  void add(const ConvergenceTotals& other);
  uint64_t ended() const { return applied + superseded + lost + unconverged + failed + apply_failed; }
  uint64_t open() const { return started - ended(); }
  bool ledger_holds() const { return started >= ended() && total.count() == applied + superseded; }
};

/// The writes that were looked for in queries.
struct StalenessTotals {
  uint64_t started = 0, visible = 0, not_visible = 0, unknown = 0;
  HistogramSnapshot since_acknowledged;  ///< of the visible ones

  void add(const StalenessTotals& other);
  uint64_t ended() const { return visible + not_visible + unknown; }
  uint64_t open() const { return started - ended(); }
  bool ledger_holds() const { return started >= ended() && since_acknowledged.count() == visible; }
};

struct PhaseTotals {
  std::string name;
  bool record = true;
  Nanos duration{0};              ///< set by the runner; 0 = not run. Rates need it
  std::vector<OpTotals> streams;  ///< indexed like RecorderLayout::streams
  ConvergenceTotals convergence;
  StalenessTotals staleness;
  HistogramSnapshot schedule_lag;
};

struct Totals {
  RecorderLayout layout;
  std::vector<PhaseTotals> phases;  ///< indexed like RecorderLayout::phases
  uint64_t backlog_max = 0;         ///< most updates of all phases open at once, as seen at the aggregator's looks
  std::array<uint64_t, kReconnectReasonCount> reconnects{};
  uint64_t methods_answered = 0, messages_received = 0;  ///< by devices
  DeviceCounts devices;                                  ///< at the time of the call
  std::vector<Nanos> busy;                               ///< per shard, since the start
  uint64_t bytes_in = 0, bytes_out = 0;

  /// Sums over the recorded phases. `phase` narrows to one, recorded or not.
  OpTotals stream(StreamIndex stream, std::optional<PhaseIndex> phase = {}) const;
  OpTotals kind(OpKind kind, std::optional<PhaseIndex> phase = {}) const;
  OpTotals all_streams(std::optional<PhaseIndex> phase = {}) const;
  /// Over several phases `backlog_max` is the run's.
  ConvergenceTotals convergence(std::optional<PhaseIndex> phase = {}) const;
  StalenessTotals staleness(std::optional<PhaseIndex> phase = {}) const;
  HistogramSnapshot schedule_lag(std::optional<PhaseIndex> phase = {}) const;
  Nanos duration(std::optional<PhaseIndex> phase = {}) const;
  uint64_t reconnect_count() const;
  /// All streams and all phases, recorded or not: what the hub must have seen.
  OpTotals everything() const;
  bool ledger_holds() const;
};

class Aggregator {
 public:
  /// All recorders share `layout` and outlive the aggregator. `start` is second 0 of the series.
  Aggregator(RecorderLayout layout, std::vector<const ShardRecorder*> shards, MonoTime start);

  /// Differences since the last call (or `start`). `now` must not go back.
  IntervalSnapshot take(MonoTime now);
  /// Everything so far, per phase and stream. Phase durations are 0: the caller knows them.
  Totals totals() const;

 private:
  struct StreamState {
    uint64_t asked = 0, sent = 0, acknowledged = 0, failed = 0, timed_out = 0, dropped = 0;
    uint64_t conflicts = 0, retries = 0, pages = 0, rows = 0, throttled = 0;
    HistogramSnapshot intended, service;
  };
  struct StalenessState {
    uint64_t started = 0;
    std::array<uint64_t, kStalenessOutcomeCount> ended{};
    HistogramSnapshot since_acknowledged;
  };
  struct ConvergenceState {
    uint64_t started = 0, duplicate = 0, reordered = 0;
    std::array<uint64_t, kConvergenceOutcomeCount> ended{};
    HistogramSnapshot total, system;
  };
  struct State {
    std::vector<StreamState> streams;
    ConvergenceState convergence;
    StalenessState staleness;
    std::array<uint64_t, kErrorClassCount> errors{};
    HistogramSnapshot schedule_lag;
    uint64_t reconnects = 0, bytes_in = 0, bytes_out = 0;
    std::vector<uint64_t> busy_ns;
  };
  State read() const;

  RecorderLayout layout_;
  std::vector<const ShardRecorder*> shards_;
  MonoTime start_;
  MonoTime last_;
  State before_;
  std::vector<uint64_t> backlog_max_;  // per phase
  uint64_t backlog_max_all_ = 0;
};

}  // namespace twinstorm::metrics
