#include "sim/backend/backend_pool.hpp"

#include <array>

#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;
using metrics::OpKind;
using metrics::OpOutcome;

namespace {

constexpr uint32_t kNone = Slab<int>::kNone;

ErrorClass error_of(int status) {
  switch (status) {
    case 401:
    case 403:
      return ErrorClass::unauthorized;
    case 404:
      return ErrorClass::not_found;
    case 412:
      return ErrorClass::precondition_failed;
    case 413:
      return ErrorClass::too_large;
    case 429:
      return ErrorClass::throttled;
    default:
      return status >= 500 ? ErrorClass::server_error : ErrorClass::bad_request;
  }
}

bool changes_desired(OpKind op) { return op == OpKind::patch_desired || op == OpKind::replace_twin; }

}  // namespace

uint32_t BackendPool::timers_needed(const Config& config) {
  return config.operations_max * static_cast<uint32_t>(config.backends.size());
}

BackendPool::BackendPool(Config config, ServiceAccess access, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer,
                         const Clock& clock, metrics::ShardRecorder& recorder, BackendObserver& observer)
    : config_{std::move(config)},
      access_{std::move(access)},
      io_{io},
      clock_{clock},
      recorder_{recorder},
      observer_{observer},
      operations_{config_.operations_max * static_cast<uint32_t>(config_.backends.size())},
      etags_(config_.backends.size()) {
  uint32_t timer = first_timer;
  for (size_t i = 0; i < config_.backends.size(); ++i) {
    const auto& behavior = *config_.backends[i];
    HttpClient::Config client{config_.endpoint, access_.host_name(), behavior.connections, config_.operations_max};
    if (behavior.tls) {
      client.endpoint = config_.tls_endpoint;
      client.tls = config_.tls;
      client.server_name = config_.server_name;
    }
    HttpEvents& events = *this;
    clients_.push_back(std::make_unique<HttpClient>(client, io, wheel, timer, clock, events));
    timer += config_.operations_max;
    timer_ends_.push_back(timer);
    if (behavior.if_match_last_seen) etags_[i].resize(config_.devices);
  }
}

BackendPool::~BackendPool() = default;

void BackendPool::start(uint32_t backend, metrics::PhaseIndex phase, MonoTime due, uint64_t n, uint32_t device,
                        std::string_view device_id, FollowId follow) {
  const auto& behavior = *config_.backends[backend];
  const uint32_t index = operations_.take();
  if (index == kNone) {
    recorder_.dropped(behavior.stream, phase, ErrorClass::backlog_full);
    if (changes_desired(behavior.op)) observer_.on_patch_failed(follow, device, {}, false);
    if (on_operation_ended) on_operation_ended(behavior.stream, phase);
    return;
  }
  auto& operation = operations_[index];
  operation.due = due;
  operation.follow = follow;
  operation.backend = backend;
  operation.device = device;
  operation.phase = static_cast<uint16_t>(phase);
  // The generator's own lateness ends here; a wait for a connection is the hub's.
  recorder_.schedule_lag(phase, clock_.mono() - due);

  if (behavior.op == OpKind::query) {
    if (!submit_query(index, {})) end(index, OpOutcome::dropped, ErrorClass::backlog_full, false);
    return;
  }
  Rng rng{config_.seed, behavior.name, (uint64_t{phase} << 48) + n};
  body_.clear();
  if (behavior.op != OpKind::backend_get_twin) {
    body_ += '{';
    if (behavior.tags) {
      body_ += "\"tags\":";
      behavior.tags(rng, n, body_);
    }
    if (changes_desired(behavior.op)) {
      operation.desired = io_.blocks.take();
      if (behavior.desired) {
        behavior.desired(rng, n, *operation.desired);
      } else {
        *operation.desired += "{}";
      }
      if (body_.size() > 1) body_ += ',';
      body_ += "\"properties\":{\"desired\":";
      body_ += *operation.desired;
      body_ += '}';
    }
    body_ += '}';
  }
  target_.clear();
  protocol::service_target::append_twin(target_, device_id);
  if_match_ = "\"*\"";
  if (behavior.if_match_last_seen && !etags_[backend][device].empty()) {
    if_match_ = '"' + etags_[backend][device] + '"';
  }
  const std::array<http::Header, 3> headers{http::Header{"Authorization", access_.authorization(clock_.wall())},
                                            http::Header{"Content-Type", "application/json; charset=utf-8"},
                                            http::Header{"If-Match", if_match_}};
  std::string_view method = "PATCH";
  size_t header_count = 3;
  if (behavior.op == OpKind::replace_twin) method = "PUT";
  if (behavior.op == OpKind::backend_get_twin) {
    method = "GET";
    header_count = 1;
  }
  const std::span<const http::Header> used{headers.data(), header_count};
  if (!clients_[backend]->submit(index, due + behavior.timeout, method, target_, used, body_)) {
    end(index, OpOutcome::dropped, ErrorClass::backlog_full, false);
  }
}

bool BackendPool::submit_query(uint32_t index, std::string_view continuation) {
  const auto& operation = operations_[index];
  const auto& behavior = *config_.backends[operation.backend];
  body_ = "{\"query\":";
  twin::write_string(behavior.query, body_);
  body_ += '}';
  page_size_ = std::to_string(behavior.page_size);
  const std::array<http::Header, 4> headers{http::Header{"Authorization", access_.authorization(clock_.wall())},
                                            http::Header{"Content-Type", "application/json; charset=utf-8"},
                                            http::Header{"x-ms-max-item-count", page_size_},
                                            http::Header{"x-ms-continuation", continuation}};
  const std::span<const http::Header> used{headers.data(), continuation.empty() ? size_t{3} : size_t{4}};
  const MonoTime deadline = operation.first_page ? operation.due + behavior.timeout : clock_.mono() + behavior.timeout;
  return clients_[operation.backend]->submit(index, deadline, "POST", protocol::service_target::query(), used, body_);
}

