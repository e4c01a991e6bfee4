#include "sim/scenario/arrivals.hpp"

#include <utility>

#include "sim/base/assert.hpp"

namespace twinstorm::scenario {

ArrivalSchedule::ArrivalSchedule(LoadShape shape, MonoTime start, ShardId shard, ShardId shards, uint64_t seed)
    : shape_{std::move(shape)}, start_{start}, next_{shard}, shards_{shards}, gaps_{seed} {
  TS_ASSERT(shard < shards);
}

std::optional<Arrival> ArrivalSchedule::next() {
  const auto arrival = at(next_);
  if (arrival) next_ += shards_;
  return arrival;
}

std::optional<Arrival> ArrivalSchedule::at(uint64_t n) {
  Nanos due{0};
  if (shape_.poisson()) {
    // Unit-exponential gaps in units of expected arrivals, pushed through the inverse of the count: a Poisson process
    // with the shape's rate. The gaps of other shards are drawn too, so that all see the same stream.
    TS_ASSERT(drawn_ <= n + 1);
    for (; drawn_ <= n; ++drawn_) position_ += gaps_.exponential();
    due = shape_.time_of(position_);
  } else {
    due = shape_.due_at(n);
  }
  if (due == Nanos::max()) return std::nullopt;
  return Arrival{n, start_ + due};
}

}  // namespace twinstorm::scenario
