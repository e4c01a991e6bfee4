// Cloud-to-device messages waiting for one identity (service.md 10, device.md 7.5): at most 50, oldest first, each
// delivered until it is completed, rejected, expired, purged or has been given back too often. Sans-I/O; belongs to the
// shard's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/protocol/message_bag.hpp"

namespace twinstorm::hub {

inline constexpr size_t kQueueDepthMax = 50;
inline constexpr size_t kCloudMessageBytesMax = 64 * 1024;
inline constexpr uint8_t kDeliveryCountMax = 10;
inline constexpr Nanos kCloudMessageTtl = std::chrono::hours{1};
inline constexpr Nanos kCloudMessageTtlMax = std::chrono::hours{48};
inline constexpr Nanos kCloudMessageLock = std::chrono::minutes{1};

/// Which outcomes the sender wants to hear of: the values of `iothub-ack`.
enum class FeedbackWanted : uint8_t { none, positive, negative, full };
/// nullopt for another spelling; case does not matter.
std::optional<FeedbackWanted> parse_feedback_wanted(std::string_view text);

/// How a message left the queue; the names are feedback status codes.
enum class MessageOutcome : uint8_t { success, rejected, expired, delivery_count_exceeded, purged };
/// `Success`, `Rejected`, `Expired`, `DeliveryCountExceeded`, `Purged`.
const char* to_string(MessageOutcome outcome);
bool wants_feedback(FeedbackWanted wanted, MessageOutcome outcome);

struct CloudMessage {
  protocol::MessageProperties properties;
  std::string body;
  std::string input;  ///< of a module; empty: `messages/devicebound` of a device
  FeedbackWanted feedback = FeedbackWanted::none;
  WallTime enqueued{};
  WallTime expires = WallTime::max();
  uint64_t sequence = 0;       ///< given by the queue, from 1
  uint8_t delivery_count = 0;  ///< grows when a device gives the message back

  // Where it is. A message is available when neither is set.
  std::string lock_token;  ///< held by a device that polls
  WallTime locked_until{};
  uint16_t packet_id = 0;    ///< of its MQTT delivery; kept for the repetition after a lost connection
  bool on_the_wire = false;  ///< sent on a live MQTT connection, not acknowledged
};

class MessageQueue {
 public:
  /// Error: 403004 DeviceMaximumQueueDepthExceeded.
  ServiceResult<void> add(CloudMessage message, WallTime now);

  // --- Polling ---
  /// The oldest available message, locked under `token` for a minute; nullptr when there is none.
  const CloudMessage* lock(std::string token, WallTime now);
  /// Takes a locked message out: completed or rejected. Error: 412002 DeviceMessageLockLost.
  ServiceResult<CloudMessage> settle(std::string_view token, WallTime now);
  /// Gives a locked message back. The message itself when that was once too often: it has left the queue. Error:
  /// 412002.
  ServiceResult<std::optional<CloudMessage>> abandon(std::string_view token, WallTime now);

  // --- MQTT: one message on the wire at a time ---
  /// The next message to send; nullptr when one is on the wire already or none is available. It is on the wire from
  /// here on, `packet_id` set; `repeated`: it was sent in an earlier connection of the same session.
  const CloudMessage* send_next(WallTime now, bool& repeated);
  /// PUBACK. nullopt: no message with this id is on the wire.
  std::optional<CloudMessage> acknowledge(uint16_t packet_id);
  /// The message on the wire needs no acknowledgement (QoS 0) and is done.
  std::optional<CloudMessage> take_sent();
  /// The connection is gone: what was on the wire is available again. `keep_session`: with its packet id, to be
  /// repeated with DUP in the next connection of the session.
  void connection_lost(bool keep_session);

  /// Removes what has expired and is not on the wire, and opens locks that have run out.
  std::vector<CloudMessage> take_expired(WallTime now);
  std::vector<CloudMessage> take_all();

  size_t size() const { return messages_.size(); }
  bool empty() const { return messages_.empty(); }

 private:
  using Messages = std::deque<CloudMessage>;
  static bool available(const CloudMessage& message, WallTime now);
  Messages::iterator find_lock(std::string_view token, WallTime now);
  CloudMessage take(Messages::iterator at);

  Messages messages_;
  uint64_t last_sequence_ = 0;
  uint16_t last_packet_id_ = 0;
};

}  // namespace twinstorm::hub
