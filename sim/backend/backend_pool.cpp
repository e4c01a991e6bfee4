#include "sim/backend/backend_pool.hpp"

#include <algorithm>
#include <array>

#include "sim/base/assert.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;
using metrics::OpOutcome;

namespace {

constexpr uint32_t kNone = Slab<int>::kNone;

bool has_probe(const BackendBehavior& behavior) { return behavior.staleness.share > 0; }

}  // namespace

// Timers: the deadlines of each client's requests, then one wait of each operation, then those of the probes.
uint32_t BackendPool::timers_needed(const Config& config) {
  uint32_t timers = 2 * config.operations_max * static_cast<uint32_t>(config.backends.size());
  for (const auto* behavior : config.backends) timers += has_probe(*behavior) ? StalenessProbe::kTimers : 0;
  return timers;
}

BackendPool::BackendPool(Config config, ServiceAccess access, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer,
                         const Clock& clock, metrics::ShardRecorder& recorder, BackendObserver& observer)
    : config_{std::move(config)},
      access_{std::move(access)},
      io_{io},
      wheel_{wheel},
      first_timer_{first_timer},
      clock_{clock},
      recorder_{recorder},
      observer_{observer},
      context_{
          config_.seed,       config_.shard, config_.shards, config_.devices, config_.run_tag, config_.append_device_id,
          config_.device_key, recorder,      observer,       io.blocks,       clock,           books_},
      operations_{config_.operations_max * static_cast<uint32_t>(config_.backends.size())},
      first_wait_timer_{first_timer + operations_.capacity()},
      first_probe_timer_{first_wait_timer_ + operations_.capacity()} {
  for (const auto* behavior : config_.backends) {
    created_.push_back(behavior->makes_devices() ? std::make_unique<CreatedDevices>(config_.shard, config_.shards)
                                                 : nullptr);
  }
  HttpEvents& events = *this;
  uint32_t request_timer = first_timer, probe_timer = first_probe_timer_;
  for (size_t i = 0; i < config_.backends.size(); ++i) {
    const auto& behavior = *config_.backends[i];
    Lane lane;
    lane.behavior = &behavior;
    lane.client = std::make_unique<HttpClient>(client_config(behavior, behavior.connections, config_.operations_max),
                                               io, wheel, request_timer, clock, events);
    request_timer += config_.operations_max;
    if (has_probe(behavior)) {
      lane.probe = std::make_unique<StalenessProbe>(behavior, client_config(behavior, 1, 1), access_, io, wheel,
                                                    probe_timer, clock, recorder, books_, config_.append_device_id);
      probe_timer += StalenessProbe::kTimers;
    }
    auto* created = (behavior.makes_devices() ? created_[i] : created_[behavior.creator]).get();
    lane.procedure = make_procedure(behavior, context_, created, lane.probe.get());
    lanes_.push_back(std::move(lane));
  }
}

BackendPool::~BackendPool() = default;

HttpClient::Config BackendPool::client_config(const BackendBehavior& behavior, uint32_t connections,
                                              uint32_t requests) const {
  HttpClient::Config client{config_.endpoint, access_.host_name(), connections, requests};
  if (behavior.tls) {
    client.endpoint = config_.tls_endpoint;
    client.tls = config_.tls;
    client.server_name = config_.server_name;
  }
  return client;
}

