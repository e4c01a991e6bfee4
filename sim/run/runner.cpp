#include "sim/run/runner.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "metrics/abort_watch.hpp"
#include "metrics/export/metrics_endpoint.hpp"
#include "metrics/export/prometheus_collector.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/run/canary.hpp"
#include "sim/run/certificates.hpp"
#include "sim/run/control.hpp"
#include "sim/run/environment.hpp"
#include "sim/run/hub_link.hpp"
#include "sim/run/hub_process.hpp"
#include "sim/run/machine.hpp"
#include "sim/run/metrics_push.hpp"
#include "sim/run/process_stats.hpp"
#include "sim/run/workers.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::run {

namespace fs = std::filesystem;
using metrics::ConvergenceOutcome;
using metrics::OpKind;

namespace {

constexpr Nanos kTick = std::chrono::milliseconds{10};
constexpr Nanos kInterval = std::chrono::seconds{1};
constexpr Nanos kAnnounceAhead = std::chrono::milliseconds{10};  // shards hear of a phase before it begins
constexpr Nanos kSettle = std::chrono::milliseconds{50};
constexpr Nanos kCanaryConnects = std::chrono::seconds{2};  // the run does not wait longer for it
constexpr uint64_t kDiskNeeded = 16 * 1024 * 1024;

struct ConvergenceState {
  uint64_t started = 0, good = 0, failed = 0, ended = 0;
  double share() const {
    const uint64_t accepted = started - failed;
    return accepted == 0 ? 1.0 : static_cast<double>(good) / static_cast<double>(accepted);
  }
  bool open() const { return ended < started; }
};

/// The steps of one run share a lot; as members they stay readable.
class Run {
 public:
  Run(const RunOptions& options, const RunControl& control, RunUi& ui)
      : options_{options}, control_{control}, ui_{ui} {}

  Result<RunOutcome> execute() {
    if (const auto ok = prepare(); !ok) return ok.error();
    if (const auto ok = start_shards(); !ok) return ok.error();
    for (uint32_t phase = 0; phase < scenario().phases.size() && !ending_; ++phase) run_phase(phase);
    drain();
    stop_shards();
    check();
    return record();
  }

 private:
  const scenario::Scenario& scenario() const { return plan_->scenario; }

  // --- before
  // ------------------------------------------------------------------------------------------------------------
  Result<void> prepare() {
    started_wall_ = clock_.wall();
    auto identities = read_identities(options_.scenario);
    if (!identities) return identities.error();
    if (const auto ok = make_plan(std::move(*identities)); !ok) return ok.error();
    const auto wanted = scenario::make_plan(options_.scenario, options_.shards, options_.workers);
    auto forced = check_before_run(wanted, options_.folder, options_.force);
    if (!forced) return forced.error();
    forced_ = std::move(*forced);
    if (const auto ok = check_output_folder(options_.folder); !ok) return ok.error();
    auto writer = metrics::RunWriter::create(options_.folder);
    if (!writer) return writer.error();
    writer_.emplace(std::move(*writer));

    if (const auto ok = find_hubs(); !ok) return ok.error();
    if (const auto ok = register_devices(); !ok) return ok.error();
    if (scenario().canary && !scenario().fleets.empty()) make_canary();
    return {};
  }

  /// A run without its canary is still a run: what is missing is said in the report.
  void make_canary() {
    const uint32_t fleet = make_canary_plan(scenario()).fleet;
    const auto& site = *sites_.front();
    Canary::Config config{canary_device_id(options_.folder.filename().string()), site.links.targets[fleet],
                          paho_link(site.hub, scenario().fleets[fleet]), plan_.get()};
    if (scenario().fleets[fleet].transport == scenario::TransportKind::mqttws) {
      // Paho is no judge over WebSocket (paho_client.hpp).
      config.link.tls = config.link.tls && site.hub.mqtts.port() != 0;
      config.target.endpoint = config.link.tls ? site.hub.mqtts : site.hub.mqtt;
    }
    const auto id = config.device_id;
    auto made = Canary::create(std::move(config), site.hub, site.authority, clock_);
    if (made) {
      canary_ = std::move(*made);
    } else {
      canary_record_ = Canary::absent(id, made.error());
    }
  }

  /// With the devices' certificates, if they have any.
  Result<void> make_plan(Identities identities) {
    const auto& resolved = options_.scenario;
    if (needs_device_authority(resolved)) {
      auto authority = device_authority(resolved.target, clock_.wall());
      if (!authority) return authority.error();
      device_authority_.emplace(std::move(*authority));
    }
    auto certificates =
        make_certificates(resolved, device_authority_ ? &*device_authority_ : nullptr, clock_.wall(),
                          [&](uint64_t done, uint64_t total) { ui_.progress("making certificates", done, total); });
    if (!certificates) return certificates.error();
    plan_ = make_fleet_plan(resolved, std::move(identities), std::move(*certificates));
    return {};
  }

