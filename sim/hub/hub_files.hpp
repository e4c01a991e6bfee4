// What a hub process tells the outside: a ready file for programs, a few lines for people.
#pragma once

#include <filesystem>
#include <string>

#include "sim/base/result.hpp"
#include "sim/hub/hub.hpp"

namespace twinstorm::hub {

/// The ready file's JSON: `pid, hostName, listen, mqttPort, httpPort, metricsUrl,
/// ownerConnectionString, serviceConnectionString`; members of what is off are absent. Contains keys.
std::string ready_json(const Hub& hub);

/// Writes `ready_json` to `path` by way of a neighbour file and a rename, readable by the owner only: a reader sees
/// nothing or everything. Fails with `io` naming the path.
Result<void> write_ready_file(const std::filesystem::path& path, const Hub& hub);

/// Several lines for a terminal: addresses and connection strings, ends with a line feed. Contains keys.
std::string describe_for_people(const Hub& hub);

}  // namespace twinstorm::hub
