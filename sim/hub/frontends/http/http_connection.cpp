#include "sim/hub/frontends/http/http_connection.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "sim/hub/frontends/http/device_api.hpp"
#include "sim/hub/frontends/http/hub_service.hpp"
#include "sim/hub/frontends/http/message_api.hpp"
#include "sim/hub/frontends/mqtt/mqtt_connection.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/ws/upgrade.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {
namespace {

constexpr size_t kFlushBytes = 64 * 1024;  // answers of pipelined requests are gathered up to here

std::optional<std::string> copy(std::optional<std::string_view> text) {
  return text ? std::optional<std::string>{*text} : std::nullopt;
}

std::string_view path_of(std::string_view target) { return target.substr(0, target.find('?')); }

/// How much a service operation counts for the rate of its class (service.md 13.1).
uint32_t cost_of(protocol::ServiceOperation operation, std::string_view body) {
  if (operation == protocol::ServiceOperation::bulk_devices) {
    const auto entries = twin::parse_value(body);
    return entries && entries->is_array() ? std::max<uint32_t>(1, static_cast<uint32_t>(entries->size())) : 1;
  }
  if (operation == protocol::ServiceOperation::invoke_method) {
    constexpr size_t kStep = 4096;
    const size_t payload = protocol::find_member(body, "payload").value_or(std::string_view{}).size();
    return static_cast<uint32_t>(charged_messages(payload, kStep));
  }
  return 1;
}

/// What a service operation costs of the day's messages (service.md 13.3). Refused ones are free; methods and messages
/// are charged where both sides of them are known.
void charge(Shard& shard, protocol::ServiceOperation operation, size_t request_bytes, const ServiceAnswer& answer) {
  if (shard.shared().policy == nullptr || answer.status >= 300) return;
  switch (operation) {
    case protocol::ServiceOperation::get_twin:
    case protocol::ServiceOperation::query_devices:
      if (!answer.free_of_charge) shard.charge(answer.body.size());
      break;
    case protocol::ServiceOperation::patch_twin:
    case protocol::ServiceOperation::replace_twin:
    case protocol::ServiceOperation::apply_configuration:
      shard.charge(request_bytes);
      break;
    default:
      break;
  }
}

uint64_t HubCounts::*status_counter(int status) {
  if (status < 300) return &HubCounts::http_2xx;
  if (status < 400) return &HubCounts::http_3xx;
  return status < 500 ? &HubCounts::http_4xx : &HubCounts::http_5xx;
}

ServiceError route_error(const Error& error, std::string_view method, std::string_view target) {
  switch (error.code) {
    case ErrorCode::precondition_failed:
      return method_not_allowed(method, path_of(target));
    case ErrorCode::not_found:
      return path_not_found(path_of(target));
    default:
      return http_refusal(400, error.message);
  }
}

}  // namespace

HttpConnection::HttpConnection(Shard& shard, Channel channel, bool loopback)
    : Connection{shard, std::move(channel), {&HubCounts::http_bytes_in, &HubCounts::http_bytes_out}},
      parser_{http::Limits{.body_bytes_max = shard.config().max_body_bytes}},
      since_{shard.mono_now()},
      loopback_{loopback} {}

void HttpConnection::on_start() {
  shard().counts().add(&HubCounts::http_connections);
  set_deadline(due());
}

