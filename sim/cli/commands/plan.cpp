#include "sim/scenario/plan.hpp"

#include <ostream>

#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"

namespace twinstorm::cli {

int plan_command(const PlanCommand& command, Environment& environment) {
  const auto loaded = load(command.scenario, environment);
  if (!loaded) return exit_code::kUsage;
  const auto plan = scenario::make_plan(loaded->scenario, loaded->shards, loaded->workers);
  environment.out << (command.json ? scenario::plan_json(plan) : scenario::plan_text(plan));
  return exit_code::kPassed;
}

}  // namespace twinstorm::cli
