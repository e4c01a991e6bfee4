// Jobs as a shard sees them: the first shard keeps the book and starts jobs, every shard works on the devices it owns.
// Members belong to the shard's thread.
//
// Work is done in slices of a fraction of a millisecond with a pause after each, so that other requests of the shard
// wait for a slice at most and a job never takes all of a core.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/jobs/device_job_rows.hpp"
#include "sim/hub/jobs/job_book.hpp"
#include "sim/net/asio.hpp"

namespace twinstorm::hub {

class Shard;

class Jobs {
 public:
  explicit Jobs(Shard& shard);
  ~Jobs();

  // --- On the first shard

  const jobs::JobBook& book() const { return book_; }
  /// Takes the job and starts it if it is due. Errors: those of `parse_job_request` and `JobBook::create`.
  ServiceResult<const jobs::Job*> create(std::string_view job_id, std::string_view body);
  ServiceResult<const jobs::Job*> cancel(std::string_view job_id);
  /// Once a tick: starts what is due, ends what has taken too long, forgets what is old.
  void tick(MonoTime now);

  // --- On any shard

  /// Works on these devices of this shard, ids in ascending order.
  void run(jobs::JobSpecPtr spec, std::vector<std::string> device_ids);
  /// The job's time has run out: devices without an outcome fail.
  void expire(uint64_t number);
  void forget(uint64_t number);
  /// The hub stops: nothing is worked on any more.
  void clear();

  /// Method calls of jobs that wait for a device's answer, on this shard.
  static constexpr size_t kCallsMax = 1000;

 private:
  struct Run;

  jobs::Instant now() const;
  void start_due();
  void begin(const jobs::JobSpecPtr& spec);
  void selected(const jobs::JobSpecPtr& spec, std::vector<std::vector<std::string>> ids_by_shard);
  void forget_old();
  void count_ended();
  void on_every_shard(std::function<void(Jobs&)> work);
  void collect(uint64_t number, uint64_t succeeded, uint64_t failed, int64_t running);

  void schedule(Nanos pause);
  void slice();
  bool may_call() const;
  std::shared_ptr<Run> next_run();
  Nanos admission_delay();
  ServiceResult<void> check_quota();
  void work_on(const std::shared_ptr<Run>& run, size_t index);
  void finish(Run& run, size_t index, MethodOutcome outcome);
  void report(Run& run);

  Shard& shard_;
  jobs::JobBook book_;
  uint64_t counted_completed_ = 0;  // of the book's, those in the hub's counts
  uint64_t counted_failed_ = 0;
  MonoTime next_sweep_{};

  std::map<uint64_t, std::shared_ptr<Run>> runs_;  // by number; with devices that have no outcome
  std::deque<std::shared_ptr<Run>> waiting_;       // of these, with devices to begin with; the front one is next
  net::SteadyTimer pause_;
  std::optional<MonoTime> slice_at_;      // of the machine's clock: when the timer fires
  std::optional<MonoTime> admitted_for_;  // when the operation may be done that the tier has admitted with a delay
  size_t calls_ = 0;
};

}  // namespace twinstorm::hub
