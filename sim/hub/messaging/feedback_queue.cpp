#include "sim/hub/messaging/feedback_queue.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/twin/metadata.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {

size_t FeedbackQueue::add(FeedbackRecord record) {
  waiting_.push_back(std::move(record));
  if (size() <= kRecordsMax) return 0;
  waiting_.pop_front();
  return 1;
}

const FeedbackQueue::Batch* FeedbackQueue::receive(std::string token, WallTime now) {
  if (waiting_.empty()) return nullptr;
  Batch batch;
  batch.lock_token = std::move(token);
  batch.enqueued = waiting_.front().when;
  while (!waiting_.empty() && batch.records.size() < kBatchMax) {
    batch.records.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  locked_records_ += batch.records.size();
  locked_.push_back({std::move(batch), now + kCloudMessageLock});
  return &locked_.back().batch;
}

std::list<FeedbackQueue::Locked>::iterator FeedbackQueue::find(std::string_view token, WallTime now) {
  return std::find_if(locked_.begin(), locked_.end(),
                      [&](const Locked& l) { return l.batch.lock_token == token && l.until > now; });
}

void FeedbackQueue::give_back(Batch& batch) {
  locked_records_ -= batch.records.size();
  waiting_.insert(waiting_.begin(), std::make_move_iterator(batch.records.begin()),
                  std::make_move_iterator(batch.records.end()));
}

ServiceResult<void> FeedbackQueue::complete(std::string_view token, WallTime now) {
  const auto found = find(token, now);
  if (found == locked_.end()) {
    return ServiceError{412, 412'002, "DeviceMessageLockLost", fmt::format("no feedback is locked under '{}'", token)};
  }
  locked_records_ -= found->batch.records.size();
  locked_.erase(found);
  return {};
}

ServiceResult<void> FeedbackQueue::abandon(std::string_view token, WallTime now) {
  const auto found = find(token, now);
  if (found == locked_.end()) {
    return ServiceError{412, 412'002, "DeviceMessageLockLost", fmt::format("no feedback is locked under '{}'", token)};
  }
  give_back(found->batch);
  locked_.erase(found);
  return {};
}

size_t FeedbackQueue::expire(WallTime now) {
  for (auto at = locked_.begin(); at != locked_.end();) {
    if (at->until > now) {
      ++at;
      continue;
    }
    give_back(at->batch);
    at = locked_.erase(at);
  }
  return std::erase_if(waiting_, [&](const FeedbackRecord& record) { return now - record.when > kTtl; });
}

void write_feedback(const std::vector<FeedbackRecord>& records, std::string& out) {
  out += '[';
  bool first = true;
  for (const FeedbackRecord& record : records) {
    out += first ? R"({"originalMessageId":)" : R"(,{"originalMessageId":)";
    first = false;
    twin::write_string(record.original_message_id, out);
    out += R"(,"description":)";
    twin::write_string(to_string(record.outcome), out);
    out += R"(,"deviceGenerationId":)";
    twin::write_string(record.device_generation_id, out);
    out += R"(,"deviceId":)";
    twin::write_string(record.device_id, out);
    if (!record.module_id.empty()) {
      out += R"(,"moduleId":)";
      twin::write_string(record.module_id, out);
    }
    fmt::format_to(std::back_inserter(out), R"(,"enqueuedTimeUtc":"{}","statusCode":"{}"}})",
                   twin::TwinTimeText{record.when}.view(), to_string(record.outcome));
  }
  out += ']';
}

}  // namespace twinstorm::hub
