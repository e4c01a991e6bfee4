#include "sim/hub/policy/access_control.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/hub/store/device_record.hpp"
#include "sim/hub/text.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

constexpr std::string_view kBearer = "Bearer ";
constexpr int64_t kFarFuture = int64_t{1} << 33;  // seconds; the year 2242, within WallTime's range

std::string lower_without_port(std::string_view host) {
  const size_t colon = host.rfind(':');
  const bool bracketed = host.ends_with(']');
  if (colon != std::string_view::npos && !bracketed && host.find(':') == colon) host = host.substr(0, colon);
  if (colon != std::string_view::npos && !bracketed && host.starts_with('[')) host = host.substr(0, host.find(']') + 1);
  std::string out{host};
  std::transform(out.begin(), out.end(), out.begin(), ascii_lower);
  return out;
}

const char* name_of(Permission permission) {
  switch (permission) {
    case kRegistryRead:
      return "RegistryRead";
    case kRegistryWrite:
      return "RegistryWrite";
    case kServiceConnect:
      return "ServiceConnect";
    case kDeviceConnect:
      return "DeviceConnect";
  }
  return "";
}

bool signed_by(const protocol::SasToken& token, std::string_view base64_key) {
  if (base64_key.empty()) return false;
  const auto key = protocol::base64_decode(base64_key);
  return key && protocol::signature_matches(token, *key);
}

WallTime expiry_of(const protocol::SasToken& token) {
  return WallTime{std::chrono::seconds{std::min(token.se, kFarFuture)}};
}

}  // namespace

std::vector<Policy> default_policies() {
  return {
      {"iothubowner", kRegistryRead | kRegistryWrite | kServiceConnect | kDeviceConnect, {}, {}},
      {"service", kServiceConnect, {}, {}},
      {"device", kDeviceConnect, {}, {}},
      {"registryRead", kRegistryRead, {}, {}},
      {"registryReadWrite", kRegistryRead | kRegistryWrite, {}, {}},
  };
}

std::vector<Policy> with_keys(std::vector<Policy> policies) {
  for (Policy& policy : policies) {
    if (policy.primary_key.empty()) policy.primary_key = generate_key();
    if (policy.secondary_key.empty()) policy.secondary_key = generate_key();
  }
  return policies;
}

ServiceResult<void> ServiceGrant::check(const Requirement& needed, std::string_view method,
                                        std::string_view path) const {
  if (by_role) {
    if ((data_actions & needed.actions) == needed.actions) return {};
    return principal_unauthorized(principal, method, path);
  }
  if ((permissions & needed.permission) != 0) return {};
  return unauthorized(fmt::format("policy '{}' lacks the permission {}, which {} {} needs", principal,
                                  name_of(needed.permission), method, path));
}

Result<AccessControl> AccessControl::make(const HubConfig& config, std::vector<TokenIssuer> issuers) {
  AccessControl access;
  access.issuers_ = std::move(issuers);
  access.enabled_ = config.check_sas;
  access.authorities_pem_ = config.device_authorities_pem;
  if (config.host_name.empty()) return make_error(ErrorCode::invalid_argument, "the hub needs a host name");
  for (const std::string& host :
       {config.host_name, config.listen, std::string{"localhost"}, std::string{"127.0.0.1"}}) {
    access.hosts_.push_back(lower_without_port(host));
  }
  for (const std::string& host : config.host_aliases) access.hosts_.push_back(lower_without_port(host));
  for (const Policy& policy : config.policies) {
    auto primary = protocol::base64_decode(policy.primary_key);
    auto secondary = protocol::base64_decode(policy.secondary_key);
    if (!primary || !secondary || primary->empty() || secondary->empty()) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("a key of policy '{}' is not base64 of at least one byte", policy.name));
    }
    if (access.find(policy.name) != nullptr) {
      return make_error(ErrorCode::invalid_argument, fmt::format("policy '{}' is given twice", policy.name));
    }
    access.keys_.push_back({policy.name, policy.permissions, std::move(*primary), std::move(*secondary)});
  }
  return access;
}

bool AccessControl::knows_host(std::string_view host) const {
  const std::string name = lower_without_port(host);
  return std::find(hosts_.begin(), hosts_.end(), name) != hosts_.end();
}

const AccessControl::Key* AccessControl::find(std::string_view policy) const {
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name == policy; });
  return found == keys_.end() ? nullptr : &*found;
}

ServiceResult<bool> AccessControl::check_reach(const protocol::SasToken& token, std::string_view path) const {
  const auto resource = protocol::percent_decode(token.sr);
  if (!resource) return unauthorized("the token's sr is not percent-encoded text");
  const size_t slash = resource->find('/');
  const std::string_view host = std::string_view{*resource}.substr(0, slash);
  if (!knows_host(host)) return unauthorized(fmt::format("the token is for host '{}', not for this hub", host));
  if (slash == std::string::npos) return true;
  // The host is ours under whatever name; only the rest has to be compared.
  if (!protocol::covers(*resource, fmt::format("{}{}", host, path))) {
    return unauthorized(fmt::format("the token for '{}' does not cover '{}'", *resource, path));
  }
  return false;
}

ServiceResult<const AccessControl::Key*> AccessControl::check_signature(const protocol::SasToken& token) const {
  const Key* policy = find(token.skn);
  if (policy == nullptr) return unauthorized(fmt::format("there is no policy '{}'", token.skn));
  if (!protocol::signature_matches(token, policy->primary) && !protocol::signature_matches(token, policy->secondary)) {
    return unauthorized(fmt::format("the signature does not match a key of policy '{}'", token.skn));
  }
  return policy;
}

