#include "sim/protocol/json_scanner.hpp"

#include <random>

#include <gtest/gtest.h>

#include "tests/unit/protocol/vectors.hpp"

namespace twinstorm::protocol {
namespace {

using nlohmann::json;
using test::ExactBytes;

constexpr std::string_view kNotification =
    R"({"climate":{"hvac":{"systemControl":true,"targetTemp":21.5},"list":[1,{"$version":99}]},"led":null,"$version":5})";

TEST(JsonScanner, FindsMembersOfTheTopLevelOnly) {
  EXPECT_EQ(find_member(kNotification, "led"), "null");
  EXPECT_EQ(find_member(kNotification, "$version"), "5");
  EXPECT_EQ(find_member(kNotification, "hvac"), std::nullopt);
  EXPECT_EQ(find_member("[1]", "a"), std::nullopt);
  EXPECT_EQ(find_member("", "a"), std::nullopt);
  EXPECT_EQ(find_member({}, ""), std::nullopt);
  EXPECT_EQ(find_member(R"( { "a" : [ 1 , 2 ] , "b" : "x,}" } )", "a"), "[ 1 , 2 ]");
  EXPECT_EQ(find_member(R"( { "a" : [ 1 , 2 ] , "b" : "x,}" } )", "b"), "\"x,}\"");
}

TEST(JsonScanner, TakesTheFirstOfRepeatedKeys) { EXPECT_EQ(find_member(R"({"a":1,"a":2})", "a"), "1"); }

TEST(JsonScanner, FollowsPaths) {
  EXPECT_EQ(find_path(kNotification, "climate.hvac.systemControl"), "true");
  EXPECT_EQ(find_path(kNotification, "climate.hvac"), R"({"systemControl":true,"targetTemp":21.5})");
  EXPECT_EQ(find_path(kNotification, "climate.missing.x"), std::nullopt);
  EXPECT_EQ(find_path(kNotification, "led.x"), std::nullopt);
  EXPECT_EQ(find_path(" {} ", ""), "{}");
}

TEST(JsonScanner, ReadsIntegers) {
  EXPECT_EQ(find_integer(kNotification, "$version"), 5);
  EXPECT_EQ(find_integer(R"({"a":-9223372036854775808})", "a"), INT64_MIN);
  EXPECT_EQ(find_integer(R"({"a":9223372036854775808})", "a"), std::nullopt);
  for (const auto* text :
       {R"({"a":1.0})", R"({"a":1e2})", R"({"a":"1"})", R"({"a":true})", R"({"a":null})", R"({"b":1})"}) {
    EXPECT_EQ(find_integer(text, "a"), std::nullopt) << text;
  }
}

TEST(JsonScanner, ReadsPlainStrings) {
  EXPECT_EQ(find_plain_string(R"({"a":{"b":"text"}})", "a.b"), "text");
  EXPECT_EQ(find_plain_string(R"({"a":""})", "a"), "");
  EXPECT_EQ(find_plain_string(R"({"a":"with \n escape"})", "a"), std::nullopt);
  EXPECT_EQ(find_plain_string(R"({"a":5})", "a"), std::nullopt);
}

TEST(JsonScanner, ComparesEscapedKeysUnescaped) {
  EXPECT_EQ(find_member(R"({"\u0061\"\\\/\b\f\n\r\t\u00e4\u20ac\ud83d\ude00":1})", "a\"\\/\b\f\n\r\tä€😀"), "1");
  EXPECT_EQ(find_member(R"({"a\"":1,"a":2})", "a"), "2");
  EXPECT_EQ(find_member(R"({"\u00":1,"a":2})", "a"), "2") << "a broken escape matches nothing";
  EXPECT_EQ(find_member(R"({"\ud83dx":1})", "x"), std::nullopt);
}

TEST(JsonScanner, KnowsWhereAStringWithBackslashesEnds) {
  EXPECT_EQ(find_member(R"({"a":"\\","b":"\\\"","c":1})", "c"), "1");
  EXPECT_EQ(find_member(R"({"a":"\\\\\"},\"b\":2","b":3})", "b"), "3");
}

TEST(JsonScanner, GivesMembersInOrderUpToABreak) {
  std::string seen;
  const auto collect = [&](std::string_view key, std::string_view value) {
    seen.append(key).append("=").append(value).append(" ");
  };
  EXPECT_TRUE(for_each_member(R"({"b":1,"a":[2]})", collect));
  EXPECT_EQ(seen, "b=1 a=[2] ");
  seen.clear();
  EXPECT_FALSE(for_each_member(R"({"b":1,"a":[2})", collect));
  EXPECT_EQ(seen, "b=1 ");
  EXPECT_TRUE(for_each_member("{}", collect));
  for (const auto* broken : {"", " ", "{", "[", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}",
                             "{a:1}", "{\"a\":1", "{\"a", "1"}) {
    EXPECT_FALSE(for_each_member(broken, [](auto, auto) {})) << broken;
  }
}

