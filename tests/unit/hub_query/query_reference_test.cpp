// Generated conditions over the fixture of tests/vectors/query-cases.json against a reference evaluator: it walks a
// tree of its own over the twin's JSON and knows nothing of parser, plan or twin documents. The text is written with as
// few parentheses as precedence allows and with every spelling the language has. The seed is printed; set
// TWINSTORM_TEST_SEED to repeat.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "query_fixture.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::hub::query {
namespace {

using MaybeJson = std::optional<Json>;  // nullopt = undefined

uint64_t reference_seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("TWINSTORM_TEST_SEED");
    const uint64_t chosen = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::printf("TWINSTORM_TEST_SEED=%llu\n", static_cast<unsigned long long>(chosen));
    return chosen;
  }();
  return seed;
}

// Binding power, weakest first: what an operand must at least have to go without parentheses.
enum Power { kOr, kAnd, kNot, kComparison, kSum, kTerm, kPrimary };

struct Node {
  enum class Kind {
    constant,
    path,
    negate,
    arithmetic,
    compare,
    in,
    logical_not,
    logical,
    is_defined,
    starts_with,
    contains
  };
  Kind kind = Kind::constant;
  std::string op;
  MaybeJson constant;
  std::vector<std::string> path;
  std::vector<Node> children;
  std::vector<MaybeJson> list;
};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// --- The reference ---------------------------------------------------------------------------------------------------

/// Members of the system are found whatever their case, own keys (and everything below a `$metadata`) only as written.
MaybeJson look_up(const Json& twin, const std::vector<std::string>& path) {
  const Json* at = &twin;
  bool system = true;
  for (size_t depth = 0; depth < path.size(); ++depth) {
    if (!at->is_object()) return std::nullopt;
    const Json* next = nullptr;
    for (const auto& [name, value] : at->items()) {
      if (system ? lower(name) == lower(path[depth]) : name == path[depth]) next = &value;
    }
    if (next == nullptr) return std::nullopt;
    const std::string first = lower(path[0]);
    // Below tags and configurations there are own keys only; below a bag `$version` and `$metadata` are the system's.
    if (first == "tags" || first == "configurations") system = false;
    if (first == "properties" && depth >= 1) {
      const bool in_bag = depth == 1 && path.size() > 2;
      system = in_bag && (lower(path[2]) == "$version" || lower(path[2]) == "$metadata");
    }
    at = next;
  }
  return *at;
}

std::optional<bool> compare(const MaybeJson& a, const std::string& op, const MaybeJson& b) {
  if (!a || !b || a->is_structured() || b->is_structured()) return std::nullopt;
  int order = 0;
  if (a->is_number() && b->is_number()) {
    const double x = a->get<double>();
    const double y = b->get<double>();
    order = x < y ? -1 : x > y ? 1 : 0;
  } else if (a->is_string() && b->is_string()) {
    order = a->get<std::string>().compare(b->get<std::string>());
  } else if (a->is_boolean() && b->is_boolean()) {
    order = static_cast<int>(a->get<bool>()) - static_cast<int>(b->get<bool>());
  } else if (!a->is_null() || !b->is_null()) {
    return std::nullopt;
  }
  if (op == "=") return order == 0;
  if (op == "<") return order < 0;
  if (op == ">") return order > 0;
  if (op == "<=") return order <= 0;
  if (op == ">=") return order >= 0;
  return order != 0;
}

MaybeJson value_of(const Node& node, const Json& twin);

std::optional<bool> truth_of(const Node& node, const Json& twin) {
  const MaybeJson value = value_of(node, twin);
  if (!value || !value->is_boolean()) return std::nullopt;
  return value->get<bool>();
}

MaybeJson as_json(std::optional<bool> truth) { return truth ? MaybeJson{*truth} : std::nullopt; }

