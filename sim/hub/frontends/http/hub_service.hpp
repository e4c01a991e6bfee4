// The service API's operations on many devices: bulk registration, list, statistics, queries. They visit every shard
// and come back to the one that asked.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {

/// Answers a call for which `concerns_one_device` is false; unsupported operations with 501. `done` runs on `origin`'s
/// thread, before this returns when there is only one shard.
void serve_hub(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done);

}  // namespace twinstorm::hub
