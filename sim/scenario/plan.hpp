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

/// An event of a phase, for a share of the devices.
struct PlannedEvent {
  std::string what;  ///< `report`
  std::string when;  ///< `over 2 s, after 5 s`
  uint64_t devices = 0;
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
  std::vector<PlannedEvent> events;
  std::vector<PlannedLoad> load;
};

/// One listener of the hub that devices connect to.
struct PlannedDestination {
  std::string port;          ///< `MQTT`, `MQTTS`, `HTTP`, `HTTPS`
  uint64_t connections = 0;  ///< to one hub process: each needs a port of its own on the address it comes from
};

/// What the machine must provide. Estimates, from constants measured in bench/footprint; report writing not counted.
/// sim/run/machine.hpp compares them with what there is.
struct PlannedCost {
  uint64_t mqtt_connections = 0;
  uint64_t http_connections = 0;  ///< over all shards
  unsigned workers = 1;           ///< processes of the generator that share the devices
  uint64_t worker_devices = 0;    ///< of the one with most
  uint64_t descriptors = 0;       ///< the same one's: devices, HTTP connections, files
  uint32_t hub_processes = 0;     ///< started by the run; 0: the hub is there already
  uint64_t hub_descriptors = 0;   ///< of each
  std::vector<PlannedDestination> destinations;
  bool loopback = false;          ///< the hub is reached at 127.0.0.0/8; known here only of a hub that the run starts
  uint64_t source_addresses = 0;  ///< given by the scenario; 0: chosen by the run or the system
  double connect_rate = 0;        ///< most connects per second
  uint64_t busy_threads = 0;      ///< shards of all workers and of the hubs
  ByteCount device_heap = 0;
  ByteCount socket_kernel = 0;  ///< of connections; both ends when the run starts the hub
  ByteCount recorder = 0;       ///< address space of the histograms; untouched pages are not resident
  ByteCount hub_heap = 0;       ///< twins and connections, all hub processes
  ByteCount processes = 0;      ///< what the processes take before there is any device
  ByteCount total = 0;          ///< of the above, without untouched histograms
};

struct Plan {
  Scenario scenario;   ///< resolved
  ShardId shards = 1;  ///< of all workers together
  unsigned workers = 1;
  uint64_t devices = 0;
  std::vector<PlannedPhase> phases;
  PlannedCost cost;
  double fixed_seconds = 0;        ///< sum of the planned durations
  double longest_seconds = 0;      ///< with every `until` running into its timeout
  std::vector<std::string> notes;  ///< for people: things that are legal and perhaps not meant
};

/// Resolves and adds up. `shards` are those of all `workers` processes together.
Plan make_plan(const Scenario& scenario, ShardId shards = 1, unsigned workers = 1);

std::string plan_text(const Plan& plan);  ///< for people, 100 columns
std::string plan_json(const Plan& plan);  ///< schema `twinstorm/plan/1`, durations in seconds
/// The resolved scenario as YAML: loading it again gives the same plan. Holds the target as written, so secrets in a
/// literal connection string are masked (such a file then asks for `env:IOTHUB_CONNECTION_STRING`).
std::string resolved_yaml(const Scenario& resolved);

}  // namespace twinstorm::scenario