  Result<void> find_hubs() {
    const auto& target = scenario().target;
    if (target.kind != scenario::Target::Kind::embedded) {
      auto address = find_target(target);
      if (!address) return address.error();
      target_name_ = address->host_name;
      return add_site(*address);
    }
    target_name_ = "embedded";
    const auto ports = needed_ports(scenario());
    for (unsigned i = 0; i < target.hub.processes; ++i) {
      ui_.step(target.hub.processes == 1 ? "starting the embedded hub"
                                         : fmt::format("starting embedded hub {} of {}", i + 1, target.hub.processes));
      auto process = HubProcess::start(
          {.binary = options_.binary,
           .folder = options_.folder.string(),
           .name = target.hub.processes == 1 ? "hub" : fmt::format("hub-{}", i + 1),
           .threads = target.hub.threads,
           .mqtts = ports.mqtts,
           .https = ports.https,
           .behavior = target.hub,
           .device_authority_pem = device_authority_ ? device_authority_->certificate_pem : std::string{}});
      if (!process) return process.error();
      hubs_.push_back(std::move(*process));
      if (const auto ok = add_site(hubs_.back().address()); !ok) return ok.error();
    }
    return {};
  }

  Result<void> add_site(const HubAddress& address) {
    auto hub = make_hub_link(address, [this] { return control_.signals.load() > 1; });
    if (!hub) return hub.error();
    auto links = make_fleet_links(*hub, scenario());
    if (!links) return links.error();
    if (const auto ok = check_fleet_links(*hub, scenario(), *links); !ok) return ok.error();
    // The same service key gives the same device keys, so a later run can use the devices of an earlier one.
    const auto parsed = protocol::parse_connection_string(address.service_connection_string);
    const auto digest = protocol::hmac_sha256(parsed->shared_access_key, "twinstorm device keys");
    device::Authority authority{hub->host_name, std::string{digest.begin(), digest.end()}};
    sites_.push_back(
        std::make_unique<const HubSite>(HubSite{std::move(*hub), std::move(*links), std::move(authority)}));
    return {};
  }

  Result<void> register_devices() {
    const uint64_t total = scenario().device_count();
    ui_.step(fmt::format("registering {} devices", total));
    uint64_t before = 0;
    for (uint32_t i = 0; i < sites_.size(); ++i) {
      uint64_t here = 0;
      const auto provisioned = provision(
          sites_[i]->hub, *plan_, sites_[i]->authority, {i, static_cast<uint32_t>(sites_.size())},
          [&](uint64_t done, uint64_t of) {
            here = of;
            ui_.progress("registering devices", before + done, total);
          },
          [&](uint64_t done, uint64_t) {
            ui_.progress("registering devices (throttled by the hub, waiting)", before + done, total);
          });
      if (!provisioned) return provisioned.error();
      before += here;
      existing_.insert(existing_.end(), provisioned->existing.begin(), provisioned->existing.end());
    }
    return {};
  }

  Result<void> start_shards() {
    Workers::Config config{.workers = options_.workers,
                           .group = {.shards = options_.shards,
                                     .plan = plan_.get(),
                                     .keep_models = scenario().checks(scenario::Invariant::final_state_matches),
                                     .client_type = client_type(),
                                     .run_tag = run_tag()},
                           .existing = existing_};
    for (const auto& site : sites_) config.group.sites.push_back(site.get());
    // Before anything here has a thread: workers are forks.
    auto workers = Workers::prepare(std::move(config), clock_);
    if (!workers) return workers.error();
    workers_ = std::move(*workers);
    if (workers_->seeding_problem()) event("note", *workers_->seeding_problem());
    for (const auto& site : sites_) {
      if (hubs_.empty()) break;
      if (const auto started = start_tier(site->hub); !started) return started.error();
    }
    // From here on the hub counts what this run does, and nothing else.
    counts_before_ = read_counts();
    if (!hubs_.empty() && !counts_before_) return counts_before_.error();
    if (const auto throttling = read_throttling(sites_.front()->hub)) throttling_before_ = *throttling;
    if (canary_) {
      // Before the heap is read: what Paho needs is no device's.
      canary_->start();
      canary_->wait_connected(kCanaryConnects);
    }
    heap_before_connect_ = workers_->heap();
    start_ = clock_.mono() + kSettle;
    // Events and series count from here; the wall clock only labels it.
    started_wall_ = clock_.wall() + kSettle;
    wall_offset_ = clock_.wall().time_since_epoch() - clock_.mono().time_since_epoch();
    aggregator_.emplace(plan_->layout, workers_->recorders(), start_);
    next_interval_ = next_abort_look_ = start_ + kInterval;
    abort_watch_.emplace(plan_->layout, scenario().slos, workers_->recorders(), start_);
    collector_ = std::make_shared<metrics::PrometheusCollector>(
        metrics::ExportInfo{options_.folder.filename().string(), scenario().name, options_.version, target_name_,
                            scenario().device_count(), workers_->names_by_shard()},
        plan_->layout, workers_->recorders());
    if (!options_.push_gateway.empty()) {
      auto gateway = metrics::PushGateway::at(options_.push_gateway, options_.folder.filename().string(), {collector_});
      if (!gateway) return gateway.error();
      const auto url = gateway->url();
      auto push = MetricsPush::start(std::move(*gateway), options_.push_every);
      if (!push) return push.error();
      ui_.step("metrics pushed to " + url);
      push_.emplace(std::move(*push));
    }
    if (!options_.metrics_listen.empty()) {
      auto endpoint = metrics::MetricsEndpoint::start(options_.metrics_listen, {collector_});
      if (!endpoint) return endpoint.error();
      ui_.step("metrics at " + endpoint->url());
      endpoint_.emplace(std::move(*endpoint));
    }
    cpu_before_ = workers_->used().cpu_seconds;
    hub_cpu_before_ = hub_used().cpu_seconds;
    workers_->start();
    return {};
  }

