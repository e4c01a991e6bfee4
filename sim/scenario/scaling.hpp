// The same scenario with more or less load.
#pragma once

#include "sim/scenario/scenario.hpp"

namespace twinstorm::scenario {

/// Every rate of an open-model load times `factor` (> 0), in all phases. Connects, closed-model loads and what devices
/// send by themselves stay as they are. To be resolved afterwards: connections follow the rates.
Scenario scaled(const Scenario& scenario, double factor);

/// What open-model loads ask for together, at its peak, in the recorded phase that asks for most; operations per
/// second. 0 when there is none. Requires a resolved scenario.
double asked_rate(const Scenario& resolved);

}  // namespace twinstorm::scenario
