#include "sim/hub/messaging/messaging.hpp"

#include "sim/hub/shard.hpp"

namespace twinstorm::hub {
namespace {

constexpr Nanos kSweepEvery = std::chrono::seconds{1};

uint64_t HubCounts::*counter_of(MessageOutcome outcome) {
  switch (outcome) {
    case MessageOutcome::success:
      return &HubCounts::c2d_completed;
    case MessageOutcome::rejected:
      return &HubCounts::c2d_rejected;
    case MessageOutcome::expired:
      return &HubCounts::c2d_expired;
    case MessageOutcome::delivery_count_exceeded:
      return &HubCounts::c2d_delivery_count_exceeded;
    case MessageOutcome::purged:
      break;
  }
  return &HubCounts::c2d_purged;
}

uint64_t HubCounts::*counter_of(Arrival arrival) {
  switch (arrival) {
    case Arrival::qos0:
      return &HubCounts::telemetry_qos0;
    case Arrival::qos1:
      return &HubCounts::telemetry_qos1;
    case Arrival::http:
      return &HubCounts::telemetry_http;
    case Arrival::will:
      break;
  }
  return &HubCounts::telemetry_wills;
}

}  // namespace

Messaging::Messaging(Shard& shard) : shard_{shard}, methods_{shard.counts()} {}

void Messaging::queue_changed(DeviceRecord& record) {
  if (record.messages->empty()) {
    queued_.erase(&record);
  } else {
    queued_.insert(&record);
  }
  record.twin.cloud_to_device_message_count = static_cast<uint32_t>(record.messages->size());
  record.touch();
}

ServiceResult<void> Messaging::enqueue(DeviceRecord& record, CloudMessage message) {
  if (record.messages == nullptr) record.messages = std::make_unique<MessageQueue>();
  expire(record);
  const size_t bytes = message.body.size() + protocol::measure(message.properties).bytes;
  if (auto added = record.messages->add(std::move(message), shard_.wall_now()); !added) return added.error();
  if (!record.is_module()) shard_.charge(bytes);  // inputs of modules come from their own device
  shard_.counts().add(&HubCounts::c2d_enqueued);
  queue_changed(record);
  if (record.link != nullptr) record.link->messages_waiting();
  return {};
}

void Messaging::settled(DeviceRecord& record, const CloudMessage& message, MessageOutcome outcome) {
  shard_.counts().add(counter_of(outcome));
  queue_changed(record);
  if (!wants_feedback(message.feedback, outcome)) return;
  shard_.counts().add(&HubCounts::feedback_records);
  FeedbackRecord note{message.properties.message_id,
                      record.generation_id,
                      record.twin.device_id,
                      record.twin.module_id,
                      outcome,
                      shard_.wall_now()};
  Shard& first = *shard_.shared().shards.front();
  const auto keep = [&first](FeedbackRecord kept) {
    first.counts().add(&HubCounts::feedback_dropped, first.messaging().feedback().add(std::move(kept)));
  };
  if (&first == &shard_) {
    keep(std::move(note));
  } else {
    first.post([keep, note = std::move(note)]() mutable { keep(std::move(note)); });
  }
}

void Messaging::expire(DeviceRecord& record) {
  if (record.messages == nullptr) return;
  for (const CloudMessage& message : record.messages->take_expired(shard_.wall_now())) {
    settled(record, message, MessageOutcome::expired);
  }
}

size_t Messaging::purge(DeviceRecord& record) {
  if (record.messages == nullptr) return 0;
  const auto purged = record.messages->take_all();
  for (const CloudMessage& message : purged) settled(record, message, MessageOutcome::purged);
  return purged.size();
}

void Messaging::accept_event(DeviceRecord& record, Arrival arrival, const protocol::BagSize& size,
                             const protocol::MessageProperties* properties, std::string_view body) {
  LiveCounts& counts = shard_.counts();
  counts.add(&HubCounts::telemetry_messages);
  counts.add(counter_of(arrival));
  counts.add(&HubCounts::telemetry_bytes, body.size());
  counts.add(&HubCounts::telemetry_property_bytes, size.bytes);
  shard_.charge(body.size() + size.bytes);
  if (record.watch != nullptr && properties != nullptr) record.watch->add(*properties, body, shard_.wall_now());
}

bool Messaging::watch(DeviceRecord& record, std::string& out) {
  const WallTime now = shard_.wall_now();
  if (record.watch == nullptr) {
    if (watched_.size() >= kWatchedMax) return false;
    record.watch = std::make_unique<EventWatch>(now);
    watched_.insert(&record);
  }
  record.watch->take(now, out);
  return true;
}

void Messaging::forget(DeviceRecord& record) {
  methods_.forget(record);
  purge(record);
  queued_.erase(&record);
  watched_.erase(&record);
}

void Messaging::tick(MonoTime now) {
  methods_.expire(now);
  if (now < next_sweep_) return;
  next_sweep_ = now + kSweepEvery;
  const std::vector<DeviceRecord*> queued{queued_.begin(), queued_.end()};  // expiry takes records out of the set
  for (DeviceRecord* record : queued) {
    expire(*record);
    if (record->link != nullptr && !record->messages->empty()) record->link->messages_waiting();
  }
  const WallTime wall = shard_.wall_now();
  std::erase_if(watched_, [&](DeviceRecord* record) {
    if (!record->watch->forgotten(wall)) return false;
    record->watch.reset();
    return true;
  });
  shard_.counts().add(&HubCounts::feedback_dropped, feedback_.expire(wall));
}

}  // namespace twinstorm::hub
