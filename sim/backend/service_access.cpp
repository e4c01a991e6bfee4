#include "sim/backend/service_access.hpp"

#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"

namespace twinstorm::backend {
namespace {

constexpr int64_t kLifetimeSeconds = 3600;
constexpr int64_t kRenewSeconds = 300;

}  // namespace

Result<ServiceAccess> ServiceAccess::from_connection_string(std::string_view text) {
  const auto parsed = protocol::parse_connection_string(text);
  if (!parsed) return parsed.error();
  if (parsed->shared_access_key_name.empty() || parsed->shared_access_key.empty()) {
    return make_error(ErrorCode::invalid_argument,
                      "the connection string is not a service one: it needs SharedAccessKeyName and SharedAccessKey");
  }
  auto key = protocol::base64_decode(parsed->shared_access_key);
  if (!key) return key.error();
  ServiceAccess access;
  access.host_name_ = parsed->host_name;
  access.policy_ = parsed->shared_access_key_name;
  access.key_ = std::move(*key);
  return access;
}

std::string_view ServiceAccess::authorization(WallTime now) {
  const int64_t seconds = unix_seconds(now);
  if (token_.empty() || seconds + kRenewSeconds > expires_) {
    expires_ = seconds + kLifetimeSeconds;
    token_ = protocol::make_sas_token(host_name_, key_, expires_, policy_);
  }
  return token_;
}

}  // namespace twinstorm::backend
