#include "sim/net/certificates.hpp"

#include <array>
#include <ctime>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "sim/net/detail/openssl.hpp"

namespace twinstorm::net {
namespace detail {

std::string take_openssl_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  if (const char* reason = ERR_reason_error_string(code)) return reason;
  return fmt::format("error {:#x}", code);
}

Result<std::vector<CertificatePointer>> read_certificates(std::string_view pem, std::string_view what) {
  const BioPointer bio{BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))};
  std::vector<CertificatePointer> certificates;
  for (;;) {
    CertificatePointer certificate{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)};
    if (certificate == nullptr) break;
    certificates.push_back(std::move(certificate));
  }
  const unsigned long code = ERR_peek_last_error();
  const bool at_end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  const std::string reason = take_openssl_error();
  if (!at_end) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("certificate {} of {} cannot be read: {}", certificates.size() + 1, what, reason));
  }
  return certificates;
}

Result<KeyPointer> read_private_key(std::string_view pem) {
  const BioPointer bio{BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))};
  // Without this function OpenSSL would ask for the pass phrase of an encrypted key on the terminal.
  const auto no_pass_phrase = [](char*, int, int, void*) { return -1; };
  KeyPointer key{PEM_read_bio_PrivateKey(bio.get(), nullptr, no_pass_phrase, nullptr)};
  if (key == nullptr) {
    return make_error(
        ErrorCode::invalid_argument,
        fmt::format("the private key cannot be read ({}): give it as PEM, not encrypted", take_openssl_error()));
  }
  return key;
}

Result<StorePointer> make_store(std::string_view pem) {
  const auto certificates = read_certificates(pem, "the CA text");
  if (!certificates) return certificates.error();
  if (certificates->empty()) {
    return make_error(ErrorCode::invalid_argument,
                      "the CA text holds no certificate: give PEM (-----BEGIN CERTIFICATE-----)");
  }
  StorePointer store{X509_STORE_new()};
  for (const auto& certificate : *certificates) X509_STORE_add_cert(store.get(), certificate.get());
  ERR_clear_error();
  return store;
}

namespace {

std::string digest_text(const X509* certificate, const EVP_MD* algorithm) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  X509_digest(certificate, algorithm, digest.data(), &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02X}", digest[i]);
  return text;
}

WallTime to_wall_time(const ASN1_TIME* time) {
  std::tm parts{};
  ASN1_TIME_to_tm(time, &parts);
  return WallTime{std::chrono::seconds{timegm(&parts)}};
}

}  // namespace

PeerCertificate describe(X509* leaf) {
  PeerCertificate peer;
  const X509_NAME* subject = X509_get_subject_name(leaf);
  if (const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1); at >= 0) {
    unsigned char* text = nullptr;
    const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (size >= 0) peer.common_name.assign(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
    OPENSSL_free(text);
  }
  peer.sha1 = digest_text(leaf, EVP_sha1());
  peer.sha256 = digest_text(leaf, EVP_sha256());
  peer.validity = {to_wall_time(X509_get0_notBefore(leaf)), to_wall_time(X509_get0_notAfter(leaf))};
  return peer;
}

std::string to_der(const X509* certificate) {
  std::string der(static_cast<size_t>(std::max(0, i2d_X509(certificate, nullptr))), '\0');
  auto* out = reinterpret_cast<unsigned char*>(der.data());
  if (!der.empty()) i2d_X509(certificate, &out);
  return der;
}

bool is_ip_literal(const std::string& name) {
  boost::system::error_code error;
  boost::asio::ip::make_address(name, error);
  return !error;
}

}  // namespace detail

namespace {

using detail::BioPointer;
using detail::CertificatePointer;
using detail::KeyPointer;

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string{data, static_cast<size_t>(size)};
}

Error openssl_failure(std::string_view doing) {
  return make_error(ErrorCode::internal, fmt::format("{}: {}", doing, detail::take_openssl_error()));
}

struct Extension {
  int nid;
  std::string value;  // in OpenSSL's configuration syntax
};

