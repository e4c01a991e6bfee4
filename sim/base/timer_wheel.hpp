// Deadlines for many owners with one real timer behind them.
//
// A hierarchical timing wheel (Varghese and Lauck 1987): 4 levels of 256 slots, 1 ms ticks, so 49 days ahead. Timers are
// dense ids chosen by the owner (for example: device index), each with at most one deadline; links are indices in two
// arrays made at construction (16 bytes a timer), so arming and cancelling never allocate. O(1) to arm, cancel and fire.
// Not thread-safe: a wheel belongs to one shard.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "sim/base/time.hpp"

namespace twinstorm {

class TimerWheel {
 public:
  using TimerId = uint32_t;
  static constexpr Nanos kTick = std::chrono::milliseconds{1};

  /// Ids are 0 .. timers - 1. `origin` is tick 0.
  TimerWheel(uint32_t timers, MonoTime origin);

  /// Arms or re-arms. Fires in the first `advance(now)` with now >= at, rounded up to a whole tick after the last one
  /// advanced to (so a deadline in the past fires one tick later); deadlines beyond 49 days are clamped to 49 days.
  void arm(TimerId id, MonoTime at);
  void cancel(TimerId id);
  /// The tick at or after `t`: when a timer armed for `t` fires if nothing is late.
  MonoTime round_up(MonoTime t) const {
    return t <= origin_ ? origin_ : origin_ + (t - origin_ + kTick - Nanos{1}) / kTick * kTick;
  }
  bool armed(TimerId id) const { return nodes_[id].slot != kIdle; }

  /// Calls `fire(TimerId)` for every timer that is due, in order of ticks. `fire` may arm or cancel any timer, itself
  /// included.
  template <class Fire>
  void advance(MonoTime now, Fire&& fire) {
    const uint64_t target = floor_ticks(now);
    while (current_ < target) {
      if (count_ == 0) {
        current_ = target;
        return;
      }
      step();
      TimerId id;
      while ((id = take_due()) != kNone) fire(id);
    }
  }

  /// The earliest moment at which `advance` could have something to do; MonoTime::max() when nothing is armed. May be
  /// early (a cascade), never late.
  MonoTime next_event() const;
  uint32_t armed_count() const { return count_; }

 private:
  static constexpr uint32_t kNone = 0xffffffff;
  static constexpr uint16_t kIdle = 0xffff;
  static constexpr int kLevels = 4;
  static constexpr int kSlots = 256;

  struct Node {
    uint32_t prev = kNone, next = kNone;
    uint32_t ticks = 0;      // deadline, low 32 bits of the tick number
    uint16_t slot = kIdle;   // level * 256 + slot
  };

  uint64_t floor_ticks(MonoTime t) const;
  void insert(TimerId id, uint64_t tick);
  void unlink(TimerId id);
  void step();
  TimerId take_due();

  MonoTime origin_;
  uint64_t current_ = 0;
  uint32_t count_ = 0;
  std::vector<Node> nodes_;
  std::array<uint32_t, kLevels * kSlots> heads_;
};

}  // namespace twinstorm
