#include "sim/scenario/arrivals.hpp"

#include <utility>

#include "sim/base/assert.hpp"

namespace twinstorm::scenario {

ArrivalSchedule::ArrivalSchedule(LoadShape shape, MonoTime start, ShardId shard, ShardId shards, uint64_t seed)
    : shape_{std::move(shape)}, start_{start}, next_{shard}, shards_{shards}, gaps_{seed} {
  TS_ASSERT(shard < shards);
}

std::optional<Arrival> ArrivalSchedule::next() {
  Nanos due{0};
  if (shape_.poisson()) {
    // Unit-exponential gaps in units of expected arrivals, pushed through the inverse of the count: a Poisson process
    // with the shape's rate. The gaps of other shards are drawn too, so that all see the same stream.
    for (; drawn_ <= next_; ++drawn_) position_ += gaps_.exponential();
    due = shape_.time_of(position_);
  } else {
    due = shape_.due_at(next_);
  }
  if (due == Nanos::max()) return std::nullopt;
  const Arrival arrival{next_, start_ + due};
  next_ += shards_;
  return arrival;
}

}  // namespace twinstorm::scenario
