#include "sim/hub/configurations/rollout.hpp"

#include <algorithm>
#include <utility>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/query_service.hpp"
#include "sim/hub/shard.hpp"
#include "sim/twin/merge.hpp"

namespace twinstorm::hub {
namespace {

constexpr size_t kPendingMax = 512;
constexpr size_t kApplyWeight = 4;        // a patch with notification costs some ten microseconds
constexpr size_t kConditionsPerStep = 8;  // of a step of marking

constexpr std::string_view kManagedByEdge = "iotEdge";

ServiceResult<void> write_desired(DeviceRecord& record, const twin::Value& body,
                                  const std::shared_ptr<const twin::PropertyAuthor>& author, WallTime now) {
  if (auto patched = patch_twin(record, body, now); !patched) return patched.error();
  if (author != nullptr) set_desired_author(record.twin, author);
  record.touch();
  return {};
}

ServiceResult<DeviceRecord*> module_of(Shard& shard, const DeviceRecord& device, const std::string& module_id,
                                       WallTime now) {
  DeviceRecord* module = shard.store().find(device.twin.device_id, module_id);
  if (module != nullptr) return module;
  IdentityRequest request;
  request.managed_by = kManagedByEdge;
  return register_device(shard, device.twin.device_id, module_id, request, now);
}

}  // namespace

ServiceResult<void> apply_content(Shard& shard, DeviceRecord& record, const ConfigurationContent& content,
                                  const std::shared_ptr<const twin::PropertyAuthor>& author, WallTime now) {
  if (content.kind != ConfigurationKind::edge) return write_desired(record, content.patch, author, now);
  for (const ModuleContent& each : content.modules) {
    const auto module = module_of(shard, record, each.module_id, now);
    if (!module) return module.error();
    twin::Value body = each.patch;
    if (each.replaces) {
      twin::Value& desired = *body.find("properties")->find("desired");
      desired = twin::replacement_patch((*module)->twin.desired.values, desired);
    }
    if (auto written = write_desired(**module, body, author, now); !written) return written;
  }
  return {};
}

/// One evaluation on one shard. Two steps take turns, so that a twin is seen as Targeted before it is Applied: marking
/// goes through the tables in key order and notes what is to be applied; applying works that off.
struct ConfigurationRollout::Pass {
  struct Pending {
    std::string device_id;
    std::string module_id;
    size_t target;
  };
  enum class Table : uint8_t { devices, modules, end };

  Shard& shard;
  std::shared_ptr<const TargetSet> set;
  std::vector<TargetCounts> counts;
  std::function<void(std::vector<TargetCounts>)> done;
  Table table = Table::devices;
  std::string last;  // the key marked last; no key is empty
  std::deque<Pending> pending;
  bool applying = false;

  /// True when everything is done.
  bool work(Slice& slice) {
    if (applying) {
      apply(slice);
      applying = !pending.empty();
    } else {
      mark(slice);
      applying = !pending.empty() && (table == Table::end || pending.size() >= kPendingMax);
    }
    if (table != Table::end || !pending.empty()) return false;
    done(std::move(counts));
    return true;
  }

  void next_table() {
    table = table == Table::devices ? Table::modules : Table::end;
    last.clear();
  }

  void mark(Slice& slice) {
    const size_t weight = 1 + set->targets.size() / kConditionsPerStep;
    if (table == Table::devices) {
      if (set->concerns_devices && !mark_table(shard.store().devices, slice, weight)) return;
      next_table();
    }
    if (table == Table::modules) {
      if (set->concerns_modules && !mark_table(shard.store().modules, slice, weight)) return;
      next_table();
    }
  }

