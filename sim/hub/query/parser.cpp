#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "sim/base/rng.hpp"
#include "sim/hub/query/detail/lexer.hpp"
#include "sim/hub/query/detail/plan.hpp"

// A recursive-descent parser of the grammar in service.md 6.2; one function per rule.
namespace twinstorm::hub::query {
namespace {

// Thrown and caught inside this file only: a parser without it would be half error plumbing.
struct Refused {
  twin::TwinError error;
};

// As path segments and aliases these need [[ ]].
constexpr std::array kReserved{"select", "top", "from", "where", "group", "by", "as", "and", "or", "not", "in", "nin"};

constexpr uint32_t kMaxTop = 2'147'483'647;

struct SystemMember {
  std::string_view name;  // canonical spelling, dots between segments
  Root root;
};
constexpr std::array kSystemMembers{
    SystemMember{"deviceId", Root::device_id},
    SystemMember{"moduleId", Root::module_id},
    SystemMember{"etag", Root::etag},
    SystemMember{"deviceEtag", Root::device_etag},
    SystemMember{"status", Root::status},
    SystemMember{"statusReason", Root::status_reason},
    SystemMember{"statusUpdateTime", Root::status_update_time},
    SystemMember{"connectionState", Root::connection_state},
    SystemMember{"lastActivityTime", Root::last_activity_time},
    SystemMember{"cloudToDeviceMessageCount", Root::cloud_to_device_message_count},
    SystemMember{"authenticationType", Root::authentication_type},
    SystemMember{"x509Thumbprint", Root::x509_thumbprint},
    SystemMember{"x509Thumbprint.primaryThumbprint", Root::x509_primary},
    SystemMember{"x509Thumbprint.secondaryThumbprint", Root::x509_secondary},
    SystemMember{"modelId", Root::model_id},
    SystemMember{"version", Root::version},
    SystemMember{"tags", Root::tags},
    SystemMember{"properties", Root::properties},
    SystemMember{"properties.desired", Root::desired},
    SystemMember{"properties.desired.$version", Root::desired_version},
    SystemMember{"properties.desired.$metadata", Root::desired_metadata},
    SystemMember{"properties.reported", Root::reported},
    SystemMember{"properties.reported.$version", Root::reported_version},
    SystemMember{"properties.reported.$metadata", Root::reported_metadata},
    SystemMember{"configurations", Root::configurations},
    SystemMember{"capabilities", Root::capabilities},
    SystemMember{"capabilities.iotEdge", Root::iot_edge},
    SystemMember{"deviceScope", Root::device_scope},
    SystemMember{"parentScopes", Root::parent_scopes},
};

bool has_members(Root root) {
  return root == Root::tags || root == Root::desired || root == Root::desired_metadata || root == Root::reported ||
         root == Root::reported_metadata || root == Root::configurations;
}

/// How many leading segments `name` (canonical, dotted) stands for; 0 when they differ.
size_t segments_named(std::string_view name, const std::vector<std::string>& segments) {
  for (size_t count = 0; count < segments.size();) {
    const size_t dot = name.find('.');
    if (!equal_ignoring_case(segments[count++], name.substr(0, dot))) return 0;
    if (dot == std::string_view::npos) return count;
    name.remove_prefix(dot + 1);
  }
  return 0;
}

/// The system member that names as many leading segments as possible, and what is left below it.
Path resolve_segments(const std::vector<std::string>& segments) {
  Path path;
  path.output_key = segments.back();
  size_t used = 0;
  for (const SystemMember& member : kSystemMembers) {
    const size_t count = segments_named(member.name, segments);
    if (count <= used) continue;
    used = count;
    path.root = member.root;
    if (used == segments.size()) path.output_key = member.name.substr(member.name.rfind('.') + 1);
  }
  path.rest.assign(segments.begin() + static_cast<ptrdiff_t>(used), segments.end());
  if (!path.rest.empty() && !has_members(path.root)) path.root = Root::nothing;
  return path;
}

/// A path as written: what it means depends on FROM, which comes after the columns.
struct RawPath {
  std::vector<std::string> segments;
  bool bare = false;  // the first segment is not in [[ ]]
};

struct RawColumn {
  Column::Kind kind = Column::Kind::path;
  RawPath path;
  std::string alias;
};

/// Members that a row of devices.jobs has in common with a twin.
bool is_member_of_job(std::string_view name) {
  return equal_ignoring_case(name, "deviceId") || equal_ignoring_case(name, "moduleId") ||
         equal_ignoring_case(name, "status");
}

bool is_member_of_twin(std::string_view name) {
  return std::any_of(kSystemMembers.begin(), kSystemMembers.end(),
                     [name](const SystemMember& member) { return equal_ignoring_case(name, member.name); });
}

Path resolve_path(RawPath raw, Source source) {
  const auto strip = [&raw](std::string_view name) {
    if (raw.segments.size() < 2 || !equal_ignoring_case(raw.segments.front(), name)) return false;
    raw.segments.erase(raw.segments.begin());
    return true;
  };
  if (raw.bare && strip("devices")) {
    if (source == Source::jobs) strip("jobs");
    if (source == Source::modules) strip("modules");
  }
  if (source != Source::jobs) return resolve_segments(raw.segments);
  // "Conditions that refer to the device twin" are documented as not supported there.
  if (is_member_of_twin(raw.segments.front()) && !is_member_of_job(raw.segments.front())) {
    throw Refused{twin::argument_invalid(fmt::format(
        "query: a condition over devices.jobs cannot refer to the twin, as {} does", raw.segments.front()))};
  }
  Path path;
  path.root = Root::row;
  path.output_key = raw.segments.back();
  path.rest = std::move(raw.segments);
  return path;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : lexer_{text} { advance(); }

  Plan query() {
    Plan plan;
    expect_keyword("select");
    if (take_keyword("top")) {
      if (token_.kind != Token::Kind::number || token_.number != std::floor(token_.number) || token_.number > kMaxTop) {
        refuse(fmt::format("expected a whole number, at most {}, after TOP", kMaxTop));
      }
      plan.top = static_cast<uint32_t>(token_.number);
      advance();
    }
    plan.all = take_symbol("*");
    std::vector<RawColumn> columns;
    if (!plan.all) {
      do {
        columns.push_back(column());
      } while (take_symbol(","));
    }
    expect_keyword("from");
    plan.source = source_ = source();
    for (RawColumn& raw : columns) plan.columns.push_back(resolve(std::move(raw), plan.columns.size()));
    if (take_keyword("where")) plan.where = expression();
    if (take_keyword("group")) {
      expect_keyword("by");
      plan.group_by = path();
    }
    expect_end();
    check(plan);
    return plan;
  }

  Plan condition() {
    Plan plan;
    if (take_symbol("*")) {
      expect_end();
      return plan;
    }
    if (take_keyword("from")) {
      plan.source = source_ = source();
      if (source_ == Source::jobs) refuse("expected devices or devices.modules in a condition");
      if (take_keyword("where")) plan.where = expression();
    } else {
      plan.where = expression();
    }
    expect_end();
    return plan;
  }

 private:
  // --- tokens
  void advance() { token_ = unwrap(lexer_.next()); }
  template <class T>
  static T unwrap(twin::TwinResult<T> result) {
    if (!result) throw Refused{std::move(result.error())};
    return std::move(*result);
  }
  [[noreturn]] void refuse(std::string_view problem) const {
    std::string found = token_.kind == Token::Kind::end ? "the end" : "'";
    if (token_.kind != Token::Kind::end) {
      // The text goes into a header-like message that SDKs cut at `;`, and into logs.
      for (const char c : token_.text.substr(0, 40)) found += c < 0x20 || c > 0x7e || c == ';' || c == '\'' ? '?' : c;
      found += '\'';
    }
    throw Refused{lexer_.error(fmt::format("{}, found {}", problem, found), token_.at)};
  }
  bool is_symbol(std::string_view symbol) const { return token_.kind == Token::Kind::symbol && token_.text == symbol; }
  bool is_keyword(std::string_view keyword) const {
    return token_.kind == Token::Kind::name && equal_ignoring_case(token_.text, keyword);
  }
  bool take_symbol(std::string_view symbol) {
    if (!is_symbol(symbol)) return false;
    advance();
    return true;
  }
  bool take_keyword(std::string_view keyword) {
    if (!is_keyword(keyword)) return false;
    advance();
    return true;
  }
  bool next_is_parenthesis() const {
    Lexer ahead = lexer_;
    const auto token = ahead.next();
    return token && token->kind == Token::Kind::symbol && token->text == "(";
  }
  void expect_symbol(std::string_view symbol) {
    if (!take_symbol(symbol)) refuse(fmt::format("expected {}", symbol));
  }
  void expect_keyword(std::string_view keyword) {
    std::string upper{keyword};
    for (char& c : upper) c = static_cast<char>(c - 'a' + 'A');
    if (!take_keyword(keyword)) refuse("expected " + upper);
  }
  void expect_end() {
    if (token_.kind != Token::Kind::end) refuse("expected the end of the query");
  }

  /// Counts one level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_{parser} {
      if (++parser_.nesting_ > kMaxQueryNesting) {
        parser_.refuse(fmt::format("nested deeper than {} levels", kMaxQueryNesting));
      }
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --parser_.nesting_; }

