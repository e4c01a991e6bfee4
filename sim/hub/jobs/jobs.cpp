#include "sim/hub/jobs/jobs.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sim/base/assert.hpp"
#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/query_service.hpp"
#include "sim/hub/shard.hpp"
#include "sim/hub/slice_queue.hpp"

namespace twinstorm::hub {
namespace {

/// As long as a slice: a job takes half of a shard's time at most.
constexpr Nanos kPause = Slice::kTime;
/// A device operation costs some microseconds, a step of a slice less than one.
constexpr size_t kOperationWeight = 4;
constexpr Nanos kSweepEvery = std::chrono::seconds{1};
/// When direct calls of the service have used up the room, jobs look again after this.
constexpr Nanos kBusyPause = std::chrono::milliseconds{20};
constexpr Nanos kBacklogPause = std::chrono::seconds{1};

jobs::JobLimits limits_of(const Shard& shard) {
  jobs::JobLimits limits;
  if (const TierPolicy* policy = shard.shared().policy.get()) limits.active_max = policy->limits().concurrent_jobs_max;
  return limits;
}

ServiceError execution_time_over() {
  return {500, 500'008, "GenericTimeout", "The job's maximum execution time has passed."};
}

}  // namespace

struct Jobs::Run {
  std::shared_ptr<jobs::DeviceJobPart> part;
  size_t next = 0;        // the first row that has not begun
  size_t unfinished = 0;  // rows without an outcome
  bool expired = false;
  bool report_posted = false;
  // Since the last report:
  uint64_t succeeded = 0;
  uint64_t failed = 0;
  int64_t running = 0;

