// The X.509 certificates of simulated devices: one private key for a fleet, one certificate for a device.
#pragma once

#include <functional>
#include <vector>

#include "sim/device/behavior.hpp"
#include "sim/net/certificates.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::run {

/// By fleet; empty for fleets that use tokens.
using FleetCertificates = std::vector<device::FleetCertificates>;

/// Whether any fleet's certificates are signed by a CA.
bool needs_device_authority(const scenario::Scenario& scenario);

/// The CA that signs for `x509-ca` fleets: made for this run when the target is the embedded hub, which is then told to
/// trust it; else read from the files that the scenario names. Errors name the file.
Result<net::CertifiedKey> device_authority(const scenario::Target& target, WallTime now);

/// Makes what the scenario needs; about a tenth of a millisecond each. `authority` may be null without `x509-ca`
/// fleets. `progress(done, total)` is called now and then.
Result<FleetCertificates> make_certificates(const scenario::Scenario& scenario, const net::CertifiedKey* authority,
                                            WallTime now, const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace twinstorm::run
