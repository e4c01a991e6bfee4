#include "sim/backend/operations/twin_write.hpp"

#include <algorithm>

#include "sim/backend/staleness_probe.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;
using metrics::OpKind;
using metrics::OpOutcome;

TwinWrite::TwinWrite(const BackendBehavior& behavior, ProcedureContext& context, StalenessProbe* probe)
    : behavior_{behavior},
      context_{context},
      probe_{probe},
      etags_(behavior.if_match == IfMatch::last_seen ? context.devices : 0) {}

std::optional<ErrorClass> TwinWrite::begin(Operation& operation) {
  if (behavior_.if_match == IfMatch::read_modify_write) operation.step = kRead;
  return std::nullopt;
}

void TwinWrite::compose(Operation& operation, Request& request) {
  id_.clear();
  context_.append_device_id(operation.device, id_);
  protocol::service_target::append_twin(request.target, id_);
  // The text is kept from the start: whoever models the twin hears it with the operation's end, whatever that is.
  if (operation.step == kRead && !behavior_.changes_desired()) return;
  append_body(operation, request.body);
  if (operation.step == kRead) {
    request.body.clear();
    return;
  }
  request.method = behavior_.op == OpKind::replace_twin ? "PUT" : "PATCH";
  request.if_match = "\"*\"";
  if (behavior_.if_match == IfMatch::read_modify_write) {
    request.if_match = '"' + etag_ + '"';
  } else if (behavior_.if_match == IfMatch::last_seen && !etags_[operation.device].empty()) {
    request.if_match = '"' + etags_[operation.device] + '"';
  }
}

void TwinWrite::append_body(Operation& operation, std::string& body) {
  Rng rng{context_.seed, behavior_.name, (uint64_t{operation.phase} << 48) + operation.n};
  body += '{';
  if (behavior_.tags) {
    body += "\"tags\":";
    behavior_.tags(rng, operation.n, body);
  }
  if (behavior_.changes_desired()) {
    if (operation.text == nullptr) {
      operation.text = context_.blocks.take();
      if (behavior_.desired) {
        behavior_.desired(rng, operation.n, *operation.text);
      } else {
        *operation.text += "{}";
      }
    }
    if (body.size() > 1) body += ',';
    body += "\"properties\":{\"desired\":";
    body += *operation.text;
    body += '}';
  }
  body += '}';
}

void TwinWrite::sent(Operation& operation, MonoTime at) {
  if (operation.step == kWrite && behavior_.changes_desired()) context_.observer.on_patch_sent(operation.follow, at);
}

Next TwinWrite::answered(Operation& operation, const HttpAnswer& answer) {
  if (operation.step == kRead) return read_answered(operation, answer);
  if (answer.status == 412) return conflict(operation);
  if (answer.status != 200) return Next::failed(error_of(answer.status));
  if (behavior_.if_match == IfMatch::last_seen) {
    if (const auto etag = protocol::find_plain_string(answer.body, "etag")) etags_[operation.device] = *etag;
  }
  if (behavior_.changes_desired()) {
    const auto properties = protocol::find_member(answer.body, "properties");
    const auto desired = properties ? protocol::find_member(*properties, "desired") : std::nullopt;
    const auto version = desired ? protocol::find_integer(*desired, "$version") : std::nullopt;
    if (!version) return Next::failed(ErrorClass::protocol, true);
    context_.observer.on_patch_accepted(operation.follow, operation.device, *version, *operation.text,
                                        behavior_.op == OpKind::replace_twin, context_.clock.mono());
  }
  follow(operation, answer.body);
  return Next::done();
}

Next TwinWrite::read_answered(Operation& operation, const HttpAnswer& answer) {
  if (answer.status != 200) return Next::failed(error_of(answer.status));
  const auto etag = protocol::find_plain_string(answer.body, "etag");
  if (!etag) return Next::failed(ErrorClass::protocol);
  etag_ = *etag;
  if (operation.attempts > 0) context_.recorder.retried(behavior_.stream, operation.phase);
  operation.step = kWrite;
  return Next::again();
}

Next TwinWrite::conflict(Operation& operation) {
  context_.recorder.conflict(behavior_.stream, operation.phase);
  // The twin has moved on: the next operation is unconditional and learns the new ETag, instead of failing for ever.
  if (behavior_.if_match == IfMatch::last_seen) etags_[operation.device].clear();
  const auto& retries = behavior_.retries;
  if (behavior_.if_match != IfMatch::read_modify_write || operation.attempts >= retries.max) {
    return Next::failed(ErrorClass::precondition_failed);
  }
  Nanos wait = retries.initial;
  for (uint16_t i = 0; i < operation.attempts && wait < retries.longest; ++i) wait *= 2;
  wait = std::min(wait, retries.longest);
  ++operation.attempts;
  if (retries.full_jitter) {
    Rng rng{context_.seed, behavior_.name + ".retry",
            (uint64_t{operation.phase} << 48) + operation.n * 1024 + operation.attempts};
    wait = Nanos{static_cast<int64_t>(rng.below(static_cast<uint64_t>(wait.count()) + 1))};
  }
  operation.step = kRead;
  return Next::again(wait);
}

/// Has the write looked for in queries, if it is one of those that are.
void TwinWrite::follow(const Operation& operation, std::string_view body) {
  if (probe_ == nullptr) return;
  Rng rng{context_.seed, behavior_.name + ".staleness", (uint64_t{operation.phase} << 48) + operation.n};
  if (!rng.chance(behavior_.staleness.share)) return;
  if (const auto version = protocol::find_integer(body, "version")) {
    probe_->follow(operation.device, *version, operation.phase);
  }
}

void TwinWrite::ended(Operation& operation, OpOutcome outcome, bool unknown) {
  if (!behavior_.changes_desired() || outcome == OpOutcome::acknowledged) return;
  context_.observer.on_patch_failed(operation.follow, operation.device,
                                    operation.text ? *operation.text : std::string_view{}, unknown);
}

Procedure::Counted TwinWrite::counted(const Operation& operation) const {
  if (operation.step == kRead) return {HubCount::twin_reads};
  switch (behavior_.op) {
    case OpKind::replace_twin:
      return {HubCount::twin_replaces};
    case OpKind::patch_tags:
      return {HubCount::tags_patches};
    default:
      return {HubCount::desired_patches};
  }
}

}  // namespace twinstorm::backend
