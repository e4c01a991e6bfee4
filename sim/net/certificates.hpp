// X.509 certificates: making the few that a development hub and simulated devices need, and reading what a peer showed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::net {

/// A certificate (PEM, leaf first, then its chain) and its private key (PEM, PKCS#8). Keys are EC P-256.
struct CertifiedKey {
  std::string certificate_pem;
  std::string key_pem;
};

/// From when until when a certificate is valid.
struct Validity {
  WallTime from;
  WallTime until;
};

/// A self-signed CA certificate (basicConstraints CA:TRUE, keyCertSign).
Result<CertifiedKey> make_authority(std::string_view common_name, Validity validity);
/// An intermediate CA signed by `authority`, for devices that show a chain. The certificate text is its own alone.
Result<CertifiedKey> issue_authority(const CertifiedKey& authority, std::string_view common_name, Validity validity);
/// A TLS server certificate signed by `authority`, with every name as a DNS or IP subjectAltName. The certificate text
/// carries the authority's certificate behind the leaf.
Result<CertifiedKey> issue_server_certificate(const CertifiedKey& authority, const std::vector<std::string>& names,
                                              Validity validity);
/// A TLS client certificate with subject CN = `common_name`, signed by `authority`; X.509 CA-signed devices. `key_pem`:
/// an existing private key to certify, so that many simulated devices may share one; empty = a new key.
Result<CertifiedKey> issue_client_certificate(const CertifiedKey& authority, std::string_view common_name,
                                              Validity validity, std::string_view key_pem = {});
/// A client certificate that signs itself; X.509 self-signed devices, known to the hub by thumbprint. `key_pem` as
/// above.
Result<CertifiedKey> make_self_signed(std::string_view common_name, Validity validity, std::string_view key_pem = {});

/// 40 (SHA-1) or 64 (SHA-256) upper-case hex digits of the DER of the first certificate in `pem`. Fails with
/// `invalid_argument` when there is none.
Result<std::string> sha1_thumbprint(std::string_view pem);
Result<std::string> sha256_thumbprint(std::string_view pem);

/// A certificate chain that a TLS peer presented.
struct PeerCertificate {
  std::string common_name;  ///< of the leaf's subject; empty when it has none
  std::string sha1;         ///< thumbprint of the leaf, upper-case hex
  std::string sha256;
  std::vector<std::string> chain_der;  ///< leaf first
  Validity validity;                   ///< of the leaf
};

/// True when the chain leads from the leaf to one of `authorities_pem` (concatenated PEM), is valid at `now` and is for
/// TLS clients: a server's certificate of the same authority does not pass. The error says why not, in the words of the
/// verifier.
Result<void> verify_chain(const PeerCertificate& peer, std::string_view authorities_pem, WallTime now);

}  // namespace twinstorm::net
