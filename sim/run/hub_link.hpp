// Where the hub of a run is, and how each fleet connects to it: addresses, trusted CAs, TLS contexts.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/run/control.hpp"
#include "sim/run/hub_process.hpp"
#include "sim/scenario/scenario.hpp"
#include "sim/transport/device_transport.hpp"
#include "sim/transport/paho/paho_client.hpp"

namespace twinstorm::run {

/// The address of a hub that is there already (`target` is not embedded); reads the ready file or the environment
/// variable that the target names.
Result<HubAddress> find_target(const scenario::Target& target);

/// Which listeners a hub of the run's own needs for this scenario.
struct NeededPorts {
  bool mqtts = false, https = false;
};
NeededPorts needed_ports(const scenario::Scenario& scenario);

/// Resolves the names, reads the CAs. The control plane uses HTTP without TLS where the hub has it and the target does
/// not ask for TLS, else HTTPS. Errors name host, port or file.
Result<HubLink> make_hub_link(const HubAddress& address, std::function<bool()> cancelled);

/// How each fleet connects; the targets point into `contexts`, so both live as long as the shards.
struct FleetLinks {
  std::vector<transport::LinkTarget> targets;              ///< by fleet
  std::vector<std::unique_ptr<net::TlsContext>> contexts;  ///< by fleet; null without TLS
};
/// Errors name the fleet, or the back end, and what the hub lacks.
Result<FleetLinks> make_fleet_links(const HubLink& hub, const scenario::Scenario& scenario);

/// One hub of a run and all it takes to use it. Device i of the plan lives at site i mod N. Shards hold on to it.
struct HubSite {
  HubLink hub;
  FleetLinks links;
  device::Authority authority;
};

/// How Paho reaches the hub the way this fleet does: the canary, and fleets with `engine: paho`.
transport::PahoLink paho_link(const HubLink& hub, const scenario::Fleet& fleet);

/// Whether the hub answers where the fleets will connect, down to TLS and WebSocket, each way once. The error names
/// host, port, the problem and the fix.
Result<void> check_fleet_links(const HubLink& hub, const scenario::Scenario& scenario, const FleetLinks& links);

}  // namespace twinstorm::run
