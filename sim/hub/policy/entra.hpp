// Entra ID on this hub: whose bearer tokens it takes, and the development tokens it makes itself.
//
// The real service looks up the role assignments of a token's principal. This hub has no directory: the token's claim
// `roles` names the roles, as an application's app roles would.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/hub.hpp"
#include "sim/protocol/jwt.hpp"

namespace twinstorm::hub {

/// Keys with the rules for tokens that they sign.
struct TokenIssuer {
  protocol::JsonWebKeySet keys;
  protocol::JwtRules rules;
};

/// Those of `config.jwks_file` and the development key of `config.data_folder`, which is made when it does not exist.
/// Fails with `not_found` or `invalid_argument` (key set), `io` or `corrupt` (development key).
Result<std::vector<TokenIssuer>> trusted_issuers(const HubConfig& config);

/// `iss` of development tokens.
inline constexpr const char* kDevIssuer = "https://twinstorm.localhost/dev";

struct DevTokenRequest {
  std::filesystem::path data_folder;  ///< holds `dev-token-key.pem` (owner only) and `dev-token-jwks.json`
  std::vector<std::string> roles;     ///< see `data_actions_of_role`
  std::string audience;
  Nanos valid = std::chrono::hours{1};
};
/// A token that every hub with this data folder accepts, also one that runs already. Fails with `invalid_argument` (an
/// unknown role, a validity of less than a second) and as `trusted_issuers`.
Result<std::string> issue_dev_token(const DevTokenRequest& request, WallTime now);

}  // namespace twinstorm::hub
