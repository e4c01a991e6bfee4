// The text people paste from the portal: `HostName=...;DeviceId=...;SharedAccessKey=...` (device.md 2.1,
// service.md 2.1).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm::protocol {

/// Members are empty when the text has none. A device string has `device_id`, a service string
/// `shared_access_key_name`.
struct ConnectionString {
  std::string host_name;          ///< `HostName`, may carry `:port`
  std::string gateway_host_name;  ///< `GatewayHostName`: dialled instead of `host_name`, which stays in the protocol
  std::string device_id;          ///< `DeviceId`, raw
  std::string module_id;          ///< `ModuleId`, raw
  std::string shared_access_key_name;   ///< `SharedAccessKeyName`: the policy
  std::string shared_access_key;        ///< `SharedAccessKey`: base64 text, checked to be base64
  std::string shared_access_signature;  ///< `SharedAccessSignature`: a ready token
  bool x509 = false;                    ///< `x509=true`

  friend bool operator==(const ConnectionString&, const ConnectionString&) = default;
};

/// Splits on `;`, then on the first `=`, so base64 padding survives. Names are case-sensitive; unknown ones are
/// ignored. With a `SharedAccessSignature` a missing HostName, DeviceId or ModuleId is taken from its `sr`. Fails with
/// `invalid_argument` when HostName or every kind of credential is missing, on a pair without `=`, on a repeated name,
/// on a key that is not base64 and on x509 together with a key. Messages never repeat a secret.
Result<ConnectionString> parse_connection_string(std::string_view text);

/// The members in the portal's order; `parse_connection_string` of the result gives the same members.
std::string format_connection_string(const ConnectionString& value);

/// Any text with the values of `SharedAccessKey=`, `SharedAccessSignature=` and of `sig=` inside tokens replaced by
/// `***`: for logs, reports and error messages.
std::string redact_connection_string(std::string_view text);

/// `host`, `host:port`, `[v6]:port`. `host` views into the text, without brackets.
struct HostPort {
  std::string_view host;
  uint16_t port = 0;
};
/// Fails on an empty host and on a port that is not 1..65535.
Result<HostPort> split_host_port(std::string_view text, uint16_t default_port);

}  // namespace twinstorm::protocol