  const jobs::JobSpec& spec() const { return *part->spec; }
  bool calls() const { return spec().type == jobs::JobType::device_method && !expired; }
};

Jobs::Jobs(Shard& shard) : shard_{shard}, book_{limits_of(shard)}, pause_{shard.io().get_executor()} {}
Jobs::~Jobs() = default;

jobs::Instant Jobs::now() const { return {shard_.mono_now(), shard_.wall_now()}; }

// --- The book --------------------------------------------------------------------------------------------------------

ServiceResult<const jobs::Job*> Jobs::create(std::string_view job_id, std::string_view body) {
  const jobs::Instant at = now();
  auto spec = jobs::parse_job_request(job_id, body, at.wall);
  if (!spec) return spec.error();
  spec->method.of_job = true;
  const auto created = book_.create(std::move(*spec), at);
  if (!created) return created.error();
  shard_.counts().add(&HubCounts::jobs_created);
  // In a turn of its own: the answer says queued, and nothing of the job has happened when it leaves.
  shard_.post([this] { start_due(); });
  return *created;
}

ServiceResult<const jobs::Job*> Jobs::cancel(std::string_view job_id) {
  const auto cancelled = book_.cancel(job_id, now());
  if (cancelled) shard_.counts().add(&HubCounts::jobs_cancelled);
  return cancelled;
}

void Jobs::tick(MonoTime mono) {
  if (book_.next_deadline() <= mono) {
    start_due();
    for (const jobs::JobSpecPtr& spec : book_.take_expired(now())) {
      on_every_shard([number = spec->number](Jobs& jobs) { jobs.expire(number); });
    }
  }
  if (mono < next_sweep_) return;
  next_sweep_ = mono + kSweepEvery;
  forget_old();
}

void Jobs::start_due() {
  for (const jobs::JobSpecPtr& spec : book_.take_due(now())) begin(spec);
}

void Jobs::begin(const jobs::JobSpecPtr& spec) {
  const auto condition = query::Query::parse_condition(spec->condition);
  if (!condition || condition->source() != query::Source::devices) {
    book_.refuse(spec->number,
                 condition ? "The condition selects modules; jobs are about devices." : condition.error().message,
                 now());
    count_ended();
    return;
  }
  select_twins(shard_, *condition, [this, spec](KeysByShard ids) { selected(spec, std::move(ids)); });
}

void Jobs::selected(const jobs::JobSpecPtr& spec, std::vector<std::vector<std::string>> ids_by_shard) {
  const uint64_t devices =
      std::accumulate(ids_by_shard.begin(), ids_by_shard.end(), uint64_t{0},
                      [](uint64_t sum, const std::vector<std::string>& ids) { return sum + ids.size(); });
  const bool accepted = book_.resolve(spec->number, devices, now());
  count_ended();
  forget_old();  // room for the new rows
  if (!accepted) return;
  for (size_t i = 0; i < ids_by_shard.size(); ++i) {
    if (ids_by_shard[i].empty()) continue;
    Shard& owner = *shard_.shared().shards[i];
    owner.post([&owner, spec, ids = std::move(ids_by_shard[i])]() mutable { owner.jobs().run(spec, std::move(ids)); });
  }
}

void Jobs::forget_old() {
  for (const uint64_t number : book_.take_forgotten(now())) {
    on_every_shard([number](Jobs& jobs) { jobs.forget(number); });
  }
}

void Jobs::count_ended() {
  LiveCounts& counts = shard_.counts();
  counts.add(&HubCounts::jobs_completed, book_.completed() - std::exchange(counted_completed_, book_.completed()));
  counts.add(&HubCounts::jobs_failed, book_.failed() - std::exchange(counted_failed_, book_.failed()));
}

void Jobs::on_every_shard(std::function<void(Jobs&)> work) {
  for (const auto& shard : shard_.shared().shards) {
    shard->post([work, &jobs = shard->jobs()] { work(jobs); });
  }
}

void Jobs::collect(uint64_t number, uint64_t succeeded, uint64_t failed, int64_t running) {
  if (!book_.report(number, succeeded, failed, running, now())) return;
  count_ended();
  forget_old();
}

// --- Devices ---------------------------------------------------------------------------------------------------------

void Jobs::run(jobs::JobSpecPtr spec, std::vector<std::string> device_ids) {
  const auto run = std::make_shared<Run>();
  run->unfinished = device_ids.size();
  run->part = shard_.store().device_jobs.add(std::move(spec), std::move(device_ids));
  runs_.emplace(run->spec().number, run);
  waiting_.push_back(run);
  schedule(Nanos::zero());
}

void Jobs::expire(uint64_t number) {
  const auto found = runs_.find(number);
  if (found == runs_.end()) return;
  const std::shared_ptr<Run> run = found->second;
  run->expired = true;
  for (size_t i = 0; i < run->next; ++i) {
    if (run->part->rows[i].status == jobs::DeviceJobStatus::running) finish(*run, i, execution_time_over());
  }
  report(*run);
  schedule(Nanos::zero());  // for those that have not begun
}

void Jobs::forget(uint64_t number) { shard_.store().device_jobs.forget(number); }

void Jobs::clear() {
  pause_.cancel();
  waiting_.clear();
  runs_.clear();
}

void Jobs::schedule(Nanos pause) {
  // The machine's clock: the timer knows no other.
  const MonoTime at = std::chrono::steady_clock::now() + pause;
  if (slice_at_ && *slice_at_ <= at) return;
  slice_at_ = at;
  pause_.expires_at(at);
  pause_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    slice_at_.reset();
    slice();
  });
}

bool Jobs::may_call() const {
  return calls_ < kCallsMax && shard_.messaging().methods().pending() < MethodCalls::kCallsMax / 2;
}

/// Takes the next run that has something to do now; nullptr when there is none.
std::shared_ptr<Jobs::Run> Jobs::next_run() {
  for (size_t i = 0; i < waiting_.size(); ++i) {
    std::shared_ptr<Run> run = std::move(waiting_.front());
    waiting_.pop_front();
    if (!run->calls() || may_call()) return run;
    waiting_.push_back(std::move(run));
  }
  return nullptr;
}

/// Holds device operations to the tier's rate: zero when the next one may be done now.
Nanos Jobs::admission_delay() {
  TierPolicy* policy = shard_.shared().policy.get();
  if (policy == nullptr) return Nanos::zero();
  const MonoTime now = shard_.mono_now();
  if (admitted_for_) {
    // Answers of devices wake the work before its time.
    if (now < *admitted_for_) return *admitted_for_ - now;
    admitted_for_.reset();
    return Nanos::zero();
  }
  const auto admission = policy->throttle().admit(OperationClass::job_device_operations, 1, now);
  if (admission.refused) return kBacklogPause;  // a great many shards have one waiting each
  if (admission.delay > Nanos::zero()) admitted_for_ = now + admission.delay;
  return admission.delay;
}

