#include "sim/hub/jobs/job.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/hub/text.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm::hub::jobs {
namespace {

constexpr int64_t kExecutionSecondsMax = 2'147'483'647;  // the member is an int32 in the service's contract

ServiceResult<void> check_job_id(std::string_view id) {
  const bool alphabet = std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '\'';
  });
  if (!id.empty() && id.size() <= kJobIdMax && alphabet) return {};
  return twin::argument_invalid(fmt::format(
      "the job id '{}' must be 1 to {} lower-case letters, digits, '-' and apostrophes", id.substr(0, 80), kJobIdMax));
}

const twin::Value* given(const twin::Value& body, std::string_view name) {
  const twin::Value* found = body.find(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

ServiceResult<std::string_view> text(const twin::Value& body, std::string_view name) {
  const twin::Value* found = given(body, name);
  if (found == nullptr) return std::string_view{};
  if (!found->is_string()) return twin::argument_invalid(fmt::format("'{}' must be a string", name));
  return found->text();
}

ServiceResult<JobType> read_type(const twin::Value& body) {
  const auto name = text(body, "type");
  if (!name) return name.error();
  for (const JobType type : {JobType::update_twin, JobType::device_method}) {
    if (equal_ignoring_case(*name, to_string(type))) return type;
  }
  return twin::argument_invalid(
      fmt::format("'type' is '{}', 'scheduleUpdateTwin' or 'scheduleDeviceMethod' is expected", name->substr(0, 40)));
}

ServiceResult<WallTime> read_start(const twin::Value& body, WallTime now) {
  const auto written = text(body, "startTime");
  if (!written) return written.error();
  if (written->empty()) return now;
  const auto start = twin::parse_twin_time(*written);
  if (!start) return twin::argument_invalid("'startTime': " + start.error().message);
  if (*start == twin::kNever) return now;
  if (*start > now + kStartWithin) {
    return twin::argument_invalid(fmt::format("'startTime' is {}, more than 168 hours from now", *written));
  }
  return *start;
}

ServiceResult<int64_t> read_execution_seconds(const twin::Value& body) {
  const twin::Value* found = given(body, "maxExecutionTimeInSeconds");
  if (found == nullptr) return kDefaultExecutionSeconds;
  const auto seconds = found->is_number() ? found->as_int() : std::nullopt;
  if (seconds && *seconds >= 1 && *seconds <= kExecutionSecondsMax) return *seconds;
  return twin::argument_invalid(
      fmt::format("'maxExecutionTimeInSeconds' must be a whole number from 1 to {}", kExecutionSecondsMax));
}

ServiceResult<twin::Value> read_update(const twin::Value& body, WallTime now) {
  const twin::Value* update = given(body, "updateTwin");
  if (update == nullptr || !update->is_object()) {
    return twin::argument_invalid("'updateTwin' must be an object with etag '*', tags and properties.desired");
  }
  const twin::Value* etag = update->find("etag");
  if (etag == nullptr || !etag->is_string() || etag->text() != "*") {
    return twin::argument_invalid("'updateTwin.etag' must be '*'");
  }
  // What no twin can take is refused now rather than by every device.
  twin::TwinDocument fresh = twin::TwinDocument::fresh("device", {}, now);
  if (const auto fine = twin::apply_service_patch(fresh, *update, now); !fine) return fine.error();
  return *update;
}

void append_member(std::string& out, std::string_view name, std::string_view value) {
  fmt::format_to(std::back_inserter(out), R"(,"{}":)", name);
  twin::write_string(value, out);
}

void append_time(std::string& out, std::string_view name, WallTime time) {
  fmt::format_to(std::back_inserter(out), R"(,"{}":"{}")", name, twin::TwinTimeText{time}.view());
}

void open_job(std::string_view id, std::string_view type, std::string_view status, std::string& out) {
  out += R"({"jobId":)";
  twin::write_string(id, out);
  fmt::format_to(std::back_inserter(out), R"(,"type":"{}","status":"{}")", type, status);
}

}  // namespace

const char* to_string(JobType type) {
  switch (type) {
    case JobType::update_twin:
      return "scheduleUpdateTwin";
    case JobType::device_method:
      return "scheduleDeviceMethod";
  }
  return "unknown";
}

const char* to_string(JobStatus status) {
  switch (status) {
    case JobStatus::queued:
      return "queued";
    case JobStatus::scheduled:
      return "scheduled";
    case JobStatus::running:
      return "running";
    case JobStatus::completed:
      return "completed";
    case JobStatus::failed:
      return "failed";
    case JobStatus::cancelled:
      return "cancelled";
  }
  return "unknown";
}

ServiceResult<JobSpec> parse_job_request(std::string_view job_id, std::string_view body_text, WallTime now) {
  if (auto valid = check_job_id(job_id); !valid) return valid.error();
  const auto body = twin::parse_body(body_text);
  if (!body) return body.error();
  const auto named = text(*body, "jobId");
  if (!named) return named.error();
  if (!named->empty() && *named != job_id) {
    return twin::argument_invalid(fmt::format("the jobId in the body is not that in the path, '{}'", job_id));
  }
  JobSpec spec;
  spec.id = job_id;
  spec.created = now;
  const auto type = read_type(*body);
  if (!type) return type.error();
  spec.type = *type;
  const auto condition = text(*body, "queryCondition");
  if (!condition) return condition.error();
  if (condition->empty()) {
    return twin::argument_invalid("'queryCondition' is missing, send '*' for all devices");
  }
  spec.condition = *condition;
  const auto start = read_start(*body, now);
  if (!start) return start.error();
  spec.start = *start;
  const auto seconds = read_execution_seconds(*body);
  if (!seconds) return seconds.error();
  spec.execution_seconds = *seconds;

  const bool update = spec.type == JobType::update_twin;
  spec.action_json = protocol::find_member(body_text, update ? "updateTwin" : "cloudToDeviceMethod").value_or("");
  if (update) {
    auto patch = read_update(*body, now);
    if (!patch) return patch.error();
    spec.update_twin = std::move(*patch);
    return spec;
  }
  const twin::Value* method = given(*body, "cloudToDeviceMethod");
  if (method == nullptr || !method->is_object()) {
    return twin::argument_invalid("'cloudToDeviceMethod' must be an object with 'methodName'");
  }
  auto request = parse_method_request(spec.action_json);
  if (!request) return request.error();
  spec.method = std::move(*request);
  return spec;
}

void write_job(const Job& job, std::string& out) {
  const JobSpec& spec = *job.spec;
  open_job(spec.id, to_string(spec.type), to_string(job.status), out);
  append_member(out, "queryCondition", spec.condition);
  append_time(out, "createdTime", spec.created);
  append_time(out, "startTime", spec.start);
  if (job.ended != twin::kNever) append_time(out, "endTime", job.ended);
  fmt::format_to(std::back_inserter(out), R"(,"maxExecutionTimeInSeconds":{},"{}":{})", spec.execution_seconds,
                 spec.type == JobType::update_twin ? "updateTwin" : "cloudToDeviceMethod", spec.action_json);
  if (!job.failure_reason.empty()) {
    append_member(out, "failureReason", job.failure_reason);
    append_member(out, "statusMessage", job.failure_reason);
  }
  const JobProgress& progress = job.progress;
  TS_ASSERT(progress.devices >= progress.running + progress.succeeded + progress.failed);
  fmt::format_to(std::back_inserter(out),
                 R"(,"deviceJobStatistics":{{"deviceCount":{},"failedCount":{},"succeededCount":{},"runningCount":{},)"
                 R"("pendingCount":{}}}}})",
                 progress.devices, progress.failed, progress.succeeded, progress.running,
                 progress.devices - progress.failed - progress.succeeded - progress.running);
}

void write_created_job(const Job& job, std::string& out) {
  open_job(job.spec->id, to_string(job.spec->type), "queued", out);
  out += '}';
}

void write_unknown_job(std::string_view job_id, std::string& out) {
  open_job(job_id, "unknown", "unknown", out);
  out += '}';
}

ServiceError job_already_exists(std::string_view job_id) {
  return {409, 409'000, "JobAlreadyExists", fmt::format("A job with ID '{}' already exists.", job_id)};
}
ServiceError job_not_found(std::string_view job_id) {
  return {404, 404'002, "JobNotFound", fmt::format("Job '{}' not found.", job_id)};
}
ServiceError job_not_cancellable(std::string_view job_id, JobStatus status) {
  return {405, 405'000, "OperationNotAllowedInCurrentState",
          fmt::format("Job '{}' is {} and can be cancelled no longer.", job_id, to_string(status))};
}
ServiceError too_many_active_jobs(std::string_view job_id, size_t active, size_t permitted) {
  return {429, 429'004, "ThrottlingMaxActiveJobCountExceeded",
          fmt::format("Job '{}' cannot be taken, {} of {} permitted jobs are active", job_id, active, permitted)};
}

}  // namespace twinstorm::hub::jobs
