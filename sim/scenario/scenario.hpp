// The scenario model: what to run, as plain values. Made by `load_scenario` (loader.hpp) from YAML, completed by
// `resolve` (plan.hpp). Nothing here does anything; all of it may be copied to any thread.
//
// "Until resolved" marks what the file may leave out and `resolve` fills in; the runner only ever sees resolved
// scenarios.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/op.hpp"
#include "metrics/shard_recorder.hpp"
#include "metrics/slo.hpp"
#include "sim/base/distribution.hpp"
#include "sim/base/ids.hpp"
#include "sim/base/time.hpp"
#include "sim/base/units.hpp"
#include "sim/scenario/load_shape.hpp"
#include "sim/scenario/text_pattern.hpp"
#include "sim/scenario/trace.hpp"
#include "sim/scenario/value_template.hpp"

namespace twinstorm::scenario {

inline constexpr std::string_view kSchemaId = "twinstorm/scenario/1";

/// Where the hub is.
struct Target {
  enum class Kind : uint8_t {
    embedded,           ///< the run starts a hub process of its own and stops it
    connection_string,  ///< a service connection string, or `env:NAME`; only the runner looks into the environment
    ready_file,         ///< the file a `twinstorm hub --ready-file` wrote
  };
  Kind kind = Kind::embedded;
  std::string connection_string;  ///< as written; may hold a secret: never print it unredacted
  std::string ready_file;
  // Connection string only; 0 = not given. `resolve` fills in those that the scenario uses (8883, 443, 1883, 80).
  uint16_t mqtt_port = 0, mqtts_port = 0, http_port = 0, https_port = 0;
  std::string ca_file;  ///< connection string only: PEM of the CAs to trust; empty: the system's
  /// Not embedded: certificate and key (PEM files) of the CA that the hub trusts to sign `x509-ca` devices.
  std::string device_ca_certificate, device_ca_key;
  /// Addresses of this machine that devices connect from, in turn, as written: `10.0.0.5`, `10.0.0.5-10.0.0.9`,
  /// `10.0.0.0/29` (source_addresses.hpp). Empty: the system chooses, for a hub on loopback the run (docs/limits.md).
  std::vector<std::string> source_addresses;
  /// What fleets (over MQTT, or over WebSocket on the HTTP ports) and back ends do when they do not say.
  bool mqtt_uses_tls() const { return kind == Kind::connection_string && (mqtts_port != 0 || mqtt_port == 0); }
  bool http_uses_tls() const { return kind == Kind::connection_string && (https_port != 0 || http_port == 0); }
  /// How the run's own hub behaves; embedded only. Written as `target: {embedded: {threads, processes}}` and the
  /// top-level `hub`.
  struct Hub {
    uint32_t threads = 1;          ///< of each process
    uint32_t processes = 1;        ///< hubs; device i lives in hub i mod processes
    std::string tier;              ///< `F1`, `B1` .. `S3`: quotas and throttles of that tier; empty: none
    uint32_t units = 1;            ///< with a tier
    Distribution query_staleness;  ///< how long a write stays out of queries
    uint32_t query_page_max = 0;   ///< larger page sizes are cut to this; 0: as the hub does by default
    std::string plant;             ///< faults on purpose, `dropNotification:1000,...` as of `hub --plant`; empty: none
    friend bool operator==(const Hub&, const Hub&) = default;
  } hub;
  friend bool operator==(const Target&, const Target&) = default;
};

enum class TransportKind : uint8_t {
  mqtt,    ///< MQTT 3.1.1 over TCP
  mqttws,  ///< MQTT 3.1.1 over WebSocket, on the hub's HTTP port
};
enum class Engine : uint8_t {
  native,  ///< this project's own client
  paho,    ///< Paho MQTT C++: another client's view, for a few hundred devices
};
enum class AuthKind : uint8_t {
  sas,              ///< symmetric key, SAS token
  x509_selfsigned,  ///< client certificate that the hub knows by its thumbprint
  x509_ca,          ///< client certificate signed by a CA that the hub trusts; CN = device id
};

/// `mqtt`, `mqttws`.
const char* to_string(TransportKind kind);
/// `native`, `paho`.
const char* to_string(Engine engine);
/// `sas`, `x509-selfsigned`, `x509-ca`.
const char* to_string(AuthKind kind);

/// TLS of a fleet's connections. The hub's certificate is always verified.
struct Tls {
  enum class Version : uint8_t { any, v1_2, v1_3 };  ///< any: 1.2 or 1.3, as the hub prefers
  std::optional<bool> enabled;                       ///< set once resolved
  Version version = Version::any;
  bool resumption = false;  ///< a device that comes back offers its last session
  bool on() const { return enabled.value_or(false); }
  friend bool operator==(const Tls&, const Tls&) = default;
};
/// `any`, `1.2`, `1.3`.
const char* to_string(Tls::Version version);

/// How long SAS tokens live, and when a device replaces its own: by a clean reconnect, as the official SDK does.
struct Tokens {
  Nanos lifetime = std::chrono::hours{1};
  Nanos renew_before{0};  ///< before the end; 0 until resolved (then a quarter of the lifetime, at most 15 min)
  double jitter = 0.1;    ///< each renewal comes up to this share of its time early; 0: all at the same age
  friend bool operator==(const Tokens&, const Tokens&) = default;
};

/// What devices do about a change of desired properties below `path`.
struct DesiredListener {
  enum class Report : uint8_t { none, echo, values };
  std::string
      path;  ///< empty: every patch; else `climate` or `climate.hvac.systemControl`, without `properties.desired.`
  Distribution delay;  ///< simulated work between the notification and the report
  double failure = 0;  ///< share of notifications that are not reported back at all, in [0, 1]
  Report report = Report::echo;
  ValueTemplate values;  ///< report == values: the reported patch
  friend bool operator==(const DesiredListener&, const DesiredListener&) = default;
};

/// Telemetry that devices send by themselves, apart from any load.
struct Telemetry {
  Nanos every{0};     ///< 0: only when a load names `<fleet>.telemetry`
  double jitter = 0;  ///< each interval is every * (1 +- jitter), jitter in [0, 1]
  ByteCount size = 256;
  friend bool operator==(const Telemetry&, const Telemetry&) = default;
};

/// Exponential backoff: attempt k waits up to min(max, initial * 2^k).
struct Reconnect {
  enum class Jitter : uint8_t { full, none };  ///< full: uniform in [0, wait]
  bool enabled = true;
  Nanos initial = std::chrono::seconds{1};
  Nanos max = std::chrono::seconds{30};
  Jitter jitter = Jitter::full;
  friend bool operator==(const Reconnect&, const Reconnect&) = default;
};

/// Devices that are alike.
struct Fleet {
  std::string name;
  uint32_t count = 0;
  DeviceIndex first = 0;  ///< index of its first device in the run; fleets follow each other in the order of the file
  std::string device_id_pattern = "{fleet}-{index:05}";
  TextPattern device_id;  ///< compiled `device_id_pattern`
  /// Devices that are registered already: `env:NAME` or a file, one device connection string a line, read only by the
  /// runner. Empty: the run registers devices named by the pattern, with keys of its own making.
  std::string connection_strings;
  TransportKind transport = TransportKind::mqtt;
  Engine engine = Engine::native;
  AuthKind auth = AuthKind::sas;
  Tls tls;
  Tokens tokens;         ///< auth sas only
  bool methods = false;  ///< subscribes to direct methods and answers each with 200 and its own payload
  bool c2d = false;      ///< subscribes to cloud-to-device messages and counts them
  ValueTemplate tags;    ///< empty: none; rendered with n = index in the fleet
  ValueTemplate
      reported;  ///< empty: none; what a device reports when it connects first and when `<fleet>.report` is due
  std::vector<DesiredListener> on_desired;  ///< empty: notifications are received and not answered
  Telemetry telemetry;
  Reconnect reconnect;
  Nanos keep_alive = std::chrono::seconds{180};  ///< the official SDK's
  Nanos timeout{0};  ///< for each operation of a device; 0 until resolved (then `limits.operation_timeout`)

