#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/hub/query/detail/lexer.hpp"
#include "sim/hub/query/detail/plan.hpp"

namespace twinstorm::hub::query {
namespace {

using twin::PropertyBag;
using twin::TwinDocument;
using twin::TwinTimeText;
using twin::Value;

/// Three-valued logic: what is not a boolean is neither true nor false (service.md 6.6).
enum class Truth : uint8_t { no, yes, undefined };

Truth to_truth(bool value) { return value ? Truth::yes : Truth::no; }

Operand of_boolean(bool truth) {
  Operand operand;
  operand.type = Type::boolean;
  operand.truth = truth;
  return operand;
}

Operand of_number(double number) {
  Operand operand;
  if (!std::isfinite(number)) return operand;
  operand.type = Type::number;
  operand.number = number;
  return operand;
}

Operand of_text(std::string_view text) {
  Operand operand;
  operand.set_view(text);
  return operand;
}

/// Members that the service leaves out when they are empty are undefined then.
Operand of_optional(std::string_view text) { return text.empty() ? Operand{} : of_text(text); }

/// x509 thumbprints are null when there is none.
Operand of_nullable(std::string_view text) {
  Operand operand;
  operand.type = Type::null;
  return text.empty() ? operand : of_text(text);
}

Operand of_copy(std::string_view text) {
  Operand operand;
  operand.set_copy(text);
  return operand;
}

Operand of_composite(const Value* value = nullptr) {
  Operand operand;
  operand.type = Type::composite;
  operand.value = value;
  return operand;
}

Operand of_value(const Value* value) {
  if (value == nullptr) return {};
  Operand operand;
  switch (value->kind()) {
    case Value::Kind::null:
      operand.type = Type::null;
      return operand;
    case Value::Kind::boolean:
      return of_boolean(value->is_true());
    case Value::Kind::number:
      return of_number(*value->as_double());
    case Value::Kind::string:
      return of_text(value->text());
    case Value::Kind::array:
    case Value::Kind::object:
      return of_composite(value);
  }
  return operand;
}

Operand of_constant(const Constant& constant) {
  Operand operand;
  operand.type = constant.type;
  operand.truth = constant.truth;
  operand.number = constant.number;
  if (constant.type == Type::string) operand.set_view(constant.text);
  if (constant.type == Type::composite) operand.list = &constant;
  return operand;
}

const Value* descend(const Value& from, std::span<const std::string> segments) {
  const Value* at = &from;
  for (const std::string& segment : segments) {
    at = at->find(segment);
    if (at == nullptr) break;
  }
  return at;
}

/// A place in a `$metadata` tree: an entry, or the time or version of one.
struct MetadataPlace {
  enum class What : uint8_t { nothing, entry, time, version };
  What what = What::nothing;
  const Value* values = nullptr;
  const twin::Metadata* entry = nullptr;
};

MetadataPlace find_metadata(const PropertyBag& bag, std::span<const std::string> segments) {
  MetadataPlace place{MetadataPlace::What::entry, &bag.values, &bag.metadata};
  for (size_t i = 0; i < segments.size(); ++i) {
    const bool last = i + 1 == segments.size();
    if (last && segments[i] == "$lastUpdated") {
      place.what = MetadataPlace::What::time;
      return place;
    }
    if (last && segments[i] == "$lastUpdatedVersion" && place.entry->last_updated_version() != 0) {
      place.what = MetadataPlace::What::version;
      return place;
    }
    const size_t at = place.values->index_of(segments[i]);
    if (at == Value::kNone) return {};
    place.values = &place.values->members()[at].value;
    place.entry = &place.entry->child(at);
  }
  return place;
}

Operand of_metadata(const PropertyBag& bag, std::span<const std::string> segments) {
  const MetadataPlace place = find_metadata(bag, segments);
  switch (place.what) {
    case MetadataPlace::What::nothing:
      return {};
    case MetadataPlace::What::entry:
      return of_composite();
    case MetadataPlace::What::time:
      return of_copy(TwinTimeText{place.entry->last_updated()}.view());
    case MetadataPlace::What::version:
      return of_number(place.entry->last_updated_version());
  }
  return {};
}

/// `properties.desired` itself has more members than its values; below it, values only.
Operand of_bag(const PropertyBag& bag, const Path& path) {
  return path.rest.empty() ? of_composite() : of_value(descend(bag.values, path.rest));
}

Operand of_row(const Path& path, const Value& row) {
  // Members of a job row are system members: matched without case.
  for (const twin::Member& member : row.members()) {
    if (!equal_ignoring_case(member.name(), path.rest.front())) continue;
    return of_value(descend(member.value, std::span{path.rest}.subspan(1)));
  }
  return {};
}

Operand of_arithmetic(Operand left, Operator op, const Operand& right) {
  if (left.type != Type::number || right.type != Type::number) return {};
  switch (op) {
    case Operator::add:
      return of_number(left.number + right.number);
    case Operator::subtract:
      return of_number(left.number - right.number);
    case Operator::multiply:
      return of_number(left.number * right.number);
    case Operator::divide:
      return of_number(left.number / right.number);  // by 0: not finite, so undefined
    case Operator::modulo:
      return of_number(std::fmod(left.number, right.number));
    default:
      break;
  }
  TS_ASSERT(false);
}

template <class T>
bool ordered(const T& left, Operator op, const T& right) {
  switch (op) {
    case Operator::equal:
      return left == right;
    case Operator::not_equal:
      return left != right;
    case Operator::less:
      return left < right;
    case Operator::greater:
      return left > right;
    case Operator::less_equal:
      return left <= right;
    case Operator::greater_equal:
      return left >= right;
    default:
      break;
  }
  TS_ASSERT(false);
}

Truth compare(const Operand& left, Operator op, const Operand& right) {
  if (left.type != right.type) return Truth::undefined;
  switch (left.type) {
    case Type::undefined:
    case Type::composite:
      return Truth::undefined;
    case Type::null:
      return to_truth(ordered(0, op, 0));
    case Type::boolean:
      return to_truth(ordered(left.truth, op, right.truth));
    case Type::number:
      return to_truth(ordered(left.number, op, right.number));
    case Type::string:
      return to_truth(ordered(left.text(), op, right.text()));
  }
  return Truth::undefined;
}

/// IN: the same as `= first OR = second OR ...`, by binary search.
Truth is_in(const Operand& operand, const Constant& list) {
  if (operand.type == Type::undefined || operand.type == Type::composite) return Truth::undefined;
  const auto& elements = list.elements;
  const auto place = std::partition_point(elements.begin(), elements.end(), [&operand](const Constant& element) {
    if (element.type != operand.type) return element.type < operand.type;
    return compare(of_constant(element), Operator::less, operand) == Truth::yes;
  });
  if (place != elements.end() && compare(of_constant(*place), Operator::equal, operand) == Truth::yes)
    return Truth::yes;
  // Elements of another type make undefined what is not found among the others.
  const bool one_type = elements.front().type == operand.type && elements.back().type == operand.type;
  return one_type ? Truth::no : Truth::undefined;
}

Truth array_contains(const Operand& array, const Operand& wanted) {
  const bool is_array =
      array.type == Type::composite && (array.list != nullptr || (array.value && array.value->is_array()));
  if (!is_array || wanted.type == Type::undefined || wanted.type == Type::composite) return Truth::undefined;
  const auto equals = [&wanted](const Operand& element) {
    return compare(element, Operator::equal, wanted) == Truth::yes;
  };
  if (array.list != nullptr) {
    const auto& elements = array.list->elements;
    return to_truth(
        std::any_of(elements.begin(), elements.end(), [&](const Constant& e) { return equals(of_constant(e)); }));
  }
  const auto elements = array.value->elements();
  return to_truth(std::any_of(elements.begin(), elements.end(), [&](const Value& e) { return equals(of_value(&e)); }));
}

Truth invert(Truth truth) { return truth == Truth::undefined ? truth : to_truth(truth == Truth::no); }

Truth truth_of(const Expression& expression, RowRef row) {
  const auto operand = [&](size_t index) { return evaluate(expression.operands[index], row); };
  switch (expression.kind) {
    case Expression::Kind::compare:
      return compare(operand(0), expression.operators[0], operand(1));
    case Expression::Kind::in:
      return is_in(operand(0), expression.constant);
    case Expression::Kind::not_in:
      return invert(is_in(operand(0), expression.constant));
    case Expression::Kind::logical_not:
      return invert(truth_of(expression.operands[0], row));
    case Expression::Kind::logical_and:
    case Expression::Kind::logical_or: {
      const Truth decisive = to_truth(expression.kind == Expression::Kind::logical_or);
      Truth result = invert(decisive);
      for (const Expression& part : expression.operands) {
        const Truth truth = truth_of(part, row);
        if (truth == decisive) return decisive;
        if (truth == Truth::undefined) result = Truth::undefined;
      }
      return result;
    }
    case Expression::Kind::is_defined:
      return to_truth(resolve(expression.path, row).type != Type::undefined);
    case Expression::Kind::starts_with: {
      const Operand text = operand(0);
      const Operand prefix = operand(1);
      if (text.type != Type::string || prefix.type != Type::string) return Truth::undefined;
      return to_truth(text.text().starts_with(prefix.text()));
    }
    case Expression::Kind::array_contains:
      return array_contains(operand(0), operand(1));
    case Expression::Kind::constant:
    case Expression::Kind::path:
    case Expression::Kind::negate:
    case Expression::Kind::arithmetic:
      break;
  }
  const Operand value = evaluate(expression, row);
  return value.type == Type::boolean ? to_truth(value.truth) : Truth::undefined;
}

void write_integer(int64_t number, std::string& out) {
  const fmt::format_int text{number};
  out.append(text.data(), text.size());
}

}  // namespace

bool in_list_before(const Constant& a, const Constant& b) {
  if (a.type != b.type) return a.type < b.type;
  return compare(of_constant(a), Operator::less, of_constant(b)) == Truth::yes;
}

void Operand::set_copy(std::string_view text) {
  TS_ASSERT(text.size() <= sizeof(buffer_));
  type = Type::string;
  std::memcpy(buffer_, text.data(), text.size());
  buffered_ = static_cast<uint8_t>(text.size());
}

Operand resolve(const Path& path, RowRef row) {
  if (row.row != nullptr) return path.root == Root::row ? of_row(path, *row.row) : Operand{};
  const TwinDocument& twin = *row.twin;
  switch (path.root) {
    case Root::nothing:
    case Root::row:
      return {};
    case Root::device_id:
      return of_text(twin.device_id);
    case Root::module_id:
      return of_optional(twin.module_id);
    case Root::etag:
      return of_copy(twin::format_etag(twin.etag));
    case Root::device_etag:
      return of_text(twin.device_etag);
    case Root::status:
      return of_text(to_string(twin.status));
    case Root::status_reason:
      return of_optional(twin.status_reason);
    case Root::status_update_time:
      return of_copy(TwinTimeText{twin.status_update_time}.view());
    case Root::connection_state:
      return of_text(to_string(twin.connection_state));
    case Root::last_activity_time:
      return of_copy(TwinTimeText{twin.last_activity_time}.view());
    case Root::cloud_to_device_message_count:
      return of_number(twin.cloud_to_device_message_count);
    case Root::authentication_type:
      return of_text(to_string(twin.authentication_type));
    case Root::x509_thumbprint:
      return of_composite();
    case Root::x509_primary:
      return of_nullable(twin.x509_primary);
    case Root::x509_secondary:
      return of_nullable(twin.x509_secondary);
    case Root::model_id:
      return of_text(twin.model_id);
    case Root::version:
      return of_number(static_cast<double>(twin.version));
    case Root::tags:
      return twin.tags.empty() ? Operand{} : of_value(descend(twin.tags, path.rest));
    case Root::properties:
      return of_composite();
    case Root::desired:
      return of_bag(twin.desired, path);
    case Root::desired_version:
      return of_number(static_cast<double>(twin.desired.version));
    case Root::desired_metadata:
      return of_metadata(twin.desired, path.rest);
    case Root::reported:
      return of_bag(twin.reported, path);
    case Root::reported_version:
      return of_number(static_cast<double>(twin.reported.version));
    case Root::reported_metadata:
      return of_metadata(twin.reported, path.rest);
    case Root::configurations:
      return twin.configurations.is_null() ? Operand{} : of_value(descend(twin.configurations, path.rest));
    case Root::capabilities:
      return of_composite();
    case Root::iot_edge:
      return of_boolean(twin.iot_edge);
    case Root::device_scope:
      return of_optional(twin.device_scope);
    case Root::parent_scopes:
      return twin.parent_scopes.is_null() ? Operand{} : of_value(&twin.parent_scopes);
  }
  return {};
}

Operand evaluate(const Expression& expression, RowRef row) {
  switch (expression.kind) {
    case Expression::Kind::constant:
      return of_constant(expression.constant);
    case Expression::Kind::path:
      return resolve(expression.path, row);
    case Expression::Kind::negate: {
      const Operand operand = evaluate(expression.operands[0], row);
      return operand.type == Type::number ? of_number(-operand.number) : Operand{};
    }
    case Expression::Kind::arithmetic: {
      Operand result = evaluate(expression.operands[0], row);
      for (size_t i = 0; i < expression.operators.size(); ++i) {
        result = of_arithmetic(result, expression.operators[i], evaluate(expression.operands[i + 1], row));
      }
      return result;
    }
    default:
      break;
  }
  const Truth truth = truth_of(expression, row);
  return truth == Truth::undefined ? Operand{} : of_boolean(truth == Truth::yes);
}

bool passes(const Plan& plan, RowRef row) { return !plan.where || truth_of(*plan.where, row) == Truth::yes; }

bool write_path(const Path& path, const TwinDocument& twin, std::string& out) {
  const Operand operand = resolve(path, {&twin, nullptr});
  if (operand.type == Type::undefined) return false;
  if (operand.type == Type::null) {
    out += "null";
    return true;
  }
  switch (path.root) {
    // Values are written as they are stored, so that number literals survive.
    case Root::tags:
      twin::write(*descend(twin.tags, path.rest), out);
      return true;
    case Root::configurations:
      twin::write(*descend(twin.configurations, path.rest), out);
      return true;
    case Root::parent_scopes:
      twin::write(twin.parent_scopes, out);
      return true;
    case Root::desired:
    case Root::reported: {
      const PropertyBag& bag = path.root == Root::desired ? twin.desired : twin.reported;
      if (path.rest.empty()) {
        twin::write_properties(bag, true, out);
      } else {
        twin::write(*descend(bag.values, path.rest), out);
      }
      return true;
    }
    case Root::properties:
      twin::write_properties(twin.desired, true, out += R"({"desired":)");
      twin::write_properties(twin.reported, true, out += R"(,"reported":)");
      out += '}';
      return true;
    case Root::version:
      write_integer(twin.version, out);
      return true;
    case Root::desired_version:
      write_integer(twin.desired.version, out);
      return true;
    case Root::reported_version:
      write_integer(twin.reported.version, out);
      return true;
    case Root::x509_thumbprint:
      twin::write_x509_thumbprint(twin, out);
      return true;
    case Root::capabilities:
      out += twin.iot_edge ? R"({"iotEdge":true})" : R"({"iotEdge":false})";
      return true;
    case Root::desired_metadata:
    case Root::reported_metadata:
      if (operand.type == Type::composite) {
        const MetadataPlace place =
            find_metadata(path.root == Root::desired_metadata ? twin.desired : twin.reported, path.rest);
        twin::write_metadata(*place.values, *place.entry, out);
        return true;
      }
      break;
    default:
      break;
  }
  switch (operand.type) {
    case Type::boolean:
      out += operand.truth ? "true" : "false";
      break;
    case Type::number:
      write_integer(static_cast<int64_t>(operand.number), out);
      break;  // counters, all whole
    case Type::string:
      twin::write_string(operand.text(), out);
      break;
    default:
      TS_ASSERT(false);
  }
  return true;
}

}  // namespace twinstorm::hub::query
