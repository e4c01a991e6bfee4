// Jobs as a shard sees them: the first shard keeps the book and starts jobs, every shard works on the devices it owns.
// Members belong to the shard's thread.
//
// Work is done in slices of a fraction of a millisecond with a pause after each, so that other requests of the shard
// wait for a slice at most and a job never takes all of a core.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
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
  void begin(const jobs::JobSpecPtr& spec);
  void selected(uint64_t number, std::vector<std::vector<std::string>> ids_by_shard);
  void on_every_shard(std::function<void(Jobs&)> work);
  void collect(uint64_t number, uint64_t succeeded, uint64_t failed, int64_t running);

  void schedule(Nanos pause);
  void slice();
  void work_on(const std::shared_ptr<Run>& run, size_t index);
  void finish(Run& run, size_t index, MethodOutcome outcome);
  void report_soon(const std::shared_ptr<Run>& run);

  Shard& shard_;
  jobs::JobBook book_;
  std::deque<std::shared_ptr<Run>> runs_;  // with devices to begin with; the front one is next
  std::vector<std::shared_ptr<Run>> unfinished_;
  net::SteadyTimer pause_;
  bool slice_pending_ = false;
  size_t calls_ = 0;
};

}  // namespace twinstorm::hub
