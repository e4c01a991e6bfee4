// The service side's HTTP resources: target text to meaning and back (service.md 3.3).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/base/result.hpp"

namespace twinstorm::protocol {

/// One enumerator per method and path. Names say verb and object as the service's documentation does.
enum class ServiceOperation : uint8_t {
  create_or_update_device,
  get_device,
  delete_device,
  list_devices,        ///< GET /devices or /devices/
  bulk_devices,        ///< POST /devices
  query_devices,       ///< POST /devices/query
  device_statistics,   ///< GET /statistics/devices
  service_statistics,  ///< GET /statistics/service
  create_or_update_module,
  get_module,
  delete_module,
  list_modules,
  apply_configuration,  ///< POST /devices/{id}/applyConfigurationContent
  purge_commands,       ///< DELETE /devices/{id}/commands
  get_twin,             ///< device or module, by `module_id`
  patch_twin,
  replace_twin,
  invoke_method,
  create_job,  ///< PUT /jobs/v2/{jobId}
  get_job,
  cancel_job,
  query_jobs,  ///< GET /jobs/v2/query?jobType=&jobStatus=
  create_import_export_job,
  list_import_export_jobs,
  get_import_export_job,
  cancel_import_export_job,
  create_or_update_configuration,
  get_configuration,
  delete_configuration,
  list_configurations,
  test_configuration_queries,
  receive_feedback,
  complete_feedback,
  abandon_feedback,
  get_digital_twin,
  patch_digital_twin,
  invoke_digital_twin_command,
};
/// `getTwin`, `queryDevices`, ...: lowerCamel of the enumerator.
const char* to_string(ServiceOperation operation);

/// A query parameter, both sides percent-decoded.
using QueryParameter = std::pair<std::string, std::string>;

/// Members the operation has not are empty.
struct ServiceRoute {
  ServiceOperation operation = ServiceOperation::get_device;
  std::string device_id;
  std::string module_id;
  std::string job_id;
  std::string configuration_id;
  std::string lock_token;      ///< feedback
  std::string component_path;  ///< digital twin component
  std::string command_name;    ///< digital twin command
  std::vector<QueryParameter> parameters;

  /// By name without case; the first of repeated ones.
  std::optional<std::string_view> parameter(std::string_view name) const;
  std::optional<std::string_view> api_version() const { return parameter("api-version"); }
  /// Decimal value of `top`; nullopt when absent or not a number.
  std::optional<int> top() const;
};

/// `method` is the HTTP method, `target` the request target in origin or absolute form. Segments are split on `/` and
/// then percent-decoded, so an id may hold any character. Fails with `not_found` (no such path; `invalid_argument` for
/// broken percent-encoding) or with `precondition_failed` when the path exists but not with this method (answer 405).
Result<ServiceRoute> parse_service_route(std::string_view method, std::string_view target);

/// Versions of the service API that the hub answers alike: those of published SDKs and tools (service.md 3.1).
bool is_known_api_version(std::string_view version);

/// What the client sends. Targets carry `?api-version=2021-04-12`; ids are percent-encoded.
namespace service_target {
std::string device(std::string_view device_id);
std::string devices();
std::string device_list(int top);
std::string query();
std::string device_statistics();
std::string service_statistics();
std::string module(std::string_view device_id, std::string_view module_id);
std::string modules(std::string_view device_id);
std::string twin(std::string_view device_id, std::string_view module_id = {});
std::string method(std::string_view device_id, std::string_view module_id = {});
std::string job(std::string_view job_id);
std::string configuration(std::string_view configuration_id);
/// As `twin` for a device, appended: the patch hot path.
void append_twin(std::string& out, std::string_view device_id);
}  // namespace service_target

}  // namespace twinstorm::protocol
