// The run as Prometheus metrics. Nothing is copied while the run goes on: each scrape reads the shards' own counters
// and histograms and builds the families then. Classic histogram buckets are sums over ours, so they add up over
// workers.
//
// Labels have few values, all known before the run starts: op, stream, owner, protocol, phase, result, reason, outcome,
// leg, state, worker, shard, direction, slo, status. The scenario and the run's id are labels of `twinstorm_run_info`
// only; join on it. Series of a phase appear when it begins. docs/metrics.md lists every name.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <prometheus/collectable.h>

#include "metrics/shard_recorder.hpp"
#include "metrics/slo.hpp"
#include "metrics/validity.hpp"

namespace twinstorm::metrics {

struct ExportInfo {
  std::string run_id;
  std::string scenario;
  std::string version;
  std::string target;  ///< `embedded` or a host name
  uint64_t devices_target = 0;
  std::vector<std::string> worker_of_shard;  ///< names, by shard; shorter: shards of the process `run`
};

/// A process of the generator: `run`, and the workers that it started.
struct ExportedProcess {
  std::string name;
  double cpu_seconds = 0;  ///< since it started
  uint64_t resident_bytes = 0;
};

/// Upper bounds of the classic buckets, seconds: 50 us to 60 s, three a decade.
const std::vector<double>& classic_buckets_seconds();

class PrometheusCollector final : public prometheus::Collectable {
 public:
  /// The recorders share one layout and outlive the collector.
  PrometheusCollector(ExportInfo info, RecorderLayout layout, std::vector<const ShardRecorder*> shards);

  /// Any thread.
  std::vector<prometheus::MetricFamily> Collect() const override;

  // What no recorder knows. Any thread; meant for about one call a second.
  void set_phase(PhaseIndex current);
  void set_target_rate(StreamIndex stream, double per_second);
  void set_processes(std::vector<ExportedProcess> processes);
  void set_slo(const SloSpec& spec, SloStatus status);
  void set_verdict(VerdictStatus status);

 private:
  struct Live {
    std::optional<PhaseIndex> phase;
    std::vector<double> target_rates;
    std::vector<ExportedProcess> processes;
    std::map<std::string, SloStatus> slos;
    std::optional<VerdictStatus> verdict;
  };

  ExportInfo info_;
  RecorderLayout layout_;
  std::vector<const ShardRecorder*> shards_;
  mutable std::mutex mutex_;
  Live live_;
};

}  // namespace twinstorm::metrics
