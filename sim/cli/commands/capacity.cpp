// Runs a scenario again and again with more or less load until it is known how much still holds.
#include "metrics/capacity.hpp"

#include <filesystem>
#include <ostream>
#include <set>

#include <fmt/format.h>

#include "report/report.hpp"
#include "report/wording.hpp"
#include "sim/base/units.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/cli/live_display.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/scenario/plan.hpp"
#include "sim/scenario/scaling.hpp"

namespace twinstorm::cli {
namespace {

namespace fs = std::filesystem;
using metrics::CapacitySearch;
using metrics::ProbeVerdict;

constexpr double kMostPerSecond = 1'000'000;  // of one load: the limit of a scenario

class Search {
 public:
  Search(const CapacityCommand& command, Environment& environment, scenario::Scenario scenario, ShardId shards)
      : command_{command}, environment_{environment}, scenario_{std::move(scenario)}, shards_{shards} {}

  int execute() {
    SteadyClock clock;
    base_rate_ = scenario::asked_rate(scenario::resolve(scenario_, shards_));
    if (base_rate_ <= 0) {
      return fail(
          environment_, exit_code::kUsage,
          "the search changes the rates of open-model loads, and no recorded phase has one: give a phase a load "
          "such as load: {rollout: 50/s}");
    }
    if (scenario_.slos.empty() && scenario_.invariants.empty()) {
      return fail(environment_, exit_code::kUsage,
                  "the scenario states no objectives and no invariants, so every rate would do: add slos, such as "
                  "convergence p99 < 500ms");
    }
    CapacitySearch::Options options;
    options.precision = command_.precision / 100;
    if (!command_.from.empty() && !read_rate("--from", command_.from, options.start)) return exit_code::kUsage;
    options.highest = std::max(options.start, std::min(options.highest * options.start, kMostPerSecond / base_rate_));
    if (!command_.to.empty() && !read_rate("--to", command_.to, options.highest)) return exit_code::kUsage;
    if (options.highest < options.start) {
      return fail(environment_, exit_code::kUsage, "--to is below the rate to begin with");
    }
    options.lowest = options.start / 64;

    record_.run.scenario = scenario_.name;
    record_.run.description = scenario_.description;
    record_.run.seed = scenario_.seed;
    record_.run.started_at = format_iso8601(clock.wall());
    record_.run.version = version();
    record_.run.command = reproduce();
    record_.precision = options.precision;
    folder_ = command_.out.empty()
                  ? fs::path{"runs"} / ("capacity-" + scenario_.name + "-" + format_compact_utc(clock.wall()))
                  : fs::path{command_.out};
    record_.run.id = folder_.filename().string();
    if (fs::exists(folder_ / "capacity.json")) {
      return fail(environment_, exit_code::kUsage,
                  folder_.string() + " holds a search already: give another folder with --out");
    }

    const MonoTime began = clock.mono();
    CapacitySearch search{options};
    while (const auto factor = search.next()) {
      const auto probe = run_once(*factor);
      if (!probe) return exit_code::kSetup;
      record_.run.duration_seconds = to_seconds(clock.mono() - began);
      if (environment_.control.signals.load() > 0) {
        record_.interrupted = true;
        break;
      }
      search.record(*probe);
      conclude(search);
      if (!write()) return exit_code::kInternal;
    }
    conclude(search);
    if (!write() || !write_report()) return exit_code::kInternal;
    environment_.out << report::render_capacity_text(record_) << "report  " << (folder_ / "report.html").string()
                     << '\n'
                     << std::flush;
    return exit_code_of(search.result().limit);
  }

 private:
  bool read_rate(const char* option, const std::string& text, double& factor) {
    const auto rate = parse_rate(text);
    if (!rate || rate->per_second <= 0) {
      fail(environment_, exit_code::kUsage,
           fmt::format("{}: {}", option, rate ? "a rate above 0, such as 50/s" : rate.error().message));
      return false;
    }
    factor = rate->per_second / base_rate_;
    return true;
  }

  std::string reproduce() const {
    std::string text = "twinstorm capacity " + command_.scenario.file;
    for (const auto& each : command_.scenario.overrides)
      text += " --set '" + protocol::redact_connection_string(each) + "'";
    if (!command_.from.empty()) text += " --from " + command_.from;
    if (!command_.to.empty()) text += " --to " + command_.to;
    return text + fmt::format(" --precision {:g} --seed {} --shards {}", command_.precision, scenario_.seed, shards_);
  }

