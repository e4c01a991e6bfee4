#include "sim/hub/token_seal.hpp"

#include <memory>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "sim/base/assert.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

// Token: nonce, ciphertext, tag; then base64url.
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
// What the hub seals are keys of rows; anything much longer is not from here.
constexpr size_t kTokenMax = 16 * 1024;

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Context make_context() {
  Context context{EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free};
  TS_ASSERT(context != nullptr);
  return context;
}

protocol::Sha256Digest derive(std::string_view key, std::string_view purpose) {
  return protocol::hmac_sha256(key, fmt::format("twinstorm continuation token, {}", purpose));
}

unsigned char* bytes(std::string& text, size_t at) { return reinterpret_cast<unsigned char*>(text.data()) + at; }
const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

std::string seal_token(std::string_view key, std::string_view purpose, std::string_view text) {
  std::string sealed(kNonceBytes + text.size() + kTagBytes, '\0');
  TS_ASSERT(RAND_bytes(bytes(sealed, 0), kNonceBytes) == 1);
  const protocol::Sha256Digest secret = derive(key, purpose);
  const Context context = make_context();
  int written = 0;
  int rest = 0;
  const bool done =
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, secret.data(), bytes(sealed, 0)) == 1 &&
      EVP_EncryptUpdate(context.get(), bytes(sealed, kNonceBytes), &written, bytes(text),
                        static_cast<int>(text.size())) == 1 &&
      EVP_EncryptFinal_ex(context.get(), bytes(sealed, kNonceBytes + text.size()), &rest) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, bytes(sealed, kNonceBytes + text.size())) ==
          1;
  TS_ASSERT(done);
  return protocol::base64url_encode(sealed);
}

std::optional<std::string> open_token(std::string_view key, std::string_view purpose, std::string_view token) {
  if (token.size() > kTokenMax) return std::nullopt;
  auto sealed = protocol::base64url_decode(token);
  if (!sealed || sealed->size() < kNonceBytes + kTagBytes) return std::nullopt;
  // One text, one token: spellings that decode to the same bytes are not from here either.
  if (protocol::base64url_encode(*sealed) != token) return std::nullopt;
  const size_t length = sealed->size() - kNonceBytes - kTagBytes;
  std::string text(length, '\0');
  const protocol::Sha256Digest secret = derive(key, purpose);
  const Context context = make_context();
  int written = 0;
  int rest = 0;
  const bool whole =
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, secret.data(), bytes(*sealed, 0)) == 1 &&
      EVP_DecryptUpdate(context.get(), bytes(text, 0), &written, bytes(*sealed, kNonceBytes),
                        static_cast<int>(length)) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, bytes(*sealed, kNonceBytes + length)) == 1 &&
      EVP_DecryptFinal_ex(context.get(), bytes(text, length), &rest) == 1;
  if (!whole) return std::nullopt;
  return text;
}

}  // namespace twinstorm::hub