  /// What all hubs counted.
  Result<std::map<std::string, uint64_t>> read_counts() const {
    std::map<std::string, uint64_t> all;
    for (const auto& site : sites_) {
      const auto counts = read_hub_counts(site->hub);
      if (!counts) return counts.error();
      for (const auto& [name, count] : *counts) all[name] += count;
    }
    return all;
  }

  ProcessStats hub_used() const {
    ProcessStats all;
    for (const auto& hub : hubs_) {
      all.cpu_seconds += hub.cpu_seconds();
      all.resident_bytes += hub.resident_bytes();
    }
    return all;
  }

  /// In the form of the official SDKs: product, version, platform.
  std::string client_type() const {
    utsname system{};
    uname(&system);
    return fmt::format("twinstorm/{} ({}; {})", options_.version, system.sysname, system.machine);
  }

  /// Another one for each run: a job's id is never used twice.
  std::string run_tag() const {
    return fmt::format("{:010x}", mix64(static_cast<uint64_t>(started_wall_.time_since_epoch().count())) >> 24);
  }

  // --- during
  // ------------------------------------------------------------------------------------------------------------
  void run_phase(uint32_t index) {
    const auto& phase = scenario().phases[index];
    const MonoTime begin = index == 0 ? start_ : phase_end_;
    phase_ = index;
    phase_begin_ = begin;
    const auto busy_before = busy();
    workers_->begin_phase(index, begin);
    if (canary_) canary_->begin_phase(index, begin);
    collector_->set_phase(index);
    for (uint32_t stream = 0; stream < plan_->layout.streams.size(); ++stream) collector_->set_target_rate(stream, 0);
    event("phase", fmt::format("{} begins", phase.name), begin);
    if (phase.disconnect) {
      event("storm",
            fmt::format("{:.0f} % of the devices lose their connection over {}", phase.disconnect->share * 100,
                        format_duration(phase.disconnect->over)),
            begin + phase.disconnect->after);
    }
    for (const auto& each : phase.events) {
      event("storm",
            fmt::format("{:.0f} % of the devices: {} over {}", each.share * 100, scenario::to_string(each.kind),
                        format_duration(each.over)),
            begin + each.after);
    }

    std::string note;
    const MonoTime limit = begin + (phase.duration ? *phase.duration : phase.timeout);
    phase_limit_ = limit;
    MonoTime end = limit;
    while (true) {
      const MonoTime now = clock_.mono();
      if (tick(now) || aborted(now, index)) {
        end = now;
        note = "ended early: " + end_reason_;
        break;
      }
      if (phase.until && now > begin && holds(*phase.until, index, note)) {
        end = now;
        break;
      }
      if (now + kAnnounceAhead >= limit) {
        if (phase.until) {
          note = fmt::format("timed out after {}", format_duration(phase.timeout));
          if (phase.until->kind == scenario::Until::Kind::devices_connected) {
            unmet_.push_back(fmt::format(
                "phase {} ended at its timeout of {} with {} of {} devices connected: what follows is not the load "
                "that was asked for",
                phase.name, format_duration(phase.timeout), online(), devices_wanted(index)));
          }
        }
        break;
      }
      std::this_thread::sleep_until(std::min(now + kTick, limit - kAnnounceAhead));
    }
    phase_end_ = end;
    if (!note.empty()) event("note", fmt::format("phase {}: {}", phase.name, note), end);
    timings_.push_back({to_seconds(begin - start_), to_seconds(end - begin), note});
    note_busy(phase, busy_before, end - begin);
    if (heap_per_device_ == std::nullopt) measure_heap();
  }

  std::vector<Nanos> busy() const {
    std::vector<Nanos> all;
    for (const auto* recorder : workers_->recorders()) {
      all.emplace_back(static_cast<int64_t>(recorder->health().busy_ns.get()));
    }
    return all;
  }

  /// The share of a recorded phase that each shard worked; what counts is each shard's worst phase of at least a
  /// second.
  void note_busy(const scenario::Phase& phase, const std::vector<Nanos>& before, Nanos length) {
    busy_shares_.resize(before.size());
    if (!phase.record || length < kInterval) return;
    const auto after = busy();
    for (size_t i = 0; i < after.size(); ++i) {
      busy_shares_[i] = std::max(busy_shares_[i], to_seconds(after[i] - before[i]) / to_seconds(length));
    }
  }

  /// Looks after everything that goes on during a phase; true when the run has to end.
  bool tick(MonoTime now) {
    if (now >= next_interval_) {
      interval(now);
      next_interval_ += kInterval * ((now - next_interval_) / kInterval + 1);
    }
    // Read both clocks back to back; a pair torn apart by preemption says nothing.
    const MonoTime before = clock_.mono();
    const WallTime wall = clock_.wall();
    if (clock_.mono() - before < std::chrono::milliseconds{10}) {
      const Nanos offset = wall.time_since_epoch() - before.time_since_epoch();
      clock_step_ = std::max(clock_step_, std::chrono::abs(offset - wall_offset_));
    }
    if (control_.signals.load() > 0) {
      end_reason_ = control_.last_signal.load() == SIGTERM ? "terminated" : "interrupted";
      if (!ending_) event("signal", "stopping because of " + std::string{strsignal(control_.last_signal.load())});
      ending_ = true;
    }
    note_lost_workers();
    if (!hub_end_ && look_for_hub_end()) {
      end_reason_ = *hub_end_;
      event("error", *hub_end_);
      ending_ = true;
    }
    return ending_;
  }

