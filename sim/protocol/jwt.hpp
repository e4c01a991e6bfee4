// Bearer tokens of Microsoft Entra ID (service.md 2.4): JSON web tokens (RFC 7519) signed with RS256 or ES256 (RFC
// 7518), and the key sets (RFC 7517) that check them.
//
// No clock in here: the time is a parameter. Only asymmetric signatures: a token cannot choose `none`, nor use a public
// key as a shared secret.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

struct evp_pkey_st;

namespace twinstorm::protocol {

/// What a token has to say besides a good signature.
struct JwtRules {
  std::string issuer;                          ///< `iss`; empty = any
  std::string audience;                        ///< `aud` or one of it, with or without a slash at the end
  Nanos clock_skew = std::chrono::minutes{5};  ///< added to `exp` and taken from `nbf`, as Microsoft's libraries do
};

struct JwtClaims {
  std::string issuer;
  std::string subject;             ///< `oid`, otherwise `sub`; may be empty
  std::vector<std::string> roles;  ///< `roles`, a text or a list
  WallTime expires{};              ///< `exp` plus the clock skew
};

/// The public keys of an issuer. Immutable; one instance may be read by many threads. Copies share the keys.
class JsonWebKeySet {
 public:
  /// `{"keys": [...]}`. Takes RSA keys of at least 2,048 bits and EC keys on P-256; keys for other purposes (`use`) or
  /// algorithms are left out. Fails with `invalid_argument` on anything else than a key set, on a broken key (named by
  /// its `kid`) and when no usable key remains.
  static Result<JsonWebKeySet> parse(std::string_view json);

  size_t size() const { return keys_.size(); }

 private:
  friend Result<JwtClaims> verify_jwt(std::string_view token, const JsonWebKeySet& keys, const JwtRules& rules,
                                      WallTime now);
  struct Key {
    std::string id;         // kid; empty = none given
    std::string algorithm;  // RS256 or ES256, as the key's type says
    std::shared_ptr<evp_pkey_st> key;
  };
  std::vector<Key> keys_;
};

/// Checks a compact token (without `Bearer `) against the keys and the rules. Fails with `not_found` when it may be
/// another issuer's: no key has its `kid` and `alg`, or the signature fits none and no key was named by a `kid` on both
/// sides; otherwise with `unauthorized`. Says why without repeating the token.
Result<JwtClaims> verify_jwt(std::string_view token, const JsonWebKeySet& keys, const JwtRules& rules, WallTime now);

/// A compact token with these claims (a JSON object), signed with a PEM private key: ES256 for P-256, RS256 for RSA.
/// Fails with `invalid_argument` on another key.
Result<std::string> sign_jwt(std::string_view claims_json, std::string_view private_key_pem, std::string_view key_id);

/// A new P-256 private key, PEM (PKCS#8), from the operating system's random source.
std::string make_signing_key();

/// A key set with the public half of a PEM private key. Fails as `sign_jwt`.
Result<std::string> make_jwks(std::string_view private_key_pem, std::string_view key_id);

}  // namespace twinstorm::protocol
