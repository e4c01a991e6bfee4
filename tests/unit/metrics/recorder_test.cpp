#include <fstream>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "metrics/aggregator.hpp"
#include "metrics/shard_recorder.hpp"

namespace twinstorm::metrics {
namespace {

using namespace std::chrono_literals;

RecorderLayout small_layout() {
  return {{{"therm.connect", OpKind::connect, "therm", "mqtt"},
           {"rollout", OpKind::patch_desired, "rollout", "http"},
           {"hotfix", OpKind::patch_desired, "hotfix", "http"}},
          {{"warmup", false}, {"steady", true}, {"storm", true}}};
}
constexpr StreamIndex kConnect = 0, kRollout = 1, kHotfix = 2;
constexpr PhaseIndex kWarmup = 0, kSteady = 1, kStorm = 2;
constexpr MonoTime kStart{};

TEST(Names, AreTheOnesOfTheScenarioLanguage) {
  EXPECT_EQ(to_string(OpKind::backend_get_twin), "backendGetTwin");
  for (size_t i = 0; i < kOpKindCount; ++i) {
    const auto kind = static_cast<OpKind>(i);
    EXPECT_EQ(parse_op_kind(to_string(kind)), kind);
  }
  EXPECT_EQ(parse_op_kind("reportedUpdate"), OpKind::report);
  EXPECT_EQ(parse_op_kind("patch_desired"), std::nullopt);
  for (size_t i = 0; i < kErrorClassCount; ++i) {
    const auto error = static_cast<ErrorClass>(i);
    EXPECT_EQ(parse_error_class(to_string(error)), error);
  }
  EXPECT_EQ(to_string(ErrorClass::precondition_failed), "preconditionFailed");
  EXPECT_EQ(to_string(ErrorClass::aborted), "aborted");
  EXPECT_EQ(to_string(OpOutcome::timed_out), "timedOut");
  EXPECT_EQ(to_string(ReconnectReason::take_over), "takeOver");
  EXPECT_EQ(to_string(ConvergenceOutcome::unconverged), "unconverged");
}

TEST(ShardRecorder, AddsUpToALedger) {
  ShardRecorder shard(small_layout());
  for (int i = 0; i < 7; ++i) shard.asked(kRollout, kSteady);
  for (int i = 0; i < 5; ++i) shard.sent(kRollout, kSteady);
  shard.acknowledged(kRollout, kSteady, 5ms, 4ms);
  shard.acknowledged(kRollout, kSteady, 7ms, 6ms);
  shard.turn(1'700'000'010);
  shard.failed(kRollout, kSteady, ErrorClass::throttled, 9ms);
  shard.timed_out(kRollout, kSteady, 30s);
  shard.dropped(kRollout, kSteady, ErrorClass::backlog_full);

  const Aggregator aggregator(small_layout(), {&shard}, kStart);
  const auto op = aggregator.totals().stream(kRollout);
  EXPECT_EQ(op.asked, 7u);
  EXPECT_EQ(op.sent, 5u);
  EXPECT_EQ(op.in_flight(), 1u);
  EXPECT_EQ(op.not_started(), 1u);
  EXPECT_TRUE(op.ledger_holds());
  EXPECT_EQ(op.intended.count(), 2u);
  EXPECT_EQ(op.intended.max(), 7ms);
  EXPECT_EQ(op.service.max(), 6ms);
  EXPECT_EQ(op.unsuccessful_max, 30s);
  EXPECT_TRUE(aggregator.totals().ledger_holds());
}

TEST(ShardRecorder, KeepsTheFirstAndLastSecondOfEachErrorClass) {
  ShardRecorder a(small_layout()), b(small_layout());
  a.turn(1'700'000'010);
  a.failed(kRollout, kSteady, ErrorClass::throttled, 1ms);
  a.turn(1'700'000'020);
  a.failed(kRollout, kStorm, ErrorClass::throttled, 1ms);
  b.turn(1'700'000'005);
  b.failed(kRollout, kSteady, ErrorClass::throttled, 1ms);
  const auto op = Aggregator(small_layout(), {&a, &b}, kStart).totals().stream(kRollout);
  const auto& throttled = op.errors[static_cast<size_t>(ErrorClass::throttled)];
  EXPECT_EQ(throttled.count, 3u);
  EXPECT_EQ(throttled.first_seconds, 1'700'000'005);
  EXPECT_EQ(throttled.last_seconds, 1'700'000'020);
}

TEST(OpTotals, NoticesALedgerThatDoesNotAddUp) {
  ShardRecorder shard(small_layout());
  shard.asked(kRollout, kSteady);
  shard.sent(kRollout, kSteady);
  shard.acknowledged(kRollout, kSteady, 5ms, 4ms);
  const Aggregator aggregator(small_layout(), {&shard}, kStart);
  EXPECT_TRUE(aggregator.totals().ledger_holds());
  shard.failed(kRollout, kSteady, ErrorClass::server_error, 5ms);  // ends twice
  EXPECT_FALSE(aggregator.totals().ledger_holds());
}

TEST(Totals, LeaveWarmUpOutUnlessAskedForIt) {
  ShardRecorder shard(small_layout());
  for (const auto phase : {kWarmup, kSteady, kStorm}) {
    shard.asked(kHotfix, phase);
    shard.sent(kHotfix, phase);
    shard.acknowledged(kHotfix, phase, (phase + 1) * 10ms, 1ms);
  }
  auto totals = Aggregator(small_layout(), {&shard}, kStart).totals();
  totals.phases[kWarmup].duration = 5s;
  totals.phases[kSteady].duration = 60s;
  totals.phases[kStorm].duration = 30s;
  EXPECT_EQ(totals.stream(kHotfix).acknowledged, 2u);
  EXPECT_EQ(totals.stream(kHotfix).intended.min(), 20ms);
  EXPECT_EQ(totals.stream(kHotfix, kWarmup).acknowledged, 1u);
  EXPECT_EQ(totals.everything().acknowledged, 3u);
  EXPECT_EQ(totals.kind(OpKind::patch_desired).acknowledged, 2u);
  EXPECT_EQ(totals.kind(OpKind::connect).acknowledged, 0u);
  EXPECT_EQ(totals.duration(), 90s);
  EXPECT_EQ(totals.duration(kWarmup), 5s);
}

TEST(ShardRecorder, EndsEachUpdateInExactlyOneOutcome) {
  ShardRecorder shard(small_layout());
  for (int i = 0; i < 6; ++i) shard.convergence_started(kSteady);
  shard.convergence_ended(kSteady, ConvergenceOutcome::applied, {100ms, 10ms, 12ms, 60ms, 8ms});
  shard.convergence_ended(kSteady, ConvergenceOutcome::superseded, {2s, {}, {}, {}, {}});
  shard.convergence_ended(kSteady, ConvergenceOutcome::lost);
  shard.convergence_ended(kSteady, ConvergenceOutcome::unconverged);
  shard.convergence_ended(kSteady, ConvergenceOutcome::failed);
  shard.duplicate(kSteady);
  shard.reordered(kSteady);
  const auto c = Aggregator(small_layout(), {&shard}, kStart).totals().convergence();
  EXPECT_EQ(c.started, 6u);
  EXPECT_EQ(c.ended(), 5u);
  EXPECT_EQ(c.open(), 1u);
  EXPECT_TRUE(c.ledger_holds());
  EXPECT_EQ(c.duplicate, 1u);
  EXPECT_EQ(c.reordered, 1u);
  // Whoever waited longest must be in the distribution people look at, also if a read and not a notification told it.
  EXPECT_EQ(c.total.count(), 2u);
  EXPECT_EQ(c.total.max(), 2s);
  EXPECT_EQ(c.system.count(), 1u);
  EXPECT_EQ(c.system.max(), 40ms);
  EXPECT_EQ(c.delivery.max(), 12ms);
  EXPECT_EQ(c.apply.max(), 60ms);
  EXPECT_EQ(c.acknowledge.max(), 8ms);
  EXPECT_EQ(c.patch.max(), 10ms);
}

TEST(Aggregator, TakesWhatHappenedSinceTheLastLookOverAllShards) {
  ShardRecorder a(small_layout()), b(small_layout());
  Aggregator aggregator(small_layout(), {&a, &b}, kStart);
  const auto patch = [](ShardRecorder& shard, Nanos latency) {
    shard.asked(kRollout, kSteady);
    shard.sent(kRollout, kSteady);
    shard.acknowledged(kRollout, kSteady, latency, latency / 2);
  };
  patch(a, 10ms);
  patch(b, 20ms);
  a.convergence_started(kSteady);
  b.convergence_started(kSteady);
  b.convergence_started(kSteady);
  a.set_devices({1, 2, 3, 4});
  b.set_devices({0, 0, 7, 0});
  a.busy(500ms);
  a.bytes_in(100);
  b.bytes_out(50);
  a.reconnected(ReconnectReason::scripted);
  a.schedule_lag(kSteady, 1ms);
  b.failed(kConnect, kSteady, ErrorClass::refused, 1ms);

  const auto first = aggregator.take(kStart + 1s);
  EXPECT_EQ(first.at_seconds, 1.0);
  EXPECT_EQ(first.seconds, 1.0);
  ASSERT_EQ(first.streams.size(), 3u);
  EXPECT_EQ(first.streams[kRollout].name, "rollout");
  EXPECT_EQ(first.streams[kRollout].acknowledged, 2u);
  EXPECT_EQ(first.streams[kRollout].rate_per_second, 2.0);
  EXPECT_EQ(first.streams[kRollout].intended.max, 20ms);
  EXPECT_EQ(first.streams[kRollout].service.max, 10ms);
  EXPECT_EQ(first.convergence.started, 3u);
  EXPECT_EQ(first.convergence.backlog, 3u);
  EXPECT_EQ(first.devices, (DeviceCounts{1, 2, 10, 4}));
  EXPECT_EQ(first.reconnects, 1u);
  EXPECT_EQ(first.errors[static_cast<size_t>(ErrorClass::refused)], 1u);
  EXPECT_EQ(first.schedule_lag.count, 1u);
  EXPECT_EQ(first.busy_shares, (std::vector<double>{0.5, 0.0}));
  EXPECT_EQ(first.bytes_in, 100u);
  EXPECT_EQ(first.bytes_out, 50u);

  patch(a, 2ms);
  a.convergence_ended(kSteady, ConvergenceOutcome::applied, {5ms, {}, {}, {}, {}});
  const auto second = aggregator.take(kStart + 3s);
  EXPECT_EQ(second.seconds, 2.0);
  EXPECT_EQ(second.streams[kRollout].acknowledged, 1u);
  EXPECT_EQ(second.streams[kRollout].rate_per_second, 0.5);
  EXPECT_EQ(second.streams[kRollout].intended.count, 1u);
  EXPECT_NEAR(to_seconds(second.streams[kRollout].intended.max), 0.002, 2e-6);
  EXPECT_EQ(second.convergence.applied, 1u);
  EXPECT_EQ(second.convergence.backlog, 2u);
  EXPECT_EQ(second.convergence.total.count, 1u);
  EXPECT_EQ(second.reconnects, 0u);
  EXPECT_EQ(second.busy_shares, (std::vector<double>{0.0, 0.0}));
  EXPECT_EQ(second.bytes_in, 0u);

  const auto third = aggregator.take(kStart + 4s);
  EXPECT_EQ(third.streams[kRollout].acknowledged, 0u);
  EXPECT_EQ(third.streams[kRollout].intended, IntervalLatency{});
  EXPECT_EQ(aggregator.totals().convergence().backlog_max, 3u);
  EXPECT_EQ(aggregator.totals().convergence(kSteady).backlog_max, 3u);
  EXPECT_EQ(aggregator.totals().convergence(kStorm).backlog_max, 0u);
}

TEST(Aggregator, IntervalsAddUpToTheTotals) {
  std::mt19937_64 random(11);
  ShardRecorder a(small_layout()), b(small_layout());
  Aggregator aggregator(small_layout(), {&a, &b}, kStart);
  std::vector<uint64_t> sums(3);
  for (int second = 1; second <= 30; ++second) {
    for (uint64_t i = random() % 50; i > 0; --i) {
      auto& shard = random() % 2 == 0 ? a : b;
      const auto stream = static_cast<StreamIndex>(random() % 3);
      const auto phase = static_cast<PhaseIndex>(random() % 3);
      const Nanos latency{static_cast<int64_t>(random() % 1'000'000'000)};
      shard.asked(stream, phase);
      shard.sent(stream, phase);
      shard.acknowledged(stream, phase, latency, latency);
    }
    const auto interval = aggregator.take(kStart + std::chrono::seconds{second});
    for (size_t s = 0; s < sums.size(); ++s) {
      EXPECT_EQ(interval.streams[s].intended.count, interval.streams[s].acknowledged);
      sums[s] += interval.streams[s].acknowledged;
    }
  }
  const auto totals = aggregator.totals();
  uint64_t all = 0;
  for (const auto n : sums) all += n;
  EXPECT_EQ(totals.everything().acknowledged, all);
  EXPECT_EQ(totals.everything().intended.count(), all);
}

TEST(Aggregator, MayReadWhileShardsWrite) {
  constexpr int kOperations = 30'000;
  ShardRecorder a(small_layout()), b(small_layout());
  Aggregator aggregator(small_layout(), {&a, &b}, kStart);
  const auto work = [](ShardRecorder& shard) {
    for (int i = 0; i < kOperations; ++i) {
      shard.turn(i);
      shard.asked(kRollout, kSteady);
      shard.sent(kRollout, kSteady);
      shard.convergence_started(kSteady);
      shard.acknowledged(kRollout, kSteady, Nanos{i * 1000}, Nanos{i * 500});
      shard.convergence_ended(kSteady, ConvergenceOutcome::applied, {Nanos{i * 1000}, {}, {}, {}, {}});
      shard.set_devices({0, 0, static_cast<uint32_t>(i), 0});
    }
  };
  std::thread first(work, std::ref(a)), second(work, std::ref(b));
  uint64_t seen = 0;
  for (int64_t i = 1; i <= 20; ++i) {
    const auto interval = aggregator.take(kStart + std::chrono::seconds{i});
    seen += interval.streams[kRollout].acknowledged;
    EXPECT_LE(interval.convergence.backlog, 2u);
  }
  first.join();
  second.join();
  seen += aggregator.take(kStart + 21s).streams[kRollout].acknowledged;
  EXPECT_EQ(seen, 2u * kOperations);
  EXPECT_TRUE(aggregator.totals().ledger_holds());
}

#ifndef TWINSTORM_SANITIZED
TEST(ShardRecorder, KeepsNoPagesResidentForHistogramsNobodyUsed) {
  const auto resident_bytes = [] {
    uint64_t size = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> size >> resident;
    return resident * 4096;
  };
  RecorderLayout layout;
  for (int i = 0; i < 20; ++i) layout.streams.push_back({"s" + std::to_string(i), OpKind::report, "", ""});
  for (int i = 0; i < 10; ++i) layout.phases.push_back({"p" + std::to_string(i), true});
  const auto before = resident_bytes();
  ShardRecorder shard(layout);  // 470 histograms, 86 MB of address space
  for (int i = 0; i < 1000; ++i) shard.acknowledged(3, 4, 5ms, 4ms);
  const auto totals = Aggregator(layout, {&shard}, kStart).totals();
  EXPECT_EQ(totals.stream(3).acknowledged, 1000u);
  EXPECT_LT(resident_bytes() - before, 4u << 20);
}
#endif

}  // namespace
}  // namespace twinstorm::metrics
