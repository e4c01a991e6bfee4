// What recording costs. The hot path does one of these per message; a clock read beside it is the yardstick.
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "metrics/aggregator.hpp"
#include "metrics/hdr_log.hpp"
#include "metrics/shard_recorder.hpp"

namespace twinstorm::metrics {
namespace {

constexpr size_t kValues = size_t{1} << 14;

/// Latencies around 3 ms with a tail, in nanoseconds.
const std::vector<Nanos>& latencies() {
  static const auto values = [] {
    std::mt19937_64 random(42);
    std::lognormal_distribution<double> spread(15.0, 0.8);
    std::vector<Nanos> out(kValues);
    for (auto& value : out) value = Nanos{static_cast<int64_t>(spread(random))};
    return out;
  }();
  return values;
}

RecorderLayout layout_of(size_t streams, size_t phases) {
  RecorderLayout layout;
  for (size_t i = 0; i < streams; ++i) layout.streams.push_back({"stream" + std::to_string(i), OpKind::report, "", ""});
  for (size_t i = 0; i < phases; ++i) layout.phases.push_back({"phase" + std::to_string(i), true});
  return layout;
}

void ClockRead(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(std::chrono::steady_clock::now());
}
BENCHMARK(ClockRead);

void HistogramRecord(benchmark::State& state) {
  LatencyHistogram histogram;
  const auto& values = latencies();
  size_t i = 0;
  for (auto _ : state) histogram.record(values[i++ % kValues]);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(HistogramRecord);

void RecorderOneOperation(benchmark::State& state) {
  ShardRecorder shard(layout_of(8, 6));
  const auto& values = latencies();
  size_t i = 0;
  for (auto _ : state) {
    const auto latency = values[i++ % kValues];
    shard.asked(3, 2);
    shard.sent(3, 2);
    shard.acknowledged(3, 2, latency, latency);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(RecorderOneOperation);

void RecorderOneConvergence(benchmark::State& state) {
  ShardRecorder shard(layout_of(8, 6));
  const auto& values = latencies();
  size_t i = 0;
  for (auto _ : state) {
    const auto latency = values[i++ % kValues];
    shard.convergence_started(2);
    shard.convergence_ended(2, ConvergenceOutcome::applied,
                            {latency, latency / 4, latency / 3, latency / 2, latency / 8});
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(RecorderOneConvergence);

/// One second's look at two shards of a usual run: 8 streams, 6 phases, all cells used.
void AggregatorTake(benchmark::State& state) {
  const auto layout = layout_of(8, 6);
  ShardRecorder a(layout), b(layout);
  for (auto* shard : {&a, &b}) {
    for (PhaseIndex p = 0; p < 6; ++p) {
      for (StreamIndex s = 0; s < 8; ++s) {
        for (const auto latency : latencies()) shard->acknowledged(s, p, latency, latency);
      }
    }
  }
  Aggregator aggregator(layout, {&a, &b}, MonoTime{});
  MonoTime now{};
  for (auto _ : state) {
    a.acknowledged(1, 5, std::chrono::milliseconds{3}, std::chrono::milliseconds{2});
    benchmark::DoNotOptimize(aggregator.take(now += std::chrono::seconds{1}));
  }
}
BENCHMARK(AggregatorTake)->Unit(benchmark::kMicrosecond);

void HdrEncode(benchmark::State& state) {
  HistogramSnapshot histogram;
  for (const auto latency : latencies()) histogram.record(latency);
  for (auto _ : state) benchmark::DoNotOptimize(encode_hdr_payload(histogram));
}
BENCHMARK(HdrEncode)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace twinstorm::metrics
