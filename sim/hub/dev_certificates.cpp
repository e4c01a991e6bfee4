#include "sim/hub/dev_certificates.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/protocol/free_with.hpp"

namespace twinstorm::hub {
namespace {

namespace fs = std::filesystem;
using protocol::FreeWith;

constexpr Nanos kDay = std::chrono::hours{24};
constexpr Nanos kAuthorityLifetime = 3650 * kDay;
constexpr Nanos kServerLifetime = 397 * kDay;  // what browsers and Apple's verifier accept at most
constexpr Nanos kRenewBefore = kDay;
constexpr Nanos kBackdated = kDay;  // clocks of clients may be late
constexpr size_t kFileBytesMax = 1024 * 1024;

using Certificate = std::unique_ptr<X509, FreeWith<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using Bio = std::unique_ptr<BIO, FreeWith<BIO_free>>;

/// A pair as read: text for TLS, objects for questions.
struct Pair {
  net::CertifiedKey text;
  Certificate certificate;
  PrivateKey key;
};

Error io_error(const char* doing, const fs::path& path) {
  return make_error(ErrorCode::io, fmt::format("cannot {} '{}': {}", doing, path.string(), std::strerror(errno)));
}

Result<std::string> read_file(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno != ENOENT) return io_error("read", path);
    return make_error(ErrorCode::not_found, fmt::format("there is no file '{}'", path.string()));
  }
  std::string text;
  char buffer[16384];
  ssize_t size = 0;
  while (text.size() <= kFileBytesMax && (size = read(file, buffer, sizeof buffer)) > 0) {
    text.append(buffer, static_cast<size_t>(size));
  }
  const int error = errno;
  close(file);
  if (size < 0) {
    errno = error;
    return io_error("read", path);
  }
  if (text.size() > kFileBytesMax) {
    return make_error(ErrorCode::corrupt, fmt::format("'{}' is too large to be a certificate", path.string()));
  }
  return text;
}

/// By way of a neighbour file: a reader sees the old content or the new one.
Result<void> write_file(const fs::path& path, const std::string& text, mode_t mode) {
  fs::path draft = path;
  draft += fmt::format(".{}.tmp", getpid());
  const int file = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (file < 0) return io_error("create", draft);
  const bool complete = write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (close(file) != 0 || !complete || rename(draft.c_str(), path.c_str()) != 0) {
    const Error error = io_error("write", path);
    unlink(draft.c_str());
    return error;
  }
  return {};
}

Bio memory(const std::string& text) { return Bio{BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))}; }

std::string plural(const fs::path& certificate, const fs::path& key) {
  return fmt::format("'{}' and '{}'", certificate.string(), key.string());
}

/// What to do about a pair that cannot be used.
Error unusable(const fs::path& certificate, const fs::path& key, std::string_view why) {
  return make_error(ErrorCode::corrupt,
                    fmt::format("{}; remove {} to have new ones made, or give your own with --tls-cert and --tls-key",
                                why, plural(certificate, key)));
}

/// Nothing when neither file exists.
Result<std::optional<Pair>> read_pair(const fs::path& certificate_file, const fs::path& key_file) {
  auto certificate_text = read_file(certificate_file);
  auto key_text = read_file(key_file);
  for (const auto* text : {&certificate_text, &key_text}) {
    if (!*text && text->error().code != ErrorCode::not_found) return text->error();
  }
  if (!certificate_text && !key_text) return std::optional<Pair>{};
  if (!certificate_text || !key_text) {
    const fs::path& missing = certificate_text ? key_file : certificate_file;
    const fs::path& left = certificate_text ? certificate_file : key_file;
    return make_error(ErrorCode::corrupt,
                      fmt::format("there is '{}' but no '{}' to go with it: put it back, or remove the former to have "
                                  "both made anew",
                                  left.string(), missing.string()));
  }
  Pair pair{{std::move(*certificate_text), std::move(*key_text)}, {}, {}};
  pair.certificate.reset(PEM_read_bio_X509(memory(pair.text.certificate_pem).get(), nullptr, nullptr, nullptr));
  // An empty password instead of none: OpenSSL would ask on the terminal for that of an encrypted key.
  pair.key.reset(PEM_read_bio_PrivateKey(memory(pair.text.key_pem).get(), nullptr, nullptr, const_cast<char*>("")));
  ERR_clear_error();
  if (pair.certificate == nullptr) {
    return unusable(certificate_file, key_file,
                    fmt::format("'{}' is not a certificate in PEM form", certificate_file.string()));
  }
  if (pair.key == nullptr) {
    return unusable(certificate_file, key_file,
                    fmt::format("'{}' is not a private key in PEM form", key_file.string()));
  }
  if (X509_check_private_key(pair.certificate.get(), pair.key.get()) != 1) {
    ERR_clear_error();
    return unusable(certificate_file, key_file,
                    fmt::format("the key '{}' does not belong to the certificate '{}'", key_file.string(),
                                certificate_file.string()));
  }
  return std::optional<Pair>{std::move(pair)};
}

