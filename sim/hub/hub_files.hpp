// What a hub process tells the outside: a ready file for programs, a few lines for people.
#pragma once

#include <filesystem>
#include <string>

#include "sim/base/result.hpp"
#include "sim/hub/hub.hpp"

namespace twinstorm::hub {

/// The ready file's JSON: `pid, hostName, listen, mqttPort, mqttsPort, httpPort, httpsPort, metricsUrl, caFile,
/// ownerConnectionString, serviceConnectionString`; members of what is off are absent. Contains keys.
std::string ready_json(const Hub& hub);

/// Writes `ready_json` to `path` by way of a neighbour file and a rename, readable by the owner only: a reader sees
/// nothing or everything. Fails with `io` naming the path.
Result<void> write_ready_file(const std::filesystem::path& path, const Hub& hub);

/// Several lines for a terminal: addresses, how to trust the CA, connection strings, and how to make a device with a
/// token that is good for a day from `now`. Ends with a line feed. Contains keys.
std::string describe_for_people(const Hub& hub, WallTime now);

}  // namespace twinstorm::hub
