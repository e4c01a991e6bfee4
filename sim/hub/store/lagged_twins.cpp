#include "sim/hub/store/lagged_twins.hpp"

#include <algorithm>
#include <utility>

namespace twinstorm::hub {
namespace {

using twin::TwinDocument;

/// Nothing but `lastActivityTime` differs. Properties and tags need no look: their writes move `version`.
bool same_but_activity(const TwinDocument& a, const TwinDocument& b) {
  return a.version == b.version && a.etag == b.etag && a.device_etag == b.device_etag &&
         a.connection_state == b.connection_state && a.model_id == b.model_id &&
         a.cloud_to_device_message_count == b.cloud_to_device_message_count && a.configurations == b.configurations &&
         a.desired.version == b.desired.version && a.reported.version == b.reported.version;
}

}  // namespace

const TwinDocument* LaggedTwins::History::latest() const {
  const std::optional<TwinDocument>& last = waiting.empty() ? visible : waiting.back().twin;
  return last ? &*last : nullptr;
}

void LaggedTwins::changed(std::string_view key, const TwinDocument& twin) {
  catch_up();
  auto place = twins_.find(key);
  if (place == twins_.end()) place = twins_.emplace(key, History{}).first;
  History& history = place->second;
  const TwinDocument* latest = history.latest();
  if (latest != nullptr && same_but_activity(*latest, twin)) {
    // A registration goes on writing into the twin that it has made: the same version still.
    if (!history.waiting.empty()) {
      history.waiting.back().twin = twin;
    } else {
      history.visible->last_activity_time = twin.last_activity_time;
    }
    return;
  }
  write(place, twin);
}

void LaggedTwins::removed(std::string_view key) {
  catch_up();
  const auto place = twins_.find(key);
  if (place != twins_.end()) write(place, std::nullopt);
}

void LaggedTwins::write(Twins::iterator twin, std::optional<TwinDocument> version) {
  History& history = twin->second;
  MonoTime due = clock_.mono() + lag_.sample(rng_);
  if (history.waiting.empty()) {
    due_.push({due, twin});
  } else {
    due = std::max(due, history.waiting.back().due);
    if (history.waiting.size() >= kVersionsMax || waiting_ >= kVersionsOfAllMax) {
      history.waiting.back() = {due, std::move(version)};
      return;
    }
  }
  history.waiting.push_back({due, std::move(version)});
  ++waiting_;
}

void LaggedTwins::catch_up() { catch_up_until(clock_.mono()); }
void LaggedTwins::settle() { catch_up_until(MonoTime::max()); }

void LaggedTwins::catch_up_until(MonoTime now) {
  while (!due_.empty() && due_.top().at <= now) {
    const Twins::iterator twin = due_.top().twin;
    due_.pop();
    History& history = twin->second;
    while (!history.waiting.empty() && history.waiting.front().due <= now) {
      history.visible = std::move(history.waiting.front().twin);
      history.waiting.pop_front();
      --waiting_;
    }
    if (!history.waiting.empty()) {
      due_.push({history.waiting.front().due, twin});
    } else if (!history.visible) {
      twins_.erase(twin);
    }
  }
}

const TwinDocument* LaggedTwins::find(std::string_view key) {
  catch_up();
  const auto found = twins_.find(key);
  return found == twins_.end() || !found->second.visible ? nullptr : &*found->second.visible;
}

}  // namespace twinstorm::hub
