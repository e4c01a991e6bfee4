#include "sim/device/device_pool.hpp"

#include <algorithm>
#include <tuple>

#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"
#include "sim/transport/paho/paho_transport.hpp"

namespace twinstorm::device {

using metrics::ErrorClass;
using metrics::OpOutcome;
using metrics::ReconnectReason;
using transport::ConnectRefusal;
using transport::DisconnectReason;
using transport::Sent;

namespace {

constexpr uint32_t kRequestIndexBits = 20;  // $rid = generation above, slab index below
constexpr uint32_t kRequestIndexMask = (1u << kRequestIndexBits) - 1;
constexpr uint8_t kRefetchMax = 5;
constexpr int64_t kDesiredTwinTooLarge = 403100;

ErrorClass error_of(ConnectRefusal refusal) {
  switch (refusal) {
    case ConnectRefusal::unauthorized:
      return ErrorClass::unauthorized;
    case ConnectRefusal::protocol:
      return ErrorClass::protocol;
    case ConnectRefusal::closed:
      return ErrorClass::disconnected;
    case ConnectRefusal::unavailable:
      return ErrorClass::throttled;
    case ConnectRefusal::unreachable:
    case ConnectRefusal::rejected:
    case ConnectRefusal::untrusted:
    case ConnectRefusal::handshake:
    case ConnectRefusal::upgrade:
      return ErrorClass::refused;
  }
  return ErrorClass::refused;
}

ErrorClass error_of(const transport::TwinResponse& response) {
  const int status = response.status;
  if (status == 404) return ErrorClass::not_found;
  if (status == 412) return ErrorClass::precondition_failed;
  if (status == 413) return ErrorClass::too_large;
  if (status == 429) return ErrorClass::throttled;
  if (status == 403 && protocol::find_integer(response.body, "errorCode") == kDesiredTwinTooLarge) {
    return ErrorClass::too_large;
  }
  if (status == 401 || status == 403) return ErrorClass::unauthorized;
  if (status >= 500) return ErrorClass::server_error;
  return ErrorClass::bad_request;
}

ReconnectReason reason_of(DisconnectReason reason) {
  switch (reason) {
    case DisconnectReason::hub_closed:
      return ReconnectReason::hub_closed;
    case DisconnectReason::keep_alive:
      return ReconnectReason::keep_alive;
    case DisconnectReason::protocol:
      return ReconnectReason::protocol;
    case DisconnectReason::io:
      return ReconnectReason::io;
  }
  return ReconnectReason::io;
}

/// The members of a desired section or patch without `$version` and `$metadata`, as an object; empty when none is left.
void append_properties(std::string& out, std::string_view desired) {
  const size_t start = out.size();
  out += '{';
  protocol::for_each_member(desired, [&](std::string_view key, std::string_view value) {
    if (key.starts_with('$')) return;
    if (out.size() > start + 1) out += ',';
    out += '"';
    out += key;
    out += "\":";
    out += value;
  });
  out += '}';
  if (out.size() == start + 2) out.resize(start);
}

/// `{"climate":{"hvac":<value>}}` for the path `climate.hvac`.
void append_wrapped(std::string& out, std::string_view path, std::string_view value) {
  size_t depth = 0;
  while (!path.empty()) {
    const auto dot = path.find('.');
    out += "{\"";
    out += path.substr(0, dot);
    out += "\":";
    ++depth;
    path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
  }
  out += value;
  out.append(depth, '}');
}

}  // namespace

uint32_t DevicePool::timers_needed(const Config& config) {
  return static_cast<uint32_t>(config.devices.size()) * 2 + config.requests_max + config.tasks_max;
}

DevicePool::DevicePool(Config config, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer, const Clock& clock,
                       metrics::ShardRecorder& recorder, FleetObserver& observer)
    : config_{std::move(config)},
      io_{io},
      wheel_{wheel},
      clock_{clock},
      recorder_{recorder},
      observer_{observer},
      life_timers_{first_timer},
      telemetry_timers_{life_timers_ + static_cast<uint32_t>(config_.devices.size())},
      request_timers_{telemetry_timers_ + static_cast<uint32_t>(config_.devices.size())},
      task_timers_{request_timers_ + config_.requests_max},
      origin_{clock.mono()},
      periodic_from_{origin_},
      hot_(config_.devices.size()),
      requests_(config_.requests_max),
      tasks_(config_.tasks_max) {
  TS_ASSERT(config_.requests_max <= kRequestIndexMask);
  TS_ASSERT(config_.targets.size() == config_.fleets.size());
  uint32_t largest_payload = 0;
  for (const auto* each : config_.fleets) largest_payload = std::max(largest_payload, each->telemetry.size);
  telemetry_body_.assign(largest_payload, 'x');
  for (LocalDevice device = 0; device < hot_.size(); ++device) {
    hot_[device].fleet = config_.fleet_of[device];
    hot_[device].rng = Rng(config_.seed, "device", config_.devices[device]).state();
  }
  counts_.offline = size();
  recorder_.set_devices(counts_);
}

DevicePool::~DevicePool() = default;

uint32_t DevicePool::connects_open() const {
  return static_cast<uint32_t>(
      std::count_if(hot_.begin(), hot_.end(), [](const Hot& hot) { return hot.connect_counted; }));
}

void DevicePool::append_device_id(LocalDevice device, std::string& out) const {
  fleet(device).append_device_id(out, index_in_fleet(device));
}

void DevicePool::set_state(LocalDevice device, DeviceState state) {
  const auto count_of = [this](DeviceState s) -> uint32_t& {
    if (s == DeviceState::offline) return counts_.offline;
    if (s == DeviceState::waiting) return counts_.waiting;
    if (s == DeviceState::online) return counts_.online;
    return counts_.connecting;
  };
  auto& current = hot_[device].state;
  --count_of(current);
  ++count_of(state);
  current = state;
  recorder_.set_devices(counts_);
}

// --- Connecting -----------------------------------------------------------------------------------------------------

void DevicePool::connect(LocalDevice device, metrics::PhaseIndex phase, MonoTime due) {
  if (hot_[device].state == DeviceState::offline) {
    start_connect(device, phase, due);
  } else {
    recorder_.dropped(fleet(device).connect_stream, phase, ErrorClass::aborted);
  }
}

void DevicePool::start_connect(LocalDevice device, metrics::PhaseIndex phase, MonoTime due) {
  auto& hot = hot_[device];
  const auto& behavior = fleet(device);
  if (hot.link == nullptr) {
    transport::TransportEvents& events = *this;
    const bool tls = config_.targets[hot.fleet].tls != nullptr;
    if (config_.make_link) {
      hot.link = config_.make_link(device, events);
    } else if (hot.fleet < config_.paho.size() && config_.paho[hot.fleet]) {
      hot.link = std::make_unique<transport::PahoTransport>(io_, events, device, *config_.paho[hot.fleet]);
    } else {
      hot.link =
          transport::make_mqtt_transport(transport::carrier(behavior.websocket, tls), io_, clock_, events, device);
    }
  }
  const MonoTime now = clock_.mono();
  hot.connect_due = due;
  hot.connect_sent_us = static_cast<uint32_t>(std::max<int64_t>(0, (now - due) / std::chrono::microseconds{1}));
  hot.connect_phase = static_cast<uint16_t>(phase);
  hot.connect_counted = true;
  recorder_.schedule_lag(phase, now - due);
  recorder_.sent(connect_stream(device), phase);
  set_state(device, DeviceState::connecting);
  wheel_.arm(life_timers_ + device, now + behavior.timeout);
  hot.link->connect(config_.targets[hot.fleet], behavior.timeout);
}

void DevicePool::identify(LocalDevice device, transport::Identity& identity) {
  append_device_id(device, identity.client_id);
  const auto& behavior = fleet(device);
  identity.user_name = protocol::format_mqtt_user_name({.host_name = config_.targets[hot_[device].fleet].host_name,
                                                        .device_id = identity.client_id,
                                                        .module_id = {},
                                                        .api_version = std::string{protocol::kApiVersion},
                                                        .model_id = {},
                                                        .device_client_type = config_.client_type});
  identity.keep_alive_seconds = static_cast<uint16_t>(behavior.keep_alive / std::chrono::seconds{1});
  if (!renews(device)) return;  // the certificate says it all
  const auto& known = behavior.identities;
  config_.authority->append_token(identity.password, identity.client_id,
                                  known.empty() ? std::string_view{} : known[index_in_fleet(device)].key, clock_.wall(),
                                  behavior.token.lifetime);
  plan_renewal(device);
}

const net::CertifiedKey* DevicePool::client_certificate(LocalDevice device) {
  const auto& certificates = fleet(device).certificates;
  if (certificates.empty()) return nullptr;
  shown_certificate_.certificate_pem = certificates.certificate_pem[index_in_fleet(device)];
  shown_certificate_.key_pem = certificates.key_pem;
  return &shown_certificate_;
}

void DevicePool::on_connected(LocalDevice device, bool session_present) {
  auto& hot = hot_[device];
  const MonoTime now = clock_.mono();
  const Nanos intended = now - hot.connect_due;
  recorder_.acknowledged(connect_stream(device), hot.connect_phase, intended,
                         intended - std::chrono::microseconds{hot.connect_sent_us});
  hot.connect_counted = false;
  hot.seen_while_fetching = 0;
  hot.refetches = 0;
  if (hot.renewing && session_present) return renewed(device);
  set_state(device, DeviceState::subscribing);
  wheel_.arm(life_timers_ + device, now + fleet(device).timeout);
  id_scratch_.clear();
  append_device_id(device, id_scratch_);
  hot.link->subscribe(fleet(device).subscriptions, {id_scratch_});
}

void DevicePool::connect_ended(LocalDevice device, ErrorClass error) {
  auto& hot = hot_[device];
  if (!hot.connect_counted) return;
  hot.connect_counted = false;
  const Nanos elapsed = clock_.mono() - hot.connect_due;
  if (error == ErrorClass::timeout) {
    recorder_.timed_out(connect_stream(device), hot.connect_phase, elapsed);
  } else {
    recorder_.failed(connect_stream(device), hot.connect_phase, error, elapsed);
  }
}

void DevicePool::on_connect_refused(LocalDevice device, ConnectRefusal refusal) {
  connect_ended(device, error_of(refusal));
  if (hot_[device].renewing) return lost(device, ReconnectReason::renewal);
  wait_or_give_up(device);
}

void DevicePool::wait_or_give_up(LocalDevice device) {
  const auto& retry = fleet(device).retry;
  if (!retry.enabled || stopping_) {
    wheel_.cancel(life_timers_ + device);
    set_state(device, DeviceState::offline);
    return;
  }
  auto& hot = hot_[device];
  Rng rng = take_rng(device);
  const Nanos wait = retry.delay(hot.attempts, rng);
  keep_rng(device, rng);
  if (hot.attempts < 255) ++hot.attempts;
  set_state(device, DeviceState::waiting);
  wheel_.arm(life_timers_ + device, clock_.mono() + wait);
}

void DevicePool::on_subscribed(LocalDevice device, bool granted) {
  if (hot_[device].state != DeviceState::subscribing) return;
  if (!granted) {
    hot_[device].link->abort();
    lost(device, ReconnectReason::protocol);
    return;
  }
  set_state(device, DeviceState::fetching);
  wheel_.cancel(life_timers_ + device);
  fetch(device, RequestKind::fetch);
}

void DevicePool::fetch(LocalDevice device, RequestKind kind) {
  recorder_.asked(fleet(device).get_twin_stream, phase_);
  const uint32_t request = new_request(device, kind, fleet(device).get_twin_stream, phase_, clock_.mono(), false);
  if (request != kNone) send_request(request, {});
  if (request == kNone || !requests_.taken(request)) {
    hot_[device].link->abort();
    lost(device, ReconnectReason::io);
  }
}

std::optional<DevicePool::Desired> DevicePool::desired_of(LocalDevice device, std::string_view twin) {
  const auto json = protocol::find_member(twin, "desired");
  const auto version = json ? protocol::find_integer(*json, "$version") : std::nullopt;
  if (version) return Desired{*json, static_cast<uint32_t>(*version)};
  hot_[device].link->abort();
  lost(device, ReconnectReason::protocol);
  return std::nullopt;
}

void DevicePool::fetched(LocalDevice device, std::string_view twin) {
  const auto desired = desired_of(device, twin);
  if (!desired) return;
  auto& hot = hot_[device];
  const uint32_t version = desired->version;
  if (hot.seen_while_fetching > version && hot.refetches < kRefetchMax) {
    // The answer is older than a notification that overtook it: ask again.
    ++hot.refetches;
    fetch(device, RequestKind::fetch);
    return;
  }
  observer_.on_fetched(device, version, version < hot.desired_version);
  hot.desired_version = version;
  hot.attempts = 0;
  hot.renewing = false;
  set_state(device, DeviceState::online);
  arm_life_timer(device);
  send_waiting(device);
  if (version > hot.applied_version || hot.needs_sync) {
    hot.needs_sync = false;
    if (!start_tasks(device, version, desired->json, true)) {
      hot.applied_version = version;
      observer_.on_synced(device, version, clock_.mono());
    }
  }
  if (hot_[device].state != DeviceState::online) return;
  if (!hot.introduced) introduce(device);
  if (fleet(device).telemetry.every > Nanos{0} && !wheel_.armed(telemetry_timers_ + device)) {
    arm_telemetry(device, clock_.mono());
  }
}

void DevicePool::introduce(LocalDevice device) {
  hot_[device].introduced = true;
  if (!fleet(device).reported) return;
  recorder_.asked(fleet(device).report_stream, phase_);
  start_report(device, phase_, clock_.mono(), index_in_fleet(device), false);
}

// --- Losing connections ---------------------------------------------------------------------------------------------

void DevicePool::on_disconnected(LocalDevice device, DisconnectReason reason) { lost(device, reason_of(reason)); }

void DevicePool::cut(LocalDevice device) {
  auto& hot = hot_[device];
  if (hot.state == DeviceState::offline || hot.state == DeviceState::waiting) return;
  hot.link->abort();
  connect_ended(device, ErrorClass::disconnected);
  lost(device, ReconnectReason::scripted);
}

void DevicePool::lost(LocalDevice device, ReconnectReason reason) {
  forget_work(device, ErrorClass::disconnected);
  hot_[device].renew_due = hot_[device].renewing = false;
  recorder_.reconnected(reason);
  wait_or_give_up(device);
}

void DevicePool::forget_work(LocalDevice device, ErrorClass error) {
  auto& hot = hot_[device];
  // Simulated work first: a report that fails below must not find its task any more.
  if (hot.tasks != kNone) hot.needs_sync = true;
  while (hot.tasks != kNone) remove_task(hot.tasks);
  while (hot.requests != kNone) {
    if (requests_[hot.requests].waiting) {
      drop_request(hot.requests, ErrorClass::device_offline);
    } else {
      end_request(hot.requests, OpOutcome::failed, error);
    }
  }
}

void DevicePool::disconnect_all() {
  stopping_ = true;
  for (LocalDevice device = 0; device < hot_.size(); ++device) {
    auto& hot = hot_[device];
    if (hot.link == nullptr) continue;
    while (hot.tasks != kNone) remove_task(hot.tasks);
    while (hot.requests != kNone) {
      const auto& request = requests_[hot.requests];
      if (request.waiting) {
        recorder_.dropped(request.stream, request.phase, ErrorClass::aborted);
        unlink_request(hot.requests);
        continue;
      }
      if (request.body != nullptr) observer_.on_report_unknown(device, *request.body);
      unlink_request(hot.requests);
    }
    wheel_.cancel(life_timers_ + device);
    wheel_.cancel(telemetry_timers_ + device);
    if (hot.state != DeviceState::offline && hot.state != DeviceState::waiting) hot.link->disconnect();
    if (hot.state != DeviceState::offline) set_state(device, DeviceState::offline);
  }
}

// --- Timers ---------------------------------------------------------------------------------------------------------

void DevicePool::arm_life_timer(LocalDevice device) {
  MonoTime at = hot_[device].link->next_deadline();
  if (renews(device) && !hot_[device].renew_due && !stopping_) at = std::min(at, renew_at(device));
  if (at == MonoTime::max()) {
    wheel_.cancel(life_timers_ + device);
  } else {
    wheel_.arm(life_timers_ + device, at);
  }
}

PeriodicTicks DevicePool::ticks(LocalDevice device) const {
  const auto& telemetry = fleet(device).telemetry;
  return {config_.seed, index(device), telemetry.every, telemetry.jitter};
}

void DevicePool::arm_telemetry(LocalDevice device, MonoTime now) {
  wheel_.arm(telemetry_timers_ + device, periodic_from_ + ticks(device).after(now - periodic_from_));
}

void DevicePool::on_timer(uint32_t timer) {
  const MonoTime now = clock_.mono();
  if (timer >= task_timers_) {
    run_task(timer - task_timers_);
  } else if (timer >= request_timers_) {
    const uint32_t request = timer - request_timers_;
    const auto kind = requests_[request].kind;
    const LocalDevice device = requests_[request].device;
    if (requests_[request].waiting) return drop_request(request, ErrorClass::deadline_passed);
    end_request(request, OpOutcome::timed_out, ErrorClass::timeout);
    if (vital(kind)) {
      hot_[device].link->abort();
      lost(device, ReconnectReason::protocol);
    }
  } else if (timer >= telemetry_timers_) {
    const LocalDevice device = timer - telemetry_timers_;
    if (stopping_) return;
    arm_telemetry(device, now);
    if (online(device) || hot_[device].renewing) {
      recorder_.asked(fleet(device).telemetry_stream, phase_);
      // Due on a tick of the wheel: what the wheel rounds up is no delay of anybody.
      const MonoTime due = wheel_.round_up(periodic_from_ + ticks(device).last(now - periodic_from_));
      start_telemetry(device, phase_, std::min(due, now), false);
    }
  } else {
    const LocalDevice device = timer - life_timers_;
    switch (hot_[device].state) {
      case DeviceState::waiting:
        if (stopping_) {
          set_state(device, DeviceState::offline);
          return;
        }
        recorder_.asked(fleet(device).connect_stream, phase_);
        start_connect(device, phase_, now);
        return;
      case DeviceState::connecting:
        hot_[device].link->abort();
        connect_ended(device, ErrorClass::timeout);
        if (hot_[device].renewing) return lost(device, ReconnectReason::renewal);
        wait_or_give_up(device);
        return;
      case DeviceState::subscribing:
        hot_[device].link->abort();
        lost(device, ReconnectReason::protocol);
        return;
      case DeviceState::online:
        if (renews(device) && !stopping_ && now >= renew_at(device)) hot_[device].renew_due = true;
        if (hot_[device].renew_due && !anything_in_flight(device)) return renew(device);
        if (now >= hot_[device].link->next_deadline()) hot_[device].link->on_time(now);
        if (hot_[device].state == DeviceState::online) arm_life_timer(device);
        return;
      case DeviceState::fetching:
      case DeviceState::offline:
        return;
    }
  }
}

// --- Requests -------------------------------------------------------------------------------------------------------

uint32_t DevicePool::new_request(LocalDevice device, RequestKind kind, metrics::StreamIndex stream,
                                 metrics::PhaseIndex phase, MonoTime due, bool scheduled) {
  const uint32_t index = requests_.take();
  if (index == kNone) {
    recorder_.dropped(stream, phase, ErrorClass::backlog_full);
    ended(stream, phase, scheduled);
    return kNone;
  }
  auto& request = requests_[index];
  request.due = due;
  request.device = device;
  request.kind = kind;
  request.scheduled = scheduled;
  request.stream = stream;
  request.phase = static_cast<uint16_t>(phase);
  request.id = (++next_generation_ << kRequestIndexBits) | index;
  request.next = hot_[device].requests;
  hot_[device].requests = index;
  return index;
}

void DevicePool::send_request(uint32_t index, std::string_view body) {
  auto& request = requests_[index];
  const LocalDevice device = request.device;
  auto& hot = hot_[device];
  if ((hot.renew_due || hot.renewing) && !vital(request.kind)) {
    request.waiting = true;
    ++waiting_;
    if (request.kind == RequestKind::report || request.kind == RequestKind::task_report) {
      request.body = io_.blocks.take();
      request.body->assign(body);
    }
    wheel_.arm(request_timers_ + index, clock_.mono() + fleet(device).timeout);
    return;
  }
  request.sent = clock_.mono();
  Sent sent = Sent::offline;
  switch (request.kind) {
    case RequestKind::get_twin:
    case RequestKind::fetch:
    case RequestKind::gap:
      sent = hot.link->get_twin(request.id);
      break;
    case RequestKind::report:
    case RequestKind::task_report:
      sent = hot.link->report(request.id, body);
      break;
    case RequestKind::telemetry: {
      uint16_t message = 0;
      id_scratch_.clear();
      append_device_id(device, id_scratch_);
      sent = hot.link->send_telemetry({.from = {id_scratch_}, .payload = body}, message);
      request.id = message;
      break;
    }
  }
  if (sent != Sent::ok) {
    drop_request(index, sent == Sent::would_block ? ErrorClass::backlog_full : ErrorClass::device_offline);
    return;
  }
  recorder_.sent(request.stream, request.phase);
  recorder_.schedule_lag(request.phase, request.sent - request.due);
  if (request.kind == RequestKind::report || request.kind == RequestKind::task_report) {
    request.body = io_.blocks.take();
    request.body->assign(body);
  }
  wheel_.arm(request_timers_ + index, request.sent + fleet(device).timeout);
}

uint32_t DevicePool::find_telemetry(LocalDevice device, uint16_t message) {
  // Twin requests number themselves (`$rid`) and may happen to have the same number.
  for (uint32_t index = hot_[device].requests; index != kNone; index = requests_[index].next) {
    if (requests_[index].kind == RequestKind::telemetry && requests_[index].id == message) return index;
  }
  return kNone;
}

void DevicePool::unlink_request(uint32_t index) {
  auto& request = requests_[index];
  uint32_t* link = &hot_[request.device].requests;
  while (*link != index) link = &requests_[*link].next;
  *link = request.next;
  wheel_.cancel(request_timers_ + index);
  io_.blocks.give_back(std::move(request.body));
  if (request.waiting) --waiting_;
  const LocalDevice device = request.device;
  requests_.release(index);
  // Not here and now: the caller is in the middle of what ended.
  if (hot_[device].renew_due && !anything_in_flight(device)) wheel_.arm(life_timers_ + device, clock_.mono());
}

void DevicePool::drop_offline(metrics::StreamIndex stream, metrics::PhaseIndex phase, bool scheduled) {
  recorder_.dropped(stream, phase, ErrorClass::device_offline);
  ended(stream, phase, scheduled);
}

void DevicePool::drop_request(uint32_t index, ErrorClass error) {
  const auto stream = requests_[index].stream;
  const auto kind = requests_[index].kind;
  const auto task = requests_[index].task;
  const bool scheduled = requests_[index].scheduled;
  const metrics::PhaseIndex phase = requests_[index].phase;
  recorder_.dropped(stream, phase, error);
  unlink_request(index);
  // Losing the connection ended the task already.
  if (kind == RequestKind::task_report && tasks_.taken(task)) abandon_task(task);
  ended(stream, phase, scheduled);
}

void DevicePool::end_request(uint32_t index, OpOutcome outcome, ErrorClass error) {
  const auto& request = requests_[index];
  const MonoTime now = clock_.mono();
  const Nanos intended = now - request.due;
  const auto stream = request.stream;
  switch (outcome) {
    case OpOutcome::acknowledged:
      recorder_.acknowledged(stream, request.phase, intended, now - request.sent);
      break;
    case OpOutcome::timed_out:
      recorder_.timed_out(stream, request.phase, intended);
      break;
    default:
      recorder_.failed(stream, request.phase, error, intended);
      break;
  }
  const bool unknown = outcome == OpOutcome::timed_out || error == ErrorClass::disconnected;
  if (request.body != nullptr && outcome != OpOutcome::acknowledged && unknown) {
    observer_.on_report_unknown(request.device, *request.body);
  }
  const uint32_t task = request.kind == RequestKind::task_report ? request.task : kNone;
  const LocalDevice device = request.device;
  const bool scheduled = request.scheduled;
  const metrics::PhaseIndex phase = request.phase;
  if (request.kind == RequestKind::telemetry && outcome == OpOutcome::timed_out) {
    // A PUBACK that never comes must not block the window of the session for ever.
    hot_[device].link->forget_telemetry(static_cast<uint16_t>(request.id));
  }
  unlink_request(index);
  if (task != kNone && outcome != OpOutcome::acknowledged && tasks_.taken(task) && tasks_[task].device == device) {
    abandon_task(task);
  }
  ended(stream, phase, scheduled);
}

void DevicePool::get_twin(LocalDevice device, metrics::PhaseIndex phase, MonoTime due) {
  const auto stream = fleet(device).get_twin_stream;
  if (!online(device) && !hot_[device].renewing) return drop_offline(stream, phase, true);
  const uint32_t request = new_request(device, RequestKind::get_twin, stream, phase, due, true);
  if (request != kNone) send_request(request, {});
}

void DevicePool::report(LocalDevice device, metrics::PhaseIndex phase, MonoTime due, uint64_t n) {
  start_report(device, phase, due, n, true);
}

void DevicePool::start_report(LocalDevice device, metrics::PhaseIndex phase, MonoTime due, uint64_t n, bool scheduled) {
  const auto stream = fleet(device).report_stream;
  if (!online(device) && !hot_[device].renewing) return drop_offline(stream, phase, scheduled);
  const uint32_t request = new_request(device, RequestKind::report, stream, phase, due, scheduled);
  if (request == kNone) return;
  scratch_.clear();
  if (fleet(device).reported) {
    // The values of arrival n, whatever the device did before.
    Rng rng{config_.seed, "report", mix64(uint64_t{phase} << 32 | index(device)) + n};
    fleet(device).reported(rng, n, scratch_);
  } else {
    // A fleet without reported properties of its own still has something true to say.
    scratch_ = "{\"twinstorm\":{\"n\":";
    scratch_ += std::to_string(n);
    scratch_ += "}}";
  }
  send_request(request, scratch_);
}

void DevicePool::send_telemetry(LocalDevice device, metrics::PhaseIndex phase, MonoTime due) {
  start_telemetry(device, phase, due, true);
}

void DevicePool::start_telemetry(LocalDevice device, metrics::PhaseIndex phase, MonoTime due, bool scheduled) {
  const auto stream = fleet(device).telemetry_stream;
  if (!online(device) && !hot_[device].renewing) return drop_offline(stream, phase, scheduled);
  const uint32_t request = new_request(device, RequestKind::telemetry, stream, phase, due, scheduled);
  if (request != kNone) {
    send_request(request, std::string_view{telemetry_body_}.substr(0, fleet(device).telemetry.size));
  }
}

void DevicePool::on_telemetry_acknowledged(LocalDevice device, uint16_t message) {
  const uint32_t index = find_telemetry(device, message);
  if (index != kNone) end_request(index, OpOutcome::acknowledged, ErrorClass::kCount);
}

void DevicePool::on_twin_response(LocalDevice device, const transport::TwinResponse& response) {
  const uint32_t index = response.request & kRequestIndexMask;
  if (index >= requests_.capacity() || !requests_.taken(index)) return;  // answered after its deadline
  auto& request = requests_[index];
  if (request.id != response.request || request.device != device || request.kind == RequestKind::telemetry) return;

  const bool ok = response.status == 200 || response.status == 204;
  const auto kind = request.kind;
  if (!ok) {
    end_request(index, OpOutcome::failed, error_of(response));
    if (vital(kind)) {
      hot_[device].link->abort();
      lost(device, ReconnectReason::protocol);
    }
    return;
  }
  if (request.body != nullptr) observer_.on_reported(device, *request.body, response.version.value_or(0));
  const uint32_t task = request.task;
  end_request(index, OpOutcome::acknowledged, ErrorClass::kCount);
  if (kind == RequestKind::fetch) fetched(device, response.body);
  if (kind == RequestKind::gap) gap_closed(device, response.body);
  if (kind == RequestKind::task_report) task_done(task);
}

void DevicePool::on_method(LocalDevice device, std::string_view, std::string_view rid, std::string_view payload) {
  if (hot_[device].link->send_method_response(rid, 200, payload) == Sent::ok) recorder_.method_answered();
}

void DevicePool::on_message(LocalDevice, std::string_view, std::string_view) { recorder_.message_received(); }

// --- Token renewal --------------------------------------------------------------------------------------------------

MonoTime DevicePool::renew_at(LocalDevice device) const {
  return origin_ + std::chrono::milliseconds{hot_[device].renew_ms};
}

void DevicePool::plan_renewal(LocalDevice device) {
  const auto& token = fleet(device).token;
  const auto now = static_cast<uint32_t>((clock_.mono() - origin_) / std::chrono::milliseconds{1});
  // A stream of its own: the values that a device reports do not depend on how long its tokens live.
  Rng rng{config_.seed, "renewal", uint64_t{index(device)} << 32 | now};
  const Nanos age = from_seconds(to_seconds(token.lifetime - token.renew_before) * (1 - token.jitter * rng.uniform()));
  hot_[device].renew_ms = now + static_cast<uint32_t>(age / std::chrono::milliseconds{1});
}

bool DevicePool::anything_in_flight(LocalDevice device) const {
  for (uint32_t index = hot_[device].requests; index != kNone; index = requests_[index].next) {
    if (!requests_[index].waiting) return true;
  }
  return false;
}

void DevicePool::renew(LocalDevice device) {
  auto& hot = hot_[device];
  hot.renew_due = false;
  hot.renewing = true;
  recorder_.asked(fleet(device).renew_stream, phase_);
  hot.link->disconnect();
  start_connect(device, phase_, clock_.mono());
}

void DevicePool::renew_early(LocalDevice device) {
  if (!online(device) || stopping_ || !renews(device)) return;
  hot_[device].renew_due = true;
  if (!anything_in_flight(device)) renew(device);
}

void DevicePool::renewed(LocalDevice device) {
  auto& hot = hot_[device];
  hot.renewing = false;
  set_state(device, DeviceState::online);
  arm_life_timer(device);
  // Notifications arrive again from here on; the read shows what was changed while nobody listened.
  hot.seen_while_fetching = hot.desired_version;
  fetch(device, RequestKind::gap);
  if (hot.state == DeviceState::online) send_waiting(device);
}

void DevicePool::gap_closed(LocalDevice device, std::string_view twin) {
  const auto desired = desired_of(device, twin);
  if (!desired) return;
  auto& hot = hot_[device];
  const uint32_t version = desired->version;
  observer_.on_fetched(device, version, version < hot.seen_while_fetching);
  if (version <= hot.desired_version) return;
  hot.desired_version = version;
  if (!start_tasks(device, version, desired->json, true)) {
    hot.applied_version = version;
    observer_.on_synced(device, version, clock_.mono());
  }
}

void DevicePool::send_waiting(LocalDevice device) {
  auto& list = waiting_scratch_;
  list.clear();
  for (uint32_t index = hot_[device].requests; index != kNone; index = requests_[index].next) {
    if (requests_[index].waiting) list.push_back(index);
  }
  for (auto index = list.rbegin(); index != list.rend(); ++index) {  // the oldest first
    auto& request = requests_[*index];
    request.waiting = false;
    --waiting_;
    auto body = std::move(request.body);
    if (request.kind == RequestKind::task_report && !tasks_[request.task].sync) {
      observer_.on_report_sent(device, tasks_[request.task].version, clock_.mono());
    }
    const std::string_view telemetry = std::string_view{telemetry_body_}.substr(0, fleet(device).telemetry.size);
    send_request(*index, request.kind == RequestKind::telemetry ? telemetry
                         : body != nullptr                      ? std::string_view{*body}
                                                                : std::string_view{});
    io_.blocks.give_back(std::move(body));
  }
}

// --- Desired properties ---------------------------------------------------------------------------------------------

void DevicePool::on_desired(LocalDevice device, int64_t version64, std::string_view patch) {
  auto& hot = hot_[device];
  const auto version = static_cast<uint32_t>(version64);
  observer_.on_notified(device, version64, clock_.mono());
  if (hot.state != DeviceState::online) {
    // Between SUBSCRIBE and the answer to GET: the fetched twin holds this change already, or is asked for again.
    hot.seen_while_fetching = std::max(hot.seen_while_fetching, version);
    return;
  }
  if (version <= hot.desired_version) return;
  hot.desired_version = version;
  if (!start_tasks(device, version, patch, false)) {
    hot.applied_version = std::max(hot.applied_version, version);
    observer_.on_converged(device, version, clock_.mono());
  }
}

bool DevicePool::start_tasks(LocalDevice device, uint32_t version, std::string_view desired, bool sync) {
  auto& hot = hot_[device];
  const auto& behavior = fleet(device);
  const MonoTime now = clock_.mono();
  // The work of a version takes the same time, and fails or not, in every run of a seed.
  Rng rng{config_.seed, "apply", uint64_t{index(device)} << 32 | version};
  const uint32_t before = hot.tasks;
  Fate fate = Fate::good;
  for (const auto& listener : behavior.listeners) {
    scratch_.clear();
    if (listener.path.empty()) {
      append_properties(scratch_, desired);
      if (scratch_.empty()) continue;
    } else {
      const auto value = protocol::find_path(desired, listener.path);
      if (!value) continue;
      append_wrapped(scratch_, listener.path, *value);
    }
    const uint32_t index = tasks_.take();
    if (index == kNone) {
      recorder_.asked(behavior.report_stream, phase_);
      recorder_.dropped(behavior.report_stream, phase_, ErrorClass::backlog_full);
      hot.needs_sync = true;
      fate = Fate::abandoned;
      continue;
    }
    auto& task = tasks_[index];
    task.device = device;
    task.version = version;
    task.sync = sync;
    task.phase = static_cast<uint16_t>(phase_);
    // Simulated work ends on a tick of the wheel: what the wheel rounds up is the device's time, not the hub's.
    task.due = listener.delay ? wheel_.round_up(now + listener.delay(rng)) : now;
    task.fails = rng.chance(listener.failure);
    if (listener.report != Listener::Report::none) {
      task.body = io_.blocks.take();
      if (listener.report == Listener::Report::echo) {
        task.body->assign(scratch_);
      } else {
        listener.values(rng, version, *task.body);
      }
    }
    task.next = hot.tasks;
    hot.tasks = index;
  }
  if (hot.tasks == before) return fate != Fate::good;
  for (uint32_t index = hot.tasks; index != before; index = tasks_[index].next) {
    tasks_[index].fate = fate;
    // Work without delay would be done in the next tick at the latest; doing it below keeps it out of the numbers.
    if (tasks_[index].due > now) wheel_.arm(task_timers_ + index, tasks_[index].due);
  }
  for (uint32_t index = hot.tasks; index != before && index != kNone;) {
    const uint32_t next = tasks_[index].next;
    if (tasks_[index].due <= now) run_task(index);
    index = next;
  }
  return true;
}

void DevicePool::run_task(uint32_t index) {
  auto& task = tasks_[index];
  const LocalDevice device = task.device;
  const auto& behavior = fleet(device);
  if (task.fails) {
    const auto [version, sync, fate] = std::tuple{task.version, task.sync, worse(task.fate, Fate::failed)};
    remove_task(index);
    group_ended(device, version, sync, fate);
    return;
  }
  if (task.body == nullptr) {
    if (!task.sync) observer_.on_report_sent(device, task.version, clock_.mono());
    task_done(index);
    return;
  }
  recorder_.asked(behavior.report_stream, task.phase);
  const uint32_t request =
      new_request(device, RequestKind::task_report, behavior.report_stream, task.phase, task.due, false);
  if (request == kNone) {
    abandon_task(index);
    return;
  }
  requests_[request].task = index;
  if (!task.sync) observer_.on_report_sent(device, task.version, clock_.mono());
  auto body = std::move(task.body);
  send_request(request, *body);
  io_.blocks.give_back(std::move(body));
}

void DevicePool::task_done(uint32_t index) {
  if (!tasks_.taken(index)) return;
  const LocalDevice device = tasks_[index].device;
  const auto [version, sync, fate] = std::tuple{tasks_[index].version, tasks_[index].sync, tasks_[index].fate};
  remove_task(index);
  group_ended(device, version, sync, fate);
}

void DevicePool::abandon_task(uint32_t index) {
  const LocalDevice device = tasks_[index].device;
  const auto [version, sync] = std::pair{tasks_[index].version, tasks_[index].sync};
  hot_[device].needs_sync = true;
  remove_task(index);
  group_ended(device, version, sync, Fate::abandoned);
}

void DevicePool::group_ended(LocalDevice device, uint32_t version, bool sync, Fate fate) {
  auto& hot = hot_[device];
  bool more = false;
  for (uint32_t other = hot.tasks; other != kNone; other = tasks_[other].next) {
    if (tasks_[other].version != version || tasks_[other].sync != sync) continue;
    tasks_[other].fate = worse(tasks_[other].fate, fate);
    more = true;
  }
  if (more || fate == Fate::abandoned) return;
  if (fate == Fate::failed) return observer_.on_apply_failed(device, version, sync);
  hot.applied_version = std::max(hot.applied_version, version);
  const MonoTime now = clock_.mono();
  if (sync) {
    observer_.on_synced(device, version, now);
  } else {
    observer_.on_converged(device, version, now);
  }
}

void DevicePool::remove_task(uint32_t index) {
  auto& task = tasks_[index];
  uint32_t* link = &hot_[task.device].tasks;
  while (*link != index) link = &tasks_[*link].next;
  *link = task.next;
  wheel_.cancel(task_timers_ + index);
  io_.blocks.give_back(std::move(task.body));
  tasks_.release(index);
}

}  // namespace twinstorm::device
