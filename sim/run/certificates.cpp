#include "sim/run/certificates.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace twinstorm::run {
namespace {

using scenario::AuthKind;

/// From an hour ago, for clocks that differ, until after the longest run.
net::Validity validity(WallTime now) { return {now - std::chrono::hours{1}, now + std::chrono::hours{24 * 31}}; }

Result<std::string> read_pem(const std::string& path, std::string_view member) {
  std::ifstream file{path};
  if (!file) {
    return make_error(ErrorCode::not_found,
                      fmt::format("target.deviceCa.{}: cannot read {}: {}", member, path, std::strerror(errno)));
  }
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

bool needs_device_authority(const scenario::Scenario& scenario) {
  return std::any_of(scenario.fleets.begin(), scenario.fleets.end(),
                     [](const auto& fleet) { return fleet.auth == AuthKind::x509_ca; });
}

Result<net::CertifiedKey> device_authority(const scenario::Target& target, WallTime now) {
  if (target.kind == scenario::Target::Kind::embedded) {
    return net::make_authority("twinstorm simulated devices", validity(now));
  }
  auto certificate = read_pem(target.device_ca_certificate, "certificate");
  if (!certificate) return certificate.error();
  auto key = read_pem(target.device_ca_key, "key");
  if (!key) return key.error();
  return net::CertifiedKey{std::move(*certificate), std::move(*key)};
}

Result<FleetCertificates> make_certificates(const scenario::Scenario& scenario, const net::CertifiedKey* authority,
                                            WallTime now, const std::function<void(uint64_t, uint64_t)>& progress) {
  FleetCertificates all(scenario.fleets.size());
  uint64_t total = 0, done = 0;
  for (const auto& fleet : scenario.fleets) total += fleet.auth == AuthKind::sas ? 0 : fleet.count;
  for (size_t i = 0; i < scenario.fleets.size(); ++i) {
    const auto& fleet = scenario.fleets[i];
    if (fleet.auth == AuthKind::sas) continue;
    auto& to = all[i];
    to.certificate_pem.reserve(fleet.count);
    std::string id;
    for (uint32_t index = 0; index < fleet.count; ++index) {
      id.clear();
      fleet.append_device_id(id, index);
      auto made = fleet.auth == AuthKind::x509_ca
                      ? net::issue_client_certificate(*authority, id, validity(now), to.key_pem)
                      : net::make_self_signed(id, validity(now), to.key_pem);
      if (!made) {
        return make_error(made.error().code,
                          fmt::format("cannot make the certificate of device \"{}\": {}", id, made.error().message));
      }
      if (index == 0) to.key_pem = std::move(made->key_pem);
      made->certificate_pem.shrink_to_fit();
      to.certificate_pem.push_back(std::move(made->certificate_pem));
      if (++done % 500 == 0 && progress) progress(done, total);
    }
  }
  return all;
}

}  // namespace twinstorm::run
