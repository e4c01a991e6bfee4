// The shards of one process, each with its thread: everything a run does in one process while the load goes on and
// shortly after.
#pragma once

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/run/findings.hpp"
#include "sim/run/hub_link.hpp"
#include "sim/run/shard.hpp"

namespace twinstorm::run {

class ShardGroup {
 public:
  /// What all shards of a run have in common.
  struct Config {
    ShardId shards = 1;  ///< of the whole run
    const FleetPlan* plan = nullptr;
    std::vector<const HubSite*> sites;  ///< shard g talks to site g mod N; N divides `shards`
    bool keep_models = false;           ///< for the final comparison of twins
    std::string client_type, run_tag;   ///< as in Shard::Config
  };
  using Own = std::vector<std::pair<ShardId, metrics::ShardRecorder*>>;

  /// `own`: the shards of this group. What is pointed to, and `clock`, outlive the group.
  ShardGroup(Config config, const Own& own, const Clock& clock);
  /// Ends the threads, if they run.
  ~ShardGroup();

  // All from one thread.
  /// The models of those of the devices that belong here begin with what the hub holds now. Blocks.
  Result<void> seed_models(const std::vector<DeviceIndex>& existing);
  void start();
  void begin_phase(metrics::PhaseIndex phase, MonoTime start);
  void finish_load(MonoTime at);
  /// Ends every shard and waits for its thread.
  Findings stop();
  /// Reads every twin of these shards' devices and compares it with the model; after `stop`. Blocks.
  TwinComparison compare_twins(const Progress& progress);

 private:
  Shard& shard_of(DeviceIndex device) { return *by_id_[device % config_.shards]; }
  bool mine(DeviceIndex device) const { return by_id_[device % config_.shards] != nullptr; }
  using Visit = std::function<void(DeviceIndex, int status, std::string_view body)>;
  /// From each device's own hub.
  Result<void> read_own_twins(const std::vector<DeviceIndex>& devices, const Visit& visit, const Progress& progress);

  Config config_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<Shard*> by_id_;  // of the whole run; null: another group's
  std::vector<std::thread> threads_;
};

}  // namespace twinstorm::run
