#include "sim/protocol/service_routes.hpp"

#include <algorithm>
#include <array>
#include <span>

#include <fmt/format.h>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/text.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm::protocol {
namespace {

using Op = ServiceOperation;
using Capture = std::string ServiceRoute::*;

/// One segment of a pattern: literal text, or a member that takes the decoded segment.
struct Segment {
  std::string_view literal;
  Capture capture = nullptr;
};
constexpr Segment kDevice{{}, &ServiceRoute::device_id};
constexpr Segment kModule{{}, &ServiceRoute::module_id};
constexpr Segment kJob{{}, &ServiceRoute::job_id};
constexpr Segment kConfiguration{{}, &ServiceRoute::configuration_id};
constexpr Segment kLock{{}, &ServiceRoute::lock_token};
constexpr Segment kComponent{{}, &ServiceRoute::component_path};
constexpr Segment kCommand{{}, &ServiceRoute::command_name};
constexpr Segment literal(std::string_view text) { return {text, nullptr}; }

constexpr size_t kSegmentsMax = 6;
struct Pattern {
  std::string_view method;
  Op operation;
  std::array<Segment, kSegmentsMax> segments;
  size_t size;
};
template <class... Segments>
constexpr Pattern on(std::string_view method, Op operation, Segments... segments) {
  return {method, operation, {segments...}, sizeof...(segments)};
}

// service.md 3.3. The frequent ones first; a literal stands in front of an id in the same place.
constexpr std::array kPatterns = {
    on("PATCH", Op::patch_twin, literal("twins"), kDevice),
    on("GET", Op::get_twin, literal("twins"), kDevice),
    on("PUT", Op::replace_twin, literal("twins"), kDevice),
    on("POST", Op::query_devices, literal("devices"), literal("query")),
    on("PUT", Op::create_or_update_device, literal("devices"), kDevice),
    on("GET", Op::get_device, literal("devices"), kDevice),
    on("DELETE", Op::delete_device, literal("devices"), kDevice),
    on("GET", Op::list_devices, literal("devices")),
    on("POST", Op::bulk_devices, literal("devices")),
    on("GET", Op::device_statistics, literal("statistics"), literal("devices")),
    on("GET", Op::service_statistics, literal("statistics"), literal("service")),
    on("PUT", Op::create_or_update_module, literal("devices"), kDevice, literal("modules"), kModule),
    on("GET", Op::get_module, literal("devices"), kDevice, literal("modules"), kModule),
    on("DELETE", Op::delete_module, literal("devices"), kDevice, literal("modules"), kModule),
    on("GET", Op::list_modules, literal("devices"), kDevice, literal("modules")),
    on("POST", Op::apply_configuration, literal("devices"), kDevice, literal("applyConfigurationContent")),
    on("DELETE", Op::purge_commands, literal("devices"), kDevice, literal("commands")),
    on("GET", Op::get_twin, literal("twins"), kDevice, literal("modules"), kModule),
    on("PATCH", Op::patch_twin, literal("twins"), kDevice, literal("modules"), kModule),
    on("PUT", Op::replace_twin, literal("twins"), kDevice, literal("modules"), kModule),
    on("POST", Op::invoke_method, literal("twins"), kDevice, literal("methods")),
    on("POST", Op::invoke_method, literal("twins"), kDevice, literal("modules"), kModule, literal("methods")),
    on("GET", Op::query_jobs, literal("jobs"), literal("v2"), literal("query")),
    on("PUT", Op::create_job, literal("jobs"), literal("v2"), kJob),
    on("GET", Op::get_job, literal("jobs"), literal("v2"), kJob),
    on("POST", Op::cancel_job, literal("jobs"), literal("v2"), kJob, literal("cancel")),
    on("POST", Op::create_import_export_job, literal("jobs"), literal("create")),
    on("GET", Op::list_import_export_jobs, literal("jobs")),
    on("GET", Op::get_import_export_job, literal("jobs"), kJob),
    on("DELETE", Op::cancel_import_export_job, literal("jobs"), kJob),
    on("POST", Op::test_configuration_queries, literal("configurations"), literal("testQueries")),
    on("PUT", Op::create_or_update_configuration, literal("configurations"), kConfiguration),
    on("GET", Op::get_configuration, literal("configurations"), kConfiguration),
    on("DELETE", Op::delete_configuration, literal("configurations"), kConfiguration),
    on("GET", Op::list_configurations, literal("configurations")),
    on("GET", Op::receive_feedback, literal("messages"), literal("serviceBound"), literal("feedback")),
    on("DELETE", Op::complete_feedback, literal("messages"), literal("serviceBound"), literal("feedback"), kLock),
    on("POST", Op::abandon_feedback, literal("messages"), literal("serviceBound"), literal("feedback"), kLock,
       literal("abandon")),
    on("GET", Op::get_digital_twin, literal("digitaltwins"), kDevice),
    on("PATCH", Op::patch_digital_twin, literal("digitaltwins"), kDevice),
    on("POST", Op::invoke_digital_twin_command, literal("digitaltwins"), kDevice, literal("commands"), kCommand),
    on("POST", Op::invoke_digital_twin_command, literal("digitaltwins"), kDevice, literal("components"), kComponent,
       literal("commands"), kCommand),
};

bool path_matches(const Pattern& pattern, std::span<const std::string_view> path) {
  if (pattern.size != path.size()) return false;
  for (size_t i = 0; i < path.size(); ++i) {
    const auto& segment = pattern.segments[i];
    if (segment.capture == nullptr ? !equal_ignoring_case(segment.literal, path[i]) : path[i].empty()) return false;
  }
  return true;
}

std::string with_version(std::string target) {
  target.append("?api-version=").append(kApiVersion);
  return target;
}

}  // namespace

