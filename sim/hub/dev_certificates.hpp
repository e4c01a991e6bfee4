// The certificates of a development hub: a CA and a server certificate, made on first start and kept in a folder, so
// that clients trust the CA once.
//
// The folder holds `ca.pem`, `ca-key.pem`, `server.pem` (the server's certificate, then the CA's) and `server-key.pem`.
// Keys are readable by their owner only. A CA that somebody else put there is used as it is.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/net/certificates.hpp"

namespace twinstorm::hub {

struct DevCertificates {
  std::filesystem::path authority_file;  ///< what clients must trust
  net::CertifiedKey server;
};

/// Reads the certificates of `folder`, made before if need be (folder 0700, keys 0600). The server certificate is made
/// anew when it has expired or will within a day, or when it lacks one of `names` (DNS names and IP literals); a CA
/// never is. Two processes may call it for one folder at a time. Errors: `io`; `corrupt` (a file is damaged, a part of
/// a pair is missing, key and certificate do not fit, the server certificate is of another CA, the CA has expired):
/// nothing is overwritten then, the message says what to remove.
Result<DevCertificates> prepare_dev_certificates(const std::filesystem::path& folder,
                                                 const std::vector<std::string>& names, WallTime now);

/// A certificate and key of the user's own. Fails with `not_found`, `io` or `corrupt`, naming the file.
Result<net::CertifiedKey> read_own_certificate(const std::string& certificate_file, const std::string& key_file);

}  // namespace twinstorm::hub
