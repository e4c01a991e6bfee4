// The service API's scheduled jobs: PUT, GET and cancel of /jobs/v2/{id}, GET /jobs/v2/query (service.md 8). They go to
// the first shard, which keeps the book, and come back to the one that asked.
#pragma once

#include <functional>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {

/// True for `create_job`, `get_job`, `cancel_job`, `query_jobs`; import and export jobs are another thing.
bool concerns_jobs(protocol::ServiceOperation operation);

/// Answers such a call. `done` runs on `origin`'s thread, before this returns when `origin` is the first shard.
void serve_job(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done);

}  // namespace twinstorm::hub