/// Signs a new certificate for a new key, or for `key_pem` when given, with the issuer's key, or with its own when
/// there is no issuer.
Result<CertifiedKey> make_certificate(std::string_view common_name, Validity validity, X509* issuer,
                                      EVP_PKEY* issuer_key, const std::vector<Extension>& extensions,
                                      std::string_view key_pem = {}) {
  if (validity.until <= validity.from) {
    return make_error(ErrorCode::invalid_argument, fmt::format("certificate of \"{}\" would end before it begins ({})",
                                                               common_name, format_iso8601(validity.until)));
  }
  auto given =
      key_pem.empty() ? Result<KeyPointer>{KeyPointer{EVP_EC_gen("P-256")}} : detail::read_private_key(key_pem);
  if (!given) return given.error();
  const KeyPointer key = std::move(*given);
  const CertificatePointer certificate{X509_new()};
  if (key == nullptr || certificate == nullptr) return openssl_failure("cannot make a key");
  X509* const x509 = certificate.get();
  X509_set_version(x509, X509_VERSION_3);
  std::array<unsigned char, 16> serial{};
  if (RAND_bytes(serial.data(), serial.size()) != 1) return openssl_failure("no random serial number");
  serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40);  // positive, and always 16 bytes
  BIGNUM* const number = BN_bin2bn(serial.data(), serial.size(), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509));
  BN_free(number);
  ASN1_TIME_set(X509_getm_notBefore(x509), unix_seconds(validity.from));
  ASN1_TIME_set(X509_getm_notAfter(x509), unix_seconds(validity.until));
  X509_set_pubkey(x509, key.get());
  // With the type given, OpenSSL does not cut common names at 64 characters; device ids have up to 128.
  X509_NAME_add_entry_by_NID(X509_get_subject_name(x509), NID_commonName, V_ASN1_UTF8STRING,
                             reinterpret_cast<const unsigned char*>(common_name.data()),
                             static_cast<int>(common_name.size()), -1, 0);
  X509* const parent = issuer != nullptr ? issuer : x509;
  X509_set_issuer_name(x509, X509_get_subject_name(parent));

  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, parent, x509, nullptr, nullptr, 0);
  const auto add = [&](int nid, const std::string& value) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    const bool done = extension != nullptr && X509_add_ext(x509, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
  };
  for (const auto& extension : extensions) {
    if (!add(extension.nid, extension.value)) {
      return openssl_failure(
          fmt::format("cannot add the extension {} to the certificate of \"{}\"", extension.value, common_name));
    }
  }
  if (!add(NID_subject_key_identifier, "hash") || (issuer != nullptr && !add(NID_authority_key_identifier, "keyid")) ||
      X509_sign(x509, issuer_key != nullptr ? issuer_key : key.get(), EVP_sha256()) == 0) {
    return openssl_failure(fmt::format("cannot sign the certificate of \"{}\"", common_name));
  }

  const BioPointer certificate_text{BIO_new(BIO_s_mem())}, key_text{BIO_new(BIO_s_mem())};
  if (PEM_write_bio_X509(certificate_text.get(), x509) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return openssl_failure(fmt::format("cannot write the certificate of \"{}\"", common_name));
  }
  return CertifiedKey{text_of(certificate_text.get()), text_of(key_text.get())};
}

Result<CertifiedKey> issue(const CertifiedKey& authority, std::string_view common_name, Validity validity,
                           const std::vector<Extension>& extensions, std::string_view key_pem = {}) {
  const auto issuers = detail::read_certificates(authority.certificate_pem, "the authority");
  if (!issuers) return issuers.error();
  if (issuers->empty()) return make_error(ErrorCode::invalid_argument, "the authority holds no certificate (PEM)");
  const auto key = detail::read_private_key(authority.key_pem);
  if (!key) return key.error();
  if (X509_check_private_key(issuers->front().get(), key->get()) != 1) {
    ERR_clear_error();
    return make_error(ErrorCode::invalid_argument, "the authority's private key does not belong to its certificate");
  }
  return make_certificate(common_name, validity, issuers->front().get(), key->get(), extensions, key_pem);
}

Result<std::string> thumbprint(std::string_view pem, std::string PeerCertificate::*which) {
  const auto certificates = detail::read_certificates(pem, "the text");
  if (!certificates) return certificates.error();
  if (certificates->empty()) return make_error(ErrorCode::invalid_argument, "the text holds no certificate (PEM)");
  return detail::describe(certificates->front().get()).*which;
}

bool is_certificate_name(std::string_view name) {
  return !name.empty() && name.find_first_not_of(
                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                              ".:*_-") == std::string_view::npos;
}

