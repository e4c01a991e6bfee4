#include "sim/hub/frontends/http/hub_service.hpp"

#include <algorithm>
#include <unordered_set>

#include <fmt/format.h>

#include "sim/hub/frontends/http/configuration_api.hpp"
#include "sim/hub/frontends/http/job_api.hpp"
#include "sim/hub/query_service.hpp"
#include "sim/hub/text.hpp"

namespace twinstorm::hub {
namespace {

using Op = protocol::ServiceOperation;
using Done = std::function<void(ServiceAnswer)>;

constexpr size_t kListMax = 1000;  // service.md 3.3
constexpr size_t kBulkMax = 100;   // service.md 4.2

void refuse(const ServiceCall& call, Shard& origin, const ServiceError& error, const Done& done) {
  count_refusal(origin.counts(), call.route.operation, error.status);
  done(error_answer(error, origin));
}

// --- List and statistics ---------------------------------------------------------------------------------------------

struct ListedIdentity {
  std::string device_id;
  std::string json;
};

void list_devices(const ServiceCall& call, Shard& origin, Done done) {
  const int asked = call.route.top().value_or(static_cast<int>(kListMax));
  const size_t top = asked >= 1 && asked <= static_cast<int>(kListMax) ? static_cast<size_t>(asked) : kListMax;
  const auto work = [top](Shard& shard) {
    std::vector<ListedIdentity> found;
    for (const auto& [id, record] : shard.store().devices.ordered()) {
      if (found.size() == top) break;
      found.push_back({std::string{id}, {}});
      write_identity(*record, IdentityEcho::stored, found.back().json);
    }
    return found;
  };
  origin.gather<std::vector<ListedIdentity>>(
      work, [&origin, top, done = std::move(done)](std::vector<std::vector<ListedIdentity>> parts) {
        std::vector<ListedIdentity> all;
        for (auto& part : parts) std::move(part.begin(), part.end(), std::back_inserter(all));
        std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.device_id < b.device_id; });
        if (all.size() > top) all.resize(top);
        ServiceAnswer answer;
        answer.body = "[";
        for (const ListedIdentity& identity : all) {
          if (answer.body.size() > 1) answer.body += ',';
          answer.body += identity.json;
        }
        answer.body += ']';
        origin.counts().add(&HubCounts::registry_reads);
        done(std::move(answer));
      });
}

struct Statistics {
  size_t enabled = 0;
  size_t disabled = 0;
  size_t connected = 0;
};

void statistics(const ServiceCall& call, Shard& origin, Done done) {
  const bool of_devices = call.route.operation == Op::device_statistics;
  const auto work = [](Shard& shard) {
    Statistics part;
    for (const auto& [id, record] : shard.store().devices.ordered()) {
      ++(record->twin.status == twin::DeviceStatus::enabled ? part.enabled : part.disabled);
      if (record->link != nullptr) ++part.connected;
    }
    return part;
  };
  origin.gather<Statistics>(work, [&origin, of_devices, done = std::move(done)](std::vector<Statistics> parts) {
    Statistics sum;
    for (const Statistics& part : parts) {
      sum.enabled += part.enabled;
      sum.disabled += part.disabled;
      sum.connected += part.connected;
    }
    ServiceAnswer answer;
    answer.body = of_devices
                      ? fmt::format(R"({{"totalDeviceCount":{},"enabledDeviceCount":{},"disabledDeviceCount":{}}})",
                                    sum.enabled + sum.disabled, sum.enabled, sum.disabled)
                      : fmt::format(R"({{"connectedDeviceCount":{}}})", sum.connected);
    origin.counts().add(&HubCounts::registry_reads);
    done(std::move(answer));
  });
}

// --- Bulk ------------------------------------------------------------------------------------------------------------

const twin::Value* find_any_case(const twin::Value& object, std::string_view name) {
  for (const twin::Member& member : object.members()) {
    if (equal_ignoring_case(member.name(), name)) return &member.value;
  }
  return nullptr;
}

std::string text_any_case(const twin::Value& object, std::string_view name) {
  const twin::Value* found = find_any_case(object, name);
  return found != nullptr && found->is_string() ? std::string{found->text()} : std::string{};
}

