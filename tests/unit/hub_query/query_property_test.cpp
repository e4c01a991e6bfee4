// Random conditions over random twins against a tiny evaluator of its own: it works on the twin's JSON form and on a
// tree that never went through the parser. The seed is printed; set TWINSTORM_TEST_SEED to repeat.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "query_fixture.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::hub::query {
namespace {

uint64_t test_seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("TWINSTORM_TEST_SEED");
    const uint64_t chosen = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::printf("TWINSTORM_TEST_SEED=%llu\n", static_cast<unsigned long long>(chosen));
    return chosen;
  }();
  return seed;
}

/// A condition as a function of the twin's JSON, and its text. nullopt = undefined.
struct Condition {
  std::string text;
  std::function<std::optional<Json>(const Json&)> value;
};

using Truth = std::optional<bool>;

Truth truth_of(const Condition& condition, const Json& twin) {
  const auto value = condition.value(twin);
  return value && value->is_boolean() ? Truth{value->get<bool>()} : std::nullopt;
}

std::optional<Json> from(Truth truth) { return truth ? std::optional<Json>{*truth} : std::nullopt; }

Truth comparison(const std::optional<Json>& a, const std::string& op, const std::optional<Json>& b) {
  if (!a || !b || a->is_structured() || b->is_structured()) return std::nullopt;
  const bool same_type = (a->is_number() && b->is_number()) || a->type() == b->type();
  if (!same_type) return std::nullopt;
  if (op == "=") return *a == *b;
  if (op == "!=" || op == "<>") return *a != *b;
  if (op == "<") return *a < *b;
  if (op == "<=") return *a == *b || *a < *b;
  if (op == ">") return *b < *a;
  return *a == *b || *b < *a;
}

class Generator {
 public:
  explicit Generator(uint64_t index) : rng_{test_seed(), "query property test", index} {}
  uint64_t below(uint64_t bound) { return rng_.below(bound); }

  Json twin_values(int depth = 2) {
    Json values = Json::object();
    for (uint64_t i = below(5); i > 0; --i)
      values[key()] = depth > 0 && below(3) == 0 ? twin_values(depth - 1) : scalar();
    return values;
  }

  Condition condition(int depth) {
    if (depth == 0) return leaf();
    switch (below(7)) {
      case 0:
      case 1:
        return chain(depth, "AND", false);
      case 2:
      case 3:
        return chain(depth, "OR", true);
      case 4:
        return negation(condition(depth - 1));
      default:
        return leaf();
    }
  }

  static Condition negation(const Condition& inner) {
    return {"NOT (" + inner.text + ")", [inner](const Json& twin) {
              const Truth truth = truth_of(inner, twin);
              return from(truth ? Truth{!*truth} : truth);
            }};
  }

 private:
  std::string key() { return std::string(1, static_cast<char>('a' + below(4))); }
  Json scalar() {
    switch (below(5)) {
      case 0:
        return below(2) == 0;
      case 1:
        return "s" + std::to_string(below(3));
      case 2:
        return 0.5 * static_cast<double>(below(6));
      default:
        return static_cast<int>(below(5)) - 1;
    }
  }

  Condition path() {
    std::string text = below(3) == 0 ? "tags" : below(2) == 0 ? "properties.desired" : "properties.reported";
    std::string pointer = text == "properties.desired"    ? "/properties/desired"
                          : text == "properties.reported" ? "/properties/reported"
                                                          : "/tags";
    for (uint64_t i = 1 + below(2); i > 0; --i) {
      const std::string name = key();
      text += below(4) == 0 ? ".[[" + name + "]]" : "." + name;
      pointer += "/" + name;
    }
    return {text, [pointer](const Json& twin) -> std::optional<Json> {
              const Json::json_pointer at{pointer};
              return twin.contains(at) ? std::optional<Json>{twin[at]} : std::nullopt;
            }};
  }

