// A recorded run, told to people and to machines: HTML to read, text for the terminal, JUnit and JSON for CI.
//
// Everything here is a pure function of the record: the same run folder gives the same bytes today, next month and in
// CI. No I/O, no clock, no threads; callers write the result where they want it.
#pragma once

#include <string>

#include "sim/base/result.hpp"

namespace twinstorm::metrics {
struct LoadedRun;
struct CapacityRecord;
}

namespace twinstorm::report {

/// One self-contained page (script and style inlined, no network), about 150 KB plus the run's data. Series longer than
/// `kMaxSeriesPoints` are thinned: rates become means, latencies, lag and backlog the worst second, connected devices
/// the lowest; the page says so. Fails with `ErrorCode::internal` when the embedded template is damaged.
Result<std::string> render_html(const metrics::LoadedRun& run);

/// The page of a search for capacity: what was found, latency against load, and every run with a link to its report.
Result<std::string> render_capacity_html(const metrics::CapacityRecord& record);
/// Its record, `capacity.json`: schema `twinstorm/capacity/1`, indented by two, newline at the end.
std::string render_capacity_json(const metrics::CapacityRecord& record);
/// The same as the page for the terminal, without colours.
std::string render_capacity_text(const metrics::CapacityRecord& record);

struct TextOptions {
  bool color = false;            ///< ANSI colours; never the only carrier of a meaning
  size_t width = 100;            ///< columns to wrap prose at; tables keep their own width; at least 60 is used
  std::string run_folder = {};   ///< printed in the last block when not empty
  std::string report_path = {};  ///< printed as the very last line when not empty (scripts read it)
};

/// What the terminal prints at the end of a run: verdict, why, SLO table, operations, convergence, files. UTF-8, ends
/// with a newline. Control and direction-changing characters of names and messages are printed as `\u{202E}`.
std::string render_text(const metrics::LoadedRun& run, const TextOptions& options = {});

/// JUnit XML: suite `validity` (one case), suite `slos` (one case each), suite `invariants` (one case each). Undecided
/// is a failure; an invariant that was not checked is skipped; in an INVALID run what would have passed is skipped,
/// because a number never passes an invalid run.
std::string render_junit(const metrics::LoadedRun& run);

/// `summary.json` as it was recorded (schema `twinstorm/summary/1`), indented by two, newline at the end.
std::string render_json(const metrics::LoadedRun& run);

/// Longest series the page carries (points per line); shorter when there are many streams.
inline constexpr size_t kMaxSeriesPoints = 1500;

}  // namespace twinstorm::report
