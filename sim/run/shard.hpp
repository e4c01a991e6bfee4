// Everything one thread owns: its loop, its devices, its back-end clients, its counters.
//
// Device i belongs to shard i mod N, and so does every arrival that is about it, back-end patches included: the whole
// loop from a patch's due time to the acknowledged report is timed by one thread on one clock. What arrives, and when,
// does not depend on the number of shards (scenario/sources.hpp).
#pragma once

#include <memory>
#include <vector>

#include "sim/backend/backend_pool.hpp"
#include "sim/base/ids.hpp"
#include "sim/device/device_pool.hpp"
#include "sim/run/control.hpp"
#include "sim/run/correlator.hpp"
#include "sim/run/findings.hpp"
#include "sim/run/fleet_plan.hpp"
#include "sim/run/oracle.hpp"
#include "sim/scenario/sources.hpp"

namespace twinstorm::run {

class Shard final : private device::FleetObserver, private backend::BackendObserver {
 public:
  struct Config {
    ShardId id = 0;
    ShardId shards = 1;  ///< of the whole run, those of other processes included
    const FleetPlan* plan = nullptr;
    std::vector<transport::LinkTarget> targets;  ///< by fleet
    const HubLink* hub = nullptr;                ///< for back ends
    const device::Authority* authority = nullptr;
    bool keep_model = false;                ///< for the final-state comparison
    std::string client_type = "twinstorm";  ///< what devices call themselves
    std::string run_tag = "0";              ///< lower-case letters and digits, another for each run: part of job ids
  };

  /// `recorder` is this shard's alone and outlives it, as do `clock` and what the config points to.
  Shard(Config config, metrics::ShardRecorder& recorder, const Clock& clock);
  ~Shard();

  /// The body of the shard's thread: returns after `stop`.
  void run();

  // Called from the main thread; carried out on the shard's thread in order.
  /// Phase `phase` begins at `start`; arrivals of earlier phases that are due before `start` still happen.
  void begin_phase(metrics::PhaseIndex phase, MonoTime start);
  /// No more arrivals, reconnects or telemetry; what is in flight goes on.
  void finish_load(MonoTime at);
  /// Ends open convergence slots, says goodbye on every link and leaves `run`.
  void stop();

  const metrics::ShardRecorder& recorder() const { return recorder_; }

  // After the thread has ended.
  const Findings& findings() const { return findings_; }
  Oracle& oracle() { return oracle_; }
  uint32_t device_count() const { return devices_.size(); }
  void append_device_id(uint32_t local, std::string& out) const { devices_.append_device_id(local, out); }

 private:
  void start_phase_now(metrics::PhaseIndex phase, MonoTime start);
  void start_due(MonoTime now);
  void start_one(const scenario::Sources::Work& work);
  void start_operation(const scenario::Sources::Work& work);
  void request_ended(metrics::StreamIndex stream, metrics::PhaseIndex phase);
  void on_slot_timer(SlotId slot);
  void account(MonoTime now);
  void wait_for_events(MonoTime until);
  std::string device_id(uint32_t device) const;
  std::string utc(MonoTime at) const;
  void tell_losses();
  void tell_created();
  uint32_t local(DeviceIndex device) const { return device / config_.shards; }

  // device::FleetObserver
  void on_notified(transport::LocalDevice device, int64_t version, MonoTime at) override;
  void on_report_sent(transport::LocalDevice device, int64_t version, MonoTime at) override;
  void on_converged(transport::LocalDevice device, int64_t version, MonoTime at) override;
  void on_apply_failed(transport::LocalDevice device, int64_t version, bool synced) override;
  void on_fetched(transport::LocalDevice device, int64_t version, bool went_back) override;
  void on_synced(transport::LocalDevice device, int64_t version, MonoTime at) override;
  void on_reported(transport::LocalDevice device, std::string_view patch, int64_t version) override;
  void on_report_unknown(transport::LocalDevice device, std::string_view patch) override;
  // backend::BackendObserver
  void on_patch_sent(backend::FollowId follow, MonoTime at) override;
  void on_patch_accepted(backend::FollowId follow, uint32_t device, int64_t version, std::string_view desired,
                         bool replaced, MonoTime at) override;
  void on_patch_failed(backend::FollowId follow, uint32_t device, std::string_view desired, bool unknown) override;

  static device::DevicePool::Config pool_config(const Config& config);
  static backend::BackendPool::Config backend_config(const Config& config);
  backend::BackendPool::Config named_backend_config();

  Config config_;
  const Clock& clock_;
  const FleetPlan& plan_;
  metrics::ShardRecorder& recorder_;
  net::ShardIo io_;
  TimerWheel wheel_;
  uint32_t backend_timers_, slot_timers_;
  device::DevicePool devices_;
  backend::BackendPool backends_;
  Correlator correlator_;
  Oracle oracle_;
  net::SteadyTimer timer_;
  MonoTime timer_at_ = MonoTime::max();

  scenario::Sources sources_;
  bool starting_ = false;  // what ends now was not even sent
  Findings findings_;
  MonoTime accounted_at_{};
  Nanos cpu_accounted_{0};
  uint64_t bytes_in_accounted_ = 0, bytes_out_accounted_ = 0;
  bool stopping_ = false;
};

}  // namespace twinstorm::run