TEST(JsonScanner, RefusesDepthBeyondItsLimit) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_TRUE(is_complete_json(nested(kJsonDepthMax)));
  EXPECT_FALSE(is_complete_json(nested(kJsonDepthMax + 1)));
  EXPECT_TRUE(find_member("{\"a\":" + nested(kJsonDepthMax) + "}", "a").has_value());
  EXPECT_FALSE(find_member("{\"a\":" + nested(kJsonDepthMax + 1) + "}", "a").has_value());
  EXPECT_FALSE(is_complete_json(std::string(1'000'000, '[')));
}

/// A random document of ASCII text with every kind of value.
json random_value(std::mt19937& random, int depth) {
  switch (random() % (depth > 3 ? 5 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<int64_t>(random()) - INT32_MAX;
    case 3:
      return static_cast<double>(random()) / 7.0;
    case 4: {
      std::string text(random() % 6, '\0');
      for (auto& c : text) c = "ab\"\\/\n{}[],: "[random() % 13];
      return text;
    }
    case 5: {
      auto out = json::array();
      for (auto n = random() % 4; n > 0; --n) out.push_back(random_value(random, depth + 1));
      return out;
    }
    default: {
      auto out = json::object();
      for (auto n = random() % 5; n > 0; --n) {
        const std::string key{"abcde\"\\ "[random() % 8]};
        out[key] = random_value(random, depth + 1);
      }
      return out;
    }
  }
}

TEST(JsonScanner, FindsTheSameMembersAsAFullParser) {
  std::mt19937 random{23};
  for (int i = 0; i < 5'000; ++i) {
    json document = json::object();
    for (auto n = random() % 5; n > 0; --n) document[std::string{"abc"[random() % 3]}] = random_value(random, 0);
    const ExactBytes text{document.dump(random() % 3 == 0 ? 2 : -1)};
    ASSERT_TRUE(is_complete_json(text.view())) << text.view();
    for (const auto* first : {"a", "b", "c"}) {
      const auto found = find_member(text.view(), first);
      ASSERT_EQ(found.has_value(), document.contains(first)) << text.view();
      if (!found) continue;
      ASSERT_EQ(json::parse(*found), document[first]);
      for (const auto* second : {"a", "d", "\"", "\\"}) {
        const auto inner = find_path(text.view(), std::string{first} + "." + second);
        const bool expected = document[first].is_object() && document[first].contains(second);
        ASSERT_EQ(inner.has_value(), expected) << text.view();
        if (inner) {
          ASSERT_EQ(json::parse(*inner), document[first][second]);
        }
      }
    }
  }
}

/// The reference refuses well-formed numbers that no double can hold; the scanner does not look at their size.
bool has_huge_exponent(const std::string& text) {
  for (size_t e = text.find_first_of("eE"); e != std::string::npos; e = text.find_first_of("eE", e + 1)) {
    const size_t digits = text.find_first_not_of("+-", e + 1);
    if (digits == std::string::npos) return false;
    const size_t end = std::min(text.size(), text.find_first_not_of("0123456789", digits));
    if (end - digits >= 3) return true;
  }
  return false;
}

TEST(JsonScanner, AcceptsExactlyWhatAFullParserAccepts) {
  std::mt19937 random{29};
  constexpr std::string_view kBytes = "{}[]\",:\\ truefalsn0123456789.eE+-u/\n";
  int accepted = 0;
  for (int i = 0; i < 60'000; ++i) {
    auto text = random_value(random, 1).dump();
    // One or two small injuries.
    for (auto n = random() % 3; n > 0 && !text.empty(); --n) {
      const size_t at = random() % text.size();
      const char byte = kBytes[random() % kBytes.size()];
      if (random() % 3 == 0) {
        text.erase(at, 1);
      } else if (random() % 2 == 0) {
        text.insert(at, 1, byte);
      } else {
        text[at] = byte;
      }
    }
    const ExactBytes exact{text};
    if (has_huge_exponent(text)) continue;
    const bool expected = json::accept(text);
    ASSERT_EQ(is_complete_json(exact.view()), expected) << text;
    accepted += expected ? 1 : 0;
    (void)find_path(exact.view(), "a.b");
    (void)find_integer(exact.view(), "a");
  }
  EXPECT_GT(accepted, 10'000);
  EXPECT_LT(accepted, 55'000);
}

}  // namespace
}  // namespace twinstorm::protocol
