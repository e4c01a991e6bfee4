// Queries over every shard: the query API itself, and the conditions of jobs and configurations.
//
// A scan works in slices (slice_queue.hpp), so that a question about all twins does not keep devices and patches
// waiting. Between two slices twins change, come and go; a scan remembers the key it has come to and goes on behind it.
// Each twin is looked at once, as it is at that moment: a twin that exists during the whole scan is never missed and
// never counted twice, one that comes or goes meanwhile may be in or out. What is looked at is the twin as queries see
// it, which may be an older version (`HubConfig::query_staleness`).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/query/query.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {

/// Answers POST /devices/query: one page and its continuation token. `done` runs once on `origin`'s thread; before this
/// returns when the call is refused, or when there is only one shard and the scan fits into one slice. Must be called
/// on `origin`'s thread, as the following two.
///
/// Only so many queries are under way at a time (query_lane.hpp). One whose client has left by `call.wanted` when its
/// turn comes is not begun: `done` then gets an abandoned answer. One that has begun goes on to its end: a client that
/// has only ended its sending side cannot be told from one that has left, and has a right to its answer.
void serve_query(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done);

/// Keys, by shard id, in ascending order of (deviceId, moduleId): `deviceId` for a condition over devices,
/// `deviceId/moduleId` for one over modules.
using KeysByShard = std::vector<std::vector<std::string>>;

/// The twins for which `condition` (of Query::parse_condition, or any query that does not aggregate) holds. TOP is not
/// looked at. A condition over `devices.jobs` selects nothing. `done` as above.
void select_twins(Shard& origin, query::Query condition, std::function<void(KeysByShard)> done);

/// How many rows the whole answer to `query` has, TOP considered: what a metric query of a configuration counts. An
/// aggregating query without GROUP BY has one row. `done` as above.
void count_rows(Shard& origin, query::Query query, std::function<void(uint64_t)> done);

}  // namespace twinstorm::hub
