#include "sim/hub/policy/device_admission.hpp"

#include <fmt/format.h>

namespace twinstorm::hub {

ServiceResult<Admission> admit_device(const DeviceStore& store, const AccessControl& access, std::string_view device_id,
                                      std::string_view module_id, std::string_view token,
                                      const net::PeerCertificate* certificate, WallTime now) {
  const DeviceRecord* device = store.find(device_id, {});
  if (device == nullptr) return unauthorized(fmt::format("'{}' is not registered", device_id));
  if (device->twin.status != twin::DeviceStatus::enabled)
    return unauthorized(fmt::format("'{}' is disabled", device_id));
  DeviceRecord* record = store.find(device_id, module_id);
  if (record == nullptr) return unauthorized(fmt::format("'{}/{}' is not registered", device_id, module_id));
  const DeviceCredentials credentials{.token = token,
                                      .device_id = device_id,
                                      .module_id = module_id,
                                      .primary_key = record->primary_key,
                                      .secondary_key = record->secondary_key,
                                      .certificate = certificate,
                                      .authentication_type = record->twin.authentication_type,
                                      .primary_thumbprint = record->twin.x509_primary,
                                      .secondary_thumbprint = record->twin.x509_secondary};
  const auto grant = access.check_device(credentials, now);
  if (!grant) return grant.error();
  return Admission{record, grant->expires};
}

}  // namespace twinstorm::hub