/// A section of a new twin: an object without the members the service owns, checked against the limits.
ServiceResult<twin::Value> initial_section(const twin::Value* given, twin::Section section) {
  if (given == nullptr || given->is_null()) return twin::Value::object();
  if (!given->is_object()) return twin::argument_invalid(fmt::format("{} must be an object", to_string(section)));
  twin::Value values = *given;
  values.erase("$version");
  values.erase("$metadata");
  if (auto valid = twin::check_members(values, section, twin::Nulls::refused); !valid) return valid.error();
  if (auto valid = twin::check_growth(section, 0, twin::counted_size(values)); !valid) return valid.error();
  return values;
}

ServiceResult<void> bulk_create(const twin::Value& entry, const std::string& device_id, const std::string& module_id,
                                Shard& shard, WallTime now) {
  const auto request = parse_identity(entry, !module_id.empty());
  if (!request) return request.error();
  const twin::Value* properties = find_any_case(entry, "properties");
  auto tags = initial_section(find_any_case(entry, "tags"), twin::Section::tags);
  if (!tags) return tags.error();
  auto desired = initial_section(properties == nullptr ? nullptr : properties->find("desired"), twin::Section::desired);
  if (!desired) return desired.error();
  auto reported =
      initial_section(properties == nullptr ? nullptr : properties->find("reported"), twin::Section::reported);
  if (!reported) return reported.error();

  const auto created = register_device(shard, device_id, module_id, *request, now);
  if (!created) return created.error();
  twin::TwinDocument& document = (*created)->twin;
  if (!tags->empty()) twin::set_tags(document, std::move(*tags));
  if (!desired->empty()) document.desired.assign(std::move(*desired), 1, {now, 1});
  if (!reported->empty()) document.reported.assign(std::move(*reported), 1, {now, 0});
  (*created)->touch();
  return {};
}

ServiceResult<void> bulk_update_twin(const twin::Value& entry, DeviceRecord& record, WallTime now) {
  twin::Value body = twin::Value::object();
  if (const twin::Value* tags = find_any_case(entry, "tags"); tags != nullptr) body.append("tags", *tags);
  if (const twin::Value* properties = find_any_case(entry, "properties"); properties != nullptr) {
    if (const twin::Value* desired = properties->find("desired"); desired != nullptr) {
      body.append("properties", twin::Value::object({{"desired", *desired}}));
    }
  }
  if (auto patched = patch_twin(record, body, now); !patched) return patched.error();
  return {};
}

ServiceResult<void> bulk_apply(const twin::Value& entry, Shard& shard, WallTime now) {
  const std::string device_id = text_any_case(entry, "id");
  const std::string module_id = text_any_case(entry, "moduleId");
  const std::string mode = text_any_case(entry, "importMode");
  if (mode.empty() || equal_ignoring_case(mode, "create")) {
    return bulk_create(entry, device_id, module_id, shard, now);  // counts the write itself
  }

  DeviceRecord* record = shard.store().find(device_id, module_id);
  if (record == nullptr) return module_id.empty() ? device_not_found(device_id) : module_not_found(module_id);
  const bool update = equal_ignoring_case(mode, "update") || equal_ignoring_case(mode, "updateIfMatchETag");
  const bool remove = equal_ignoring_case(mode, "delete") || equal_ignoring_case(mode, "deleteIfMatchETag");
  const bool twin_only = equal_ignoring_case(mode, "updateTwin") || equal_ignoring_case(mode, "updateTwinIfMatchETag");
  if (!update && !remove && !twin_only)
    return twin::argument_invalid(fmt::format("importMode '{}' is not known", mode));

  constexpr std::string_view kIfMatch = "IfMatchETag";
  if (mode.size() > kIfMatch.size() &&
      equal_ignoring_case(std::string_view{mode}.substr(mode.size() - kIfMatch.size()), kIfMatch)) {
    const std::string etag = text_any_case(entry, twin_only ? "twinETag" : "etag");
    if (twin_only ? !twin::if_match_allows(record->twin, etag) : !identity_etag_matches(*record, etag)) {
      return identity_precondition_failed();
    }
  }
  if (update) {
    const auto request = parse_identity(entry, !module_id.empty());
    if (!request) return request.error();
    if (auto updated = update_identity(shard, *record, *request, now); !updated) return updated.error();
  } else if (remove) {
    unregister(shard, *record);
  } else if (auto updated = bulk_update_twin(entry, *record, now); !updated) {
    return updated.error();
  }
  shard.counts().add(&HubCounts::registry_writes);
  return {};
}