  void note_lost_workers() {
    for (const auto* worker : workers_->newly_lost()) {
      event("error", fmt::format("{} (process {}) {}", worker->name, worker->pid, *worker->end));
      ui_.step(fmt::format("{} {}: the run goes on without its {} devices, and is not valid", worker->name,
                           *worker->end, worker->devices));
    }
  }

  /// Whether an objective ends the run; looked at once a second.
  bool aborted(MonoTime now, uint32_t phase) {
    if (abort_watch_->empty() || now < next_abort_look_) return false;
    next_abort_look_ = now + kInterval;
    aborted_by_ = abort_watch_->look(now, phase, phase_begin_);
    if (!aborted_by_) return false;
    end_reason_ = aborted_by_->text;
    event("error", "stopping because of " + end_reason_);
    return ending_ = true;
  }

  bool look_for_hub_end() {
    for (size_t i = 0; i < hubs_.size() && !hub_end_; ++i) {
      const auto end = hubs_[i].ended();
      if (!end) continue;
      hub_end_ = hubs_.size() == 1 ? "the embedded hub " + *end : fmt::format("embedded hub {} {}", i + 1, *end);
    }
    return hub_end_.has_value();
  }

  void interval(MonoTime now) {
    auto snapshot = aggregator_->take(now);
    const auto& phase = scenario().phases[phase_];
    snapshot.phase = phase.name;
    const Nanos into = now - phase_begin_;
    for (const auto& load : phase.load) {
      if (load.closed()) continue;
      const double rate = load.shape.rate_at(std::max(into - kInterval / 2, Nanos{0})).per_second;
      snapshot.streams[load.stream].target_rate = rate;
      collector_->set_target_rate(load.stream, rate);
    }
    const auto stats = workers_->used();
    if (last_cpu_) snapshot.cpu_share = (stats.cpu_seconds - *last_cpu_) / snapshot.seconds;
    last_cpu_ = stats.cpu_seconds;
    snapshot.resident_bytes = stats.resident_bytes;
    std::vector<metrics::ExportedProcess> processes;
    double workers_cpu = 0;
    uint64_t workers_resident = 0;
    for (const auto& each : workers_->processes()) {
      processes.push_back({each.name, each.used.cpu_seconds, each.used.resident_bytes});
      workers_cpu += each.used.cpu_seconds;
      workers_resident += each.used.resident_bytes;
    }
    processes.push_back({"run", stats.cpu_seconds - workers_cpu, stats.resident_bytes - workers_resident});
    collector_->set_processes(std::move(processes));
    devices_max_ = std::max<uint64_t>(devices_max_, snapshot.devices.online);
    keep(writer_->append(snapshot));
    RunUi::Live live{phase.name,
                     phase_ + 1,
                     scenario().phases.size(),
                     std::max(0.0, to_seconds(into)),
                     std::nullopt,
                     scenario().device_count(),
                     snapshot};
    if (phase.duration) live.left_seconds = std::max(0.0, to_seconds(phase_limit_ - now));
    ui_.live(live);
  }

  ConvergenceState convergence() const {
    ConvergenceState state;
    for (const auto* recorder : workers_->recorders()) {
      for (uint32_t phase = 0; phase < plan_->layout.phases.size(); ++phase) {
        const auto& cell = recorder->phase(phase);
        const auto ended = [&](ConvergenceOutcome outcome) { return cell.ended[static_cast<size_t>(outcome)].get(); };
        state.good += ended(ConvergenceOutcome::applied) + ended(ConvergenceOutcome::superseded);
        state.failed += ended(ConvergenceOutcome::failed) + ended(ConvergenceOutcome::apply_failed);
        for (const auto& counter : cell.ended) state.ended += counter.get();
        state.started += cell.started.get();
      }
    }
    return state;
  }

  /// However they ended.
  uint64_t operations_ended(uint32_t phase) const {
    uint64_t count = 0;
    for (const auto* recorder : workers_->recorders()) {
      for (uint32_t stream = 0; stream < plan_->layout.streams.size(); ++stream) {
        const auto& cell = recorder->cell(stream, phase);
        count += cell.acknowledged.get() + cell.failed.get() + cell.timed_out.get() + cell.dropped.get();
      }
    }
    return count;
  }

