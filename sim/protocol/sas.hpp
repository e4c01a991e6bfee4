// Shared access signatures: making, reading and checking tokens (device.md 2.2, service.md 2.2).
//
// No clock in here: expiry is a parameter, and whether a token is still valid is the caller's comparison of `se`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::protocol {

/// A token taken apart. `sr` is the text exactly as it stands in the token, because that is what was signed.
struct SasToken {
  std::string sr;           ///< resource, as sent (often percent-encoded)
  std::string sig;          ///< base64 text after percent-decoding; a raw `+` stays `+`
  std::string skn;          ///< policy name; empty when the device's own key signs
  int64_t se = 0;           ///< expiry, seconds since 1970 UTC
  std::string signed_text;  ///< `sr` + LF + the `se` text, both as sent
};

/// `SharedAccessSignature sr=..&sig=..[&skn=..]&se=..` in any order. Fails with `unauthorized` on a missing or repeated
/// field, another scheme, an expiry that is not a number or broken percent-encoding.
Result<SasToken> parse_sas_token(std::string_view text);

/// `sr` of a resource such as `hub.example/devices/dev1`: strict percent-encoding, upper-case hex but `*` as `%2a`, as
/// the SDK writes it.
std::string sas_resource(std::string_view resource);

/// A token in the SDK's field order sr, sig, skn, se. `resource` is not yet encoded; `key` is the decoded key.
std::string make_sas_token(std::string_view resource, std::string_view key, int64_t expiry_unix_seconds,
                           std::string_view policy = {});

/// HMAC-SHA256 over `signed_text` compared with `sig` in constant time.
bool signature_matches(const SasToken& token, std::string_view key);

/// Whether a token for `sr_decoded` may access `resource` (both percent-decoded): segment-wise prefix, so `/a/b` covers
/// `/a/b/c` and not `/a/bc`; the host (first segment) without case, the rest with case.
bool covers(std::string_view sr_decoded, std::string_view resource);

/// HMAC-SHA256 of the device id with the group's key: how a fleet of any size needs one secret only (symmetric-key
/// enrolment groups of the provisioning service).
Sha256Digest derive_device_key(std::string_view group_key, std::string_view device_id);

/// Signs many tokens with one key: the key schedule is computed once. One thread at a time.
class SasSigner {
 public:
  explicit SasSigner(std::string_view key);
  ~SasSigner();
  SasSigner(SasSigner&&) noexcept;
  SasSigner& operator=(SasSigner&&) noexcept;

  /// Appends a whole token, as `make_sas_token`, but of an `sr` that is already encoded (see `sas_resource`).
  void append_token(std::string& out, std::string_view sr, int64_t expiry_unix_seconds, std::string_view policy = {});
  Sha256Digest sign(std::string_view message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace twinstorm::protocol
