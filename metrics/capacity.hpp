// The highest rate at which a scenario still holds: which rates to try, and what came of it.
//
// `CapacitySearch` is a plain object that is told how each run ended; it knows no clock, no scenario and no hub.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "metrics/run_record.hpp"

namespace twinstorm::metrics {

/// What one run at one rate says about that rate.
enum class ProbeVerdict : uint8_t {
  holds,      ///< the run passed
  breaks,     ///< an objective or an invariant failed, the hub did not answer in time or was lost
  generator,  ///< the generator could not produce the load: whatever the hub can do, it is not seen here
  unusable,   ///< the run says nothing about the rate (too few samples, a clock step, books that do not agree)
};
/// `holds breaks generator unusable`.
std::string_view to_string(ProbeVerdict verdict);
std::optional<ProbeVerdict> parse_probe_verdict(std::string_view text);

/// How a finished run counts. Dropped operations are the hub's fault unless the generator was late or busy too: the
/// backlog fills up when answers do not come.
ProbeVerdict probe_verdict(const RunRecord& record);

/// Brackets the limit by doubling or halving, then halves the bracket on a logarithmic scale until its ends are within
/// `precision`. One run that breaks decides nothing: a rate breaks when two runs of it broke, and holds when two runs
/// of three held. The rate that is reported has held twice. At most `kRunsMax` runs, whatever happens.
class CapacitySearch {
 public:
  static constexpr int kRunsMax = 40;

  struct Options {
    double start = 1;         ///< factor of the scenario's rates to begin with, > 0
    double lowest = 1. / 64;  ///< not tried below
    double highest = 64;      ///< not tried above
    double precision = 0.05;  ///< of the result: upper / lower <= 1 + precision; in (0, 1]
  };
  explicit CapacitySearch(const Options& options);

  /// The factor of the next run; nothing when the search is over.
  std::optional<double> next() const;
  /// How the run at `next()` ended.
  void record(ProbeVerdict verdict);

  enum class Limit : uint8_t {
    none,       ///< not known yet
    objective,  ///< above `lower` the scenario no longer holds
    generator,  ///< above `lower` the generator cannot produce the load
    range,      ///< it holds even at the highest rate that may be tried
    nothing,    ///< it does not hold even at the lowest one
    unusable,   ///< runs did not say anything, or there were too many of them
  };
  struct Result {
    Limit limit = Limit::none;
    std::optional<double> lower;  ///< highest factor that holds
    std::optional<double> upper;  ///< lowest factor that does not
    int held = 0, runs = 0;       ///< of the runs at `lower`
  };
  /// What is known now; final once `next()` gives nothing.
  Result result() const;

 private:
  struct Rate {
    int held = 0, broke = 0, generator = 0, unusable = 0;
    int runs() const { return held + broke + generator; }
    bool settled_bad() const { return broke + generator >= 2; }
    bool settled_good() const { return held >= 2; }
    /// Good enough to go on searching above it.
    bool good() const { return held > 0 && held >= broke + generator; }
  };
  std::optional<double> lower() const;
  std::optional<double> upper() const;

  Options options_;
  std::map<double, Rate> rates_;
  int runs_ = 0;
  bool given_up_ = false;
};
/// `none objective generator range nothing unusable`.
std::string_view to_string(CapacitySearch::Limit limit);

inline constexpr std::string_view kCapacitySchema = "twinstorm/capacity/1";

/// One run of a search.
struct CapacityProbe {
  std::string run;                  ///< folder of its record, below that of the search
  double factor = 0;                ///< of the scenario's rates
  double asked_per_second = 0;      ///< operations of open loads, recorded phases
  double delivered_per_second = 0;  ///< of them acknowledged
  ProbeVerdict verdict = ProbeVerdict::unusable;
  std::vector<std::string> reasons;  ///< of the run's verdict
  /// Intended latency by kind of operation, and `convergence`; recorded phases.
  std::map<std::string, LatencyRecord> latencies;
  std::optional<double> busy_share;    ///< of the busiest shard
  std::optional<double> schedule_lag;  ///< p99, seconds
  friend bool operator==(const CapacityProbe&, const CapacityProbe&) = default;
};

/// capacity.json: everything a report of a search needs.
struct CapacityRecord {
  RunInfo run;                                               ///< of the whole search; `id` is its folder
  std::string limit = "none";                                ///< `CapacitySearch::Limit`
  std::optional<double> lower_per_second, upper_per_second;  ///< asked, as in the probes
  std::optional<double> lower_factor, upper_factor;
  int held = 0, runs = 0;  ///< at the lower rate
  double precision = 0.05;
  bool interrupted = false;
  std::vector<SloRecord> slos;        ///< of the best run, to draw its targets
  std::vector<CapacityProbe> probes;  ///< in the order they were run
  friend bool operator==(const CapacityRecord&, const CapacityRecord&) = default;
};
CapacityProbe capacity_probe(const RunRecord& record, double factor, std::string run);
Json to_json(const CapacityRecord& record);

}  // namespace twinstorm::metrics
