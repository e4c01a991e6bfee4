// Who may do what: SAS tokens of services and devices checked against policies and device keys (service.md 2, device.md
// 2). Immutable after construction, so all shards read one instance.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/hub.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::hub {

/// What a service operation asks for (service.md 2.3).
Permission required_permission(protocol::ServiceOperation operation);

/// What a device connection presents, and the keys it may have signed with.
struct DeviceCredentials {
  std::string_view token;  ///< the MQTT password
  std::string_view device_id;
  std::string_view module_id;      ///< empty for a device
  std::string_view primary_key;    ///< base64
  std::string_view secondary_key;  ///< base64
};

/// What a service token allows, so that a connection need not verify the same text again.
struct ServiceGrant {
  std::string policy;
  uint8_t permissions = 0;
  WallTime expires{};
  bool whole_hub = false;  ///< the token's resource is the host, so every path is covered
};

class AccessControl {
 public:
  /// Policies must have their keys (see `with_keys`). Fails with `invalid_argument` on a key that is not base64, a name
  /// given twice or a missing host name.
  static Result<AccessControl> make(const HubConfig& config);

  /// True for the host name, its aliases, the listen address, `localhost` and 127.0.0.1, any case, any port.
  bool knows_host(std::string_view host) const;

  /// Checks an `Authorization` value for a request to `path` (percent-decoded, begins with `/`); whether the policy has
  /// the permission is the caller's question to the grant. Error: 401 with the reason.
  ServiceResult<ServiceGrant> check_service(std::string_view authorization, std::string_view path, WallTime now) const;
  /// The token must be signed by one of the device's keys, or by a policy with DeviceConnect, for the device's
  /// resource. Error: 401 with the reason.
  ServiceResult<void> check_device(const DeviceCredentials& credentials, WallTime now) const;

 private:
  struct Key {
    std::string name;
    uint8_t permissions;
    std::string primary;  // decoded
    std::string secondary;
  };

  const Key* find(std::string_view policy) const;
  /// True when the token's resource is a whole hub.
  ServiceResult<bool> check_reach(const protocol::SasToken& token, std::string_view path) const;
  ServiceResult<const Key*> check_signature(const protocol::SasToken& token) const;

  bool enabled_ = true;
  std::vector<std::string> hosts_;  // lower case, without port
  std::vector<Key> keys_;
};

/// The policies with every missing key generated.
std::vector<Policy> with_keys(std::vector<Policy> policies);

}  // namespace twinstorm::hub