  Condition constant() {
    const Json value = scalar();
    return {value.is_string() ? "'" + value.get<std::string>() + "'" : value.dump(),
            [value](const Json&) { return value; }};
  }

  Condition operand(int depth = 2) {
    if (depth > 0 && below(4) == 0) {
      static const std::vector<std::string> kOperators{"+", "-", "*", "/", "%"};
      const std::string op = kOperators[below(kOperators.size())];
      const Condition left = operand(depth - 1);
      const Condition right = operand(depth - 1);
      return {"(" + left.text + " " + op + " " + right.text + ")", [=](const Json& twin) -> std::optional<Json> {
                const auto a = left.value(twin);
                const auto b = right.value(twin);
                if (!a || !b || !a->is_number() || !b->is_number()) return std::nullopt;
                const double x = a->get<double>();
                const double y = b->get<double>();
                const double result = op == "+"   ? x + y
                                      : op == "-" ? x - y
                                      : op == "*" ? x * y
                                      : op == "/" ? x / y
                                                  : std::fmod(x, y);
                return std::isfinite(result) ? std::optional<Json>{result} : std::nullopt;
              }};
    }
    return below(3) == 0 ? constant() : path();
  }

  Condition leaf() {
    static const std::vector<std::string> kOperators{"=", "!=", "<>", "<", "<=", ">", ">="};
    switch (below(6)) {
      case 0: {
        const Condition inner = path();
        return {"is_defined(" + inner.text + ")",
                [inner](const Json& twin) -> std::optional<Json> { return inner.value(twin).has_value(); }};
      }
      case 1:
        return path();
      case 2: {
        const Condition left = operand();
        const bool in = below(2) == 0;
        std::vector<Condition> list;
        std::string text = left.text + (in ? " IN [" : " NIN [");
        for (uint64_t i = 1 + below(3); i > 0; --i) {
          list.push_back(constant());
          text += (list.size() > 1 ? ", " : "") + list.back().text;
        }
        return {text + "]", [=](const Json& twin) {
                  bool found = false;
                  bool doubtful = false;
                  for (const Condition& element : list) {
                    const Truth equal = comparison(left.value(twin), "=", element.value(twin));
                    found = found || equal == true;
                    doubtful = doubtful || !equal;
                  }
                  return from(found ? Truth{in} : doubtful ? std::nullopt : Truth{!in});
                }};
      }
      default: {
        const Condition left = operand();
        const Condition right = operand();
        const std::string op = kOperators[below(kOperators.size())];
        return {left.text + " " + op + " " + right.text,
                [=](const Json& twin) { return from(comparison(left.value(twin), op, right.value(twin))); }};
      }
    }
  }

  Condition chain(int depth, const std::string& keyword, bool decisive) {
    std::vector<Condition> parts;
    std::string text;
    for (uint64_t i = 2 + below(3); i > 0; --i) {
      parts.push_back(condition(depth - 1));
      text += (text.empty() ? "(" : " " + keyword + " (") + parts.back().text + ")";
    }
    return {text, [parts, decisive](const Json& twin) {
              Truth result = !decisive;
              for (const Condition& part : parts) {
                const Truth truth = truth_of(part, twin);
                if (truth == decisive) return from(decisive);
                if (!truth) result = std::nullopt;
              }
              return from(result);
            }};
  }

  Rng rng_;
};

twin::TwinDocument twin_of(const Json& json) {
  return twin::TwinDocument::from_json(twin::parse_value(json.dump()).value()).value();
}

Json random_twin(Generator& generator) {
  Json twin{{"deviceId", "d"},
            {"properties", {{"desired", generator.twin_values()}, {"reported", generator.twin_values()}}}};
  // Empty tags are absent from a twin.
  if (Json tags = generator.twin_values(); !tags.empty()) twin["tags"] = tags;
  return twin;
}