void BackendPool::start(uint32_t backend, metrics::PhaseIndex phase, MonoTime due, uint64_t n, uint32_t device,
                        FollowId follow) {
  auto& lane = lanes_[backend];
  const uint32_t index = lane.open < config_.operations_max ? operations_.take() : kNone;
  if (index == kNone) {
    recorder_.dropped(lane.behavior->stream, phase, ErrorClass::backlog_full);
    if (lane.behavior->changes_desired()) observer_.on_patch_failed(follow, device, {}, false);
    if (on_operation_ended) on_operation_ended(lane.behavior->stream, phase);
    return;
  }
  ++lane.open;
  auto& operation = operations_[index];
  operation.due = due;
  operation.deadline = due + lane.behavior->timeout;
  operation.n = n;
  operation.follow = follow;
  operation.backend = backend;
  operation.device = device;
  operation.phase = static_cast<uint16_t>(phase);
  // The generator's own lateness ends here; a wait for a connection is the hub's.
  recorder_.schedule_lag(phase, clock_.mono() - due);
  if (const auto why_not = lane.procedure->begin(operation)) return end(index, OpOutcome::dropped, *why_not, false);
  submit(index);
}

void BackendPool::submit(uint32_t index) {
  auto& operation = operations_[index];
  auto& lane = lane_of(index);
  request_.clear();
  lane.procedure->compose(operation, request_);
  operation.request_sent = false;
  std::array<http::Header, 5> headers;
  size_t count = 0;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!value.empty()) headers[count++] = {name, value};
  };
  add("Authorization", access_.authorization(clock_.wall()));
  if (!request_.body.empty()) add("Content-Type", "application/json; charset=utf-8");
  add("If-Match", request_.if_match);
  add("x-ms-max-item-count", request_.max_item_count);
  add("x-ms-continuation", request_.continuation);
  const std::span<const http::Header> used{headers.data(), count};
  // An operation has at most one request, so there is always room for it.
  const bool taken =
      lane.client->submit(index, operation.deadline, request_.method, request_.target, used, request_.body);
  TS_ASSERT(taken);
}

void BackendPool::on_http_sent(uint64_t tag, MonoTime at) {
  const auto index = static_cast<uint32_t>(tag);
  auto& operation = operations_[index];
  operation.request_sent = true;
  lane_of(index).procedure->sent(operation, at);
  if (operation.was_sent) return;  // a further request
  operation.was_sent = true;
  operation.sent = at;
  recorder_.sent(lane_of(index).behavior->stream, operation.phase);
}

void BackendPool::on_http_answer(uint64_t tag, const HttpAnswer& answer) {
  const auto index = static_cast<uint32_t>(tag);
  auto& operation = operations_[index];
  auto& procedure = *lane_of(index).procedure;
  if (answer.status >= 200 && answer.status < 300) {
    const auto counted = procedure.counted(operation);
    books_.answered(counted.count, counted.amount);
  }
  operation.request_sent = false;
  go_on(index, procedure.answered(operation, answer));
}

void BackendPool::go_on(uint32_t index, const Next& next) {
  auto& operation = operations_[index];
  const MonoTime now = clock_.mono();
  switch (next.kind) {
    case Next::Kind::done:
      return end(index, OpOutcome::acknowledged, ErrorClass::kCount, false);
    case Next::Kind::failed:
      return end(index, OpOutcome::failed, next.error, next.unknown);
    case Next::Kind::timed_out:
      return end(index, OpOutcome::timed_out, ErrorClass::timeout, next.unknown);
    case Next::Kind::again:
      if (next.fresh_deadline) operation.deadline = now + lane_of(index).behavior->timeout;
      if (next.wait > Nanos{0})
        return wheel_.arm(first_wait_timer_ + index, std::min(now + next.wait, operation.deadline));
      return submit(index);
  }
}

void BackendPool::on_wait_over(uint32_t index) {
  if (clock_.mono() >= operations_[index].deadline) {
    return end(index, OpOutcome::timed_out, ErrorClass::timeout, false);
  }
  submit(index);
}