   private:
    Parser& parser_;
  };

  // --- select, from
  RawColumn column() {
    static constexpr std::array<std::pair<std::string_view, Column::Kind>, 5> kAggregates{{
        {"count", Column::Kind::count},
        {"avg", Column::Kind::average},
        {"sum", Column::Kind::sum},
        {"min", Column::Kind::minimum},
        {"max", Column::Kind::maximum},
    }};
    RawColumn column;
    for (const auto& [name, kind] : kAggregates) {
      if (!is_keyword(name) || !next_is_parenthesis()) continue;
      advance();
      advance();
      column.kind = kind;
      if (kind != Column::Kind::count) column.path = raw_path();
      expect_symbol(")");
      break;
    }
    if (column.kind == Column::Kind::path) column.path = raw_path();
    if (take_keyword("as")) column.alias = segment();
    return column;
  }

  Column resolve(RawColumn raw, size_t index) const {
    Column column;
    column.kind = raw.kind;
    if (raw.kind != Column::Kind::count) column.path = resolve_path(std::move(raw.path), source_);
    if (!raw.alias.empty()) {
      column.key = std::move(raw.alias);
    } else if (raw.kind == Column::Kind::path) {
      column.key = column.path.output_key;
    } else {
      // The service's samples always name aggregates; the store it grew from numbers the others.
      column.key = fmt::format("${}", index + 1);
    }
    return column;
  }