const char* to_string(ServiceOperation operation) {
  switch (operation) {
    case Op::create_or_update_device:
      return "createOrUpdateDevice";
    case Op::get_device:
      return "getDevice";
    case Op::delete_device:
      return "deleteDevice";
    case Op::list_devices:
      return "listDevices";
    case Op::bulk_devices:
      return "bulkDevices";
    case Op::query_devices:
      return "queryDevices";
    case Op::device_statistics:
      return "deviceStatistics";
    case Op::service_statistics:
      return "serviceStatistics";
    case Op::create_or_update_module:
      return "createOrUpdateModule";
    case Op::get_module:
      return "getModule";
    case Op::delete_module:
      return "deleteModule";
    case Op::list_modules:
      return "listModules";
    case Op::apply_configuration:
      return "applyConfiguration";
    case Op::purge_commands:
      return "purgeCommands";
    case Op::get_twin:
      return "getTwin";
    case Op::patch_twin:
      return "patchTwin";
    case Op::replace_twin:
      return "replaceTwin";
    case Op::invoke_method:
      return "invokeMethod";
    case Op::create_job:
      return "createJob";
    case Op::get_job:
      return "getJob";
    case Op::cancel_job:
      return "cancelJob";
    case Op::query_jobs:
      return "queryJobs";
    case Op::create_import_export_job:
      return "createImportExportJob";
    case Op::list_import_export_jobs:
      return "listImportExportJobs";
    case Op::get_import_export_job:
      return "getImportExportJob";
    case Op::cancel_import_export_job:
      return "cancelImportExportJob";
    case Op::create_or_update_configuration:
      return "createOrUpdateConfiguration";
    case Op::get_configuration:
      return "getConfiguration";
    case Op::delete_configuration:
      return "deleteConfiguration";
    case Op::list_configurations:
      return "listConfigurations";
    case Op::test_configuration_queries:
      return "testConfigurationQueries";
    case Op::receive_feedback:
      return "receiveFeedback";
    case Op::complete_feedback:
      return "completeFeedback";
    case Op::abandon_feedback:
      return "abandonFeedback";
    case Op::get_digital_twin:
      return "getDigitalTwin";
    case Op::patch_digital_twin:
      return "patchDigitalTwin";
    case Op::invoke_digital_twin_command:
      return "invokeDigitalTwinCommand";
  }
  return "unknown";
}

std::optional<std::string_view> ServiceRoute::parameter(std::string_view name) const {
  for (const auto& [key, value] : parameters) {
    if (equal_ignoring_case(key, name)) return value;
  }
  return std::nullopt;
}

std::optional<int> ServiceRoute::top() const {
  const auto text = parameter("top");
  return text ? parse_decimal<int>(*text) : std::nullopt;
}

