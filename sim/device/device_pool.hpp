// All simulated devices of one shard: state, timers, requests in flight, simulated work.
//
// A device is not an object but a row: 64 bytes of hot state, a link, and indices into slabs sized from the plan
// (docs/architecture.md, "A device in memory"). Everything here runs on the shard's thread, driven by link events and
// by `on_timer`; time comes from the clock given. The life of a device:
//
//   offline --connect()--> connecting --CONNACK 0--> subscribing --SUBACK--> fetching --twin--> online
//      ^                       |                        |                       |               |
//      +--- waiting <----------+------------------------+-----------------------+---------------+   (backoff)
//
// A device with a SAS token replaces it before its end as the official SDK does: DISCONNECT, a new connection with a
// new token, no SUBSCRIBE when the hub kept the session. It waits until nothing of its own is in flight; what becomes
// due meanwhile waits and leaves when the device is back (docs/decisions.md).
//
// Connecting follows the documented order: subscribe, then GET, then ignore notifications not newer than the version
// fetched. If that version is newer than what the device had reported, it applies and reports the whole state (a sync).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/base/ids.hpp"
#include "sim/base/slab.hpp"
#include "sim/base/time.hpp"
#include "sim/base/timer_wheel.hpp"
#include "sim/device/behavior.hpp"
#include "sim/device/periodic.hpp"
#include "sim/net/shard_io.hpp"
#include "sim/transport/device_transport.hpp"
#include "sim/transport/paho/paho_client.hpp"

namespace twinstorm::device {

using transport::LocalDevice;

enum class DeviceState : uint8_t { offline, waiting, connecting, subscribing, fetching, online };

/// What the run learns from its devices; called on the shard's thread.
class FleetObserver {
 public:
  /// A desired notification of `version` arrived (also doubled and late ones).
  virtual void on_notified(LocalDevice device, int64_t version, MonoTime at) = 0;
  /// Simulated work for `version` is done and its report left, once per listener that acts.
  virtual void on_report_sent(LocalDevice device, int64_t version, MonoTime at) = 0;
  /// Everything the device does about `version` is done and acknowledged.
  virtual void on_converged(LocalDevice device, int64_t version, MonoTime at) = 0;
  /// The device knows of `version` (`synced`: of everything up to it) and its simulated work failed, as the scenario
  /// asked: it never converges.
  virtual void on_apply_failed(LocalDevice device, int64_t version, bool synced) = 0;
  /// The device fetched its twin. `went_back`: desired is at a lower version than the device had seen.
  virtual void on_fetched(LocalDevice device, int64_t version, bool went_back) = 0;
  /// The state fetched as `version` is applied and acknowledged.
  virtual void on_synced(LocalDevice device, int64_t version, MonoTime at) = 0;
  /// The hub acknowledged a reported patch as reported `$version`.
  virtual void on_reported(LocalDevice device, std::string_view patch, int64_t version) = 0;
  /// A reported patch was sent and its fate is unknown.
  virtual void on_report_unknown(LocalDevice device, std::string_view patch) = 0;

 protected:
  ~FleetObserver() = default;
};

class DevicePool final : private transport::TransportEvents {
 public:
  struct Config {
    std::vector<const FleetBehavior*> fleets;
    std::vector<DeviceIndex> devices;  ///< of this shard, in the order of LocalDevice
    std::vector<uint16_t> fleet_of;    ///< same length: index into `fleets`
    uint32_t requests_max = 0;         ///< operations in flight at a time; beyond, arrivals are dropped
    uint32_t tasks_max = 0;            ///< simulated work in progress at a time
    uint64_t seed = 0;
    std::vector<transport::LinkTarget> targets;              ///< by fleet
    std::vector<std::optional<transport::PahoLink>> paho{};  ///< by fleet: on Paho MQTT C++; shorter: on our own client
    const Authority* authority = nullptr;
    std::string client_type = "twinstorm";  ///< `DeviceClientType` of the user name, not encoded
    /// How a device gets its link; empty: this project's MQTT client, over what its fleet and target ask for.
    std::function<std::unique_ptr<transport::DeviceTransport>(LocalDevice, transport::TransportEvents&)> make_link;
  };

  /// Timers of the shard's wheel that this pool uses: ids [first_timer, first_timer + timers_needed(config)).
  static uint32_t timers_needed(const Config& config);

  DevicePool(Config config, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer, const Clock& clock,
             metrics::ShardRecorder& recorder, FleetObserver& observer);
  ~DevicePool();

  /// The run begins: periodic telemetry counts from `start`. Before the first device connects.
  void begin(MonoTime start) { periodic_from_ = start; }
  /// The phase that work which starts by itself (reconnects, telemetry) is counted in.
  void set_phase(metrics::PhaseIndex phase) { phase_ = phase; }

  // Scheduled work: each call is one arrival that was due at `due` and is counted by the caller as asked. It ends in
  // the recorder; `n` numbers the arrival for renderers.
  void connect(LocalDevice device, metrics::PhaseIndex phase, MonoTime due);
  void get_twin(LocalDevice device, metrics::PhaseIndex phase, MonoTime due);
  void report(LocalDevice device, metrics::PhaseIndex phase, MonoTime due, uint64_t n);
  void send_telemetry(LocalDevice device, metrics::PhaseIndex phase, MonoTime due);

