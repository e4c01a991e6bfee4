// Objectives that end a run early: judged while it goes on, each over a sliding window of the phase that runs.
//
// A window holds what was counted for operations due in the present phase during the last `over` seconds; it starts
// anew with each phase, and is judged when it is full and the phase is older than `after`. Judging is `judge` (slo.hpp)
// on the window's own totals, so a statistic means the same as at the end of the run, but for shares of what was sent:
// over a window they are of what ended in it. What cannot be decided (too few samples) ends nothing.
//
// Reads the recorders without locks, as the Aggregator does. Main thread only; no clock of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "metrics/aggregator.hpp"
#include "metrics/shard_recorder.hpp"
#include "metrics/slo.hpp"
#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

class AbortWatch {
 public:
  struct Finding {
    SloSpec slo;
    double actual = 0;      ///< over the window, in the threshold's unit
    uint64_t samples = 0;   ///< that it stands on
    double at_seconds = 0;  ///< of the run: the window's end
    std::string phase;      ///< name of the phase that ran
    /// `"report errors < 5%": 12 % over 10 s, at second 23.0 in phase "steady"`
    std::string text;
  };

  /// Takes those of `slos` that have an abort rule. The recorders outlive the watch; `start` is second 0 of the run.
  AbortWatch(RecorderLayout layout, const std::vector<SloSpec>& slos, std::vector<const ShardRecorder*> shards,
             MonoTime start);

  bool empty() const { return watched_.empty(); }
  /// Looks at the recorders at `now` (not before the last look), while `phase`, begun at `began`, runs; the first
  /// objective that does not hold. Call it about once a second.
  std::optional<Finding> look(MonoTime now, PhaseIndex phase, MonoTime began);

 private:
  /// What a window's end or beginning looked like: sums over all shards, of one phase.
  struct Reading {
    MonoTime at{};
    OpTotals operations;
    ConvergenceTotals convergence;
    StalenessTotals staleness;
    HistogramSnapshot schedule_lag;
  };
  struct Watched {
    SloSpec slo;
    std::vector<StreamIndex> streams;  // those it is about
    std::deque<Reading> readings;      // of this phase, oldest first; the window begins at the first one
  };
  Reading read(const Watched& watched, PhaseIndex phase, MonoTime now) const;
  std::optional<Finding> judge_window(const Watched& watched, const Reading& now, PhaseIndex phase) const;

  RecorderLayout layout_;
  std::vector<const ShardRecorder*> shards_;
  MonoTime start_;
  std::optional<PhaseIndex> phase_;
  std::vector<Watched> watched_;
};

/// Whether an objective can be judged over a window at all: a `count` grows with time and is judged at the end. Errors
/// are `invalid_argument` with the fix.
Result<void> check_abort(const SloSpec& spec);

}  // namespace twinstorm::metrics
