// The back ends of one shard: applications that work on twins, devices and jobs over the service's REST API.
//
// Each back end is a group of alike clients with its own connections. An arrival becomes one operation in the ledger,
// however many requests it takes: what they are is its procedure's business (operations/procedure.hpp); sending them,
// waiting, deadlines and the books are the pool's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/backend/behavior.hpp"
#include "sim/backend/created_devices.hpp"
#include "sim/backend/http_client.hpp"
#include "sim/backend/operations/procedure.hpp"
#include "sim/backend/request_books.hpp"
#include "sim/backend/service_access.hpp"
#include "sim/backend/staleness_probe.hpp"
#include "sim/base/ids.hpp"
#include "sim/base/slab.hpp"

namespace twinstorm::backend {

class BackendPool final : private HttpEvents {
 public:
  struct Config {
    std::vector<const BackendBehavior*> backends;
    net::Endpoint endpoint;
    net::Endpoint tls_endpoint{};          ///< for back ends with TLS
    const net::TlsContext* tls = nullptr;  ///< likewise; outlives the pool
    std::string server_name{};             ///< likewise: that the certificate must carry
    uint32_t operations_max = 0;           ///< open per back end; beyond, arrivals are dropped
    uint32_t devices = 0;                  ///< of this shard
    uint32_t shard = 0, shards = 1;
    uint64_t seed = 0;
    std::string run_tag = "0";  ///< lower-case letters and digits, another for each run: part of job ids
    std::function<void(uint32_t device, std::string& out)> append_device_id;  ///< by the shard's number of the device
    /// Base64 key of a device that a back end creates; not needed without such.
    std::function<std::string(std::string_view id)> device_key{};
  };
  static uint32_t timers_needed(const Config& config);

  BackendPool(Config config, ServiceAccess access, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer,
              const Clock& clock, metrics::ShardRecorder& recorder, BackendObserver& observer);
  ~BackendPool();

  /// One arrival, counted by the caller as asked. `device` is the shard's number of the device (unused by operations
  /// that work on none). Randomness depends only on the seed, the back end, the phase and `n`.
  void start(uint32_t backend, metrics::PhaseIndex phase, MonoTime due, uint64_t n, uint32_t device, FollowId follow);
  void on_timer(uint32_t timer);
  /// Closes every connection. What was sent and not answered is forgotten without a step in the ledger, which then
  /// shows it as in flight, and the observer hears that its fate is unknown.
  void close();
  uint32_t open() const { return operations_.used(); }
  /// Of the open ones, those that were sent.
  uint32_t in_flight() const;
  /// Writes that are followed until queries show them.
  uint32_t probes_open() const;
  /// For the comparison with the hub's own counts; complete after `close`.
  const RequestBooks& books() const { return books_; }
  /// Devices that the back end has created and not deleted; null when it creates none. Complete after `close`.
  const CreatedDevices* created_devices(uint32_t backend) const { return created_[backend].get(); }

  /// Called when an operation of `stream` ends, however: for closed-model loads.
  std::function<void(metrics::StreamIndex, metrics::PhaseIndex)> on_operation_ended;

 private:
  /// What one back end has on this shard.
  struct Lane {
    const BackendBehavior* behavior = nullptr;
    std::unique_ptr<HttpClient> client;
    std::unique_ptr<StalenessProbe> probe;  // null without
    std::unique_ptr<Procedure> procedure;
    uint32_t open = 0;
  };

  void on_http_sent(uint64_t tag, MonoTime at) override;
  void on_http_answer(uint64_t tag, const HttpAnswer& answer) override;
  void on_http_failed(uint64_t tag, HttpFailure failure) override;

  HttpClient::Config client_config(const BackendBehavior& behavior, uint32_t connections, uint32_t requests) const;
  Lane& lane_of(uint32_t operation) { return lanes_[operations_[operation].backend]; }
  void submit(uint32_t operation);
  void go_on(uint32_t operation, const Next& next);
  void on_wait_over(uint32_t operation);
  void end(uint32_t operation, metrics::OpOutcome outcome, metrics::ErrorClass error, bool unknown);
  void release(uint32_t operation);

  Config config_;
  ServiceAccess access_;
  net::ShardIo& io_;
  TimerWheel& wheel_;
  const uint32_t first_timer_;
  const Clock& clock_;
  metrics::ShardRecorder& recorder_;
  BackendObserver& observer_;
  RequestBooks books_;
  ProcedureContext context_;
  Slab<Operation> operations_;
  uint32_t first_wait_timer_ = 0, first_probe_timer_ = 0;
  std::vector<std::unique_ptr<CreatedDevices>> created_;  // by back end; null where none are created
  std::vector<Lane> lanes_;                               // by back end
  Request request_;
};

}  // namespace twinstorm::backend
