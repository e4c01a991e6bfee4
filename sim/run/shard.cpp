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
      closed_by_stream_(plan_.layout.streams.size()) {
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
    wait_for_events(std::min({next_arrival(), wheel_.next_event(), now + kLongestWait}));
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
  const auto& spec = plan_.scenario.phases[phase];
  for (auto& source : sources_) source.end = std::min(source.end, start);
  std::erase_if(sources_, [](const Source& source) { return !source.alive; });
  for (auto& closed : closed_) closed.alive = false;
  closed_.clear();
  for (auto& list : closed_by_stream_) list.clear();

  devices_.set_phase(phase);
  correlator_.set_phase(phase);
  // Every shard walks all arrivals (stride 1) and keeps those of its devices.
  const auto add = [&](Source::Kind kind, uint32_t stream, const scenario::LoadShape& shape, uint64_t seed) {
    Source source{kind, phase, stream, scenario::ArrivalSchedule{shape, start, 0, 1, seed}, MonoTime::max(), {}, true};
    advance_source(source);
    if (source.alive) sources_.push_back(std::move(source));
  };
  if (spec.connect) {
    add(Source::Kind::connect, 0, spec.connect->shape, scenario::arrival_seed(plan_.scenario.seed, phase, 0xffffffff));
  }
  closed_.reserve(spec.load.size());
  for (const auto& load : spec.load) {
    if (!load.closed()) {
      add(Source::Kind::stream, load.stream, load.shape,
          scenario::arrival_seed(plan_.scenario.seed, phase, load.stream));
      continue;
    }
    const uint32_t share = load.concurrency / config_.shards + (config_.id < load.concurrency % config_.shards ? 1 : 0);
    closed_.push_back({phase, load.stream, share, 0, start, true});
  }
  for (auto& closed : closed_) closed_by_stream_[closed.stream].push_back(&closed);
  if (spec.disconnect) {
    const auto& cut = *spec.disconnect;
    for (uint32_t i = 0; i < devices_.size(); ++i) {
      const DeviceIndex device = devices_.index(i);
      const uint32_t fleet = plan_.fleet_of(device);
      if (std::find(cut.fleets.begin(), cut.fleets.end(), fleet) == cut.fleets.end()) continue;
      Rng rng{plan_.scenario.seed, "disconnect", (uint64_t{phase} << 32) | device};
      if (!rng.chance(cut.share)) continue;
      cuts_.push_back({start + cut.after + from_seconds(to_seconds(cut.over) * rng.uniform()), i});
    }
    std::sort(cuts_.begin(), cuts_.end(), [](const Cut& a, const Cut& b) { return a.at > b.at; });
  }
}

