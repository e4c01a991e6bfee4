// The run record reduced to what the page draws: schema twinstorm/page/1, described in report/web/src/model.ts.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "metrics/run_record.hpp"

namespace twinstorm::report {

nlohmann::json page_data(const metrics::LoadedRun& run);

}  // namespace twinstorm::report
