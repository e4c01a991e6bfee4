// The service API of automatic device management (service.md 9). No sockets.
#pragma once

#include <functional>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {

/// Answers create or update, get, list, delete and testQueries. Configurations live on the first shard; `done` runs on
/// `origin`'s thread, before this returns when that is the first.
void serve_configuration(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done);

/// POST /devices/{id}/applyConfigurationContent, on the device's owner: 204, or 400 for a device without edge
/// capability.
ServiceResult<ServiceAnswer> apply_configuration_content(const ServiceCall& call, Shard& shard);

}  // namespace twinstorm::hub