MaybeJson value_of(const Node& node, const Json& twin) {
  const auto child = [&](size_t index) { return value_of(node.children[index], twin); };
  switch (node.kind) {
    case Node::Kind::constant:
      return node.constant;
    case Node::Kind::path:
      return look_up(twin, node.path);
    case Node::Kind::is_defined:
      return look_up(twin, node.path).has_value();
    case Node::Kind::negate: {
      const MaybeJson value = child(0);
      return value && value->is_number() ? MaybeJson{-value->get<double>()} : std::nullopt;
    }
    case Node::Kind::arithmetic: {
      const MaybeJson a = child(0);
      const MaybeJson b = child(1);
      if (!a || !b || !a->is_number() || !b->is_number()) return std::nullopt;
      const double x = a->get<double>();
      const double y = b->get<double>();
      const double result = node.op == "+"   ? x + y
                            : node.op == "-" ? x - y
                            : node.op == "*" ? x * y
                            : node.op == "/" ? x / y
                                             : std::fmod(x, y);
      return std::isfinite(result) ? MaybeJson{result} : std::nullopt;
    }
    case Node::Kind::compare:
      return as_json(compare(child(0), node.op, child(1)));
    case Node::Kind::in: {
      const MaybeJson value = child(0);
      std::optional<bool> found = false;
      for (const MaybeJson& element : node.list) {
        const auto equal = compare(value, "=", element);
        if (equal == true) found = true;
        if (!equal && found == false) found = std::nullopt;
        if (found == true) break;
      }
      return as_json(found && node.op == "NIN" ? !*found : found);
    }
    case Node::Kind::logical_not: {
      const auto truth = truth_of(node.children[0], twin);
      return as_json(truth ? std::optional{!*truth} : truth);
    }
    case Node::Kind::logical: {
      const auto a = truth_of(node.children[0], twin);
      const auto b = truth_of(node.children[1], twin);
      const bool decisive = node.op == "OR";
      if (a == decisive || b == decisive) return decisive;
      return a && b ? MaybeJson{!decisive} : std::nullopt;
    }
    case Node::Kind::starts_with: {
      const MaybeJson text = child(0);
      const MaybeJson prefix = child(1);
      if (!text || !prefix || !text->is_string() || !prefix->is_string()) return std::nullopt;
      return text->get<std::string>().rfind(prefix->get<std::string>(), 0) == 0;
    }
    case Node::Kind::contains: {
      const MaybeJson array = child(0);
      const MaybeJson wanted = child(1);
      if (!array || !array->is_array() || !wanted || wanted->is_structured()) return std::nullopt;
      for (const Json& element : *array) {
        if (compare(element, "=", wanted) == true) return true;
      }
      return false;
    }
  }
  return std::nullopt;
}

// --- Generation and writing ------------------------------------------------------------------------------------------

class Writer {
 public:
  Writer(Rng& rng, const std::vector<std::vector<std::string>>& paths, const std::vector<Json>& scalars)
      : rng_{rng}, paths_{paths}, scalars_{scalars} {}

