#include <algorithm>
#include <array>
#include <ostream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/base/units.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/run/machine.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::cli {
namespace {

using run::MachineCapacity;
using run::MachineFinding;
using Json = nlohmann::ordered_json;

std::string toned(std::string text, MachineFinding::Severity severity, bool color) {
  static constexpr std::array<std::string_view, 3> kStart{"\x1b[32m", "\x1b[33m", "\x1b[1;31m"};
  return color ? fmt::format("{}{}\x1b[0m", kStart[static_cast<size_t>(severity)], text) : text;
}

std::string checks_text(const std::vector<MachineFinding>& findings, bool color) {
  size_t what = 0, need = 0, have = 0;
  for (const auto& each : findings) {
    what = std::max(what, each.what.size());
    need = std::max(need, each.need.size());
    have = std::max(have, each.have.size());
  }
  std::string out;
  for (const auto& each : findings) {
    const auto word = toned(fmt::format("{:<7}", to_string(each.severity)), each.severity, color);
    auto line = need == 0 ? fmt::format("  {}  {:<{}}  {}", word, each.what, what, each.have)
                          : fmt::format("  {}  {:<{}}  {:>{}} {} {:>{}}", word, each.what, what, each.need, need,
                                        each.need.empty() ? "  " : "of", each.have, have);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
    if (!each.arithmetic.empty()) out += "           " + each.arithmetic + '\n';
    if (!each.change.empty()) out += "           to change: " + each.change + '\n';
  }
  return out;
}

std::string capacity_text(const std::vector<MachineCapacity>& capacity, unsigned workers) {
  const auto room = [](uint64_t devices, const std::string& limit) {
    return fmt::format("{:>9}  ({})", format_count(devices), limit);
  };
  size_t first = 9, second = 0;
  for (const auto& each : capacity) {
    first = std::max(first, each.transport.size());
    second = std::max(second, room(each.embedded, each.embedded_limit).size());
  }
  const std::string hubs = workers == 1 ? "hub on this machine" : fmt::format("{} hubs on this machine", workers);
  auto out = fmt::format(
      "\nDevices that fit, idle, one connection each{}, and the limit that comes first\n  {:<{}}  {:<{}}  {}\n",
      workers == 1 ? "" : fmt::format(", with {} workers", workers), "", first, hubs, second,
      "hub elsewhere, one source address");
  for (const auto& each : capacity) {
    out += fmt::format("  {:<{}}  {:<{}}  {}\n", each.transport, first, room(each.embedded, each.embedded_limit),
                       second, room(each.remote, each.remote_limit));
  }
  return out;
}

Json checks_json(const std::vector<MachineFinding>& findings) {
  Json checks = Json::array();
  for (const auto& each : findings) {
    checks.push_back({{"check", each.check},
                      {"severity", to_string(each.severity)},
                      {"what", each.what},
                      {"need", each.need},
                      {"have", each.have},
                      {"arithmetic", each.arithmetic},
                      {"change", each.change}});
  }
  return checks;
}

}  // namespace

int doctor_command(const DoctorCommand& command, Environment& environment) {
  const auto facts = run::read_machine("/", "runs");
  Json document{{"schema", "twinstorm/doctor/1"}};
  std::string text;
  bool fits = true;
  const bool color = environment.out_is_terminal && !environment.no_color && !command.no_color;
  if (command.scenario.file.empty()) {
    const unsigned workers = command.scenario.workers;
    const auto findings = check_machine(facts);
    const auto capacity = machine_capacity(facts, workers, workers);
    fits = run::fits(findings);
    text = "This machine\n" + checks_text(findings, color) + capacity_text(capacity, workers);
    document["fits"] = fits;
    document["checks"] = checks_json(findings);
    document["workers"] = workers;
    document["devices"] = Json::array();
    for (const auto& each : capacity) {
      document["devices"].push_back({{"transport", each.transport},
                                     {"hubHere", each.embedded},
                                     {"hubHereLimit", each.embedded_limit},
                                     {"hubElsewhere", each.remote},
                                     {"hubElsewhereLimit", each.remote_limit}});
    }
  } else {
    const auto loaded = load(command.scenario, environment);
    if (!loaded) return exit_code::kUsage;
    const auto plan = scenario::make_plan(loaded->scenario, loaded->shards, loaded->workers);
    const auto findings = check_machine(facts, run::machine_needs(plan));
    fits = run::fits(findings);
    text = fmt::format("{}: {} devices, {}\n", plan.scenario.name, format_count(plan.devices),
                       fits ? "this machine can hold them" : "this machine cannot hold them") +
           checks_text(findings, color);
    document["scenario"] = plan.scenario.name;
    document["fits"] = fits;
    document["checks"] = checks_json(findings);
  }
  environment.out << (command.json ? document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n" : text);
  return fits ? exit_code::kPassed : exit_code::kSetup;
}

}  // namespace twinstorm::cli