  /// True at the end of the table.
  bool mark_table(const RecordTable& records, Slice& slice, size_t weight) {
    const auto& ordered = records.ordered();
    for (auto it = last.empty() ? ordered.begin() : ordered.upper_bound(last); it != ordered.end(); ++it) {
      if (pending.size() >= kPendingMax || !slice.step(weight)) return false;
      DeviceRecord& record = *it->second;
      last = it->first;
      const Marking marking = mark_targets(record.twin, records.find_queried(it->first), *set, counts);
      if (marking.changed) record.touch();
      for (const size_t target : marking.apply) {
        pending.push_back({record.twin.device_id, record.twin.module_id, target});
      }
    }
    return true;
  }

  void apply(Slice& slice) {
    while (!pending.empty() && slice.step(kApplyWeight)) {
      const Pending next = std::move(pending.front());
      pending.pop_front();
      DeviceRecord* record = shard.store().find(next.device_id, next.module_id);
      if (record == nullptr) continue;  // deleted meanwhile
      const Target& target = set->targets[next.target];
      if (auto applied = apply_content(shard, *record, *target.content, target.author, shard.wall_now()); !applied) {
        shard.counts().add(&HubCounts::configurations_not_applied);
        continue;
      }
      mark_applied(record->twin, target.id);
      record->touch();
      shard.counts().add(&HubCounts::configurations_applied);
      ++counts[next.target].applied;
    }
  }
};

ConfigurationRollout::ConfigurationRollout(Shard& shard) : shard_{shard} {}

void ConfigurationRollout::changed() { due_ = std::min(due_, shard_.mono_now() + kSoon); }

void ConfigurationRollout::tick(MonoTime now) {
  if (now >= due_ && !running_) start(now);
}

void ConfigurationRollout::start(MonoTime now) {
  const auto set = catalog_.targets();
  if (set->targets.empty() && set->retired.empty()) {
    due_ = MonoTime::max();
    return;
  }
  running_ = true;
  due_ = now + shard_.config().configuration_interval;
  struct State {
    std::vector<TargetCounts> sum;
    size_t missing;
  };
  const auto& shards = shard_.shared().shards;
  // Only this shard's thread touches the state; the others carry the pointer.
  const auto state = std::make_shared<State>(State{std::vector<TargetCounts>(set->targets.size()), shards.size()});
  for (const auto& each : shards) {
    Shard* other = each.get();
    other->post([this, other, set, state] {
      other->configurations().walk(set, [this, set, state](std::vector<TargetCounts> counts) {
        shard_.post([this, set, state, counts = std::move(counts)] {
          for (size_t i = 0; i < counts.size(); ++i) state->sum[i] += counts[i];
          if (--state->missing == 0) walked(*set, state->sum);
        });
      });
    });
  }
}

void ConfigurationRollout::walk(std::shared_ptr<const TargetSet> set,
                                std::function<void(std::vector<TargetCounts>)> done) {
  std::vector<TargetCounts> counts(set->targets.size());
  const auto pass = std::make_shared<Pass>(Pass{shard_, std::move(set), std::move(counts), std::move(done)});
  shard_.slices().start([pass](Slice& slice) { return pass->work(slice); });
}

void ConfigurationRollout::walked(const TargetSet& set, const std::vector<TargetCounts>& counts) {
  catalog_.evaluated(set, counts);
  for (const auto& [id, configuration] : catalog_.all()) {
    for (const ConfigurationMetric& metric : configuration.settings.metrics) {
      metrics_.push_back({id, metric.name, metric.text});
    }
  }
  count_next_metric();
}

void ConfigurationRollout::count_next_metric() {
  if (metrics_.empty()) {
    running_ = false;
    return;
  }
  MetricTask task = std::move(metrics_.front());
  metrics_.pop_front();
  auto query = query::Query::parse(task.text);
  if (!query) {  // was checked when the configuration was written
    count_next_metric();
    return;
  }
  count_rows(shard_, std::move(*query), [this, task = std::move(task)](uint64_t rows) {
    catalog_.set_metric(task.id, task.name, task.text, rows);
    shard_.post([this] { count_next_metric(); });
  });
}

}  // namespace twinstorm::hub
