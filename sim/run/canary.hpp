// The canary: one more device, on Paho MQTT C++ instead of our own client, that does what a fleet does during recorded
// phases and times it with its own stopwatch. The report sets its percentiles beside the fleet's, so that our own
// measuring is checked in every run by somebody else's client.
//
// It has a thread and a loop of its own beside Paho's two, a device of its own (`<run>-canary`, deleted afterwards),
// its own histograms and its own books; the runner takes its operations out of the hub's counts before it compares
// them. Each operation comes a few times a second at random (Poisson) moments, whether earlier ones were answered or
// not: such arrivals see the hub as it is on average over time (R. W. Wolff, "Poisson Arrivals See Time Averages",
// Operations Research 30, 1982), and they do not fall into step with the load. Moments are taken right before a request
// is given to Paho and first thing in Paho's callback, on Paho's thread.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "metrics/aggregator.hpp"
#include "metrics/canary.hpp"
#include "sim/run/control.hpp"
#include "sim/run/fleet_plan.hpp"
#include "sim/transport/paho/paho_client.hpp"

namespace twinstorm::run {

/// What it measures. `delivery`: a desired patch, sent by the canary's own back-end client until the device holds it;
/// the device then answers with a report, which counts as one.
enum class CanaryOp : uint8_t { get_twin, report, telemetry, delivery, kCount };
inline constexpr size_t kCanaryOps = static_cast<size_t>(CanaryOp::kCount);
/// `getTwin report telemetry delivery`.
std::string_view to_string(CanaryOp op);

/// What it does in one phase.
struct CanaryPhase {
  std::array<bool, kCanaryOps> does{};
  std::array<bool, kCanaryOps> compares{};  ///< also `report` with `delivery` alone: a patch is answered with one
  /// The loads whose changes over the phase the canary follows: else the two would weigh a slow moment differently.
  std::array<std::vector<scenario::LoadShape>, kCanaryOps> shapes{};
  std::optional<uint32_t> backend;  ///< whose patches it copies for `delivery`
  bool idle() const;
  /// The share of the canary's own rate that is right at `t` after the start of the phase, 0 to 1.
  double share_at(CanaryOp op, Nanos t) const;
};
/// Which fleet it mirrors (the largest) and what in each phase: the operations of that fleet that the phase's load
/// names, `delivery` where a back end patches it, nothing in phases that are not recorded. What the fleet does at other
/// moments than the load says is left out, because nothing of it can be compared: closed-loop loads, and `getTwin` and
/// `report` while devices connect or come back, who all read their twin and report then.
struct CanaryPlan {
  uint32_t fleet = 0;
  std::vector<CanaryPhase> phases;
};
CanaryPlan make_canary_plan(const scenario::Scenario& scenario);

/// `<run>-canary` with everything that a device id may not hold replaced, at most 128 characters.
std::string canary_device_id(std::string_view run);

class Canary {
 public:
  struct Config {
    std::string device_id;
    transport::LinkTarget target;
    transport::PahoLink link;
    const FleetPlan* plan = nullptr;
    double per_second = 5;  ///< of each operation
  };

  /// Registers the device, blocking; an error is no reason to give up the run. `hub`, `authority` and `clock` outlive
  /// the canary.
  static Result<std::unique_ptr<Canary>> create(Config config, const HubLink& hub, const device::Authority& authority,
                                                const Clock& clock);
  /// Why a run that asked for a canary has none.
  static metrics::CanaryRecord absent(std::string device_id, const Error& error);
  ~Canary();

  // From the main thread.
  void start();
  /// Blocks until it is connected or cannot be, but not longer than `limit`.
  void wait_connected(Nanos limit) const;
  void begin_phase(metrics::PhaseIndex phase, MonoTime start);
  /// Starts nothing any more; what is in flight goes on. Then it says goodbye, and its thread ends by itself.
  void finish(MonoTime at);
  /// Blocks until nothing of it can reach the hub any more: at most until its last operation's deadline.
  void wait();

  // After `wait`.
  metrics::CanaryRecord record(const metrics::Totals& totals) const;
  /// What the hub counted because of the canary, by the names of the hub's counts: certainly, and perhaps.
  struct HubShare {
    uint64_t certain = 0, perhaps = 0;
  };
  HubShare hub_share(std::string_view hub_count) const;
  /// Takes the device out of the registry, blocking.
  void remove_device();

 private:
  class Loop;
  Canary(Config config, const HubLink& hub, const device::Authority& authority, const Clock& clock);

  Config config_;
  const HubLink& hub_;
  std::unique_ptr<Loop> loop_;
  std::thread thread_;
  std::atomic<bool> connected_{false};  // or failed to
  std::atomic<bool> quiet_{false};
  bool removed_ = false;  // out of the registry
};

}  // namespace twinstorm::run
