#include "sim/hub/configurations/configuration.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "sim/hub/query/detail/plan.hpp"
#include "sim/hub/store/device_record.hpp"
#include "sim/hub/text.hpp"
#include "sim/twin/metadata.hpp"

namespace twinstorm::hub {
namespace {

using twin::argument_invalid;
using twin::Value;

constexpr size_t kIdMax = 128;
constexpr size_t kMetricsMax = 20;
constexpr size_t kShownMax = 60;
constexpr std::string_view kDesired = "properties.desired";

/// What a client sent, as part of an error text: SDKs cut at `;`.
std::string shown(std::string_view text) {
  std::string out{text.substr(0, kShownMax)};
  std::replace(out.begin(), out.end(), ';', ',');
  return out;
}

ServiceError invalid_content(std::string message) {
  return {400, 400'000, "InvalidConfigurationContent", std::move(message)};
}
ServiceError invalid_condition(std::string message) {
  return {400, 400'000, "InvalidConfigurationTargetCondition", std::move(message)};
}

const Value* find_present(const Value& object, std::string_view name) {
  const Value* found = object.find(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

// --- Content ---------------------------------------------------------------------------------------------------------

/// Sets `value` at a dotted path, making the objects on the way. False when the path leads through something else.
bool set_path(Value& object, std::string_view path, const Value& value) {
  Value* place = &object;
  for (;;) {
    const size_t dot = path.find('.');
    const std::string_view name = path.substr(0, dot);
    if (name.empty()) return false;
    Value* next = place->find(name);
    if (dot == std::string_view::npos) {
      if (next != nullptr) return false;
      place->append(name, value);
      return true;
    }
    if (next == nullptr) next = &place->append(name, Value::object());
    if (!next->is_object()) return false;
    place = next;
    path.remove_prefix(dot + 1);
  }
}

struct DesiredContent {
  Value values = Value::object();
  bool whole = false;  // the only key is `properties.desired`
};

ServiceResult<DesiredContent> parse_desired(const Value& content, std::string_view where) {
  if (!content.is_object() || content.empty()) {
    return invalid_content(fmt::format("'{}' must be an object with keys '{}.<path>'", where, kDesired));
  }
  DesiredContent desired;
  desired.whole = content.size() == 1 && content.members().front().name() == kDesired;
  std::set<std::string_view> paths;
  for (const twin::Member& member : content.members()) {
    const std::string_view key = member.name();
    if (key == kDesired) {
      if (!member.value.is_object()) return invalid_content(fmt::format("'{}' must be an object", kDesired));
      if (!desired.whole) {
        return invalid_content(fmt::format("'{}' has '{}' and keys below it, give one of both", where, kDesired));
      }
      desired.values = member.value;
      continue;
    }
    if (!key.starts_with(kDesired) || key[kDesired.size()] != '.') {
      return invalid_content(
          fmt::format("'{}' in '{}' is neither '{}' nor '{}.<path>'", shown(key), where, kDesired, kDesired));
    }
    const std::string_view path = key.substr(kDesired.size() + 1);
    paths.insert(path);
    if (!set_path(desired.values, path, member.value)) {
      return invalid_content(fmt::format("'{}' in '{}' is empty in places or part of another key", shown(key), where));
    }
  }
  for (const std::string_view path : paths) {
    for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.', dot + 1)) {
      if (paths.contains(path.substr(0, dot))) {
        return invalid_content(fmt::format("'{}.{}' in '{}' is part of another key", kDesired, shown(path), where));
      }
    }
  }
  if (auto fine = twin::check_members(desired.values, twin::Section::desired, twin::Nulls::remove); !fine) {
    return invalid_content(fine.error().message);
  }
  if (auto fine = twin::check_growth(twin::Section::desired, 0, twin::counted_size(desired.values)); !fine) {
    return invalid_content(fine.error().message);
  }
  return desired;
}

Value twin_body(Value desired) {
  Value properties = Value::object();
  properties.append("desired", std::move(desired));
  Value body = Value::object();
  body.append("properties", std::move(properties));
  return body;
}

ServiceResult<std::vector<ModuleContent>> parse_modules(const Value& content) {
  if (!content.is_object() || content.find("$edgeAgent") == nullptr) {
    return invalid_content("'modulesContent' must be an object with a member '$edgeAgent'");
  }
  std::vector<ModuleContent> modules;
  for (const twin::Member& member : content.members()) {
    if (auto valid = check_device_id(member.name()); !valid) return invalid_content(valid.error().message);
    auto desired = parse_desired(member.value, shown(member.name()));
    if (!desired) return desired.error();
    modules.push_back({std::string{member.name()}, twin_body(std::move(desired->values)), desired->whole});
  }
  return modules;
}

// --- Condition -------------------------------------------------------------------------------------------------------

bool may_refer_to(query::Root root, query::Source source) {
  switch (root) {
    case query::Root::device_id:
    case query::Root::tags:
    case query::Root::reported:
    case query::Root::reported_version:
    case query::Root::reported_metadata:
      return true;
    case query::Root::module_id:
      return source == query::Source::modules;
    default:
      return false;
  }
}

/// The parser bounds the nesting.
bool refers_to_others(const query::Expression& expression, query::Source source) {
  using Kind = query::Expression::Kind;
  if (expression.kind == Kind::path || expression.kind == Kind::is_defined) {
    return !may_refer_to(expression.path.root, source);
  }
  return std::any_of(expression.operands.begin(), expression.operands.end(),
                     [source](const query::Expression& operand) { return refers_to_others(operand, source); });
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool begins_with_from(std::string_view text) {
  return text.size() > 5 && equal_ignoring_case(text.substr(0, 4), "from") && (text[4] == ' ' || text[4] == '\t');
}

ServiceResult<query::Query> parse_condition(std::string_view text) {
  auto query = query::Query::parse_condition(text);
  if (!query) return invalid_condition(query.error().message);
  if (query->source() == query::Source::jobs) return invalid_condition("a condition is on devices or devices.modules");
  const query::Plan& plan = query->plan();
  if (plan.where && refers_to_others(*plan.where, plan.source)) {
    return invalid_condition("a target condition can refer to deviceId, tags and properties.reported only");
  }
  return query;
}

// --- Settings --------------------------------------------------------------------------------------------------------

ServiceResult<void> check_id(std::string_view id) {
  constexpr std::string_view kSpecials = "-+%_*!'";
  const auto allowed = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || kSpecials.find(c) != std::string_view::npos;
  };
  if (id.empty() || id.size() > kIdMax || !std::all_of(id.begin(), id.end(), allowed)) {
    return argument_invalid(
        fmt::format("'{}' is no id of a configuration: 1 to {} lower-case letters, digits and - + % _ * ! ' are",
                    shown(id), kIdMax));
  }
  return {};
}

ServiceResult<std::string> text_member(const Value& body, std::string_view name, std::string_view absent) {
  const Value* found = find_present(body, name);
  if (found == nullptr) return std::string{absent};
  if (!found->is_string()) return argument_invalid(fmt::format("'{}' must be a string", name));
  return std::string{found->text()};
}

ServiceResult<std::vector<ConfigurationMetric>> parse_metrics(const Value& body) {
  std::vector<ConfigurationMetric> metrics;
  const Value* given = find_present(body, "metrics");
  if (given == nullptr) return metrics;
  if (!given->is_object()) return argument_invalid("'metrics' must be an object");
  const Value* queries = find_present(*given, "queries");
  if (queries == nullptr) return metrics;
  if (!queries->is_object()) return argument_invalid("'metrics.queries' must be an object of query texts");
  if (queries->size() > kMetricsMax) {
    return argument_invalid(fmt::format("'metrics.queries' has {} queries, at most {}", queries->size(), kMetricsMax));
  }
  for (const twin::Member& member : queries->members()) {
    if (!member.value.is_string()) {
      return argument_invalid(fmt::format("the metric query '{}' must be a string", shown(member.name())));
    }
    auto query = query::Query::parse(member.value.text());
    if (!query) {
      return argument_invalid(fmt::format("the metric query '{}': {}", shown(member.name()), query.error().message));
    }
    metrics.push_back({std::string{member.name()}, std::string{member.value.text()}, std::move(*query), std::nullopt});
  }
  return metrics;
}

ServiceResult<Value> parse_labels(const Value& body) {
  const Value* labels = find_present(body, "labels");
  if (labels == nullptr) return Value::object();
  const auto members = labels->members();
  if (!labels->is_object() ||
      !std::all_of(members.begin(), members.end(), [](const twin::Member& each) { return each.value.is_string(); })) {
    return argument_invalid("'labels' must be an object of strings");
  }
  return *labels;
}

// --- Output ----------------------------------------------------------------------------------------------------------

std::string_view columns(ConfigurationKind kind) {
  return kind == ConfigurationKind::module ? "deviceId, moduleId" : "deviceId";
}
std::string_view source(ConfigurationKind kind) {
  return kind == ConfigurationKind::module ? "devices.modules" : "devices";
}

void write_text_member(std::string_view name, std::string_view text, std::string& out) {
  fmt::format_to(std::back_inserter(out), R"(,"{}":)", name);
  twin::write_string(text, out);
}

template <class Range, class WriteOne>
void write_object(const Range& range, WriteOne write_one, std::string& out) {
  char separator = '{';
  for (const auto& each : range) {
    const size_t before = out.size();
    out += separator;
    if (write_one(each)) {
      separator = ',';
    } else {
      out.resize(before);
    }
  }
  out += separator == '{' ? "{}" : "}";
}

}  // namespace

const char* to_string(ConfigurationKind kind) {
  switch (kind) {
    case ConfigurationKind::device:
      return "deviceContent";
    case ConfigurationKind::module:
      return "moduleContent";
    case ConfigurationKind::edge:
      return "modulesContent";
  }
  return "?";
}

ServiceResult<ConfigurationContent> parse_configuration_content(const Value* content) {
  if (content == nullptr || !content->is_object()) {
    return invalid_content("'content' must be an object with deviceContent, moduleContent or modulesContent");
  }
  ConfigurationContent parsed;
  const Value* given = nullptr;
  for (const auto kind : {ConfigurationKind::device, ConfigurationKind::module, ConfigurationKind::edge}) {
    const Value* found = find_present(*content, to_string(kind));
    if (found == nullptr) continue;
    if (given != nullptr) {
      return invalid_content(
          fmt::format("'content' has {} and {}, exactly one is allowed", to_string(parsed.kind), to_string(kind)));
    }
    given = found;
    parsed.kind = kind;
  }
  if (given == nullptr) {
    return invalid_content("'content' has none of deviceContent, moduleContent and modulesContent");
  }
  parsed.json = Value::object();
  parsed.json.append(to_string(parsed.kind), *given);
  if (parsed.kind == ConfigurationKind::edge) {
    auto modules = parse_modules(*given);
    if (!modules) return modules.error();
    parsed.modules = std::move(*modules);
    return parsed;
  }
  auto desired = parse_desired(*given, to_string(parsed.kind));
  if (!desired) return desired.error();
  parsed.patch = twin_body(std::move(desired->values));
  return parsed;
}

ServiceResult<TargetCondition> parse_target_condition(std::string_view text, ConfigurationKind kind) {
  TargetCondition condition{std::string{text}, std::nullopt};
  const std::string_view content = trimmed(text);
  if (content.empty()) return condition;
  const bool of_modules = kind == ConfigurationKind::module;
  auto query = parse_condition(content == "*" && of_modules ? "FROM devices.modules" : content);
  if (!query) return query.error();
  if ((query->source() == query::Source::modules) != of_modules) {
    return invalid_condition(
        of_modules ? "the condition of a moduleContent begins with 'FROM devices.modules WHERE'"
                   : fmt::format("the condition of a {} is on devices, this is on modules", to_string(kind)));
  }
  condition.query = std::move(*query);
  return condition;
}

ServiceResult<ConfigurationRequest> parse_configuration(std::string_view id, const Value& body) {
  if (auto valid = check_id(id); !valid) return valid.error();
  auto named = text_member(body, "id", id);
  if (!named) return named.error();
  if (*named != id) {
    return argument_invalid(fmt::format("the id in the body, '{}', is not that in the path, '{}'", shown(*named), id));
  }
  auto content = parse_configuration_content(body.find("content"));
  if (!content) return content.error();

  ConfigurationSettings settings;
  auto schema = text_member(body, "schemaVersion", settings.schema_version);
  if (!schema) return schema.error();
  settings.schema_version = std::move(*schema);
  auto labels = parse_labels(body);
  if (!labels) return labels.error();
  settings.labels = std::move(*labels);
  if (const Value* priority = find_present(body, "priority"); priority != nullptr) {
    const auto number = priority->as_int();
    if (!number || *number < 0) return argument_invalid("'priority' must be a whole number that is not negative");
    settings.priority = *number;
  }
  auto text = text_member(body, "targetCondition", "");
  if (!text) return text.error();
  auto condition = parse_target_condition(*text, content->kind);
  if (!condition) return condition.error();
  settings.condition = std::move(*condition);
  auto metrics = parse_metrics(body);
  if (!metrics) return metrics.error();
  settings.metrics = std::move(*metrics);
  return ConfigurationRequest{std::make_shared<const ConfigurationContent>(std::move(*content)), std::move(settings)};
}

std::string targeted_query(const Configuration& configuration) {
  const ConfigurationKind kind = configuration.content->kind;
  const std::string_view condition = trimmed(configuration.settings.condition.text);
  if (begins_with_from(condition)) return fmt::format("select {} {}", columns(kind), condition);
  std::string query = fmt::format("select {} from {}", columns(kind), source(kind));
  if (condition != "*") query.append(" where ").append(condition.empty() ? "false" : condition);
  return query;
}

std::string applied_query(const Configuration& configuration) {
  const ConfigurationKind kind = configuration.content->kind;
  return fmt::format("select {} from {} where configurations.[[{}]].status = 'Applied'", columns(kind), source(kind),
                     configuration.id);
}

void write_configuration(const Configuration& configuration, std::string& out) {
  const ConfigurationSettings& settings = configuration.settings;
  out += R"({"id":)";
  twin::write_string(configuration.id, out);
  write_text_member("schemaVersion", settings.schema_version, out);
  twin::write(settings.labels, out += R"(,"labels":)");
  twin::write(configuration.content->json, out += R"(,"content":)");
  write_text_member("targetCondition", settings.condition.text, out);
  write_text_member("createdTimeUtc", twin::TwinTimeText{configuration.created}.view(), out);
  write_text_member("lastUpdatedTimeUtc", twin::TwinTimeText{configuration.last_updated}.view(), out);
  fmt::format_to(std::back_inserter(out),
                 R"(,"priority":{},"systemMetrics":{{"results":{{"targetedCount":{},"appliedCount":{}}},"queries":{{)",
                 settings.priority, configuration.results.targeted, configuration.results.applied);
  twin::write_string(targeted_query(configuration), out += R"("targetedCount":)");
  twin::write_string(applied_query(configuration), out += R"(,"appliedCount":)");
  out += R"(}},"metrics":{"results":)";
  write_object(
      settings.metrics,
      [&out](const ConfigurationMetric& metric) {
        if (!metric.result) return false;
        twin::write_string(metric.name, out);
        fmt::format_to(std::back_inserter(out), ":{}", *metric.result);
        return true;
      },
      out);
  out += R"(,"queries":)";
  write_object(
      settings.metrics,
      [&out](const ConfigurationMetric& metric) {
        twin::write_string(metric.name, out);
        twin::write_string(metric.text, out += ':');
        return true;
      },
      out);
  out += '}';
  write_text_member("etag", format_identity_etag(configuration.etag), out);
  out += '}';
}

ServiceResult<std::string> test_configuration_queries(const Value& body) {
  auto text = text_member(body, "targetCondition", "");
  if (!text) return text.error();
  const Value* queries = find_present(body, "customMetricQueries");
  if (queries != nullptr && !queries->is_object()) {
    return argument_invalid("'customMetricQueries' must be an object of query texts");
  }
  std::string out = R"({"targetConditionError":)";
  const std::string_view condition = trimmed(*text);
  if (condition == "*") {
    twin::write_string("'*' is not a condition of the query language", out);
  } else if (auto parsed = parse_condition(condition); !condition.empty() && !parsed) {
    twin::write_string(parsed.error().message, out);
  } else {
    out += "null";
  }
  out += R"(,"customMetricQueryErrors":)";
  write_object(
      queries == nullptr ? std::span<const twin::Member>{} : queries->members(),
      [&out](const twin::Member& member) {
        std::string error = "the query must be a string";
        if (member.value.is_string()) {
          auto parsed = query::Query::parse(member.value.text());
          if (parsed) return false;
          error = parsed.error().message;
        }
        twin::write_string(member.name(), out);
        twin::write_string(error, out += ':');
        return true;
      },
      out);
  out += '}';
  return out;
}

}  // namespace twinstorm::hub
