#include "sim/hub/store/device_store.hpp"

#include "sim/base/assert.hpp"

namespace twinstorm::hub {

DeviceRecord& RecordTable::insert(DeviceRecord record) {
  std::string key = record.key();
  const auto [place, added] = by_key_.emplace(std::move(key), std::make_unique<DeviceRecord>(std::move(record)));
  TS_ASSERT(added);
  DeviceRecord& stored = *place->second;
  ordered_.insert(place->first, stored);
  stored.lagged_ = lagged_.get();
  if (lagged_ != nullptr) lagged_->changed(place->first, stored.twin);
  return stored;
}

void RecordTable::erase(std::string_view key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return;
  if (lagged_ != nullptr) lagged_->removed(key);
  ordered_.erase(found->first);
  by_key_.erase(found);
}

void RecordTable::lag_queries(const Distribution& lag, const Clock& clock, uint64_t seed) {
  TS_ASSERT(lagged_ == nullptr && by_key_.empty());
  lagged_ = std::make_unique<LaggedTwins>(lag, clock, seed);
}

void RecordTable::settle() {
  if (lagged_ != nullptr) lagged_->settle();
}

const twin::TwinDocument* RecordTable::find_queried(std::string_view key) const {
  if (lagged_ != nullptr) return lagged_->find(key);
  const DeviceRecord* record = find(key);
  return record == nullptr ? nullptr : &record->twin;
}

void DeviceStore::lag_queries(const Distribution& lag, const Clock& clock, uint64_t seed) {
  devices.lag_queries(lag, clock, seed);
  modules.lag_queries(lag, clock, ~seed);
}

DeviceRecord* DeviceStore::find(std::string_view device_id, std::string_view module_id) const {
  if (module_id.empty()) return devices.find(device_id);
  std::string key;
  key.reserve(device_id.size() + 1 + module_id.size());
  key.append(device_id).append(1, '/').append(module_id);
  return modules.find(key);
}

std::vector<DeviceRecord*> DeviceStore::modules_of(std::string_view device_id) const {
  std::vector<DeviceRecord*> found;
  const std::string prefix = std::string{device_id} + '/';
  for (auto it = modules.ordered().lower_bound(prefix); it != modules.ordered().end() && it->first.starts_with(prefix);
       ++it) {
    found.push_back(it->second);
  }
  return found;
}

void DeviceStore::erase(DeviceRecord& record) {
  if (record.is_module()) {
    modules.erase(record.key());
    return;
  }
  for (DeviceRecord* module : modules_of(record.twin.device_id)) modules.erase(module->key());
  devices.erase(std::string{record.twin.device_id});
}

}  // namespace twinstorm::hub
