#include "sim/protocol/jwt.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "sim/base/assert.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/free_with.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::protocol {
namespace {

constexpr size_t kTokenMax = 16 * 1024;  // Entra's are 1 to 3 KB
constexpr size_t kCoordinate = 32;       // bytes of a P-256 coordinate, and of each half of an ES256 signature
constexpr int kRsaBitsMin = 2048;
constexpr std::string_view kRs256 = "RS256";
constexpr std::string_view kEs256 = "ES256";

using KeyPtr = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeWith<EVP_PKEY_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeWith<EVP_MD_CTX_free>>;
using BigNumber = std::unique_ptr<BIGNUM, FreeWith<BN_free>>;
using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, FreeWith<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, FreeWith<OSSL_PARAM_free>>;
using Signature = std::unique_ptr<ECDSA_SIG, FreeWith<ECDSA_SIG_free>>;

Error bad_token(std::string why) { return make_error(ErrorCode::unauthorized, "bearer token: " + std::move(why)); }
Error bad_key(std::string why) { return make_error(ErrorCode::invalid_argument, std::move(why)); }

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }
BigNumber number_of(std::string_view bytes) {
  return BigNumber{BN_bin2bn(bytes_of(bytes), static_cast<int>(bytes.size()), nullptr)};
}

std::string_view text_of(const twin::Value& object, std::string_view name) {
  const twin::Value* found = object.find(name);
  return found != nullptr && found->is_string() ? found->text() : std::string_view{};
}

// --- Keys ------------------------------------------------------------------------------------------------------------

KeyPtr build_key(const char* type, OSSL_PARAM_BLD* builder) {
  const Params params{OSSL_PARAM_BLD_to_param(builder)};
  const KeyContext context{EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr)};
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    return nullptr;
  }
  return KeyPtr{key};
}

Result<KeyPtr> rsa_key(const twin::Value& jwk) {
  const auto modulus = base64url_decode(text_of(jwk, "n"));
  const auto exponent = base64url_decode(text_of(jwk, "e"));
  if (!modulus || !exponent || modulus->empty() || exponent->empty()) return bad_key("n or e is not base64url");
  const BigNumber n = number_of(*modulus);
  const BigNumber e = number_of(*exponent);
  constexpr int kRsaBitsMax = 16384;
  if (BN_num_bits(n.get()) < kRsaBitsMin || BN_num_bits(n.get()) > kRsaBitsMax) {
    return bad_key(fmt::format("{} bits are not {} to {}", BN_num_bits(n.get()), kRsaBitsMin, kRsaBitsMax));
  }
  const ParamBuilder builder{OSSL_PARAM_BLD_new()};
  KeyPtr key;
  if (OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) == 1 &&
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) == 1) {
    key = build_key("RSA", builder.get());
  }
  if (!key) return bad_key("n and e are not an RSA key");
  return key;
}

Result<KeyPtr> ec_key(const twin::Value& jwk) {
  const auto x = base64url_decode(text_of(jwk, "x"));
  const auto y = base64url_decode(text_of(jwk, "y"));
  if (!x || !y || x->size() != kCoordinate || y->size() != kCoordinate) {
    return bad_key("x or y is not base64url of 32 bytes");
  }
  const std::string point = '\x04' + *x + *y;  // uncompressed form, SEC 1 section 2.3.3
  const ParamBuilder builder{OSSL_PARAM_BLD_new()};
  KeyPtr key;
  if (OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) == 1) {
    key = build_key("EC", builder.get());
  }
  if (key) {
    const KeyContext context{EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr)};
    if (EVP_PKEY_public_check(context.get()) != 1) key.reset();
  }
  if (!key) return bad_key("x and y are not a point of P-256");
  return key;
}

/// RS256 or ES256; nothing for other keys.
std::optional<std::string_view> algorithm_of(const EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "RSA")) return kRs256;
  if (!EVP_PKEY_is_a(key, "EC")) return std::nullopt;
  std::array<char, 64> group{};
  size_t size = 0;
  if (EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) != 1) return std::nullopt;
  const std::string_view name{group.data(), size};
  if (name != "prime256v1" && name != "P-256") return std::nullopt;
  return kEs256;
}