void Shard::finish_load(MonoTime at) {
  boost::asio::post(io_.context, [this, at] {
    for (auto& source : sources_) source.end = std::min(source.end, at);
    closed_.clear();
    for (auto& list : closed_by_stream_) list.clear();
    cuts_.clear();
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

void Shard::advance_source(Source& source) {
  if (const auto arrival = source.schedule.next()) {
    source.next = *arrival;
  } else {
    source.alive = false;
  }
}

MonoTime Shard::next_arrival() const {
  MonoTime next = cuts_.empty() ? MonoTime::max() : cuts_.back().at;
  for (const auto& source : sources_) {
    if (source.alive) next = std::min(next, source.next.intended);
  }
  for (const auto& closed : closed_) {
    if (closed.to_start > 0) next = std::min(next, closed.from);
  }
  return next;
}

void Shard::start_due(MonoTime now) {
  while (!cuts_.empty() && cuts_.back().at <= now) {
    devices_.cut(cuts_.back().device);
    cuts_.pop_back();
  }
  int budget = kStartsPerTurn;
  for (auto& source : sources_) {
    while (source.alive && source.next.intended <= now && budget > 0) {
      const scenario::Arrival arrival = source.next;
      if (arrival.intended >= source.end) {
        source.alive = false;
        break;
      }
      advance_source(source);
      if (source.kind == Source::Kind::connect) {
        const auto device =
            scenario::connect_target(plan_.scenario, *plan_.scenario.phases[source.phase].connect, arrival.n);
        if (!device) {
          source.alive = false;
          break;
        }
        if (!mine(*device) || devices_.state(local(*device)) != device::DeviceState::offline) continue;
        --budget;
        recorder_.asked(plan_.fleets[plan_.fleet_of(*device)].connect_stream, source.phase);
        devices_.connect(local(*device), source.phase, arrival.intended);
        continue;
      }
      const bool for_device = works_on_devices(source.stream);
      const auto& fleet = plan_.fleets[plan_.scenario.fleet_of_stream(source.stream)];
      // Round the fleet, from a place that depends on the phase so that short phases do not all meet the same devices.
      const uint64_t offset = mix64(plan_.scenario.seed ^ (uint64_t{source.phase} << 32 | source.stream));
      const DeviceIndex device =
          fleet.first + static_cast<DeviceIndex>((arrival.n + offset % fleet.count) % fleet.count);
      if (for_device ? !mine(device) : arrival.n % config_.shards != config_.id) continue;
      --budget;
      start_one(source.stream, source.phase, arrival.intended, arrival.n, device);
    }
  }
  start_closed();
}

bool Shard::works_on_devices(uint32_t stream) const {
  const auto& scenario = plan_.scenario;
  return !scenario.is_backend_stream(stream) ||
         scenario.backends[scenario.backend_of_stream(stream)].works_on_devices();
}

void Shard::start_one(uint32_t stream, metrics::PhaseIndex phase, MonoTime due, uint64_t n, DeviceIndex device) {
  recorder_.asked(stream, phase);
  const auto kind = plan_.layout.streams[stream].kind;
  const uint32_t own = local(device);
  if (!plan_.scenario.is_backend_stream(stream)) {
    switch (kind) {
      case metrics::OpKind::get_twin:
        return devices_.get_twin(own, phase, due);
      case metrics::OpKind::report:
        return devices_.report(own, phase, due, n);
      case metrics::OpKind::telemetry:
        return devices_.send_telemetry(own, phase, due);
      default:
        return devices_.connect(own, phase, due);
    }
  }
  const auto backend = plan_.scenario.backend_of_stream(stream);
  backend::FollowId follow = backend::kNotFollowed;
  if (kind == metrics::OpKind::patch_desired || kind == metrics::OpKind::replace_twin) {
    follow = correlator_.start(own, phase, due);
    if (follow == Correlator::kNone) {
      recorder_.dropped(stream, phase, metrics::ErrorClass::backlog_full);
      request_ended(stream, phase);
      return;
    }
    wheel_.arm(slot_timers_ + follow, due + plan_.scenario.limits.convergence_timeout);
  }
  backends_.start(backend, phase, due, n, own, follow);
}

void Shard::start_closed() {
  for (auto& closed : closed_) {
    int budget = kStartsPerTurn;
    while (closed.to_start > 0 && closed.from <= clock_.mono() && budget-- > 0) {
      --closed.to_start;
      const auto& fleet = plan_.fleets[plan_.scenario.fleet_of_stream(closed.stream)];
      // This shard's own devices of the fleet, one after the other.
      const uint64_t number = closed.n++ * config_.shards + config_.id;
      DeviceIndex device = fleet.first + static_cast<DeviceIndex>(number % fleet.count);
      for (uint32_t step = 0; step < config_.shards && !mine(device); ++step) {
        device = fleet.first + (device - fleet.first + 1) % fleet.count;
      }
      if (!mine(device) && works_on_devices(closed.stream)) {  // a fleet smaller than the number of shards
        closed.to_start = 0;
        break;
      }
      const uint32_t free_before = closed.to_start;
      start_one(closed.stream, closed.phase, clock_.mono(), number, device);
      if (closed.to_start > free_before) {
        // It ended at once, because the device is away or everything is full: trying again in a loop helps nobody.
        closed.from = clock_.mono() + kClosedPause;
      }
    }
  }
}

void Shard::request_ended(metrics::StreamIndex stream, metrics::PhaseIndex phase) {
  // What an earlier phase left in flight frees no place in this one.
  for (Closed* closed : closed_by_stream_[stream]) {
    if (closed->phase == phase) ++closed->to_start;
  }
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
