// What one shard knows about messages beside twins: pending direct methods, cloud-to-device queues of its devices,
// telemetry as it is accepted. Members belong to the shard's thread.
#pragma once

#include <cstdint>
#include <set>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/hub/messaging/feedback_queue.hpp"
#include "sim/hub/messaging/message_queue.hpp"
#include "sim/hub/messaging/method_calls.hpp"
#include "sim/protocol/message_bag.hpp"

namespace twinstorm::hub {

class Shard;
struct DeviceRecord;

/// By what way a device-to-cloud message came.
enum class Arrival : uint8_t { qos0, qos1, http, will };

class Messaging {
 public:
  explicit Messaging(Shard& shard);

  MethodCalls& methods() { return methods_; }
  /// Of the whole hub; only the first shard's is used.
  FeedbackQueue& feedback() { return feedback_; }

  /// Queues a message and offers it to the identity's live connection. Errors: 403004.
  ServiceResult<void> enqueue(DeviceRecord& record, CloudMessage message);
  /// A message has left its queue: counts, feedback, the twin's count.
  void settled(DeviceRecord& record, const CloudMessage& message, MessageOutcome outcome);
  /// Drops what has expired, so that a delivery that follows sees only what is valid.
  void expire(DeviceRecord& record);
  /// Empties the queue; how many messages it had.
  size_t purge(DeviceRecord& record);

  /// Counts a message whose properties have been checked, and shows it to whoever watches the identity.
  void accept_event(DeviceRecord& record, Arrival arrival, const protocol::BagSize& size,
                    const protocol::MessageProperties* properties, std::string_view body);
  /// Starts or continues watching: appends what has come since the last call. False: too many identities are watched.
  bool watch(DeviceRecord& record, std::string& out);
  static constexpr size_t kWatchedMax = 64;

  /// The identity is about to be removed: its calls end, its messages are purged.
  void forget(DeviceRecord& record);
  /// Once a tick: timeouts of methods; once a second: expiry, lost locks, watches nobody looks at.
  void tick(MonoTime now);
  void clear() { methods_.clear(); }

 private:
  void queue_changed(DeviceRecord& record);

  Shard& shard_;
  MethodCalls methods_;
  FeedbackQueue feedback_;
  std::set<DeviceRecord*> queued_;   // with messages
  std::set<DeviceRecord*> watched_;  // with a watch
  MonoTime next_sweep_{};
};

}  // namespace twinstorm::hub
