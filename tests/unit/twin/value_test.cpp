#include "sim/twin/value.hpp"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace twinstorm::twin {
namespace {

using testing::HasSubstr;

Value parsed(std::string_view json) {
  Result<Value> value = parse_value(json);
  EXPECT_TRUE(value) << json << ": " << (value ? "" : value.error().message);
  return value ? std::move(*value) : Value{};
}

TEST(Value, IsSixteenBytesAndAMemberThirtyTwo) {
  EXPECT_EQ(sizeof(Value), 16U);
  EXPECT_EQ(sizeof(Member), 32U);
}

TEST(Value, ComesBackAsItWasWritten) {
  for (const char* json : {"null",
                           "true",
                           "false",
                           "0",
                           "-0",
                           "1",
                           "1.0",
                           "1.50",
                           "1e5",
                           "1E+5",
                           "-1.25e-10",
                           "9007199254740993",
                           "18446744073709551615",
                           "-9223372036854775808",
                           "18446744073709551616",
                           "123456789012345678901234567890",
                           "0.1000000000000000055511151231257827",
                           R"("")",
                           R"("short")",
                           R"("fourteen bytes")",
                           R"("fifteen bytes!!")",
                           R"("\"\\\b\f\n\r\t\u0000\u001f")",
                           "\"caf\u00e9 \u20ac \U0001F600\"",
                           "[]",
                           "{}",
                           "[1,[2,[3]]]",
                           R"({"b":1,"a":{"z":[true,null],"y":"x"}})"}) {
    EXPECT_EQ(write(parsed(json)), json);
  }
}

TEST(Value, UnescapesOnReading) { EXPECT_EQ(parsed(R"("\u0041\u00e9\uD83D\uDE00\/")").text(), "A\u00e9\U0001F600/"); }

TEST(Value, LastOfEqualKeysWinsAtTheFirstPlace) {
  EXPECT_EQ(write(parsed(R"({"a":1,"b":2,"a":3})")), R"({"a":3,"b":2})");
  // Above a few dozen members a hash index does the same.
  std::string json = "{";
  for (int i = 0; i < 1000; ++i) json += "\"k" + std::to_string(i % 500) + "\":" + std::to_string(i) + ",";
  json.back() = '}';
  const Value value = parsed(json);
  ASSERT_EQ(value.size(), 500U);
  EXPECT_EQ(value.members()[7].name(), "k7");
  EXPECT_EQ(value.members()[7].value.as_int(), 507);
}

TEST(Value, RefusesWhatIsNotJsonAndSaysWhere) {
  for (const char* json : {"", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", "+1", "nul", "\"\x01\"", "\"\xff\"",
                           "\"\\ud800\"", "1 2", "{\"a\":}", "'a'", "1e999", "NaN"}) {
    const Result<Value> value = parse_value(json);
    ASSERT_FALSE(value) << json;
    EXPECT_EQ(value.error().code, ErrorCode::invalid_argument);
    EXPECT_THAT(value.error().message, HasSubstr("not JSON at byte")) << json;
  }
  EXPECT_THAT(parse_value("{\"a\":x}").error().message, HasSubstr("at byte 6"));
}

TEST(Value, RefusesDeepNestingWithoutRecursing) {
  const std::string bomb = std::string(1'000'000, '[');
  EXPECT_EQ(parse_value(bomb).error().message, "JSON nested deeper than 64 levels");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(parse_value(objects).error().message, "JSON nested deeper than 64 levels");
  EXPECT_TRUE(parse_value(std::string(64, '[') + std::string(64, ']')));
  EXPECT_FALSE(parse_value(std::string(65, '[') + std::string(65, ']')));
}

