#include "sim/hub/policy/requirements.hpp"

#include <array>
#include <string>
#include <utility>

#include "sim/hub/text.hpp"

namespace twinstorm::hub {
namespace {

constexpr uint32_t kAllReads = kDevicesRead | kTwinsRead | kJobsRead | kConfigurationsRead | kStatisticsRead;

constexpr std::array<std::pair<std::string_view, uint32_t>, 4> kRoles{{
    {"iothubdatacontributor", kAllDataActions},
    {"iothubdatareader", kAllReads},
    {"iothubregistrycontributor", kDevicesRead | kDevicesWrite | kDevicesDelete},
    {"iothubtwincontributor", kTwinsRead | kTwinsWrite},
}};

}  // namespace

Requirement requirement_of(protocol::ServiceOperation operation) {
  using Op = protocol::ServiceOperation;
  switch (operation) {
    case Op::get_device:
    case Op::list_devices:
    case Op::get_module:
    case Op::list_modules:
      return {kRegistryRead, kDevicesRead};
    case Op::device_statistics:
    case Op::service_statistics:
      return {kRegistryRead, kStatisticsRead};
    case Op::create_or_update_device:
    case Op::create_or_update_module:
      return {kRegistryWrite, kDevicesWrite};
    case Op::delete_device:
    case Op::delete_module:
      return {kRegistryWrite, kDevicesDelete};
    case Op::bulk_devices:
      return {kRegistryWrite, kDevicesWrite | kDevicesDelete};
    case Op::get_twin:
    case Op::query_devices:
    case Op::get_digital_twin:
      return {kServiceConnect, kTwinsRead};
    case Op::patch_twin:
    case Op::replace_twin:
    case Op::patch_digital_twin:
      return {kServiceConnect, kTwinsWrite};
    case Op::invoke_method:
    case Op::invoke_digital_twin_command:
      return {kServiceConnect, kMethodsInvoke};
    case Op::purge_commands:
      return {kServiceConnect, kCloudToDevicePurge};
    case Op::receive_feedback:
    case Op::complete_feedback:
    case Op::abandon_feedback:
      return {kServiceConnect, kCloudToDeviceFeedback};
    case Op::get_job:
    case Op::query_jobs:
      return {kServiceConnect, kJobsRead};
    case Op::create_job:
      return {kServiceConnect, kJobsWrite};
    case Op::cancel_job:
      return {kServiceConnect, kJobsDelete};
    case Op::list_import_export_jobs:
    case Op::get_import_export_job:
      return {kRegistryRead, kJobsRead};
    case Op::create_import_export_job:
      return {kRegistryWrite, kJobsWrite};
    case Op::cancel_import_export_job:
      return {kRegistryWrite, kJobsDelete};
    case Op::get_configuration:
    case Op::list_configurations:
      return {kRegistryRead, kConfigurationsRead};
    case Op::create_or_update_configuration:
      return {kRegistryWrite, kConfigurationsWrite};
    case Op::delete_configuration:
      return {kRegistryWrite, kConfigurationsDelete};
    case Op::apply_configuration:
      return {kRegistryWrite, kConfigurationsApply};
    case Op::test_configuration_queries:
      return {kRegistryWrite, kConfigurationsTest};
  }
  return {kServiceConnect};
}

std::optional<uint32_t> data_actions_of_role(std::string_view role) {
  std::string name;
  for (const char c : role) {
    if (c != ' ') name += ascii_lower(c);
  }
  for (const auto& [known, actions] : kRoles) {
    if (name == known) return actions;
  }
  return std::nullopt;
}

std::string_view known_roles() {
  return "'IoT Hub Data Contributor', 'IoT Hub Data Reader', 'IoT Hub Registry Contributor', 'IoT Hub Twin "
         "Contributor'";
}

}  // namespace twinstorm::hub
