// The machine and its limits: for env.json, and for refusing runs that cannot work here.
#pragma once

#include <cstdint>
#include <string>

#include "sim/base/result.hpp"

namespace twinstorm::run {

/// env.json: cores, CPU model, memory, kernel, clock source, limits, compiler, versions. No names of machines or
/// people.
std::string describe_environment(const std::string& version);

/// Raises the soft descriptor limit to the hard one and checks that `needed` fit. The error says what to change.
Result<void> ensure_descriptors(uint64_t needed);

}  // namespace twinstorm::run