Truth engine(const std::string& condition, const twin::TwinDocument& twin) {
  const auto yes = Query::parse("SELECT * FROM devices WHERE " + condition);
  const auto no = Query::parse("SELECT * FROM devices WHERE NOT (" + condition + ")");
  EXPECT_TRUE(yes && no) << condition;
  if (!yes || !no) return std::nullopt;
  if (yes->matches(twin)) return true;
  return no->matches(twin) ? Truth{false} : std::nullopt;
}

constexpr uint64_t kConditions = 3'000;

TEST(QueryProperties, ConditionsAgreeWithAnIndependentEvaluator) {
  uint64_t outcomes[3] = {};
  for (uint64_t i = 0; i < kConditions; ++i) {
    Generator generator{i};
    const Json json = random_twin(generator);
    const Condition condition = generator.condition(3);
    if (condition.text.size() > 8000) continue;
    const Truth expected = truth_of(condition, json);
    ASSERT_EQ(engine(condition.text, twin_of(json)), expected) << "case " << i << ": " << condition.text << "\n"
                                                               << json;
    ++outcomes[expected ? *expected : 2];
  }
  for (const uint64_t count : outcomes) EXPECT_GT(count, kConditions / 20) << "each outcome must be tried often";
}

TEST(QueryProperties, LogicFollowsDeMorganAndDoubleNegation) {
  for (uint64_t i = 0; i < kConditions / 3; ++i) {
    Generator generator{1'000'000 + i};
    const twin::TwinDocument twin = twin_of(random_twin(generator));
    const std::string a = "(" + generator.condition(2).text + ")";
    const std::string b = "(" + generator.condition(2).text + ")";
    ASSERT_EQ(engine("NOT NOT " + a, twin), engine(a, twin)) << a;
    ASSERT_EQ(engine("NOT (" + a + " AND " + b + ")", twin), engine("NOT " + a + " OR NOT " + b, twin)) << a << b;
    ASSERT_EQ(engine("NOT (" + a + " OR " + b + ")", twin), engine("NOT " + a + " AND NOT " + b, twin)) << a << b;
    ASSERT_EQ(engine(a + " AND " + b, twin), engine(b + " AND " + a, twin)) << a << b;
    ASSERT_EQ(engine(a + " OR " + b, twin), engine(b + " OR " + a, twin)) << a << b;
  }
}

// However twins are spread over shards and pages cut, the rows are those of one big scan.
TEST(QueryProperties, ShardsAndPagesNeverLoseOrRepeatARow) {
  for (uint64_t i = 0; i < 60; ++i) {
    Generator generator{2'000'000 + i};
    std::vector<twin::TwinDocument> twins;
    for (uint64_t n = generator.below(60); n > 0; --n) {
      Json json = random_twin(generator);
      json["deviceId"] = "d" + std::to_string(generator.below(1'000)) + "-" + std::to_string(n);
      twins.push_back(twin_of(json));
    }
    const std::string text = generator.condition(1).text;
    const Query query = Query::parse("SELECT deviceId FROM devices WHERE NOT (" + text + ") OR " + text).value();
    std::vector<std::string> expected;
    for (const auto& twin : twins) {
      if (query.matches(twin)) expected.push_back(twin.device_id);
    }
    std::sort(expected.begin(), expected.end());

    const size_t page_size = 1 + generator.below(10);
    const size_t shards = 1 + generator.below(4);
    std::vector<std::string> found;
    for (Cursor cursor;;) {
      std::vector<std::vector<Row>> parts;
      for (size_t shard = 0; shard < shards; ++shard) {
        PageCollector collector{query, cursor, page_size};
        for (const auto& twin : twins) {
          if (std::hash<std::string>{}(twin.device_id) % shards == shard) collector.offer(twin);
        }
        parts.push_back(collector.take_rows());
      }
      const Page page = assemble_page(query, cursor, page_size, std::move(parts));
      for (const Json& row : Json::parse(page.body)) found.push_back(row["deviceId"]);
      if (!page.next) break;
      cursor = *page.next;
    }
    ASSERT_EQ(found, expected) << "case " << i;
  }
}

}  // namespace
}  // namespace twinstorm::hub::query
