#include "sim/protocol/sas.hpp"

#include <optional>

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "sim/base/assert.hpp"
#include "sim/protocol/text.hpp"

namespace twinstorm::protocol {
namespace {

constexpr std::string_view kScheme = "SharedAccessSignature ";

Error bad_token(std::string why) { return make_error(ErrorCode::unauthorized, "SAS token: " + std::move(why)); }

void append_fields(std::string& out, std::string_view sr, const Sha256Digest& signature, std::string_view se,
                   std::string_view policy) {
  out.append(kScheme);
  out.append("sr=").append(sr);
  out.append("&sig=");
  append_percent_encoded(out, base64_encode(signature));
  if (!policy.empty()) {
    out.append("&skn=");
    append_percent_encoded(out, policy);
  }
  out.append("&se=").append(se);
}

}  // namespace

Result<SasToken> parse_sas_token(std::string_view text) {
  if (!starts_with_ignoring_case(text, kScheme)) return bad_token("does not begin with \"SharedAccessSignature \"");
  std::optional<std::string_view> sr, sig, skn, se;
  for (TextSplitter fields{text.substr(kScheme.size()), '&'}; fields.next();) {
    const auto field = fields.part();
    const size_t equals = field.find('=');
    const auto name = field.substr(0, equals);
    auto* slot = name == "sr" ? &sr : name == "sig" ? &sig : name == "skn" ? &skn : name == "se" ? &se : nullptr;
    if (slot == nullptr) continue;
    if (equals == std::string_view::npos) return bad_token(fmt::format("field {} has no value", name));
    if (*slot) return bad_token(fmt::format("field {} stands twice", name));
    *slot = field.substr(equals + 1);
  }
  if (!sr || sr->empty()) return bad_token("field sr (the resource) is missing");
  if (!sig || sig->empty()) return bad_token("field sig (the signature) is missing");
  if (!se || se->empty()) return bad_token("field se (the expiry) is missing");

  SasToken token;
  const auto expiry = parse_decimal<int64_t>(*se);
  if (!expiry) return bad_token(fmt::format("se \"{}\" is not a number of seconds", *se));
  token.se = *expiry;
  auto signature = percent_decode(*sig);
  if (!signature) return bad_token("sig: " + signature.error().message);
  token.sig = std::move(*signature);
  if (skn) {
    auto policy = percent_decode(*skn);
    if (!policy) return bad_token("skn: " + policy.error().message);
    token.skn = std::move(*policy);
  }
  token.sr = *sr;
  token.signed_text.reserve(sr->size() + 1 + se->size());
  token.signed_text.append(*sr).append(1, '\n').append(*se);
  return token;
}

std::string sas_resource(std::string_view resource) {
  auto encoded = percent_encode(resource);
  for (size_t i = encoded.find("%2A"); i != std::string::npos; i = encoded.find("%2A", i)) encoded[i + 2] = 'a';
  return encoded;
}

std::string make_sas_token(std::string_view resource, std::string_view key, int64_t expiry_unix_seconds,
                           std::string_view policy) {
  const auto sr = sas_resource(resource);
  const auto se = std::to_string(expiry_unix_seconds);
  std::string out;
  append_fields(out, sr, hmac_sha256(key, sr + '\n' + se), se, policy);
  return out;
}

bool signature_matches(const SasToken& token, std::string_view key) {
  const auto expected = base64_encode(hmac_sha256(key, token.signed_text));
  return equal_constant_time(expected, token.sig);
}

bool covers(std::string_view sr_decoded, std::string_view resource) {
  while (!sr_decoded.empty() && sr_decoded.back() == '/') sr_decoded.remove_suffix(1);
  if (sr_decoded.empty() || resource.size() < sr_decoded.size()) return false;
  if (resource.size() > sr_decoded.size() && resource[sr_decoded.size()] != '/') return false;
  const auto host = sr_decoded.substr(0, sr_decoded.find('/'));
  return starts_with_ignoring_case(resource, host) &&
         resource.substr(host.size(), sr_decoded.size() - host.size()) == sr_decoded.substr(host.size());
}

Sha256Digest derive_device_key(std::string_view group_key, std::string_view device_id) {
  return hmac_sha256(group_key, device_id);
}

struct SasSigner::Impl {
  EVP_MAC* mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(mac);

  explicit Impl(std::string_view key) {
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                     OSSL_PARAM_construct_end()};
    const auto* bytes = reinterpret_cast<const uint8_t*>(key.empty() ? "" : key.data());
    TS_ASSERT(EVP_MAC_init(context, bytes, key.size(), parameters) == 1);
  }
  ~Impl() {
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

SasSigner::SasSigner(std::string_view key) : impl_{std::make_unique<Impl>(key)} {}
SasSigner::~SasSigner() = default;
SasSigner::SasSigner(SasSigner&&) noexcept = default;
SasSigner& SasSigner::operator=(SasSigner&&) noexcept = default;

Sha256Digest SasSigner::sign(std::string_view message) {
  Sha256Digest digest{};
  size_t size = 0;
  // Without a key the context starts over with the one it has, skipping the key schedule.
  TS_ASSERT(EVP_MAC_init(impl_->context, nullptr, 0, nullptr) == 1);
  TS_ASSERT(EVP_MAC_update(impl_->context, reinterpret_cast<const uint8_t*>(message.data()), message.size()) == 1);
  TS_ASSERT(EVP_MAC_final(impl_->context, digest.data(), &size, digest.size()) == 1 && size == digest.size());
  return digest;
}

void SasSigner::append_token(std::string& out, std::string_view sr, int64_t expiry_unix_seconds,
                             std::string_view policy) {
  const auto se = std::to_string(expiry_unix_seconds);
  std::string message;
  message.reserve(sr.size() + 1 + se.size());
  message.append(sr).append(1, '\n').append(se);
  append_fields(out, sr, sign(message), se, policy);
}

}  // namespace twinstorm::protocol