  /// `index_in_fleet` is 0 .. count - 1.
  void append_device_id(std::string& out, uint32_t index_in_fleet) const { device_id.append(out, index_in_fleet); }
  bool holds(DeviceIndex device) const { return device >= first && device - first < count; }
  friend bool operator==(const Fleet&, const Fleet&) = default;
};

/// How often and how soon a conditional write is tried again after a 412: attempt k waits a random part of
/// min(longest, initial * 2^k), or all of it.
struct Retries {
  uint32_t max = 5;  ///< repetitions; 0: none
  Nanos initial = std::chrono::milliseconds{10};
  Nanos longest = std::chrono::seconds{1};
  Reconnect::Jitter jitter = Reconnect::Jitter::full;
  friend bool operator==(const Retries&, const Retries&) = default;
};

/// Follows a share of the acknowledged writes until queries show them.
struct StalenessProbe {
  double share = 0;  ///< in (0, 1]
  Nanos every = std::chrono::milliseconds{50};
  Nanos timeout = std::chrono::seconds{60};  ///< from the acknowledgement
  friend bool operator==(const StalenessProbe&, const StalenessProbe&) = default;
};

/// Clients of the service side that are alike. Their arrivals go round the devices of the selected fleet, if the
/// operation works on a device.
struct BackendGroup {
  enum class IfMatch : uint8_t {
    any,                ///< `*`
    last_seen,          ///< the ETag of this group's last answer for that twin
    read_modify_write,  ///< reads the twin first and writes with its ETag; again after a 412, as `retries` says
  };
  enum class Pages : uint8_t { first, all };
  enum class Bulk : uint8_t { create, remove };
  std::string name;
  metrics::OpKind op = metrics::OpKind::patch_desired;  ///< one of the back end's
  uint32_t fleet = 0;                                   ///< index of the selected fleet; see `works_on_devices`
  ValueTemplate patch;                                  ///< desired properties (patchDesired, replaceTwin, job)
  ValueTemplate tags;        ///< tags (patchTags, replaceTwin, bulk, job; with patchDesired in one patch)
  std::string sql;           ///< query
  uint32_t page_size = 100;  ///< query: x-ms-max-item-count, 1 .. 10,000
  Pages pages = Pages::all;  ///< query: whether an operation is one page or the whole result
  IfMatch if_match = IfMatch::any;
  Retries retries;                                    ///< if_match == read_modify_write
  StalenessProbe staleness;                           ///< writes of twins; share 0: none
  std::string method_name;                            ///< method; job: not empty = a job of direct methods
  ValueTemplate payload;                              ///< method, job; empty: null
  Nanos response_timeout = std::chrono::seconds{30};  ///< method, job: whole seconds, 5 .. 300
  Nanos connect_timeout{0};                           ///< method, job: whole seconds, at most `response_timeout`
  std::string device_id_pattern;                      ///< createDevice, bulk that creates; as written or by default
  TextPattern device_id;                 ///< compiled `device_id_pattern`; its index runs through the whole run
  bool keep = false;                     ///< createDevice, bulk that creates: not removed at the end of the run
  std::string of;                        ///< deleteDevice, bulk that deletes: the back end that creates
  uint32_t creator = 0;                  ///< index of `of` in `backends`
  Bulk bulk = Bulk::create;              ///< bulk
  uint32_t size = 100;                   ///< bulk: identities of one request, 1 .. 100
  std::string condition = "*";           ///< job: the WHERE part of a query; `*` = every device
  Nanos poll = std::chrono::seconds{1};  ///< job: between two looks at its status
  Nanos max_execution_time = std::chrono::hours{1};  ///< job: whole seconds
  std::optional<bool> tls;                           ///< set once resolved (then as the target's ports say)
  Nanos timeout{0};          ///< 0 until resolved (then `limits.operation_timeout`, or what the operation needs)
  uint32_t connections = 0;  ///< HTTP/1.1 connections per shard; 0 until resolved (then from rate and expected latency)

