// Evaluates the configurations over the hub's twins and writes their contents, in the slices that all long work of a
// shard shares (slice_queue.hpp): 100,000 twins neither stall a shard nor delay its devices.
//
// Every shard has one of these and looks once at each of its twins, for all configurations together. Conditions and
// metrics see what queries see (`HubConfig::query_staleness`). The first shard's keeps the catalog and decides when:
// soon after a change, and every `HubConfig::configuration_interval`. Changes during an evaluation wait for the next.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/configurations/configuration_catalog.hpp"
#include "sim/hub/configurations/targeting.hpp"

namespace twinstorm::hub {

class Shard;
struct DeviceRecord;

class ConfigurationRollout {
 public:
  explicit ConfigurationRollout(Shard& shard);

  /// Of the whole hub; only the first shard's is used.
  ConfigurationCatalog& catalog() { return catalog_; }
  /// First shard: the catalog was changed, an evaluation follows within `kSoon`.
  void changed();
  /// First shard, once a tick.
  void tick(MonoTime now);

  static constexpr Nanos kSoon = std::chrono::milliseconds{250};

 private:
  struct Pass;
  struct MetricTask {
    std::string id;
    std::string name;
    std::string text;
  };

  void start(MonoTime now);
  /// On every shard: marks and applies; `done` runs on this thread.
  void walk(std::shared_ptr<const TargetSet> set, std::function<void(std::vector<TargetCounts>)> done);
  void walked(const TargetSet& set, const std::vector<TargetCounts>& counts);
  void count_next_metric();

  Shard& shard_;

  // First shard only.
  ConfigurationCatalog catalog_;
  MonoTime due_ = MonoTime::max();
  bool running_ = false;
  std::deque<MetricTask> metrics_;  // whose figures are still to be found in this evaluation
};

/// Writes a content into one twin: desired patch with notification for devices and modules; a deployment writes the
/// twins of the edge device's modules, creating those that are missing. The caller counts.
ServiceResult<void> apply_content(Shard& shard, DeviceRecord& record, const ConfigurationContent& content,
                                  const std::shared_ptr<const twin::PropertyAuthor>& author, WallTime now);

}  // namespace twinstorm::hub
