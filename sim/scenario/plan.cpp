#include "sim/scenario/plan.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/scenario/detail/backend_reader.hpp"
#include "sim/scenario/detail/text.hpp"
#include "sim/scenario/source_addresses.hpp"

namespace twinstorm::scenario {
namespace {

using metrics::OpKind;
using std::chrono::seconds;

constexpr Rate kConnectRate{500};
constexpr uint16_t kMqttPort = 1883, kMqttsPort = 8883, kHttpPort = 80, kHttpsPort = 443;
constexpr Nanos kPatience = seconds{30};  // on top of what connecting needs by its own rate
constexpr Nanos kConvergePatience = seconds{60};
constexpr Nanos kMethodPatience = seconds{5};  // on top of what the hub gives the device
constexpr Nanos kJobTimeout = std::chrono::minutes{5};
constexpr Nanos kLongestTimeout = std::chrono::hours{24 * 30};  // what a scenario may say
// An HTTP/1.1 connection carries one request at a time, so rate x latency is how many are busy. A hub beside the
// generator answers in about a millisecond; a remote one in tens. Twice the need keeps a slow second from queueing in
// the client.
constexpr double kExpectedHttpSeconds = 0.020;
constexpr double kConnectionHeadroom = 2;
constexpr uint32_t kMinConnections = 2;
constexpr uint32_t kMaxConnections = 512;
// bench/footprint measures the heap; the kernel's part is struct tcp_sock, file, dentry, inode and the epoll entry, by
// the growth of its slabs with scenarios/scale-18k.yaml, as is the hub's by its resident memory.
constexpr ByteCount kDeviceHeapBytes = 610;
constexpr ByteCount kWebSocketHeapBytes = 100;
constexpr ByteCount kTlsHeapBytes = 20'000;
constexpr ByteCount kCertificateHeapBytes = 1024;  // of a device, as PEM; the key is the fleet's
constexpr ByteCount kSessionHeapBytes = 1536;      // kept for resumption
constexpr ByteCount kPahoHeapBytes = 4400;
constexpr ByteCount kSocketKernelBytes = 5 * 1024;
constexpr ByteCount kModelHeapBytes = 512;           // of a twin, kept by the run for `finalStateMatches`
constexpr ByteCount kHubDeviceHeapBytes = 4 * 1024;  // identity, twin, session and connection
constexpr ByteCount kProcessBytes = 24ull * 1024 * 1024;
constexpr uint64_t kOtherDescriptors = 64;
constexpr uint64_t kHistogramsPerCell = 2;
constexpr uint64_t kHistogramsPerPhase = 7;
constexpr ByteCount kHistogramBytes = 23'552 * 8;
// A percentile needs this many samples beyond it (the rule of SLOs and reports).
constexpr double kSamplesBeyond = 10;

uint64_t devices_of(const Scenario& s, const std::vector<uint32_t>& fleets) {
  uint64_t sum = 0;
  for (const auto index : fleets) sum += s.fleets[index].count;
  return sum;
}

std::vector<uint32_t> all_fleets(const Scenario& s) {
  std::vector<uint32_t> all(s.fleets.size());
  for (uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

/// Whether a phase makes no sense with devices that are offline.
bool needs_devices(const Scenario& s, const Phase& phase) {
  if (phase.disconnect || !phase.events.empty()) return true;
  const bool waits = phase.until && (phase.until->kind == Until::Kind::converged ||
                                     phase.until->kind == Until::Kind::devices_connected);
  if (waits && !phase.connect) return true;
  return std::any_of(phase.load.begin(), phase.load.end(), [&](const LoadEntry& entry) {
    if (!s.is_backend_stream(entry.stream)) return true;
    const auto op = s.backends[s.backend_of_stream(entry.stream)].op;
    return op == OpKind::patch_desired || op == OpKind::replace_twin || op == OpKind::method;
  });
}

/// Puts a connecting phase in front of the first phase that needs devices nobody has connected.
void add_connect_phases(Scenario& s) {
  std::set<uint32_t> connected;
  for (size_t i = 0; i < s.phases.size(); ++i) {
    if (auto& connect = s.phases[i].connect) {
      if (connect->fleets.empty()) connect->fleets = all_fleets(s);
      connected.insert(connect->fleets.begin(), connect->fleets.end());
    }
    if (!needs_devices(s, s.phases[i]) || connected.size() == s.fleets.size()) continue;
    Phase added;
    added.connect.emplace();
    added.connect->spec.rate = kConnectRate;
    for (const auto fleet : all_fleets(s)) {
      if (connected.insert(fleet).second) added.connect->fleets.push_back(fleet);
    }
    const auto taken = [&](const std::string& name) {
      return std::any_of(s.phases.begin(), s.phases.end(), [&](const Phase& p) { return p.name == name; });
    };
    added.name = "connect";
    for (int n = 2; taken(added.name); ++n) added.name = fmt::format("connect-{}", n);
    s.phases.insert(s.phases.begin() + static_cast<std::ptrdiff_t>(i), std::move(added));
    ++i;
  }
}

Nanos connect_time(const Scenario& s, const ConnectSpec& connect) {
  const auto devices = devices_of(s, connect.fleets);
  const auto last = connect.shape.due_at(devices == 0 ? 0 : devices - 1);
  return last == Nanos::max() ? Nanos{0} : last;
}

void resolve_phase(const Scenario& s, Phase& phase) {
  if (!phase.duration && !phase.until) phase.until = Until{Until::Kind::devices_connected, 1.0};
  const auto complete = [&](ShapeSpec& spec) {
    if (spec.kind == ShapeSpec::Kind::ramp && !spec.over && phase.duration) spec.over = phase.duration;
  };
  if (phase.connect) {
    complete(phase.connect->spec);
    phase.connect->shape = make_shape(phase.connect->spec, 1, phase.length());
  }
  for (auto& entry : phase.load) {
    if (entry.closed()) continue;
    complete(entry.spec);
    entry.shape = make_shape(entry.spec, s.fleets[s.fleet_of_stream(entry.stream)].count, phase.length());
  }
  if (phase.disconnect && phase.disconnect->fleets.empty()) phase.disconnect->fleets = all_fleets(s);
  for (auto& event : phase.events) {
    if (event.fleets.empty()) event.fleets = all_fleets(s);
  }
  if (phase.until && phase.timeout == Nanos{0}) {
    phase.timeout = phase.connect ? connect_time(s, *phase.connect) + kPatience : kConvergePatience;
    // Whole seconds read better, and the number only has to be generous.
    phase.timeout = std::min<Nanos>(std::chrono::ceil<seconds>(phase.timeout), kLongestTimeout);
  }
}

struct Demand {
  double rate = 0;
  uint32_t concurrency = 0;
};

/// The most a stream asks in any phase.
Demand demand_of(const Scenario& s, uint32_t stream) {
  Demand most;
  for (const auto& phase : s.phases) {
    for (const auto& entry : phase.load) {
      if (entry.stream != stream) continue;
      most.rate = std::max(most.rate, entry.closed() ? 0 : entry.shape.peak_rate().per_second);
      most.concurrency = std::max(most.concurrency, entry.concurrency);
    }
  }
  return most;
}

std::string rate_text(Rate rate, bool per_device) { return format_rate(rate) + (per_device ? "/device" : ""); }

std::string describe(const LoadEntry& entry) {
  if (entry.closed()) {
    auto closed = fmt::format("closed, {} in flight", format_count(entry.concurrency));
    if (!entry.think.is_zero()) closed += fmt::format(", resting {}", entry.think.to_yaml());
    return closed;
  }
  const auto& spec = entry.spec;
  const auto rate = [&](Rate r) { return rate_text(r, spec.per_device); };
  std::string text;
  switch (spec.kind) {
    case ShapeSpec::Kind::constant:
      text = "constant " + rate(spec.rate);
      break;
    case ShapeSpec::Kind::ramp:
      text = fmt::format("ramp {} to {} over {}", rate(spec.from), rate(spec.to),
                         format_duration(spec.over.value_or(Nanos{0})));
      break;
    case ShapeSpec::Kind::steps: {
      text = "steps";
      for (size_t i = 0; i < spec.steps.size() && i < 4; ++i) text += " " + rate(spec.steps[i].rate);
      if (spec.steps.size() > 4) text += " ...";
      break;
    }
    case ShapeSpec::Kind::spike:
      text = fmt::format("{} with {} at {} for {}", rate(spec.rate), rate(spec.peak), format_duration(spec.at),
                         format_duration(spec.hold));
      break;
    case ShapeSpec::Kind::sine:
      text = fmt::format("sine {} +- {} every {}", rate(spec.rate), rate(spec.peak), format_duration(spec.period));
      break;
    case ShapeSpec::Kind::trace:
      text = fmt::format("trace of {}", spec.trace.describe());
      if (spec.scale != 1) text += fmt::format(", {:.4g} times", spec.scale);
      break;
  }
  return spec.poisson ? text + ", Poisson" : text;
}

std::string percent(double share) { return detail::exact_share(share); }

std::string ends_text(const Phase& phase) {
  if (phase.duration) return "after " + format_duration(*phase.duration);
  const auto& until = *phase.until;
  std::string what;
  switch (until.kind) {
    case Until::Kind::converged:
      what = percent(until.share) + " converged";
      break;
    case Until::Kind::devices_connected:
      what = percent(until.share) + " connected";
      break;
    case Until::Kind::operations:
      what = fmt::format("{} operations ended", format_count(until.count));
      break;
    case Until::Kind::quiet:
      what = fmt::format("quiet for {}", format_duration(until.quiet));
      break;
  }
  return fmt::format("when {}, at most {}", what, format_duration(phase.timeout));
}

PlannedPhase plan_phase(const Scenario& s, const std::vector<metrics::StreamSpec>& streams, const Phase& phase) {
  PlannedPhase out;
  out.name = phase.name;
  out.record = phase.record;
  out.ends = ends_text(phase);
  if (phase.duration) out.seconds = to_seconds(*phase.duration);
  if (phase.until) out.timeout_seconds = to_seconds(phase.timeout);
  if (phase.connect) {
    const auto devices = devices_of(s, phase.connect->fleets);
    const auto& shape = phase.connect->shape;
    out.connects = phase.duration ? std::min<uint64_t>(shape.arrivals(), devices) : devices;
    out.connect_rate = shape.peak_rate().per_second;
    if (!phase.duration) out.seconds = to_seconds(connect_time(s, *phase.connect));
  }
  if (phase.disconnect) {
    const auto devices = static_cast<double>(devices_of(s, phase.disconnect->fleets));
    out.disconnects = static_cast<uint64_t>(std::llround(devices * phase.disconnect->share));
  }
  for (const auto& event : phase.events) {
    const auto devices = static_cast<double>(devices_of(s, event.fleets));
    auto when = event.over > Nanos{0} ? "over " + format_duration(event.over) : std::string{"at once"};
    if (event.after > Nanos{0}) when += ", after " + format_duration(event.after);
    out.events.push_back(
        {to_string(event.kind), std::move(when), static_cast<uint64_t>(std::llround(devices * event.share))});
  }
  for (const auto& entry : phase.load) {
    PlannedLoad load;
    load.stream = entry.stream;
    load.name = streams[entry.stream].name;
    load.model = describe(entry);
    load.closed = entry.closed();
    if (!load.closed) {
      load.peak_rate = entry.shape.peak_rate().per_second;
      if (phase.duration) {
        load.arrivals = entry.shape.poisson() ? std::round(entry.shape.count_by(*phase.duration))
                                              : static_cast<double>(entry.shape.arrivals());
      }
    }
    out.load.push_back(std::move(load));
  }
  return out;
}

/// Arrivals that an objective's percentile will stand on, or nothing when the plan cannot tell.
std::optional<double> expected_samples(const Scenario& s, const Plan& plan,
                                       const std::vector<metrics::StreamSpec>& streams, const metrics::SloSpec& slo) {
  if (slo.metric == metrics::SloMetric::schedule_lag || slo.metric == metrics::SloMetric::query_staleness) {
    return std::nullopt;
  }
  double sum = 0;
  for (size_t i = 0; i < s.phases.size(); ++i) {
    const bool judged = slo.phase.empty() ? s.phases[i].record : slo.phase == s.phases[i].name;
    if (!judged) continue;
    const bool counts_connects = slo.metric == metrics::SloMetric::operation && slo.operation == OpKind::connect;
    if (counts_connects) sum += static_cast<double>(plan.phases[i].connects);
    for (const auto& load : plan.phases[i].load) {
      const auto kind = streams[load.stream].kind;
      bool matches = false;
      switch (slo.metric) {
        case metrics::SloMetric::operation:
          matches = slo.operation == kind;
          break;
        case metrics::SloMetric::stream:
          matches = slo.stream == load.name;
          break;
        case metrics::SloMetric::convergence:
        case metrics::SloMetric::convergence_system:
          matches = kind == OpKind::patch_desired || kind == OpKind::replace_twin;
          break;
        case metrics::SloMetric::all_streams:
          matches = true;
          break;
        case metrics::SloMetric::query_staleness:
        case metrics::SloMetric::schedule_lag:
          break;
      }
      if (!matches) continue;
      if (load.closed || !s.phases[i].duration) return std::nullopt;
      sum += load.arrivals;
    }
  }
  // Reports also answer patches, and telemetry and reconnects come by themselves: nothing certain to say about those.
  const bool also_unasked =
      slo.metric == metrics::SloMetric::operation && slo.operation &&
      (*slo.operation == OpKind::report || *slo.operation == OpKind::telemetry || *slo.operation == OpKind::get_twin ||
       *slo.operation == OpKind::connect || *slo.operation == OpKind::renew_token);
  if (also_unasked || (slo.metric == metrics::SloMetric::stream && slo.stream.find('.') != std::string::npos))
    return std::nullopt;
  return sum;
}

/// A window that no phase is long enough for ends nothing.
void add_abort_note(const Scenario& s, const metrics::SloSpec& slo, Plan& plan) {
  if (!slo.abort) return;
  const Nanos needed = std::max(slo.abort->after, slo.abort->over);
  const bool fits = std::any_of(s.phases.begin(), s.phases.end(), [&](const Phase& phase) {
    const bool judged = slo.phase.empty() ? phase.record : slo.phase == phase.name;
    return judged && phase.duration.value_or(phase.timeout) > needed;
  });
  if (fits) return;
  plan.notes.push_back(fmt::format("SLO \"{}\" never ends the run early: no phase that it judges lasts longer than {}",
                                   slo.text, format_duration(needed)));
}

void add_notes(const Scenario& s, const std::vector<metrics::StreamSpec>& streams, Plan& plan) {
  std::set<uint32_t> loaded, connected;
  for (size_t i = 0; i < s.phases.size(); ++i) {
    const auto& phase = s.phases[i];
    for (const auto& entry : phase.load) loaded.insert(entry.stream);
    if (!phase.connect) continue;
    connected.insert(phase.connect->fleets.begin(), phase.connect->fleets.end());
    const auto devices = devices_of(s, phase.connect->fleets);
    if (plan.phases[i].connects < devices) {
      plan.notes.push_back(fmt::format("phase \"{}\" ends before it has connected all: {} of {} devices", phase.name,
                                       format_count(plan.phases[i].connects), format_count(devices)));
    }
  }
  for (uint32_t i = 0; i < s.backends.size(); ++i) {
    if (!loaded.contains(s.backend_stream(i))) {
      plan.notes.push_back(
          fmt::format("back end \"{}\" is in no phase's load, so it does nothing", s.backends[i].name));
    }
  }
  for (uint32_t i = 0; i < s.fleets.size(); ++i) {
    if (!connected.contains(i))
      plan.notes.push_back(fmt::format("no phase needs fleet \"{}\": it stays offline", s.fleets[i].name));
  }
  for (const auto& slo : s.slos) add_abort_note(s, slo, plan);
  for (const auto& slo : s.slos) {
    const auto quantile = metrics::quantile_of(slo.statistic);
    if (!quantile) continue;
    const auto samples = expected_samples(s, plan, streams, slo);
    const double needed = std::ceil(kSamplesBeyond / (1 - *quantile) - 1e-6);
    if (samples && *samples < needed) {
      plan.notes.push_back(fmt::format("SLO \"{}\" will stay undecided: about {} samples, and that percentile needs {}",
                                       slo.text, format_count(static_cast<uint64_t>(*samples)),
                                       format_count(static_cast<uint64_t>(needed))));
    }
  }
  for (uint32_t i = 0; i < s.backends.size(); ++i) {
    const auto rate = demand_of(s, s.backend_stream(i)).rate / plan.shards;
    const auto busy = rate * kExpectedHttpSeconds;
    if (busy > s.backends[i].connections) {
      plan.notes.push_back(
          fmt::format("back end \"{}\" asks {} a shard on {} connections: an answer may take {} at most",
                      s.backends[i].name, format_rate({rate}), s.backends[i].connections,
                      format_duration(from_seconds(s.backends[i].connections / rate))));
    }
  }
}

// --- text
// -------------------------------------------------------------------------------------------------------------

std::string embedded_text(const Target::Hub& hub) {
  auto text = fmt::format("embedded hub, its own process, {} thread{}", hub.threads, hub.threads == 1 ? "" : "s");
  if (hub.processes > 1) {
    text = fmt::format(
        "{} embedded hubs, each its own process with {} thread{} and one device in {}: queries see those of one hub",
        hub.processes, hub.threads, hub.threads == 1 ? "" : "s", hub.processes);
  }
  if (!hub.tier.empty())
    text += fmt::format(", tier {} with {} unit{}", hub.tier, hub.units, hub.units == 1 ? "" : "s");
  if (!hub.query_staleness.is_zero()) text += fmt::format(", queries lag by {}", hub.query_staleness.to_yaml());
  if (!hub.plant.empty()) text += fmt::format(", faults planted on purpose ({})", hub.plant);
  return text;
}

std::string target_text(const Target& target) {
  switch (target.kind) {
    case Target::Kind::embedded:
      return embedded_text(target.hub);
    case Target::Kind::ready_file:
      return "hub described by " + target.ready_file;
    case Target::Kind::connection_string:
      break;
  }
  const bool from_environment = target.connection_string.starts_with("env:");
  std::string text = from_environment ? target.connection_string : "connection string of the scenario";
  if (target.mqtts_port != 0) text += fmt::format(", MQTT port {} (TLS)", target.mqtts_port);
  if (target.mqtt_port != 0) text += fmt::format(", MQTT port {}", target.mqtt_port);
  if (target.https_port != 0) text += fmt::format(", HTTP port {} (TLS)", target.https_port);
  if (target.http_port != 0) text += fmt::format(", HTTP port {}", target.http_port);
  return text;
}

std::string plural(uint64_t n, std::string_view word) {
  return fmt::format("{} {}{}", format_count(n), word, n == 1 ? "" : "s");
}

void append_table(std::string& out, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line = " ";
    for (size_t i = 0; i < row.size(); ++i) line += fmt::format(" {:<{}} ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
}

// --- YAML
// -------------------------------------------------------------------------------------------------------------

/// A scalar that every YAML reader takes for this text.
std::string word(std::string_view text) {
  static const std::set<std::string_view> kOtherMeaning{"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  std::string lower{text};
  for (auto& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text.front())) != 0 &&
                     std::all_of(text.begin(), text.end(), [](char c) {
                       return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
                     });
  return plain && !kOtherMeaning.contains(lower) ? std::string{text} : detail::quoted(text);
}

std::string exact(Rate rate, bool per_device) { return detail::exact_rate(rate) + (per_device ? "/device" : ""); }

std::string shape_yaml(const ShapeSpec& spec) {
  const auto rate = [&](Rate r) { return exact(r, spec.per_device); };
  std::string out;
  switch (spec.kind) {
    case ShapeSpec::Kind::constant:
      out = fmt::format("shape: constant, rate: {}", rate(spec.rate));
      break;
    case ShapeSpec::Kind::ramp:
      out = fmt::format("shape: ramp, from: {}, to: {}", rate(spec.from), rate(spec.to));
      if (spec.over) out += ", over: " + detail::exact_duration(*spec.over);
      break;
    case ShapeSpec::Kind::steps:
      out = "shape: steps, steps: [";
      for (size_t i = 0; i < spec.steps.size(); ++i) {
        out += fmt::format("{}{{rate: {}", i > 0 ? ", " : "", rate(spec.steps[i].rate));
        if (spec.steps[i].length > Nanos{0}) out += ", for: " + detail::exact_duration(spec.steps[i].length);
        out += "}";
      }
      out += "]";
      break;
    case ShapeSpec::Kind::spike:
      out = fmt::format("shape: spike, base: {}, peak: {}, at: {}, for: {}", rate(spec.rate), rate(spec.peak),
                        detail::exact_duration(spec.at), detail::exact_duration(spec.hold));
      break;
    case ShapeSpec::Kind::sine:
      out = fmt::format("shape: sine, mean: {}, amplitude: {}, period: {}", rate(spec.rate), rate(spec.peak),
                        detail::exact_duration(spec.period));
      break;
    case ShapeSpec::Kind::trace:
      out = fmt::format("shape: trace, file: {}, digest: \"{}\"", detail::quoted(spec.trace_file), spec.trace.digest());
      if (spec.scale != 1) out += fmt::format(", scale: {}", spec.scale);
      if (spec.trace.lists_arrivals()) return out;
      break;
  }
  return out + fmt::format(", poisson: {}", spec.poisson);
}

std::string fleets_yaml(const Scenario& s, const std::vector<uint32_t>& fleets) {
  std::string out = "[";
  for (size_t i = 0; i < fleets.size(); ++i) out += (i > 0 ? ", " : "") + word(s.fleets[fleets[i]].name);
  return out + "]";
}

void append_device_ca(std::string& out, const Target& target) {
  if (target.device_ca_certificate.empty()) return;
  out += fmt::format("  deviceCa: {{certificate: {}, key: {}}}\n", detail::quoted(target.device_ca_certificate),
                     detail::quoted(target.device_ca_key));
}

void append_sources(std::string& out, const Target& target) {
  if (target.source_addresses.empty()) return;
  out += "  sourceAddresses: [";
  for (size_t i = 0; i < target.source_addresses.size(); ++i) {
    out += (i > 0 ? ", " : "") + detail::quoted(target.source_addresses[i]);
  }
  out += "]\n";
}

void append_hub(std::string& out, const Target::Hub& hub) {
  if (hub == Target::Hub{.threads = hub.threads, .processes = hub.processes}) return;
  out += "hub:\n";
  if (!hub.tier.empty()) out += fmt::format("  tier: {}\n  units: {}\n", hub.tier, hub.units);
  out += fmt::format("  query: {{staleness: {}", hub.query_staleness.to_yaml());
  if (hub.query_page_max > 0) out += fmt::format(", pageMax: {}", hub.query_page_max);
  out += "}\n";
  if (hub.plant.empty()) return;
  out += "  plant: {";
  for (const char letter : hub.plant)
    out += letter == ':' || letter == ',' ? std::string{letter, ' '} : std::string{letter};
  out += "}\n";
}

void append_target(std::string& out, const Target& target) {
  switch (target.kind) {
    case Target::Kind::embedded:
      out += fmt::format("target:\n  embedded: {{threads: {}, processes: {}}}\n", target.hub.threads,
                         target.hub.processes);
      append_sources(out, target);
      append_hub(out, target.hub);
      return;
    case Target::Kind::ready_file:
      out += fmt::format("target:\n  readyFile: {}\n", detail::quoted(target.ready_file));
      append_device_ca(out, target);
      append_sources(out, target);
      return;
    case Target::Kind::connection_string:
      break;
  }
  const bool secret = !target.connection_string.starts_with("env:");
  out += fmt::format("target:\n  connectionString: {}\n",
                     secret ? "env:IOTHUB_CONNECTION_STRING" : detail::quoted(target.connection_string));
  const std::pair<const char*, uint16_t> ports[] = {{"mqttPort", target.mqtt_port},
                                                    {"mqttsPort", target.mqtts_port},
                                                    {"httpPort", target.http_port},
                                                    {"httpsPort", target.https_port}};
  for (const auto& [key, port] : ports) {
    if (port != 0) out += fmt::format("  {}: {}\n", key, port);
  }
  if (!target.ca_file.empty()) out += fmt::format("  caFile: {}\n", detail::quoted(target.ca_file));
  append_device_ca(out, target);
  append_sources(out, target);
}

std::string tls_yaml(const Tls& tls) {
  if (!tls.on()) return "false";
  return fmt::format("{{version: {}, resumption: {}}}", to_string(tls.version), tls.resumption);
}

void append_fleet(std::string& out, const Fleet& fleet) {
  const auto duration = [](Nanos v) { return detail::exact_duration(v); };
  out += fmt::format(
      "  - name: {}\n    count: {}\n    {}: {}\n    transport: {}\n    engine: {}\n    tls: {}\n    auth: {}\n",
      word(fleet.name), fleet.count, fleet.connection_strings.empty() ? "deviceId" : "connectionStrings",
      detail::quoted(fleet.connection_strings.empty() ? fleet.device_id_pattern : fleet.connection_strings),
      to_string(fleet.transport), to_string(fleet.engine), tls_yaml(fleet.tls), to_string(fleet.auth));
  if (fleet.auth == AuthKind::sas) {
    out +=
        fmt::format("    tokenLifetime: {}\n    renewBefore: {}\n    renewJitter: {}\n",
                    duration(fleet.tokens.lifetime), duration(fleet.tokens.renew_before), percent(fleet.tokens.jitter));
  }
  out += fmt::format("    methods: {}\n    c2d: {}\n", fleet.methods, fleet.c2d);
  if (!fleet.tags.empty()) out += fmt::format("    tags: {}\n", fleet.tags.source());
  if (!fleet.reported.empty()) out += fmt::format("    reported: {}\n", fleet.reported.source());
  if (!fleet.on_desired.empty()) out += "    onDesired:\n";
  for (const auto& listener : fleet.on_desired) {
    std::string report = "echo";
    if (listener.report == DesiredListener::Report::none) report = "none";
    if (listener.report == DesiredListener::Report::values) report = listener.values.source();
    out += "      - ";
    if (!listener.path.empty()) out += fmt::format("path: {}\n        ", detail::quoted(listener.path));
    out += fmt::format("apply: {{delay: {}, failure: {}}}\n        report: {}\n", listener.delay.to_yaml(),
                       percent(listener.failure), report);
  }
  out += "    telemetry: {";
  if (fleet.telemetry.every > Nanos{0}) out += fmt::format("every: {}, ", duration(fleet.telemetry.every));
  out += fmt::format("jitter: {}, size: {}}}\n", percent(fleet.telemetry.jitter),
                     detail::exact_size(fleet.telemetry.size));
  out += fmt::format("    reconnect: {{enabled: {}, backoff: {{initial: {}, max: {}, jitter: {}}}}}\n",
                     fleet.reconnect.enabled, duration(fleet.reconnect.initial), duration(fleet.reconnect.max),
                     fleet.reconnect.jitter == Reconnect::Jitter::full ? "full" : "none");
  out += fmt::format("    keepAlive: {}\n    timeout: {}\n", duration(fleet.keep_alive), duration(fleet.timeout));
}

void append_method(std::string& out, const BackendGroup& group) {
  out += fmt::format("    methodName: {}\n", detail::quoted(group.method_name));
  if (!group.payload.empty()) out += fmt::format("    payload: {}\n", group.payload.source());
  out += fmt::format("    responseTimeout: {}\n    connectTimeout: {}\n",
                     detail::exact_duration(group.response_timeout), detail::exact_duration(group.connect_timeout));
}

void append_write_policy(std::string& out, const BackendGroup& group) {
  out += fmt::format("    ifMatch: {}\n", to_string(group.if_match));
  if (group.if_match == BackendGroup::IfMatch::read_modify_write) {
    const auto& r = group.retries;
    out += fmt::format("    retries: {{max: {}, backoff: {{initial: {}, max: {}, jitter: {}}}}}\n", r.max,
                       detail::exact_duration(r.initial), detail::exact_duration(r.longest),
                       r.jitter == Reconnect::Jitter::full ? "full" : "none");
  }
  if (group.staleness.share <= 0) return;
  out += fmt::format("    staleness: {{share: {}, every: {}, timeout: {}}}\n", percent(group.staleness.share),
                     detail::exact_duration(group.staleness.every), detail::exact_duration(group.staleness.timeout));
}

void append_backend(std::string& out, const Scenario& s, const BackendGroup& group) {
  out += fmt::format("  - name: {}\n    do: {}\n", word(group.name), detail::do_word(group.op));
  if (group.works_on_devices()) out += fmt::format("    select: {}\n", word(s.fleets[group.fleet].name));
  if (group.op == OpKind::bulk) {
    out += fmt::format("    mode: {}\n    size: {}\n", group.creates_devices() ? "create" : "delete", group.size);
  }
  if (!group.patch.empty()) out += fmt::format("    patch: {}\n", group.patch.source());
  if (!group.tags.empty()) out += fmt::format("    tags: {}\n", group.tags.source());
  switch (group.op) {
    case OpKind::query:
      out += fmt::format("    sql: {}\n    pageSize: {}\n    pages: {}\n", detail::quoted(group.sql), group.page_size,
                         group.pages == BackendGroup::Pages::all ? "all" : "first");
      break;
    case OpKind::method:
      append_method(out, group);
      break;
    case OpKind::job:
      if (!group.method_name.empty()) append_method(out, group);
      out += fmt::format("    condition: {}\n    poll: {}\n    maxExecutionTime: {}\n", detail::quoted(group.condition),
                         detail::exact_duration(group.poll), detail::exact_duration(group.max_execution_time));
      break;
    case OpKind::patch_desired:
    case OpKind::patch_tags:
    case OpKind::replace_twin:
      append_write_policy(out, group);
      break;
    default:
      break;
  }
  if (group.creates_devices()) {
    out += fmt::format("    deviceId: {}\n    keep: {}\n", detail::quoted(group.device_id_pattern), group.keep);
  }
  if (group.deletes_devices()) out += fmt::format("    of: {}\n", word(group.of));
  out += fmt::format("    tls: {}\n    timeout: {}\n    connections: {}\n", group.tls.value_or(false),
                     detail::exact_duration(group.timeout), group.connections);
}

std::string until_yaml(const Until& until) {
  switch (until.kind) {
    case Until::Kind::converged:
      return "converged: " + percent(until.share);
    case Until::Kind::devices_connected:
      return "devicesConnected: " + percent(until.share);
    case Until::Kind::operations:
      return fmt::format("operations: {}", until.count);
    case Until::Kind::quiet:
      return "quiet: " + detail::exact_duration(until.quiet);
  }
  return {};
}

std::string closed_yaml(const LoadEntry& entry) {
  auto out = fmt::format("concurrency: {}", entry.concurrency);
  if (!entry.think.is_zero()) out += ", think: " + entry.think.to_yaml();
  return out;
}

std::string slo_yaml(const metrics::SloSpec& slo) {
  if (!slo.abort) return detail::quoted(slo.text);
  return fmt::format("{{slo: {}, abort: {{after: {}, over: {}, samples: {}}}}}", detail::quoted(slo.text),
                     detail::exact_duration(slo.abort->after), detail::exact_duration(slo.abort->over),
                     slo.abort->samples);
}

void append_phase(std::string& out, const Scenario& s, const std::vector<metrics::StreamSpec>& streams,
                  const Phase& phase) {
  out += fmt::format("  - name: {}\n", word(phase.name));
  if (phase.duration) out += fmt::format("    duration: {}\n", detail::exact_duration(*phase.duration));
  if (phase.until) {
    out += fmt::format("    until: {{{}}}\n    timeout: {}\n", until_yaml(*phase.until),
                       detail::exact_duration(phase.timeout));
  }
  out += fmt::format("    record: {}\n", phase.record);
  if (phase.connect) {
    out += fmt::format("    connect: {{{}, fleets: {}}}\n", shape_yaml(phase.connect->spec),
                       fleets_yaml(s, phase.connect->fleets));
  }
  if (!phase.load.empty()) out += "    load:\n";
  for (const auto& entry : phase.load) {
    out += fmt::format("      {}: {{{}}}\n", word(streams[entry.stream].name),
                       entry.closed() ? closed_yaml(entry) : shape_yaml(entry.spec));
  }
  if (phase.disconnect) {
    out += fmt::format("    disconnect: {{share: {}, after: {}, over: {}, fleets: {}}}\n",
                       percent(phase.disconnect->share), detail::exact_duration(phase.disconnect->after),
                       detail::exact_duration(phase.disconnect->over), fleets_yaml(s, phase.disconnect->fleets));
  }
  if (!phase.events.empty()) out += "    events:\n";
  for (const auto& event : phase.events) {
    out += fmt::format("      - {{do: {}, share: {}, after: {}, over: {}, fleets: {}}}\n", to_string(event.kind),
                       percent(event.share), detail::exact_duration(event.after), detail::exact_duration(event.over),
                       fleets_yaml(s, event.fleets));
  }
}

/// TLS, token ages, and the ports that follow from them.
void resolve_security(Scenario& s) {
  auto& target = s.target;
  const bool mqtt_tls = target.mqtt_uses_tls(), http_tls = target.http_uses_tls();
  std::vector<std::pair<uint16_t*, uint16_t>> used{http_tls ? std::pair{&target.https_port, kHttpsPort}
                                                            : std::pair{&target.http_port, kHttpPort}};
  for (auto& fleet : s.fleets) {
    const bool socket = fleet.transport == TransportKind::mqtt;
    if (!fleet.tls.enabled) fleet.tls.enabled = socket ? mqtt_tls : http_tls;
    if (socket) {
      used.emplace_back(fleet.tls.on() ? &target.mqtts_port : &target.mqtt_port,
                        fleet.tls.on() ? kMqttsPort : kMqttPort);
    } else {
      used.emplace_back(fleet.tls.on() ? &target.https_port : &target.http_port,
                        fleet.tls.on() ? kHttpsPort : kHttpPort);
    }
    if (fleet.tokens.renew_before == Nanos{0}) {
      const Nanos quarter = std::chrono::duration_cast<std::chrono::milliseconds>(fleet.tokens.lifetime / 4);
      fleet.tokens.renew_before = std::clamp<Nanos>(quarter, seconds{1}, std::chrono::minutes{15});
    }
  }
  for (auto& group : s.backends) {
    if (!group.tls) group.tls = http_tls;
    used.emplace_back(*group.tls ? &target.https_port : &target.http_port, *group.tls ? kHttpsPort : kHttpPort);
  }
  if (target.kind != Target::Kind::connection_string) return;
  for (const auto& [port, usual] : used) {
    if (*port == 0) *port = usual;
  }
}

/// What a connected device of the fleet keeps on the heap.
ByteCount heap_of_device(const Fleet& fleet) {
  ByteCount bytes = fleet.engine == Engine::paho ? kPahoHeapBytes : kDeviceHeapBytes;
  if (fleet.transport == TransportKind::mqttws) bytes += kWebSocketHeapBytes;
  if (fleet.tls.on()) bytes += kTlsHeapBytes;
  if (fleet.tls.on() && fleet.tls.resumption) bytes += kSessionHeapBytes;
  if (fleet.auth != AuthKind::sas) bytes += kCertificateHeapBytes;
  return bytes;
}

uint64_t share(uint64_t whole, uint64_t of) { return (whole + of - 1) / of; }

/// What the machine must provide for resolved `s`.
PlannedCost cost_of(const Scenario& s, ShardId shards, unsigned workers, size_t streams) {
  PlannedCost cost;
  const auto& target = s.target;
  const uint64_t devices = s.device_count();
  const uint64_t hubs = target.kind == Target::Kind::embedded ? target.hub.processes : 0;
  cost.mqtt_connections = devices;
  for (const auto& group : s.backends) cost.http_connections += uint64_t{group.connections} * shards;
  cost.workers = workers;
  // Whole shards go to workers, so the fullest one may have more than its share.
  const uint64_t shards_of_worker = share(shards, workers);
  cost.worker_devices = std::min(devices, share(devices, shards) * shards_of_worker);
  cost.descriptors = cost.worker_devices + cost.http_connections / shards * shards_of_worker + kOtherDescriptors;
  cost.loopback = hubs > 0;
  cost.hub_processes = static_cast<uint32_t>(hubs);
  if (hubs > 0) {
    cost.hub_descriptors = share(devices, hubs) + share(cost.http_connections, hubs) + kOtherDescriptors;
  }
  std::map<std::string, uint64_t> ports;
  for (const auto& fleet : s.fleets) {
    const bool socket = fleet.transport == TransportKind::mqtt;
    ports[socket ? (fleet.tls.on() ? "MQTTS" : "MQTT") : (fleet.tls.on() ? "HTTPS" : "HTTP")] += fleet.count;
    cost.device_heap += fleet.count * heap_of_device(fleet);
    // The hub's end of a connection takes as much as ours.
    if (hubs > 0) cost.hub_heap += fleet.count * (kHubDeviceHeapBytes + (fleet.tls.on() ? kTlsHeapBytes : 0));
  }
  for (const auto& group : s.backends)
    ports[group.tls.value_or(false) ? "HTTPS" : "HTTP"] += group.connections * shards;
  for (const auto& [port, connections] : ports) {
    cost.destinations.push_back({port, share(connections, std::max<uint64_t>(hubs, 1))});
  }
  if (const auto given = expand_source_addresses(target.source_addresses)) cost.source_addresses = given->size();
  for (const auto& phase : s.phases) {
    if (phase.connect) cost.connect_rate = std::max(cost.connect_rate, phase.connect->shape.peak_rate().per_second);
  }
  cost.busy_threads = shards + hubs * target.hub.threads;
  if (s.checks(Invariant::final_state_matches)) cost.device_heap += devices * kModelHeapBytes;
  cost.socket_kernel = (devices + cost.http_connections) * (hubs > 0 ? 2 : 1) * kSocketKernelBytes;
  cost.recorder =
      uint64_t{shards} * s.phases.size() * (streams * kHistogramsPerCell + kHistogramsPerPhase) * kHistogramBytes;
  // Workers stand beside the process that leads them.
  cost.processes = (hubs + workers + (workers > 1 ? 1 : 0)) * kProcessBytes;
  cost.total = cost.device_heap + cost.socket_kernel + cost.hub_heap + cost.processes;
  return cost;
}

/// `mqtt`, `mqttws over TLS 1.2`, `mqtt by Paho`.
std::string connection_text(const Fleet& fleet) {
  std::string text = to_string(fleet.transport);
  if (fleet.tls.on()) {
    text += " over TLS";
    if (fleet.tls.version != Tls::Version::any) text += fmt::format(" {}", to_string(fleet.tls.version));
  }
  if (fleet.engine == Engine::paho) text += " by Paho";
  return text;
}

/// `x509-ca`, `sas, renewed after 45 min`.
std::string auth_text(const Fleet& fleet) {
  if (fleet.auth != AuthKind::sas) return to_string(fleet.auth);
  return fmt::format("sas, renewed after {}", format_duration(fleet.tokens.lifetime - fleet.tokens.renew_before));
}

/// Methods wait for devices and jobs for many of them: the hub says when they are over.
Nanos default_timeout(const BackendGroup& group, const Limits& limits) {
  switch (group.op) {
    case OpKind::method:
      return std::max(limits.operation_timeout, group.connect_timeout + group.response_timeout + kMethodPatience);
    case OpKind::job:
      return std::max(limits.operation_timeout, kJobTimeout);
    default:
      return limits.operation_timeout;
  }
}

/// What it works on, for people.
std::string work_text(const Scenario& s, const BackendGroup& group) {
  if (group.works_on_devices()) {
    return (group.op == OpKind::method ? group.method_name + " on " : "on ") + s.fleets[group.fleet].name;
  }
  const auto ids = [&] { return group.device_id.format(0) + " .."; };
  switch (group.op) {
    case OpKind::query:
      return detail::shortened(group.sql, 48);
    case OpKind::create_device:
      return ids();
    case OpKind::bulk:
      return group.creates_devices() ? fmt::format("create {} a request, {}", group.size, ids())
                                     : fmt::format("delete {} a request, of {}", group.size, group.of);
    case OpKind::delete_device:
      return "of " + group.of;
    default:
      return fmt::format("{} where {}", group.method_name.empty() ? "update" : group.method_name,
                         detail::shortened(group.condition, 48));
  }
}

}  // namespace

Scenario resolve(const Scenario& scenario, ShardId shards) {
  Scenario s = scenario;
  resolve_security(s);
  DeviceIndex first = 0;
  for (auto& fleet : s.fleets) {
    fleet.first = first;
    first += fleet.count;
    if (fleet.timeout == Nanos{0}) fleet.timeout = s.limits.operation_timeout;
  }
  add_connect_phases(s);
  for (auto& phase : s.phases) resolve_phase(s, phase);
  for (uint32_t i = 0; i < s.backends.size(); ++i) {
    auto& group = s.backends[i];
    if (group.timeout == Nanos{0}) group.timeout = default_timeout(group, s.limits);
    if (group.connections > 0) continue;
    const auto demand = demand_of(s, s.backend_stream(i));
    const double open = std::ceil(demand.rate * kExpectedHttpSeconds * kConnectionHeadroom / shards);
    const double closed = std::ceil(static_cast<double>(demand.concurrency) / shards);
    group.connections =
        static_cast<uint32_t>(std::clamp<double>(std::max(open, closed), kMinConnections, kMaxConnections));
  }
  return s;
}

Plan make_plan(const Scenario& scenario, ShardId shards, unsigned workers) {
  Plan plan;
  plan.scenario = resolve(scenario, shards);
  plan.shards = shards;
  plan.workers = workers;
  const auto& s = plan.scenario;
  const auto streams = s.streams();
  plan.devices = s.device_count();
  for (const auto& phase : s.phases) {
    plan.phases.push_back(plan_phase(s, streams, phase));
    plan.fixed_seconds += plan.phases.back().seconds;
    plan.longest_seconds += phase.until ? to_seconds(phase.timeout) : plan.phases.back().seconds;
  }
  plan.cost = cost_of(s, shards, workers, streams.size());
  add_notes(s, streams, plan);
  return plan;
}

std::string plan_text(const Plan& plan) {
  const auto& s = plan.scenario;
  const auto span = [](double seconds_) { return format_duration(from_seconds(seconds_)); };
  std::string out = fmt::format("{}: {}, {}, about {}", s.name, plural(plan.devices, "device"),
                                plural(s.phases.size(), "phase"), span(plan.fixed_seconds));
  if (plan.longest_seconds > plan.fixed_seconds) out += fmt::format(" (at most {})", span(plan.longest_seconds));
  out += fmt::format("\n  target  {}\n  seed    {}\n  shards  {}\n", target_text(s.target), s.seed, plan.shards);

  out += "\nFleets\n";
  std::vector<std::vector<std::string>> rows;
  for (const auto& fleet : s.fleets) {
    auto ids = fleet.device_id.format(0);
    if (fleet.count > 1) ids += " .. " + fleet.device_id.format(fleet.count - 1);
    rows.push_back({fleet.name, format_count(fleet.count), connection_text(fleet), auth_text(fleet), ids,
                    plural(fleet.on_desired.size(), "listener"), format_size(heap_of_device(fleet)) + " each"});
  }
  append_table(out, rows);

  if (!s.backends.empty()) {
    out += "\nBack ends\n";
    rows.clear();
    for (const auto& group : s.backends) {
      rows.push_back({group.name, std::string{detail::do_word(group.op)}, work_text(s, group),
                      plural(group.connections, "connection") + " a shard"});
    }
    append_table(out, rows);
  }

  out += "\nPhases\n";
  rows.assign(1, {"phase", "ends", "recorded", "stream", "load", "arrivals"});
  for (const auto& phase : plan.phases) {
    std::vector<std::vector<std::string>> lines;
    if (phase.connects > 0)
      lines.push_back({"(connect)", "up to " + format_rate({phase.connect_rate}), format_count(phase.connects)});
    if (phase.disconnects > 0) lines.push_back({"(disconnect)", "", format_count(phase.disconnects)});
    for (const auto& load : phase.load) {
      std::string count = "open end";
      if (load.closed) count = "as answered";
      if (load.arrivals > 0) count = format_count(static_cast<uint64_t>(load.arrivals));
      lines.push_back({load.name, load.model, std::move(count)});
    }
    for (const auto& event : phase.events) {
      lines.push_back({fmt::format("({})", event.what), event.when, format_count(event.devices)});
    }
    if (lines.empty()) lines.push_back({"-"});
    for (size_t i = 0; i < lines.size(); ++i) {
      std::vector<std::string> row = i == 0
                                         ? std::vector<std::string>{phase.name, phase.ends, phase.record ? "yes" : "no"}
                                         : std::vector<std::string>{"", "", ""};
      row.insert(row.end(), lines[i].begin(), lines[i].end());
      rows.push_back(std::move(row));
    }
  }
  append_table(out, rows);

  if (!s.slos.empty() || !s.invariants.empty()) out += "\nHas to hold\n";
  for (const auto& slo : s.slos) {
    out += "  " + slo.text;
    if (slo.abort) out += fmt::format("  (else the run ends early, judged over {})", format_duration(slo.abort->over));
    out += '\n';
  }
  for (const auto invariant : s.invariants) out += fmt::format("  {}\n", to_string(invariant));

  const auto& cost = plan.cost;
  out += "\nTakes (estimates; twinstorm doctor compares them with this machine)\n";
  rows = {{"connections",
           fmt::format("{} MQTT, {} HTTP", format_count(cost.mqtt_connections), format_count(cost.http_connections))},
          {"descriptors", format_count(cost.descriptors) +
                              (cost.workers > 1 ? fmt::format(" in each of {} workers", cost.workers) : "")},
          {"device heap", format_size(cost.device_heap)},
          {"socket memory", format_size(cost.socket_kernel) + " in the kernel"},
          {"histograms", format_size(cost.recorder) + " reserved, little of it touched"}};
  if (cost.hub_processes > 0) {
    rows.push_back({"hub", fmt::format("{}, {} descriptors{}", format_size(cost.hub_heap),
                                       format_count(cost.hub_descriptors), cost.hub_processes > 1 ? " each" : "")});
  }
  rows.push_back({"memory", format_size(cost.total) + " in all"});
  append_table(out, rows);
  if (!plan.notes.empty()) out += "\nNotes\n";
  for (const auto& note : plan.notes) out += fmt::format("  {}\n", note);
  return out;
}

std::string plan_json(const Plan& plan) {
  using Json = nlohmann::ordered_json;
  const auto& s = plan.scenario;
  Json phases = Json::array();
  for (const auto& phase : plan.phases) {
    Json load = Json::array();
    for (const auto& entry : phase.load) {
      load.push_back({{"stream", entry.name},
                      {"model", entry.model},
                      {"closed", entry.closed},
                      {"arrivals", entry.arrivals},
                      {"peakRatePerSecond", entry.peak_rate}});
    }
    Json events = Json::array();
    for (const auto& event : phase.events) {
      events.push_back({{"do", event.what}, {"when", event.when}, {"devices", event.devices}});
    }
    phases.push_back({{"name", phase.name},
                      {"record", phase.record},
                      {"durationSeconds", phase.seconds},
                      {"timeoutSeconds", phase.timeout_seconds},
                      {"ends", phase.ends},
                      {"connects", phase.connects},
                      {"connectRatePerSecond", phase.connect_rate},
                      {"disconnects", phase.disconnects},
                      {"events", std::move(events)},
                      {"load", std::move(load)}});
  }
  Json fleets = Json::array();
  for (const auto& fleet : s.fleets) {
    fleets.push_back({{"name", fleet.name},
                      {"count", fleet.count},
                      {"transport", to_string(fleet.transport)},
                      {"engine", to_string(fleet.engine)},
                      {"tls", fleet.tls.on() ? to_string(fleet.tls.version) : "off"},
                      {"auth", to_string(fleet.auth)},
                      {"heapBytesPerDevice", heap_of_device(fleet)},
                      {"firstDeviceId", fleet.device_id.format(0)},
                      {"lastDeviceId", fleet.device_id.format(fleet.count - 1)}});
  }
  Json backends = Json::array();
  for (const auto& group : s.backends) {
    backends.push_back({{"name", group.name},
                        {"operation", metrics::to_string(group.op)},
                        {"tls", group.tls.value_or(false)},
                        {"connectionsPerShard", group.connections}});
  }
  Json slos = Json::array(), invariants = Json::array();
  for (const auto& slo : s.slos) slos.push_back(slo.text);
  for (const auto invariant : s.invariants) invariants.push_back(to_string(invariant));
  const auto& cost = plan.cost;
  const Json document{{"schema", "twinstorm/plan/1"},
                      {"scenario", s.name},
                      {"seed", s.seed},
                      {"shards", plan.shards},
                      {"devices", plan.devices},
                      {"durationSeconds", plan.fixed_seconds},
                      {"longestSeconds", plan.longest_seconds},
                      {"fleets", std::move(fleets)},
                      {"backends", std::move(backends)},
                      {"phases", std::move(phases)},
                      {"slos", std::move(slos)},
                      {"invariants", std::move(invariants)},
                      {"cost",
                       {{"mqttConnections", cost.mqtt_connections},
                        {"httpConnections", cost.http_connections},
                        {"descriptors", cost.descriptors},
                        {"deviceHeapBytes", cost.device_heap},
                        {"socketKernelBytes", cost.socket_kernel},
                        {"recorderBytes", cost.recorder},
                        {"workers", cost.workers},
                        {"hubProcesses", cost.hub_processes},
                        {"hubDescriptors", cost.hub_descriptors},
                        {"hubHeapBytes", cost.hub_heap},
                        {"processesBytes", cost.processes},
                        {"busyThreads", cost.busy_threads},
                        {"totalBytes", cost.total}}},
                      {"notes", plan.notes}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string resolved_yaml(const Scenario& s) {
  const auto streams = s.streams();
  std::string out = fmt::format("# Every default filled in. Running this file repeats the run.\nschema: {}\nname: {}\n",
                                kSchemaId, word(s.name));
  if (!s.description.empty()) out += fmt::format("description: {}\n", detail::quoted(s.description));
  out += fmt::format("seed: {}\n", s.seed);
  append_target(out, s.target);
  out += fmt::format("canary: {}\n", s.canary);
  out += "fleets:\n";
  for (const auto& fleet : s.fleets) append_fleet(out, fleet);
  if (!s.backends.empty()) out += "backends:\n";
  for (const auto& group : s.backends) append_backend(out, s, group);
  out += "phases:\n";
  for (const auto& phase : s.phases) append_phase(out, s, streams, phase);
  if (!s.slos.empty()) out += "slos:\n";
  for (const auto& slo : s.slos) out += fmt::format("  - {}\n", slo_yaml(slo));
  if (!s.invariants.empty()) out += "invariants:\n";
  for (const auto invariant : s.invariants) out += fmt::format("  - {}\n", to_string(invariant));
  const auto& l = s.limits;
  out += fmt::format(
      "limits:\n  operationTimeout: {}\n  convergenceTimeout: {}\n  drainTimeout: {}\n  backlogMax: {}\n"
      "  scheduleLag: {}\n  dropped: {}\n  busy: {}\n",
      detail::exact_duration(l.operation_timeout), detail::exact_duration(l.convergence_timeout),
      detail::exact_duration(l.drain_timeout), l.backlog_max, detail::exact_duration(l.schedule_lag),
      percent(l.dropped), percent(l.busy));
  return out;
}

}  // namespace twinstorm::scenario
