// Targets of devices and of the hub's own resources: any text, and back from what was read.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sim/protocol/device_routes.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::protocol;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const size_t blank = text.find(' ');
  const std::string_view method = blank == std::string_view::npos ? "GET" : text.substr(0, blank);
  const std::string_view target = blank == std::string_view::npos ? text : text.substr(blank + 1);
  (void)parse_extension_route(method, target);
  const auto route = parse_device_route(method, target);
  if (!route || route->operation != DeviceOperation::abandon_message) return 0;
  const auto again =
      parse_device_route("POST", device_target::abandon(route->device_id, route->lock_token, route->module_id));
  if (!again || again->device_id != route->device_id || again->module_id != route->module_id ||
      again->lock_token != route->lock_token) {
    std::abort();
  }
  return 0;
}
