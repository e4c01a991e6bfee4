// The embedded hub: an IoT-Hub-compatible server for development and CI.
//
//   auto hub = hub::Hub::start({});
//   if (!hub) fail(hub.error().message);
//   use((*hub)->ports().mqtt, (*hub)->owner_connection_string());
//   (*hub)->stop();
//
// The hub owns its threads: one per shard, each with one event loop; the first also accepts. A device's identity, twin
// and MQTT connection live on shard `stable_hash(deviceId) % threads`; nothing on a message's path is shared between
// threads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/distribution.hpp"
#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/policy/planted_faults.hpp"
#include "sim/hub/policy/tiers.hpp"

namespace twinstorm::hub {

/// Bits of `Policy::permissions` (service.md 2.3).
enum Permission : uint8_t {
  kRegistryRead = 1,
  kRegistryWrite = 2,
  kServiceConnect = 4,
  kDeviceConnect = 8,
};

/// A shared access policy: a name that tokens carry as `skn`, and the keys that may sign for it.
struct Policy {
  std::string name;
  uint8_t permissions = 0;
  std::string primary_key;    ///< base64; empty = generated from the operating system's random source at start
  std::string secondary_key;  ///< base64; empty = generated likewise
};

/// `iothubowner`, `service`, `device`, `registryRead`, `registryReadWrite` with their documented permissions, no keys.
std::vector<Policy> default_policies();

struct HubConfig {
  std::string listen = "127.0.0.1";         ///< IPv4 or IPv6 literal all listeners bind to
  std::string host_name = "hub.localhost";  ///< `HostName` of connection strings and SAS resources; without port
  std::vector<std::string>
      host_aliases;  ///< further names accepted in SAS resources; `localhost` and 127.0.0.1 always are
  std::optional<uint16_t> mqtt_port = 0;  ///< 0 = any free port, nullopt = off
  std::optional<uint16_t> http_port = 0;  ///< 0 = any free port, nullopt = off
  std::optional<uint16_t> mqtts_port;     ///< MQTT over TLS; 0 = any free port, nullopt = off
  std::optional<uint16_t> https_port;     ///< REST and MQTT over WebSocket over TLS; 0 = any free port, nullopt = off
  std::string data_folder;  ///< keeps the development CA and server certificate; needed by TLS ports without an own one
  std::vector<std::string> tls_names;   ///< further names and addresses of the development server certificate
  std::string server_certificate_file;  ///< PEM, leaf first: used instead of the development certificate; with its key
  std::string server_key_file;          ///< PEM
  std::string device_authorities_pem;   ///< concatenated PEM: CAs that sign certificates of X.509 CA-signed devices
  std::string metrics_listen;           ///< `ADDR:PORT` of the Prometheus endpoint, empty = off
  unsigned threads = 0;                 ///< shards; 0 = half of the cores, at least 1
  std::vector<Policy> policies = default_policies();
  std::string import_file;   ///< JSON with `twins`, `modules`, `deviceJobs`; empty = start with no device
  std::string jwks_file;     ///< key set (JSON) of Entra's bearer tokens; empty = none are taken but development tokens
  std::string entra_issuer;  ///< `iss` of tokens signed by those keys; empty = any
  std::string entra_audience = "https://iothubs.azure.net";  ///< `aud` of bearer tokens
  bool check_sas = true;         ///< false: any credentials are accepted (never beyond loopback)
  std::optional<Tier> tier;      ///< whose rates, daily messages and other limits hold; nothing = no such limits
  uint32_t units = 1;            ///< of the tier
  bool tier_on_request = false;  ///< its rates and daily messages hold from `POST /twinstorm/throttle` on, not before
  /// Between two evaluations of the configurations; each change of one is evaluated soon after, too. More than zero.
  Nanos configuration_interval = std::chrono::minutes{5};