Result<KeyPtr> private_key(std::string_view pem) {
  const std::unique_ptr<BIO, FreeWith<BIO_free>> source{BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))};
  KeyPtr key{PEM_read_bio_PrivateKey(source.get(), nullptr, nullptr, nullptr)};
  if (!key) return bad_key("this is no PEM private key");
  if (!algorithm_of(key.get())) return bad_key("the private key is neither RSA nor EC on P-256");
  return key;
}

// --- Signatures ------------------------------------------------------------------------------------------------------

bool signature_is_good(EVP_PKEY* key, std::string_view algorithm, std::string_view text, std::string_view signature) {
  std::string der{signature};
  if (algorithm == kEs256) {
    if (signature.size() != 2 * kCoordinate) return false;
    const Signature pair{ECDSA_SIG_new()};
    BigNumber r = number_of(signature.substr(0, kCoordinate));
    BigNumber s = number_of(signature.substr(kCoordinate));
    if (ECDSA_SIG_set0(pair.get(), r.release(), s.release()) != 1) return false;
    uint8_t* encoded = nullptr;
    const int size = i2d_ECDSA_SIG(pair.get(), &encoded);
    if (size <= 0) return false;
    der.assign(reinterpret_cast<const char*>(encoded), static_cast<size_t>(size));
    OPENSSL_free(encoded);
  }
  const DigestContext context{EVP_MD_CTX_new()};
  return EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
         EVP_DigestVerify(context.get(), bytes_of(der), der.size(), bytes_of(text), text.size()) == 1;
}

std::string make_signature(EVP_PKEY* key, std::string_view algorithm, std::string_view text) {
  const DigestContext context{EVP_MD_CTX_new()};
  size_t size = 0;
  TS_ASSERT(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1);
  TS_ASSERT(EVP_DigestSign(context.get(), nullptr, &size, bytes_of(text), text.size()) == 1);
  std::string signature(size, '\0');
  TS_ASSERT(EVP_DigestSign(context.get(), reinterpret_cast<uint8_t*>(signature.data()), &size, bytes_of(text),
                           text.size()) == 1);
  signature.resize(size);
  if (algorithm == kRs256) return signature;
  const uint8_t* der = bytes_of(signature);
  const Signature pair{d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(signature.size()))};
  TS_ASSERT(pair != nullptr);
  std::array<uint8_t, 2 * kCoordinate> halves{};
  TS_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), halves.data(), kCoordinate) == kCoordinate);
  TS_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), halves.data() + kCoordinate, kCoordinate) == kCoordinate);
  return {reinterpret_cast<const char*>(halves.data()), halves.size()};
}

// --- Claims ----------------------------------------------------------------------------------------------------------

Result<twin::Value> decode_object(std::string_view part, const char* name) {
  const auto text = base64url_decode(part);
  if (!text) return bad_token(fmt::format("its {} is not base64url", name));
  auto object = twin::parse_value(*text);
  if (!object || !object->is_object()) return bad_token(fmt::format("its {} is not a JSON object", name));
  return std::move(*object);
}

/// A NumericDate, seconds since 1970 that may have a fraction; nothing when absent or not a usable number.
std::optional<WallTime> time_of(const twin::Value& claims, std::string_view name) {
  const twin::Value* found = claims.find(name);
  if (found == nullptr) return std::nullopt;
  const auto seconds = found->as_double();
  constexpr double kFarFuture = 8e9;  // the year 2223, within WallTime's range
  if (!seconds || !std::isfinite(*seconds) || *seconds < 0) return std::nullopt;
  return WallTime{std::chrono::seconds{static_cast<int64_t>(std::min(*seconds, kFarFuture))}};
}

std::string_view without_slash(std::string_view url) {
  return url.ends_with('/') ? url.substr(0, url.size() - 1) : url;
}

