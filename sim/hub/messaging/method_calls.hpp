// Direct methods between the service that calls and the device that answers (service.md 7, device.md 3.7). Lives on the
// shard that owns the device. Sans-I/O: time is a parameter, the outcome a callback.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/live_counts.hpp"
#include "sim/hub/service_error.hpp"

namespace twinstorm::hub {

struct DeviceRecord;

inline constexpr size_t kMethodPayloadMax = 128 * 1024;  ///< each way

/// A checked request.
struct MethodRequest {
  std::string name;
  std::string payload;  ///< JSON text, never empty: `null` when the caller gave none
  Nanos response_timeout = std::chrono::seconds{30};
  Nanos connect_timeout = Nanos::zero();
  bool of_job = false;  ///< asked for by a job: of the hub's counts of methods, only what devices see grows
};
/// Reads `{"methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds"}`. Errors: 400 naming the
/// member, 413 for a payload beyond 128 KB.
ServiceResult<MethodRequest> parse_method_request(std::string_view body);

/// The device's answer.
struct MethodAnswer {
  int status = 0;
  std::string payload;  ///< JSON text; `null` when the device sent nothing
};
using MethodOutcome = ServiceResult<MethodAnswer>;

ServiceError device_not_online();                     ///< 404 / 404103
ServiceError method_timed_out();                      ///< 504 / 504101
ServiceError bad_method_answer(std::string message);  ///< 502

class MethodCalls {
 public:
  using Done = std::function<void(MethodOutcome)>;
  static constexpr size_t kCallsMax = 10'000;                   ///< pending; one more is answered 429
  static constexpr size_t kWaitingBytesMax = 64 * 1024 * 1024;  ///< payloads of calls that wait for their device

  explicit MethodCalls(LiveCounts& counts) : counts_{counts} {}

  /// Sends the request, or keeps it until the device connects and subscribes. `done` runs exactly once, perhaps before
  /// this returns.
  void call(DeviceRecord& record, MethodRequest request, MonoTime now, Done done);
  /// The device is connected and subscribed to methods: calls that wait for it go out.
  void device_ready(DeviceRecord& record, MonoTime now);
  /// A device's answer to `rid`; false when no call of this identity waits under it.
  bool answer(const DeviceRecord& record, std::string_view rid, int status, std::string_view payload);
  /// The identity is being removed: its calls end with 404001.
  void forget(const DeviceRecord& record);
  /// Ends the calls whose time is up.
  void expire(MonoTime now);
  /// The hub stops: callbacks are dropped without being run.
  void clear();

  size_t pending() const { return calls_.size(); }
  /// When `expire` has something to do.
  MonoTime next_deadline() const { return deadlines_.empty() ? MonoTime::max() : deadlines_.begin()->first; }

 private:
  struct Call {
    DeviceRecord* record = nullptr;
    MethodRequest request;  // name and payload are empty once sent
    MonoTime deadline;
    bool sent = false;
    Done done;
  };
  using Calls = std::unordered_map<uint64_t, Call>;

  bool send(uint64_t id, Call& call, MonoTime now);
  void set_deadline(uint64_t id, Call& call, MonoTime at);
  void count(const MethodRequest& request, uint64_t HubCounts::*counter) {
    if (!request.of_job) counts_.add(counter);
  }
  void finish(Calls::iterator call, MethodOutcome outcome, uint64_t HubCounts::*counter);

  LiveCounts& counts_;
  Calls calls_;
  std::set<std::pair<MonoTime, uint64_t>> deadlines_;
  std::unordered_map<const DeviceRecord*, std::vector<uint64_t>> by_record_;
  size_t waiting_bytes_ = 0;
  uint64_t last_id_ = 0;
};

}  // namespace twinstorm::hub
