// Continuation tokens that a client can neither read nor change: AES-256-GCM under a key that only this hub has.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace twinstorm::hub {

/// `text` encrypted and authenticated, in base64url: fit for a header and for a URL. `key`: any length, the hub's
/// secret (HubShared::token_key). `purpose` keeps the tokens of different APIs apart: it is part of the derived key.
/// The same text gives another token each time.
std::string seal_token(std::string_view key, std::string_view purpose, std::string_view text);

/// The text of a token; nullopt for whatever seal_token did not make with the same key and purpose.
std::optional<std::string> open_token(std::string_view key, std::string_view purpose, std::string_view token);

}  // namespace twinstorm::hub