bool is_for(const twin::Value& claims, std::string_view audience) {
  const twin::Value* found = claims.find("aud");
  if (found == nullptr) return false;
  const auto fits = [&](const twin::Value& one) {
    return one.is_string() && without_slash(one.text()) == without_slash(audience);
  };
  return fits(*found) || std::any_of(found->elements().begin(), found->elements().end(), fits);
}

Result<JwtClaims> check_claims(const twin::Value& claims, const JwtRules& rules, WallTime now) {
  JwtClaims checked;
  checked.issuer = text_of(claims, "iss");
  if (!rules.issuer.empty() && without_slash(checked.issuer) != without_slash(rules.issuer)) {
    return bad_token(fmt::format("its issuer (iss) is not '{}'", rules.issuer));
  }
  if (!is_for(claims, rules.audience)) return bad_token(fmt::format("it is not for '{}' (aud)", rules.audience));
  const auto expires = time_of(claims, "exp");
  if (!expires) return bad_token("it has no expiry (exp)");
  checked.expires = *expires + rules.clock_skew;
  if (now >= checked.expires) return bad_token("it has expired (exp)");
  if (claims.find("nbf") != nullptr) {
    const auto begins = time_of(claims, "nbf");
    if (!begins || now < *begins - rules.clock_skew) return bad_token("it is not valid yet (nbf)");
  }
  const std::string_view object_id = text_of(claims, "oid");
  checked.subject = object_id.empty() ? text_of(claims, "sub") : object_id;
  if (const twin::Value* roles = claims.find("roles"); roles != nullptr) {
    if (roles->is_string()) checked.roles.emplace_back(roles->text());
    for (const twin::Value& role : roles->elements()) {
      if (role.is_string()) checked.roles.emplace_back(role.text());
    }
  }
  return checked;
}

}  // namespace

Result<JsonWebKeySet> JsonWebKeySet::parse(std::string_view json) {
  const auto document = twin::parse_value(json);
  if (!document) return bad_key(fmt::format("the key set is not JSON: {}", document.error().message));
  const twin::Value* keys = document->find("keys");
  if (keys == nullptr || !keys->is_array()) return bad_key("the key set has no array \"keys\"");
  JsonWebKeySet set;
  for (const twin::Value& jwk : keys->elements()) {
    const std::string_view type = text_of(jwk, "kty");
    const bool rsa = type == "RSA";
    if (!rsa && !(type == "EC" && text_of(jwk, "crv") == "P-256")) continue;
    const std::string_view algorithm = rsa ? kRs256 : kEs256;
    const std::string_view use = text_of(jwk, "use");
    const std::string_view only = text_of(jwk, "alg");
    if ((!use.empty() && use != "sig") || (!only.empty() && only != algorithm)) continue;
    auto key = rsa ? rsa_key(jwk) : ec_key(jwk);
    if (!key) return bad_key(fmt::format("key '{}' of the set: {}", text_of(jwk, "kid"), key.error().message));
    set.keys_.push_back({std::string{text_of(jwk, "kid")}, std::string{algorithm},
                         std::shared_ptr<evp_pkey_st>{key->release(), FreeWith<EVP_PKEY_free>{}}});
  }
  if (set.keys_.empty()) return bad_key("the key set has no key for RS256 or ES256");
  return set;
}

