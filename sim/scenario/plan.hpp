// A scenario with every default filled in, and what running it will take.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/base/ids.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::scenario {

/// Fills in defaults: shapes, timeouts, connections, fleet layout, and a phase that connects devices nobody connects
/// before they are needed. Resolving twice changes nothing. `shards` matters for connections per shard only.
Scenario resolve(const Scenario& scenario, ShardId shards = 1);

/// Expected work of one stream in one phase.
struct PlannedLoad {
  uint32_t stream = 0;
  std::string name;
  std::string model;  ///< `constant 50/s`, `ramp 0/s to 500/s, Poisson`, `closed, 100 in flight`
  bool closed = false;
  double arrivals = 0;   ///< over the phase; 0 when closed or when the phase has no fixed end
  double peak_rate = 0;  ///< per second
};

struct PlannedPhase {
  std::string name;
  bool record = true;
  double seconds = 0;          ///< planned duration; for `until`, what the connect load needs or 0
  double timeout_seconds = 0;  ///< 0 when it has a duration
  std::string ends;            ///< `after 30 s`, `when 100% converged, at most 1 min`
  uint64_t connects = 0;       ///< devices connected by the phase
  double connect_rate = 0;
  uint64_t disconnects = 0;
  std::vector<PlannedLoad> load;
};

/// What the machine must provide. Estimates, from constants measured in bench/footprint; report writing not counted.
struct PlannedCost {
  uint64_t mqtt_connections = 0;
  uint64_t http_connections = 0;  ///< over all shards
  uint64_t descriptors = 0;       ///< of the generator's process
  ByteCount device_heap = 0;
  ByteCount socket_kernel = 0;
  ByteCount recorder = 0;  ///< address space of the histograms; untouched pages are not resident
  ByteCount total = 0;
};

struct Plan {
  Scenario scenario;  ///< resolved
  ShardId shards = 1;
  uint64_t devices = 0;
  std::vector<PlannedPhase> phases;
  PlannedCost cost;
  double fixed_seconds = 0;        ///< sum of the planned durations
  double longest_seconds = 0;      ///< with every `until` running into its timeout
  std::vector<std::string> notes;  ///< for people: things that are legal and perhaps not meant
};

/// Resolves and adds up.
Plan make_plan(const Scenario& scenario, ShardId shards = 1);

std::string plan_text(const Plan& plan);  ///< for people, 100 columns
std::string plan_json(const Plan& plan);  ///< schema `twinstorm/plan/1`, durations in seconds
/// The resolved scenario as YAML: loading it again gives the same plan. Holds the target as written, so secrets in a
/// literal connection string are masked (such a file then asks for `env:IOTHUB_CONNECTION_STRING`).
std::string resolved_yaml(const Scenario& resolved);

}  // namespace twinstorm::scenario
