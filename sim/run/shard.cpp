#include "sim/run/shard.hpp"

#include <algorithm>
#include <ctime>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/run/hub_link.hpp"

namespace twinstorm::run {
namespace {

constexpr int kStartsPerTurn = 64;     // then sockets get their turn: reading is never starved
constexpr int kHandlersPerTurn = 256;  // then arrivals and timers get theirs
constexpr Nanos kAccountEvery = std::chrono::milliseconds{100};
constexpr Nanos kLongestWait = std::chrono::milliseconds{100};
constexpr Nanos kClosedPause = std::chrono::milliseconds{100};  // after an operation that could not be started

Nanos thread_cpu_time() {
  timespec ts{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return std::chrono::seconds{ts.tv_sec} + Nanos{ts.tv_nsec};
}

uint32_t slots_max(const FleetPlan& plan) { return plan.scenario.limits.backlog_max; }

}  // namespace

device::DevicePool::Config Shard::pool_config(const Config& config) {
  device::DevicePool::Config pool;
  const auto& plan = *config.plan;
  for (const auto& fleet : plan.fleets) pool.fleets.push_back(&fleet);
  for (DeviceIndex device = config.id; device < plan.scenario.device_count(); device += config.shards) {
    pool.devices.push_back(device);
    pool.fleet_of.push_back(static_cast<uint16_t>(plan.fleet_of(device)));
  }
  // Room for devices that fetch and introduce themselves while the load's own operations are open. A storm beyond it
  // makes the surplus back off, as it would at the hub.
  pool.requests_max = plan.scenario.limits.backlog_max + 4096;
  pool.tasks_max = 2 * plan.scenario.limits.backlog_max;
  pool.seed = plan.scenario.seed;
  pool.targets = config.targets;
  for (const auto& fleet : plan.scenario.fleets) {
    pool.paho.push_back(fleet.engine == scenario::Engine::paho ? std::optional{paho_link(*config.hub, fleet)}
                                                               : std::nullopt);
  }
  pool.authority = config.authority;
  pool.client_type = config.client_type;
  return pool;
}

backend::BackendPool::Config Shard::backend_config(const Config& config) {
  backend::BackendPool::Config pool;
  for (const auto& backend : config.plan->backends) pool.backends.push_back(&backend);
  pool.endpoint = config.hub->http;
  pool.tls_endpoint = config.hub->https;
  pool.tls = config.hub->tls ? &*config.hub->tls : nullptr;
  pool.server_name = config.hub->host;
  pool.operations_max = config.plan->scenario.limits.backlog_max;
  pool.devices = (config.plan->scenario.device_count() + config.shards - 1 - config.id) / config.shards;
  pool.shard = config.id;
  pool.shards = config.shards;
  pool.seed = config.plan->scenario.seed;
  pool.run_tag = config.run_tag;
  pool.device_key = [authority = config.authority](std::string_view id) { return authority->device_key(id); };
  return pool;
}

backend::BackendPool::Config Shard::named_backend_config() {
  auto pool = backend_config(config_);
  pool.append_device_id = [this](uint32_t device, std::string& out) { devices_.append_device_id(device, out); };
  return pool;
}

Shard::Shard(Config config, metrics::ShardRecorder& recorder, const Clock& clock)
    : config_{config},
      clock_{clock},
      plan_{*config.plan},
      recorder_{recorder},
      wheel_{device::DevicePool::timers_needed(pool_config(config)) +
                 backend::BackendPool::timers_needed(backend_config(config)) + slots_max(plan_),
             clock.mono()},
      backend_timers_{device::DevicePool::timers_needed(pool_config(config))},
      slot_timers_{backend_timers_ + backend::BackendPool::timers_needed(backend_config(config))},
      devices_{pool_config(config), io_, wheel_, 0, clock, recorder_, *this},
      backends_{named_backend_config(), config_.hub->access, io_, wheel_, backend_timers_, clock, recorder_, *this},
      correlator_{devices_.size(), slots_max(plan_), recorder_},
      oracle_{config.keep_model ? devices_.size() : 0},
      timer_{io_.context.get_executor()},
      sources_{plan_.scenario, config.id, config.shards} {
  correlator_.on_end(
      [](void* self, SlotId slot) {
        auto& shard = *static_cast<Shard*>(self);
        shard.wheel_.cancel(shard.slot_timers_ + slot);
      },
      this);
  devices_.on_request_ended = [this](metrics::StreamIndex stream, metrics::PhaseIndex phase) {
    request_ended(stream, phase);
  };
  backends_.on_operation_ended = [this](metrics::StreamIndex stream, metrics::PhaseIndex phase) {
    request_ended(stream, phase);
  };
}

Shard::~Shard() = default;

// --- The loop
// ----------------------------------------------------------------------------------------------------------

void Shard::run() {
  accounted_at_ = clock_.mono();
  auto work = boost::asio::make_work_guard(io_.context);
  while (!stopping_) {
    const MonoTime now = clock_.mono();
    recorder_.turn(unix_seconds(clock_.wall()));
    start_due(now);
    wheel_.advance(now, [this](TimerWheel::TimerId id) {
      if (id >= slot_timers_) {
        on_slot_timer(id - slot_timers_);
      } else if (id >= backend_timers_) {
        backends_.on_timer(id);
      } else {
        devices_.on_timer(id);
      }
    });
    recorder_.set_open_work(correlator_.open() + devices_.counts().connecting + devices_.requests_open() +
                            devices_.tasks_open() + backends_.open() + backends_.probes_open());
    if (now - accounted_at_ >= kAccountEvery) account(now);
    wait_for_events(std::min({sources_.next_due(), wheel_.next_event(), now + kLongestWait}));
  }
  account(clock_.mono());
}

void Shard::wait_for_events(MonoTime until) {
  int handled = 0;
  if (until > clock_.mono()) {
    // Re-arming costs a system call: an armed timer that fires earlier only makes one idle turn.
    if (until < timer_at_) {
      timer_at_ = until;
      timer_.expires_at(until);
      timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) timer_at_ = MonoTime::max();
      });
    }
    handled += static_cast<int>(io_.context.run_one());
  }
  while (handled < kHandlersPerTurn && io_.context.poll_one() > 0) ++handled;
}

