#include "sim/hub/slice_queue.hpp"

#include <utility>

namespace twinstorm::hub {
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
  if (!work(slice)) waiting_.push_back(std::move(work));
  if (!waiting_.empty()) post_turn();
}

}  // namespace twinstorm::hub
