#include <ostream>
#include <thread>

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
  unsigned shards = options.shards;
  if (shards == 0) {
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    const auto& target = loaded.scenario->target;
    // The embedded hub wants its share of the same machine.
    const unsigned hub = target.kind == scenario::Target::Kind::embedded ? target.hub.threads : 0;
    shards = cores > hub ? cores - hub : 1;
  }
  result.shards = static_cast<ShardId>(shards);
  result.scenario = *loaded.scenario;
  return result;
}

std::optional<LoadedScenario> load(const ScenarioOptions& options, Environment& environment) {
  auto loaded = load_unresolved(options, environment);
  if (loaded) loaded->scenario = scenario::resolve(loaded->scenario, loaded->shards);
  return loaded;
}

}  // namespace twinstorm::cli