/// The error when the tier's messages of the day are used up.
ServiceResult<void> Jobs::check_quota() {
  TierPolicy* policy = shard_.shared().policy.get();
  if (policy == nullptr) return {};
  return policy->check(OperationClass::job_device_operations, true, shard_.config().host_name, shard_.wall_now());
}

void Jobs::slice() {
  const std::shared_ptr<Run> run = next_run();
  if (run == nullptr) {
    // An answer of a device goes on at once; room that others have to give back is looked for.
    if (!waiting_.empty() && calls_ < kCallsMax) schedule(kBusyPause);
    return;
  }
  Nanos pause = kPause;
  Slice slice{*shard_.shared().clock};
  const size_t count = run->part->rows.size();
  while (run->next < count && slice.step(kOperationWeight)) {
    if (run->expired) {
      finish(*run, run->next++, execution_time_over());
      continue;
    }
    if (run->calls() && !may_call()) break;
    if (const Nanos delay = admission_delay(); delay > Nanos::zero()) {
      pause = delay;
      break;
    }
    work_on(run, run->next++);
  }
  report(*run);
  if (run->next < count) waiting_.push_back(run);
  if (!waiting_.empty()) schedule(pause);
}

void Jobs::work_on(const std::shared_ptr<Run>& run, size_t index) {
  jobs::DeviceJobRow& row = run->part->rows[index];
  row.status = jobs::DeviceJobStatus::running;
  row.started = row.updated = shard_.wall_now();
  ++run->running;
  DeviceRecord* record = shard_.store().find(row.device_id, {});
  if (record == nullptr) {
    finish(*run, index, device_not_found(row.device_id));
    return;
  }
  if (const auto allowed = check_quota(); !allowed) {
    finish(*run, index, allowed.error());
    return;
  }
  TierPolicy* policy = shard_.shared().policy.get();
  if (run->spec().type == jobs::JobType::update_twin) {
    if (policy != nullptr) policy->charge(run->spec().action_json.size(), row.started);
    const auto patched = patch_twin(*record, run->spec().update_twin, row.started);
    finish(*run, index, patched ? MethodOutcome{MethodAnswer{}} : MethodOutcome{patched.error()});
    return;
  }
  ++calls_;
  const auto answered = [this, run, index, policy](MethodOutcome outcome) {
    --calls_;
    if (policy != nullptr) {
      policy->charge_method(run->spec().method.payload.size(), outcome ? outcome->payload.size() : 0,
                            shard_.wall_now());
    }
    if (run->part->rows[index].status == jobs::DeviceJobStatus::running) finish(*run, index, std::move(outcome));
    if (!waiting_.empty()) schedule(Nanos::zero());
    if (std::exchange(run->report_posted, true)) return;
    shard_.post([this, run] {
      run->report_posted = false;
      report(*run);
    });
  };
  shard_.messaging().methods().call(*record, run->spec().method, shard_.mono_now(), answered);
}

void Jobs::finish(Run& run, size_t index, MethodOutcome outcome) {
  ++(outcome ? run.succeeded : run.failed);
  if (run.part->rows[index].status == jobs::DeviceJobStatus::running) --run.running;
  shard_.counts().add(outcome ? &HubCounts::job_device_operations_succeeded : &HubCounts::job_device_operations_failed);
  shard_.store().device_jobs.finish(*run.part, run.part->rows[index], std::move(outcome), shard_.wall_now());
  --run.unfinished;
}

void Jobs::report(Run& run) {
  const uint64_t number = run.spec().number;
  const uint64_t succeeded = std::exchange(run.succeeded, 0);
  const uint64_t failed = std::exchange(run.failed, 0);
  const int64_t running = std::exchange(run.running, 0);
  if (run.unfinished == 0) runs_.erase(number);
  if (succeeded == 0 && failed == 0 && running == 0) return;
  Jobs& first = shard_.shared().shards.front()->jobs();
  shard_.shared().shards.front()->post(
      [&first, number, succeeded, failed, running] { first.collect(number, succeeded, failed, running); });
}

}  // namespace twinstorm::hub
