#include "sim/hub/messaging/message_queue.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/hub/text.hpp"

namespace twinstorm::hub {
namespace {

ServiceError lock_lost(std::string_view token) {
  return {412, 412'002, "DeviceMessageLockLost",
          fmt::format("no message is locked under '{}', locks end after {} seconds", token,
                      std::chrono::duration_cast<std::chrono::seconds>(kCloudMessageLock).count())};
}

}  // namespace

std::optional<FeedbackWanted> parse_feedback_wanted(std::string_view text) {
  if (text.empty() || equal_ignoring_case(text, "none")) return FeedbackWanted::none;
  if (equal_ignoring_case(text, "positive")) return FeedbackWanted::positive;
  if (equal_ignoring_case(text, "negative")) return FeedbackWanted::negative;
  if (equal_ignoring_case(text, "full")) return FeedbackWanted::full;
  return std::nullopt;
}

const char* to_string(MessageOutcome outcome) {
  switch (outcome) {
    case MessageOutcome::success:
      return "Success";
    case MessageOutcome::rejected:
      return "Rejected";
    case MessageOutcome::expired:
      return "Expired";
    case MessageOutcome::delivery_count_exceeded:
      return "DeliveryCountExceeded";
    case MessageOutcome::purged:
      return "Purged";
  }
  return "unknown";
}

bool wants_feedback(FeedbackWanted wanted, MessageOutcome outcome) {
  const bool good = outcome == MessageOutcome::success;
  return wanted == FeedbackWanted::full || wanted == (good ? FeedbackWanted::positive : FeedbackWanted::negative);
}

ServiceResult<void> MessageQueue::add(CloudMessage message, WallTime now) {
  if (messages_.size() >= kQueueDepthMax) {
    return ServiceError{403, 403'004, "DeviceMaximumQueueDepthExceeded",
                        fmt::format("{} messages wait for the device already", kQueueDepthMax)};
  }
  message.enqueued = now;
  message.sequence = ++last_sequence_;
  messages_.push_back(std::move(message));
  return {};
}

bool MessageQueue::available(const CloudMessage& message, WallTime now) {
  return !message.on_the_wire && (message.lock_token.empty() || message.locked_until <= now) && message.expires > now;
}

CloudMessage MessageQueue::take(Messages::iterator at) {
  CloudMessage out = std::move(*at);
  messages_.erase(at);
  return out;
}

const CloudMessage* MessageQueue::lock(std::string token, WallTime now) {
  const auto found =
      std::find_if(messages_.begin(), messages_.end(), [&](const CloudMessage& m) { return available(m, now); });
  if (found == messages_.end()) return nullptr;
  found->lock_token = std::move(token);
  found->locked_until = now + kCloudMessageLock;
  found->packet_id = 0;  // whoever takes it next gets it anew
  return &*found;
}

MessageQueue::Messages::iterator MessageQueue::find_lock(std::string_view token, WallTime now) {
  return std::find_if(messages_.begin(), messages_.end(), [&](const CloudMessage& m) {
    return !token.empty() && m.lock_token == token && m.locked_until > now;
  });
}

ServiceResult<CloudMessage> MessageQueue::settle(std::string_view token, WallTime now) {
  const auto found = find_lock(token, now);
  if (found == messages_.end()) return lock_lost(token);
  return take(found);
}

ServiceResult<std::optional<CloudMessage>> MessageQueue::abandon(std::string_view token, WallTime now) {
  const auto found = find_lock(token, now);
  if (found == messages_.end()) return lock_lost(token);
  found->lock_token.clear();
  if (++found->delivery_count >= kDeliveryCountMax) return std::optional<CloudMessage>{take(found)};
  return std::optional<CloudMessage>{};
}

const CloudMessage* MessageQueue::send_next(WallTime now, bool& repeated) {
  Messages::iterator next = messages_.end();
  for (auto at = messages_.begin(); at != messages_.end(); ++at) {
    if (at->on_the_wire) return nullptr;
    if (next == messages_.end() && available(*at, now)) next = at;
  }
  if (next == messages_.end()) return nullptr;
  repeated = next->packet_id != 0;
  if (!repeated) {
    if (++last_packet_id_ == 0) ++last_packet_id_;
    next->packet_id = last_packet_id_;
  }
  next->lock_token.clear();
  next->on_the_wire = true;
  return &*next;
}

std::optional<CloudMessage> MessageQueue::acknowledge(uint16_t packet_id) {
  const auto found = std::find_if(messages_.begin(), messages_.end(),
                                  [&](const CloudMessage& m) { return m.on_the_wire && m.packet_id == packet_id; });
  if (found == messages_.end()) return std::nullopt;
  return take(found);
}

std::optional<CloudMessage> MessageQueue::take_sent() {
  const auto found =
      std::find_if(messages_.begin(), messages_.end(), [](const CloudMessage& m) { return m.on_the_wire; });
  if (found == messages_.end()) return std::nullopt;
  return take(found);
}

void MessageQueue::connection_lost(bool keep_session) {
  for (CloudMessage& message : messages_) {
    message.on_the_wire = false;
    if (!keep_session) message.packet_id = 0;
  }
}

std::vector<CloudMessage> MessageQueue::take_expired(WallTime now) {
  std::vector<CloudMessage> out;
  for (auto at = messages_.begin(); at != messages_.end();) {
    if (!at->lock_token.empty() && at->locked_until <= now) at->lock_token.clear();
    if (at->expires > now || at->on_the_wire || !at->lock_token.empty()) {
      ++at;
      continue;
    }
    out.push_back(std::move(*at));
    at = messages_.erase(at);
  }
  return out;
}

std::vector<CloudMessage> MessageQueue::take_all() {
  std::vector<CloudMessage> out{std::make_move_iterator(messages_.begin()), std::make_move_iterator(messages_.end())};
  messages_.clear();
  return out;
}

}  // namespace twinstorm::hub