  bool holds(const scenario::Until& until, uint32_t phase, std::string& note) {
    if (until.kind == scenario::Until::Kind::devices_connected) {
      return static_cast<double>(online()) >= until.share * static_cast<double>(devices_wanted(phase));
    }
    if (until.kind == scenario::Until::Kind::operations) return operations_ended(phase) >= until.count;
    if (until.kind == scenario::Until::Kind::quiet) {
      const MonoTime now = clock_.mono();
      if (workers_->open_work() > 0) last_open_ = now;
      return now - std::max(last_open_, phase_begin_) >= until.quiet;
    }
    // Arrivals of the phase itself must be over before "all have converged" can mean anything.
    if (!scenario().phases[phase].load.empty() && !scenario().phases[phase].duration) {
      for (const auto& load : scenario().phases[phase].load) {
        if (load.closed() || load.shape.length() == scenario::LoadShape::kForever) return false;
      }
    }
    const auto state = convergence();
    if (state.share() >= until.share && (until.share < 1 || !state.open())) return true;
    if (!state.open()) {
      note = fmt::format("nothing is open any more and only {:.2f} % converged", state.share() * 100);
      return true;
    }
    return false;
  }

  uint64_t online() const {
    uint64_t count = 0;
    for (const auto* recorder : workers_->recorders()) count += recorder->devices().online;
    return count;
  }
  /// Devices of the fleets that phases up to this one connect.
  uint64_t devices_wanted(uint32_t phase) const {
    std::vector<bool> wanted(scenario().fleets.size());
    for (uint32_t i = 0; i <= phase; ++i) {
      if (!scenario().phases[i].connect) continue;
      for (const uint32_t fleet : scenario().phases[i].connect->fleets) wanted[fleet] = true;
    }
    uint64_t count = 0;
    for (uint32_t fleet = 0; fleet < wanted.size(); ++fleet)
      count += wanted[fleet] ? scenario().fleets[fleet].count : 0;
    return count;
  }

  void measure_heap() {
    if (online() == 0 || online() < scenario().device_count()) return;
    const auto now = workers_->heap();
    if (!now || !heap_before_connect_ || *now <= *heap_before_connect_) return;
    heap_per_device_ =
        static_cast<double>(*now - *heap_before_connect_) / static_cast<double>(scenario().device_count());
  }

  // --- after
  // -------------------------------------------------------------------------------------------------------------
  void drain() {
    connected_at_end_ = online();
    // The last phase is left ahead of its end, as every phase is: its arrivals until then are still to come.
    const MonoTime begin = std::max(clock_.mono(), phase_end_);
    workers_->finish_load(begin);
    if (canary_) canary_->finish(begin);
    ui_.step("waiting for what is in flight");
    std::this_thread::sleep_until(begin);
    const bool hopeless = hub_end_.has_value();
    const MonoTime limit = begin + (hopeless ? Nanos{0} : scenario().limits.drain_timeout);
    std::this_thread::sleep_for(kSettle);  // the shards' own view of what is open follows one turn later
    while (clock_.mono() < limit && control_.signals.load() < 2) {
      if (workers_->open_work() == 0) break;
      const bool was_ending = ending_;
      tick(clock_.mono());
      if (hub_end_ && !was_ending) break;
      std::this_thread::sleep_for(kTick);
    }
  }

  void stop_shards() {
    findings_ = workers_->stop();
    note_lost_workers();
    // What happened since the last whole second belongs to the series too.
    interval(clock_.mono());
    duration_seconds_ = to_seconds(clock_.mono() - start_);
    const auto stats = workers_->used();
    generator_cpu_ = stats.cpu_seconds - cpu_before_;
    generator_resident_ = stats.resident_bytes;
    totals_.emplace(aggregator_->totals());
    if (!canary_) return;
    if (control_.signals.load() > 1) canary_->finish(MonoTime{});  // at once
    canary_->wait();
    if (!hub_end_) canary_->remove_device();
    canary_record_ = canary_->record(*totals_);
  }

  void check() {
    look_for_hub_end();
    if (!hub_end_ && counts_before_) compare_with_hub();
    const bool hub_alive = !hub_end_;
    if (hub_alive) {
      const auto throttling = read_throttling(sites_.front()->hub);
      if (throttling && *throttling) throttling_ = throttling_between(throttling_before_, **throttling);
    }
    for (const auto invariant : scenario().invariants) {
      switch (invariant) {
        case scenario::Invariant::no_lost_updates:
          invariants_.push_back(metrics::check_no_lost_updates(*totals_, findings_.lost));
          break;
        case scenario::Invariant::versions_monotonic:
          invariants_.push_back(check_versions());
          break;
        case scenario::Invariant::final_state_matches:
          invariants_.push_back(check_final_state(hub_alive));
          break;
        case scenario::Invariant::no_duplicates:
          invariants_.push_back(metrics::check_no_duplicates(*totals_, findings_.duplicates));
          break;
      }
    }
    if (!hubs_.empty()) {
      hub_record_.emplace();
      if (hub_alive) {
        const auto used = hub_used();
        hub_record_->cpu_seconds = used.cpu_seconds - hub_cpu_before_;
        hub_record_->resident_bytes = used.resident_bytes;
      }
      for (auto& hub : hubs_) hub.stop();
    } else {
      if (comparison_.checked) hub_record_.emplace();
      if (hub_alive) remove_made_devices();
    }
    if (hub_record_) hub_record_->comparison = comparison_;
  }

