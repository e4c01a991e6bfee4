// What an operation asks for, in both of the service's vocabularies: permissions of shared access policies and data
// actions of Entra roles (service.md 2.3, 2.4).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "sim/hub/hub.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::hub {

/// Data actions below `Microsoft.Devices/IotHubs/`, one bit each.
enum DataAction : uint32_t {
  kDevicesRead = 1U << 0,
  kDevicesWrite = 1U << 1,
  kDevicesDelete = 1U << 2,
  kTwinsRead = 1U << 3,
  kTwinsWrite = 1U << 4,
  kJobsRead = 1U << 5,
  kJobsWrite = 1U << 6,
  kJobsDelete = 1U << 7,
  kConfigurationsRead = 1U << 8,
  kConfigurationsWrite = 1U << 9,
  kConfigurationsDelete = 1U << 10,
  kConfigurationsApply = 1U << 11,      ///< configurations/applyToEdgeDevice/action
  kConfigurationsTest = 1U << 12,       ///< configurations/testQueries/action
  kMethodsInvoke = 1U << 13,            ///< directMethods/invoke/action
  kCloudToDeviceSend = 1U << 14,        ///< cloudToDeviceMessages/send/action
  kCloudToDeviceFeedback = 1U << 15,    ///< cloudToDeviceMessages/feedback/action
  kCloudToDevicePurge = 1U << 16,       ///< cloudToDeviceMessages/queue/purge/action
  kFileUploadNotifications = 1U << 17,  ///< fileUpload/notifications/action
  kStatisticsRead = 1U << 18,
  kAllDataActions = (1U << 19) - 1,
};

struct Requirement {
  /// A permission alone asks an Entra principal for every data action: for resources that the service does not have.
  Requirement(Permission needed, uint32_t of_entra = kAllDataActions)  // NOLINT(google-explicit-constructor)
      : permission{needed}, actions{of_entra} {}

  Permission permission;
  uint32_t actions;  ///< all of them are needed
};

/// What a service operation asks for.
Requirement requirement_of(protocol::ServiceOperation operation);

/// The data actions of a built-in role by its name, `IoT Hub Data Contributor`, or without blanks,
/// `IoTHubDataContributor`, any case. Nothing for other names: `Owner` and `Contributor` have no data action.
std::optional<uint32_t> data_actions_of_role(std::string_view role);

/// The four roles by their full names, for messages.
std::string_view known_roles();

}  // namespace twinstorm::hub
