// Who may do what: SAS tokens of services and devices checked against policies and device keys, bearer tokens against
// the keys of their issuers, certificates against thumbprints and authorities (service.md 2, device.md 2). Immutable
// after construction, so all shards read one instance.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/hub.hpp"
#include "sim/hub/policy/entra.hpp"
#include "sim/hub/policy/requirements.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/net/certificates.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm::hub {

/// What a device presents, over whatever transport, and what its identity says it has to present.
struct DeviceCredentials {
  std::string_view token;  ///< the MQTT password or the HTTP Authorization value; empty = none
  std::string_view device_id;
  std::string_view module_id;                         ///< empty for a device
  std::string_view primary_key;                       ///< base64
  std::string_view secondary_key;                     ///< base64
  const net::PeerCertificate* certificate = nullptr;  ///< what the TLS handshake showed; null = none
  twin::AuthenticationType authentication_type = twin::AuthenticationType::sas;
  std::string_view primary_thumbprint;  ///< hex of SHA-1 or SHA-256, any case; empty = none
  std::string_view secondary_thumbprint;
};

/// How long a device may stay on the strength of what it presented.
struct DeviceGrant {
  WallTime expires = WallTime::max();  ///< the token's expiry; `WallTime::max()` for a certificate
};

/// What a service token allows, so that a connection need not verify the same text again.
struct ServiceGrant {
  std::string principal;      ///< name of the policy, or subject of a bearer token
  uint8_t permissions = 0;    ///< of the policy
  uint32_t data_actions = 0;  ///< of the bearer token's roles
  bool by_role = false;       ///< a bearer token: data actions count, otherwise permissions
  WallTime expires{};
  bool whole_hub = false;  ///< the token's resource is the host, so every path is covered

  /// Error: 401 that names what is missing for `method` on `path`.
  ServiceResult<void> check(const Requirement& needed, std::string_view method, std::string_view path) const;
};

class AccessControl {
 public:
  /// Policies must have their keys (see `with_keys`). Fails with `invalid_argument` on a key that is not base64, a name
  /// given twice or a missing host name. `issuers`: whose bearer tokens are taken, see `trusted_issuers`.
  static Result<AccessControl> make(const HubConfig& config, std::vector<TokenIssuer> issuers = {});

  /// True for the host name, its aliases, the listen address, `localhost` and 127.0.0.1, any case, any port.
  bool knows_host(std::string_view host) const;

  /// Checks an `Authorization` value, `SharedAccessSignature ...` or `Bearer ...`, for a request to `path`
  /// (percent-decoded, begins with `/`); whether the operation is allowed is the caller's question to the grant. Error:
  /// 401 with the reason, free of secrets.
  ServiceResult<ServiceGrant> check_service(std::string_view authorization, std::string_view path, WallTime now) const;
  /// An identity of type `sas` needs a token for its resource, signed by one of its keys or by a policy with
  /// DeviceConnect; what certificate it shows does not matter. An X.509 identity needs its certificate and no token:
  /// `selfSigned` by thumbprint, `certificateAuthority` by a chain to a trusted authority and the subject's common
  /// name, `deviceId` or `deviceId/moduleId` (device.md 2). Error: 401 with the reason, free of secrets.
  ServiceResult<DeviceGrant> check_device(const DeviceCredentials& credentials, WallTime now) const;

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
  ServiceResult<ServiceGrant> check_bearer(std::string_view token, WallTime now) const;
  ServiceResult<DeviceGrant> check_device_token(const DeviceCredentials& credentials, WallTime now) const;
  ServiceResult<DeviceGrant> check_device_certificate(const DeviceCredentials& credentials, WallTime now) const;

  bool enabled_ = true;
  std::vector<std::string> hosts_;  // lower case, without port
  std::vector<Key> keys_;
  std::vector<TokenIssuer> issuers_;
  std::string authorities_pem_;  // of CA-signed devices
};

/// The policies with every missing key generated.
std::vector<Policy> with_keys(std::vector<Policy> policies);

}  // namespace twinstorm::hub