  Source source() {
    if (!take_keyword("devices")) refuse("expected devices, devices.modules or devices.jobs");
    if (!take_symbol(".")) return Source::devices;
    if (take_keyword("modules")) return Source::modules;
    if (take_keyword("jobs")) return Source::jobs;
    refuse("expected modules or jobs");
  }

  static void check(Plan& plan) {
    const auto reject = [](std::string_view problem) {
      throw Refused{twin::argument_invalid(fmt::format("query: {}", problem))};
    };
    plan.aggregates =
        plan.group_by.has_value() || std::any_of(plan.columns.begin(), plan.columns.end(),
                                                 [](const Column& c) { return c.kind != Column::Kind::path; });
    if (plan.source == Source::jobs && !plan.all) reject("devices.jobs can only be read with SELECT *");
    if (plan.source != Source::devices && plan.aggregates) reject("aggregates and GROUP BY need FROM devices");
    if (plan.all && plan.aggregates) reject("GROUP BY needs columns instead of *");
    std::unordered_set<std::string_view> keys;
    for (const Column& column : plan.columns) {
      if (plan.aggregates && column.kind == Column::Kind::path && !(plan.group_by && column.path == *plan.group_by)) {
        reject("a column beside aggregates must be the path of GROUP BY");
      }
      if (!keys.insert(column.key).second) reject("two columns have the same name, give one another with AS");
    }
  }

  // --- expressions
  Expression expression() {
    const Level level{*this};
    return chain(Expression::Kind::logical_or, "or",
                 [this] { return chain(Expression::Kind::logical_and, "and", [this] { return negation(); }); });
  }

  template <class Operand>
  Expression chain(Expression::Kind kind, std::string_view keyword, Operand operand) {
    Expression first = operand();
    if (!is_keyword(keyword)) return first;
    Expression whole;
    whole.kind = kind;
    whole.operands.push_back(std::move(first));
    while (take_keyword(keyword)) whole.operands.push_back(operand());
    return whole;
  }

  Expression negation() {
    if (!take_keyword("not")) return comparison();
    const Level level{*this};
    Expression whole;
    whole.kind = Expression::Kind::logical_not;
    whole.operands.push_back(negation());
    return whole;
  }

