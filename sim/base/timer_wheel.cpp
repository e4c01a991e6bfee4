#include "sim/base/timer_wheel.hpp"

#include <algorithm>

#include "sim/base/assert.hpp"

namespace twinstorm {

TimerWheel::TimerWheel(uint32_t timers, MonoTime origin) : origin_{origin}, nodes_(timers) { heads_.fill(kNone); }

uint64_t TimerWheel::floor_ticks(MonoTime t) const {
  return t <= origin_ ? 0 : static_cast<uint64_t>((t - origin_) / kTick);
}

void TimerWheel::arm(TimerId id, MonoTime at) {
  if (armed(id)) unlink(id);
  uint64_t tick = current_ + 1;
  if (at > origin_) {
    const auto ticks = static_cast<uint64_t>((at - origin_ - Nanos{1}) / kTick) + 1;  // rounded up; no overflow at max()
    tick = std::clamp<uint64_t>(ticks, current_ + 1, current_ + 0xfffffffeULL);
  }
  insert(id, tick);
  ++count_;
}

void TimerWheel::cancel(TimerId id) {
  if (!armed(id)) return;
  unlink(id);
}

void TimerWheel::insert(TimerId id, uint64_t tick) {
  const uint64_t distance = tick - current_;
  int level = 0;
  while (level < kLevels - 1 && distance >= (1ULL << (8 * (level + 1)))) ++level;
  const auto slot = static_cast<uint16_t>(level * kSlots + static_cast<int>((tick >> (8 * level)) & 0xff));
  auto& node = nodes_[id];
  node.ticks = static_cast<uint32_t>(tick);
  node.slot = slot;
  node.prev = kNone;
  node.next = heads_[slot];
  if (node.next != kNone) nodes_[node.next].prev = id;
  heads_[slot] = id;
}

void TimerWheel::unlink(TimerId id) {
  auto& node = nodes_[id];
  if (node.prev != kNone) {
    nodes_[node.prev].next = node.next;
  } else {
    heads_[node.slot] = node.next;
  }
  if (node.next != kNone) nodes_[node.next].prev = node.prev;
  node = Node{};
  --count_;
}

void TimerWheel::step() {
  ++current_;
  // Level n turns once every 256^n ticks; its new slot is spread over the finer levels.
  for (int level = 1; level < kLevels && (current_ & ((1ULL << (8 * level)) - 1)) == 0; ++level) {
    const auto slot = static_cast<uint32_t>(level * kSlots) + static_cast<uint32_t>((current_ >> (8 * level)) & 0xff);
    uint32_t id = heads_[slot];
    heads_[slot] = kNone;
    while (id != kNone) {
      const uint32_t next = nodes_[id].next;
      const uint32_t ahead = nodes_[id].ticks - static_cast<uint32_t>(current_);
      insert(id, current_ + ahead);
      id = next;
    }
  }
}

TimerWheel::TimerId TimerWheel::take_due() {
  const uint32_t id = heads_[current_ & 0xff];
  if (id == kNone) return kNone;
  TS_ASSERT(nodes_[id].ticks == static_cast<uint32_t>(current_));
  unlink(id);
  return id;
}

MonoTime TimerWheel::next_event() const {
  if (count_ == 0) return MonoTime::max();
  for (uint64_t ahead = 1; ahead <= kSlots; ++ahead) {
    const uint64_t tick = current_ + ahead;
    if (heads_[tick & 0xff] != kNone || (tick & 0xff) == 0) return origin_ + kTick * static_cast<int64_t>(tick);
  }
  return origin_ + kTick * static_cast<int64_t>(current_ + kSlots);
}

}  // namespace twinstorm
