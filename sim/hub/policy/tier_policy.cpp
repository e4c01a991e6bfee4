#include "sim/hub/policy/tier_policy.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace twinstorm::hub {
namespace {

nlohmann::ordered_json delay_json(const DelayHistogram::Summary& delay) {
  const auto seconds = [&](Nanos value) {
    return delay.count == 0 ? nlohmann::ordered_json{} : nlohmann::ordered_json(to_seconds(value));
  };
  return {{"p50", seconds(delay.p50)},
          {"p99", seconds(delay.p99)},
          {"max", seconds(delay.max)},
          {"sum", to_seconds(delay.sum)}};
}

nlohmann::ordered_json class_json(const ThrottleFigures& figures) {
  return {{"class", to_string(figures.operation)},
          {"limitPerSecond", figures.per_second},
          {"burst", figures.burst},
          {"backlog", figures.backlog},
          {"admitted", figures.admitted},
          {"admittedCost", figures.admitted_cost},
          {"shaped", figures.shaped},
          {"refused", figures.refused},
          {"refusedCost", figures.refused_cost},
          {"abandoned", figures.abandoned},
          {"delay", delay_json(figures.delay)}};
}

ServiceError not_in_tier(OperationClass operation, Tier tier) {
  return {403, 403'010, "OperationNotAvailableInCurrentTier",
          fmt::format("{} are not available in tier {}, the standard tiers and F1 have them", to_string(operation),
                      to_string(tier))};
}

}  // namespace

std::optional<OperationPolicy> policy_of(protocol::ServiceOperation operation) {
  using Op = protocol::ServiceOperation;
  switch (operation) {
    case Op::get_device:
    case Op::list_devices:
    case Op::get_module:
    case Op::list_modules:
    case Op::device_statistics:
    case Op::service_statistics:
      return OperationPolicy{OperationClass::identity_registry, "RegistryRead", false};
    case Op::create_or_update_device:
    case Op::delete_device:
    case Op::create_or_update_module:
    case Op::delete_module:
    case Op::bulk_devices:
      return OperationPolicy{OperationClass::identity_registry, "RegistryWrite", false};
    case Op::query_devices:
      return OperationPolicy{OperationClass::queries, "Query", true};
    case Op::get_twin:
    case Op::get_digital_twin:
      return OperationPolicy{OperationClass::twin_reads, "TwinRead", true};
    case Op::patch_twin:
    case Op::replace_twin:
    case Op::patch_digital_twin:
      return OperationPolicy{OperationClass::twin_updates, "TwinWrite", true};
    case Op::invoke_method:
    case Op::invoke_digital_twin_command:
      return OperationPolicy{OperationClass::direct_methods, "DirectMethod", true};
    case Op::get_job:
    case Op::query_jobs:
      return OperationPolicy{OperationClass::jobs, "JobRead", false};
    case Op::create_job:
    case Op::cancel_job:
      return OperationPolicy{OperationClass::jobs, "JobWrite", false};
    case Op::get_configuration:
    case Op::list_configurations:
      return OperationPolicy{OperationClass::configurations, "ConfigurationRead", false};
    case Op::create_or_update_configuration:
    case Op::delete_configuration:
    case Op::test_configuration_queries:
      return OperationPolicy{OperationClass::configurations, "ConfigurationWrite", false};
    case Op::apply_configuration:
      return OperationPolicy{OperationClass::configurations, "ConfigurationWrite", true};
    case Op::purge_commands:
    case Op::receive_feedback:
    case Op::complete_feedback:
    case Op::abandon_feedback:
    case Op::create_import_export_job:
    case Op::list_import_export_jobs:
    case Op::get_import_export_job:
    case Op::cancel_import_export_job:
      break;
  }
  return std::nullopt;
}

ServiceError throttled(std::string_view type) {
  return {429, 429'003, std::string{kThrottledName},
          fmt::format("The request has been throttled. Wait 10 seconds and try again. Operation type: {}", type)};
}

ServiceError device_throttled(std::string_view type) {
  ServiceError error = throttled(type);
  error.error_code = 429'001;
  error.name = "ThrottlingException";
  return error;
}

std::string to_json(const TierFigures* figures) {
  nlohmann::ordered_json json{
      {"tier", nullptr}, {"units", 0}, {"classes", nlohmann::ordered_json::array()}, {"quota", nullptr}};
  if (figures != nullptr) {
    json["tier"] = to_string(figures->tier);
    json["units"] = figures->units;
    for (const ThrottleFigures& each : figures->classes) json["classes"].push_back(class_json(each));
    json["quota"] = {{"limit", figures->quota_limit},
                     {"used", figures->quota_used},
                     {"refused", figures->quota_refused},
                     {"messageBytes", figures->message_bytes},
                     {"resetsAt", format_iso8601(figures->quota_resets)}};
  }
  return json.dump();
}

ServiceResult<void> TierPolicy::check(OperationClass operation, bool metered, std::string_view host_name,
                                      WallTime now) {
  if (!limits_.has(operation)) return not_in_tier(operation, limits_.tier);
  if (!metered || quota_.open(now)) return {};
  return ServiceError{403, 403'002, "IotHubQuotaExceeded",
                      fmt::format("Total number of messages on IotHub '{}' exceeded the allocated quota. Max allowed "
                                  "message count : '{}', current message count : '{}'.",
                                  host_name, quota_.limit(), quota_.used(now))};
}

TierPolicy::Verdict TierPolicy::decide(const OperationPolicy& operation, uint32_t cost, std::string_view host_name,
                                       MonoTime now, WallTime wall) {
  if (auto allowed = check(operation.operation, operation.metered, host_name, wall); !allowed) {
    return {.delay = {}, .refusal = allowed.error()};
  }
  const Throttle::Admission admission = throttle_.admit(operation.operation, cost, now);
  if (admission.refused) return {.delay = {}, .refusal = throttled(operation.type)};
  return {.delay = admission.delay, .refusal = std::nullopt};
}

ServiceResult<void> TierPolicy::take_identity() {
  if (identities_.fetch_add(1, std::memory_order_relaxed) < limits_.identities_max) return {};
  give_back_identities(1);
  return ServiceError{413, 413'002, "TooManyDevices",
                      fmt::format("this hub has {} devices and modules, tier {} allows no more", limits_.identities_max,
                                  to_string(limits_.tier))};
}

TierFigures TierPolicy::figures(WallTime now) const {
  TierFigures figures;
  figures.tier = limits_.tier;
  figures.units = limits_.units;
  for (size_t i = 0; i < kOperationClasses; ++i) {
    figures.classes.push_back(throttle_.figures(static_cast<OperationClass>(i)));
  }
  figures.quota_limit = quota_.limit();
  figures.quota_used = quota_.used(now);
  figures.quota_refused = quota_.refused();
  figures.message_bytes = limits_.message_bytes;
  figures.quota_resets = DailyQuota::next_reset(now);
  return figures;
}

}  // namespace twinstorm::hub
