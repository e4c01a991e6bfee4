#include "sim/hub/query/aggregation.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "sim/base/assert.hpp"
#include "sim/hub/query/detail/plan.hpp"
#include "sim/protocol/encoding.hpp"

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

// Group keys stand in continuation tokens, so long values are cut: what makes them differ is then their digest.
constexpr size_t kGroupKeyMax = 256;

/// Equal exactly for values that GROUP BY puts together; ordered by type first. Numbers go by magnitude.
std::string group_key(const Operand& operand, const std::string& json) {
  if (operand.type == Type::undefined) return {};
  std::string key(1, static_cast<char>('0' + static_cast<int>(operand.type)));
  if (operand.type == Type::number) {
    append_number(operand.number == 0 ? 0.0 : operand.number, key);  // -0 is 0
  } else if (json.size() <= kGroupKeyMax) {
    key += json;
  } else {
    key.append(json, 0, kGroupKeyMax);
    key += protocol::sha256_hex(json);
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

std::string Aggregation::row_of(const Group& group) const {
  const Plan& plan = query_.plan();
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
      const double number = column.kind == Column::Kind::sum       ? sum.sum
                            : column.kind == Column::Kind::average ? sum.sum / static_cast<double>(sum.numbers)
                            : column.kind == Column::Kind::minimum ? sum.min
                                                                   : sum.max;
      if (!std::isfinite(number)) continue;  // the sum went beyond what a double holds: undefined, as any such result
      begin_member(column.key);
      append_number(number, row);
    }
  }
  row += row.empty() ? "{}" : "}";
  return row;
}

std::vector<Aggregation::GroupRow> Aggregation::rows_behind(std::optional<std::string_view> place, size_t limit) const {
  using Entry = const std::pair<const std::string, Group>*;
  std::vector<Entry> ordered;
  for (const auto& entry : groups_) {
    if (!place || entry.first > *place) ordered.push_back(&entry);
  }
  limit = std::min(limit, ordered.size());
  std::partial_sort(ordered.begin(), ordered.begin() + static_cast<ptrdiff_t>(limit), ordered.end(),
                    [](Entry a, Entry b) { return a->first < b->first; });
  ordered.resize(limit);
  std::vector<GroupRow> rows;
  rows.reserve(limit);
  for (const Entry entry : ordered) rows.push_back({entry->first, row_of(entry->second)});
  return rows;
}

std::vector<std::string> Aggregation::rows() const {
  std::vector<std::string> rows;
  for (GroupRow& row : rows_behind({}, query_.top().value_or(UINT32_MAX))) rows.push_back(std::move(row.json));
  return rows;
}

}  // namespace twinstorm::hub::query
