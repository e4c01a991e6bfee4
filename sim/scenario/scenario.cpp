#include "sim/scenario/scenario.hpp"

#include <algorithm>
#include <utility>

#include "sim/base/assert.hpp"

namespace twinstorm::scenario {

const char* to_string(TransportKind kind) {
  switch (kind) {
    case TransportKind::mqtt:
      return "mqtt";
    case TransportKind::mqttws:
      return "mqttws";
  }
  return "mqtt";
}

const char* to_string(Engine engine) {
  switch (engine) {
    case Engine::native:
      return "native";
    case Engine::paho:
      return "paho";
  }
  return "native";
}

const char* to_string(Tls::Version version) {
  switch (version) {
    case Tls::Version::any:
      return "any";
    case Tls::Version::v1_2:
      return "1.2";
    case Tls::Version::v1_3:
      return "1.3";
  }
  return "any";
}

const char* to_string(AuthKind kind) {
  switch (kind) {
    case AuthKind::sas:
      return "sas";
    case AuthKind::x509_selfsigned:
      return "x509-selfsigned";
    case AuthKind::x509_ca:
      return "x509-ca";
  }
  return "sas";
}

const char* to_string(Invariant invariant) {
  switch (invariant) {
    case Invariant::no_lost_updates:
      return "noLostUpdates";
    case Invariant::versions_monotonic:
      return "versionsMonotonic";
    case Invariant::final_state_matches:
      return "finalStateMatches";
    case Invariant::no_duplicates:
      return "noDuplicates";
  }
  return "noLostUpdates";
}

const char* to_string(BackendGroup::IfMatch policy) {
  switch (policy) {
    case BackendGroup::IfMatch::any:
      return "any";
    case BackendGroup::IfMatch::last_seen:
      return "lastSeen";
    case BackendGroup::IfMatch::read_modify_write:
      return "readModifyWrite";
  }
  return "any";
}

bool BackendGroup::works_on_devices() const {
  using metrics::OpKind;
  return op == OpKind::patch_desired || op == OpKind::patch_tags || op == OpKind::replace_twin ||
         op == OpKind::backend_get_twin || op == OpKind::method;
}

uint32_t Scenario::device_count() const {
  uint32_t sum = 0;
  for (const auto& fleet : fleets) sum += fleet.count;
  return sum;
}

namespace {
constexpr metrics::OpKind kFleetOperations[Scenario::kStreamsPerFleet] = {
    metrics::OpKind::connect, metrics::OpKind::get_twin, metrics::OpKind::report, metrics::OpKind::telemetry,
    metrics::OpKind::renew_token};
}  // namespace

bool Scenario::uses_tls() const {
  return std::any_of(fleets.begin(), fleets.end(), [](const Fleet& fleet) { return fleet.tls.on(); }) ||
         std::any_of(backends.begin(), backends.end(), [](const auto& group) { return group.tls.value_or(false); });
}

std::vector<metrics::StreamSpec> Scenario::streams() const {
  std::vector<metrics::StreamSpec> out;
  for (const auto& fleet : fleets) {
    for (const auto kind : kFleetOperations) {
      out.push_back({fleet.name + "." + std::string{metrics::to_string(kind)}, kind, fleet.name,
                     scenario::to_string(fleet.transport)});
    }
  }
  for (const auto& backend : backends) out.push_back({backend.name, backend.op, backend.name, "http"});
  return out;
}

uint32_t Scenario::fleet_stream(uint32_t fleet, metrics::OpKind kind) const {
  const auto at = std::find(std::begin(kFleetOperations), std::end(kFleetOperations), kind);
  TS_ASSERT(fleet < fleets.size() && at != std::end(kFleetOperations));
  return fleet * kStreamsPerFleet + static_cast<uint32_t>(at - std::begin(kFleetOperations));
}

uint32_t Scenario::fleet_of_stream(uint32_t stream) const {
  if (!is_backend_stream(stream)) return stream / kStreamsPerFleet;
  const auto& backend = backends.at(backend_of_stream(stream));
  return backend.works_on_devices() ? backend.fleet : 0;
}

metrics::RecorderLayout Scenario::recorder_layout() const {
  metrics::RecorderLayout layout{streams(), {}};
  for (const auto& phase : phases) layout.phases.push_back({phase.name, phase.record});
  for (const auto& backend : backends) {
    if (backend.staleness.share <= 0) continue;
    layout.staleness_resolution = std::max(layout.staleness_resolution.value_or(Nanos{0}), backend.staleness.every);
  }
  return layout;
}

bool Scenario::checks(Invariant invariant) const {
  return std::find(invariants.begin(), invariants.end(), invariant) != invariants.end();
}

LoadShape make_shape(const ShapeSpec& spec, uint64_t devices, Nanos length) {
  const double factor = spec.per_device ? static_cast<double>(devices) : 1;
  const auto total = [factor](Rate rate) { return Rate{rate.per_second * factor}; };
  LoadShape shape;
  switch (spec.kind) {
    case ShapeSpec::Kind::constant:
      shape = LoadShape::constant(total(spec.rate), length);
      break;
    case ShapeSpec::Kind::ramp:
      shape = LoadShape::ramp(total(spec.from), total(spec.to), spec.over.value_or(length), length);
      break;
    case ShapeSpec::Kind::steps: {
      auto steps = spec.steps;
      for (auto& step : steps) step.rate = total(step.rate);
      shape = LoadShape::steps(steps, length);
      break;
    }
    case ShapeSpec::Kind::spike:
      shape = LoadShape::spike(total(spec.rate), total(spec.peak), spec.at, spec.hold, length);
      break;
    case ShapeSpec::Kind::sine:
      shape = LoadShape::sine(total(spec.rate), total(spec.peak), spec.period, length);
      break;
    case ShapeSpec::Kind::trace:
      shape = spec.trace.shape(spec.scale, length);
      break;
  }
  return std::move(shape.set_poisson(spec.poisson));
}

std::optional<DeviceIndex> connect_target(const Scenario& scenario, const ConnectSpec& connect, uint64_t n) {
  for (const auto index : connect.fleets) {
    const auto& fleet = scenario.fleets[index];
    if (n < fleet.count) return fleet.first + static_cast<DeviceIndex>(n);
    n -= fleet.count;
  }
  return std::nullopt;
}

}  // namespace twinstorm::scenario
