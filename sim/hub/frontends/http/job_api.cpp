#include "sim/hub/frontends/http/job_api.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "sim/hub/jobs/jobs.hpp"
#include "sim/hub/query/page.hpp"
#include "sim/hub/text.hpp"
#include "sim/hub/token_seal.hpp"

namespace twinstorm::hub {
namespace {

using Op = protocol::ServiceOperation;

ServiceResult<ServiceAnswer> create(const ServiceCall& call, Shard& first) {
  const auto job = first.jobs().create(call.route.job_id, call.body);
  if (!job) return job.error();
  ServiceAnswer answer;
  jobs::write_created_job(**job, answer.body);
  return answer;
}

ServiceResult<ServiceAnswer> get(const ServiceCall& call, Shard& first) {
  ServiceAnswer answer;
  if (const jobs::Job* job = first.jobs().book().find(call.route.job_id)) {
    jobs::write_job(*job, answer.body);
  } else {
    jobs::write_unknown_job(call.route.job_id, answer.body);
  }
  return answer;
}

ServiceResult<ServiceAnswer> cancel(const ServiceCall& call, Shard& first) {
  const auto job = first.jobs().cancel(call.route.job_id);
  if (!job) return job.error();
  ServiceAnswer answer;
  jobs::write_job(**job, answer.body);
  return answer;
}

// --- Listing ---------------------------------------------------------------------------------------------------------

constexpr std::array kTypes{jobs::JobType::update_twin, jobs::JobType::device_method};
constexpr std::array kStatuses{jobs::JobStatus::queued,    jobs::JobStatus::scheduled, jobs::JobStatus::running,
                               jobs::JobStatus::completed, jobs::JobStatus::failed,    jobs::JobStatus::cancelled};
/// What the service's enumerations have beside those.
constexpr std::array<std::string_view, 9> kOtherTypes{"unknown",
                                                      "export",
                                                      "import",
                                                      "backup",
                                                      "readDeviceProperties",
                                                      "writeDeviceProperties",
                                                      "rebootDevice",
                                                      "factoryResetDevice",
                                                      "firmwareUpdate"};
constexpr std::array<std::string_view, 2> kOtherStatuses{"unknown", "enqueued"};

/// Sets `wanted`, or `none` where the name is one that no job here has. Error: 400 for other names.
template <class Kind, size_t Kinds, size_t Others>
ServiceResult<void> read_filter(const ServiceCall& call, std::string_view parameter,
                                const std::array<Kind, Kinds>& kinds,
                                const std::array<std::string_view, Others>& others, std::optional<Kind>& wanted,
                                bool& none) {
  const auto name = call.route.parameter(parameter);
  if (!name || name->empty()) return {};
  const auto kind =
      std::find_if(kinds.begin(), kinds.end(), [&](Kind each) { return equal_ignoring_case(*name, to_string(each)); });
  if (kind != kinds.end()) {
    wanted = *kind;
    return {};
  }
  none |= std::any_of(others.begin(), others.end(),
                      [&](std::string_view each) { return equal_ignoring_case(*name, each); });
  if (none) return {};
  return twin::argument_invalid(fmt::format("{} '{}' is not known", parameter, name->substr(0, 40)));
}

constexpr std::string_view kTokenPurpose = "jobs";

std::string filter_text(const jobs::JobBook::Filter& filter) {
  return fmt::format("{}/{}", filter.type ? to_string(*filter.type) : "",
                     filter.status ? to_string(*filter.status) : "");
}

/// A place in the listing under one filter.
std::string make_token(const HubShared& shared, const jobs::JobBook::Filter& filter, uint64_t last) {
  return seal_token(shared.token_key, kTokenPurpose, fmt::format("{} {}", filter_text(filter), last));
}

ServiceResult<uint64_t> read_token(const HubShared& shared, const jobs::JobBook::Filter& filter,
                                   std::string_view token) {
  const auto place = open_token(shared.token_key, kTokenPurpose, token);
  if (!place) return twin::argument_invalid("x-ms-continuation is not a token of this hub");
  const std::string prefix = filter_text(filter) + ' ';
  if (!place->starts_with(prefix)) return twin::argument_invalid("x-ms-continuation: the token is of another query");
  return std::stoull(place->substr(prefix.size()));
}

ServiceResult<ServiceAnswer> list(const ServiceCall& call, Shard& first) {
  jobs::JobBook::Filter filter;
  if (auto type = read_filter(call, "jobType", kTypes, kOtherTypes, filter.type, filter.none); !type) {
    return type.error();
  }
  if (auto status = read_filter(call, "jobStatus", kStatuses, kOtherStatuses, filter.status, filter.none); !status) {
    return status.error();
  }
  const HubConfig& config = first.config();
  const auto size = query::read_page_size(call.max_item_count, config.query_page_default, config.query_page_max);
  if (!size) return size.error();
  uint64_t before = 0;
  if (call.continuation && !call.continuation->empty()) {
    const auto place = read_token(first.shared(), filter, *call.continuation);
    if (!place) return place.error();
    before = *place;
  }
  const auto [found, more] = first.jobs().book().list(filter, before, *size);
  ServiceAnswer answer;
  answer.item_type = "JobResponse";
  answer.body = "[";
  for (const jobs::Job* job : found) {
    if (answer.body.size() > 1) answer.body += ',';
    jobs::write_job(*job, answer.body);
  }
  answer.body += ']';
  if (more) answer.continuation = make_token(first.shared(), filter, found.back()->spec->number);
  return answer;
}

ServiceResult<ServiceAnswer> dispatch(const ServiceCall& call, Shard& first) {
  switch (call.route.operation) {
    case Op::create_job:
      return create(call, first);
    case Op::get_job:
      return get(call, first);
    case Op::cancel_job:
      return cancel(call, first);
    case Op::query_jobs:
      return list(call, first);
    default:
      return not_implemented(call.route.operation);
  }
}

ServiceAnswer serve(const ServiceCall& call, Shard& first) {
  auto answer = dispatch(call, first);
  if (answer) return std::move(*answer);
  count_refusal(first.counts(), call.route.operation, answer.error().status);
  return error_answer(answer.error(), first);
}

}  // namespace

bool concerns_jobs(Op operation) {
  return operation == Op::create_job || operation == Op::get_job || operation == Op::cancel_job ||
         operation == Op::query_jobs;
}

void serve_job(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done) {
  Shard& first = *origin.shared().shards.front();
  if (&first == &origin) {
    done(serve(call, first));
    return;
  }
  first.post([&first, &origin, call = std::move(call), done = std::move(done)]() mutable {
    origin.post([done = std::move(done), answer = serve(call, first)]() mutable { done(std::move(answer)); });
  });
}

}  // namespace twinstorm::hub