const std::vector<Extension> kAuthority{{NID_basic_constraints, "critical,CA:TRUE"},
                                        {NID_key_usage, "critical,keyCertSign,cRLSign"}};
const Extension kLeaf{NID_basic_constraints, "critical,CA:FALSE"};
const Extension kSigns{NID_key_usage, "critical,digitalSignature"};

}  // namespace

Result<CertifiedKey> make_authority(std::string_view common_name, Validity validity) {
  return make_certificate(common_name, validity, nullptr, nullptr, kAuthority);
}

Result<CertifiedKey> issue_authority(const CertifiedKey& authority, std::string_view common_name, Validity validity) {
  return issue(authority, common_name, validity, kAuthority);
}

Result<CertifiedKey> issue_server_certificate(const CertifiedKey& authority, const std::vector<std::string>& names,
                                              Validity validity) {
  if (names.empty()) return make_error(ErrorCode::invalid_argument, "a server certificate needs at least one name");
  std::string alternatives;
  for (const auto& name : names) {
    if (!is_certificate_name(name)) {
      return make_error(
          ErrorCode::invalid_argument,
          fmt::format("\"{}\" is not a host name or an IP address, so it cannot stand in a certificate", name));
    }
    alternatives +=
        fmt::format("{}{}:{}", alternatives.empty() ? "" : ",", detail::is_ip_literal(name) ? "IP" : "DNS", name);
  }
  auto made = issue(authority, names.front(), validity,
                    {kLeaf, kSigns, {NID_ext_key_usage, "serverAuth"}, {NID_subject_alt_name, alternatives}});
  if (made) made->certificate_pem += authority.certificate_pem;
  return made;
}

Result<CertifiedKey> issue_client_certificate(const CertifiedKey& authority, std::string_view common_name,
                                              Validity validity, std::string_view key_pem) {
  return issue(authority, common_name, validity, {kLeaf, kSigns, {NID_ext_key_usage, "clientAuth"}}, key_pem);
}

Result<CertifiedKey> make_self_signed(std::string_view common_name, Validity validity, std::string_view key_pem) {
  return make_certificate(common_name, validity, nullptr, nullptr, {kLeaf, kSigns, {NID_ext_key_usage, "clientAuth"}},
                          key_pem);
}

Result<std::string> sha1_thumbprint(std::string_view pem) { return thumbprint(pem, &PeerCertificate::sha1); }
Result<std::string> sha256_thumbprint(std::string_view pem) { return thumbprint(pem, &PeerCertificate::sha256); }

Result<void> verify_chain(const PeerCertificate& peer, std::string_view authorities_pem, WallTime now) {
  const auto store = detail::make_store(authorities_pem);
  if (!store) return store.error();
  std::vector<CertificatePointer> chain;
  for (const auto& der : peer.chain_der) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
    chain.emplace_back(d2i_X509(nullptr, &bytes, static_cast<long>(der.size())));
    if (chain.back() == nullptr) {
      return make_error(ErrorCode::invalid_argument, fmt::format("certificate {} of the peer cannot be read: {}",
                                                                 chain.size(), detail::take_openssl_error()));
    }
  }
  if (chain.empty()) return make_error(ErrorCode::unauthorized, "the peer showed no certificate");
  struct StackFree {
    void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }  // not what it points to
  };
  const std::unique_ptr<STACK_OF(X509), StackFree> between{sk_X509_new_null()};
  for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(between.get(), chain[i].get());
  const std::unique_ptr<X509_STORE_CTX, detail::FreeWith<X509_STORE_CTX_free>> context{X509_STORE_CTX_new()};
  if (X509_STORE_CTX_init(context.get(), store->get(), chain.front().get(), between.get()) != 1) {
    return openssl_failure("cannot verify a certificate");
  }
  X509_VERIFY_PARAM* const parameters = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(parameters, unix_seconds(now));
  X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_CLIENT);
  // An intermediate CA registered with the hub is an anchor too; its own root need not be known.
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
  if (X509_verify_cert(context.get()) == 1) return {};
  const int reason = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  return make_error(ErrorCode::unauthorized, fmt::format("the certificate of \"{}\" is not trusted: {}",
                                                         peer.common_name, X509_verify_cert_error_string(reason)));
}

}  // namespace twinstorm::net
