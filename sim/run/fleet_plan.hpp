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
  void append_device_id(DeviceIndex device, std::string& out) const;
  std::string device_id(DeviceIndex device) const;
  /// Registered by somebody else: the run uses it and never registers it.
  bool registered_before(DeviceIndex device) const { return !fleets[fleet_of(device)].identities.empty(); }
};

/// Identities of the fleets that name connection strings, by fleet; empty for the others.
using Identities = std::vector<std::vector<device::KnownIdentity>>;
/// Reads the files and environment variables that `connectionStrings` of the fleets name. Errors say which line of
/// which source is wrong and never repeat a key.
Result<Identities> read_identities(const scenario::Scenario& scenario);

/// `certificates` by fleet, as `make_certificates` makes them (certificates.hpp); may be empty without X.509.
std::unique_ptr<const FleetPlan> make_fleet_plan(scenario::Scenario resolved, Identities identities = {},
                                                 std::vector<device::FleetCertificates> certificates = {});

}  // namespace twinstorm::run
