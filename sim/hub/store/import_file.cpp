#include "sim/hub/store/import_file.hpp"

#include <fstream>
#include <sstream>
#include <unordered_set>

#include <fmt/format.h>

#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

Error corrupt(std::string message) { return make_error(ErrorCode::corrupt, std::move(message)); }

/// The counter inside an identity's ETag, which continues from there; 1 when the text is of another making.
uint64_t identity_counter(std::string_view etag) {
  const auto text = protocol::base64_decode(etag);
  if (!text || text->empty() || text->size() > 18 || text->find_first_not_of("0123456789") != std::string::npos)
    return 1;
  return std::stoull(*text);
}

Result<DeviceRecord> import_twin(const twin::Value& json, WallTime now) {
  auto document = twin::TwinDocument::from_json(json);
  if (!document) return document.error();
  if (document->device_id.empty()) return make_error(ErrorCode::invalid_argument, "it has no deviceId");
  IdentityRequest request;
  request.authentication_type = document->authentication_type;
  DeviceRecord record = make_record(document->device_id, document->module_id, request, now);
  record.twin = std::move(*document);
  // Connected means "holds a connection to this hub", except for rows that only queries look at: what the file says
  // stays until the device connects and leaves again.
  record.identity_etag = identity_counter(record.twin.device_etag);
  if (record.twin.device_etag.empty()) record.twin.device_etag = format_identity_etag(record.identity_etag);
  return record;
}

Result<std::vector<DeviceRecord>> import_list(const twin::Value& file, const char* name, bool modules, WallTime now) {
  std::vector<DeviceRecord> records;
  const twin::Value* list = file.find(name);
  if (list == nullptr) return records;
  if (!list->is_array()) return corrupt(fmt::format("'{}' is not an array", name));
  std::unordered_set<std::string> seen;
  for (const twin::Value& element : list->elements()) {
    const std::string place = fmt::format("{}[{}]", name, records.size());
    auto record = import_twin(element, now);
    if (!record) return corrupt(fmt::format("{}: {}", place, record.error().message));
    if (record->is_module() != modules) {
      return corrupt(
          fmt::format("{}: {}", place, modules ? "it has no moduleId" : "it has a moduleId; modules go to 'modules'"));
    }
    if (!seen.insert(record->key()).second) {
      return corrupt(fmt::format("{}: '{}' is in the file twice", place, record->key()));
    }
    records.push_back(std::move(*record));
  }
  return records;
}

}  // namespace

Result<Imported> parse_import(std::string_view json, WallTime now) {
  const auto file = twin::parse_value(json);
  if (!file) return corrupt(file.error().message);
  if (!file->is_object()) return corrupt("it is not a JSON object with 'twins', 'modules', 'deviceJobs'");
  Imported imported;
  auto devices = import_list(*file, "twins", false, now);
  if (!devices) return devices.error();
  imported.devices = std::move(*devices);
  auto modules = import_list(*file, "modules", true, now);
  if (!modules) return modules.error();
  imported.modules = std::move(*modules);
  if (const twin::Value* jobs = file->find("deviceJobs"); jobs != nullptr) {
    if (!jobs->is_array()) return corrupt("'deviceJobs' is not an array");
    for (const twin::Value& row : jobs->elements()) {
      if (!row.is_object() || row.find("jobId") == nullptr || row.find("deviceId") == nullptr) {
        return corrupt(
            fmt::format("deviceJobs[{}] is not an object with jobId and deviceId", imported.device_jobs.size()));
      }
      imported.device_jobs.push_back(row);
    }
  }
  return imported;
}

Result<Imported> read_import_file(const std::filesystem::path& path, WallTime now) {
  std::ifstream in{path, std::ios::binary};
  if (!in) return make_error(ErrorCode::not_found, fmt::format("cannot open the import file '{}'", path.string()));
  std::stringstream text;
  text << in.rdbuf();
  if (in.bad()) return make_error(ErrorCode::io, fmt::format("cannot read the import file '{}'", path.string()));
  auto imported = parse_import(text.view(), now);
  if (!imported) {
    return make_error(imported.error().code,
                      fmt::format("import file '{}': {}", path.string(), imported.error().message));
  }
  return imported;
}

}  // namespace twinstorm::hub
