#include "sim/backend/operations/method.hpp"

#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;

namespace {

constexpr int64_t kDeviceStatusFailed = 400;

int64_t whole_seconds(Nanos time) { return std::chrono::duration_cast<std::chrono::seconds>(time).count(); }

/// Direct methods put their error code into an inner JSON text (service.md 14.1, form B), so a code is looked for as it
/// stands; six digits of that kind are nowhere else in such an answer.
bool says(const HttpAnswer& answer, std::string_view code) { return answer.body.find(code) != std::string_view::npos; }

}  // namespace

void append_method(const BackendBehavior& behavior, Rng& rng, uint64_t n, std::string& out) {
  out += "\"methodName\":";
  twin::write_string(behavior.method_name, out);
  out += ",\"payload\":";
  if (behavior.payload) {
    behavior.payload(rng, n, out);
  } else {
    out += "null";
  }
  out += ",\"responseTimeoutInSeconds\":" + std::to_string(whole_seconds(behavior.response_timeout)) +
         ",\"connectTimeoutInSeconds\":" + std::to_string(whole_seconds(behavior.connect_timeout));
}

void MethodCall::compose(Operation& operation, Request& request) {
  id_.clear();
  context_.append_device_id(operation.device, id_);
  request.method = "POST";
  request.target = protocol::service_target::method(id_);
  Rng rng{context_.seed, behavior_.name, (uint64_t{operation.phase} << 48) + operation.n};
  request.body = "{";
  append_method(behavior_, rng, operation.n, request.body);
  request.body += '}';
}

Next MethodCall::answered(Operation&, const HttpAnswer& answer) {
  if (answer.status == 200) {
    const auto status = protocol::find_integer(answer.body, "status");
    if (!status) return Next::failed(ErrorClass::protocol);
    return *status < kDeviceStatusFailed ? Next::done() : Next::failed(ErrorClass::device_error);
  }
  if (answer.status == 404 && says(answer, "404103")) return Next::failed(ErrorClass::device_offline);
  if (answer.status == 504) return Next::timed_out();
  return Next::failed(error_of(answer.status));
}

}  // namespace twinstorm::backend