  /// Replaces the device's token before its time, as soon as nothing of its own is in flight. Nothing happens when it
  /// is not online or has no token.
  void renew_early(LocalDevice device);
  /// Cuts the connection as a lost network would; the retry policy decides what follows.
  void cut(LocalDevice device);
  /// From now on nothing reconnects and no telemetry starts by itself.
  void stop_spontaneous_work() { stopping_ = true; }
  /// Says goodbye on every link and forgets what was in flight (the recorder then shows it as in flight).
  void disconnect_all();
  void on_timer(uint32_t timer);

  DeviceState state(LocalDevice device) const { return hot_[device].state; }
  bool online(LocalDevice device) const { return hot_[device].state == DeviceState::online; }
  const metrics::DeviceCounts& counts() const { return counts_; }
  uint32_t size() const { return static_cast<uint32_t>(hot_.size()); }
  uint32_t requests_open() const { return requests_.used(); }
  /// Those of them that have not left yet: their devices renew tokens.
  uint32_t requests_waiting() const { return waiting_; }
  uint32_t tasks_open() const { return tasks_.used(); }
  /// Connection attempts counted as sent and not ended.
  uint32_t connects_open() const;
  void append_device_id(LocalDevice device, std::string& out) const;
  DeviceIndex index(LocalDevice device) const { return config_.devices[device]; }

  /// Called when a scheduled request of `stream` ends, however: for closed-model loads. Not for what devices start by
  /// themselves (fetches, reports of changes, periodic telemetry).
  std::function<void(metrics::StreamIndex, metrics::PhaseIndex)> on_request_ended;

 private:
  static constexpr uint32_t kNone = Slab<int>::kNone;

  /// Read or written on almost every event: one cache line.
  struct alignas(64) Hot {
    std::unique_ptr<transport::DeviceTransport> link;  // made at the first connect, reused ever after
    uint64_t rng = 0;
    MonoTime connect_due{};
    uint32_t requests = kNone;     // head of this device's requests in flight
    uint32_t tasks = kNone;        // head of its simulated work
    uint32_t desired_version = 0;  // newest seen
    uint32_t applied_version = 0;  // newest known to be reported and acknowledged
    uint32_t connect_sent_us = 0;  // after connect_due
    uint32_t seen_while_fetching = 0;
    uint32_t renew_ms = 0;  // when the token is replaced, after origin_
    uint16_t connect_phase = 0;
    uint16_t fleet = 0;
    DeviceState state = DeviceState::offline;
    uint8_t attempts = 0;
    uint8_t refetches = 0;
    bool connect_counted : 1 = false;  // the current attempt is in the ledger and not ended
    bool needs_sync : 1 = false;       // work was lost with a connection: report everything again
    bool introduced : 1 = false;       // the fleet's reported properties were sent once
    bool renew_due : 1 = false;        // the token is to be replaced as soon as nothing is in flight
    bool renewing : 1 = false;         // between DISCONNECT and online again
  };
  static_assert(sizeof(Hot) == 64 && alignof(Hot) == 64, "one cache line a device");

  enum class RequestKind : uint8_t {
    get_twin,
    fetch,  // the GET on the way to being online
    gap,    // the GET after a renewal: what happened while the device was away
    report,
    task_report,
    telemetry
  };
  static bool vital(RequestKind kind) { return kind == RequestKind::fetch || kind == RequestKind::gap; }

  struct Request {
    MonoTime due{}, sent{};
    std::unique_ptr<std::string> body;  // reports: the patch, for the observer
    uint32_t next = kNone;
    uint32_t device = 0;
    uint32_t id = 0;  // $rid or telemetry packet identifier
    uint32_t task = kNone;
    uint32_t stream = 0;
    uint16_t phase = 0;
    RequestKind kind = RequestKind::get_twin;
    bool scheduled = false;  // an arrival of the load, not the device's own idea
    bool waiting = false;    // for the device to be back with a new token: not sent yet
  };
  /// How the work of all listeners for one version ends.
  enum class Fate : uint8_t { good, failed, abandoned };

  struct Task {
    MonoTime due{};
    std::unique_ptr<std::string> body;  // the reported patch; null for Report::none
    uint32_t next = kNone;
    uint32_t device = 0;
    uint32_t version = 0;
    uint16_t phase = 0;
    bool sync = false;       // the state of a fetched twin rather than one notification
    bool fails = false;      // the simulated work of this one fails
    Fate fate = Fate::good;  // the worst of its version so far
  };

