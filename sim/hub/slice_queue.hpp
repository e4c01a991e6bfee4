// Long work of a shard, done in slices of about a millisecond between which the shard serves its connections: scans of
// all twins, jobs, the application of configurations. All work of a shard shares one slice a turn of the loop, each
// piece of work having its slice in turn: ten scans at once delay a connection no longer than one, and a short piece of
// work waits for one slice of each of the others, not for their end. How much may begin is for those who start it to
// bound (query_lane.hpp; jobs by their number).
#pragma once

#include <cstddef>
#include <deque>
#include <functional>

#include "sim/base/time.hpp"

namespace twinstorm::hub {

/// When the slice under way has to end.
class Slice {
 public:
  static constexpr Nanos kTime = std::chrono::milliseconds{1};
  static constexpr size_t kStepsMax = 16 * 1024;  ///< bounds a slice where the clock stands still
  static constexpr size_t kStepsPerLook = 16;     ///< steps between two looks at the clock

  explicit Slice(const Clock& clock) : clock_{clock}, end_{clock.mono() + kTime} {}

  /// Call it before each step of at most some ten microseconds; a step that costs more weighs more. False: stop now and
  /// come back in a later slice. The first step of a slice is always allowed.
  bool step(size_t weight = 1) {
    if (over_) return false;
    const size_t before = steps_;
    steps_ += weight;
    if (before == 0) return true;
    if (before / kStepsPerLook != steps_ / kStepsPerLook) {
      over_ = steps_ > kStepsMax || clock_.mono() >= end_;
    }
    return !over_;
  }

 private:
  const Clock& clock_;
  MonoTime end_;
  size_t steps_ = 0;
  bool over_ = false;
};

/// Belongs to its shard's thread.
class SliceQueue {
 public:
  /// Does a part of the work; true when all of it is done. Called again and again until then.
  using Work = std::function<bool(Slice&)>;

  /// `post(f)` runs `f` on the same thread in a later turn.
  SliceQueue(const Clock& clock, std::function<void(std::function<void()>)> post)
      : clock_{clock}, post_{std::move(post)} {}

  /// The first slice is done at once when nothing else is waiting: small work ends before this returns.
  void start(Work work);
  /// Pieces of work that are not done.
  size_t size() const { return waiting_.size(); }

 private:
  void post_turn();
  void turn();

  const Clock& clock_;
  std::function<void(std::function<void()>)> post_;
  std::deque<Work> waiting_;
  bool posted_ = false;
};

}  // namespace twinstorm::hub
