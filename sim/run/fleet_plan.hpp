// From the scenario's words to what devices and back ends execute: made once per run, read by every shard.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/backend/backend_pool.hpp"
#include "sim/device/behavior.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::run {

/// The resolved scenario with its behaviours. Immutable while shards run; outlives them.
struct FleetPlan {
  scenario::Scenario scenario;
  metrics::RecorderLayout layout;
  std::vector<device::FleetBehavior> fleets;
  std::vector<backend::BackendBehavior> backends;

  /// The fleet that holds a device of the run.
  uint32_t fleet_of(DeviceIndex device) const;
};

std::unique_ptr<const FleetPlan> make_fleet_plan(scenario::Scenario resolved);

}  // namespace twinstorm::run
