// How the devices of one fleet behave. Values and pure functions made once per run; shared by all shards, read-only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/transport/device_transport.hpp"

namespace twinstorm::device {

/// Appends JSON text for number `n`; draws from `rng`.
using Renderer = std::function<void(Rng& rng, uint64_t n, std::string& out)>;

/// What a device does about a change of desired properties below `path`.
struct Listener {
  enum class Report : uint8_t { none, echo, values };
  std::string path;                  ///< empty: every patch; else `climate.hvac.systemControl`
  std::function<Nanos(Rng&)> delay;  ///< simulated work between the notification and the report
  double failure = 0;                ///< share of changes whose work fails: they are never reported
  Report report = Report::echo;
  Renderer values;  ///< report == values
};

/// When to try again after a lost or refused connection.
struct RetryPolicy {
  bool enabled = true;
  Nanos initial = std::chrono::seconds{1};
  Nanos max = std::chrono::seconds{30};
  bool full_jitter = true;

  /// Before attempt `attempt` (from 0): min(max, initial * 2^attempt), and with full jitter uniform in [0, that].
  Nanos delay(uint32_t attempt, Rng& rng) const;
};

struct TelemetryBehavior {
  Nanos every{0};  ///< 0: only when asked
  double jitter = 0;
  uint32_t size = 256;  ///< payload bytes
};

/// A device that was registered by somebody else.
struct KnownIdentity {
  std::string id;
  std::string key;  ///< decoded bytes
};

/// How long SAS tokens live, and how long before their end a device replaces its own.
struct TokenBehavior {
  Nanos lifetime = std::chrono::hours{1};
  Nanos renew_before = std::chrono::minutes{15};
  double jitter = 0;  ///< each renewal comes up to this share of its age early
};

/// X.509 client certificates of a fleet: one private key for all, one certificate each.
struct FleetCertificates {
  std::string key_pem;
  std::vector<std::string> certificate_pem;  ///< by index in the fleet; empty: the fleet uses tokens
  bool empty() const { return certificate_pem.empty(); }
};

struct FleetBehavior {
  std::string name;
  uint32_t first = 0;  ///< index in the run of the fleet's first device
  uint32_t count = 0;
  std::function<void(std::string& out, uint32_t index_in_fleet)> append_device_id;
  std::vector<KnownIdentity> identities;  ///< by index in the fleet; empty: keys come from the Authority
  FleetCertificates certificates;
  TokenBehavior token;  ///< without certificates
  transport::Subscriptions subscriptions = transport::Subscriptions::twin;
  bool websocket = false;  ///< MQTT over WebSocket; over TLS when the fleet's target has a TLS context
  std::vector<Listener> listeners;
  Renderer reported;  ///< empty: nothing; what a device reports when it is first online and when a report is due
  TelemetryBehavior telemetry;
  RetryPolicy retry;
  Nanos keep_alive = std::chrono::seconds{180};
  Nanos timeout = std::chrono::seconds{10};  ///< of every operation of a device
  metrics::StreamIndex connect_stream = 0, get_twin_stream = 0, report_stream = 0, telemetry_stream = 0,
                       renew_stream = 0;
};

/// Makes the credentials of any device from one secret: its key is derived from the run's key and its id, so nothing is
/// stored per device. One per shard (the SAS signer is not thread-safe).
class Authority {
 public:
  /// `group_key`: decoded bytes. `host_name` as devices write it into the resource.
  Authority(std::string host_name, std::string group_key, Nanos token_lifetime = std::chrono::hours{1})
      : host_name_{std::move(host_name)}, group_key_{std::move(group_key)}, token_lifetime_{token_lifetime} {}

  /// base64, as it is registered.
  std::string device_key(std::string_view device_id) const;
  void append_token(std::string& out, std::string_view device_id, WallTime now) const;
  /// For a device with a key of its own (decoded bytes).
  void append_token(std::string& out, std::string_view device_id, std::string_view key, WallTime now) const;
  /// Valid for `lifetime`; `key` (decoded bytes) empty: the derived one.
  void append_token(std::string& out, std::string_view device_id, std::string_view key, WallTime now,
                    Nanos lifetime) const;
  const std::string& host_name() const { return host_name_; }
  Nanos token_lifetime() const { return token_lifetime_; }

 private:
  std::string host_name_;
  std::string group_key_;
  Nanos token_lifetime_;
};

}  // namespace twinstorm::device
