// A fixed pool of T addressed by index. Sized once from the plan; when it is full, `take` says so and the caller counts a
// dropped arrival: nothing is ever allocated late. Not thread-safe: a slab belongs to one shard.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/base/assert.hpp"

namespace twinstorm {

template <class T>
class Slab {
 public:
  static constexpr uint32_t kNone = 0xffffffff;

  explicit Slab(uint32_t capacity) : items_(capacity), next_(capacity) {
    for (uint32_t i = 0; i < capacity; ++i) next_[i] = i + 1 < capacity ? i + 1 : kNone;
    free_ = capacity > 0 ? 0 : kNone;
  }

  /// A value-initialised item, or kNone when all are taken. O(1).
  uint32_t take() {
    if (free_ == kNone) return kNone;
    const uint32_t index = free_;
    free_ = next_[index];
    next_[index] = kTaken;
    items_[index] = T{};
    ++used_;
    return index;
  }
  void release(uint32_t index) {
    TS_ASSERT(taken(index));
    next_[index] = free_;
    free_ = index;
    --used_;
  }
  bool taken(uint32_t index) const { return index < next_.size() && next_[index] == kTaken; }
  T& operator[](uint32_t index) { return items_[index]; }
  const T& operator[](uint32_t index) const { return items_[index]; }
  uint32_t used() const { return used_; }
  uint32_t capacity() const { return static_cast<uint32_t>(items_.size()); }

 private:
  static constexpr uint32_t kTaken = 0xfffffffe;
  std::vector<T> items_;
  std::vector<uint32_t> next_;  // free list; kTaken marks a taken item
  uint32_t free_ = kNone;
  uint32_t used_ = 0;
};

}  // namespace twinstorm