TEST(Value, ReadsNumbersOnDemand) {
  EXPECT_EQ(parsed("42").as_int(), 42);
  EXPECT_EQ(parsed("42.0").as_int(), std::nullopt);
  EXPECT_EQ(parsed("18446744073709551616").as_int(), std::nullopt);
  EXPECT_EQ(parsed("\"42\"").as_int(), std::nullopt);
  EXPECT_EQ(parsed("-7").as_double(), -7.0);
  EXPECT_EQ(parsed("1e3").as_double(), 1000.0);
  EXPECT_EQ(parsed("0.1").as_double(), 0.1);
  EXPECT_EQ(parsed("9007199254740993").as_double(), 9007199254740992.0);
  EXPECT_EQ(parsed("1e-999").as_double(), 0.0);
  EXPECT_EQ(Value::number_literal("-1e999").as_double(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(parsed("true").as_double(), std::nullopt);
}

TEST(Value, FollowsDottedPaths) {
  const Value value = parsed(R"({"climate":{"hvac":{"systemControl":true}},"a":[1]})");
  ASSERT_NE(value.find_path("climate.hvac.systemControl"), nullptr);
  EXPECT_TRUE(value.find_path("climate.hvac.systemControl")->is_true());
  EXPECT_EQ(value.find_path("climate.hvac.missing"), nullptr);
  EXPECT_EQ(value.find_path("a.0"), nullptr);
  EXPECT_EQ(value.find_path(""), nullptr);
}

TEST(Value, KeepsTheOrderOfMembersWhenSomeAreErased) {
  Value value = parsed(R"({"a":1,"b":2,"c":3,"d":4,"e":5})");
  const size_t places[] = {0, 2, 4};
  value.erase_many(places);
  EXPECT_EQ(write(value), R"({"b":2,"d":4})");
  EXPECT_FALSE(value.erase("a"));
  EXPECT_TRUE(value.erase("d"));
  value.set("z", Value::number(9));
  EXPECT_EQ(write(value), R"({"b":2,"z":9})");
}

TEST(Value, CopiesAreDeepAndMovesLeaveNull) {
  Value value = parsed(R"({"list":[{"long":"a string that does not fit into a node"}]})");
  Value copy = value;
  copy.find("list")->push_back(Value::boolean(true));
  EXPECT_EQ(value.find("list")->size(), 1U);
  const Value moved = std::move(value);
  EXPECT_EQ(moved.find("list")->size(), 1U);
  // A value may be replaced by a part of itself.
  copy = Value{copy.find("list")->elements()[0]};
  copy = std::move(*copy.find("long"));
  EXPECT_EQ(copy.text(), "a string that does not fit into a node");
}

TEST(Value, ComparesObjectsWhateverTheirOrder) {
  EXPECT_EQ(parsed(R"({"a":1,"b":[1,2]})"), parsed(R"({"b":[1,2],"a":1})"));
  EXPECT_NE(parsed(R"({"a":1})"), parsed(R"({"a":1,"b":2})"));
  EXPECT_NE(parsed("[1,2]"), parsed("[2,1]"));
  EXPECT_NE(parsed("1"), parsed("1.0"));
  EXPECT_TRUE(equal_by_value(parsed(R"({"a":1,"b":100})"), parsed(R"({"b":1e2,"a":1.0})")));
  EXPECT_FALSE(equal_by_value(parsed("9007199254740993"), parsed("9007199254740992")));
  EXPECT_FALSE(equal_by_value(parsed("1"), parsed("\"1\"")));
}

TEST(Value, ATwinCostsAFractionOfAGeneralDom) {
  // The shape of the twin that costs 9.4 KB of heap as an nlohmann document.
  const Value value =
      parsed(R"({"deviceId":"dev-00001","tags":{"location":{"region":"US","plant":"Redmond43"},"ring":1},
    "properties":{"desired":{"telemetryConfig":{"sendFrequencyInSecs":300,"batchSize":20},"fw":"1.2.3","climate":{"minTemperature":"68","maxTemperature":"76"},
    "$version":4},"reported":{"telemetryConfig":{"sendFrequencyInSecs":300,"status":"Success"},"fw":"1.2.3","connectivity":{"type":"cellular","signal":-71},
    "battery":87,"$version":9}}})");
  EXPECT_LT(value.heap_bytes(), 1'100U);
}

}  // namespace
}  // namespace twinstorm::twin