  void compare_with_hub() {
    const auto after = read_counts();
    if (!after) {
      // It could be asked before the run and cannot any more: nothing that it did lately may be believed.
      hub_end_ = "the hub no longer answered at the end (" + after.error().message + ")";
      return;
    }
    comparison_.checked = true;
    const auto hub_count = [&](const char* name) {
      const auto before = counts_before_->find(name);
      const auto now = after->find(name);
      return (now == after->end() ? 0 : now->second) - (before == counts_before_->end() ? 0 : before->second);
    };
    const auto row = [&](const char* name, uint64_t ours, uint64_t unknown = 0) {
      // The canary has books of its own: what the hub counted because of it is no part of the comparison.
      const auto canary = canary_ ? canary_->hub_share(name) : Canary::HubShare{};
      const auto counted = hub_count(name);
      comparison_.rows.push_back({name, ours, counted - std::min(counted, canary.certain), unknown + canary.perhaps});
    };
    const auto add = [&](const char* name, std::initializer_list<OpKind> kinds, const auto& belongs) {
      metrics::OpTotals sum;
      bool any = false;
      for (uint32_t stream = 0; stream < plan_->layout.streams.size(); ++stream) {
        const auto kind = plan_->layout.streams[stream].kind;
        if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end() || !belongs(stream)) continue;
        for (const auto& phase : totals_->phases) sum.add(phase.streams[stream]);
        any = true;
      }
      // What was sent without an answer may or may not have reached the hub.
      if (any) row(name, sum.acknowledged, sum.failed + sum.timed_out + sum.in_flight());
    };
    const auto all = [](uint32_t) { return true; };
    add("connectsAccepted", {OpKind::connect, OpKind::renew_token}, all);
    add("twinGets", {OpKind::get_twin}, all);
    add("reportedPatches", {OpKind::report}, all);
    add("telemetryMessages", {OpKind::telemetry}, all);
    // The books of a lost worker went with it: whatever the hub counted may have been for it.
    const bool complete = lost_workers().empty();
    const auto not_in_books = [&](const std::string& name) { return complete ? 0 : hub_count(name.c_str()); };
    for (size_t i = 0; i < backend::kHubCountCount; ++i) {
      const auto count = static_cast<backend::HubCount>(i);
      const auto& ours = findings_.requests.of(count);
      if (ours.answered + ours.unknown == 0) continue;
      const std::string name{backend::to_string(count)};
      row(name.c_str(), ours.answered, ours.unknown + not_in_books(name));
    }
    metrics::OpTotals renewals;
    for (uint32_t stream = 0; stream < plan_->layout.streams.size(); ++stream) {
      if (plan_->layout.streams[stream].kind != OpKind::renew_token) continue;
      for (const auto& phase : totals_->phases) renewals.add(phase.streams[stream]);
    }
    // A notification on its way to a connection that ends is lost with it.
    row("desiredNotificationsSent", findings_.notifications,
        totals_->reconnect_count() + renewals.sent > 0 ? hub_count("desiredNotificationsSent")
                                                       : not_in_books("desiredNotificationsSent"));
  }

  /// What back ends created goes with the run. The embedded hub takes it along by itself.
  void remove_made_devices() {
    MadeDevices made;
    const auto& backends = scenario().backends;
    for (uint32_t backend = 0; backend < backends.size(); ++backend) {
      if (!backends[backend].creates_devices() || backends[backend].keep) continue;
      const auto id = [&](uint64_t number) { return backends[backend].device_id.format(number); };
      if (backend >= findings_.created.size()) continue;
      for (const auto number : findings_.created[backend].known) made.known.push_back(id(number));
      for (const auto number : findings_.created[backend].uncertain) made.uncertain.push_back(id(number));
    }
    const auto count = made.known.size() + made.uncertain.size();
    if (count == 0) return;
    ui_.step(fmt::format("removing {} devices that this run created", count));
    const auto left = remove_devices(sites_.front()->hub, sites_.front()->authority, std::move(made));
    if (!left) {
      event("note", fmt::format("devices that this run created were not removed: {}", left.error().message));
    } else if (*left > 0) {
      event("note", fmt::format("{} devices that this run created may still be registered", *left));
    }
  }

  metrics::InvariantResult check_versions() {
    auto result = metrics::check_versions_monotonic(*totals_, findings_.went_back);
    if (findings_.versions_went_back > 0) {
      result.status = metrics::InvariantStatus::violated;
      result.detail = fmt::format("{} fetched twins were older than what the device had seen. {}",
                                  findings_.versions_went_back, result.detail);
    }
    return result;
  }

  metrics::InvariantResult check_final_state(bool hub_alive) {
    metrics::InvariantResult unknown{
        std::string{metrics::kFinalStateMatches}, metrics::InvariantStatus::undecided, {}, {}};
    if (!hub_alive) {
      unknown.detail = "The hub is gone, so its twins cannot be compared.";
      return unknown;
    }
    ui_.step(fmt::format("comparing the final state of {} twins", scenario().device_count()));
    auto twins = workers_->compare_twins([&](uint64_t done, uint64_t of) { ui_.progress("comparing twins", done, of); },
                                         [&] { return control_.signals.load() > 1; });
    note_lost_workers();
    if (twins.problem) {
      unknown.detail = *twins.problem;
      return unknown;
    }
    auto result = metrics::check_final_state(twins.compared, twins.differing, std::move(twins.examples));
    if (writes_tags()) result.detail += " (desired and reported properties; tags are not compared)";
    if (twins.unchecked + twins.unread > 0) {
      if (result.status == metrics::InvariantStatus::held) result.status = metrics::InvariantStatus::undecided;
      result.detail += fmt::format(" {} twins could not be compared ({} unread, {} with too many unanswered requests).",
                                   twins.unchecked + twins.unread, twins.unread, twins.unchecked);
    }
    return result;
  }