void Shard::account(MonoTime now) {
  const Nanos cpu = thread_cpu_time();
  recorder_.busy(cpu - cpu_accounted_);
  cpu_accounted_ = cpu;
  recorder_.bytes_in(io_.bytes_received - bytes_in_accounted_);
  recorder_.bytes_out(io_.bytes_sent - bytes_out_accounted_);
  bytes_in_accounted_ = io_.bytes_received;
  bytes_out_accounted_ = io_.bytes_sent;
  accounted_at_ = now;
}

// --- Phases and arrivals
// -------------------------------------------------------------------------------------------------

void Shard::begin_phase(metrics::PhaseIndex phase, MonoTime start) {
  boost::asio::post(io_.context, [this, phase, start] { start_phase_now(phase, start); });
}

void Shard::start_phase_now(metrics::PhaseIndex phase, MonoTime start) {
  if (phase == 0) devices_.begin(start);
  devices_.set_phase(phase);
  correlator_.set_phase(phase);
  sources_.begin_phase(phase, start);
}

void Shard::finish_load(MonoTime at) {
  boost::asio::post(io_.context, [this, at] {
    sources_.finish(at);
    devices_.stop_spontaneous_work();
  });
}

void Shard::stop() {
  boost::asio::post(io_.context, [this] {
    findings_.open_at_stop =
        devices_.connects_open() + devices_.requests_open() - devices_.requests_waiting() + backends_.in_flight();
    backends_.close();
    findings_.requests = backends_.books();
    correlator_.expire_all([this](uint32_t device) { return devices_.online(device); });
    tell_losses();
    tell_created();
    devices_.disconnect_all();
    stopping_ = true;
  });
}

void Shard::start_due(MonoTime now) {
  for (int budget = kStartsPerTurn; budget > 0; --budget) {
    const auto work = sources_.next(now);
    if (!work) return;
    starting_ = true;
    start_one(*work);
    starting_ = false;
  }
}

void Shard::start_one(const scenario::Sources::Work& work) {
  using Kind = scenario::Sources::Work::Kind;
  const uint32_t own = local(work.device);
  switch (work.kind) {
    case Kind::connect:
      if (devices_.state(own) != device::DeviceState::offline) return;
      recorder_.asked(plan_.fleets[plan_.fleet_of(work.device)].connect_stream, work.phase);
      return devices_.connect(own, work.phase, work.due);
    case Kind::disconnect:
      return devices_.cut(own);
    case Kind::renew_token:
      return devices_.renew_early(own);
    case Kind::stream:
      return start_operation(work);
  }
}

void Shard::start_operation(const scenario::Sources::Work& work) {
  const auto stream = work.stream;
  recorder_.asked(stream, work.phase);
  const uint32_t own = local(work.device);
  if (!plan_.scenario.is_backend_stream(stream)) {
    switch (plan_.layout.streams[stream].kind) {
      case metrics::OpKind::get_twin:
        return devices_.get_twin(own, work.phase, work.due);
      case metrics::OpKind::report:
        return devices_.report(own, work.phase, work.due, work.n);
      default:
        return devices_.send_telemetry(own, work.phase, work.due);
    }
  }
  const auto backend = plan_.scenario.backend_of_stream(stream);
  const auto kind = plan_.layout.streams[stream].kind;
  backend::FollowId follow = backend::kNotFollowed;
  if (kind == metrics::OpKind::patch_desired || kind == metrics::OpKind::replace_twin) {
    follow = correlator_.start(own, work.phase, work.due);
    if (follow == Correlator::kNone) {
      recorder_.dropped(stream, work.phase, metrics::ErrorClass::backlog_full);
      request_ended(stream, work.phase);
      return;
    }
    wheel_.arm(slot_timers_ + follow, work.due + plan_.scenario.limits.convergence_timeout);
  }
  backends_.start(backend, work.phase, work.due, work.n, own, follow);
}

