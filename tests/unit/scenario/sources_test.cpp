// What a run does, and when, for every kind of source: the same list whatever the number of shards, another one for
// another seed. A slow reference walks the whole list and asks who owns each item.
#include "sim/scenario/sources.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::scenario {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Work = Sources::Work;

const MonoTime kStart{seconds{1000}};

Scenario resolved(const std::string& text, uint64_t seed = 42) {
  const auto loaded = load_scenario(text, "sources.yaml", {"seed=" + std::to_string(seed)});
  EXPECT_TRUE(loaded.ok()) << to_string(loaded.diagnostics);
  return resolve(*loaded.scenario);
}

std::string scenario_of(const std::string& phases) {
  return R"(
schema: twinstorm/scenario/1
fleets:
  - {name: meters, count: 37, reported: {level: {uniform: [0, 1000000]}}}
  - {name: pair, count: 2, reported: {a: 1}}
  - {name: cameras, count: 100, reported: {a: 1}}
backends:
  - {name: rollout, do: patchDesired, select: cameras, patch: {a: {uniform: [0, 1000000]}}}
  - {name: tiny, do: getTwin, select: pair}
  - {name: ops, do: query, sql: SELECT * FROM devices}
phases:
)" + phases;
}

/// Everything about a piece of work that must not depend on the shards.
using Item = std::tuple<MonoTime, Work::Kind, uint32_t, uint64_t, uint64_t, DeviceIndex>;
Item item_of(const Work& work) { return {work.due, work.kind, work.phase, work.stream, work.n, work.device}; }
bool about_a_device(const Scenario& s, const Work& work) {
  return work.kind != Work::Kind::stream || !s.is_backend_stream(work.stream) ||
         s.backends[s.backend_of_stream(work.stream)].works_on_devices();
}

/// One shard on its own through all phases, each of `lengths`; `now` goes in steps that fit nothing.
std::vector<Item> items_of(const Scenario& s, ShardId shard, ShardId shards, const std::vector<Nanos>& lengths) {
  std::vector<Item> items;
  Sources sources{s, shard, shards};
  MonoTime now = kStart, begin = kStart;
  const auto until = [&](MonoTime end) {
    for (; now < end; now += milliseconds{7}) {
      while (const auto work = sources.next(now)) {
        EXPECT_LE(work->due, now);
        if (about_a_device(s, *work)) {
          EXPECT_EQ(work->device % shards, shard);
        } else {
          EXPECT_EQ(work->n % shards, shard);
        }
        items.push_back(item_of(*work));
      }
      EXPECT_GT(sources.next_due(), now);
    }
  };
  for (uint32_t phase = 0; phase < s.phases.size(); ++phase) {
    sources.begin_phase(phase, begin);
    begin += lengths[std::min<size_t>(phase, lengths.size() - 1)];
    until(begin - milliseconds{10});  // a phase is announced ahead
  }
  sources.finish(begin);
  until(begin + seconds{1});
  EXPECT_EQ(sources.next_due(), MonoTime::max());
  return items;
}

