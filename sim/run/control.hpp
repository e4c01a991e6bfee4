// The control plane of a run: one-off conversations with the hub before and after the load. Straight-line code that
// blocks; nothing here is measured.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "metrics/run_record.hpp"
#include "sim/backend/service_access.hpp"
#include "sim/device/behavior.hpp"
#include "sim/net/asio.hpp"
#include "sim/net/tls.hpp"
#include "sim/run/fleet_plan.hpp"

namespace twinstorm::run {

/// Where the hub is, resolved, and how to get in.
struct HubLink {
  std::string host;  ///< as dialled, for messages
  std::string host_name;
  net::Endpoint mqtt, http;  ///< port 0 = the hub has none
  backend::ServiceAccess access;
  std::function<bool()> cancelled;  ///< asked now and then; true = stop asking, every open request then ends unanswered
  net::Endpoint mqtts{}, https{};   ///< port 0 = the hub has none
  std::string ca_file{};            ///< where the next came from; empty: the system's CAs
  std::string authorities_pem{};    ///< CAs that its certificate must lead to; empty: the system's
  std::optional<net::TlsContext> tls{};  ///< for HTTPS; set when the hub has it
  bool control_over_tls = false;         ///< which of both these conversations use

  const net::Endpoint& control() const { return control_over_tls ? https : http; }
};

/// `done` of `total`; called now and then from the calling thread.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

/// One request and its answer's body; errors name host, port and reason.
struct ControlAnswer {
  int status = 0;
  std::string body;
};
Result<ControlAnswer> control_get(const HubLink& hub, const std::string& target);
Result<ControlAnswer> control_request(const HubLink& hub, const std::string& method, const std::string& target,
                                      const std::string& body);

/// Every `of`-th device, from `first`: those of one hub among several.
struct Stripe {
  uint32_t first = 0, of = 1;
};

struct Provisioned {
  uint64_t created = 0;
  std::vector<DeviceIndex> existing;  ///< were registered already, by an earlier run: they keep their twins
};
/// Registers the devices of the plan in `stripe` with its tags and its credentials (a key made by `authority`, the
/// thumbprint of its certificate, or the word of a CA), 100 a request. Waits and repeats when the hub throttles.
/// Errors: `unavailable` (no connection), `unauthorized`, `already_exists` (a device of someone else has such an id;
/// its key is never touched), or what the hub said.
Result<Provisioned> provision(const HubLink& hub, const FleetPlan& plan, const device::Authority& authority,
                              Stripe stripe, const Progress& progress = {}, const Progress& throttled = {});

/// Reads the twins of the devices, several at a time, and hands each body over: `visit(position in devices, status,
/// body)`. A twin that cannot be read after retries is handed over with status 0.
Result<void> read_twins(const HubLink& hub, const FleetPlan& plan, const std::vector<DeviceIndex>& devices,
                        const std::function<void(size_t, int, std::string_view)>& visit, const Progress& progress);

/// The embedded hub's own counters by name; an error where the target has none (a real service).
Result<std::map<std::string, uint64_t>> read_hub_counts(const HubLink& hub);

/// From now on an embedded hub holds its clients to the rates and daily messages of its tier, all buckets full. Not
/// called before everything is registered. Does nothing to a hub without a tier.
Result<void> start_tier(const HubLink& hub);

/// What the hub's tier has done since the hub started; nothing where it has no tier, or tells none (a real service).
Result<std::optional<metrics::ThrottlingRecord>> read_throttling(const HubLink& hub);
/// The counts of `after` without those of `before`; percentiles and maxima stay those since the start of the hub.
metrics::ThrottlingRecord throttling_between(const std::optional<metrics::ThrottlingRecord>& before,
                                             metrics::ThrottlingRecord after);

/// Devices that back ends of a run made.
struct MadeDevices {
  std::vector<std::string> known;      ///< ids
  std::vector<std::string> uncertain;  ///< their creation or deletion had no answer
};
/// Removes them, 100 a request; an uncertain one only when it carries the key that `authority` makes for it, so that
/// nobody else's device is touched. Returns how many may still be there. Errors: the hub cannot be reached.
Result<uint64_t> remove_devices(const HubLink& hub, const device::Authority& authority, MadeDevices made);

}  // namespace twinstorm::run
