#include "sim/backend/operations/job.hpp"

#include "sim/backend/operations/method.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;

namespace {

constexpr size_t kNameInId = 32;  // of at most 64 characters of a job id

/// Job ids are lower-case letters, digits and hyphens.
std::string id_prefix(std::string_view run_tag, std::string_view name) {
  std::string out;
  for (const char c : name.substr(0, kNameInId)) {
    if (c >= 'A' && c <= 'Z') {
      out += static_cast<char>(c - 'A' + 'a');
    } else {
      out += c == '_' ? '-' : c;
    }
  }
  out += '-';
  out += run_tag;
  return out + '-';
}

}  // namespace

JobRun::JobRun(const BackendBehavior& behavior, ProcedureContext& context)
    : behavior_{behavior},
      context_{context},
      prefix_{id_prefix(context.run_tag, behavior.name)},
      next_{context.shard} {}

std::optional<ErrorClass> JobRun::begin(Operation& operation) {
  operation.text = context_.blocks.take();
  *operation.text += prefix_;
  *operation.text += std::to_string(next_);
  next_ += context_.shards;
  return std::nullopt;
}

void JobRun::compose(Operation& operation, Request& request) {
  request.target = protocol::service_target::job(*operation.text);
  if (operation.step == kPoll) return;
  request.method = "PUT";
  Rng rng{context_.seed, behavior_.name, (uint64_t{operation.phase} << 48) + operation.n};
  auto& body = request.body;
  body = "{\"jobId\":\"" + *operation.text + "\",";
  if (!behavior_.method_name.empty()) {
    body += "\"type\":\"scheduleDeviceMethod\",\"cloudToDeviceMethod\":{";
    append_method(behavior_, rng, operation.n, body);
    body += '}';
  } else {
    body += R"("type":"scheduleUpdateTwin","updateTwin":{"etag":"*")";
    if (behavior_.tags) {
      body += ",\"tags\":";
      behavior_.tags(rng, operation.n, body);
    }
    if (behavior_.desired) {
      body += ",\"properties\":{\"desired\":";
      behavior_.desired(rng, operation.n, body);
      body += '}';
    }
    body += '}';
  }
  body += ",\"maxExecutionTimeInSeconds\":" +
          std::to_string(std::chrono::duration_cast<std::chrono::seconds>(behavior_.max_execution_time).count()) +
          ",\"queryCondition\":";
  twin::write_string(behavior_.condition, body);
  body += '}';
}

Next JobRun::answered(Operation& operation, const HttpAnswer& answer) {
  if (operation.step == kCreate) {
    if (answer.status != 200) return Next::failed(error_of(answer.status));
    operation.step = kPoll;
    return Next::again(behavior_.poll);
  }
  // The job goes on, whatever becomes of a question about it.
  if (answer.status == 429 || answer.status >= 500) return look_again(operation);
  if (answer.status != 200) return Next::failed(error_of(answer.status));
  const auto status = protocol::find_plain_string(answer.body, "status");
  if (!status) return Next::failed(ErrorClass::protocol);
  if (*status == "completed") return Next::done();
  if (*status == "failed" || *status == "cancelled") return Next::failed(ErrorClass::job_failed);
  if (*status == "unknown") return Next::failed(ErrorClass::not_found);
  return Next::again(behavior_.poll);
}

std::optional<Next> JobRun::unanswered(Operation& operation) {
  if (operation.step == kCreate) return std::nullopt;
  return look_again(operation);
}

Next JobRun::look_again(Operation& operation) {
  context_.recorder.retried(behavior_.stream, operation.phase);
  return Next::again(behavior_.poll);
}

Procedure::Counted JobRun::counted(const Operation& operation) const {
  return {operation.step == kCreate ? HubCount::jobs_created : HubCount::kCount};
}

}  // namespace twinstorm::backend