size_t HttpConnection::on_bytes(std::string_view bytes) {
  std::string& out = shard().http_scratch();
  out.clear();
  size_t taken = 0;
  while (!closing_ && !waiting_ && taken < bytes.size()) {
    if (parser_.at_message_start()) {
      since_ = shard().mono_now();
      continue_sent_ = false;
    }
    const http::FeedResult fed = parser_.feed(bytes.substr(taken));
    taken += fed.consumed;
    if (fed.status == http::ParseStatus::need_more) {
      if (parser_.header_complete() && parser_.expects_continue() && !continue_sent_) {
        http::append_continue(out);
        continue_sent_ = true;
      }
      if (taken < bytes.size() && fed.consumed > 0) continue;
      break;
    }
    if (fed.status == http::ParseStatus::error) {
      closing_ = true;  // where the next message begins is unknown
      answer(error_answer(http_refusal(parser_.error_status(), parser_.error().message), shard()), out);
      break;
    }
    closing_ = !parser_.keep_alive();
    on_request(out);
    if (upgraded_) {
      send(out);
      go_on_as_mqtt(bytes.substr(taken));
      return bytes.size();
    }
    if (waiting_) break;
    parser_.next();
    admitted_ = false;
    since_ = shard().mono_now();
    if (out.size() >= kFlushBytes) {
      send(out);
      out.clear();
      if (has_backlog()) break;
    }
  }
  send(out);
  if (waiting_ || (has_backlog() && !closing_)) {
    pause();
  } else if (closing_) {
    close_after_sending();
    return bytes.size();
  } else if (!closed() && !parser_.at_message_start()) {
    set_deadline(due());
  }
  return taken;
}

MonoTime HttpConnection::due() const {
  return since_ + (parser_.at_message_start() ? shard().config().http_idle_timeout : shard().config().connect_timeout);
}

MonoTime HttpConnection::on_deadline(MonoTime now) {
  if (waiting_) return now + shard().config().connect_timeout;
  if (due() > now) return due();
  if (parser_.at_message_start()) {
    close();
    return MonoTime::max();
  }
  closing_ = true;
  std::string out;
  answer(error_answer(http_refusal(408, "the request did not arrive in time"), shard()), out);
  send(out);
  close_after_sending();
  return MonoTime::max();
}

std::optional<ServiceAnswer> HttpConnection::own_resource() {
  const std::string_view path = path_of(parser_.target());
  if (!path.starts_with("/twinstorm/")) return std::nullopt;
  if (path != "/twinstorm/counts" && path != "/twinstorm/throttle" && path != "/twinstorm/planted" &&
      path != "/twinstorm/health") {
    return error_answer(path_not_found(path), shard());
  }
  const bool starts_tier = path == "/twinstorm/throttle" && parser_.method() == "POST";
  if (parser_.method() != "GET" && !starts_tier) {
    return error_answer(method_not_allowed(parser_.method(), path), shard());
  }
  ServiceAnswer answer;
  if (path == "/twinstorm/health") {
    answer.body = R"({"status":"serving"})";
    return answer;
  }
  if (!loopback_ || starts_tier) {
    if (auto allowed = authorize(starts_tier ? kRegistryWrite : kServiceConnect); !allowed) {
      shard().counts().add(&HubCounts::unauthorized);
      return error_answer(allowed.error(), shard());
    }
  }
  if (path == "/twinstorm/counts") {
    answer.body = to_json(shard().shared().counts());
  } else if (path == "/twinstorm/planted") {
    const PlantedFaults* faults = shard().shared().faults.get();
    answer.body = faults != nullptr ? faults->to_json() : R"({"planted":[],"forgotten":0})";
  } else if (TierPolicy* policy = shard().shared().policy.get(); policy != nullptr) {
    if (starts_tier) policy->start();
    const TierFigures figures = policy->figures(shard().wall_now());
    answer.body = to_json(&figures);
  } else {
    answer.body = to_json(nullptr);
  }
  return answer;
}

std::optional<ServiceAnswer> HttpConnection::limit(const OperationPolicy& operation, uint32_t cost) {
  if (admitted_) return std::nullopt;
  const TierPolicy::Verdict verdict = shard().admit(operation, cost);
  if (verdict.refusal) return error_answer(*verdict.refusal, shard());
  admitted_ = true;
  if (verdict.delay <= Nanos::zero()) return std::nullopt;
  ServiceAnswer later;
  later.held = {verdict.delay, operation.operation};
  return later;
}

