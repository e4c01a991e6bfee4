// The machine and the build, for env.json.
#pragma once

#include <string>

namespace twinstorm::run {

/// env.json: cores, CPU model, memory, kernel, clock source, limits, compiler, versions. No names of machines or
/// people.
std::string describe_environment(const std::string& version);

}  // namespace twinstorm::run
