// Where the shards of a run live: as threads of this process, or spread over worker processes.
//
// A worker is a fork of the prepared run: it has the plan, the credentials and the hub's addresses already, and its
// shards count into memory that this process reads directly, so one report adds everything up exactly, and what a lost
// worker counted until then is still there. Shard g of the run belongs to worker g mod N, as device i does to shard i
// mod the number of shards: devices and arrivals are shared out one by one, and the union is the whole scenario.
//
// Main thread only. Forks happen in `prepare`: this process must have no other thread then.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "metrics/shard_recorder.hpp"
#include "sim/run/findings.hpp"
#include "sim/run/process_stats.hpp"
#include "sim/run/shard_group.hpp"

namespace twinstorm::run {

class Workers {
 public:
  struct Config {
    unsigned workers = 1;  ///< 1: the shards are threads of this process; at most one a shard
    ShardGroup::Config group;
    std::vector<DeviceIndex> existing;  ///< devices whose models begin with what the hub holds
  };
  /// One worker process, as this one sees it.
  struct Process {
    std::string name;  ///< `worker-1`
    pid_t pid = -1;
    uint64_t devices = 0;
    std::vector<ShardId> shards;
    std::optional<std::string> end;  ///< how it was lost: `was killed by signal 9 (Killed)`; absent: it was not
    ProcessStats used;               ///< so far; of a lost one until then, without its memory
    double cpu_before = 0;           ///< until `start`
  };

  /// Forks, and waits until every worker stands ready. Errors: `unavailable`, when a worker cannot be started.
  static Result<std::unique_ptr<Workers>> prepare(Config config, const Clock& clock);
  /// Ends what is left, at once.
  ~Workers();

  std::vector<const metrics::ShardRecorder*> recorders() const;
  /// The name of each shard's process; empty when that is this one.
  std::vector<std::string> names_by_shard() const;
  /// Why models do not begin with what the hub holds; the run goes on without.
  const std::optional<std::string>& seeding_problem() const { return seeding_problem_; }

  void start();
  void begin_phase(metrics::PhaseIndex phase, MonoTime start);
  void finish_load(MonoTime at);
  /// What is open, of workers that are not lost.
  uint64_t open_work() const;
  /// Ends every shard; `patience` bounds the wait for a worker, which is then lost.
  Findings stop(Nanos patience = std::chrono::seconds{30});
  /// After `stop`. `cancelled` is asked now and then. A lost worker's devices count as unread.
  TwinComparison compare_twins(const Progress& progress, const std::function<bool()>& cancelled);

  /// Looks for workers that are gone; those found since the last call.
  std::vector<const Process*> newly_lost();
  /// Empty when the shards are threads of this process.
  const std::vector<Process>& processes() const { return processes_; }
  /// CPU and memory of all processes of the generator, this one included; memory they share counts in each.
  ProcessStats used();
  /// Heap of all processes that have shards; nothing while a worker does not answer.
  std::optional<uint64_t> heap();

 private:
  class Channel;
  Workers(Config config, const Clock& clock);
  Result<void> fork_all();
  [[noreturn]] void serve(size_t index, Channel& channel);
  ShardGroup::Own own_of(size_t worker);
  void tell_all(const std::string& command);
  /// Waits for the answer of each worker that is not lost; lost are those that end, or say nothing for `patience`.
  /// `take` returns false while more of this worker's answer is to come.
  void gather(Nanos patience, const std::function<bool(size_t worker, const std::string& answer)>& take);
  void lose(size_t worker, std::string how);
  bool alive(size_t worker) const { return !processes_[worker].end; }

  Config config_;
  const Clock& clock_;
  std::vector<std::unique_ptr<metrics::ShardRecorder>> recorders_;  // by shard
  std::unique_ptr<ShardGroup> local_;                               // when there is one worker: this process
  std::vector<Process> processes_;
  std::vector<std::unique_ptr<Channel>> channels_;  // by worker
  std::vector<size_t> lost_unseen_;
  std::optional<std::string> seeding_problem_;
};

}  // namespace twinstorm::run
