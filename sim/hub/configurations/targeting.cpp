#include "sim/hub/configurations/targeting.hpp"

#include <utility>

namespace twinstorm::hub {
namespace {

using twin::Value;

constexpr std::string_view kTargeted = "Targeted";
constexpr std::string_view kApplied = "Applied";
constexpr size_t kKinds = 3;

void set_status(twin::TwinDocument& twin, std::string_view id, std::string_view status) {
  if (!twin.configurations.is_object()) twin.configurations = Value::object();
  if (Value* entry = twin.configurations.find(id); entry != nullptr && entry->is_object()) {
    entry->set("status", Value::string(status));
  } else {
    twin.configurations.set(id, Value::object({{"status", Value::string(status)}}));
  }
}

bool erase_entry(twin::TwinDocument& twin, std::string_view id) {
  if (!twin.configurations.erase(id)) return false;
  if (twin.configurations.empty()) twin.configurations = Value{};
  return true;
}

bool holds(const Target& target, const twin::TwinDocument& twin, const twin::TwinDocument* seen) {
  const bool of_modules = target.content->kind == ConfigurationKind::module;
  if (of_modules == twin.module_id.empty()) return false;
  if (target.content->kind == ConfigurationKind::edge && !twin.iot_edge) return false;
  return target.condition && seen != nullptr && target.condition->matches(*seen);
}

}  // namespace

Marking mark_targets(twin::TwinDocument& twin, const twin::TwinDocument* seen, const TargetSet& set,
                     std::span<TargetCounts> counts) {
  Marking marking;
  if (twin.configurations.is_object()) {
    for (const Retired& retired : set.retired) marking.changed |= erase_entry(twin, retired.id);
  }
  std::array<bool, kKinds> taken{};
  for (size_t i = 0; i < set.targets.size(); ++i) {
    const Target& target = set.targets[i];
    const std::string_view status = configuration_status(twin, target.id);
    if (!holds(target, twin, seen)) {
      if (!status.empty()) marking.changed |= erase_entry(twin, target.id);
      continue;
    }
    ++counts[i].targeted;
    const bool takes = !std::exchange(taken[static_cast<size_t>(target.content->kind)], true);
    if (takes && status == kApplied) {
      ++counts[i].applied;
      continue;
    }
    if (takes) marking.apply.push_back(i);
    if (status == kTargeted) continue;
    set_status(twin, target.id, kTargeted);
    marking.changed = true;
  }
  return marking;
}

void mark_applied(twin::TwinDocument& twin, std::string_view id) { set_status(twin, id, kApplied); }

std::string_view configuration_status(const twin::TwinDocument& twin, std::string_view id) {
  const Value* entry = twin.configurations.find(id);
  const Value* status = entry == nullptr ? nullptr : entry->find("status");
  return status != nullptr && status->is_string() ? status->text() : std::string_view{};
}

}  // namespace twinstorm::hub