void HttpConnection::hold(const ServiceAnswer::Held& held) {
  waiting_ = true;
  admitted_ = true;
  held_ = held.operation;
  shard().wake(id(), shard().mono_now() + held.delay);
}

void HttpConnection::on_wake(MonoTime) {
  if (!held_) return;
  const OperationClass operation = *std::exchange(held_, std::nullopt);
  if (peer_has_left()) {
    shard().abandon(operation);
    close();
    return;
  }
  waiting_ = false;
  std::string out;
  on_request(out);
  if (!waiting_) end_request(out);
}

ServiceResult<void> HttpConnection::authorize(const Requirement& needed) {
  const std::string_view text = parser_.header("authorization").value_or(std::string_view{});
  const WallTime now = shard().wall_now();
  if (text.empty() || text != granted_text_ || now >= grant_.expires || !grant_.whole_hub) {
    granted_text_.clear();
    const auto path = protocol::percent_decode(path_of(parser_.target()));
    if (!path) return http_refusal(400, path.error().message);
    const auto grant = shard().shared().access->check_service(text, *path, now);
    if (!grant) return grant.error();
    grant_ = *grant;
    granted_text_ = text;
  }
  return grant_.check(needed, parser_.method(), path_of(parser_.target()));
}

template <class Work>
void HttpConnection::answer_from(Shard& owner, Work work, std::string& out) {
  if (&owner == &shard()) {
    answer(work(owner), out);
    return;
  }
  waiting_ = true;
  owner.post([&owner, &origin = shard(), id = id(), work = std::move(work)] {
    origin.post([&origin, id, answer = work(owner)] {
      if (Connection* connection = origin.find(id)) static_cast<HttpConnection*>(connection)->answer_later(answer);
    });
  });
}

protocol::MessageProperties HttpConnection::message_properties() const {
  protocol::MessageProperties properties;
  for (const http::Header& header : parser_.headers()) {
    protocol::take_message_header(properties, header.name, header.value);
  }
  return properties;
}

bool HttpConnection::on_device_request(std::string& out) {
  if (!parser_.target().starts_with("/devices/")) return false;
  auto route = protocol::parse_device_route(parser_.method(), parser_.target());
  if (!route) {
    if (route.error().code == ErrorCode::not_found) return false;
    answer(error_answer(route_error(route.error(), parser_.method(), parser_.target()), shard()), out);
    return true;
  }
  DeviceCall call;
  call.route = std::move(*route);
  call.authorization = parser_.header("authorization").value_or(std::string_view{});
  if (const net::PeerCertificate* certificate = peer_certificate()) call.certificate = *certificate;
  call.if_match = copy(parser_.header("if-match"));
  call.content_type = parser_.header("content-type").value_or(std::string_view{});
  if (call.route.operation == protocol::DeviceOperation::send_events) call.properties = message_properties();
  call.body = parser_.body();
  call.admitted = admitted_;
  Shard& owner = shard().shared().owner_of(call.route.device_id);
  answer_from(
      owner, [call = std::move(call)](Shard& place) { return serve_device_api(call, place); }, out);
  return true;
}

bool HttpConnection::on_extension_request(std::string& out) {
  if (!parser_.target().starts_with("/twinstorm/devices/")) return false;
  auto route = protocol::parse_extension_route(parser_.method(), parser_.target());
  if (!route) {
    answer(error_answer(route_error(route.error(), parser_.method(), parser_.target()), shard()), out);
    return true;
  }
  if (auto allowed = authorize(kServiceConnect); !allowed) {
    shard().counts().add(&HubCounts::unauthorized);
    answer(error_answer(allowed.error(), shard()), out);
    return true;
  }
  if (shard().shared().policy != nullptr && route->operation == protocol::ExtensionOperation::enqueue_message) {
    if (const auto instead = limit(kMessageSend, 1)) {
      if (!instead->held) shard().counts().add(&HubCounts::c2d_refused);
      answer(*instead, out);
      return true;
    }
  }
  ExtensionCall call{std::move(*route), message_properties(), std::string{parser_.body()}};
  Shard& owner = shard().shared().owner_of(call.route.device_id);
  answer_from(
      owner, [call = std::move(call)](Shard& place) { return serve_extension(call, place); }, out);
  return true;
}

