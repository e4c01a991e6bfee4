// How long queries do not show what was written: follows some of a back end's acknowledged writes by their versions.
//
// `SELECT deviceId, version FROM devices WHERE deviceId IN [...]`, as many writes at once as one page holds, one query
// `every` so often, until a row's version is that of the write's answer or a later one. So a figure is exact to `every`
// and the time of one query; with more writes open than a page holds, they take turns.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sim/backend/behavior.hpp"
#include "sim/backend/http_client.hpp"
#include "sim/backend/request_books.hpp"
#include "sim/backend/service_access.hpp"

namespace twinstorm::backend {

class StalenessProbe final : private HttpEvents {
 public:
  static constexpr size_t kFollowedMax = 4096;  ///< at a time; what would be more ends as unknown
  static constexpr size_t kBatchMax = 100;      ///< devices of one query: a page of the live service
  static constexpr uint32_t kTimers = 2;

  /// `client` is configured for one request at a time. `append_device_id` outlives the probe, as does everything else.
  StalenessProbe(const BackendBehavior& behavior, HttpClient::Config client, ServiceAccess access, net::ShardIo& io,
                 TimerWheel& wheel, uint32_t first_timer, const Clock& clock, metrics::ShardRecorder& recorder,
                 RequestBooks& books, const std::function<void(uint32_t, std::string&)>& append_device_id);

  /// The write was acknowledged just now and made the twin's version `version`.
  void follow(uint32_t device, int64_t version, metrics::PhaseIndex phase);
  bool owns_timer(uint32_t timer) const { return timer - first_timer_ < kTimers; }
  void on_timer(uint32_t timer);
  /// What is open ends as unknown.
  void close();
  uint32_t open() const { return static_cast<uint32_t>(followed_.size()); }

 private:
  struct Followed {
    MonoTime acknowledged;
    int64_t version;
    uint32_t device;
    uint16_t phase;
    bool looked = false;  // a query that asked for it was answered
  };

  void tick();
  void compose_batch();
  void submit(std::string_view continuation);
  void read_rows(std::string_view rows);
  void end(size_t position, metrics::StalenessOutcome outcome);
  void on_http_sent(uint64_t, MonoTime) override { sent_ = true; }
  void on_http_answer(uint64_t tag, const HttpAnswer& answer) override;
  void on_http_failed(uint64_t tag, HttpFailure failure) override;

  const BackendBehavior& behavior_;
  ServiceAccess access_;
  TimerWheel& wheel_;
  const uint32_t first_timer_;
  const Clock& clock_;
  metrics::ShardRecorder& recorder_;
  RequestBooks& books_;
  const std::function<void(uint32_t, std::string&)>& append_device_id_;
  HttpClient client_;
  std::vector<Followed> followed_;
  size_t cursor_ = 0;
  std::vector<std::pair<std::string, uint32_t>> batch_;  // devices of the query under way, sorted
  size_t batch_size_ = 0;
  std::string body_;
  bool asking_ = false, sent_ = false;
};

}  // namespace twinstorm::backend