void Shard::request_ended(metrics::StreamIndex stream, metrics::PhaseIndex phase) {
  // An operation that ended at once could not be started: trying again in a loop helps nobody.
  sources_.ended(stream, phase, clock_.mono(), starting_ ? kClosedPause : Nanos{0});
}

void Shard::on_slot_timer(SlotId slot) {
  if (correlator_.awaiting_answer(slot)) {
    // The patch's own deadline ends it; a slot whose answer may still come must not be given to another.
    wheel_.arm(slot_timers_ + slot, clock_.mono() + std::chrono::milliseconds{50});
    return;
  }
  correlator_.expire(slot, devices_.online(correlator_.device_of(slot)));
}

// --- Evidence
// ------------------------------------------------------------------------------------------------------------

std::string Shard::device_id(uint32_t device) const {
  std::string id;
  devices_.append_device_id(device, id);
  return id;
}

/// By the wall clock of now: a step of it during the run is a finding of its own.
std::string Shard::utc(MonoTime at) const { return format_iso8601(clock_.wall() - (clock_.mono() - at)); }

void Shard::tell_losses() {
  for (const auto& loss : correlator_.losses()) {
    findings_.lost.push_back(fmt::format(
        "{}: desired version {}, accepted at {}, {}", device_id(loss.device), loss.version, utc(loss.accepted),
        loss.delivered == MonoTime{}
            ? std::string{"was never notified"}
            : fmt::format("was notified at {} and never acknowledged as applied", utc(loss.delivered))));
  }
}

void Shard::tell_created() {
  for (uint32_t backend = 0; backend < plan_.scenario.backends.size(); ++backend) {
    auto& told = findings_.created.emplace_back();
    const auto* devices = backends_.created_devices(backend);
    if (devices == nullptr) continue;
    told.known.assign(devices->known().begin(), devices->known().end());
    told.uncertain = devices->uncertain();
  }
}

// --- What devices and back ends tell
// ---------------------------------------------------------------------------------------

void Shard::on_notified(transport::LocalDevice device, int64_t version, MonoTime at) {
  ++findings_.notifications;
  const auto what = correlator_.notified(device, version, at);
  if (what == Notification::fresh) return;
  const bool twice = what == Notification::duplicate;
  auto& examples = twice ? findings_.duplicates : findings_.went_back;
  if (examples.size() >= kExamplesMax) return;
  examples.push_back(fmt::format("{}: the notification of desired version {} came {} at {}", device_id(device), version,
                                 twice ? "once more" : "behind that of a newer one", utc(at)));
}

void Shard::on_report_sent(transport::LocalDevice device, int64_t version, MonoTime at) {
  correlator_.report_sent(device, version, at);
}

void Shard::on_converged(transport::LocalDevice device, int64_t version, MonoTime at) {
  correlator_.converged(device, version, at);
}

void Shard::on_apply_failed(transport::LocalDevice device, int64_t version, bool synced) {
  correlator_.apply_failed(device, version, synced);
}

void Shard::on_fetched(transport::LocalDevice device, int64_t version, bool went_back) {
  if (!went_back) return;
  ++findings_.versions_went_back;
  if (findings_.went_back.size() >= kExamplesMax) return;
  findings_.went_back.push_back(fmt::format("{}: desired version {} was fetched after a newer one was known, at {}",
                                            device_id(device), version, utc(clock_.mono())));
}

void Shard::on_synced(transport::LocalDevice device, int64_t version, MonoTime at) {
  correlator_.synced(device, version, at);
}

void Shard::on_reported(transport::LocalDevice device, std::string_view patch, int64_t version) {
  if (config_.keep_model) oracle_.reported_accepted(device, patch, version, clock_.wall());
}

void Shard::on_report_unknown(transport::LocalDevice device, std::string_view patch) {
  if (config_.keep_model) oracle_.reported_unknown(device, patch);
}

void Shard::on_patch_sent(backend::FollowId follow, MonoTime at) {
  if (follow != backend::kNotFollowed) correlator_.patch_sent(follow, at);
}

void Shard::on_patch_accepted(backend::FollowId follow, uint32_t device, int64_t version, std::string_view desired,
                              bool replaced, MonoTime at) {
  if (config_.keep_model) oracle_.desired_accepted(device, version, desired, replaced, clock_.wall());
  if (follow != backend::kNotFollowed) correlator_.patch_accepted(follow, version, at);
}

void Shard::on_patch_failed(backend::FollowId follow, uint32_t device, std::string_view desired, bool unknown) {
  if (config_.keep_model && unknown) oracle_.desired_unknown(device, desired);
  if (follow != backend::kNotFollowed) correlator_.patch_failed(follow);
}

}  // namespace twinstorm::run
