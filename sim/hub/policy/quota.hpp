// The messages a hub may be charged for in a day (service.md 13.3). Any thread; sans-I/O.
#pragma once

#include <atomic>
#include <cstdint>

#include "sim/base/time.hpp"

namespace twinstorm::hub {

/// What a payload is charged: ceil(bytes / message_bytes), an empty one counts 1.
constexpr uint64_t charged_messages(uint64_t bytes, uint32_t message_bytes) {
  return bytes == 0 ? 1 : (bytes + message_bytes - 1) / message_bytes;
}

/// Counts up to a limit and starts again at 00:00 UTC. An operation is begun while the count is below the limit, and
/// charged whatever it comes to, because an answer's size is known only afterwards: the day's last one may go over.
class DailyQuota {
 public:
  explicit DailyQuota(uint64_t limit) : limit_{limit} {}

  /// False: the day's messages are used up; the refusal is counted.
  bool open(WallTime now);
  void charge(uint64_t messages, WallTime now);

  uint64_t limit() const { return limit_; }
  uint64_t used(WallTime now) const;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }  ///< operations, since the start
  static WallTime next_reset(WallTime now);

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> state_{0};  // day since 1970 in the upper 16 bits, messages of that day below
  std::atomic<uint64_t> refused_{0};
};

}  // namespace twinstorm::hub
