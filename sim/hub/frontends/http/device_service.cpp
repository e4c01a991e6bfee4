#include "sim/hub/frontends/http/device_service.hpp"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "sim/hub/frontends/http/configuration_api.hpp"

namespace twinstorm::hub {
namespace {

using Op = protocol::ServiceOperation;

constexpr size_t kModulesMax = 50;  // service.md 4.1

/// Calls about the identities of modules need their device: under a policy a missing or disabled one is 401, not 404
/// (service.md 4.1).
ServiceResult<void> check_device_of_modules(const ServiceCall& call, Shard& shard) {
  const DeviceRecord* device = shard.store().find(call.route.device_id, {});
  if (device == nullptr) {
    if (call.by_role) return device_not_found(call.route.device_id);
    return unauthorized(fmt::format("this hub does not contain the device '{}'", call.route.device_id));
  }
  if (device->twin.status == twin::DeviceStatus::enabled || call.by_role) return {};
  return unauthorized(fmt::format("the device '{}' is disabled", call.route.device_id));
}

ServiceResult<DeviceRecord*> find_identity(const ServiceCall& call, Shard& shard) {
  const bool of_module = !call.route.module_id.empty();
  if (of_module) {
    if (auto device = check_device_of_modules(call, shard); !device) return device.error();
  }
  DeviceRecord* record = shard.store().find(call.route.device_id, call.route.module_id);
  if (record != nullptr) return record;
  return of_module ? module_not_found(call.route.module_id) : device_not_found(call.route.device_id);
}

/// A missing module twin is a missing device, too (service.md 5.4).
ServiceResult<DeviceRecord*> find_twin(const ServiceCall& call, Shard& shard) {
  DeviceRecord* record = shard.store().find(call.route.device_id, call.route.module_id);
  if (record != nullptr) return record;
  return device_not_found(call.route.device_id);
}

void close_links(Shard& shard, DeviceRecord& record) {
  if (!record.is_module()) {
    for (DeviceRecord* module : shard.store().modules_of(record.twin.device_id)) {
      if (module->link != nullptr) module->link->close(DeviceLink::CloseReason::hub);
    }
  }
  if (record.link != nullptr) record.link->close(DeviceLink::CloseReason::hub);
}

constexpr std::array<std::string_view, 2> kEdgeModules{"$edgeAgent", "$edgeHub"};

/// An edge device has its system modules, any other device has not.
void match_edge_modules(Shard& shard, const DeviceRecord& device, WallTime now) {
  if (device.is_module()) return;
  for (const std::string_view id : kEdgeModules) {
    DeviceRecord* module = shard.store().find(device.twin.device_id, id);
    if (device.twin.iot_edge == (module != nullptr)) continue;
    if (module != nullptr) {
      unregister(shard, *module);
      continue;
    }
    IdentityRequest request;
    request.authentication_type = twin::AuthenticationType::none;
    shard.store().modules.insert(make_record(device.twin.device_id, id, request, now));
    if (shard.shared().policy != nullptr) shard.shared().policy->add_identities(1);
  }
}

/// The registry's own errors about modules have another body than the rest (service.md 14.1, form C).
bool has_flat_body(Op operation, const ServiceError& error) {
  const bool registry =
      operation == Op::create_or_update_module || operation == Op::get_module || operation == Op::delete_module;
  return registry && error.status != 400 && error.status != 401;
}

ServiceAnswer twin_answer(DeviceRecord& record) {
  ServiceAnswer answer;
  answer.body = record.service_twin();
  return answer;
}

ServiceAnswer identity_answer(const DeviceRecord& record, IdentityEcho echo) {
  ServiceAnswer answer;
  write_identity(record, echo, answer.body);
  if (!record.is_module()) answer.etag = fmt::format("\"{}\"", record.twin.device_etag);
  return answer;
}

ServiceResult<ServiceAnswer> get_twin(const ServiceCall& call, Shard& shard) {
  const auto record = find_twin(call, shard);
  if (!record) return record.error();
  shard.counts().add(&HubCounts::twin_reads);
  return twin_answer(**record);
}

ServiceResult<void> check_if_match(const ServiceCall& call, const DeviceRecord& record) {
  if (!call.if_match || twin::if_match_allows(record.twin, *call.if_match)) return {};
  return twin::etag_mismatch(record.twin.device_id);
}

/// A planted fault: answers as if the patch had been stored.
ServiceResult<ServiceAnswer> forget_patch(PlantedFaults& faults, const DeviceRecord& record, const twin::Value& body,
                                          Shard& shard) {
  twin::TwinDocument forgotten = record.twin;
  const WallTime now = shard.wall_now();
  const auto change = twin::apply_service_patch(forgotten, body, now);
  if (!change) return change.error();
  faults.record(Fault::forget_desired, record.key(), forgotten.desired.version, now);
  shard.counts().add(&HubCounts::desired_patches);
  ServiceAnswer answer;
  twin::write_service_twin(forgotten, answer.body);
  return answer;
}

ServiceResult<ServiceAnswer> patch_twin_call(const ServiceCall& call, Shard& shard) {
  const auto record = find_twin(call, shard);
  if (!record) return record.error();
  if (auto match = check_if_match(call, **record); !match) return match.error();
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  if (PlantedFaults* faults = shard.shared().faults.get(); faults != nullptr) [[unlikely]] {
    if (body->find_path("properties.desired") != nullptr && faults->strikes(Fault::forget_desired)) {
      return forget_patch(*faults, **record, *body, shard);
    }
  }
  const auto with_desired = patch_twin(**record, *body, shard.wall_now());
  if (!with_desired) return with_desired.error();
  shard.counts().add(*with_desired ? &HubCounts::desired_patches : &HubCounts::tags_patches);
  return twin_answer(**record);
}

ServiceResult<ServiceAnswer> replace_twin_call(const ServiceCall& call, Shard& shard) {
  const auto record = find_twin(call, shard);
  if (!record) return record.error();
  if (auto match = check_if_match(call, **record); !match) return match.error();
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  const auto change = twin::replace_twin((*record)->twin, *body, shard.wall_now());
  if (!change) return change.error();
  (*record)->touch();
  shard.counts().add(&HubCounts::twin_replaces);
  if (!change->notification.empty() && (*record)->link != nullptr) {
    (*record)->link->notify_desired((*record)->twin.desired.version, change->notification);
  }
  return twin_answer(**record);
}

ServiceResult<ServiceAnswer> put_identity(const ServiceCall& call, Shard& shard) {
  const std::string& device_id = call.route.device_id;
  const std::string& module_id = call.route.module_id;
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  const auto request = parse_identity(*body, !module_id.empty());
  if (!request) return request.error();
  for (const auto& [member, expected] : {std::pair{"deviceId", device_id}, std::pair{"moduleId", module_id}}) {
    const twin::Value* named = body->find(member);
    if (named == nullptr || named->is_null() || expected.empty()) continue;
    if (named->is_string() && named->text() == expected) continue;
    return twin::argument_invalid(fmt::format("the {} in the body is not that in the path, '{}'", member, expected));
  }
  if (!module_id.empty()) {
    if (auto device = check_device_of_modules(call, shard); !device) return device.error();
  }
  // An empty value asks for a creation, as no value does (service.md 3.2).
  const bool create = !call.if_match || call.if_match->empty() || *call.if_match == "\"\"";
  DeviceRecord* record = shard.store().find(device_id, module_id);
  const WallTime now = shard.wall_now();
  if (create) {
    const auto created = register_device(shard, device_id, module_id, *request, now);
    if (!created) return created.error();
    return identity_answer(**created, IdentityEcho::created);
  }
  if (record == nullptr) return module_id.empty() ? device_not_found(device_id) : module_not_found(module_id);
  if (!identity_etag_matches(*record, *call.if_match)) return identity_precondition_failed();
  if (auto updated = update_identity(shard, *record, *request, now); !updated) return updated.error();
  shard.counts().add(&HubCounts::registry_writes);
  return identity_answer(*record, IdentityEcho::stored);
}

ServiceResult<ServiceAnswer> get_identity(const ServiceCall& call, Shard& shard) {
  const auto record = find_identity(call, shard);
  if (!record) return record.error();
  shard.counts().add(&HubCounts::registry_reads);
  return identity_answer(**record, IdentityEcho::stored);
}

ServiceResult<ServiceAnswer> delete_identity(const ServiceCall& call, Shard& shard) {
  const auto record = find_identity(call, shard);
  if (!record) return record.error();
  if (!call.if_match || call.if_match->empty()) {
    return identity_precondition_failed("Etag missing, send If-Match with the ETag or *");
  }
  if (!identity_etag_matches(**record, *call.if_match)) return identity_precondition_failed();
  unregister(shard, **record);
  shard.counts().add(&HubCounts::registry_writes);
  ServiceAnswer answer;
  answer.status = 204;
  return answer;
}

ServiceResult<ServiceAnswer> list_modules(const ServiceCall& call, Shard& shard) {
  if (auto device = check_device_of_modules(call, shard); !device) return device.error();
  ServiceAnswer answer;
  answer.body = "[";
  for (const DeviceRecord* module : shard.store().modules_of(call.route.device_id)) {
    if (answer.body.size() > 1) answer.body += ',';
    write_identity(*module, IdentityEcho::stored, answer.body);
  }
  answer.body += ']';
  shard.counts().add(&HubCounts::registry_reads);
  return answer;
}

ServiceResult<ServiceAnswer> dispatch(const ServiceCall& call, Shard& shard) {
  switch (call.route.operation) {
    case Op::get_twin:
      return get_twin(call, shard);
    case Op::patch_twin:
      return patch_twin_call(call, shard);
    case Op::replace_twin:
      return replace_twin_call(call, shard);
    case Op::create_or_update_device:
    case Op::create_or_update_module:
      return put_identity(call, shard);
    case Op::get_device:
    case Op::get_module:
      return get_identity(call, shard);
    case Op::delete_device:
    case Op::delete_module:
      return delete_identity(call, shard);
    case Op::list_modules:
      return list_modules(call, shard);
    case Op::apply_configuration:
      return apply_configuration_content(call, shard);
    default:
      return not_implemented(call.route.operation);
  }
}

}  // namespace

ServiceError not_implemented(Op operation) {
  return {501, 501'000, "NotImplemented",
          fmt::format("this hub does not implement the operation {}", to_string(operation))};
}

void count_refusal(LiveCounts& counts, Op operation, int status) {
  if (status == 401) counts.add(&HubCounts::unauthorized);
  if (status == 412) counts.add(&HubCounts::precondition_failed);
  switch (operation) {
    case Op::get_twin:
      counts.add(&HubCounts::twin_reads_refused);
      break;
    case Op::patch_twin:
      counts.add(&HubCounts::twin_patches_refused);
      break;
    case Op::replace_twin:
      counts.add(&HubCounts::twin_replaces_refused);
      break;
    case Op::query_devices:
      counts.add(&HubCounts::queries_refused);
      break;
    case Op::create_job:
      counts.add(&HubCounts::jobs_refused);
      break;
    case Op::create_or_update_device:
    case Op::get_device:
    case Op::delete_device:
    case Op::list_devices:
    case Op::bulk_devices:
    case Op::device_statistics:
    case Op::service_statistics:
    case Op::create_or_update_module:
    case Op::get_module:
    case Op::delete_module:
    case Op::list_modules:
      counts.add(&HubCounts::registry_refused);
      break;
    case Op::create_or_update_configuration:
    case Op::get_configuration:
    case Op::delete_configuration:
    case Op::list_configurations:
    case Op::test_configuration_queries:
    case Op::apply_configuration:
      counts.add(&HubCounts::configurations_refused);
      break;
    default:
      break;
  }
}

ServiceAnswer error_answer(const ServiceError& error, Shard& shard) {
  ServiceAnswer answer;
  answer.status = error.status;
  answer.error_name = error.name;
  write_error_body(error, shard.make_hex_id(), shard.wall_now(), answer.body);
  return answer;
}

bool concerns_one_device(Op operation) {
  switch (operation) {
    case Op::get_twin:
    case Op::patch_twin:
    case Op::replace_twin:
    case Op::create_or_update_device:
    case Op::get_device:
    case Op::delete_device:
    case Op::create_or_update_module:
    case Op::get_module:
    case Op::delete_module:
    case Op::list_modules:
    case Op::apply_configuration:
      return true;
    default:
      return false;
  }
}

ServiceAnswer serve_device(const ServiceCall& call, Shard& shard) {
  auto answer = dispatch(call, shard);
  if (answer) return std::move(*answer);
  const ServiceError& error = answer.error();
  count_refusal(shard.counts(), call.route.operation, error.status);
  ServiceAnswer refusal = error_answer(error, shard);
  if (has_flat_body(call.route.operation, error)) {
    refusal.body.clear();
    twin::write_device_error(error, shard.make_hex_id(), shard.wall_now(), refusal.body);
  }
  return refusal;
}

ServiceResult<DeviceRecord*> register_device(Shard& shard, std::string_view device_id, std::string_view module_id,
                                             const IdentityRequest& request, WallTime now) {
  if (auto valid = check_device_id(device_id); !valid) return valid.error();
  if (!module_id.empty()) {
    if (auto valid = check_device_id(module_id); !valid) return valid.error();
    if (module_id.front() == '$') return twin::argument_invalid("module ids that begin with '$' are reserved");
    if (shard.store().find(device_id, {}) == nullptr) return device_not_found(device_id);
    if (shard.store().modules_of(device_id).size() >= kModulesMax) {
      return ServiceError{413, 413'003, "TooManyModulesOnDevice",
                          fmt::format("'{}' has {} modules already", device_id, kModulesMax)};
    }
  }
  if (shard.store().find(device_id, module_id) != nullptr) {
    return module_id.empty() ? device_already_exists(device_id) : module_already_exists(module_id);
  }
  if (shard.shared().policy != nullptr) {
    if (auto place = shard.shared().policy->take_identity(); !place) {
      shard.counts().add(&HubCounts::tier_refused);
      return place.error();
    }
  }
  RecordTable& table = module_id.empty() ? shard.store().devices : shard.store().modules;
  DeviceRecord& record = table.insert(make_record(device_id, module_id, request, now));
  if (module_id.empty()) shard.counts().add(&HubCounts::registered_devices);
  match_edge_modules(shard, record, now);
  shard.counts().add(&HubCounts::registry_writes);
  return &record;
}

ServiceResult<void> update_identity(Shard& shard, DeviceRecord& record, const IdentityRequest& request, WallTime now) {
  if (record.twin.iot_edge && request.iot_edge && request.device_scope != record.twin.device_scope) {
    return twin::argument_invalid("Device scope is immutable");
  }
  replace_identity(record, request, now);
  match_edge_modules(shard, record, now);
  if (record.twin.status == twin::DeviceStatus::disabled) close_links(shard, record);
  return {};
}

void unregister(Shard& shard, DeviceRecord& record) {
  close_links(shard, record);
  if (TierPolicy* policy = shard.shared().policy.get(); policy != nullptr) {
    const size_t modules = record.is_module() ? 0 : shard.store().modules_of(record.twin.device_id).size();
    policy->give_back_identities(1 + modules);
  }
  if (!record.is_module()) {
    for (DeviceRecord* module : shard.store().modules_of(record.twin.device_id)) shard.messaging().forget(*module);
    shard.counts().subtract(&HubCounts::registered_devices);
  }
  shard.messaging().forget(record);
  shard.store().erase(record);
}

ServiceResult<bool> patch_twin(DeviceRecord& record, const twin::Value& body, WallTime now) {
  const auto change = twin::apply_service_patch(record.twin, body, now);
  if (!change) return change.error();
  record.touch();
  if (!change->notification.empty() && record.link != nullptr) {
    record.link->notify_desired(record.twin.desired.version, change->notification);
  }
  return change->desired_written;
}

}  // namespace twinstorm::hub
