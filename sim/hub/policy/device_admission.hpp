// Who is let in as a device: the registry and the credentials together, for every transport.
#pragma once

#include <string_view>

#include "sim/base/time.hpp"
#include "sim/hub/policy/access_control.hpp"
#include "sim/hub/store/device_store.hpp"

namespace twinstorm::hub {

/// An identity that may act now.
struct Admission {
  DeviceRecord* record = nullptr;
  WallTime expires{};  ///< when the admission ends; `WallTime::max()` = never
};

/// Admits a registered and enabled identity with the right credentials; a module only while its device is registered
/// and enabled too. `token` is the MQTT password or the Authorization value, `certificate` what the TLS handshake
/// showed, each may be missing. Error: 401 with the reason, free of secrets; an unknown identity is 401 as well, so
/// that nobody without credentials learns which devices exist. Runs on the thread of the shard that owns the device.
ServiceResult<Admission> admit_device(const DeviceStore& store, const AccessControl& access, std::string_view device_id,
                                      std::string_view module_id, std::string_view token,
                                      const net::PeerCertificate* certificate, WallTime now);

}  // namespace twinstorm::hub
