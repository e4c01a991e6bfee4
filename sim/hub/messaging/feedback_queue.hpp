// What became of cloud-to-device messages whose sender asked (service.md 10). One queue for the hub, on its first
// shard; the service takes records in batches that it completes or gives back. Sans-I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/messaging/message_queue.hpp"
#include "sim/hub/service_error.hpp"

namespace twinstorm::hub {

/// Content type of a batch.
inline constexpr std::string_view kFeedbackType = "application/vnd.microsoft.iothub.feedback.json";

struct FeedbackRecord {
  std::string original_message_id;
  std::string device_generation_id;
  std::string device_id;
  std::string module_id;  ///< empty for a device
  MessageOutcome outcome = MessageOutcome::success;
  WallTime when{};
};

class FeedbackQueue {
 public:
  static constexpr size_t kRecordsMax = 10'000;  ///< waiting or locked; the oldest that wait go first
  static constexpr size_t kBatchMax = 64;
  static constexpr Nanos kTtl = std::chrono::hours{1};

  struct Batch {
    std::string lock_token;
    WallTime enqueued{};  ///< of its oldest record
    std::vector<FeedbackRecord> records;
  };

  /// Returns how many records were dropped for it.
  size_t add(FeedbackRecord record);
  /// Up to 64 records under a lock of a minute; nullptr when there are none.
  const Batch* receive(std::string token, WallTime now);
  /// Error: 412002 DeviceMessageLockLost.
  ServiceResult<void> complete(std::string_view token, WallTime now);
  ServiceResult<void> abandon(std::string_view token, WallTime now);
  /// Drops records older than an hour and opens locks that have run out; how many were dropped.
  size_t expire(WallTime now);
  /// Records waiting or locked.
  size_t size() const { return waiting_.size() + locked_records_; }

 private:
  struct Locked {
    Batch batch;
    WallTime until{};
  };
  std::list<Locked>::iterator find(std::string_view token, WallTime now);
  void give_back(Batch& batch);

  std::deque<FeedbackRecord> waiting_;
  std::list<Locked> locked_;
  size_t locked_records_ = 0;
};

/// `[{"originalMessageId":..,"deviceGenerationId":..,"deviceId":..,"enqueuedTimeUtc":..,"statusCode":..,
/// "description":..}]`, a module's with `moduleId`.
void write_feedback(const std::vector<FeedbackRecord>& records, std::string& out);

}  // namespace twinstorm::hub
