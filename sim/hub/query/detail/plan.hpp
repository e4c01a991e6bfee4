// What a query text becomes: paths resolved to members of the twin, expressions as a small tree. Private to
// sim/hub/query.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/hub/query/query.hpp"

namespace twinstorm::hub::query {

/// What a path starts from. Everything below a system member that has no members is `nothing`, always undefined.
enum class Root : uint8_t {
  nothing,
  device_id,
  module_id,
  etag,
  device_etag,
  status,
  status_reason,
  status_update_time,
  connection_state,
  last_activity_time,
  cloud_to_device_message_count,
  authentication_type,
  x509_thumbprint,
  x509_primary,
  x509_secondary,
  model_id,
  version,
  tags,
  properties,
  desired,
  desired_version,
  desired_metadata,
  reported,
  reported_version,
  reported_metadata,
  configurations,
  capabilities,
  iot_edge,
  device_scope,
  parent_scopes,
  row,  // a member of a devices.jobs row
};

struct Path {
  Root root = Root::nothing;
  std::vector<std::string> rest;  // below the root, case-sensitive
  std::string output_key;         // what a projection calls it when there is no alias
  friend bool operator==(const Path& a, const Path& b) { return a.root == b.root && a.rest == b.rest; }
};

enum class Type : uint8_t { undefined, null, boolean, number, string, composite };

struct Constant {
  Type type = Type::undefined;  // composite = array
  bool truth = false;
  double number = 0;
  std::string text;
  std::vector<Constant> elements;
};

enum class Operator : uint8_t {
  equal,
  not_equal,
  less,
  greater,
  less_equal,
  greater_equal,
  add,
  subtract,
  multiply,
  divide,
  modulo
};

struct Expression {
  enum class Kind : uint8_t {
    constant,
    path,
    negate,          // operands[0]
    arithmetic,      // operands[0] operators[0] operands[1] operators[1] ..., from left to right
    compare,         // operands[0] operators[0] operands[1]
    in,              // operands[0], constant.elements in the order of in_list_before
    not_in,          //
    logical_not,     // operands[0]
    logical_and,     // all operands: a flat list, so that long chains do not nest
    logical_or,      //
    is_defined,      // path
    starts_with,     // operands[0], operands[1]
    array_contains,  // operands[0], operands[1]
  };
  Kind kind = Kind::constant;
  Constant constant;
  Path path;
  std::vector<Operator> operators;
  std::vector<Expression> operands;
};

struct Column {
  enum class Kind : uint8_t { path, count, average, sum, minimum, maximum };
  Kind kind = Kind::path;
  Path path;
  std::string key;
};

struct Plan {
  Source source = Source::devices;
  bool all = true;              // SELECT *
  std::vector<Column> columns;  // else
  std::optional<uint32_t> top;
  std::optional<Expression> where;
  std::optional<Path> group_by;
  bool aggregates = false;
  uint64_t hash = 0;
  std::optional<std::vector<std::string>> only_device_ids;  // ascending, each once
};

/// One row under evaluation: exactly one of the two is set.
struct RowRef {
  const twin::TwinDocument* twin = nullptr;
  const twin::Value* row = nullptr;
};

/// The order of an IN list's elements: by type, then by value, so that a long list is searched and not compared
/// through.
bool in_list_before(const Constant& a, const Constant& b);

/// What a path or an expression gives for one row. Texts are views into the twin, or in `buffer`.
struct Operand {
  Type type = Type::undefined;
  bool truth = false;
  double number = 0;

  std::string_view text() const { return buffered_ == 0 ? view_ : std::string_view{buffer_, buffered_}; }
  void set_view(std::string_view text) {
    type = Type::string;
    view_ = text;
  }
  void set_copy(std::string_view text);

  // Where a composite is: one of these.
  const twin::Value* value = nullptr;
  const Constant* list = nullptr;

 private:
  std::string_view view_;
  uint8_t buffered_ = 0;
  char buffer_[32];
};

Operand resolve(const Path& path, RowRef row);
Operand evaluate(const Expression& expression, RowRef row);
/// Appends the JSON of what `path` leads to; false, and nothing appended, when that is undefined.
bool write_path(const Path& path, const twin::TwinDocument& twin, std::string& out);
/// WHERE of the plan.
bool passes(const Plan& plan, RowRef row);

twin::TwinResult<Plan> parse_plan(std::string_view text);
twin::TwinResult<Plan> parse_condition_plan(std::string_view text);

}  // namespace twinstorm::hub::query
