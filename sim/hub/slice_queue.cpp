#include "sim/hub/slice_queue.hpp"

#include <algorithm>
#include <utility>

namespace twinstorm::hub {
namespace {

/// Pieces of work that take turns. What waits behind them has not begun and holds nothing yet: without this, a thousand
/// queries at once would each have a part of its page in memory.
constexpr size_t kTurnsMax = 16;

}  // namespace

void SliceQueue::start(Work work) {
  if (waiting_.empty()) {
    Slice slice{clock_};
    if (work(slice)) return;
  }
  waiting_.push_back(std::move(work));
  post_turn();
}

void SliceQueue::post_turn() {
  if (std::exchange(posted_, true)) return;
  post_([this] { turn(); });
}

void SliceQueue::turn() {
  posted_ = false;
  // Taken out: the work may start further work.
  Work work = std::move(waiting_.front());
  waiting_.pop_front();
  Slice slice{clock_};
  if (!work(slice)) {
    const size_t behind = std::min(waiting_.size(), kTurnsMax - 1);
    waiting_.insert(waiting_.begin() + static_cast<std::ptrdiff_t>(behind), std::move(work));
  }
  if (!waiting_.empty()) post_turn();
}

}  // namespace twinstorm::hub
