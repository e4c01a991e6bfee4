// What one arrival costs the shard that serves it: next() of an even, a ramped and a Poisson load, and rendering its
// patch.
#include <string>

#include <benchmark/benchmark.h>

#include "sim/scenario/arrivals.hpp"
#include "sim/scenario/value_template.hpp"

namespace {

using namespace twinstorm;
using namespace twinstorm::scenario;

void drain(benchmark::State& state, const LoadShape& shape, ShardId shards) {
  ArrivalSchedule schedule{shape, MonoTime{}, 0, shards, 42};
  for (auto _ : state) benchmark::DoNotOptimize(schedule.next());
}

void arrival_constant(benchmark::State& state) {
  drain(state, LoadShape::constant(Rate{1000}, LoadShape::kForever), 1);
}
void arrival_ramp(benchmark::State& state) {
  drain(state, LoadShape::ramp(Rate{0}, Rate{5000}, std::chrono::hours{1000}, LoadShape::kForever), 1);
}
void arrival_sine(benchmark::State& state) {
  drain(state, LoadShape::sine(Rate{1000}, Rate{800}, std::chrono::seconds{60}, LoadShape::kForever), 1);
}
/// One shard of `range(0)`: the gaps of the others are drawn as well.
void arrival_poisson(benchmark::State& state) {
  drain(state, LoadShape::constant(Rate{1000}, LoadShape::kForever).set_poisson(true),
        static_cast<ShardId>(state.range(0)));
}
void render_patch(benchmark::State& state) {
  const auto patch = ValueTemplate::parse(
                         "{climate: {minTemperature: {uniform: [60, 70]}, maxTemperature: {uniform: [71, 80]}, "
                         "hvac: {systemControl: {fanOn: {oneOf: [true, false]}}}}}")
                         .value();
  Rng rng{1};
  std::string out;
  out.reserve(patch.max_rendered_bytes());
  uint64_t n = 0;
  for (auto _ : state) {
    out.clear();
    patch.render(rng, n++, out);
    benchmark::DoNotOptimize(out.data());
  }
}

BENCHMARK(arrival_constant);
BENCHMARK(arrival_ramp);
BENCHMARK(arrival_sine);
BENCHMARK(arrival_poisson)->Arg(1)->Arg(8);
BENCHMARK(render_patch);

}  // namespace