  /// Each arrival is for one device of `fleet`.
  bool works_on_devices() const;
  bool creates_devices() const {
    return op == metrics::OpKind::create_device || (op == metrics::OpKind::bulk && bulk == Bulk::create);
  }
  bool deletes_devices() const {
    return op == metrics::OpKind::delete_device || (op == metrics::OpKind::bulk && bulk == Bulk::remove);
  }
  friend bool operator==(const BackendGroup&, const BackendGroup&) = default;
};
/// `any`, `lastSeen`, `readModifyWrite`.
const char* to_string(BackendGroup::IfMatch policy);

/// A load shape as written; durations that are left out stay unset until resolved.
struct ShapeSpec {
  enum class Kind : uint8_t { constant, ramp, steps, spike, sine, trace };
  Kind kind = Kind::constant;
  Rate rate;                    ///< constant: the rate; spike: base; sine: mean
  Rate from, to;                ///< ramp
  std::optional<Nanos> over;    ///< ramp: default the phase
  std::vector<RateStep> steps;  ///< steps: a length of 0 for the last means "to the end"
  Rate peak;                    ///< spike: peak; sine: amplitude
  Nanos at{0}, hold{0};         ///< spike
  Nanos period{0};              ///< sine
  std::string trace_file;       ///< trace: a path from where the loader was, or absolute
  Trace trace;                  ///< trace: what the file holds
  double scale = 1;             ///< trace: so many times its rates or arrivals
  bool per_device = false;      ///< every rate above is for one device of the fleet
  bool poisson = false;
  friend bool operator==(const ShapeSpec&, const ShapeSpec&) = default;
};

/// The shape of `spec` for a phase that lasts `length` (`LoadShape::kForever` when it has no fixed end).
LoadShape make_shape(const ShapeSpec& spec, uint64_t devices, Nanos length);

/// One stream and how much of it.
struct LoadEntry {
  uint32_t stream = 0;       ///< index in `Scenario::streams()`
  uint32_t concurrency = 0;  ///< > 0: closed model with so many operations in flight over the whole run, `shape` unused
  Distribution think;        ///< closed: how long a slot rests after its operation ended, before the next
  ShapeSpec spec;
  LoadShape shape;  ///< the total over all devices and shards; empty until resolved
  bool closed() const { return concurrency > 0; }
};

/// Connects devices that are not connected: arrival n is for the n-th device of `fleets`, see `connect_target`.
struct ConnectSpec {
  ShapeSpec spec;
  LoadShape shape;               ///< empty until resolved
  std::vector<uint32_t> fleets;  ///< indices; empty until resolved (then all)
};

/// Cuts the TCP connection of a random share of the devices; their `reconnect` decides what happens then.
struct DisconnectSpec {
  double share = 0;              ///< in (0, 1]
  Nanos after{0};                ///< from the start of the phase
  Nanos over{0};                 ///< spread evenly over this time
  std::vector<uint32_t> fleets;  ///< indices; empty until resolved (then all)
};

/// A random share of the devices does something once, each at a random moment of [after, after + over).
struct EventSpec {
  enum class Kind : uint8_t {
    disconnect,  ///< as `DisconnectSpec`
    report,
    get_twin,
    telemetry,
    renew_token,  ///< before its time: a device replaces its token as soon as nothing of its own is in flight
  };
  Kind kind = Kind::report;
  double share = 0;              ///< in (0, 1]
  Nanos after{0}, over{0};       ///< from the start of the phase
  std::vector<uint32_t> fleets;  ///< indices; empty until resolved (then all)
};
/// `disconnect`, `report`, `getTwin`, `telemetry`, `renewToken`.
const char* to_string(EventSpec::Kind kind);

/// A phase ends when this holds, or at its timeout.
struct Until {
  enum class Kind : uint8_t {
    converged,
    devices_connected,
    operations,  ///< so many operations of the phase have ended, however
    quiet,       ///< nothing has been open for so long
  };
  Kind kind = Kind::converged;
  double share = 1;    ///< of the accepted patches that ended well, or of all devices
  uint64_t count = 0;  ///< operations
  Nanos quiet{0};      ///< quiet
  friend bool operator==(const Until&, const Until&) = default;
};

struct Phase {
  std::string name;
  std::optional<Nanos> duration;  ///< exactly one of `duration` and `until` is set once resolved
  std::optional<Until> until;
  Nanos timeout{0};    ///< only with `until`; 0 until resolved
  bool record = true;  ///< false: counted in the ledger, left out of the recorded totals and SLOs
  std::optional<ConnectSpec> connect;
  std::vector<LoadEntry> load;  ///< at most one entry per stream
  std::optional<DisconnectSpec> disconnect;
  std::vector<EventSpec> events;