/// The JSON of an entry's error, or nothing.
std::string bulk_error(const twin::Value& entry, const ServiceError& error) {
  std::string out = R"({"deviceId":)";
  twin::write_string(text_any_case(entry, "id"), out);
  out += R"(,"moduleId":)";
  twin::write_string(text_any_case(entry, "moduleId"), out);
  out += R"(,"errorCode":)";
  twin::write_string(error.name, out);
  out += R"(,"errorStatus":)";
  twin::write_string(error.message, out);
  out += R"(,"operation":)";
  twin::write_string(text_any_case(entry, "importMode"), out);
  out += '}';
  return out;
}

ServiceResult<twin::Value> parse_bulk(std::string_view body) {
  auto entries = twin::parse_value(body);
  if (!entries) return twin::argument_invalid(entries.error().message);
  if (!entries->is_array() || entries->empty() || entries->size() > kBulkMax) {
    return twin::argument_invalid(fmt::format("a bulk request is a JSON array of 1 to {} entries", kBulkMax));
  }
  std::unordered_set<std::string> seen;
  for (const twin::Value& entry : entries->elements()) {
    std::string key = fmt::format("{}/{}", text_any_case(entry, "id"), text_any_case(entry, "moduleId"));
    if (!entry.is_object() || key.size() == 1) return twin::argument_invalid("a bulk entry has no 'id'");
    if (!seen.insert(key).second) {
      return ServiceError{400, 400'011, "DeviceDefinedMultipleTimes",
                          fmt::format("'{}' is in the request more than once", text_any_case(entry, "id"))};
    }
  }
  return std::move(*entries);
}

void bulk(const ServiceCall& call, Shard& origin, Done done) {
  auto parsed = parse_bulk(call.body);
  if (!parsed) {
    refuse(call, origin, parsed.error(), done);
    return;
  }
  const auto entries = std::make_shared<const twin::Value>(std::move(*parsed));
  const auto work = [entries](Shard& shard) {
    std::vector<std::string> errors;
    const WallTime now = shard.wall_now();
    for (const twin::Value& entry : entries->elements()) {
      if (&shard.shared().owner_of(text_any_case(entry, "id")) != &shard) continue;
      const auto applied = bulk_apply(entry, shard, now);
      if (applied) continue;
      shard.counts().add(&HubCounts::registry_refused);
      errors.push_back(bulk_error(entry, applied.error()));
    }
    return errors;
  };
  origin.gather<std::vector<std::string>>(work, [done = std::move(done)](std::vector<std::vector<std::string>> parts) {
    ServiceAnswer answer;
    std::string errors;
    for (const auto& part : parts) {
      for (const std::string& error : part) errors += (errors.empty() ? "" : ",") + error;
    }
    answer.status = errors.empty() ? 200 : 400;
    if (!errors.empty()) answer.error_name = "BulkRegistryOperationFailure";
    answer.body = fmt::format(R"({{"isSuccessful":{},"errors":[{}],"warnings":[]}})", errors.empty(), errors);
    done(std::move(answer));
  });
}

}  // namespace

void serve_hub(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done) {
  switch (call.route.operation) {
    case Op::list_devices:
      list_devices(call, origin, std::move(done));
      break;
    case Op::device_statistics:
    case Op::service_statistics:
      statistics(call, origin, std::move(done));
      break;
    case Op::bulk_devices:
      bulk(call, origin, std::move(done));
      break;
    case Op::query_devices:
      serve_query(std::move(call), origin, std::move(done));
      break;
    case Op::create_job:
    case Op::get_job:
    case Op::cancel_job:
    case Op::query_jobs:
      serve_job(std::move(call), origin, std::move(done));
      break;
    case Op::create_or_update_configuration:
    case Op::get_configuration:
    case Op::delete_configuration:
    case Op::list_configurations:
    case Op::test_configuration_queries:
      serve_configuration(std::move(call), origin, std::move(done));
      break;
    default:
      refuse(call, origin, not_implemented(call.route.operation), done);
  }
}

}  // namespace twinstorm::hub