std::vector<Item> union_of(const Scenario& s, ShardId shards, const std::vector<Nanos>& lengths) {
  std::vector<Item> all;
  for (ShardId shard = 0; shard < shards; ++shard) {
    const auto part = items_of(s, shard, shards, lengths);
    EXPECT_TRUE(std::is_sorted(part.begin(), part.end(),
                               [](const Item& a, const Item& b) { return std::get<0>(a) < std::get<0>(b); }));
    all.insert(all.end(), part.begin(), part.end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

struct Case {
  const char* name;
  const char* phase;
  bool random;  ///< another seed gives other moments, not only other devices
};

class OpenSources : public testing::TestWithParam<Case> {};

TEST_P(OpenSources, AreTheSameForAnyNumberOfShardsAndOthersForAnotherSeed) {
  const auto text = scenario_of(GetParam().phase);
  const auto s = resolved(text);
  const std::vector<Nanos> lengths(s.phases.size(), seconds{3});
  const auto whole = union_of(s, 1, lengths);
  ASSERT_GT(whole.size(), 20u);
  EXPECT_EQ(std::adjacent_find(whole.begin(), whole.end()), whole.end());
  for (const ShardId shards : {2, 3, 8, 150}) EXPECT_EQ(union_of(s, shards, lengths), whole) << shards;
  EXPECT_EQ(union_of(resolved(text), 1, lengths), whole);

  const auto other = union_of(resolved(text, 43), 1, lengths);
  const bool connects_only =
      s.phases.back().load.empty() && s.phases.back().events.empty() && !s.phases.back().disconnect;
  if (GetParam().random || !connects_only) {
    EXPECT_NE(other, whole);
  }
  const auto moments = [](const std::vector<Item>& items) {
    std::vector<MonoTime> out;
    for (const auto& item : items) out.push_back(std::get<0>(item));
    return out;
  };
  EXPECT_EQ(moments(other) != moments(whole), GetParam().random);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OpenSources,
    testing::Values(
        Case{"constant", "  - {name: p, duration: 3s, load: {rollout: 50/s, ops: 7/s, tiny: 11/s}}", false},
        Case{"perDevice", "  - {name: p, duration: 3s, load: {meters.report: 1/s/device}}", false},
        Case{"ramp", "  - {name: p, duration: 3s, load: {rollout: {shape: ramp, from: 0/s, to: 90/s}}}", false},
        Case{"steps",
             "  - {name: p, duration: 3s, load: {meters.getTwin: {shape: steps, steps: [{rate: 9/s, for: 1s}, {rate: "
             "0/s, for: 500ms}, {rate: 60/s}]}}}",
             false},
        Case{"spike",
             "  - {name: p, duration: 3s, load: {rollout: {shape: spike, base: 5/s, peak: 300/s, at: 1s, for: 300ms}}}",
             false},
        Case{"sine",
             "  - {name: p, duration: 3s, load: {meters.telemetry: {shape: sine, mean: 40/s, amplitude: 40/s, period: "
             "2s}}}",
             false},
        Case{"poisson",
             "  - {name: p, duration: 3s, load: {rollout: {rate: 60/s, poisson: true}, tiny: {rate: 9/s, poisson: "
             "true}, ops: {rate: 9/s, poisson: true}}}",
             true},
        Case{"connect", "  - {name: p, duration: 3s, connect: {rate: 50/s, fleets: [cameras, pair, meters]}}", false},
        Case{"connectStorm",
             "  - {name: p, duration: 3s, connect: {shape: spike, base: 2/s, peak: 500/s, at: 1s, for: 200ms, poisson: "
             "true}}",
             true},
        Case{"disconnect", "  - {name: p, duration: 3s, disconnect: {share: 40%, after: 1s, over: 1s}}", true},
        Case{"events",
             "  - {name: p, duration: 3s, events: [{do: report, share: 40%, over: 2s}, {do: telemetry, share: 30%, "
             "after: 1s, over: 500ms, fleets: [pair, cameras]}, {do: renewToken, share: 20%, over: 1s}, {do: getTwin, "
             "share: 100%}, {do: disconnect, share: 20%, over: 1s}]}",
             true},
        Case{"phases",
             "  - {name: p, duration: 3s, load: {rollout: 20/s}}\n  - {name: q, duration: 3s, load: {rollout: {rate: "
             "20/s, "
             "poisson: true}}, disconnect: {share: 10%, over: 3s}}",
             true}),
    [](const testing::TestParamInfo<Case>& each) { return each.param.name; });

TEST(Sources, TakeTheArrivalsOfTheShapeInOrderRoundTheFleet) {
  const auto s = resolved(scenario_of("  - {name: p, duration: 3s, load: {rollout: 50/s}}"));
  const auto& shape = s.phases.back().load.front().shape;
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  Sources sources{s, 0, 1};
  sources.begin_phase(phase, kStart);
  std::optional<DeviceIndex> before;
  for (uint64_t n = 0; n < shape.arrivals(); ++n) {
    const auto work = sources.next(kStart + seconds{3});
    ASSERT_TRUE(work);
    EXPECT_EQ(work->n, n);
    EXPECT_EQ(work->due, kStart + shape.due_at(n));
    EXPECT_TRUE(s.fleets[2].holds(work->device));
    EXPECT_EQ(work->device, !before ? work->device : *before + 1 == 139 ? 39 : *before + 1);
    before = work->device;
  }
  EXPECT_FALSE(sources.next(kStart + seconds{3}));
}

TEST(Sources, ListEveryLineOfATraceWhateverTheNumberOfShards) {
  auto s = resolved(scenario_of("  - {name: p, duration: 10s, load: {rollout: 1/s, ops: 1/s}}"));
  const auto trace = Trace::parse("0.25\n0.25\n1\n1.000001\n4.5\n", "trace.csv");
  ASSERT_TRUE(trace);
  for (auto& load : s.phases.back().load) load.shape = trace->shape(2, seconds{10});
  const std::vector<Nanos> lengths(s.phases.size(), seconds{10});
  const auto whole = union_of(s, 1, lengths);
  EXPECT_EQ(
      std::count_if(whole.begin(), whole.end(), [](const Item& i) { return std::get<1>(i) == Work::Kind::stream; }),
      20);
  for (const ShardId shards : {2, 8}) EXPECT_EQ(union_of(s, shards, lengths), whole);
}

TEST(Sources, WhatIsDueBeforeTheNextPhaseBeginsStillComesAndNothingLater) {
  const auto s =
      resolved(scenario_of("  - {name: connect, connect: 500/s}\n  - {name: p, until: {quiet: 1s}, load: {rollout: "
                           "10/s}}\n  - {name: q, duration: 1s}"));
  Sources sources{s, 0, 1};
  sources.begin_phase(1, kStart);
  sources.begin_phase(2, kStart + milliseconds{250});
  std::vector<Nanos> dues;
  while (const auto work = sources.next(kStart + seconds{9})) dues.push_back(work->due - kStart);
  EXPECT_THAT(dues, testing::ElementsAre(milliseconds{0}, milliseconds{100}, milliseconds{200}));
  EXPECT_EQ(sources.next_due(), MonoTime::max());
}

TEST(Sources, EventsHitAboutTheShareAskedAndEachDeviceOnce) {
  const auto s = resolved(R"(
schema: twinstorm/scenario/1
fleets: [{name: many, count: 10000, reported: {a: 1}}]
phases: [{name: p, duration: 9s, events: [{do: report, share: 30%, after: 1s, over: 4s}]}]
)");
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  Sources sources{s, 0, 1};
  sources.begin_phase(phase, kStart);
  std::vector<DeviceIndex> devices;
  while (const auto work = sources.next(kStart + seconds{9})) {
    EXPECT_GE(work->due, kStart + seconds{1});
    EXPECT_LT(work->due, kStart + seconds{5});
    EXPECT_EQ(work->stream, s.fleet_stream(0, metrics::OpKind::report));
    EXPECT_EQ(work->n, work->device);
    devices.push_back(work->device);
  }
  EXPECT_NEAR(static_cast<double>(devices.size()), 3000, 200);
  std::sort(devices.begin(), devices.end());
  EXPECT_EQ(std::adjacent_find(devices.begin(), devices.end()), devices.end());
}

// --- closed loads
// ---------------------------------------------------------------------------------------------------------

const char* const kClosedPhase =
    "  - {name: p, duration: 1m, load: {rollout: {concurrency: 24, think: {exponential: {mean: 50ms}}}}}";

struct ClosedRun {
  std::map<uint64_t, DeviceIndex> devices;  // by operation
  std::map<uint64_t, Nanos> rests;          // by operation: the think time that belongs to it
};

/// Answers operation k after a time that depends on k, and finds out each rest; `most` operations in all of the load.
ClosedRun run_closed(const Scenario& s, ShardId shards, uint64_t most) {
  ClosedRun out;
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  for (ShardId shard = 0; shard < shards; ++shard) {
    Sources sources{s, shard, shards};
    sources.begin_phase(phase, kStart);
    MonoTime now = kStart;
    std::vector<Work> open;
    uint64_t last_rest = 0;
    bool rested = false;
    // One after the other: take all that may start, then end the oldest and see when its slot is free again.
    while (true) {
      while (const auto work = sources.next(now)) open.push_back(*work);
      for (const auto& work : open) {
        EXPECT_TRUE(work.closed);
        if (work.n < most) out.devices.emplace(work.n, work.device);
      }
      if (open.empty() || (rested && last_rest >= most)) break;
      // The rest belongs to this shard's operations in order.
      const OwnShare share{s.fleets[2], mix64(s.seed ^ (uint64_t{phase} << 32 | open.front().stream)), shard, shards};
      last_rest = *share.from(rested ? last_rest + 1 : 0);
      rested = true;
      const auto stream = open.front().stream;
      open.erase(open.begin());
      EXPECT_EQ(sources.next_due(), MonoTime::max());
      sources.ended(stream, phase, now);
      const MonoTime free = sources.next_due();
      if (last_rest < most) out.rests.emplace(last_rest, free - now);
      now = free;
    }
  }
  return out;
}

TEST(ClosedSources, OperationsAndThinkTimesBelongToTheirNumberWhateverTheShards) {
  const auto text = scenario_of(kClosedPhase);
  const auto s = resolved(text);
  const auto whole = run_closed(s, 1, 500);
  ASSERT_EQ(whole.devices.size(), 500u);
  ASSERT_EQ(whole.rests.size(), 500u);
  for (const ShardId shards : {2, 8}) {
    const auto parts = run_closed(s, shards, 500);
    EXPECT_EQ(parts.devices, whole.devices) << shards;
    EXPECT_EQ(parts.rests, whole.rests) << shards;
  }
  const auto other = run_closed(resolved(text, 43), 1, 500);
  EXPECT_NE(other.devices, whole.devices);
  EXPECT_NE(other.rests, whole.rests);
  Nanos sum{0};
  for (const auto& [n, rest] : whole.rests) sum += rest;
  EXPECT_NEAR(to_seconds(sum) / 500, 0.050, 0.010);
}

TEST(ClosedSources, ASlotRestsFromTheEndOfItsOperation) {
  const auto s = resolved(scenario_of("  - {name: p, duration: 1m, load: {ops: {concurrency: 2, think: 300ms}}}"));
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  Sources sources{s, 0, 1};
  sources.begin_phase(phase, kStart);
  const auto first = sources.next(kStart);
  ASSERT_TRUE(first && sources.next(kStart));
  EXPECT_FALSE(sources.next(kStart + seconds{9}));
  sources.ended(first->stream, phase, kStart + seconds{1});
  EXPECT_FALSE(sources.next(kStart + milliseconds{1299}));
  const auto third = sources.next(kStart + seconds{2});
  ASSERT_TRUE(third);
  EXPECT_EQ(third->due, kStart + milliseconds{1300});
  EXPECT_EQ(third->n, 2u);
}

TEST(ClosedSources, WhatCouldNotBeStartedRestsAtLeastAsLongAsTold) {
  const auto s = resolved(scenario_of("  - {name: p, duration: 1m, load: {ops: {concurrency: 1}}}"));
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  Sources sources{s, 0, 1};
  sources.begin_phase(phase, kStart);
  const auto work = sources.next(kStart);
  ASSERT_TRUE(work);
  sources.ended(work->stream, phase, kStart, milliseconds{100});
  EXPECT_EQ(sources.next_due(), kStart + milliseconds{100});
}

TEST(ClosedSources, SlotsAreSharedOutAndEndsOfAnEarlierPhaseFreeNone) {
  const auto s =
      resolved(scenario_of("  - {name: p, duration: 1s, load: {ops: {concurrency: 11}}}\n  - {name: q, duration: 1s, "
                           "load: {ops: {concurrency: 5}}}"));
  for (const ShardId shards : {1, 2, 8}) {
    size_t first = 0, second = 0;
    for (ShardId shard = 0; shard < shards; ++shard) {
      Sources sources{s, shard, shards};
      uint32_t stream = 0;
      sources.begin_phase(0, kStart);
      while (const auto work = sources.next(kStart)) ++first, stream = work->stream;
      sources.begin_phase(1, kStart + seconds{1});
      sources.ended(stream, 0, kStart + seconds{1});
      while (sources.next(kStart + seconds{1})) ++second;
    }
    EXPECT_EQ(first, 11u) << shards;
    EXPECT_EQ(second, 5u) << shards;
  }
}

TEST(ClosedSources, AFleetSmallerThanTheShardsIsWorkedOnByThoseThatHaveADevice) {
  const auto s = resolved(scenario_of("  - {name: p, duration: 1s, load: {tiny: {concurrency: 16}}}"));
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  size_t started = 0;
  for (ShardId shard = 0; shard < 8; ++shard) {
    Sources sources{s, shard, 8};
    sources.begin_phase(phase, kStart);
    while (const auto work = sources.next(kStart)) {
      EXPECT_TRUE(s.fleets[1].holds(work->device));
      ++started;
    }
  }
  EXPECT_EQ(started, 4u);  // two slots of each of two shards
}

// --- shares
// ----------------------------------------------------------------------------------------------------------

TEST(OwnShare, FindsTheNextOwnNumberAsASlowSearchDoes) {
  Rng rng{7};
  for (int round = 0; round < 300; ++round) {
    Fleet fleet;
    fleet.first = static_cast<DeviceIndex>(rng.below(50));
    fleet.count = static_cast<uint32_t>(1 + rng.below(40));
    const auto shards = static_cast<ShardId>(1 + rng.below(12));
    const auto shard = static_cast<ShardId>(rng.below(shards));
    const OwnShare share{fleet, rng.next(), shard, shards};
    for (uint64_t n = 0; n < 3 * fleet.count; ++n) {
      std::optional<uint64_t> slow;
      for (uint64_t m = n; m < n + fleet.count && !slow; ++m) {
        EXPECT_TRUE(fleet.holds(share.device(m)));
        if (share.device(m) % shards == shard) slow = m;
      }
      ASSERT_EQ(share.from(n), slow) << fleet.first << " " << fleet.count << " " << shard << "/" << shards << " " << n;
    }
  }
}

// --- values
// ----------------------------------------------------------------------------------------------------------

TEST(Sources, AnArrivalsNumberIsAllThatItsGeneratedValuesNeed) {
  const auto s = resolved(scenario_of("  - {name: p, duration: 3s, load: {rollout: 100/s}}"));
  const auto phase = static_cast<uint32_t>(s.phases.size() - 1);
  const auto values = [&](ShardId shards, uint64_t seed) {
    std::map<uint64_t, std::string> out;
    for (ShardId shard = 0; shard < shards; ++shard) {
      Sources sources{s, shard, shards};
      sources.begin_phase(phase, kStart);
      while (const auto work = sources.next(kStart + seconds{3})) {
        Rng rng{seed, "rollout", (uint64_t{work->phase} << 48) + work->n};  // as a back end does
        out.emplace(work->n, s.backends[0].patch.render(rng, work->n));
      }
    }
    return out;
  };
  const auto whole = values(1, s.seed);
  EXPECT_EQ(whole.size(), 300u);
  EXPECT_EQ(values(2, s.seed), whole);
  EXPECT_EQ(values(8, s.seed), whole);
  EXPECT_NE(values(1, s.seed + 1), whole);
}

}  // namespace
}  // namespace twinstorm::scenario
