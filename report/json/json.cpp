#include <nlohmann/json.hpp>

#include "metrics/capacity.hpp"
#include "metrics/run_record.hpp"
#include "report/report.hpp"

namespace twinstorm::report {

std::string render_json(const metrics::LoadedRun& run) {
  return metrics::to_json(run.record).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string render_capacity_json(const metrics::CapacityRecord& record) {
  return metrics::to_json(record).dump(2, ' ', false, metrics::Json::error_handler_t::replace) + "\n";
}

}  // namespace twinstorm::report