  Expression comparison() {
    static constexpr std::array<std::pair<std::string_view, Operator>, 7> kOperators{{
        {"=", Operator::equal},
        {"!=", Operator::not_equal},
        {"<>", Operator::not_equal},
        {"<", Operator::less},
        {">", Operator::greater},
        {"<=", Operator::less_equal},
        {">=", Operator::greater_equal},
    }};
    Expression left = sum();
    Expression whole;
    if (is_keyword("in") || is_keyword("nin")) {
      whole.kind = is_keyword("in") ? Expression::Kind::in : Expression::Kind::not_in;
      advance();
      if (!is_symbol("[")) refuse("expected an array in [ ]");
      whole.constant = array();
      std::sort(whole.constant.elements.begin(), whole.constant.elements.end(), in_list_before);
      whole.operands.push_back(std::move(left));
      return whole;
    }
    for (const auto& [symbol, op] : kOperators) {
      if (!take_symbol(symbol)) continue;
      whole.kind = Expression::Kind::compare;
      whole.operators.push_back(op);
      whole.operands.push_back(std::move(left));
      whole.operands.push_back(sum());
      return whole;
    }
    return left;
  }

  Expression sum() {
    return arithmetic({{"+", Operator::add}, {"-", Operator::subtract}}, [this] { return term(); });
  }
  Expression term() {
    return arithmetic({{"*", Operator::multiply}, {"/", Operator::divide}, {"%", Operator::modulo}},
                      [this] { return primary(); });
  }

  template <class Operand>
  Expression arithmetic(std::initializer_list<std::pair<std::string_view, Operator>> operators, Operand operand) {
    Expression first = operand();
    Expression whole;
    whole.kind = Expression::Kind::arithmetic;
    for (bool more = true; more;) {
      more = false;
      for (const auto& [symbol, op] : operators) {
        if (!take_symbol(symbol)) continue;
        if (whole.operands.empty()) whole.operands.push_back(std::move(first));
        whole.operators.push_back(op);
        whole.operands.push_back(operand());
        more = true;
      }
    }
    return whole.operands.empty() ? std::move(first) : std::move(whole);
  }

  Expression primary() {
    Expression whole;
    if (take_symbol("(")) {
      whole = expression();
      expect_symbol(")");
      return whole;
    }
    if (take_symbol("-")) {
      const Level level{*this};
      whole.kind = Expression::Kind::negate;
      whole.operands.push_back(primary());
      return whole;
    }
    if (is_constant()) {
      whole.constant = constant();
      return whole;
    }
    if (token_.kind == Token::Kind::name && next_is_parenthesis()) return function();
    whole.kind = Expression::Kind::path;
    whole.path = path();
    return whole;
  }

  Expression function() {
    const Level level{*this};
    Expression whole;
    if (is_keyword("is_defined")) {
      whole.kind = Expression::Kind::is_defined;
    } else if (is_keyword("startswith")) {
      whole.kind = Expression::Kind::starts_with;
    } else if (is_keyword("array_contains")) {
      whole.kind = Expression::Kind::array_contains;
    } else {
      refuse("expected one of the functions IS_DEFINED, STARTSWITH, ARRAY_CONTAINS");
    }
    advance();
    expect_symbol("(");
    if (whole.kind == Expression::Kind::is_defined) {
      whole.path = path();
    } else {
      whole.operands.push_back(expression());
      expect_symbol(",");
      whole.operands.push_back(expression());
    }
    expect_symbol(")");
    return whole;
  }

  // --- constants
  bool is_constant() const {
    if (token_.kind == Token::Kind::number || token_.kind == Token::Kind::string) return true;
    if (is_symbol("[")) return !lexer_.at_bracket();  // [[name]] is a path
    return is_keyword("true") || is_keyword("false") || is_keyword("null") || is_keyword("undefined");
  }

  Constant constant() {
    Constant result;
    if (is_symbol("[")) return array();
    if (take_symbol("-")) {
      if (token_.kind != Token::Kind::number) refuse("expected a number");
      token_.number = -token_.number;
    }
    if (token_.kind == Token::Kind::number) {
      result.type = Type::number;
      result.number = token_.number;
    } else if (token_.kind == Token::Kind::string) {
      result.type = Type::string;
      result.text = std::move(token_.value);
    } else if (is_keyword("true") || is_keyword("false")) {
      result.type = Type::boolean;
      result.truth = is_keyword("true");
    } else if (is_keyword("null")) {
      result.type = Type::null;
    } else if (!is_keyword("undefined")) {
      refuse("expected a constant");
    }
    advance();
    return result;
  }

