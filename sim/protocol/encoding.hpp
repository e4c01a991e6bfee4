// Text encodings and digests the protocols share. Pure functions, safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm::protocol {

using Sha256Digest = std::array<uint8_t, 32>;

/// Standard alphabet with padding (RFC 4648 section 4).
std::string base64_encode(std::string_view bytes);
inline std::string base64_encode(const Sha256Digest& digest) {
  return base64_encode(std::string_view{reinterpret_cast<const char*>(digest.data()), digest.size()});
}
/// Strict: standard alphabet, correct padding, no white space; otherwise `ErrorCode::invalid_argument`. The message
/// never repeats the text, which may be a key.
Result<std::string> base64_decode(std::string_view text);

/// The alphabet for URLs, without padding (RFC 4648 section 5), as JSON web tokens use it.
std::string base64url_encode(std::string_view bytes);
/// Strict: no padding, no character of the standard alphabet only; otherwise `ErrorCode::invalid_argument`.
Result<std::string> base64url_decode(std::string_view text);

/// Everything but `A-Z a-z 0-9 - _ . ~` becomes `%XX` with upper-case hex (device.md 2.2).
std::string percent_encode(std::string_view text);
/// The same, appended to what is there.
void append_percent_encoded(std::string& out, std::string_view text);
/// `%XX` of either case becomes one byte; `+` stays `+` (device.md 2.2, 3.5). Fails on a `%` without two hex digits.
Result<std::string> percent_decode(std::string_view text);

Sha256Digest hmac_sha256(std::string_view key, std::string_view message);
/// 64 lower-case hex digits.
std::string sha256_hex(std::string_view bytes);
std::string hex_encode(std::string_view bytes);
/// Compares in a time that depends on the sizes only.
bool equal_constant_time(std::string_view a, std::string_view b);

}  // namespace twinstorm::protocol
