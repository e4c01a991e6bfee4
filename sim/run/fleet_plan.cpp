#include "sim/run/fleet_plan.hpp"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::run {
namespace {

std::function<void(Rng&, uint64_t, std::string&)> renderer(const scenario::ValueTemplate& value) {
  if (value.empty()) return {};
  return [value](Rng& rng, uint64_t n, std::string& out) { value.render(rng, n, out); };
}

device::Listener listener(const scenario::DesiredListener& from) {
  using Report = scenario::DesiredListener::Report;
  device::Listener to;
  to.path = from.path;
  if (!from.delay.is_zero()) to.delay = [delay = from.delay](Rng& rng) { return delay.sample(rng); };
  to.failure = from.failure;
  to.report = from.report == Report::none   ? device::Listener::Report::none
              : from.report == Report::echo ? device::Listener::Report::echo
                                            : device::Listener::Report::values;
  to.values = renderer(from.values);
  return to;
}

backend::IfMatch if_match_of(scenario::BackendGroup::IfMatch policy) {
  switch (policy) {
    case scenario::BackendGroup::IfMatch::any:
      return backend::IfMatch::any;
    case scenario::BackendGroup::IfMatch::last_seen:
      return backend::IfMatch::last_seen;
    case scenario::BackendGroup::IfMatch::read_modify_write:
      return backend::IfMatch::read_modify_write;
  }
  return backend::IfMatch::any;
}

backend::BackendBehavior behavior_of(const scenario::Scenario& scenario, uint32_t index) {
  const auto& from = scenario.backends[index];
  backend::BackendBehavior to;
  to.name = from.name;
  to.op = from.op;
  to.stream = scenario.backend_stream(index);
  to.desired = renderer(from.patch);
  to.tags = renderer(from.tags);
  to.if_match = if_match_of(from.if_match);
  to.retries = {from.retries.max, from.retries.initial, from.retries.longest,
                from.retries.jitter == scenario::Reconnect::Jitter::full};
  to.staleness = {from.staleness.share, from.staleness.every, from.staleness.timeout};
  to.query = from.sql;
  to.page_size = from.page_size;
  to.all_pages = from.pages == scenario::BackendGroup::Pages::all;
  to.method_name = from.method_name;
  to.payload = renderer(from.payload);
  to.response_timeout = from.response_timeout;
  to.connect_timeout = from.connect_timeout;
  if (from.creates_devices() || from.deletes_devices()) {
    const auto& creator = from.creates_devices() ? from : scenario.backends[from.creator];
    to.append_new_device_id = [pattern = creator.device_id](std::string& out, uint64_t number) {
      pattern.append(out, number);
    };
  }
  to.creator = from.creator;
  to.creates = from.creates_devices();
  to.size = from.size;
  to.condition = from.condition;
  to.poll = from.poll;
  to.max_execution_time = from.max_execution_time;
  to.timeout = from.timeout;
  to.connections = from.connections;
  to.tls = from.tls.value_or(false);
  return to;
}

}  // namespace

uint32_t FleetPlan::fleet_of(DeviceIndex device) const {
  for (uint32_t i = 0; i < scenario.fleets.size(); ++i) {
    if (scenario.fleets[i].holds(device)) return i;
  }
  return 0;
}

void FleetPlan::append_device_id(DeviceIndex device, std::string& out) const {
  const auto& fleet = fleets[fleet_of(device)];
  fleet.append_device_id(out, device - fleet.first);
}

std::string FleetPlan::device_id(DeviceIndex device) const {
  std::string id;
  append_device_id(device, id);
  return id;
}