  bool writes_tags() const {
    const auto& backends = scenario().backends;
    return std::any_of(backends.begin(), backends.end(), [](const auto& backend) { return !backend.tags.empty(); });
  }

  std::vector<std::string> lost_workers() const {
    std::vector<std::string> names;
    for (const auto& process : workers_->processes()) {
      if (process.end) names.push_back(process.name);
    }
    return names;
  }

  void record_workers(metrics::RunRecord& record) const {
    const auto recorders = workers_->recorders();
    for (const auto& process : workers_->processes()) {
      metrics::WorkerRecord row{.name = process.name,
                                .devices = process.devices,
                                .cpu_seconds = process.used.cpu_seconds - process.cpu_before,
                                .lost = process.end.has_value()};
      row.end = process.end.value_or("");
      row.pid = static_cast<uint64_t>(process.pid);
      row.shards = process.shards.size();
      row.resident_bytes = process.used.resident_bytes;
      std::vector<const metrics::ShardRecorder*> own;
      for (const auto shard : process.shards) {
        own.push_back(recorders[shard]);
        if (shard < busy_shares_.size()) row.busy_share = std::max(row.busy_share, busy_shares_[shard]);
      }
      const auto totals = metrics::Aggregator{plan_->layout, own, start_}.totals();
      row.ledger = metrics::ledger_of(totals);
      row.schedule_lag_p99 = metrics::percentile_seconds(totals.schedule_lag(), 0.99);
      record.workers.push_back(std::move(row));
    }
  }

  Result<RunOutcome> record() {
    metrics::RunRecord record;
    metrics::fill_measurements(record, *totals_, timings_, started_wall_);
    record.run.id = options_.folder.filename().string();
    record.run.scenario = scenario().name;
    record.run.description = scenario().description;
    record.run.seed = scenario().seed;
    record.run.started_at = format_iso8601(started_wall_);
    record.run.duration_seconds = duration_seconds_;
    record.run.version = options_.version;
    record.run.target = target_name_;
    record.run.command = options_.command;
    record.run.forced = forced_;
    record.devices.target = scenario().device_count();
    record.devices.connected = connected_at_end_;
    record.devices.connected_max = std::max(devices_max_, connected_at_end_);
    record.generator.cpu_seconds = generator_cpu_;
    record.generator.resident_bytes = generator_resident_;
    record.generator.heap_bytes_per_device = heap_per_device_;
    record.generator.busy_shares = busy_shares_;
    record.hub = hub_record_;
    record_workers(record);
    record.invariants = invariants_;
    record.canary = canary_record_;
    record.throttling = throttling_;

    std::vector<metrics::SloResult> slos;
    for (const auto& slo : scenario().slos) {
      slos.push_back(metrics::judge(slo, *totals_));
      record.slos.push_back(metrics::to_record(slos.back()));
      collector_->set_slo(slo, slos.back().status);
    }
    metrics::ValidityInputs inputs{*totals_,    record.generator.busy_shares, clock_step_,
                                   comparison_, hub_end_.has_value(),         lost_workers(),
                                   slos,        aborted_by_.has_value()};
    metrics::ValidityLimits limits;
    limits.schedule_lag_p99_max = scenario().limits.schedule_lag;
    limits.dropped_share_max = scenario().limits.dropped;
    limits.busy_share_max = scenario().limits.busy;
    metrics::VerdictInputs verdict;
    verdict.validity = metrics::check_validity(inputs, limits);
    if (hub_end_) {
      for (auto& finding : verdict.validity.findings) {
        if (finding.code == "hubLost")
          finding.text = fmt::format("{} after {:.1f} s, before the run was over", *hub_end_, duration_seconds_);
      }
    }
    verdict.invariants = invariants_;
    verdict.slos = slos;
    if (aborted_by_) verdict.aborted_by = aborted_by_->text;
    verdict.signal = control_.signals.load() > 0 ? control_.last_signal.load() : 0;
    for (const auto& text : unmet_) verdict.validity.findings.push_back({"phaseTimeout", text});
    if (canary_record_) {
      if (const auto doubt = metrics::canary_invalidates(*canary_record_)) {
        verdict.validity.findings.push_back({"canary", *doubt});
      }
    }
    const uint64_t open = findings_.open_at_stop;
    // What a lost worker held open nobody knows.
    if (const auto in_flight = totals_->everything().in_flight(); in_flight != open && lost_workers().empty()) {
      verdict.validity.findings.push_back(
          {"ledger",
           fmt::format("{} operations are neither ended nor open: the ledger says {} in flight, the shards held {}",
                       in_flight > open ? in_flight - open : open - in_flight, in_flight, open)});
    }
    record.verdict = metrics::decide(verdict);
    record.validity = verdict.validity.findings;
    collector_->set_verdict(record.verdict.status);
    event("note", fmt::format("verdict: {}", metrics::to_string(record.verdict.status)));
    RunOutcome outcome{record.verdict, options_.folder, write_error_};
    const auto finished = writer_->finish(record, metrics::collect_histograms(*totals_, timings_, started_wall_),
                                          options_.resolved_yaml, describe_environment(options_.version));
    if (!finished && !outcome.record_error) outcome.record_error = finished.error();
    if (push_) {
      if (const auto pushed = push_->finish(); !pushed) ui_.step(pushed.error().message);
    }
    if ((endpoint_ || push_) && options_.linger > Nanos{0}) {
      ui_.step(fmt::format("keeping the metrics for {}", format_duration(options_.linger)));
      const MonoTime until = clock_.mono() + options_.linger;
      while (clock_.mono() < until && control_.signals.load() == 0) std::this_thread::sleep_for(kTick);
    }
    if (push_ && options_.push_delete) {
      if (const auto removed = push_->remove(); !removed) ui_.step(removed.error().message);
    }
    return outcome;
  }

