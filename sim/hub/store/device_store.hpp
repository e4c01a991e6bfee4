// The identities and twins of one shard, found by key and walked in key order. Belongs to the shard's thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/hub/jobs/device_job_rows.hpp"
#include "sim/hub/store/device_record.hpp"

namespace twinstorm::hub {

/// Devices, or modules. Records do not move while they exist.
class RecordTable {
 public:
  using Ordered = std::map<std::string_view, DeviceRecord*>;

  DeviceRecord* find(std::string_view key) const {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : found->second.get();
  }
  /// Asserts that the key is new.
  DeviceRecord& insert(DeviceRecord record);
  void erase(std::string_view key);
  /// By key, byte-wise: the order of pages.
  const Ordered& ordered() const { return ordered_; }
  size_t size() const { return by_key_.size(); }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::unique_ptr<DeviceRecord>, Hash, std::equal_to<>> by_key_;
  Ordered ordered_;  // views into the keys of by_key_
};

struct DeviceStore {
  RecordTable devices;              ///< key: deviceId
  RecordTable modules;              ///< key: deviceId/moduleId
  jobs::DeviceJobRows device_jobs;  ///< rows of `devices.jobs`; query them with jobs::DeviceJobScan

  DeviceRecord* find(std::string_view device_id, std::string_view module_id) const;
  /// The modules of one device, in key order.
  std::vector<DeviceRecord*> modules_of(std::string_view device_id) const;
  /// A device takes its modules along. The caller has closed their links.
  void erase(DeviceRecord& record);
};

}  // namespace twinstorm::hub
