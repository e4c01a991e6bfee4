#include "sim/hub/messaging/method_calls.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "sim/hub/store/device_record.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {
namespace {

constexpr size_t kMethodNameMax = 128;
constexpr int64_t kResponseTimeoutMin = 5;
constexpr int64_t kTimeoutMax = 300;

/// What the service forbids in method names (device.md 3.7), and what no topic level can hold.
bool is_method_name(std::string_view name) {
  constexpr std::string_view kForbidden = "$()<>@,;:\\\"/[]?={} \t+#";
  return !name.empty() && name.size() <= kMethodNameMax && std::all_of(name.begin(), name.end(), [&](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte > 0x20 && byte < 0x7f && kForbidden.find(c) == std::string_view::npos;
  });
}

ServiceResult<Nanos> timeout(std::string_view body, std::string_view name, int64_t least, int64_t otherwise) {
  const auto text = protocol::find_member(body, name);
  if (!text || *text == "null") return std::chrono::seconds{otherwise};
  const auto seconds = protocol::find_integer(body, name);
  if (!seconds || *seconds < least || *seconds > kTimeoutMax) {
    return twin::argument_invalid(fmt::format("'{}' is {}, a whole number from {} to {} is expected", name,
                                              text->substr(0, 40), least, kTimeoutMax));
  }
  return std::chrono::seconds{*seconds};
}

ServiceError too_many_calls() {
  return {429, 429'001, "ThrottlingException",
          fmt::format("{} direct methods are pending on this part of the hub", MethodCalls::kCallsMax)};
}

std::string format_rid(uint64_t id) { return fmt::format("{:x}", id); }

bool parse_rid(std::string_view text, uint64_t& id) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

ServiceError device_not_online() {
  return {404, 404'103, "DeviceNotOnline",
          "The operation failed because the requested device isn't online. To learn more, see "
          "https://aka.ms/iothub404103"};
}
ServiceError method_timed_out() {
  return {504, 504'101, "GatewayTimeout", "Timed out waiting for the response from device."};
}
ServiceError bad_method_answer(std::string message) { return {502, 502'000, "BadDeviceResponse", std::move(message)}; }

ServiceResult<MethodRequest> parse_method_request(std::string_view body) {
  if (!protocol::is_complete_json(body) || protocol::JsonMembers{body}.broken()) {
    return twin::argument_invalid("the body is not a JSON object with 'methodName'");
  }
  MethodRequest request;
  const auto parsed = [&]() -> ServiceResult<std::string> {
    const auto raw = protocol::find_member(body, "methodName");
    if (!raw || !raw->starts_with('"')) return twin::argument_invalid("'methodName' must be a string");
    const auto value = twin::parse_value(*raw);
    if (!value) return twin::argument_invalid("'methodName': " + value.error().message);
    return std::string{value->text()};
  };
  auto name = parsed();
  if (!name) return name.error();
  if (!is_method_name(*name)) {
    return twin::argument_invalid(
        fmt::format("'methodName' must be 1 to {} printable characters without blanks and $()<>@,;:\\\"/[]?={{}}+#",
                    kMethodNameMax));
  }
  request.name = std::move(*name);
  request.payload = protocol::find_member(body, "payload").value_or("null");
  if (request.payload.size() > kMethodPayloadMax) {
    return ServiceError{
        413, 413'001, "MessageTooLarge",
        fmt::format("the payload has {} bytes, {} are allowed", request.payload.size(), kMethodPayloadMax)};
  }
  const auto response = timeout(body, "responseTimeoutInSeconds", kResponseTimeoutMin, 30);
  if (!response) return response.error();
  const auto connect = timeout(body, "connectTimeoutInSeconds", 0, 0);
  if (!connect) return connect.error();
  if (*connect > *response) {
    return twin::argument_invalid("'connectTimeoutInSeconds' must not be more than 'responseTimeoutInSeconds'");
  }
  request.response_timeout = *response;
  request.connect_timeout = *connect;
  return request;
}

void MethodCalls::set_deadline(uint64_t id, Call& call, MonoTime at) {
  deadlines_.erase({call.deadline, id});
  call.deadline = at;
  deadlines_.emplace(at, id);
}

bool MethodCalls::send(uint64_t id, Call& call, MonoTime now) {
  DeviceLink* link = call.record->link;
  if (link == nullptr || !link->invoke_method(call.request.name, format_rid(id), call.request.payload)) return false;
  counts_.add(&HubCounts::methods_sent);
  call.sent = true;
  call.request.name = {};
  call.request.payload = {};
  set_deadline(id, call, now + call.request.response_timeout);
  return true;
}

void MethodCalls::call(DeviceRecord& record, MethodRequest request, MonoTime now, Done done) {
  count(request, &HubCounts::methods_called);
  const size_t bytes = request.payload.size();
  const bool may_wait = request.connect_timeout > Nanos::zero();
  if (calls_.size() >= kCallsMax) {
    count(request, &HubCounts::methods_refused);
    done(too_many_calls());
    return;
  }
  const uint64_t id = ++last_id_;
  const auto place = calls_.emplace(id, Call{&record, std::move(request), now, false, std::move(done)}).first;
  by_record_[&record].push_back(id);
  if (send(id, place->second, now)) return;
  if (!may_wait) {
    finish(place, device_not_online(), &HubCounts::methods_offline);
    return;
  }
  if (waiting_bytes_ + bytes > kWaitingBytesMax) {
    place->second.request.payload = {};
    finish(place, too_many_calls(), &HubCounts::methods_refused);
    return;
  }
  waiting_bytes_ += bytes;
  set_deadline(id, place->second, now + place->second.request.connect_timeout);
}

void MethodCalls::device_ready(DeviceRecord& record, MonoTime now) {
  const auto found = by_record_.find(&record);
  if (found == by_record_.end()) return;
  const std::vector<uint64_t> ids = found->second;  // sending may end the link, never a call
  for (const uint64_t id : ids) {
    const auto call = calls_.find(id);
    if (call == calls_.end() || call->second.sent) continue;
    const size_t bytes = call->second.request.payload.size();
    if (!send(id, call->second, now)) return;
    waiting_bytes_ -= bytes;
  }
}

void MethodCalls::finish(Calls::iterator call, MethodOutcome outcome, uint64_t HubCounts::*counter) {
  const uint64_t id = call->first;
  Call ended = std::move(call->second);
  calls_.erase(call);
  deadlines_.erase({ended.deadline, id});
  const auto siblings = by_record_.find(ended.record);
  std::erase(siblings->second, id);
  if (siblings->second.empty()) by_record_.erase(siblings);
  count(ended.request, counter);
  ended.done(std::move(outcome));
}

bool MethodCalls::answer(const DeviceRecord& record, std::string_view rid, int status, std::string_view payload) {
  uint64_t id = 0;
  const auto found = parse_rid(rid, id) ? calls_.find(id) : calls_.end();
  if (found == calls_.end() || found->second.record != &record || !found->second.sent) {
    counts_.add(&HubCounts::method_answers_unused);
    return false;
  }
  if (payload.size() > kMethodPayloadMax) {
    finish(found,
           bad_method_answer(
               fmt::format("the device's answer has {} bytes, {} are allowed", payload.size(), kMethodPayloadMax)),
           &HubCounts::methods_bad_answers);
  } else if (!payload.empty() &&
             (!protocol::is_complete_json(payload) || mqtt::check_utf8(payload) != mqtt::DecodeError::none)) {
    finish(found, bad_method_answer("the device's answer is not JSON"), &HubCounts::methods_bad_answers);
  } else {
    finish(found, MethodAnswer{status, payload.empty() ? std::string{"null"} : std::string{payload}},
           &HubCounts::methods_answered);
  }
  return true;
}

void MethodCalls::forget(const DeviceRecord& record) {
  while (true) {
    const auto found = by_record_.find(&record);
    if (found == by_record_.end()) return;
    const auto call = calls_.find(found->second.back());
    if (!call->second.sent) waiting_bytes_ -= call->second.request.payload.size();
    finish(call, device_not_found(record.twin.device_id), &HubCounts::methods_refused);
  }
}

void MethodCalls::expire(MonoTime now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto call = calls_.find(deadlines_.begin()->second);
    if (call->second.sent) {
      finish(call, method_timed_out(), &HubCounts::methods_timed_out);
    } else {
      waiting_bytes_ -= call->second.request.payload.size();
      finish(call, device_not_online(), &HubCounts::methods_offline);
    }
  }
}

void MethodCalls::clear() {
  calls_.clear();
  deadlines_.clear();
  by_record_.clear();
  waiting_bytes_ = 0;
}

}  // namespace twinstorm::hub
