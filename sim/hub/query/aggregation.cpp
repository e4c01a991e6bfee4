#include "sim/hub/query/aggregation.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "sim/base/assert.hpp"
#include "sim/hub/query/detail/plan.hpp"

namespace twinstorm::hub::query {
namespace {

void append_number(double number, std::string& out) {
  char text[32];
  // Whole numbers as integers: COUNT and SUM of integers are what people expect to read back as such.
  const bool whole = number == std::floor(number) && std::abs(number) < 9e15;
  const auto end = whole ? std::to_chars(text, text + sizeof(text), static_cast<int64_t>(number)).ptr
                         : std::to_chars(text, text + sizeof(text), number).ptr;
  out.append(text, end);
}

/// Equal exactly for values that GROUP BY puts together; ordered by type first. Numbers go by magnitude.
std::string group_key(const Operand& operand, const std::string& json) {
  if (operand.type == Type::undefined) return {};
  std::string key(1, static_cast<char>('0' + static_cast<int>(operand.type)));
  if (operand.type == Type::number) {
    append_number(operand.number == 0 ? 0.0 : operand.number, key);  // -0 is 0
  } else {
    key += json;
  }
  return key;
}

}  // namespace

Aggregation::Aggregation(Query query) : query_{std::move(query)} {
  TS_ASSERT(query_.aggregates());
  if (!query_.plan().group_by) group({}, {});
}

Aggregation::Group& Aggregation::group(const std::string& key, const std::string& value_json) {
  const auto [place, is_new] = groups_.try_emplace(key);
  if (is_new) {
    place->second.value_json = value_json;
    place->second.columns.resize(query_.plan().columns.size());
  }
  return place->second;
}

void Aggregation::add(const twin::TwinDocument& twin) {
  const Plan& plan = query_.plan();
  const RowRef row{&twin, nullptr};
  if (!passes(plan, row)) return;
  std::string key;
  std::string json;
  if (plan.group_by) {
    const Operand operand = resolve(*plan.group_by, row);
    write_path(*plan.group_by, twin, json);
    key = group_key(operand, json);
  }
  Group& into = group(key, json);
  ++into.rows;
  for (size_t i = 0; i < plan.columns.size(); ++i) {
    const Column& column = plan.columns[i];
    if (column.kind == Column::Kind::path || column.kind == Column::Kind::count) continue;
    const Operand operand = resolve(column.path, row);
    if (operand.type != Type::number) continue;
    Accumulator& sum = into.columns[i];
    sum.min = sum.numbers == 0 ? operand.number : std::min(sum.min, operand.number);
    sum.max = sum.numbers == 0 ? operand.number : std::max(sum.max, operand.number);
    sum.sum += operand.number;
    ++sum.numbers;
  }
}

void Aggregation::merge(Aggregation&& other) {
  TS_ASSERT(query_.hash() == other.query_.hash());
  for (auto& [key, theirs] : other.groups_) {
    Group& ours = group(key, theirs.value_json);
    ours.rows += theirs.rows;
    for (size_t i = 0; i < ours.columns.size(); ++i) {
      Accumulator& to = ours.columns[i];
      const Accumulator& from = theirs.columns[i];
      if (from.numbers == 0) continue;
      to.min = to.numbers == 0 ? from.min : std::min(to.min, from.min);
      to.max = to.numbers == 0 ? from.max : std::max(to.max, from.max);
      to.sum += from.sum;
      to.numbers += from.numbers;
    }
  }
  other.groups_.clear();
}

std::vector<std::string> Aggregation::rows() const {
  std::vector<const std::pair<const std::string, Group>*> ordered;
  ordered.reserve(groups_.size());
  for (const auto& entry : groups_) ordered.push_back(&entry);
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  if (const auto top = query_.top()) ordered.resize(std::min<size_t>(ordered.size(), *top));

  const Plan& plan = query_.plan();
  std::vector<std::string> rows;
  rows.reserve(ordered.size());
  for (const auto* entry : ordered) {
    const Group& group = entry->second;
    std::string row;
    const auto begin_member = [&row](const std::string& key) {
      row += row.empty() ? '{' : ',';
      twin::write_string(key, row);
      row += ':';
    };
    for (size_t i = 0; i < plan.columns.size(); ++i) {
      const Column& column = plan.columns[i];
      const Accumulator& sum = group.columns[i];
      if (column.kind == Column::Kind::path) {
        if (group.value_json.empty()) continue;
        begin_member(column.key);
        row += group.value_json;
      } else if (column.kind == Column::Kind::count) {
        begin_member(column.key);
        row += std::to_string(group.rows);
      } else if (sum.numbers > 0) {
        begin_member(column.key);
        const double number = column.kind == Column::Kind::sum       ? sum.sum
                              : column.kind == Column::Kind::average ? sum.sum / static_cast<double>(sum.numbers)
                              : column.kind == Column::Kind::minimum ? sum.min
                                                                     : sum.max;
        append_number(number, row);
      }
    }
    row += row.empty() ? "{}" : "}";
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace twinstorm::hub::query