  Constant array() {
    const Level level{*this};
    expect_symbol("[");
    Constant result;
    result.type = Type::composite;
    do {
      result.elements.push_back(constant());
    } while (take_symbol(","));
    expect_symbol("]");
    return result;
  }

  // --- names
  std::string segment() {
    if (is_symbol("[") && lexer_.at_bracket()) {
      std::string quoted = unwrap(lexer_.take_quoted());
      advance();
      return quoted;
    }
    if (token_.kind != Token::Kind::name) refuse("expected a name");
    for (const char* reserved : kReserved) {
      if (is_keyword(reserved)) refuse("a reserved word needs [[ ]] to be a name");
    }
    std::string name{token_.text};
    advance();
    return name;
  }

  RawPath raw_path() {
    RawPath raw;
    raw.bare = token_.kind == Token::Kind::name;
    if (raw.bare && is_constant()) refuse("expected a name; a constant");
    raw.segments.push_back(segment());
    while (take_symbol(".")) raw.segments.push_back(segment());
    return raw;
  }
  Path path() { return resolve_path(raw_path(), source_); }

  Lexer lexer_;
  Token token_;
  Source source_ = Source::devices;
  int nesting_ = 0;
};

/// The ids one of which every matching row has, ascending; nullopt when any id will do.
std::optional<std::vector<std::string>> find_device_ids(const Expression& condition) {
  using Ids = std::vector<std::string>;
  const auto is_device_id = [](const Expression& side) {
    return side.kind == Expression::Kind::path && side.path.root == Root::device_id;
  };
  switch (condition.kind) {
    case Expression::Kind::logical_and: {
      std::optional<Ids> fewest;
      for (const Expression& operand : condition.operands) {
        auto ids = find_device_ids(operand);
        if (ids && (!fewest || ids->size() < fewest->size())) fewest = std::move(ids);
      }
      return fewest;
    }
    case Expression::Kind::logical_or: {
      Ids all;
      for (const Expression& operand : condition.operands) {
        auto ids = find_device_ids(operand);
        if (!ids) return std::nullopt;
        all.insert(all.end(), std::make_move_iterator(ids->begin()), std::make_move_iterator(ids->end()));
      }
      std::sort(all.begin(), all.end());
      all.erase(std::unique(all.begin(), all.end()), all.end());
      return all;
    }
    case Expression::Kind::in: {
      if (!is_device_id(condition.operands[0])) return std::nullopt;
      Ids ids;  // the list is sorted already; what is no text is nobody's id
      for (const Constant& element : condition.constant.elements) {
        if (element.type == Type::string && (ids.empty() || ids.back() != element.text)) ids.push_back(element.text);
      }
      return ids;
    }
    case Expression::Kind::compare:
      break;
    default:
      return std::nullopt;
  }
  if (condition.operators.front() != Operator::equal) return std::nullopt;
  for (const size_t side : {0, 1}) {
    const Expression& constant = condition.operands[1 - side];
    if (is_device_id(condition.operands[side]) && constant.kind == Expression::Kind::constant &&
        constant.constant.type == Type::string) {
      return Ids{constant.constant.text};
    }
  }
  return std::nullopt;
}

template <class Rule>
twin::TwinResult<Plan> parse(std::string_view text, Rule rule) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
  if (static_cast<size_t>(characters) > kMaxQueryChars) {
    return twin::argument_invalid(
        fmt::format("query: {} characters long, at most {} are allowed", characters, kMaxQueryChars));
  }
  try {
    Parser parser{text};
    Plan plan = rule(parser);
    plan.hash = stable_hash(text);
    if (plan.where) plan.only_device_ids = find_device_ids(*plan.where);
    return plan;
  } catch (Refused& refused) {
    return std::move(refused.error);
  }
}

}  // namespace

twin::TwinResult<Plan> parse_plan(std::string_view text) {
  return parse(text, [](Parser& parser) { return parser.query(); });
}

twin::TwinResult<Plan> parse_condition_plan(std::string_view text) {
  return parse(text, [](Parser& parser) { return parser.condition(); });
}

}  // namespace twinstorm::hub::query
