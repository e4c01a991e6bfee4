#include <filesystem>
#include <ostream>

#include "metrics/run_record.hpp"
#include "report/report.hpp"
#include "sim/base/units.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/cli/live_display.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::cli {
namespace {

/// What to type to repeat it: the seed is spelt out, secrets are not.
std::string reproduce(const RunCommand& command, const scenario::Scenario& scenario, ShardId shards, unsigned workers) {
  std::string text = "twinstorm run " + command.scenario.file;
  for (const auto& each : command.scenario.overrides)
    text += " --set '" + protocol::redact_connection_string(each) + "'";
  text += " --seed " + std::to_string(scenario.seed) + " --shards " + std::to_string(shards);
  if (workers > 1) text += " --workers " + std::to_string(workers);
  return command.force ? text + " --force" : text;
}

}  // namespace

int run_command(const RunCommand& command, Environment& environment) {
  Nanos linger{0};
  if (!command.linger.empty()) {
    const auto parsed = parse_duration(command.linger);
    if (!parsed) return fail(environment, exit_code::kUsage, "--linger: " + parsed.error().message);
    linger = *parsed;
  }
  Nanos push_every = std::chrono::seconds{5};
  if (!command.push_every.empty()) {
    const auto parsed = parse_duration(command.push_every);
    if (!parsed) return fail(environment, exit_code::kUsage, "--push-every: " + parsed.error().message);
    if (*parsed < std::chrono::milliseconds{100}) {
      return fail(environment, exit_code::kUsage,
                  "--push-every: " + command.push_every + " is too often, at least 100ms must be between two pushes");
    }
    push_every = *parsed;
  }
  const auto loaded = load(command.scenario, environment);
  if (!loaded) return exit_code::kUsage;

  run::RunOptions options;
  options.scenario = loaded->scenario;
  options.shards = loaded->shards;
  options.workers = loaded->workers;
  options.resolved_yaml = scenario::resolved_yaml(loaded->scenario);
  options.folder = command.out.empty() ? std::filesystem::path{"runs"} /
                                             (loaded->scenario.name + "-" + format_compact_utc(SteadyClock{}.wall()))
                                       : std::filesystem::path{command.out};
  options.binary = environment.binary;
  options.force = command.force;
  options.metrics_listen = command.metrics_listen;
  options.linger = linger;
  options.push_gateway = command.push_gateway;
  options.push_every = push_every;
  options.push_delete = command.push_delete;
  options.version = version();
  options.command = reproduce(command, loaded->scenario, loaded->shards, loaded->workers);

  const bool color = !environment.no_color && !command.no_color;
  using Mode = LiveDisplay::Mode;
  const Mode mode = command.quiet                                    ? Mode::quiet
                    : environment.err_is_terminal && !command.no_tui ? Mode::block
                                                                     : Mode::lines;
  LiveDisplay display{environment.err, mode, color};
  const auto outcome = run::execute_run(options, environment.control, display);
  if (!outcome) {
    const bool usage =
        outcome.error().code == ErrorCode::already_exists && std::filesystem::exists(options.folder / "summary.json");
    return fail(environment, usage ? exit_code::kUsage : exit_code::kSetup, outcome.error().message);
  }

  if (outcome->record_error) {
    environment.err << "twinstorm: the run ended as " << metrics::to_string(outcome->verdict.status)
                    << ", but its record is incomplete\n";
    for (const auto& reason : outcome->verdict.reasons) environment.err << "twinstorm: " << reason << '\n';
    return fail(environment, exit_code::kInternal, outcome->record_error->message);
  }
  const auto recorded = metrics::load_run(outcome->folder);
  if (!recorded)
    return fail(environment, exit_code::kInternal,
                "the record just written cannot be read: " + recorded.error().message);
  const auto html_path = outcome->folder / "report.html";
  const auto html = report::render_html(*recorded);
  if (!html) return fail(environment, exit_code::kInternal, html.error().message);
  for (const auto& [file, text] :
       {std::pair{html_path, *html}, std::pair{outcome->folder / "junit.xml", report::render_junit(*recorded)}}) {
    if (const auto written = metrics::write_file_atomically(file, text); !written) {
      return fail(environment, exit_code::kInternal, written.error().message);
    }
  }
  report::TextOptions text;
  text.color = color && environment.out_is_terminal;
  text.run_folder = outcome->folder.string();
  text.report_path = html_path.string();
  environment.out << report::render_text(*recorded, text) << std::flush;
  return outcome->verdict.exit_code;
}

}  // namespace twinstorm::cli
