#include "sim/hub/query_lane.hpp"

namespace twinstorm::hub {

void QueryLane::enter(Wanted wanted, std::function<void()> begin, std::function<void()> drop) {
  if (under_way_ < most_() && waiting_.empty()) {
    ++under_way_;
    begin();
    return;
  }
  waiting_.push_back({std::move(wanted), std::move(begin), std::move(drop)});
}

void QueryLane::leave() {
  --under_way_;
  post_turn();
}

void QueryLane::post_turn() {
  if (waiting_.empty() || under_way_ >= most_() || std::exchange(posted_, true)) return;
  post_([this] { turn(); });
}

void QueryLane::turn() {
  posted_ = false;
  while (!waiting_.empty() && under_way_ < most_()) {
    // Taken out: what is called may let further queries in.
    const Entry next = std::move(waiting_.front());
    waiting_.pop_front();
    if (next.wanted && !next.wanted()) {
      next.drop();
      continue;
    }
    ++under_way_;
    next.begin();
    break;
  }
  post_turn();
}

}  // namespace twinstorm::hub