void HttpConnection::on_request(std::string& out) {
  if (parser_.method() == "HEAD") {  // its answer must not have a body, ours always do
    ServiceAnswer refusal;
    refusal.status = 405;
    refusal.error_name = "OperationNotAllowedInCurrentState";
    answer(refusal, out);
    return;
  }
  if (path_of(parser_.target()) == ws::kIotHubPath) {
    upgrade(out);
    return;
  }
  if (on_extension_request(out) || on_device_request(out)) return;
  if (auto own = own_resource()) {
    answer(*own, out);
    return;
  }
  auto route = protocol::parse_service_route(parser_.method(), parser_.target());
  if (!route) {
    answer(error_answer(route_error(route.error(), parser_.method(), parser_.target()), shard()), out);
    return;
  }
  const protocol::ServiceOperation operation = route->operation;
  if (auto allowed = authorize(requirement_of(operation)); !allowed) {
    count_refusal(shard().counts(), operation, allowed.error().status);
    answer(error_answer(allowed.error(), shard()), out);
    return;
  }
  if (const auto version = route->api_version(); !version || !protocol::is_known_api_version(*version)) {
    count_refusal(shard().counts(), operation, 400);
    answer(error_answer(invalid_protocol_version(version), shard()), out);
    return;
  }
  if (shard().shared().policy != nullptr) {
    if (const auto limits = policy_of(operation)) {
      if (const auto instead = limit(*limits, cost_of(operation, parser_.body()))) {
        if (!instead->held) count_refusal(shard().counts(), operation, instead->status);
        answer(*instead, out);
        return;
      }
    }
  }
  ServiceCall call;
  call.route = std::move(*route);
  call.by_role = grant_.by_role;
  call.if_match = copy(parser_.header("if-match"));
  call.body = parser_.body();
  if (concerns_one_device(operation)) {
    Shard& owner = shard().shared().owner_of(call.route.device_id);
    answer_from(
        owner,
        [call = std::move(call)](Shard& place) {
          ServiceAnswer done = serve_device(call, place);
          charge(place, call.route.operation, call.body.size(), done);
          return done;
        },
        out);
    return;
  }
  call.max_item_count = copy(parser_.header("x-ms-max-item-count"));
  call.continuation = copy(parser_.header("x-ms-continuation"));
  call.wanted = [id = id(), &origin = shard()] {
    Connection* const connection = origin.find(id);
    return connection != nullptr && !static_cast<HttpConnection*>(connection)->peer_has_left();
  };
  struct Pending {
    bool inside = true;
    std::optional<ServiceAnswer> answer;
  };
  const auto pending = std::make_shared<Pending>();
  const auto serve = concerns_messages(operation) ? serve_messages : serve_hub;
  const size_t request_bytes = call.body.size();
  serve(std::move(call), shard(),
        [pending, id = id(), &origin = shard(), operation, request_bytes](ServiceAnswer done) {
          charge(origin, operation, request_bytes, done);
          if (pending->inside) {  // one shard: the answer comes before serve_hub returns
            pending->answer = std::move(done);
          } else if (Connection* connection = origin.find(id)) {
            static_cast<HttpConnection*>(connection)->answer_later(done);
          }
        });
  pending->inside = false;
  if (pending->answer && !pending->answer->abandoned) {
    answer(*pending->answer, out);
  } else if (pending->answer) {
    closing_ = true;
  } else {
    waiting_ = true;
  }
}