  uint32_t query_page_default = 1000;       ///< page size when `x-ms-max-item-count` is absent
  uint32_t query_page_max = 10000;          ///< larger requests are clamped to this; at most query::kMaxPageSize
  Distribution query_staleness;             ///< how long after a write of a twin queries see it; zero = at once
  size_t max_message_bytes = 256 * 1024;    ///< an MQTT packet body beyond this closes the connection
  size_t max_body_bytes = 4 * 1024 * 1024;  ///< an HTTP body beyond this is answered 413
  size_t max_pending_bytes = 1024 * 1024;   ///< unsent bytes beyond this close a connection whose peer does not read
  Nanos connect_timeout = std::chrono::seconds{30};  ///< from accepted socket to MQTT CONNECT or complete HTTP request
  Nanos http_idle_timeout = std::chrono::minutes{5};
  Nanos token_grace = std::chrono::seconds{5};  ///< how long an MQTT connection outlives the token it came with
  FaultPlan faults;                             ///< planted on purpose; never in a hub that people rely on
  std::shared_ptr<const Clock> clock;           ///< empty = the machine's clocks
};

/// Ports actually bound; 0 = off.
struct HubPorts {
  uint16_t mqtt = 0;
  uint16_t http = 0;
  uint16_t mqtts = 0;
  uint16_t https = 0;
  uint16_t metrics = 0;
};

/// What the hub did since its start, over all shards. Every member only grows but `connected_devices` and
/// `registered_devices`. The JSON of `GET /twinstorm/counts` has one member per field, in lowerCamel.
struct HubCounts {
  uint64_t connects_accepted = 0;          ///< CONNACK 0 sent
  uint64_t connects_refused = 0;           ///< CONNACK with another code, or closed before an acceptable CONNECT
  uint64_t disconnects = 0;                ///< ends of accepted MQTT connections = sum of the following eight
  uint64_t disconnects_client = 0;         ///< DISCONNECT packet, end of stream or reset by the device
  uint64_t disconnects_keep_alive = 0;     ///< silent for 1.5 times the keep-alive
  uint64_t disconnects_take_over = 0;      ///< a newer connection of the same identity
  uint64_t disconnects_protocol = 0;       ///< malformed, oversized or forbidden packet
  uint64_t disconnects_slow_reader = 0;    ///< more than `max_pending_bytes` unsent
  uint64_t disconnects_token_expired = 0;  ///< the token had expired and no new connection had brought a fresh one
  uint64_t disconnects_hub = 0;            ///< identity deleted or disabled, or the hub stopped
  uint64_t disconnects_throttled = 0;      ///< telemetry beyond the rate or the daily messages of the hub's tier
  uint64_t connects_damped = 0;            ///< CONNECTs held back because the identity was taken over again and again
  uint64_t twin_gets = 0;                  ///< twin GET by a device, answered 200
  uint64_t twin_gets_refused = 0;
  uint64_t reported_patches = 0;          ///< accepted: answered 204
  uint64_t reported_patches_refused = 0;  ///< answered with an error status
  uint64_t telemetry_messages = 0;        ///< accepted = sum of the following four
  uint64_t telemetry_qos0 = 0;            ///< by MQTT with QoS 0
  uint64_t telemetry_qos1 = 0;            ///< by MQTT with QoS 1
  uint64_t telemetry_http = 0;            ///< by HTTP; a batch counts each of its messages
  uint64_t telemetry_wills = 0;           ///< wills of connections that were lost
  uint64_t telemetry_bytes = 0;           ///< payload of the accepted messages
  uint64_t telemetry_property_bytes = 0;  ///< their properties: system values, application names and values
  uint64_t telemetry_refused = 0;         ///< over HTTP; over MQTT a refusal ends the connection
  uint64_t desired_notifications_sent = 0;
  uint64_t subscribes = 0;  ///< accepted SUBSCRIBE packets
  uint64_t unsubscribes = 0;
  uint64_t pings = 0;
  uint64_t methods_called = 0;       ///< direct methods asked for by the service = sum of the following five + pending
  uint64_t methods_answered = 0;     ///< by the device, whatever status it gave
  uint64_t methods_offline = 0;      ///< 404103: no subscribed device within the connect timeout
  uint64_t methods_timed_out = 0;    ///< 504101: no answer within the response timeout
  uint64_t methods_bad_answers = 0;  ///< 502: the answer was no JSON or too large
  uint64_t methods_refused = 0;      ///< invalid request, unknown device, too many pending, hub stopped
  uint64_t methods_sent = 0;         ///< requests written to devices
  uint64_t method_answers_unused = 0;  ///< answers of devices that no call waited for (any more)
  uint64_t c2d_enqueued = 0;           ///< cloud-to-device messages and module inputs taken into a queue
  uint64_t c2d_refused = 0;            ///< not taken: queue full, too large, bad properties, unknown device
  uint64_t c2d_sent = 0;               ///< deliveries to devices over MQTT or HTTP, repetitions included
  uint64_t c2d_completed = 0;
  uint64_t c2d_rejected = 0;
  uint64_t c2d_abandoned = 0;                ///< given back by a device; the message stays unless it was the last time
  uint64_t c2d_delivery_count_exceeded = 0;  ///< dropped after the last permitted delivery
  uint64_t c2d_expired = 0;
  uint64_t c2d_purged = 0;
  uint64_t feedback_records = 0;  ///< outcomes of messages that asked for feedback
  uint64_t feedback_dropped = 0;  ///< records nobody fetched in time
  uint64_t desired_patches = 0;   ///< twin PATCH by the service with `properties.desired`, with or without tags
  uint64_t tags_patches = 0;      ///< twin PATCH by the service with tags only
  uint64_t twin_patches_refused = 0;
  uint64_t twin_replaces = 0;  ///< twin PUT by the service
  uint64_t twin_replaces_refused = 0;
  uint64_t twin_reads = 0;  ///< twin GET by the service, answered 200
  uint64_t twin_reads_refused = 0;
  uint64_t queries = 0;  ///< query pages answered 200
  uint64_t queries_refused = 0;
  uint64_t queries_abandoned = 0;  ///< given up because their client had left
  uint64_t jobs_created = 0;
  uint64_t jobs_refused = 0;
  uint64_t jobs_cancelled = 0;                   ///< before they started
  uint64_t jobs_completed = 0;                   ///< every device was tried, whatever came of it
  uint64_t jobs_failed = 0;                      ///< invalid condition, or the execution time ran out
  uint64_t job_device_operations_succeeded = 0;  ///< twin updates and methods of jobs; not counted as patches or calls
  uint64_t job_device_operations_failed = 0;
  uint64_t registry_reads = 0;              ///< identity GET, list, statistics answered 2xx
  uint64_t registry_writes = 0;             ///< identities created, replaced, deleted; a bulk request counts each entry
  uint64_t registry_refused = 0;            ///< registry requests (or bulk entries) refused
  uint64_t configuration_reads = 0;         ///< configurations got, listed, their queries tested
  uint64_t configuration_writes = 0;        ///< configurations created, updated, deleted
  uint64_t configurations_refused = 0;      ///< requests about configurations refused
  uint64_t configurations_applied = 0;      ///< contents written into twins; also by applyConfigurationContent
  uint64_t configurations_not_applied = 0;  ///< contents a twin could not take; tried again with each evaluation
  uint64_t throttle_shaped = 0;             ///< operations that had to wait because of the tier's rates
  uint64_t throttle_refused = 0;            ///< operations refused because of them: 429, CONNACK 3, connection closed
  uint64_t throttle_abandoned = 0;   ///< of the shaped, those not done because their client left before their turn
  uint64_t quota_refused = 0;        ///< operations refused because the day's messages were used up
  uint64_t tier_refused = 0;         ///< operations and identities refused because the tier does not have them
  uint64_t unauthorized = 0;         ///< HTTP 401 answers
  uint64_t precondition_failed = 0;  ///< HTTP 412 answers and device answers with status 412
  uint64_t http_requests = 0;        ///< answered HTTP requests = sum of the four classes
  uint64_t http_2xx = 0;
  uint64_t http_3xx = 0;
  uint64_t http_4xx = 0;
  uint64_t http_5xx = 0;
  uint64_t http_connections = 0;       ///< accepted HTTP connections
  uint64_t websocket_upgrades = 0;     ///< HTTP connections that went on as MQTT over WebSocket
  uint64_t tls_handshakes = 0;         ///< finished TLS handshakes of all ports
  uint64_t tls_sessions_resumed = 0;   ///< of these, by a session ticket instead of a certificate
  uint64_t tls_handshakes_failed = 0;  ///< broken off, garbage, or not finished within `connect_timeout`
  uint64_t mqtt_bytes_in = 0;
  uint64_t mqtt_bytes_out = 0;
  uint64_t http_bytes_in = 0;
  uint64_t http_bytes_out = 0;
  uint64_t connected_devices = 0;   ///< now
  uint64_t registered_devices = 0;  ///< now

