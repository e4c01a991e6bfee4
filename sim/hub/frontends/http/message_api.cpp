#include "sim/hub/frontends/http/message_api.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/twin/metadata.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {
namespace {

using Op = protocol::ServiceOperation;
using Done = std::function<void(ServiceAnswer)>;

constexpr size_t kTopicMax = 65'535;
constexpr size_t kInputNameMax = 128;
constexpr size_t kMessageIdMax = 128;  // the service's limit; feedback keeps the id

ServiceAnswer no_content() {
  ServiceAnswer answer;
  answer.status = 204;
  return answer;
}

ServiceResult<DeviceRecord*> find_record(Shard& owner, std::string_view device_id, std::string_view module_id) {
  DeviceRecord* record = owner.store().find(device_id, module_id);
  if (record != nullptr) return record;
  if (!module_id.empty() && owner.store().find(device_id, {}) != nullptr) return module_not_found(module_id);
  return device_not_found(device_id);
}

// --- Direct methods ------------------------------------------------------------------------------------------------

ServiceAnswer method_answer(const MethodOutcome& outcome, Shard& shard) {
  if (outcome) {
    ServiceAnswer answer;
    answer.body = fmt::format(R"({{"status":{},"payload":{}}})", outcome->status, outcome->payload);
    return answer;
  }
  const ServiceError& error = outcome.error();
  const bool nested = error.error_code == 404'103 || error.error_code == 504'101;
  return nested ? nested_error_answer(error, shard) : error_answer(error, shard);
}

void invoke_method(ServiceCall call, Shard& origin, Done done) {
  Shard& owner = origin.shared().owner_of(call.route.device_id);
  auto request = parse_method_request(call.body);
  const auto answer = [&origin, done = std::move(done),
                       request_bytes = request ? request->payload.size() : 0](MethodOutcome outcome) {
    origin.post([&origin, done, request_bytes, outcome = std::move(outcome)] {
      charge_method(origin, request_bytes, outcome);
      done(method_answer(outcome, origin));
    });
  };
  if (!request) {
    origin.counts().add(&HubCounts::methods_called);
    origin.counts().add(&HubCounts::methods_refused);
    answer(request.error());
    return;
  }
  owner.post([&owner, route = std::move(call.route), request = std::move(*request), answer]() mutable {
    const auto record = find_record(owner, route.device_id, route.module_id);
    if (!record) {
      owner.counts().add(&HubCounts::methods_called);
      owner.counts().add(&HubCounts::methods_refused);
      answer(record.error());
      return;
    }
    owner.messaging().methods().call(**record, std::move(request), owner.mono_now(), answer);
  });
}

// --- Queues and feedback -------------------------------------------------------------------------------------------

ServiceAnswer purge(const ServiceCall& call, Shard& owner) {
  const auto record = find_record(owner, call.route.device_id, call.route.module_id);
  if (!record) return error_answer(record.error(), owner);
  ServiceAnswer answer;
  answer.body = fmt::format(R"({{"totalMessagesPurged":{},"deviceId":)", owner.messaging().purge(**record));
  twin::write_string(call.route.device_id, answer.body);
  answer.body += R"(,"moduleId":null})";
  return answer;
}

/// On the first shard, which keeps the hub's feedback.
ServiceAnswer serve_feedback(const ServiceCall& call, Shard& first) {
  FeedbackQueue& queue = first.messaging().feedback();
  const WallTime now = first.wall_now();
  first.counts().add(&HubCounts::feedback_dropped, queue.expire(now));
  if (call.route.operation == Op::receive_feedback) {
    const FeedbackQueue::Batch* batch = queue.receive(first.make_uuid(), now);
    if (batch == nullptr) return no_content();
    ServiceAnswer answer;
    write_feedback(batch->records, answer.body);
    answer.content_type = kFeedbackType;
    answer.etag = fmt::format("\"{}\"", batch->lock_token);
    answer.headers.emplace_back("iothub-enqueuedtime", twin::TwinTimeText{batch->enqueued}.view());
    return answer;
  }
  const auto done = call.route.operation == Op::complete_feedback ? queue.complete(call.route.lock_token, now)
                                                                  : queue.abandon(call.route.lock_token, now);
  if (done) return no_content();
  first.counts().add(&HubCounts::precondition_failed);
  return error_answer(done.error(), first);
}

// --- The hub's own resources ---------------------------------------------------------------------------------------

/// What can be one level of a topic.
bool is_input_name(std::string_view name) {
  return !name.empty() && name.size() <= kInputNameMax && std::all_of(name.begin(), name.end(), [](char c) {
    return c > 0x20 && c < 0x7f && c != '+' && c != '#' && c != '/';
  });
}

ServiceResult<CloudMessage> make_message(const ExtensionCall& call, WallTime now) {
  CloudMessage message;
  message.properties = call.properties;
  message.body = call.body;
  message.input = call.route.input;
  if (message.properties.to.empty() && message.input.empty()) {
    message.properties.to = fmt::format("/devices/{}/messages/devicebound", call.route.device_id);
  }
  if (message.properties.message_id.size() > kMessageIdMax) {
    return twin::argument_invalid(fmt::format("iothub-messageid is longer than {} characters", kMessageIdMax));
  }
  const size_t bytes = message.body.size() + protocol::measure(message.properties).bytes;
  if (bytes > kCloudMessageBytesMax) {
    return ServiceError{
        413, 413'001, "MessageTooLarge",
        fmt::format("the message has {} bytes with its properties, {} are allowed", bytes, kCloudMessageBytesMax)};
  }
  const size_t topic = protocol::format_message_bag(message.properties).size() + call.route.device_id.size() +
                       call.route.module_id.size() + message.input.size() + 64;
  if (topic > kTopicMax) return twin::argument_invalid("the encoded properties do not fit into an MQTT topic");
  if (call.route.operation == protocol::ExtensionOperation::send_input && !is_input_name(message.input)) {
    return twin::argument_invalid("an input's name is 1 to 128 printable ASCII characters without + # and /");
  }
  const auto wanted =
      parse_feedback_wanted(message.properties.find(protocol::kAckProperty).value_or(std::string_view{}));
  if (!wanted) return twin::argument_invalid("iothub-ack must be none, positive, negative or full");
  message.feedback = *wanted;
  message.expires = now + kCloudMessageTtl;
  if (!message.properties.expiry.empty()) {
    const auto expiry = parse_iso8601(message.properties.expiry);
    if (!expiry) return twin::argument_invalid("iothub-expiry: " + expiry.error().message);
    if (*expiry > now + kCloudMessageTtlMax) {
      return twin::argument_invalid("iothub-expiry is more than 48 hours from now");
    }
    message.expires = *expiry;
  }
  return message;
}

ServiceResult<ServiceAnswer> enqueue(const ExtensionCall& call, DeviceRecord& record, Shard& owner) {
  auto message = make_message(call, owner.wall_now());
  if (!message) return message.error();
  if (auto added = owner.messaging().enqueue(record, std::move(*message)); !added) return added.error();
  return no_content();
}

ServiceResult<ServiceAnswer> extension(const ExtensionCall& call, Shard& owner) {
  const auto record = find_record(owner, call.route.device_id, call.route.module_id);
  if (!record) return record.error();
  switch (call.route.operation) {
    case protocol::ExtensionOperation::enqueue_message:
    case protocol::ExtensionOperation::send_input:
      return enqueue(call, **record, owner);
    case protocol::ExtensionOperation::watch_events: {
      ServiceAnswer answer;
      if (owner.messaging().watch(**record, answer.body)) return answer;
      return ServiceError{
          429, 429'001, "ThrottlingException",
          fmt::format("{} identities are watched already on this part of the hub", Messaging::kWatchedMax)};
    }
    case protocol::ExtensionOperation::disconnect:
      break;
  }
  if ((*record)->link == nullptr) return device_not_online();
  (*record)->link->close(DeviceLink::CloseReason::hub);
  return no_content();
}

}  // namespace