Result<void> write_pair(const fs::path& certificate_file, const fs::path& key_file, const net::CertifiedKey& pair) {
  if (auto written = write_file(key_file, pair.key_pem, 0600); !written) return written.error();
  return write_file(certificate_file, pair.certificate_pem, 0644);
}

WallTime end_of(const X509* certificate) {
  std::tm utc{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &utc) != 1) return WallTime::min();
  // Years beyond WallTime's range mean no end at all.
  constexpr int kLastYear = 2260;
  if (utc.tm_year + 1900 > kLastYear) return WallTime::max();
  return WallTime{std::chrono::seconds{timegm(&utc)}};
}

bool covers(X509* certificate, const std::string& name) {
  unsigned char address[16];
  const bool literal =
      inet_pton(AF_INET, name.c_str(), address) == 1 || inet_pton(AF_INET6, name.c_str(), address) == 1;
  return (literal ? X509_check_ip_asc(certificate, name.c_str(), 0)
                  : X509_check_host(certificate, name.data(), name.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                                    nullptr)) == 1;
}

Result<Pair> authority(const fs::path& folder, WallTime now) {
  const fs::path certificate_file = folder / "ca.pem";
  const fs::path key_file = folder / "ca-key.pem";
  auto found = read_pair(certificate_file, key_file);
  if (!found) return found.error();
  if (!*found) {
    // The name tells the CAs of several folders and machines apart in a trust store.
    const auto name = fmt::format("twinstorm development CA {}", format_compact_utc(now));
    auto made = net::make_authority(name, {now - kBackdated, now + kAuthorityLifetime});
    if (!made) return made.error();
    if (auto written = write_pair(certificate_file, key_file, *made); !written) return written.error();
    found = read_pair(certificate_file, key_file);
    if (!found) return found.error();
  }
  if (X509_check_ca((*found)->certificate.get()) == 0) {
    return unusable(certificate_file, key_file,
                    fmt::format("'{}' is not the certificate of a CA", certificate_file.string()));
  }
  if (const WallTime end = end_of((*found)->certificate.get()); end < now) {
    return unusable(certificate_file, key_file,
                    fmt::format("the CA '{}' has expired ({})", certificate_file.string(), format_iso8601(end)));
  }
  return std::move(**found);
}

Result<net::CertifiedKey> server(const fs::path& folder, const Pair& authority, const std::vector<std::string>& names,
                                 WallTime now) {
  const fs::path certificate_file = folder / "server.pem";
  const fs::path key_file = folder / "server-key.pem";
  auto found = read_pair(certificate_file, key_file);
  if (!found) return found.error();
  if (*found) {
    X509* const certificate = (*found)->certificate.get();
    if (X509_verify(certificate, X509_get0_pubkey(authority.certificate.get())) != 1) {
      ERR_clear_error();
      return unusable(
          certificate_file, key_file,
          fmt::format("'{}' is not signed by the CA '{}'", certificate_file.string(), (folder / "ca.pem").string()));
    }
    const bool complete =
        std::all_of(names.begin(), names.end(), [&](const std::string& name) { return covers(certificate, name); });
    if (complete && end_of(certificate) > now + kRenewBefore) return std::move((*found)->text);
  }
  const WallTime until = std::min(now + kServerLifetime, end_of(authority.certificate.get()));
  auto made = net::issue_server_certificate(authority.text, names, {now - kBackdated, until});
  if (!made) return made.error();
  if (auto written = write_pair(certificate_file, key_file, *made); !written) return written.error();
  return std::move(*made);
}

}  // namespace

Result<DevCertificates> prepare_dev_certificates(const fs::path& folder, const std::vector<std::string>& names,
                                                 WallTime now) {
  std::error_code error;
  const bool created = fs::create_directories(folder, error);
  if (error) {
    return make_error(ErrorCode::io, fmt::format("cannot create the data folder '{}': {} (choose another with --data)",
                                                 folder.string(), error.message()));
  }
  if (created) fs::permissions(folder, fs::perms::owner_all, error);
  const fs::path lock_file = folder / ".lock";
  const int lock = open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) {
    const Error failed = io_error("lock", lock_file);
    if (lock >= 0) close(lock);
    return failed;
  }
  const auto prepare = [&]() -> Result<DevCertificates> {
    const auto ca = authority(folder, now);
    if (!ca) return ca.error();
    auto certified = server(folder, *ca, names, now);
    if (!certified) return certified.error();
    return DevCertificates{fs::absolute(folder / "ca.pem").lexically_normal(), std::move(*certified)};
  };
  auto prepared = prepare();
  close(lock);  // gives the lock back
  return prepared;
}

Result<net::CertifiedKey> read_own_certificate(const std::string& certificate_file, const std::string& key_file) {
  auto certificate = read_file(certificate_file);
  if (!certificate) return certificate.error();
  auto key = read_file(key_file);
  if (!key) return key.error();
  return net::CertifiedKey{std::move(*certificate), std::move(*key)};
}

}  // namespace twinstorm::hub
