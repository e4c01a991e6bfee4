#include "sim/hub/policy/quota.hpp"

namespace twinstorm::hub {
namespace {

constexpr int64_t kSecondsPerDay = 86'400;
constexpr int kDayShift = 48;
constexpr uint64_t kMessagesMask = (uint64_t{1} << kDayShift) - 1;

uint64_t day_of(WallTime now) { return static_cast<uint64_t>(unix_seconds(now) / kSecondsPerDay) & 0xffff; }

/// The messages of a state, none when it is another day's.
uint64_t messages_of(uint64_t state, WallTime now) {
  return state >> kDayShift == day_of(now) ? state & kMessagesMask : 0;
}

}  // namespace

bool DailyQuota::open(WallTime now) {
  if (used(now) < limit_) return true;
  refused_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void DailyQuota::charge(uint64_t messages, WallTime now) {
  uint64_t state = state_.load(std::memory_order_relaxed);
  uint64_t next = 0;
  do {
    next = day_of(now) << kDayShift | (messages_of(state, now) + messages);
  } while (!state_.compare_exchange_weak(state, next, std::memory_order_relaxed));
}

uint64_t DailyQuota::used(WallTime now) const { return messages_of(state_.load(std::memory_order_relaxed), now); }

WallTime DailyQuota::next_reset(WallTime now) {
  return WallTime{std::chrono::seconds{(unix_seconds(now) / kSecondsPerDay + 1) * kSecondsPerDay}};
}

}  // namespace twinstorm::hub
