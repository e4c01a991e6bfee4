#include "sim/hub/frontends/http/device_api.hpp"

#include <fmt/format.h>

#include "sim/hub/policy/device_admission.hpp"
#include "sim/hub/text.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/twin/metadata.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {
namespace {

using Op = protocol::DeviceOperation;

constexpr size_t kBatchMessagesMax = 500;

struct Event {
  protocol::MessageProperties properties;
  std::string body;
};

ServiceAnswer no_content() {
  ServiceAnswer answer;
  answer.status = 204;
  return answer;
}

ServiceError too_large(size_t bytes, size_t limit) {
  return {413, 413'001, "MessageTooLarge",
          fmt::format("the request has {} bytes with its properties, {} are allowed", bytes, limit)};
}

ServiceResult<Event> read_batch_entry(const twin::Value& entry, size_t place) {
  const auto wrong = [&](std::string_view what) {
    return twin::argument_invalid(fmt::format("message {} of the batch: {}", place, what));
  };
  if (!entry.is_object()) return wrong("it is not an object");
  const twin::Value* body = entry.find("body");
  if (body == nullptr || !body->is_string()) return wrong("'body' must be a string");
  Event event;
  const twin::Value* encoded = entry.find("base64Encoded");
  if (encoded != nullptr && encoded->is_boolean() && !encoded->is_true()) {
    event.body = body->text();
  } else {
    auto bytes = protocol::base64_decode(body->text());
    if (!bytes) return wrong("'body' is not base64");
    event.body = std::move(*bytes);
  }
  const twin::Value* properties = entry.find("properties");
  if (properties == nullptr || properties->is_null()) return event;
  if (!properties->is_object()) return wrong("'properties' must be an object");
  for (const twin::Member& member : properties->members()) {
    if (!member.value.is_string()) return wrong(fmt::format("property '{}' must be a string", member.name()));
    if (protocol::take_message_header(event.properties, member.name(), member.value.text())) continue;
    event.properties.application.push_back({std::string{member.name()}, std::string{member.value.text()}});
  }
  return event;
}

ServiceResult<std::vector<Event>> read_events(const DeviceCall& call) {
  std::vector<Event> events;
  const std::string_view type = std::string_view{call.content_type}.substr(0, call.content_type.find(';'));
  if (!equal_ignoring_case(type, protocol::kEventBatchType)) {
    events.push_back({call.properties, call.body});
    return events;
  }
  const auto batch = twin::parse_value(call.body);
  if (!batch) return twin::argument_invalid(batch.error().message);
  if (!batch->is_array() || batch->empty() || batch->size() > kBatchMessagesMax) {
    return twin::argument_invalid(fmt::format("a batch is a JSON array of 1 to {} messages", kBatchMessagesMax));
  }
  for (const twin::Value& entry : batch->elements()) {
    auto event = read_batch_entry(entry, events.size());
    if (!event) return event.error();
    events.push_back(std::move(*event));
  }
  return events;
}

/// Lets the rates of the hub's tier decide: nothing when the call may be served now, otherwise the answer that makes it
/// wait. Errors: 403, 429.
ServiceResult<std::optional<ServiceAnswer>> limit(const DeviceCall& call, const OperationPolicy& operation,
                                                  uint32_t cost, Shard& owner) {
  if (owner.shared().policy == nullptr || call.admitted) return std::optional<ServiceAnswer>{};
  const TierPolicy::Verdict verdict = owner.admit(operation, cost);
  if (verdict.refusal) return *verdict.refusal;
  if (verdict.delay <= Nanos::zero()) return std::optional<ServiceAnswer>{};
  ServiceAnswer later;
  later.held = {verdict.delay, operation.operation};
  return std::optional<ServiceAnswer>{std::move(later)};
}

/// All messages of a request are taken, or none.
ServiceResult<ServiceAnswer> send_events(const DeviceCall& call, DeviceRecord& record, Shard& owner) {
  const size_t bytes_max = owner.config().max_message_bytes;
  const auto events = read_events(call);
  if (!events) return events.error();
  size_t bytes = 0;
  for (const Event& event : *events) bytes += event.body.size() + protocol::measure(event.properties).bytes;
  if (bytes > bytes_max) return too_large(bytes, bytes_max);
  auto later = limit(call, kTelemetry, static_cast<uint32_t>(events->size()), owner);
  if (!later) return later.error();
  if (*later) return std::move(**later);
  for (const Event& event : *events) {
    owner.messaging().accept_event(record, Arrival::http, protocol::measure(event.properties), &event.properties,
                                   event.body);
  }
  return no_content();
}

ServiceResult<ServiceAnswer> receive(const DeviceCall& call, DeviceRecord& record, Shard& owner) {
  auto later = limit(call, kMessageReceive, 1, owner);
  if (!later) return later.error();
  if (*later) return std::move(**later);
  if (record.messages == nullptr) return no_content();
  owner.messaging().expire(record);
  const std::string token = owner.make_uuid();
  const CloudMessage* message = record.messages->lock(token, owner.wall_now());
  if (message == nullptr) return no_content();
  owner.counts().add(&HubCounts::c2d_sent);
  ServiceAnswer answer;
  answer.body = message->body;
  answer.content_type = "application/octet-stream";
  answer.etag = fmt::format("\"{}\"", token);  // SDKs cut the first and the last character off
  protocol::for_each_message_header(message->properties, [&](std::string_view name, std::string_view value) {
    answer.headers.emplace_back(name, value);
  });
  answer.headers.emplace_back("iothub-sequencenumber", std::to_string(message->sequence));
  answer.headers.emplace_back("iothub-enqueuedtime", twin::TwinTimeText{message->enqueued}.view());
  answer.headers.emplace_back("iothub-deliverycount", std::to_string(message->delivery_count));
  return answer;
}

ServiceResult<ServiceAnswer> settle(const DeviceCall& call, DeviceRecord& record, Shard& owner) {
  const std::string& token = call.route.lock_token;
  const auto lock_lost = [&](std::string_view why) {
    return ServiceError{412, 412'002, "DeviceMessageLockLost", fmt::format("lock '{}': {}", token, why)};
  };
  if (call.if_match && *call.if_match != token && *call.if_match != '"' + token + '"') {
    return lock_lost("If-Match names another one");
  }
  if (record.messages == nullptr) return lock_lost("there is no message");
  const WallTime now = owner.wall_now();
  if (call.route.operation == Op::abandon_message) {
    const auto given_up = record.messages->abandon(token, now);
    if (!given_up) return given_up.error();
    owner.counts().add(&HubCounts::c2d_abandoned);
    if (*given_up) owner.messaging().settled(record, **given_up, MessageOutcome::delivery_count_exceeded);
    if (record.link != nullptr) record.link->messages_waiting();
    return no_content();
  }
  const auto message = record.messages->settle(token, now);
  if (!message) return message.error();
  owner.messaging().settled(
      record, *message,
      call.route.operation == Op::reject_message ? MessageOutcome::rejected : MessageOutcome::success);
  return no_content();
}

ServiceResult<ServiceAnswer> dispatch(const DeviceCall& call, Shard& owner) {
  const net::PeerCertificate* certificate = call.certificate ? &*call.certificate : nullptr;
  const auto admission = admit_device(owner.store(), *owner.shared().access, call.route.device_id, call.route.module_id,
                                      call.authorization, certificate, owner.wall_now());
  if (!admission) return admission.error();
  DeviceRecord& record = *admission->record;
  record.twin.last_activity_time = owner.wall_now();
  record.touch();
  switch (call.route.operation) {
    case Op::send_events:
      return send_events(call, record, owner);
    case Op::receive_message:
      return receive(call, record, owner);
    case Op::complete_message:
    case Op::reject_message:
    case Op::abandon_message:
      return settle(call, record, owner);
    case Op::initiate_file_upload:
    case Op::complete_file_upload:
      break;
  }
  return ServiceError{501, 501'000, "NotImplemented",
                      fmt::format("this hub does not implement the operation {}", to_string(call.route.operation))};
}

}  // namespace

ServiceAnswer serve_device_api(const DeviceCall& call, Shard& owner) {
  auto answer = dispatch(call, owner);
  if (answer) return std::move(*answer);
  const int status = answer.error().status;
  if (status == 401) owner.counts().add(&HubCounts::unauthorized);
  if (status == 412) owner.counts().add(&HubCounts::precondition_failed);
  if (call.route.operation == Op::send_events) owner.counts().add(&HubCounts::telemetry_refused);
  return error_answer(answer.error(), owner);
}

}  // namespace twinstorm::hub
