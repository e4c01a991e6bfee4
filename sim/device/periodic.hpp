// When a device sends by itself: one tick a period, each moved by a random part of it. A pure function of the seed, the
// device and the number of the tick, so that neither connections, nor what else the device does, nor the number of
// shards change it; and the rate is exact over any time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sim/base/ids.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::device {

/// The ticks of one device. Offsets count from the beginning of the run.
class PeriodicTicks {
 public:
  /// `every` > 0. Intervals are every * (1 +- jitter), jitter in [0, 1].
  PeriodicTicks(uint64_t seed, DeviceIndex device, Nanos every, double jitter)
      : seed_{mix64(Rng(seed, "telemetry", device).state())}, every_{every}, jitter_{jitter} {
    first_ = from_seconds(to_seconds(every) * Rng{seed_}.uniform());
  }

  /// Tick `k`: at a random place of the first period, then one a period, each up to half of jitter * every early or
  /// late. They never change places.
  Nanos at(uint64_t k) const {
    Rng rng{seed_, "tick", k};
    const Nanos moved = from_seconds(to_seconds(every_) * jitter_ / 2 * rng.uniform(-1, 1));
    return std::max(first_ + static_cast<int64_t>(k) * every_ + moved, Nanos{0});
  }
  /// The first tick later than `t`.
  Nanos after(Nanos t) const {
    uint64_t k = t > first_ + every_ ? static_cast<uint64_t>((t - first_) / every_) - 1 : 0;
    while (at(k) <= t) ++k;
    return at(k);
  }
  /// The last tick not later than `t`; 0 when there is none.
  Nanos last(Nanos t) const {
    uint64_t k = t > first_ ? static_cast<uint64_t>((t - first_) / every_) + 1 : 0;
    while (k > 0 && at(k) > t) --k;
    return at(k) <= t ? at(k) : Nanos{0};
  }

 private:
  uint64_t seed_;
  Nanos every_;
  double jitter_;
  Nanos first_{0};
};

}  // namespace twinstorm::device