void BackendPool::on_http_failed(uint64_t tag, HttpFailure failure) {
  const auto index = static_cast<uint32_t>(tag);
  auto& operation = operations_[index];
  auto& procedure = *lane_of(index).procedure;
  const bool in_time = failure != HttpFailure::timed_out && failure != HttpFailure::not_sent;
  // It reached the point of being sent and the hub would not have it, or all connections waited for the hub until the
  // deadline: that is the hub's failure, not the generator's. Nothing of it was sent, so its fate is known.
  const bool arrived = operation.request_sent;
  if (!arrived) {
    if (!operation.was_sent) on_http_sent(tag, clock_.mono());
  } else {
    const auto counted = procedure.counted(operation);
    books_.unknown(counted.count, counted.amount);
  }
  operation.request_sent = false;
  if (in_time) {
    if (const auto next = procedure.unanswered(operation)) return go_on(index, *next);
  }
  const bool unknown = arrived && procedure.changes(operation);
  switch (failure) {
    case HttpFailure::not_sent:
    case HttpFailure::timed_out:
      return end(index, OpOutcome::timed_out, ErrorClass::timeout, unknown);
    case HttpFailure::refused:
    case HttpFailure::tls:
      return end(index, OpOutcome::failed, ErrorClass::refused, unknown);
    case HttpFailure::disconnected:
      return end(index, OpOutcome::failed, ErrorClass::disconnected, unknown);
    case HttpFailure::protocol:
      return end(index, OpOutcome::failed, ErrorClass::protocol, unknown);
  }
}

void BackendPool::end(uint32_t index, OpOutcome outcome, ErrorClass error, bool unknown) {
  auto& operation = operations_[index];
  auto& lane = lane_of(index);
  const metrics::StreamIndex stream = lane.behavior->stream;
  const metrics::PhaseIndex phase = operation.phase;
  const MonoTime now = clock_.mono();
  const Nanos intended = now - operation.due;
  switch (outcome) {
    case OpOutcome::acknowledged:
      recorder_.acknowledged(stream, phase, intended, now - operation.sent);
      break;
    case OpOutcome::timed_out:
      recorder_.timed_out(stream, phase, intended);
      break;
    case OpOutcome::dropped:
      recorder_.dropped(stream, phase, error);
      break;
    default:
      recorder_.failed(stream, phase, error, intended);
      break;
  }
  lane.procedure->ended(operation, outcome, unknown);
  release(index);
  if (on_operation_ended) on_operation_ended(stream, phase);
}

void BackendPool::release(uint32_t index) {
  --lane_of(index).open;
  io_.blocks.give_back(std::move(operations_[index].text));
  operations_.release(index);
}

uint32_t BackendPool::in_flight() const {
  uint32_t sent = 0;
  for (uint32_t index = 0; index < operations_.capacity(); ++index) {
    if (operations_.taken(index) && operations_[index].was_sent) ++sent;
  }
  return sent;
}

uint32_t BackendPool::probes_open() const {
  uint32_t sum = 0;
  for (const auto& lane : lanes_) sum += lane.probe ? lane.probe->open() : 0;
  return sum;
}

void BackendPool::on_timer(uint32_t timer) {
  if (timer >= first_probe_timer_) {
    for (const auto& lane : lanes_) {
      if (lane.probe && lane.probe->owns_timer(timer)) return lane.probe->on_timer(timer);
    }
  }
  if (timer >= first_wait_timer_) return on_wait_over(timer - first_wait_timer_);
  lanes_[(timer - first_timer_) / config_.operations_max].client->on_timer(timer);
}

void BackendPool::close() {
  for (const auto& lane : lanes_) {
    lane.client->close();
    if (lane.probe) lane.probe->close();
  }
  for (uint32_t index = 0; index < operations_.capacity(); ++index) {
    if (!operations_.taken(index)) continue;
    wheel_.cancel(first_wait_timer_ + index);
    auto& operation = operations_[index];
    auto& procedure = *lane_of(index).procedure;
    if (operation.request_sent) {
      const auto counted = procedure.counted(operation);
      books_.unknown(counted.count, counted.amount);
    }
    procedure.ended(operation, OpOutcome::failed, operation.request_sent && procedure.changes(operation));
    release(index);
  }
}

}  // namespace twinstorm::backend
