// The identities and twins of one shard, found by key and walked in key order. Belongs to the shard's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sim/hub/jobs/device_job_rows.hpp"
#include "sim/hub/store/device_record.hpp"
#include "sim/hub/store/lagged_twins.hpp"
#include "sim/hub/store/ordered_records.hpp"

namespace twinstorm::hub {

/// Devices, or modules. Records do not move while they exist.
class RecordTable {
 public:
  DeviceRecord* find(std::string_view key) const {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : found->second.get();
  }
  /// Asserts that the key is new.
  DeviceRecord& insert(DeviceRecord record);
  void erase(std::string_view key);
  /// By (deviceId, moduleId): the order of pages.
  const OrderedRecords& ordered() const { return ordered_; }
  size_t size() const { return by_key_.size(); }

  /// From now on queries see writes with a delay, see LaggedTwins. Once, before the first record.
  void lag_queries(const Distribution& lag, const Clock& clock, uint64_t seed);
  /// What was inserted so far is seen at once.
  void settle();
  /// The twin as queries see it now; nullptr when they see none. Valid until the table or one of its records changes.
  const twin::TwinDocument* find_queried(std::string_view key) const;
  /// Visits the twins that queries see now, in ascending order of key, behind `after` (empty = from the beginning),
  /// until `visit(twin)` returns false. `visit` must not change the table.
  template <class Visit>
  void visit_queried(std::string_view after, Visit&& visit) const {
    if (lagged_ != nullptr) {
      lagged_->visit_after(after, std::forward<Visit>(visit));
      return;
    }
    ordered_.visit_from(after.empty() ? ordered_.begin() : ordered_.upper_bound(after),
                        [&visit](const DeviceRecord& record) { return visit(record.twin); });
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::unique_ptr<DeviceRecord>, Hash, std::equal_to<>> by_key_;
  OrderedRecords ordered_;               // views into the keys of by_key_
  std::unique_ptr<LaggedTwins> lagged_;  // nullptr: queries see the records themselves
};

struct DeviceStore {
  RecordTable devices;              ///< key: deviceId
  RecordTable modules;              ///< key: deviceId/moduleId
  jobs::DeviceJobRows device_jobs;  ///< rows of `devices.jobs`; query them with jobs::DeviceJobScan

  /// Queries of this shard's twins see them with a delay. Once, before the first record.
  void lag_queries(const Distribution& lag, const Clock& clock, uint64_t seed);

  DeviceRecord* find(std::string_view device_id, std::string_view module_id) const;
  /// The modules of one device, in key order.
  std::vector<DeviceRecord*> modules_of(std::string_view device_id) const;
  /// A device takes its modules along. The caller has closed their links.
  void erase(DeviceRecord& record);
};

}  // namespace twinstorm::hub