  /// `duration`, or `LoadShape::kForever`.
  Nanos length() const { return duration.value_or(LoadShape::kForever); }
};

/// When the tool gives up, and when a run is not worth believing.
struct Limits {
  Nanos operation_timeout = std::chrono::seconds{10};
  Nanos convergence_timeout = std::chrono::seconds{30};  ///< a patch not applied by then is lost or unconverged
  Nanos drain_timeout = std::chrono::seconds{10};        ///< after the last phase, for what is still in flight
  uint32_t backlog_max = 10'000;                         ///< per shard: operations in flight beyond this are dropped
  Nanos schedule_lag = std::chrono::milliseconds{100};   ///< p99 above this: the run is invalid
  double dropped = 0.01;                                 ///< share of asked operations; above: invalid
  double busy = 0.95;                                    ///< share of time a shard may work; above: invalid
  friend bool operator==(const Limits&, const Limits&) = default;
};

enum class Invariant : uint8_t { no_lost_updates, versions_monotonic, final_state_matches, no_duplicates };
/// `noLostUpdates`, `versionsMonotonic`, `finalStateMatches`.
const char* to_string(Invariant invariant);

struct Scenario {
  std::string name;
  std::string description;
  uint64_t seed = 42;
  Target target;
  bool canary = true;  ///< one Paho device does what the fleets do, as a check of this tool's own stopwatch
  std::vector<Fleet> fleets;
  std::vector<BackendGroup> backends;
  std::vector<Phase> phases;
  std::vector<metrics::SloSpec> slos;
  std::vector<Invariant> invariants;
  Limits limits;

