#include "sim/run/shard_group.hpp"

namespace twinstorm::run {

ShardGroup::ShardGroup(Config config, const Own& own, const Clock& clock)
    : config_{std::move(config)}, by_id_(config_.shards) {
  for (const auto& [id, recorder] : own) {
    const auto& site = *config_.sites[id % config_.sites.size()];
    Shard::Config shard{.id = id,
                        .shards = config_.shards,
                        .plan = config_.plan,
                        .targets = site.links.targets,
                        .hub = &site.hub,
                        .authority = &site.authority,
                        .keep_model = config_.keep_models,
                        .client_type = config_.client_type,
                        .run_tag = config_.run_tag};
    shards_.push_back(std::make_unique<Shard>(std::move(shard), *recorder, clock));
    by_id_[id] = shards_.back().get();
  }
}

ShardGroup::~ShardGroup() {
  if (!threads_.empty()) stop();
}

Result<void> ShardGroup::read_own_twins(const std::vector<DeviceIndex>& devices, const Visit& visit,
                                        const Progress& progress) {
  uint64_t done_before = 0;
  for (size_t i = 0; i < config_.sites.size(); ++i) {
    std::vector<DeviceIndex> here;
    for (const DeviceIndex device : devices) {
      if (device % config_.sites.size() == i) here.push_back(device);
    }
    if (here.empty()) continue;
    const auto read = read_twins(
        config_.sites[i]->hub, *config_.plan, here,
        [&](size_t at, int status, std::string_view body) { visit(here[at], status, body); },
        [&](uint64_t done, uint64_t) {
          if (progress) progress(done_before + done, devices.size());
        });
    if (!read) return read;
    done_before += here.size();
  }
  return {};
}

Result<void> ShardGroup::seed_models(const std::vector<DeviceIndex>& existing) {
  std::vector<DeviceIndex> own;
  for (const DeviceIndex device : existing) {
    if (mine(device)) own.push_back(device);
  }
  return read_own_twins(own,
                        [&](DeviceIndex device, int status, std::string_view body) {
                          if (status == 200) shard_of(device).oracle().seed(device / config_.shards, body);
                        },
                        {});
}

void ShardGroup::start() {
  for (const auto& shard : shards_) threads_.emplace_back([&each = *shard] { each.run(); });
}

void ShardGroup::begin_phase(metrics::PhaseIndex phase, MonoTime start) {
  for (const auto& shard : shards_) shard->begin_phase(phase, start);
}

void ShardGroup::finish_load(MonoTime at) {
  for (const auto& shard : shards_) shard->finish_load(at);
}

Findings ShardGroup::stop() {
  Findings all;
  for (const auto& shard : shards_) shard->stop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  for (const auto& shard : shards_) all.add(shard->findings());
  return all;
}

TwinComparison ShardGroup::compare_twins(const Progress& progress) {
  std::vector<DeviceIndex> devices;
  for (DeviceIndex device = 0; device < config_.plan->scenario.device_count(); ++device) {
    if (mine(device)) devices.push_back(device);
  }
  TwinComparison result;
  const auto read = read_own_twins(
      devices,
      [&](DeviceIndex device, int status, std::string_view body) {
        if (status != 200) {
          ++result.unread;
          return;
        }
        auto& shard = shard_of(device);
        const auto outcome = shard.oracle().compare(device / config_.shards, body);
        if (outcome.verdict == Oracle::Verdict::unchecked) {
          ++result.unchecked;
          return;
        }
        ++result.compared;
        if (outcome.verdict == Oracle::Verdict::matches) return;
        ++result.differing;
        if (result.examples.size() >= kExamplesMax) return;
        std::string id;
        shard.append_device_id(device / config_.shards, id);
        result.examples.push_back(id + ": " + outcome.difference);
      },
      progress);
  if (!read) result.problem = read.error().message;
  return result;
}

}  // namespace twinstorm::run