void charge_method(Shard& shard, size_t request_bytes, const MethodOutcome& outcome) {
  TierPolicy* const policy = shard.shared().policy.get();
  if (policy == nullptr) return;
  // 404103, 502, 504: the device was tried.
  const bool tried = outcome || outcome.error().error_code == 404'103 || outcome.error().status >= 500;
  if (tried) policy->charge_method(request_bytes, outcome ? outcome->payload.size() : 0, shard.wall_now());
}

ServiceAnswer nested_error_answer(const ServiceError& error, Shard& shard) {
  std::string inner;
  twin::write_device_error(error, shard.make_hex_id(), shard.wall_now(), inner);
  inner.back() = ',';  // the service's has one member more
  inner += R"("info":null})";
  ServiceAnswer answer;
  answer.status = error.status;
  answer.error_name = error.name;
  answer.body = R"({"Message":)";
  twin::write_string(inner, answer.body);
  answer.body += R"(,"ExceptionMessage":""})";
  return answer;
}

bool concerns_messages(Op operation) {
  switch (operation) {
    case Op::invoke_method:
    case Op::purge_commands:
    case Op::receive_feedback:
    case Op::complete_feedback:
    case Op::abandon_feedback:
      return true;
    default:
      return false;
  }
}

void serve_messages(ServiceCall call, Shard& origin, Done done) {
  if (call.route.operation == Op::invoke_method) {
    invoke_method(std::move(call), origin, std::move(done));
    return;
  }
  const bool is_purge = call.route.operation == Op::purge_commands;
  Shard& place = is_purge ? origin.shared().owner_of(call.route.device_id) : *origin.shared().shards.front();
  place.post([&place, &origin, is_purge, call = std::move(call), done = std::move(done)] {
    origin.post([done, answer = is_purge ? purge(call, place) : serve_feedback(call, place)] { done(answer); });
  });
}

ServiceAnswer serve_extension(const ExtensionCall& call, Shard& owner) {
  auto answer = extension(call, owner);
  if (answer) return std::move(*answer);
  using ExtensionOp = protocol::ExtensionOperation;
  if (call.route.operation == ExtensionOp::enqueue_message || call.route.operation == ExtensionOp::send_input) {
    owner.counts().add(&HubCounts::c2d_refused);
  }
  return error_answer(answer.error(), owner);
}

}  // namespace twinstorm::hub
