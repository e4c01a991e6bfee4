// The service's side of messages: direct methods, purging a device's queue, feedback; and the hub's own resources for
// what the service does over AMQP only (service.md 7 and 10). No sockets.
#pragma once

#include <functional>
#include <string>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/shard.hpp"
#include "sim/protocol/device_routes.hpp"
#include "sim/protocol/message_bag.hpp"

namespace twinstorm::hub {

/// True for `invoke_method`, `purge_commands` and the feedback operations.
bool concerns_messages(protocol::ServiceOperation operation);

/// Answers such a call. `done` runs on `origin`'s thread, always in a turn of its own: a device's answer can take
/// minutes. It does not run any more once the hub stops.
void serve_messages(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done);

/// A request to one of the hub's own resources, authorised.
struct ExtensionCall {
  protocol::ExtensionRoute route;
  protocol::MessageProperties properties;  ///< of the message headers
  std::string body;
};
/// Must run on the thread of the shard that owns the device.
ServiceAnswer serve_extension(const ExtensionCall& call, Shard& owner);

/// Charges a direct method to the day's messages, if the hub has a tier and the device was tried; for jobs, too.
void charge_method(Shard& shard, size_t request_bytes, const MethodOutcome& outcome);

/// Form B of error bodies: `{"Message":"{\"errorCode\":404103,...}","ExceptionMessage":""}` (service.md 14.1).
ServiceAnswer nested_error_answer(const ServiceError& error, Shard& shard);

}  // namespace twinstorm::hub