  Node boolean(int depth) {
    Node node;
    switch (depth <= 0 ? 5 + below(5) : below(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
        node.kind = Node::Kind::logical;
        node.op = below(2) == 0 ? "AND" : "OR";
        node.children = {boolean(depth - 1), boolean(depth - 1)};
        break;
      case 4:
        node.kind = Node::Kind::logical_not;
        node.children = {boolean(depth - 1)};
        break;
      case 5:
        node.kind = Node::Kind::is_defined;
        node.path = path();
        break;
      case 6:
        node.kind = Node::Kind::in;
        node.op = below(2) == 0 ? "IN" : "NIN";
        node.children = {operand(1)};
        for (uint64_t i = 1 + below(5); i > 0; --i) node.list.push_back(constant());
        break;
      case 7:
        if (below(2) == 0) {
          node.kind = Node::Kind::starts_with;
          node.children = {operand(0), operand(0)};
        } else {
          node.kind = Node::Kind::contains;
          Node array;
          array.kind = below(2) == 0 ? Node::Kind::path : Node::Kind::constant;
          array.path = path();
          array.constant = Json::array({some_scalar(), some_scalar(), some_scalar()});
          node.children = {array, operand(0)};
        }
        break;
      default: {
        static const std::vector<std::string> kOperators{"=", "!=", "<>", "<", "<=", ">", ">="};
        node.kind = Node::Kind::compare;
        node.op = kOperators[below(kOperators.size())];
        node.children = {operand(2), operand(2)};
        if (depth > 0 && below(6) == 0) node.children[below(2)] = boolean(depth - 1);
      }
    }
    return node;
  }

  std::string text(const Node& node, int needed = kOr) {
    const auto [written, power] = write(node);
    if (power >= needed && below(8) != 0) return written;
    return "(" + space() + written + space() + ")";
  }

 private:
  uint64_t below(uint64_t bound) { return rng_.below(bound); }
  std::string space() { return below(4) != 0 ? "" : below(2) == 0 ? " " : " \n\t"; }
  std::string gap() { return " " + space(); }

  const Json& some_scalar() { return scalars_[below(scalars_.size())]; }

  MaybeJson constant() {
    switch (below(12)) {
      case 0:
        return Json{};
      case 1:
        return std::nullopt;
      case 2:
        return below(2) == 0;
      case 3:
        return static_cast<double>(below(10)) / 4;
      default:
        return some_scalar();
    }
  }

  std::vector<std::string> path() {
    std::vector<std::string> path = paths_[below(paths_.size())];
    switch (below(12)) {
      case 0:
        path.push_back("x");
        break;
      case 1:
        path.back() = "nothing";
        break;
      case 2: {
        std::string& segment = path[below(path.size())];
        const auto at = below(segment.size());
        segment[at] = static_cast<char>(std::toupper(static_cast<unsigned char>(segment[at])));
        break;
      }
      default:
        break;
    }
    return path;
  }

  Node operand(int depth) {
    Node node;
    if (depth > 0 && below(4) == 0) {
      static const std::vector<std::string> kOperators{"+", "-", "*", "/", "%"};
      node.kind = Node::Kind::arithmetic;
      node.op = kOperators[below(kOperators.size())];
      node.children = {operand(depth - 1), operand(depth - 1)};
    } else if (depth > 0 && below(10) == 0) {
      node.kind = Node::Kind::negate;
      node.children = {operand(depth - 1)};
    } else if (below(2) == 0) {
      node.constant = constant();
    } else {
      node.kind = Node::Kind::path;
      node.path = path();
    }
    return node;
  }

  std::string keyword(std::string word) {
    const auto style = below(3);
    for (char& c : word) {
      const bool up = style == 0 || (style == 1 && below(2) == 0);
      c = static_cast<char>(up ? std::toupper(static_cast<unsigned char>(c))
                               : std::tolower(static_cast<unsigned char>(c)));
    }
    return word;
  }

  std::string segment(const std::string& name) {
    static const std::vector<std::string> kReserved{"group", "select", "in", "not", "from", "by", "as"};
    bool plain = !std::isdigit(static_cast<unsigned char>(name[0]));
    for (const char c : name) plain = plain && (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$');
    for (const std::string& word : kReserved) plain = plain && lower(name) != word;
    return plain && below(6) != 0 ? name : "[[" + name + "]]";
  }

  std::string path_text(const std::vector<std::string>& path) {
    std::string out = below(8) == 0 ? "devices." : "";
    for (size_t i = 0; i < path.size(); ++i) out += (i > 0 ? space() + "." + space() : "") + segment(path[i]);
    return out;
  }

  std::string constant_text(const MaybeJson& value) {
    if (!value) return keyword("undefined");
    if (value->is_null()) return keyword("null");
    if (value->is_boolean()) return keyword(value->get<bool>() ? "true" : "false");
    if (value->is_number()) {
      const double number = value->get<double>();
      char out[64];
      if (number == std::floor(number) && number >= 0 && below(4) == 0) {
        std::snprintf(out, sizeof(out), below(2) == 0 ? "0x%llx" : "0X%llX", static_cast<unsigned long long>(number));
      } else {
        std::snprintf(out, sizeof(out), below(3) == 0 ? "%.17e" : "%.17g", number);
      }
      return out;
    }
    if (value->is_array()) {
      std::string out = "[" + space();
      for (size_t i = 0; i < value->size(); ++i) out += (i > 0 ? "," + space() : "") + constant_text((*value)[i]);
      // Right after `[` another bracket would begin a [[name]]; the elements here are scalars.
      return out + space() + "]";
    }
    const char quote = below(2) == 0 ? '\'' : '"';
    std::string out(1, quote);
    for (const char c : value->get<std::string>()) {
      const bool ascii = static_cast<unsigned char>(c) < 0x80;
      if (ascii && below(12) == 0) {
        char escape[8];
        std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
        out += escape;
      } else {
        if (c == quote || c == '\\') out += '\\';
        out += c;
      }
    }
    return out + quote;
  }

  std::pair<std::string, int> write(const Node& node) {
    const auto child = [&](size_t index, int needed) { return text(node.children[index], needed); };
    switch (node.kind) {
      case Node::Kind::constant: {
        const bool negative = node.constant && node.constant->is_number() && node.constant->get<double>() < 0;
        return {constant_text(node.constant), negative ? kTerm : kPrimary};
      }
      case Node::Kind::path:
        return {path_text(node.path), kPrimary};
      case Node::Kind::negate:
        return {"-" + space() + child(0, kPrimary), kPrimary};
      case Node::Kind::arithmetic: {
        const bool sum = node.op == "+" || node.op == "-";
        return {child(0, sum ? kSum : kTerm) + gap() + node.op + gap() + child(1, sum ? kTerm : kPrimary),
                sum ? kSum : kTerm};
      }
      case Node::Kind::compare:
        return {child(0, kSum) + space() + node.op + space() + child(1, kSum), kComparison};
      case Node::Kind::in: {
        std::string out = child(0, kSum) + gap() + keyword(node.op) + space() + "[" + space();
        for (size_t i = 0; i < node.list.size(); ++i) out += (i > 0 ? space() + "," : "") + constant_text(node.list[i]);
        return {out + space() + "]", kComparison};
      }
      case Node::Kind::logical_not:
        return {keyword("not") + gap() + child(0, kNot), kNot};
      case Node::Kind::logical: {
        const int power = node.op == "AND" ? kAnd : kOr;
        return {child(0, power) + gap() + keyword(node.op) + gap() + child(1, power), power};
      }
      case Node::Kind::is_defined:
        return {keyword("is_defined") + space() + "(" + space() + path_text(node.path) + space() + ")", kPrimary};
      case Node::Kind::starts_with:
        return {keyword("startswith") + "(" + child(0, kOr) + space() + "," + child(1, kOr) + ")", kPrimary};
      case Node::Kind::contains:
        return {keyword("array_contains") + "(" + child(0, kOr) + "," + space() + child(1, kOr) + space() + ")",
                kPrimary};
    }
    return {};
  }

  Rng& rng_;
  const std::vector<std::vector<std::string>>& paths_;
  const std::vector<Json>& scalars_;
};

/// Every path of a twin and every scalar in it.
void collect(const Json& value, std::vector<std::string>& at, std::vector<std::vector<std::string>>& paths,
             std::vector<Json>& scalars) {
  if (!at.empty()) paths.push_back(at);
  if (value.is_primitive() && !value.is_null()) scalars.push_back(value);
  if (value.is_array()) scalars.insert(scalars.end(), value.begin(), value.end());
  if (!value.is_object()) return;
  for (const auto& [name, member] : value.items()) {
    at.push_back(name);
    collect(member, at, paths, scalars);
    at.pop_back();
  }
}

struct Subject {
  Json json;
  twin::TwinDocument twin;
};

std::vector<Subject> subjects(const char* list) {
  std::vector<Subject> all;
  const QueryFixture fixture;
  for (const Json& json : fixture.document()[list]) {
    all.push_back({json, twin::TwinDocument::from_json(twin::parse_value(json.dump()).value()).value()});
  }
  return all;
}

void agree(const char* list, const std::string& source, uint64_t conditions) {
  const std::vector<Subject> all = subjects(list);
  std::vector<std::vector<std::string>> paths;
  std::vector<Json> scalars{0, 1, 60, "US", "therm-", "\xc3\xa9\"'\\"};
  for (const Subject& subject : all) {
    std::vector<std::string> at;
    collect(subject.json, at, paths, scalars);
  }
  uint64_t outcomes[3] = {};
  for (uint64_t i = 0; i < conditions; ++i) {
    Rng rng{reference_seed(), "query reference test", i};
    Writer writer{rng, paths, scalars};
    const Node node = writer.boolean(static_cast<int>(rng.below(5)));
    const std::string condition = writer.text(node);
    if (condition.size() > 8000) continue;
    const auto yes = Query::parse("SELECT * FROM " + source + " WHERE " + condition);
    const auto no = Query::parse("SELECT * FROM " + source + " WHERE NOT (" + condition + ")");
    ASSERT_TRUE(yes && no) << "case " << i << ": " << condition << "\n" << (yes ? "" : yes.error().message);
    for (const Subject& subject : all) {
      const auto expected = truth_of(node, subject.json);
      ASSERT_EQ(yes->matches(subject.twin), expected == true)
          << "case " << i << ", " << subject.json["deviceId"] << ": " << condition;
      ASSERT_EQ(no->matches(subject.twin), expected == false)
          << "case " << i << ", NOT, " << subject.json["deviceId"] << ": " << condition;
      ++outcomes[expected ? *expected : 2];
    }
  }
  for (const uint64_t count : outcomes) EXPECT_GT(count, conditions / 4) << "each outcome must be tried often";
}

TEST(QueryReference, AgreesOverTheDevicesOfTheFixture) { agree("twins", "devices", 2'000); }
TEST(QueryReference, AgreesOverTheModulesOfTheFixture) { agree("modules", "devices.modules", 500); }

// Whatever a twin shows can be asked for, and what it does not show is undefined.
TEST(QueryReference, EveryMemberThatATwinShowsHasItsPath) {
  for (const auto& [list, source] : {std::pair{"twins", "devices"}, {"modules", "devices.modules"}}) {
    const std::vector<Subject> all = subjects(list);
    std::vector<std::vector<std::string>> paths;
    for (const Subject& subject : all) {
      std::vector<std::string> at;
      std::vector<Json> scalars;
      collect(subject.json, at, paths, scalars);
    }
    std::sort(paths.begin(), paths.end());
    paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
    for (const auto& path : paths) {
      std::string text;
      for (const std::string& segment : path) text += (text.empty() ? "[[" : ".[[") + segment + "]]";
      const Query query = Query::parse("SELECT " + text + " AS x FROM " + source).value();
      const Query below = Query::parse("SELECT " + text + ".nothing AS x FROM " + source).value();
      const Query defined =
          Query::parse(std::string{"SELECT * FROM "} + source + " WHERE IS_DEFINED(" + text + ")").value();
      for (const Subject& subject : all) {
        const MaybeJson expected = look_up(subject.json, path);
        std::string row;
        query.write_row(subject.twin, row);
        Json shown = Json::object();
        if (expected) shown["x"] = *expected;
        EXPECT_EQ(Json::parse(row), shown) << text;
        EXPECT_EQ(defined.matches(subject.twin), expected.has_value()) << text;
        row.clear();
        below.write_row(subject.twin, row);
        EXPECT_EQ(row, "{}") << text;
      }
    }
  }
}

}  // namespace
}  // namespace twinstorm::hub::query