  /// Nothing: measurement never began.
  std::optional<ProbeVerdict> run_once(double factor) {
    const size_t number = record_.probes.size() + 1;
    auto scenario = scenario::scaled(scenario_, factor);
    scenario.seed += number - 1;  // other devices and moments each time, so that a repetition is one
    run::RunOptions options;
    options.scenario = scenario::resolve(scenario, shards_);
    options.shards = shards_;
    options.resolved_yaml = scenario::resolved_yaml(options.scenario);
    options.folder = folder_ / fmt::format("run-{:02}", number);
    options.binary = environment_.binary;
    options.version = version();
    options.command = "twinstorm run " + (options.folder / "resolved.yaml").string();
    const double asked = base_rate_ * factor;
    environment_.err << fmt::format("run {}: {} asked for", number, format_rate(Rate{asked})) << std::endl;
    const bool watch = !command_.quiet && environment_.err_is_terminal && !command_.no_tui;
    LiveDisplay display{environment_.err, watch ? LiveDisplay::Mode::block : LiveDisplay::Mode::quiet,
                        !environment_.no_color && !command_.no_color};
    const auto outcome = run::execute_run(options, environment_.control, display);
    if (!outcome) {
      fail(environment_, exit_code::kSetup, outcome.error().message);
      return std::nullopt;
    }
    const auto recorded = metrics::load_run(outcome->folder);
    if (!recorded) {
      fail(environment_, exit_code::kInternal, recorded.error().message);
      return std::nullopt;
    }
    if (const auto html = report::render_html(*recorded)) {
      if (const auto ok = metrics::write_file_atomically(outcome->folder / "report.html", *html); !ok) {
        environment_.err << "twinstorm: " << ok.error().message << '\n';
      }
    }
    auto probe = metrics::capacity_probe(recorded->record, factor, options.folder.filename().string());
    probe.asked_per_second = asked;
    probe.delivered_per_second = asked * delivered_share(recorded->record, options.scenario);
    if (probe.verdict == ProbeVerdict::holds || record_.slos.empty()) record_.slos = recorded->record.slos;
    environment_.err << fmt::format("run {}: {}", number, metrics::to_string(probe.verdict));
    if (!probe.reasons.empty()) environment_.err << ": " << report::printable(probe.reasons.front());
    environment_.err << std::endl;
    record_.probes.push_back(std::move(probe));
    return record_.probes.back().verdict;
  }

  /// Of what the open loads of recorded phases asked.
  static double delivered_share(const metrics::RunRecord& record, const scenario::Scenario& scenario) {
    std::set<std::string> open;
    const auto streams = scenario.streams();
    for (const auto& phase : scenario.phases) {
      for (const auto& load : phase.load) {
        if (phase.record && !load.closed()) open.insert(streams[load.stream].name);
      }
    }
    uint64_t asked = 0, acknowledged = 0;
    for (const auto& [kind, operation] : record.operations) {
      for (const auto& [name, stream] : operation.streams) {
        if (!open.contains(name)) continue;
        asked += stream.asked;
        acknowledged += stream.acknowledged;
      }
    }
    return asked == 0 ? 0 : static_cast<double>(acknowledged) / static_cast<double>(asked);
  }

  void conclude(const CapacitySearch& search) {
    const auto result = search.result();
    record_.limit = metrics::to_string(result.limit);
    record_.lower_factor = result.lower;
    record_.upper_factor = result.upper;
    const auto rate = [&](std::optional<double> factor) {
      return factor ? std::optional{*factor * base_rate_} : std::nullopt;
    };
    record_.lower_per_second = rate(result.lower);
    record_.upper_per_second = rate(result.upper);
    record_.held = result.held;
    record_.runs = result.runs;
  }

  bool write() { return put("capacity.json", report::render_capacity_json(record_)); }
  bool write_report() {
    const auto html = report::render_capacity_html(record_);
    if (!html) {
      fail(environment_, exit_code::kInternal, html.error().message);
      return false;
    }
    return put("report.html", *html);
  }
  bool put(const char* name, const std::string& text) {
    const auto written = metrics::write_file_atomically(folder_ / name, text);
    if (!written) fail(environment_, exit_code::kInternal, written.error().message);
    return written.has_value();
  }

  int exit_code_of(CapacitySearch::Limit limit) const {
    if (record_.interrupted) {
      return environment_.control.last_signal.load() == 15 ? exit_code::kTerminated : exit_code::kInterrupted;
    }
    switch (limit) {
      case CapacitySearch::Limit::objective:
      case CapacitySearch::Limit::generator:
      case CapacitySearch::Limit::range:
        return record_.lower_factor ? exit_code::kPassed : exit_code::kInvalid;
      case CapacitySearch::Limit::nothing:
        return exit_code::kSlo;
      case CapacitySearch::Limit::none:
      case CapacitySearch::Limit::unusable:
        break;
    }
    return exit_code::kInvalid;
  }

  const CapacityCommand& command_;
  Environment& environment_;
  scenario::Scenario scenario_;  // not resolved
  ShardId shards_;
  double base_rate_ = 0;
  fs::path folder_;
  metrics::CapacityRecord record_;
};

}  // namespace

int capacity_command(const CapacityCommand& command, Environment& environment) {
  auto loaded = load_unresolved(command.scenario, environment);
  if (!loaded) return exit_code::kUsage;
  return Search{command, environment, std::move(loaded->scenario), loaded->shards}.execute();
}

}  // namespace twinstorm::cli