  uint32_t device_count() const;
  /// What can arrive, in a fixed order: `<fleet>.connect`, `.getTwin`, `.report`, `.telemetry`, `.renewToken` for each
  /// fleet, then one stream for each back end by its name.
  std::vector<metrics::StreamSpec> streams() const;
  static constexpr uint32_t kStreamsPerFleet = 5;
  /// `kind` is one of connect, get_twin, report, telemetry, renew_token.
  uint32_t fleet_stream(uint32_t fleet, metrics::OpKind kind) const;
  uint32_t backend_stream(uint32_t backend) const { return fleet_streams() + backend; }
  /// The fleet a stream works on; what works on no device counts as working on fleet 0.
  uint32_t fleet_of_stream(uint32_t stream) const;
  bool is_backend_stream(uint32_t stream) const { return stream >= fleet_streams(); }
  /// The back end of a stream for which `is_backend_stream` holds.
  uint32_t backend_of_stream(uint32_t stream) const { return stream - fleet_streams(); }
  uint32_t fleet_streams() const { return static_cast<uint32_t>(fleets.size()) * kStreamsPerFleet; }
  /// Whether any device or back end uses TLS.
  bool uses_tls() const;
  /// Streams and phases for the recorders of a run.
  metrics::RecorderLayout recorder_layout() const;
  bool checks(Invariant invariant) const;
};

/// The device that connect arrival `n` is for, or nothing when there are fewer devices.
std::optional<DeviceIndex> connect_target(const Scenario& scenario, const ConnectSpec& connect, uint64_t n);

}  // namespace twinstorm::scenario
