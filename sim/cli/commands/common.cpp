#include <algorithm>
#include <ostream>
#include <thread>

#include <fmt/format.h>

#include "sim/cli/commands/commands.hpp"
#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::cli {

std::string version() { return TWINSTORM_VERSION; }

int version_command(Environment& environment) {
  environment.out << "twinstorm " << version() << '\n';
  return 0;
}

int fail(Environment& environment, int code, const std::string& message) {
  environment.err << "twinstorm: " << message << '\n';
  return code;
}

std::optional<LoadedScenario> load_unresolved(const ScenarioOptions& options, Environment& environment) {
  auto overrides = options.overrides;
  if (options.seed) overrides.push_back("seed=" + std::to_string(*options.seed));
  const auto loaded = scenario::load_scenario_file(options.file, overrides);
  if (!loaded.ok()) {
    environment.err << scenario::to_string(loaded.diagnostics);
    environment.err << "twinstorm: " << loaded.diagnostics.size()
                    << (loaded.diagnostics.size() == 1 ? " mistake" : " mistakes")
                    << " in the scenario; nothing was started\n";
    return std::nullopt;
  }
  LoadedScenario result;
  const auto& target = loaded.scenario->target;
  const bool embedded = target.kind == scenario::Target::Kind::embedded;
  const unsigned hubs = embedded ? target.hub.processes : 1;  // each shard talks to one of them
  unsigned shards = options.shards;
  if (shards == 0) {
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    // The embedded hubs want their share of the same machine.
    const unsigned hub = embedded ? target.hub.threads * hubs : 0;
    shards = std::max(cores > hub ? cores - hub : 1, options.workers);
    shards = (shards + hubs - 1) / hubs * hubs;
  } else if (shards < options.workers) {
    environment.err << fmt::format(
        "twinstorm: {} shards are too few for {} workers, which have at least one each: give "
        "--shards {} or more, or leave it out\n",
        shards, options.workers, options.workers);
    return std::nullopt;
  } else if (shards % hubs != 0) {
    environment.err << fmt::format(
        "twinstorm: {} shards cannot be shared out evenly to {} hubs: give --shards {}, or "
        "leave it out\n",
        shards, hubs, (shards + hubs - 1) / hubs * hubs);
    return std::nullopt;
  }
  result.shards = static_cast<ShardId>(shards);
  result.workers = options.workers;
  result.scenario = *loaded.scenario;
  return result;
}

std::optional<LoadedScenario> load(const ScenarioOptions& options, Environment& environment) {
  auto loaded = load_unresolved(options, environment);
  if (loaded) loaded->scenario = scenario::resolve(loaded->scenario, loaded->shards);
  return loaded;
}

}  // namespace twinstorm::cli