Result<JwtClaims> verify_jwt(std::string_view token, const JsonWebKeySet& keys, const JwtRules& rules, WallTime now) {
  if (token.size() > kTokenMax) return bad_token(fmt::format("longer than {} bytes", kTokenMax));
  const size_t first = token.find('.');
  const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return bad_token("not three parts with dots between");
  }
  const auto header = decode_object(token.substr(0, first), "header");
  if (!header) return header.error();
  const std::string_view algorithm = text_of(*header, "alg");
  if (algorithm != kRs256 && algorithm != kEs256) return bad_token("its alg is neither RS256 nor ES256");
  if (header->find("crit") != nullptr) return bad_token("it has extensions (crit) that are not understood");
  const auto signature = base64url_decode(token.substr(second + 1));
  if (!signature) return bad_token("its signature is not base64url");

  const std::string_view id = text_of(*header, "kid");
  bool named = false;  // a key has the token's kid: it is this issuer's affair
  bool tried = false;
  bool good = false;
  for (const JsonWebKeySet::Key& key : keys.keys_) {
    if (key.algorithm != algorithm || (!id.empty() && !key.id.empty() && key.id != id)) continue;
    tried = true;
    named = named || (!id.empty() && key.id == id);
    good = good || signature_is_good(key.key.get(), key.algorithm, token.substr(0, second), *signature);
  }
  if (!tried) return make_error(ErrorCode::not_found, "bearer token: no key of the issuer has its kid and alg");
  if (!good && named) return bad_token("its signature does not match");
  if (!good) {  // only keys without a name came into question, on either side: the token may be another issuer's
    return make_error(ErrorCode::not_found, "bearer token: its signature does not match a key of the issuer");
  }
  const auto claims = decode_object(token.substr(first + 1, second - first - 1), "claims");
  if (!claims) return claims.error();
  return check_claims(*claims, rules, now);
}

Result<std::string> sign_jwt(std::string_view claims_json, std::string_view private_key_pem, std::string_view key_id) {
  const auto key = private_key(private_key_pem);
  if (!key) return key.error();
  const std::string_view algorithm = *algorithm_of(key->get());
  std::string header = fmt::format(R"({{"typ":"JWT","alg":"{}","kid":)", algorithm);
  twin::write_string(key_id, header);
  header += '}';
  std::string token = base64url_encode(header) + '.' + base64url_encode(claims_json);
  const std::string signature = make_signature(key->get(), algorithm, token);
  return token.append(1, '.').append(base64url_encode(signature));
}

std::string make_signing_key() {
  const KeyPtr key{EVP_EC_gen("P-256")};
  const std::unique_ptr<BIO, FreeWith<BIO_free>> sink{BIO_new(BIO_s_mem())};
  TS_ASSERT(key != nullptr &&
            PEM_write_bio_PKCS8PrivateKey(sink.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  std::array<char, 1024> pem;  // a P-256 key is 241 bytes
  const int size = BIO_read(sink.get(), pem.data(), static_cast<int>(pem.size()));
  TS_ASSERT(size > 0);
  return {pem.data(), static_cast<size_t>(size)};
}

Result<std::string> make_jwks(std::string_view private_key_pem, std::string_view key_id) {
  const auto key = private_key(private_key_pem);
  if (!key) return key.error();
  const std::string_view algorithm = *algorithm_of(key->get());
  const auto number = [&](const char* name, size_t size) {
    BIGNUM* raw = nullptr;
    TS_ASSERT(EVP_PKEY_get_bn_param(key->get(), name, &raw) == 1);
    const BigNumber value{raw};
    std::string bytes(size == 0 ? static_cast<size_t>(BN_num_bytes(raw)) : size, '\0');
    const int length = static_cast<int>(bytes.size());
    TS_ASSERT(BN_bn2binpad(raw, reinterpret_cast<uint8_t*>(bytes.data()), length) == length);
    return base64url_encode(bytes);
  };
  std::string out = R"({"keys":[{"use":"sig","kid":)";
  twin::write_string(key_id, out);
  if (algorithm == kRs256) {
    out += fmt::format(R"(,"kty":"RSA","alg":"RS256","n":"{}","e":"{}")", number(OSSL_PKEY_PARAM_RSA_N, 0),
                       number(OSSL_PKEY_PARAM_RSA_E, 0));
  } else {
    out += fmt::format(R"(,"kty":"EC","alg":"ES256","crv":"P-256","x":"{}","y":"{}")",
                       number(OSSL_PKEY_PARAM_EC_PUB_X, kCoordinate), number(OSSL_PKEY_PARAM_EC_PUB_Y, kCoordinate));
  }
  return out + "}]}";
}

}  // namespace twinstorm::protocol