Result<ServiceRoute> parse_service_route(std::string_view method, std::string_view target) {
  auto path = target.substr(0, target.find('?'));
  const auto query = path.size() == target.size() ? std::string_view{} : target.substr(path.size() + 1);
  const auto fail = [&, as_sent = path](ErrorCode code, std::string_view why) {
    return make_error(code, fmt::format("{} {}: {}", method, as_sent, why));
  };
  if (!path.empty() && path.front() != '/') {
    const size_t scheme = path.find("://");  // absolute form, RFC 9112 section 3.2.2
    if (scheme == std::string_view::npos) return fail(ErrorCode::not_found, "the path has to begin with /");
    const size_t slash = path.find('/', scheme + 3);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash);
  }
  if (!path.empty()) path.remove_prefix(1);
  if (!path.empty() && path.back() == '/') path.remove_suffix(1);  // the SDK lists devices as /devices/

  std::array<std::string_view, kSegmentsMax> segments;
  size_t count = 0;
  for (TextSplitter parts{path, '/'}; parts.next();) {
    if (count == segments.size()) return fail(ErrorCode::not_found, "no such resource");
    segments[count++] = parts.part();
  }
  const auto span = std::span{segments}.first(count);

  bool path_known = false;
  for (const auto& pattern : kPatterns) {
    if (!path_matches(pattern, span)) continue;
    path_known = true;
    if (pattern.method != method) continue;
    ServiceRoute route;
    route.operation = pattern.operation;
    for (size_t i = 0; i < count; ++i) {
      if (pattern.segments[i].capture == nullptr) continue;
      auto decoded = percent_decode(segments[i]);
      if (!decoded) return fail(ErrorCode::invalid_argument, decoded.error().message);
      route.*(pattern.segments[i].capture) = std::move(*decoded);
    }
    for (TextSplitter pairs{query, '&'}; pairs.next();) {
      const auto pair = pairs.part();
      const size_t equals = pair.find('=');
      auto name = percent_decode(pair.substr(0, equals));
      auto value = percent_decode(equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1));
      if (!name) return fail(ErrorCode::invalid_argument, name.error().message);
      if (!value) return fail(ErrorCode::invalid_argument, value.error().message);
      if (!name->empty()) route.parameters.emplace_back(std::move(*name), std::move(*value));
    }
    return route;
  }
  if (path_known) return fail(ErrorCode::precondition_failed, "the resource exists, but not with this method");
  return fail(ErrorCode::not_found, "no such resource");
}

bool is_known_api_version(std::string_view version) {
  constexpr std::array<std::string_view, 16> kKnown{
      "2021-04-12",         "2020-09-30",         "2024-03-31", "2020-05-31-preview", "2020-03-13", "2020-03-01",
      "2019-10-01",         "2019-07-01-preview", "2019-03-30", "2018-08-30-preview", "2018-06-30", "2018-04-01",
      "2017-11-08-preview", "2017-06-30",         "2016-11-14", "2016-02-03"};
  return std::find(kKnown.begin(), kKnown.end(), version) != kKnown.end();
}

namespace service_target {

std::string device(std::string_view device_id) { return with_version("/devices/" + percent_encode(device_id)); }
std::string devices() { return with_version("/devices"); }
std::string device_list(int top) { return fmt::format("{}&top={}", with_version("/devices/"), top); }
std::string query() { return with_version("/devices/query"); }
std::string device_statistics() { return with_version("/statistics/devices"); }
std::string service_statistics() { return with_version("/statistics/service"); }
std::string module(std::string_view device_id, std::string_view module_id) {
  return with_version("/devices/" + percent_encode(device_id) + "/modules/" + percent_encode(module_id));
}
std::string modules(std::string_view device_id) {
  return with_version("/devices/" + percent_encode(device_id) + "/modules");
}
std::string twin(std::string_view device_id, std::string_view module_id) {
  auto target = "/twins/" + percent_encode(device_id);
  if (!module_id.empty()) target += "/modules/" + percent_encode(module_id);
  return with_version(std::move(target));
}
std::string method(std::string_view device_id, std::string_view module_id) {
  auto target = "/twins/" + percent_encode(device_id);
  if (!module_id.empty()) target += "/modules/" + percent_encode(module_id);
  return with_version(target + "/methods");
}
std::string job(std::string_view job_id) { return with_version("/jobs/v2/" + percent_encode(job_id)); }
std::string configuration(std::string_view configuration_id) {
  return with_version("/configurations/" + percent_encode(configuration_id));
}
void append_twin(std::string& out, std::string_view device_id) {
  out.append("/twins/");
  append_percent_encoded(out, device_id);
  out.append("?api-version=").append(kApiVersion);
}

}  // namespace service_target

}  // namespace twinstorm::protocol