  void event(std::string_view kind, std::string text) { event(kind, std::move(text), clock_.mono()); }
  void event(std::string_view kind, std::string text, MonoTime at) {
    const double seconds = start_ == MonoTime{} ? 0 : std::max(0.0, to_seconds(at - start_));
    keep(writer_->append(metrics::RunEvent{seconds, std::string{kind}, std::move(text)}));
  }
  /// A disk that fills up during the run is said once, at the end: measuring goes on.
  void keep(const Result<void>& written) {
    if (!written && !write_error_) write_error_ = written.error();
  }

  const RunOptions& options_;
  const RunControl& control_;
  RunUi& ui_;
  SteadyClock clock_;
  std::unique_ptr<const FleetPlan> plan_;
  std::optional<metrics::RunWriter> writer_;
  std::vector<HubProcess> hubs_;  // of the run's own
  std::vector<std::unique_ptr<const HubSite>> sites_;
  std::optional<net::CertifiedKey> device_authority_;
  std::string target_name_;
  std::vector<std::string> forced_;  // what the machine lacks for this run
  std::vector<DeviceIndex> existing_;
  Result<std::map<std::string, uint64_t>> counts_before_ = make_error(ErrorCode::not_found, "not read");
  std::optional<metrics::ThrottlingRecord> throttling_before_, throttling_;
  std::unique_ptr<Canary> canary_;
  std::optional<metrics::CanaryRecord> canary_record_;
  std::unique_ptr<Workers> workers_;
  Findings findings_;
  std::optional<metrics::Aggregator> aggregator_;
  std::optional<metrics::AbortWatch> abort_watch_;
  std::optional<metrics::AbortWatch::Finding> aborted_by_;
  std::shared_ptr<metrics::PrometheusCollector> collector_;
  std::optional<metrics::MetricsEndpoint> endpoint_;
  std::optional<MetricsPush> push_;

  MonoTime start_{}, phase_begin_{}, phase_end_{}, phase_limit_{}, next_interval_{};
  MonoTime next_abort_look_{}, last_open_{};
  WallTime started_wall_{};
  Nanos wall_offset_{0}, clock_step_{0};
  uint32_t phase_ = 0;
  bool ending_ = false;
  std::string end_reason_;
  std::optional<std::string> hub_end_;
  std::optional<Error> write_error_;
  std::vector<std::string> unmet_;
  std::vector<double> busy_shares_;
  std::vector<metrics::PhaseTiming> timings_;
  uint64_t devices_max_ = 0, connected_at_end_ = 0;
  std::optional<uint64_t> heap_before_connect_;
  std::optional<double> heap_per_device_, last_cpu_;
  double cpu_before_ = 0, hub_cpu_before_ = 0, duration_seconds_ = 0, generator_cpu_ = 0;
  uint64_t generator_resident_ = 0;
  std::optional<metrics::Totals> totals_;
  metrics::HubComparison comparison_;
  std::vector<metrics::InvariantResult> invariants_;
  std::optional<metrics::HubRecord> hub_record_;
};

}  // namespace

Result<void> check_output_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "summary.json", error)) {
    return make_error(ErrorCode::already_exists,
                      fmt::format("{} holds a run already: give another folder with --out", folder.string()));
  }
  fs::create_directories(folder, error);
  if (error) {
    return make_error(ErrorCode::io,
                      fmt::format("cannot create the output folder {}: {}", folder.string(), error.message()));
  }
  const auto probe = folder / ".write-probe";
  const int fd = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  const std::string block(4096, 'x');
  const bool written =
      fd >= 0 && ::write(fd, block.data(), block.size()) == static_cast<ssize_t>(block.size()) && ::fsync(fd) == 0;
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  ::unlink(probe.c_str());
  if (!written) {
    return make_error(ErrorCode::io,
                      fmt::format("cannot write to the output folder {}: {}", folder.string(), std::strerror(reason)));
  }
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) == 0) {
    const uint64_t available = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    if (available < kDiskNeeded) {
      return make_error(ErrorCode::io,
                        fmt::format("the disk of {} has only {} left; a run needs {}: free some space or choose "
                                    "another folder with --out",
                                    folder.string(), format_size(available), format_size(kDiskNeeded)));
    }
  }
  return {};
}

Result<RunOutcome> execute_run(const RunOptions& options, const RunControl& control, RunUi& ui) {
  return Run{options, control, ui}.execute();
}

}  // namespace twinstorm::run
