#include "sim/scenario/scaling.hpp"

#include <algorithm>

#include "sim/base/assert.hpp"

namespace twinstorm::scenario {

Scenario scaled(const Scenario& scenario, double factor) {
  TS_ASSERT(factor > 0);
  Scenario result = scenario;
  const auto scale = [factor](Rate& rate) { rate.per_second *= factor; };
  for (auto& phase : result.phases) {
    for (auto& load : phase.load) {
      if (load.closed()) continue;
      auto& spec = load.spec;
      for (auto* rate : {&spec.rate, &spec.from, &spec.to, &spec.peak}) scale(*rate);
      for (auto& step : spec.steps) scale(step.rate);
      spec.scale *= factor;
    }
  }
  return result;
}

double asked_rate(const Scenario& resolved) {
  double most = 0;
  for (const auto& phase : resolved.phases) {
    if (!phase.record) continue;
    double rate = 0;
    for (const auto& load : phase.load) {
      if (!load.closed()) rate += load.shape.peak_rate().per_second;
    }
    most = std::max(most, rate);
  }
  return most;
}

}  // namespace twinstorm::scenario
