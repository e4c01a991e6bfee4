// All jobs of the hub and their states. Lives on the first shard. Sans-I/O: time is a parameter, and what there is to
// do is handed out to be done elsewhere.
//
// created -> queued (scheduled until the start time) -> running -> completed | failed; cancelled from queued or
// scheduled. A running job ends once every device has an outcome: also when its time has run out, as the remaining
// devices are given theirs then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/jobs/job.hpp"

namespace twinstorm::hub::jobs {

struct JobLimits {
  /// Queued, scheduled and running together. Without a tier: far more than anybody needs.
  size_t active_max = 100;
  Nanos kept_for = std::chrono::hours{24 * 30};  ///< how long ended jobs are known (service.md 8)
  size_t kept_max = 10'000;                      ///< jobs; the ones that ended first are forgotten first
  uint64_t kept_devices_max = 1'000'000;         ///< device rows, likewise
  size_t kept_bytes_max = 64 * 1024 * 1024;      ///< of requests, likewise
  /// Devices of all running jobs together, some 80 bytes each; a job that would exceed it fails.
  uint64_t running_devices_max = 3'000'000;
};

struct Instant {
  MonoTime mono;
  WallTime wall;
};

class JobBook {
 public:
  explicit JobBook(JobLimits limits = {}) : limits_{limits} {}

  /// Takes a job. Errors: 409 JobAlreadyExists, 429 ThrottlingMaxActiveJobCountExceeded.
  ServiceResult<const Job*> create(JobSpec spec, Instant now);
  const Job* find(std::string_view job_id) const;
  /// Errors: 404 JobNotFound; 405 OperationNotAllowedInCurrentState unless it is queued or scheduled.
  ServiceResult<const Job*> cancel(std::string_view job_id, Instant now);

  /// The jobs whose start time has come; they are running now and the caller resolves their conditions.
  std::vector<JobSpecPtr> take_due(Instant now);
  /// Running jobs whose time has run out, each once: the caller ends what is left of their devices, which then arrives
  /// as progress. A job that is not resolved yet is handed out once it is.
  std::vector<JobSpecPtr> take_expired(Instant now);
  /// The condition of a running job is invalid.
  void refuse(uint64_t number, std::string reason, Instant now);
  /// The condition of a running job selects that many devices. None: it is completed. False: they are too many
  /// together with those of other jobs, and the job has failed.
  bool resolve(uint64_t number, uint64_t devices, Instant now);
  /// What became of devices since the last report: so many more of each (`running` may shrink). True when this ends the
  /// job.
  bool report(uint64_t number, uint64_t succeeded, uint64_t failed, int64_t running, Instant now);
  /// Ended jobs that are known no longer, by age or for want of room; their device rows are to be dropped.
  std::vector<uint64_t> take_forgotten(Instant now);

  /// Listing: newest first, `before` the number of the last job seen (0 = from the start). At most `count`; the second
  /// member tells whether there are more.
  struct Filter {
    std::optional<JobType> type;
    std::optional<JobStatus> status;
    bool none = false;  ///< nothing can match: a type or state that the service knows and this hub never has
  };
  std::pair<std::vector<const Job*>, bool> list(const Filter& filter, uint64_t before, size_t count) const;

  /// When `take_due` or `take_expired` has something to do.
  MonoTime next_deadline() const;
  size_t active() const { return active_; }
  size_t size() const { return jobs_.size(); }
  /// Since the start of the hub.
  uint64_t completed() const { return completed_; }
  uint64_t failed() const { return failed_; }

 private:
  struct Entry {
    Job job;
    MonoTime start_at;
    MonoTime expire_at = MonoTime::max();
    bool expired = false;
  };
  using Entries = std::map<uint64_t, Entry>;

  Entry* running(uint64_t number);
  void end(Entry& entry, JobStatus status, Instant now);
  bool finish_if_done(Entry& entry, Instant now);

  JobLimits limits_;
  Entries jobs_;  // by number: in the order of creation
  std::unordered_map<std::string, uint64_t> by_id_;
  std::set<std::pair<MonoTime, uint64_t>> starts_;
  std::set<std::pair<MonoTime, uint64_t>> expiries_;
  std::set<std::pair<WallTime, uint64_t>> ended_;
  size_t active_ = 0;
  uint64_t running_devices_ = 0;
  uint64_t kept_devices_ = 0;
  size_t kept_bytes_ = 0;
  uint64_t last_number_ = 0;
  uint64_t completed_ = 0;
  uint64_t failed_ = 0;
};

}  // namespace twinstorm::hub::jobs
