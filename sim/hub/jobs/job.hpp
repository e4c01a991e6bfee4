// A scheduled job of the service API (service.md 8): what was asked for, how far it is, and its JSON.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/hub/messaging/method_calls.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/twin/metadata.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub::jobs {

enum class JobType : uint8_t { update_twin, device_method };
/// `scheduleUpdateTwin`, `scheduleDeviceMethod`.
const char* to_string(JobType type);

/// The states a job of this hub goes through. The service's enumeration also has `unknown` (of ids it does not know)
/// and `enqueued`.
enum class JobStatus : uint8_t {
  queued,     ///< starts as soon as the hub gets to it
  scheduled,  ///< its start time has not come
  running,
  completed,  ///< every device was tried, whatever came of it
  failed,     ///< the condition was invalid, or the execution time ran out
  cancelled,
};
const char* to_string(JobStatus status);

inline constexpr Nanos kStartWithin = std::chrono::hours{168};
inline constexpr int64_t kDefaultExecutionSeconds = 3600;
inline constexpr size_t kJobIdMax = 64;

/// What a job does, fixed at its creation. Shared by the shards that work on it, never changed.
struct JobSpec {
  uint64_t number = 0;  ///< of this hub, counting creations from 1: an id may come again after its job is forgotten
  std::string id;
  JobType type = JobType::update_twin;
  twin::Value update_twin;  ///< the PATCH body, of an update
  MethodRequest method;     ///< of a method
  std::string action_json;  ///< `updateTwin` or `cloudToDeviceMethod` as it was sent
  std::string condition;
  WallTime created{};
  WallTime start{};
  int64_t execution_seconds = kDefaultExecutionSeconds;

  /// About what it occupies.
  size_t bytes() const { return 512 + 4 * action_json.size() + method.payload.size() + condition.size(); }
};
using JobSpecPtr = std::shared_ptr<const JobSpec>;

/// Reads the body of PUT /jobs/v2/{id}. `created` becomes `now`, `number` stays 0. Errors: 400 ArgumentInvalid naming
/// the member; 413 for a method payload beyond 128 KB. The condition is not looked at (service.md 8: an invalid one is
/// accepted, and the job fails later).
ServiceResult<JobSpec> parse_job_request(std::string_view job_id, std::string_view body, WallTime now);

/// How many devices a job has, and in which state. `pending` is the rest.
struct JobProgress {
  uint64_t devices = 0;
  uint64_t running = 0;
  uint64_t succeeded = 0;
  uint64_t failed = 0;
};

struct Job {
  JobSpecPtr spec;
  JobStatus status = JobStatus::queued;
  JobProgress progress;
  bool resolved = false;          ///< the devices are known
  std::string failure_reason;     ///< of a failed job
  WallTime ended = twin::kNever;  ///< once completed, failed or cancelled

  bool active() const { return status < JobStatus::completed; }
};

/// The JobResponse of GET and of listings.
void write_job(const Job& job, std::string& out);
/// The three members that PUT answers with.
void write_created_job(const Job& job, std::string& out);
/// GET of an id that was never used, or is forgotten: 200 with type and status `unknown`.
void write_unknown_job(std::string_view job_id, std::string& out);

ServiceError job_already_exists(std::string_view job_id);                                     ///< 409
ServiceError job_not_found(std::string_view job_id);                                          ///< 404002
ServiceError job_not_cancellable(std::string_view job_id, JobStatus status);                  ///< 405
ServiceError too_many_active_jobs(std::string_view job_id, size_t active, size_t permitted);  ///< 429004

}  // namespace twinstorm::hub::jobs
