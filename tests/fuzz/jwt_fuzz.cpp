// Bearer tokens and key sets of any text; and any claims behind a good signature.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sim/protocol/jwt.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm;
  static const std::string pem = protocol::make_signing_key();
  static const auto keys = *protocol::JsonWebKeySet::parse(*protocol::make_jwks(pem, "k"));
  static const protocol::JwtRules rules{.issuer = "https://issuer.example", .audience = "https://iothubs.azure.net"};
  const WallTime now{std::chrono::seconds{1'700'000'000}};
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)protocol::JsonWebKeySet::parse(text);
  // Nobody but the holder of the key makes a token that passes.
  if (protocol::verify_jwt(text, keys, rules, now)) std::abort();
  if (!text.starts_with('{')) return 0;
  const auto token = protocol::sign_jwt(text, pem, "k");
  if (!token) std::abort();
  const auto claims = protocol::verify_jwt(*token, keys, rules, now);
  if (claims && claims->expires <= now) std::abort();
  return 0;
}
