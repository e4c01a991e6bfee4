#include "sim/hub/query/query.hpp"

#include <utility>

#include "sim/base/assert.hpp"
#include "sim/hub/query/detail/plan.hpp"

namespace twinstorm::hub::query {
namespace {

void write_columns(const Plan& plan, const twin::TwinDocument& twin, std::string& out) {
  char separator = '{';
  const size_t start = out.size();
  for (const Column& column : plan.columns) {
    const size_t before = out.size();
    out += separator;
    twin::write_string(column.key, out);
    out += ':';
    if (write_path(column.path, twin, out)) {
      separator = ',';
    } else {
      out.resize(before);  // an undefined member is left out
    }
  }
  out += out.size() == start ? "{}" : "}";
}

}  // namespace

const char* to_string(ItemType type) {
  switch (type) {
    case ItemType::twin:
      return "Twin";
    case ItemType::raw:
      return "Raw";
    case ItemType::device_job:
      return "DeviceJob";
  }
  return "?";
}

twin::TwinResult<Query> Query::parse(std::string_view text) {
  twin::TwinResult<Plan> plan = parse_plan(text);
  if (!plan) return std::move(plan.error());
  return Query{std::make_shared<const Plan>(std::move(*plan))};
}

twin::TwinResult<Query> Query::parse_condition(std::string_view text) {
  twin::TwinResult<Plan> plan = parse_condition_plan(text);
  if (!plan) return std::move(plan.error());
  return Query{std::make_shared<const Plan>(std::move(*plan))};
}

Source Query::source() const { return plan_->source; }

ItemType Query::item_type() const {
  if (!plan_->all) return ItemType::raw;
  return plan_->source == Source::jobs ? ItemType::device_job : ItemType::twin;
}

bool Query::aggregates() const { return plan_->aggregates; }
std::optional<uint32_t> Query::top() const { return plan_->top; }
std::optional<std::span<const std::string>> Query::only_device_ids() const {
  if (!plan_->only_device_ids) return std::nullopt;
  return std::span{*plan_->only_device_ids};
}
uint64_t Query::hash() const { return plan_->hash; }

bool Query::matches(const twin::TwinDocument& twin) const { return passes(*plan_, {&twin, nullptr}); }
bool Query::matches(const twin::Value& row) const { return passes(*plan_, {nullptr, &row}); }

void Query::write_row(const twin::TwinDocument& twin, std::string& out) const {
  TS_ASSERT(!plan_->aggregates);
  if (plan_->all) {
    twin::write_service_twin(twin, out);
  } else {
    write_columns(*plan_, twin, out);
  }
}

void Query::write_row(const twin::Value& row, std::string& out) const {
  TS_ASSERT(plan_->all);
  twin::write(row, out);
}

}  // namespace twinstorm::hub::query
