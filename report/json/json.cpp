#include <nlohmann/json.hpp>

#include "metrics/run_record.hpp"
#include "report/report.hpp"

namespace twinstorm::report {

std::string render_json(const metrics::LoadedRun& run) {
  return metrics::to_json(run.record).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace twinstorm::report