  // Link events.
  void identify(LocalDevice device, transport::Identity& identity) override;
  const net::CertifiedKey* client_certificate(LocalDevice device) override;
  void on_connected(LocalDevice device, bool session_present) override;
  void on_connect_refused(LocalDevice device, transport::ConnectRefusal refusal) override;
  void on_subscribed(LocalDevice device, bool granted) override;
  void on_twin_response(LocalDevice device, const transport::TwinResponse& response) override;
  void on_desired(LocalDevice device, int64_t version, std::string_view patch) override;
  void on_telemetry_acknowledged(LocalDevice device, uint16_t message) override;
  void on_method(LocalDevice device, std::string_view name, std::string_view rid, std::string_view payload) override;
  void on_message(LocalDevice device, std::string_view bag, std::string_view payload) override;
  void on_disconnected(LocalDevice device, transport::DisconnectReason reason) override;

  const FleetBehavior& fleet(LocalDevice device) const { return *config_.fleets[hot_[device].fleet]; }
  uint32_t index_in_fleet(LocalDevice device) const { return config_.devices[device] - fleet(device).first; }
  void set_state(LocalDevice device, DeviceState state);
  Rng take_rng(LocalDevice device) const { return Rng{hot_[device].rng}; }
  void keep_rng(LocalDevice device, const Rng& rng) { hot_[device].rng = rng.state(); }

  void start_connect(LocalDevice device, metrics::PhaseIndex phase, MonoTime due);
  void connect_ended(LocalDevice device, metrics::ErrorClass error);
  void wait_or_give_up(LocalDevice device);
  void lost(LocalDevice device, metrics::ReconnectReason reason);
  void forget_work(LocalDevice device, metrics::ErrorClass error);
  void arm_life_timer(LocalDevice device);

  bool renews(LocalDevice device) const { return fleet(device).certificates.empty(); }
  MonoTime renew_at(LocalDevice device) const;
  void plan_renewal(LocalDevice device);
  bool anything_in_flight(LocalDevice device) const;
  void renew(LocalDevice device);
  void renewed(LocalDevice device);
  void send_waiting(LocalDevice device);
  void gap_closed(LocalDevice device, std::string_view twin);
  metrics::StreamIndex connect_stream(LocalDevice device) const {
    return hot_[device].renewing ? fleet(device).renew_stream : fleet(device).connect_stream;
  }
  PeriodicTicks ticks(LocalDevice device) const;
  /// For the first tick after `now`.
  void arm_telemetry(LocalDevice device, MonoTime now);

  void start_report(LocalDevice device, metrics::PhaseIndex phase, MonoTime due, uint64_t n, bool scheduled);
  void start_telemetry(LocalDevice device, metrics::PhaseIndex phase, MonoTime due, bool scheduled);
  /// Drops and returns kNone when the slab is full.
  uint32_t new_request(LocalDevice device, RequestKind kind, metrics::StreamIndex stream, metrics::PhaseIndex phase,
                       MonoTime due, bool scheduled);
  void ended(metrics::StreamIndex stream, metrics::PhaseIndex phase, bool scheduled) const {
    if (scheduled && on_request_ended) on_request_ended(stream, phase);
  }
  uint32_t find_telemetry(LocalDevice device, uint16_t message);
  void send_request(uint32_t request, std::string_view body);
  void end_request(uint32_t request, metrics::OpOutcome outcome, metrics::ErrorClass error);
  void drop_request(uint32_t request, metrics::ErrorClass error);
  void drop_offline(metrics::StreamIndex stream, metrics::PhaseIndex phase, bool scheduled);
  void unlink_request(uint32_t request);
  void fetch(LocalDevice device, RequestKind kind);
  struct Desired {
    std::string_view json;
    uint32_t version;
  };
  /// The desired section of a twin; nothing, and the connection is lost, when the twin has none with a version.
  std::optional<Desired> desired_of(LocalDevice device, std::string_view twin);
  void fetched(LocalDevice device, std::string_view twin);
  void introduce(LocalDevice device);

  /// Creates the simulated work for `desired`; false when no listener cares.
  bool start_tasks(LocalDevice device, uint32_t version, std::string_view desired, bool sync);
  void run_task(uint32_t task);
  void task_done(uint32_t task);
  /// The report of a task will not be acknowledged: its version never converges on this connection.
  void abandon_task(uint32_t task);
  void remove_task(uint32_t task);
  /// The work for `version` ends when its last task does.
  void group_ended(LocalDevice device, uint32_t version, bool sync, Fate fate);
  static Fate worse(Fate a, Fate b) { return a < b ? b : a; }

  Config config_;
  net::ShardIo& io_;
  TimerWheel& wheel_;
  const Clock& clock_;
  metrics::ShardRecorder& recorder_;
  FleetObserver& observer_;
  const uint32_t life_timers_, telemetry_timers_, request_timers_, task_timers_;
  const MonoTime origin_;
  MonoTime periodic_from_;
  metrics::PhaseIndex phase_ = 0;
  std::vector<Hot> hot_;
  Slab<Request> requests_;
  Slab<Task> tasks_;
  metrics::DeviceCounts counts_;
  std::string scratch_;         // reported patches on their way out
  std::string id_scratch_;      // device ids on their way out
  std::string telemetry_body_;  // one payload for all
  net::CertifiedKey shown_certificate_;
  std::vector<uint32_t> waiting_scratch_;
  uint32_t waiting_ = 0;
  uint32_t next_generation_ = 0;
  bool stopping_ = false;
};

}  // namespace twinstorm::device