void BackendPool::on_http_sent(uint64_t tag, MonoTime at) {
  const auto index = static_cast<uint32_t>(tag);
  auto& operation = operations_[index];
  if (operation.was_sent) return;  // a further page
  operation.was_sent = true;
  operation.sent = at;
  const auto& behavior = *config_.backends[operation.backend];
  recorder_.sent(behavior.stream, operation.phase);
  if (changes_desired(behavior.op)) observer_.on_patch_sent(operation.follow, at);
}

void BackendPool::on_http_answer(uint64_t tag, const HttpAnswer& answer) {
  const auto index = static_cast<uint32_t>(tag);
  auto& operation = operations_[index];
  const auto& behavior = *config_.backends[operation.backend];
  if (answer.status != 200) {
    // The twin has moved on: the next operation is unconditional and learns the new ETag, instead of failing for ever.
    if (answer.status == 412 && behavior.if_match_last_seen) etags_[operation.backend][operation.device].clear();
    end(index, OpOutcome::failed, error_of(answer.status), false);
    return;
  }
  if (behavior.op == OpKind::query) {
    ++pages_answered_;
    const auto continuation = answer.header("x-ms-continuation");
    if (behavior.all_pages && continuation && !continuation->empty()) {
      operation.first_page = false;
      if (!submit_query(index, *continuation)) end(index, OpOutcome::failed, ErrorClass::backlog_full, false);
      return;
    }
  } else if (behavior.if_match_last_seen) {
    remember_etag(operation.backend, operation.device, answer.body);
  }
  if (changes_desired(behavior.op)) {
    const auto properties = protocol::find_member(answer.body, "properties");
    const auto desired = properties ? protocol::find_member(*properties, "desired") : std::nullopt;
    const auto version = desired ? protocol::find_integer(*desired, "$version") : std::nullopt;
    if (!version) {
      end(index, OpOutcome::failed, ErrorClass::protocol, true);
      return;
    }
    if (behavior.tags) ++tags_with_desired_;
    observer_.on_patch_accepted(operation.follow, operation.device, *version, *operation.desired,
                                behavior.op == OpKind::replace_twin, clock_.mono());
  }
  end(index, OpOutcome::acknowledged, ErrorClass::kCount, false);
}

void BackendPool::on_http_failed(uint64_t tag, HttpFailure failure) {
  const auto index = static_cast<uint32_t>(tag);
  switch (failure) {
    case HttpFailure::not_sent:
      // All connections were waiting for the hub until the deadline: the hub was too slow, not the generator. Nothing
      // of it was sent, so its fate is known.
      if (!operations_[index].was_sent) on_http_sent(tag, clock_.mono());
      return end(index, OpOutcome::timed_out, ErrorClass::timeout, false);
    case HttpFailure::refused:
    case HttpFailure::tls: {
      // It reached the point of being sent and the hub would not have it: that is the hub's failure, not the
      // generator's.
      if (!operations_[index].was_sent) on_http_sent(tag, clock_.mono());
      return end(index, OpOutcome::failed, ErrorClass::refused, false);
    }
    case HttpFailure::disconnected:
      return end(index, OpOutcome::failed, ErrorClass::disconnected, true);
    case HttpFailure::protocol:
      return end(index, OpOutcome::failed, ErrorClass::protocol, true);
    case HttpFailure::timed_out:
      return end(index, OpOutcome::timed_out, ErrorClass::timeout, true);
  }
}

void BackendPool::end(uint32_t index, OpOutcome outcome, ErrorClass error, bool unknown) {
  auto& operation = operations_[index];
  const auto& behavior = *config_.backends[operation.backend];
  const MonoTime now = clock_.mono();
  const Nanos intended = now - operation.due;
  switch (outcome) {
    case OpOutcome::acknowledged:
      recorder_.acknowledged(behavior.stream, operation.phase, intended, now - operation.sent);
      break;
    case OpOutcome::timed_out:
      recorder_.timed_out(behavior.stream, operation.phase, intended);
      break;
    case OpOutcome::dropped:
      recorder_.dropped(behavior.stream, operation.phase, error);
      break;
    default:
      recorder_.failed(behavior.stream, operation.phase, error, intended);
      break;
  }
  if (changes_desired(behavior.op) && outcome != OpOutcome::acknowledged) {
    observer_.on_patch_failed(operation.follow, operation.device,
                              operation.desired ? *operation.desired : std::string_view{}, unknown);
  }
  io_.blocks.give_back(std::move(operation.desired));
  const metrics::PhaseIndex phase = operation.phase;
  operations_.release(index);
  if (on_operation_ended) on_operation_ended(behavior.stream, phase);
}

void BackendPool::remember_etag(uint32_t backend, uint32_t device, std::string_view body) {
  if (const auto etag = protocol::find_plain_string(body, "etag")) etags_[backend][device] = *etag;
}

void BackendPool::on_timer(uint32_t timer) {
  for (size_t i = 0; i < clients_.size(); ++i) {
    if (timer < timer_ends_[i]) return clients_[i]->on_timer(timer);
  }
}

void BackendPool::close() {
  for (const auto& client : clients_) client->close();
  for (uint32_t index = 0; index < operations_.capacity(); ++index) {
    if (!operations_.taken(index)) continue;
    auto& operation = operations_[index];
    if (operation.desired != nullptr) {
      observer_.on_patch_failed(operation.follow, operation.device, *operation.desired, operation.was_sent);
      io_.blocks.give_back(std::move(operation.desired));
    }
    operations_.release(index);
  }
}

}  // namespace twinstorm::backend