void HttpConnection::upgrade(std::string& out) {
  const auto header = [&](std::string_view name) { return parser_.header(name).value_or(std::string_view{}); };
  const auto accept = ws::check_upgrade_request({.method = parser_.method(),
                                                 .upgrade = header("upgrade"),
                                                 .connection = header("connection"),
                                                 .version = header("sec-websocket-version"),
                                                 .key = header("sec-websocket-key"),
                                                 .subprotocols = header("sec-websocket-protocol")});
  if (!accept) {
    const bool other_version = accept.error().code == ErrorCode::precondition_failed;
    ServiceAnswer refusal = error_answer(http_refusal(other_version ? 426 : 400, accept.error().message), shard());
    if (other_version) {
      refusal.headers.emplace_back("Upgrade", "websocket");
      refusal.headers.emplace_back("Sec-WebSocket-Version", "13");
    }
    answer(refusal, out);
    return;
  }
  ws::append_upgrade_response(out, *accept);
  upgraded_ = true;
}

void HttpConnection::go_on_as_mqtt(std::string_view frames) {
  if (closed()) return;
  auto parked = release();
  if (!parked) {
    close();
    return;
  }
  Channel channel = std::move(*parked).revive(shard().io());
  // A message may hold many packets, each of which has its own limit.
  constexpr size_t kPacketsPerMessage = 4;
  channel.websocket = std::make_unique<WebSocket>(static_cast<uint32_t>(
      std::min<size_t>(shard().config().max_message_bytes * kPacketsPerMessage, ws::kMessageMaxDefault)));
  channel.websocket->pending = frames;
  shard().counts().add(&HubCounts::websocket_upgrades);
  shard().adopt(std::make_unique<MqttConnection>(shard(), std::move(channel)));
}

void HttpConnection::answer(const ServiceAnswer& answer, std::string& out) {
  if (answer.held) {
    hold(*answer.held);
    return;
  }
  if (answer.error_name == kThrottledName) closing_ = true;  // service.md 13.2
  constexpr size_t kOwnHeadersMax = 8;
  std::array<http::Header, kOwnHeadersMax> own;
  std::vector<http::Header> more;
  size_t count = 0;
  const std::string request_id = shard().make_uuid();
  if (!answer.content_type.empty()) {
    own[count++] = {"Content-Type", answer.content_type};
  } else if (!answer.body.empty()) {
    own[count++] = {"Content-Type", "application/json; charset=utf-8"};
  }
  own[count++] = {"Date", shard().http_date()};
  own[count++] = {"x-ms-request-id", request_id};
  if (!answer.etag.empty()) own[count++] = {"ETag", answer.etag};
  if (!answer.error_name.empty()) own[count++] = {"iothub-errorcode", answer.error_name};
  if (!answer.item_type.empty()) own[count++] = {"x-ms-item-type", answer.item_type};
  if (!answer.continuation.empty()) own[count++] = {"x-ms-continuation", answer.continuation};
  if (closing_) own[count++] = {"Connection", "close"};
  std::span<const http::Header> headers{own.data(), count};
  if (!answer.headers.empty()) {
    more.assign(headers.begin(), headers.end());
    for (const auto& [name, value] : answer.headers) more.push_back({name, value});
    headers = more;
  }
  http::append_response(out, answer.status, headers, answer.body);
  shard().counts().add(&HubCounts::http_requests);
  shard().counts().add(status_counter(answer.status));
}

void HttpConnection::answer_later(const ServiceAnswer& late) {
  waiting_ = false;
  if (late.abandoned) {
    close();
    return;
  }
  std::string out;
  answer(late, out);
  if (!waiting_) end_request(out);
}

void HttpConnection::end_request(std::string_view out) {
  send(out);
  if (closing_) {
    close_after_sending();
    return;
  }
  parser_.next();
  admitted_ = false;
  since_ = shard().mono_now();
  if (!has_backlog()) resume();
}

}  // namespace twinstorm::hub
