#include "sim/hub/jobs/job_book.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "sim/base/assert.hpp"

namespace twinstorm::hub::jobs {

ServiceResult<const Job*> JobBook::create(JobSpec spec, Instant now) {
  if (by_id_.contains(spec.id)) return job_already_exists(spec.id);
  if (active_ >= limits_.active_max) return too_many_active_jobs(spec.id, active_, limits_.active_max);
  const uint64_t number = ++last_number_;
  spec.number = number;
  const bool later = spec.start > now.wall;
  Entry entry;
  entry.start_at = later ? now.mono + (spec.start - now.wall) : now.mono;
  entry.job.status = later ? JobStatus::scheduled : JobStatus::queued;
  kept_bytes_ += spec.bytes();
  by_id_.emplace(spec.id, number);
  starts_.emplace(entry.start_at, number);
  entry.job.spec = std::make_shared<const JobSpec>(std::move(spec));
  ++active_;
  return &jobs_.emplace(number, std::move(entry)).first->second.job;
}

const Job* JobBook::find(std::string_view job_id) const {
  const auto found = by_id_.find(std::string{job_id});
  return found == by_id_.end() ? nullptr : &jobs_.at(found->second).job;
}

ServiceResult<const Job*> JobBook::cancel(std::string_view job_id, Instant now) {
  const auto found = by_id_.find(std::string{job_id});
  if (found == by_id_.end()) return job_not_found(job_id);
  Entry& entry = jobs_.at(found->second);
  if (entry.job.status != JobStatus::queued && entry.job.status != JobStatus::scheduled) {
    return job_not_cancellable(job_id, entry.job.status);
  }
  starts_.erase({entry.start_at, found->second});
  end(entry, JobStatus::cancelled, now);
  return &entry.job;
}

std::vector<JobSpecPtr> JobBook::take_due(Instant now) {
  std::vector<JobSpecPtr> due;
  while (!starts_.empty() && starts_.begin()->first <= now.mono) {
    const uint64_t number = starts_.begin()->second;
    starts_.erase(starts_.begin());
    Entry& entry = jobs_.at(number);
    entry.job.status = JobStatus::running;
    entry.expire_at = now.mono + std::chrono::seconds{entry.job.spec->execution_seconds};
    expiries_.emplace(entry.expire_at, number);
    due.push_back(entry.job.spec);
  }
  return due;
}

std::vector<JobSpecPtr> JobBook::take_expired(Instant now) {
  std::vector<JobSpecPtr> expired;
  for (auto each = expiries_.begin(); each != expiries_.end() && each->first <= now.mono;) {
    Entry& entry = jobs_.at(each->second);
    if (!entry.job.resolved) {  // its devices are still being looked for
      ++each;
      continue;
    }
    each = expiries_.erase(each);
    entry.expired = true;
    expired.push_back(entry.job.spec);
  }
  return expired;
}

JobBook::Entry* JobBook::running(uint64_t number) {
  const auto found = jobs_.find(number);
  return found == jobs_.end() || found->second.job.status != JobStatus::running ? nullptr : &found->second;
}

void JobBook::refuse(uint64_t number, std::string reason, Instant now) {
  Entry* entry = running(number);
  TS_ASSERT(entry != nullptr && !entry->job.resolved);
  entry->job.failure_reason = std::move(reason);
  end(*entry, JobStatus::failed, now);
}

bool JobBook::resolve(uint64_t number, uint64_t devices, Instant now) {
  Entry* entry = running(number);
  TS_ASSERT(entry != nullptr && !entry->job.resolved);
  if (running_devices_ + devices > limits_.running_devices_max) {
    refuse(number,
           fmt::format("The condition selects {} devices; with those of other running jobs {} are permitted.", devices,
                       limits_.running_devices_max),
           now);
    return false;
  }
  entry->job.resolved = true;
  entry->job.progress.devices = devices;
  running_devices_ += devices;
  finish_if_done(*entry, now);
  return true;
}

bool JobBook::report(uint64_t number, uint64_t succeeded, uint64_t failed, int64_t running_change, Instant now) {
  Entry* entry = running(number);
  TS_ASSERT(entry != nullptr && entry->job.resolved);
  JobProgress& progress = entry->job.progress;
  progress.succeeded += succeeded;
  progress.failed += failed;
  progress.running += static_cast<uint64_t>(running_change);
  TS_ASSERT(progress.succeeded + progress.failed + progress.running <= progress.devices);
  return finish_if_done(*entry, now);
}

bool JobBook::finish_if_done(Entry& entry, Instant now) {
  const JobProgress& progress = entry.job.progress;
  if (progress.succeeded + progress.failed < progress.devices) return false;
  if (entry.expired) {
    entry.job.failure_reason =
        fmt::format("The maximum execution time of {} s has passed.", entry.job.spec->execution_seconds);
  }
  end(entry, entry.expired ? JobStatus::failed : JobStatus::completed, now);
  return true;
}

void JobBook::end(Entry& entry, JobStatus status, Instant now) {
  const uint64_t number = entry.job.spec->number;
  expiries_.erase({entry.expire_at, number});
  entry.job.status = status;
  entry.job.ended = now.wall;
  running_devices_ -= entry.job.progress.devices;
  kept_devices_ += entry.job.progress.devices;
  ended_.emplace(now.wall, number);
  --active_;
  if (status == JobStatus::completed) ++completed_;
  if (status == JobStatus::failed) ++failed_;
}

std::vector<uint64_t> JobBook::take_forgotten(Instant now) {
  std::vector<uint64_t> forgotten;
  while (!ended_.empty() && (ended_.begin()->first + limits_.kept_for <= now.wall || ended_.size() > limits_.kept_max ||
                             kept_devices_ > limits_.kept_devices_max || kept_bytes_ > limits_.kept_bytes_max)) {
    const auto entry = jobs_.find(ended_.begin()->second);
    ended_.erase(ended_.begin());
    kept_devices_ -= entry->second.job.progress.devices;
    kept_bytes_ -= entry->second.job.spec->bytes();
    by_id_.erase(entry->second.job.spec->id);
    forgotten.push_back(entry->first);
    jobs_.erase(entry);
  }
  return forgotten;
}

std::pair<std::vector<const Job*>, bool> JobBook::list(const Filter& filter, uint64_t before, size_t count) const {
  std::vector<const Job*> found;
  if (filter.none) return {found, false};
  auto entry = std::make_reverse_iterator(before == 0 ? jobs_.end() : jobs_.lower_bound(before));
  for (; entry != jobs_.rend(); ++entry) {
    const Job& job = entry->second.job;
    if (filter.type && job.spec->type != *filter.type) continue;
    if (filter.status && job.status != *filter.status) continue;
    if (found.size() == count) return {std::move(found), true};
    found.push_back(&job);
  }
  return {std::move(found), false};
}

MonoTime JobBook::next_deadline() const {
  MonoTime next = MonoTime::max();
  if (!starts_.empty()) next = starts_.begin()->first;
  if (!expiries_.empty()) next = std::min(next, expiries_.begin()->first);
  return next;
}

}  // namespace twinstorm::hub::jobs