ServiceResult<ServiceGrant> AccessControl::check_service(std::string_view authorization, std::string_view path,
                                                         WallTime now) const {
  if (!enabled_) {
    constexpr uint8_t kEverything = kRegistryRead | kRegistryWrite | kServiceConnect | kDeviceConnect;
    return ServiceGrant{.permissions = kEverything, .expires = WallTime::max(), .whole_hub = true};
  }
  if (authorization.empty()) return unauthorized("the Authorization header is missing");
  if (authorization.size() > kBearer.size() && equal_ignoring_case(authorization.substr(0, kBearer.size()), kBearer)) {
    return check_bearer(authorization.substr(kBearer.size()), now);
  }
  const auto token = protocol::parse_sas_token(authorization);
  if (!token) return unauthorized(token.error().message);
  if (token->skn.empty()) return unauthorized("the token names no policy (skn)");
  const auto whole_hub = check_reach(*token, path);
  if (!whole_hub) return whole_hub.error();
  if (unix_seconds(now) >= token->se) return unauthorized("the token has expired");
  const auto policy = check_signature(*token);
  if (!policy) return policy.error();
  return ServiceGrant{.principal = (*policy)->name,
                      .permissions = (*policy)->permissions,
                      .expires = expiry_of(*token),
                      .whole_hub = *whole_hub};
}

ServiceResult<ServiceGrant> AccessControl::check_bearer(std::string_view token, WallTime now) const {
  std::string refusal = "this hub takes no bearer tokens: it needs a key set (--jwks FILE) or a data folder (--data)";
  for (const TokenIssuer& issuer : issuers_) {
    const auto claims = protocol::verify_jwt(token, issuer.keys, issuer.rules, now);
    if (!claims) {
      refusal = claims.error().message;
      if (claims.error().code == ErrorCode::not_found) continue;  // signed by another issuer's key
      return unauthorized(std::move(refusal));
    }
    ServiceGrant grant{.principal = claims->subject.empty() ? claims->issuer : claims->subject,
                       .by_role = true,
                       .expires = claims->expires,
                       .whole_hub = true};
    for (const std::string& role : claims->roles) grant.data_actions |= data_actions_of_role(role).value_or(0);
    return grant;
  }
  return unauthorized(std::move(refusal));
}

ServiceResult<DeviceGrant> AccessControl::check_device(const DeviceCredentials& credentials, WallTime now) const {
  if (!enabled_) return DeviceGrant{};
  using Type = twin::AuthenticationType;
  const bool by_certificate = credentials.authentication_type == Type::self_signed ||
                              credentials.authentication_type == Type::certificate_authority;
  return by_certificate ? check_device_certificate(credentials, now) : check_device_token(credentials, now);
}

ServiceResult<DeviceGrant> AccessControl::check_device_token(const DeviceCredentials& credentials, WallTime now) const {
  if (credentials.token.empty()) {
    return unauthorized(
        credentials.certificate == nullptr
            ? "the password is missing"
            : "the password is missing: the identity signs tokens, a certificate does not replace them");
  }
  const auto token = protocol::parse_sas_token(credentials.token);
  if (!token) return unauthorized(token.error().message);
  std::string path = fmt::format("/devices/{}", credentials.device_id);
  if (!credentials.module_id.empty()) path += fmt::format("/modules/{}", credentials.module_id);
  if (auto reach = check_reach(*token, path); !reach) return reach.error();
  if (unix_seconds(now) > token->se) return unauthorized("the token has expired");
  if (!token->skn.empty()) {
    const auto policy = check_signature(*token);
    if (!policy) return policy.error();
    if (((*policy)->permissions & kDeviceConnect) == 0) {
      return unauthorized(fmt::format("policy '{}' has no permission to connect devices", token->skn));
    }
  } else if (!signed_by(*token, credentials.primary_key) && !signed_by(*token, credentials.secondary_key)) {
    return unauthorized("the signature does not match a key of the device");
  }
  return DeviceGrant{expiry_of(*token)};
}

ServiceResult<DeviceGrant> AccessControl::check_device_certificate(const DeviceCredentials& credentials,
                                                                   WallTime now) const {
  if (!credentials.token.empty()) return unauthorized("the identity needs its certificate, not a token");
  if (credentials.certificate == nullptr) return unauthorized("the identity needs a certificate, none was shown");
  const net::PeerCertificate& shown = *credentials.certificate;
  if (credentials.authentication_type == twin::AuthenticationType::self_signed) {
    const auto is_shown = [&](std::string_view thumbprint) {
      return !thumbprint.empty() &&
             (equal_ignoring_case(thumbprint, shown.sha1) || equal_ignoring_case(thumbprint, shown.sha256));
    };
    if (is_shown(credentials.primary_thumbprint) || is_shown(credentials.secondary_thumbprint)) return DeviceGrant{};
    return unauthorized(fmt::format("the certificate's thumbprint {} is not one of the identity's", shown.sha1));
  }
  std::string expected{credentials.device_id};
  if (!credentials.module_id.empty()) expected.append(1, '/').append(credentials.module_id);
  if (shown.common_name != expected) {
    return unauthorized(fmt::format("the certificate is for '{}', not for '{}'", shown.common_name, expected));
  }
  if (authorities_pem_.empty()) return unauthorized("this hub trusts no device authority");
  if (auto chain = net::verify_chain(shown, authorities_pem_, now); !chain) {
    return unauthorized(fmt::format("the certificate is not trusted: {}", chain.error().message));
  }
  return DeviceGrant{};
}

}  // namespace twinstorm::hub
