// The query language of the service (service.md section 6): a text parsed once into an immutable plan that any number
// of shards evaluate over their own twins.
//
// What the sources leave open follows service.md 6.6: a comparison with an undefined operand, between different types,
// or of objects and arrays is undefined; AND, OR and NOT are three-valued; a row passes only on boolean true. Paths are
// resolved when parsing: `matches` allocates nothing and never serialises the twin.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sim/twin/limits.hpp"
#include "sim/twin/twin_document.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub::query {

/// What FROM names: `devices`, `devices.modules`, `devices.jobs`.
enum class Source : uint8_t { devices, modules, jobs };
/// The `x-ms-item-type` of the answer: `Twin`, `Raw`, `DeviceJob`.
enum class ItemType : uint8_t { twin, raw, device_job };
const char* to_string(ItemType type);

inline constexpr size_t kMaxQueryChars = 8192;
/// Parentheses, NOT, unary minus, function calls and arrays inside one another.
inline constexpr int kMaxQueryNesting = 100;

struct Plan;  // sim/hub/query/detail/plan.hpp

/// Cheap to copy (one shared pointer to a constant plan), safe to use from any number of threads at once.
class Query {
 public:
  /// `text` is a whole query. Errors: 400 ArgumentInvalid, the message saying what was expected and at which character.
  static twin::TwinResult<Query> parse(std::string_view text);
  /// The condition of a job or of a configuration: `*`, what would follow WHERE, or `FROM devices.modules WHERE ...`.
  static twin::TwinResult<Query> parse_condition(std::string_view text);

  Source source() const;
  ItemType item_type() const;
  /// True for COUNT, AVG, SUM, MIN, MAX and GROUP BY: rows come from an Aggregation, not from single twins.
  bool aggregates() const;
  /// TOP, when there is one.
  std::optional<uint32_t> top() const;
  /// The device ids that matching rows can have, ascending, each once, when the condition leaves only some over: `=`, IN
  /// and OR of them, alone or ANDed; possibly none at all. The owner can look these twins up instead of scanning.
  /// nullopt when any id will do. Valid as long as this Query.
  std::optional<std::span<const std::string>> only_device_ids() const;
  /// Stable over processes and releases; ties a continuation token to its query text.
  uint64_t hash() const;

  /// WHERE, for a row of `devices` or `devices.modules`. The caller offers the right kind of twin.
  bool matches(const twin::TwinDocument& twin) const;
  /// WHERE, for a row of `devices.jobs`: any JSON object.
  bool matches(const twin::Value& row) const;

  /// Appends the row's JSON: the twin itself for `SELECT *`, else the projection, undefined members left out.
  /// Asserts that this query does not aggregate.
  void write_row(const twin::TwinDocument& twin, std::string& out) const;
  /// The same for a row of `devices.jobs`, which can only be read whole.
  void write_row(const twin::Value& row, std::string& out) const;

  const Plan& plan() const { return *plan_; }

 private:
  explicit Query(std::shared_ptr<const Plan> plan) : plan_{std::move(plan)} {}
  std::shared_ptr<const Plan> plan_;
};

}  // namespace twinstorm::hub::query
