// HTTP resources of one device or module: those a device uses (device.md 5), and the hub's own beside the service's
// API.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm::protocol {

/// What a device may ask for over HTTPS. `{p}` is `/devices/{id}` or `/devices/{id}/modules/{mid}`.
enum class DeviceOperation : uint8_t {
  send_events,           ///< POST {p}/messages/events: one message, or a batch by its content type
  receive_message,       ///< GET {p}/messages/devicebound
  complete_message,      ///< DELETE {p}/messages/devicebound/{lockToken}
  reject_message,        ///< the same with the query parameter `reject`
  abandon_message,       ///< POST {p}/messages/devicebound/{lockToken}/abandon
  initiate_file_upload,  ///< POST /devices/{id}/files
  complete_file_upload,  ///< POST /devices/{id}/files/notifications[/{correlationId}]
};
/// `sendEvents`, `receiveMessage`, ...: lowerCamel of the enumerator.
const char* to_string(DeviceOperation operation);

struct DeviceRoute {
  DeviceOperation operation = DeviceOperation::send_events;
  std::string device_id;
  std::string module_id;    ///< empty for a device
  std::string lock_token;   ///< complete, reject, abandon
  std::string api_version;  ///< empty = not given
};
/// `target` in origin form. Segments are split on `/`, then percent-decoded. Fails like `parse_service_route`:
/// `not_found` for another path, `precondition_failed` for a known path with another method, `invalid_argument` for
/// broken percent-encoding.
Result<DeviceRoute> parse_device_route(std::string_view method, std::string_view target);

/// Content type of a batch.
inline constexpr std::string_view kEventBatchType = "application/vnd.microsoft.iothub.json";

namespace device_target {
std::string events(std::string_view device_id, std::string_view module_id = {});
std::string messages(std::string_view device_id, std::string_view module_id = {});
std::string complete(std::string_view device_id, std::string_view lock_token, std::string_view module_id = {});
std::string reject(std::string_view device_id, std::string_view lock_token, std::string_view module_id = {});
std::string abandon(std::string_view device_id, std::string_view lock_token, std::string_view module_id = {});
}  // namespace device_target

/// Resources of twinstorm's hub that the service does not have; all ask for ServiceConnect. `{x}` is
/// `/twinstorm/devices/{id}` or `/twinstorm/devices/{id}/modules/{mid}`.
enum class ExtensionOperation : uint8_t {
  enqueue_message,  ///< POST {x}/messages/devicebound: cloud-to-device message, as an AMQP service would send it
  send_input,       ///< POST {x}/inputs/{name}: message to a module's input, as an edge route would bring it
  watch_events,     ///< GET {x}/messages/events: telemetry that arrived since the last such request
  disconnect,       ///< POST {x}/disconnect: cuts the identity's connection
};
struct ExtensionRoute {
  ExtensionOperation operation = ExtensionOperation::enqueue_message;
  std::string device_id;
  std::string module_id;
  std::string input;  ///< send_input
};
/// Errors as `parse_device_route`.
Result<ExtensionRoute> parse_extension_route(std::string_view method, std::string_view target);

namespace extension_target {
std::string enqueue(std::string_view device_id);
std::string input(std::string_view device_id, std::string_view module_id, std::string_view input);
std::string watch_events(std::string_view device_id, std::string_view module_id = {});
std::string disconnect(std::string_view device_id, std::string_view module_id = {});
}  // namespace extension_target

}  // namespace twinstorm::protocol
