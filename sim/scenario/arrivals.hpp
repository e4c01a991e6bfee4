// The arrivals of one shard: every N-th of a load shape. The union over the shards does not depend on their number, for
// even and for Poisson loads alike: every shard draws the same stream of gaps and keeps its own share.
#pragma once

#include <cstdint>
#include <optional>

#include "sim/base/ids.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"
#include "sim/scenario/load_shape.hpp"

namespace twinstorm::scenario {

struct Arrival {
  uint64_t n = 0;     ///< number in the whole load, from 0, over all shards
  MonoTime intended;  ///< start of the phase + when it is due
};

/// Yields arrivals `shard`, `shard + shards`, ... in order of time until the shape ends. Belongs to one thread.
class ArrivalSchedule {
 public:
  /// `seed` matters for Poisson loads only and must be the same on every shard (see `arrival_seed`).
  ArrivalSchedule(LoadShape shape, MonoTime start, ShardId shard, ShardId shards, uint64_t seed);

  /// The next arrival, or nothing once the shape has ended. Costs tens of nanoseconds; for Poisson that times `shards`.
  std::optional<Arrival> next();
  /// Arrival `n` of the whole load, or nothing if the shape ends before it. Poisson: `n` must not go back, and each
  /// number that is passed over costs a draw.
  std::optional<Arrival> at(uint64_t n);

  const LoadShape& shape() const { return shape_; }

 private:
  LoadShape shape_;
  MonoTime start_;
  uint64_t next_;
  uint64_t shards_;
  uint64_t drawn_ = 0;        ///< Poisson: gaps drawn so far
  long double position_ = 0;  ///< Poisson: sum of those gaps
  Rng gaps_;
};

/// The seed of the arrivals of one stream in one phase.
constexpr uint64_t arrival_seed(uint64_t scenario_seed, uint64_t phase, uint64_t stream) {
  return Rng(scenario_seed, "arrivals", (phase << 32) | stream).state();
}

}  // namespace twinstorm::scenario
