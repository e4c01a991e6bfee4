// Twins, modules and job rows from a JSON file, system members included: fixtures, and earlier exports.
#pragma once

#include <filesystem>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/store/device_record.hpp"

namespace twinstorm::hub {

struct Imported {
  std::vector<DeviceRecord> devices;
  std::vector<DeviceRecord> modules;
  std::vector<twin::Value> device_jobs;
};

/// Reads `{"twins": [...], "modules": [...], "deviceJobs": [...]}`, each member optional, twins in the service's form.
/// Identities get the twins' status and generated keys. Errors: `not_found` (no such file), `corrupt` (names the
/// element and what is wrong with it).
Result<Imported> read_import_file(const std::filesystem::path& path, WallTime now);
Result<Imported> parse_import(std::string_view json, WallTime now);

}  // namespace twinstorm::hub