  HubCounts& operator+=(const HubCounts& other);
  friend bool operator==(const HubCounts&, const HubCounts&) = default;
};

/// One member of HubCounts with its names: the single list behind the JSON, the metrics and the sums.
struct HubCountField {
  const char* json_name;    ///< `reportedPatches`
  const char* metric_name;  ///< `twinstorm_hub_reported_patches_total`; gauges have no `_total`
  const char* help;         ///< one sentence
  uint64_t HubCounts::*member;
  bool gauge;
};
/// All members in declaration order. Lives as long as the process.
const std::vector<HubCountField>& hub_count_fields();
/// One flat JSON object, members in declaration order.
std::string to_json(const HubCounts& counts);
/// Reads what `to_json` wrote; unknown members are ignored, missing ones stay 0. Fails with `invalid_argument`.
Result<HubCounts> parse_hub_counts(std::string_view json);

/// A running hub. Not movable; members may be called from any thread.
class Hub {
 public:
  /// Binds every listener, loads the import file, starts the threads; connections are served when this returns.
  /// Raises the process's soft limit of open files to its hard limit. Errors:
  /// `unavailable` (a port is taken or the address is not of this machine: names it and the fix), `not_found`/`corrupt`
  /// (import file), `invalid_argument` (configuration).
  static Result<std::unique_ptr<Hub>> start(HubConfig config);

  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  /// Closes listeners and connections and joins the threads. Returns when nothing runs any more; further calls do
  /// nothing.
  void stop();

  HubPorts ports() const;
  unsigned threads() const;
  const HubConfig& config() const;  ///< with generated keys filled in

  /// Where the development CA's certificate lies, for clients to trust; empty when no TLS port listens or an own
  /// certificate is used.
  const std::string& authority_file() const;

  /// A sum over the shards, each read without stopping it: exact once traffic has ended, at most a message apart
  /// before.
  HubCounts counts() const;

  /// `HostName=<host>;SharedAccessKeyName=<policy>;SharedAccessKey=<key>`; empty when there is no such policy.
  std::string policy_connection_string(std::string_view policy) const;
  std::string owner_connection_string() const;    ///< policy `iothubowner`
  std::string service_connection_string() const;  ///< policy `service`

 private:
  struct Impl;
  explicit Hub(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace twinstorm::hub
