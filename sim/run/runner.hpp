// One run from beginning to end: start or find the hub, register devices, drive the phases, drain, check, record.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>
#include <string_view>

#include "metrics/aggregator.hpp"
#include "metrics/run_record.hpp"
#include "sim/base/result.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::run {

struct RunOptions {
  scenario::Scenario scenario;   ///< resolved
  std::string resolved_yaml;     ///< the same as text, secrets masked
  ShardId shards = 1;            ///< of all workers together
  unsigned workers = 1;          ///< worker processes, at most one a shard; 1: the shards are threads of this process
  std::filesystem::path folder;  ///< created by the run; must not hold another run
  std::string binary;            ///< path of the twinstorm executable, for the embedded hub
  bool force = false;            ///< also when the machine cannot hold it; the record says so
  std::string metrics_listen;    ///< `ADDR:PORT`, empty = no endpoint
  Nanos linger{0};               ///< keep the metrics up so long after the load
  std::string push_gateway;      ///< `HOST:PORT`, empty = none
  Nanos push_every = std::chrono::seconds{5};
  bool push_delete = false;  ///< take them out of the gateway at the end
  std::string version;
  std::string command;  ///< to reproduce, secrets masked
};

/// What the person in front may do while a run goes on; written by signal handlers.
struct RunControl {
  std::atomic<int> signals{0};  ///< how many came: one ends the run in order, two end it at once
  std::atomic<int> last_signal{0};
};

/// What happens, for terminals. Called on the main thread.
class RunUi {
 public:
  struct Live {
    std::string_view phase;
    size_t phase_number = 0, phases = 0;
    double elapsed_seconds = 0;          ///< of the phase
    std::optional<double> left_seconds;  ///< of the phase; absent when it ends on a condition
    uint64_t devices_target = 0;
    const metrics::IntervalSnapshot& interval;
  };
  virtual ~RunUi() = default;
  virtual void step(std::string_view text) = 0;  ///< `starting the embedded hub`
  virtual void progress(std::string_view what, uint64_t done, uint64_t total) = 0;
  virtual void live(const Live& live) = 0;
};

struct RunOutcome {
  metrics::Verdict verdict;
  std::filesystem::path folder;
  std::optional<Error> record_error;  ///< the run took place, but its record could not be written
};

/// Carries the run out; blocks until everything is written. An error means that measurement never began (exit code 3);
/// everything later is a verdict.
Result<RunOutcome> execute_run(const RunOptions& options, const RunControl& control, RunUi& ui);

/// The folder can be written and holds no other run; checked before anything is started.
Result<void> check_output_folder(const std::filesystem::path& folder);

}  // namespace twinstorm::run