Result<Identities> read_identities(const scenario::Scenario& scenario) {
  Identities all(scenario.fleets.size());
  for (size_t i = 0; i < scenario.fleets.size(); ++i) {
    const auto& fleet = scenario.fleets[i];
    const auto& source = fleet.connection_strings;
    if (source.empty()) continue;
    const auto fail = [&](const std::string& what) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("fleet \"{}\": connectionStrings: {}", fleet.name, what));
    };
    std::stringstream text;
    if (source.starts_with("env:")) {
      const char* value = std::getenv(source.substr(4).c_str());
      if (value == nullptr) return fail(fmt::format("the environment variable {} is not set", source.substr(4)));
      text << value;
    } else {
      std::ifstream file{source};
      if (!file) return fail(fmt::format("cannot read {}: {}", source, std::strerror(errno)));
      text << file.rdbuf();
    }
    std::string line;
    for (int number = 1; all[i].size() < fleet.count && std::getline(text, line); ++number) {
      while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
      if (line.empty() || line.front() == '#') continue;
      const auto parsed = protocol::parse_connection_string(line);
      const auto key =
          parsed ? protocol::base64_decode(parsed->shared_access_key) : Result<std::string>{parsed.error()};
      if (!key) return fail(fmt::format("{} line {}: {}", source, number, key.error().message));
      if (parsed->device_id.empty() || key->empty()) {
        return fail(
            fmt::format("{} line {}: a device connection string has DeviceId and SharedAccessKey", source, number));
      }
      all[i].push_back({parsed->device_id, *key});
    }
    if (all[i].size() < fleet.count) {
      return fail(fmt::format("{} has {} connection strings and the fleet wants {} devices", source, all[i].size(),
                              fleet.count));
    }
  }
  return all;
}

std::unique_ptr<const FleetPlan> make_fleet_plan(scenario::Scenario resolved, Identities identities,
                                                 std::vector<device::FleetCertificates> certificates) {
  auto plan = std::make_unique<FleetPlan>();
  plan->scenario = std::move(resolved);
  const auto& scenario = plan->scenario;
  plan->layout = scenario.recorder_layout();
  for (uint32_t i = 0; i < scenario.fleets.size(); ++i) {
    const auto& from = scenario.fleets[i];
    device::FleetBehavior to;
    to.name = from.name;
    to.first = from.first;
    to.count = from.count;
    if (i < identities.size() && !identities[i].empty()) {
      to.identities = std::move(identities[i]);
      auto ids = std::make_shared<std::vector<std::string>>();
      for (const auto& known : to.identities) ids->push_back(known.id);
      to.append_device_id = [ids](std::string& out, uint32_t index) { out += (*ids)[index]; };
    } else {
      to.append_device_id = [pattern = from.device_id](std::string& out, uint32_t index) {
        pattern.append(out, index);
      };
    }
    if (i < certificates.size()) to.certificates = std::move(certificates[i]);
    to.token = {from.tokens.lifetime, from.tokens.renew_before, from.tokens.jitter};
    to.websocket = from.transport == scenario::TransportKind::mqttws;
    using transport::Subscriptions;
    if (from.methods) to.subscriptions = to.subscriptions | Subscriptions::methods;
    if (from.c2d) to.subscriptions = to.subscriptions | Subscriptions::devicebound;
    for (const auto& each : from.on_desired) to.listeners.push_back(listener(each));
    to.reported = renderer(from.reported);
    to.telemetry = {from.telemetry.every, from.telemetry.jitter, static_cast<uint32_t>(from.telemetry.size)};
    to.retry = {from.reconnect.enabled, from.reconnect.initial, from.reconnect.max,
                from.reconnect.jitter == scenario::Reconnect::Jitter::full};
    to.keep_alive = from.keep_alive;
    to.timeout = from.timeout;
    to.connect_stream = scenario.fleet_stream(i, metrics::OpKind::connect);
    to.get_twin_stream = scenario.fleet_stream(i, metrics::OpKind::get_twin);
    to.report_stream = scenario.fleet_stream(i, metrics::OpKind::report);
    to.telemetry_stream = scenario.fleet_stream(i, metrics::OpKind::telemetry);
    to.renew_stream = scenario.fleet_stream(i, metrics::OpKind::renew_token);
    plan->fleets.push_back(std::move(to));
  }
  for (uint32_t i = 0; i < scenario.backends.size(); ++i) plan->backends.push_back(behavior_of(scenario, i));
  return plan;
}

}  // namespace twinstorm::run
