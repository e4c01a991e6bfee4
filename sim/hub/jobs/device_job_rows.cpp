#include "sim/hub/jobs/device_job_rows.hpp"

#include <algorithm>
#include <limits>
#include <tuple>

#include "sim/base/assert.hpp"
#include "sim/hub/query/detail/plan.hpp"

namespace twinstorm::hub::jobs {
namespace {

using Place = std::pair<std::string_view, std::string_view>;  // jobId, deviceId

std::string_view text_member(const twin::Value& row, std::string_view name) {
  const twin::Value* value = row.find(name);
  return value != nullptr && value->is_string() ? value->text() : std::string_view{};
}

Place place_of(const twin::Value& row) { return {text_member(row, "jobId"), text_member(row, "deviceId")}; }

size_t payload_size(const DeviceJobRow& row) {
  return row.outcome != nullptr && *row.outcome ? (*row.outcome)->payload.size() : 0;
}

/// The text that `member` of every matching row is, when the condition says so by itself or with AND.
std::optional<std::string> required_text(const query::Expression& condition, std::string_view member) {
  using Kind = query::Expression::Kind;
  if (condition.kind == Kind::logical_and) {
    for (const query::Expression& operand : condition.operands) {
      if (auto text = required_text(operand, member)) return text;
    }
    return std::nullopt;
  }
  if (condition.kind != Kind::compare || condition.operators.front() != query::Operator::equal) return std::nullopt;
  for (const size_t side : {0, 1}) {
    const query::Expression& path = condition.operands[side];
    const query::Expression& constant = condition.operands[1 - side];
    if (path.kind == Kind::path && path.path.root == query::Root::row && path.path.rest.size() == 1 &&
        path.path.rest.front() == member && constant.kind == Kind::constant &&
        constant.constant.type == query::Type::string) {
      return constant.constant.text;
    }
  }
  return std::nullopt;
}

twin::Value time(WallTime at) { return twin::Value::string(twin::TwinTimeText{at}.view()); }

}  // namespace

const char* to_string(DeviceJobStatus status) {
  switch (status) {
    case DeviceJobStatus::pending:
      return "pending";
    case DeviceJobStatus::running:
      return "running";
    case DeviceJobStatus::completed:
      return "completed";
    case DeviceJobStatus::failed:
      return "failed";
  }
  return "unknown";
}

void DeviceJobRows::import(std::vector<twin::Value> rows) {
  imported_ = std::move(rows);
  std::stable_sort(imported_.begin(), imported_.end(),
                   [](const twin::Value& a, const twin::Value& b) { return place_of(a) < place_of(b); });
}

std::shared_ptr<DeviceJobPart> DeviceJobRows::add(JobSpecPtr spec, std::vector<std::string> device_ids) {
  auto part = std::make_shared<DeviceJobPart>();
  part->rows.resize(device_ids.size());
  for (size_t i = 0; i < device_ids.size(); ++i) {
    TS_ASSERT(i == 0 || part->rows[i - 1].device_id < device_ids[i]);
    part->rows[i].device_id = std::move(device_ids[i]);
    part->rows[i].updated = spec->start;
  }
  part->spec = std::move(spec);
  const bool added = parts_.emplace(part->spec->id, part).second;
  TS_ASSERT(added);
  return part;
}

void DeviceJobRows::forget(uint64_t number) {
  const auto found =
      std::find_if(parts_.begin(), parts_.end(), [&](const auto& each) { return each.second->spec->number == number; });
  if (found == parts_.end()) return;
  for (const DeviceJobRow& row : found->second->rows) payload_bytes_ -= payload_size(row);
  parts_.erase(found);
}

size_t DeviceJobRows::size() const {
  size_t sum = imported_.size();
  for (const auto& [id, part] : parts_) sum += part->rows.size();
  return sum;
}

void DeviceJobRows::finish(DeviceJobPart& part, DeviceJobRow& row, MethodOutcome outcome, WallTime now) {
  TS_ASSERT(row.status < DeviceJobStatus::completed);
  row.updated = now;
  row.status = outcome ? DeviceJobStatus::completed : DeviceJobStatus::failed;
  if (outcome && part.spec->type == JobType::update_twin) return;
  if (outcome && payload_bytes_ + outcome->payload.size() > kPayloadBytesMax) outcome->payload = {};
  row.outcome = std::make_unique<MethodOutcome>(std::move(outcome));
  payload_bytes_ += payload_size(row);
}

twin::Value device_job_json(const JobSpec& spec, const DeviceJobRow& row) {
  twin::Value json = twin::Value::object();
  json.reserve(9);
  json.append("deviceId", twin::Value::string(row.device_id));
  json.append("jobId", twin::Value::string(spec.id));
  json.append("jobType", twin::Value::string(to_string(spec.type)));
  json.append("status", twin::Value::string(to_string(row.status)));
  json.append("startTimeUtc", time(row.started == twin::kNever ? spec.start : row.started));
  const bool ended = row.status >= DeviceJobStatus::completed;
  if (ended) json.append("endTimeUtc", time(row.updated));
  json.append("createdDateTimeUtc", time(spec.created));
  json.append("lastUpdatedDateTimeUtc", time(row.updated));
  if (row.status == DeviceJobStatus::failed) {
    const ServiceError& error = row.outcome->error();
    json.append("error", twin::Value::object({{"code", twin::Value::string(std::to_string(error.error_code))},
                                              {"description", twin::Value::string(error.message)}}));
    return json;
  }
  twin::Value response;
  if (ended && row.outcome != nullptr) {
    const MethodAnswer& answer = **row.outcome;
    auto payload = answer.payload.empty() ? Result<twin::Value>{twin::Value{}} : twin::parse_value(answer.payload);
    response = twin::Value::object({{"status", twin::Value::number(answer.status)}});
    response.append("payload", payload ? std::move(*payload) : twin::Value::string(answer.payload));
  }
  twin::Value outcome;
  if (ended) {
    outcome = twin::Value::object();
    outcome.append("deviceMethodResponse", std::move(response));
  }
  json.append("outcome", std::move(outcome));
  return json;
}

DeviceJobScan::DeviceJobScan(query::Query query, const query::Cursor& cursor, size_t page_size)
    : query_{std::move(query)}, started_{cursor.started}, job_{cursor.first}, device_{cursor.second} {
  TS_ASSERT(page_size > 0 && !query_.aggregates() && query_.source() == query::Source::jobs);
  const size_t left =
      query_.top() ? *query_.top() - std::min(*query_.top(), cursor.delivered) : std::numeric_limits<size_t>::max();
  // One row more tells whether there is a next page, unless TOP has already said that there is none.
  capacity_ = left < page_size ? left : page_size + 1;
  if (const auto& where = query_.plan().where) {
    only_job_ = required_text(*where, "jobId");
    only_device_ = required_text(*where, "deviceId");
  }
}

void DeviceJobScan::offer(const twin::Value& row, std::string_view job_id, std::string_view device_id) {
  if (!query_.matches(row)) return;
  query::Row& kept = found_.emplace_back();
  kept.first = job_id;
  kept.second = device_id;
  query_.write_row(row, kept.json);
}

bool DeviceJobScan::step(const DeviceJobRows& rows, size_t count) {
  // Both sources are in the order of pages, and both go on behind the last row looked at.
  const Place last{job_, device_};
  auto imported =
      !started_ ? rows.imported_.begin()
                : std::upper_bound(rows.imported_.begin(), rows.imported_.end(), last,
                                   [](const Place& place, const twin::Value& row) { return place < place_of(row); });
  auto part = started_ ? rows.parts_.lower_bound(job_) : rows.parts_.begin();
  size_t index = 0;
  if (started_ && part != rows.parts_.end() && part->first == job_) {
    const std::vector<DeviceJobRow>& all = part->second->rows;
    const auto next = std::upper_bound(all.begin(), all.end(), std::string_view{device_},
                                       [](std::string_view id, const DeviceJobRow& row) { return id < row.device_id; });
    index = static_cast<size_t>(next - all.begin());
  }
  Place looked = last;
  bool moved = false;
  bool done = false;
  while (true) {
    if (found_.size() >= capacity_) {
      done = true;
      break;
    }
    while (part != rows.parts_.end() && index == part->second->rows.size()) {
      ++part;
      index = 0;
    }
    const bool has_part = part != rows.parts_.end();
    if (!has_part && imported == rows.imported_.end()) {
      done = true;
      break;
    }
    if (count-- == 0) break;
    moved = true;
    if (imported != rows.imported_.end() &&
        (!has_part || place_of(*imported) <= Place{part->first, part->second->rows[index].device_id})) {
      looked = place_of(*imported);
      offer(*imported, looked.first, looked.second);
      ++imported;
      continue;
    }
    const DeviceJobPart& in = *part->second;
    if (only_job_ || only_device_) {
      auto found = in.rows.end();
      if (!only_job_ || *only_job_ == part->first) {
        found = in.rows.begin() + static_cast<std::ptrdiff_t>(index);
        if (only_device_) {  // one row a job at most
          found = std::lower_bound(found, in.rows.end(), *only_device_,
                                   [](const DeviceJobRow& row, std::string_view id) { return row.device_id < id; });
          if (found != in.rows.end() && found->device_id != *only_device_) found = in.rows.end();
        }
      }
      if (found == in.rows.end()) {
        looked = {part->first, in.rows.back().device_id};
        index = in.rows.size();
        continue;
      }
      index = static_cast<size_t>(found - in.rows.begin());
    }
    const DeviceJobRow& row = in.rows[index++];
    looked = {part->first, row.device_id};
    offer(device_job_json(*in.spec, row), part->first, row.device_id);
  }
  if (moved) {
    std::string job{looked.first};
    std::string device{looked.second};
    job_ = std::move(job);
    device_ = std::move(device);
    started_ = true;
  }
  return done;
}

}  // namespace twinstorm::hub::jobs
