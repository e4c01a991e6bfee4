// OpenSSL's objects with owners, and its errors as text. Private to sim/net.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "sim/base/result.hpp"
#include "sim/net/certificates.hpp"
#include "sim/protocol/free_with.hpp"

namespace twinstorm::net::detail {

using protocol::FreeWith;
using BioPointer = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using CertificatePointer = std::unique_ptr<X509, FreeWith<X509_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using StorePointer = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;

/// What OpenSSL complained about last on this thread; empties its queue.
std::string take_openssl_error();

/// Every certificate of a PEM text, in its order; empty when there is none. `what` names the text in the error
/// (`invalid_argument`) of a certificate that cannot be read.
Result<std::vector<CertificatePointer>> read_certificates(std::string_view pem, std::string_view what);
Result<KeyPointer> read_private_key(std::string_view pem);
/// A store that trusts the certificates of `pem`; fails when there are none.
Result<StorePointer> make_store(std::string_view pem);

/// The members of PeerCertificate but the chain.
PeerCertificate describe(X509* leaf);
std::string to_der(const X509* certificate);

/// Whether `name` is an IPv4 or IPv6 literal.
bool is_ip_literal(const std::string& name);

}  // namespace twinstorm::net::detail
