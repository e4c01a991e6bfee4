// The back ends of one shard: applications that patch, replace, read and query twins over the service's REST API.
//
// Each back end is a group of alike clients with its own connections. An arrival becomes one operation in the ledger; a
// query over all pages is one operation of several requests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/backend/http_client.hpp"
#include "sim/backend/service_access.hpp"
#include "sim/base/ids.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::backend {

/// Appends JSON text for arrival `n`; draws from `rng`.
using Renderer = std::function<void(Rng& rng, uint64_t n, std::string& out)>;

/// One back end. Made once per run, shared by all shards, read-only.
struct BackendBehavior {
  std::string name;
  metrics::OpKind op = metrics::OpKind::patch_desired;
  metrics::StreamIndex stream = 0;
  Renderer desired;   ///< patch_desired, replace_twin: the value of `properties.desired`
  Renderer tags;      ///< patch_tags, replace_twin; with patch_desired both go in one patch
  std::string query;  ///< query: the text
  uint32_t page_size = 100;
  bool all_pages = true;
  bool if_match_last_seen =
      false;  ///< `If-Match` with the ETag of the last answer for that twin; `*` before the first and after a 412
  Nanos timeout = std::chrono::seconds{10};
  uint32_t connections = 8;
  bool tls = false;
};

/// Reference to whatever the caller follows the operation with.
using FollowId = uint32_t;
inline constexpr FollowId kNotFollowed = 0xffffffff;

/// What the run learns about desired patches; called on the shard's thread.
class BackendObserver {
 public:
  virtual void on_patch_sent(FollowId follow, MonoTime at) = 0;
  /// Accepted as desired `$version`; `desired` is the text that was merged (or, `replaced`, that took its place).
  virtual void on_patch_accepted(FollowId follow, uint32_t device, int64_t version, std::string_view desired,
                                 bool replaced, MonoTime at) = 0;
  /// Not accepted. `unknown`: sent, but no answer came, so the hub may have accepted it.
  virtual void on_patch_failed(FollowId follow, uint32_t device, std::string_view desired, bool unknown) = 0;

 protected:
  ~BackendObserver() = default;
};

class BackendPool final : private HttpEvents {
 public:
  struct Config {
    std::vector<const BackendBehavior*> backends;
    net::Endpoint endpoint;
    net::Endpoint tls_endpoint{};          ///< for back ends with TLS
    const net::TlsContext* tls = nullptr;  ///< likewise; outlives the pool
    std::string server_name{};             ///< likewise: that the certificate must carry
    uint32_t operations_max = 0;           ///< in flight or waiting per back end; beyond, arrivals are dropped
    uint32_t devices = 0;                  ///< of this shard, for last-seen ETags
    uint64_t seed = 0;
  };
  static uint32_t timers_needed(const Config& config);

  BackendPool(Config config, ServiceAccess access, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer,
              const Clock& clock, metrics::ShardRecorder& recorder, BackendObserver& observer);
  ~BackendPool();

  /// One arrival, counted by the caller as asked. `device` is the shard's number of the device and `device_id` its name
  /// (both unused by query). Randomness depends only on the seed, the back end,
  /// the phase and `n`.
  void start(uint32_t backend, metrics::PhaseIndex phase, MonoTime due, uint64_t n, uint32_t device,
             std::string_view device_id, FollowId follow);
  void on_timer(uint32_t timer);
  /// Forgets what is open; the recorder then shows it as in flight, and the observer hears that its fate is unknown.
  void close();
  uint32_t open() const { return operations_.used(); }
  /// Query pages answered with success, for the comparison with the hub's own count.
  uint64_t pages_answered() const { return pages_answered_; }
  uint64_t tags_with_desired() const { return tags_with_desired_; }

  /// Called when an operation of `stream` ends, however: for closed-model loads.
  std::function<void(metrics::StreamIndex, metrics::PhaseIndex)> on_operation_ended;

 private:
  struct Operation {
    MonoTime due{}, sent{};
    std::unique_ptr<std::string> desired;  // the text of the patch, for the observer
    FollowId follow = kNotFollowed;
    uint32_t backend = 0;
    uint32_t device = 0;
    uint16_t phase = 0;
    bool was_sent = false;
    bool first_page = true;
  };

  void on_http_sent(uint64_t tag, MonoTime at) override;
  void on_http_answer(uint64_t tag, const HttpAnswer& answer) override;
  void on_http_failed(uint64_t tag, HttpFailure failure) override;

  bool submit_query(uint32_t operation, std::string_view continuation);
  void end(uint32_t operation, metrics::OpOutcome outcome, metrics::ErrorClass error, bool unknown);
  void remember_etag(uint32_t backend, uint32_t device, std::string_view body);

  Config config_;
  ServiceAccess access_;
  net::ShardIo& io_;
  const Clock& clock_;
  metrics::ShardRecorder& recorder_;
  BackendObserver& observer_;
  Slab<Operation> operations_;
  std::vector<std::unique_ptr<HttpClient>> clients_;  // one per back end
  std::vector<uint32_t> timer_ends_;
  std::vector<std::vector<std::string>> etags_;  // [backend][device], only with if_match_last_seen
  std::string body_, target_, if_match_, page_size_, rendered_;
  uint64_t pages_answered_ = 0;
  uint64_t tags_with_desired_ = 0;
};

}  // namespace twinstorm::backend
