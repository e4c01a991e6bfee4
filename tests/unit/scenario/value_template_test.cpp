#include "sim/scenario/value_template.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/base/distribution.hpp"
#include "sim/scenario/text_pattern.hpp"

namespace twinstorm::scenario {
namespace {

ValueTemplate compiled(std::string_view text) {
  auto result = ValueTemplate::parse(text);
  EXPECT_TRUE(result.has_value()) << text << ": " << (result ? "" : result.error().message);
  return result ? *result : ValueTemplate{};
}

std::string error_of(std::string_view text) {
  const auto result = ValueTemplate::parse(text);
  return result ? "no error" : result.error().message;
}

std::string rendered(std::string_view text, uint64_t n = 0) {
  Rng rng{1};
  return compiled(text).render(rng, n);
}

TEST(ValueTemplate, PlainValuesAreRenderedAsJson) {
  EXPECT_EQ(rendered("{a: 1, b: [true, null, text], c: {d: \"1\"}}"),
            R"({"a":1,"b":[true,null,"text"],"c":{"d":"1"}})");
}

TEST(ValueTemplate, NumbersKeepTheirLiterals) { EXPECT_EQ(rendered("[1.0, 1, -0, 1e3, 0.10]"), "[1.0,1,-0,1e3,0.10]"); }

TEST(ValueTemplate, TextIsEscaped) {
  const std::string text = R"({"a\"b": "tab\t line\n back\\ bell\u0007 µ"})";
  EXPECT_EQ(nlohmann::json::parse(rendered(text)), nlohmann::json::parse(text));
}

TEST(ValueTemplate, UniformIntegersCoverBothEnds) {
  const auto t = compiled("{uniform: [-2, 2]}");
  Rng rng{3};
  std::map<std::string, int> seen;
  for (int i = 0; i < 5000; ++i) ++seen[t.render(rng, 0)];
  ASSERT_EQ(seen.size(), 5u);
  for (const auto& [value, count] : seen) EXPECT_NEAR(count, 1000, 150) << value;
}

TEST(ValueTemplate, UniformRealsStayInTheirRangeAndHaveAPoint) {
  const auto t = compiled("{uniform: [0.25, 0.5]}");
  Rng rng{3};
  for (int i = 0; i < 1000; ++i) {
    const auto text = t.render(rng, 0);
    EXPECT_NE(text.find('.'), std::string::npos);
    EXPECT_GE(std::stod(text), 0.25);
    EXPECT_LE(std::stod(text), 0.5);
  }
}

TEST(ValueTemplate, WeightsAreKept) {
  const auto t = compiled("{weighted: {cellular: 3, wifi: 7, none: 0}}");
  Rng rng{4};
  std::map<std::string, int> seen;
  for (int i = 0; i < 10'000; ++i) ++seen[t.render(rng, 0)];
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen["\"cellular\""], 3000, 250);
}

TEST(ValueTemplate, NormalValuesHaveTheirMeanAndSpread) {
  const auto t = compiled("{normal: {mean: 21, stddev: 2}}");
  Rng rng{5};
  double sum = 0, squares = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double v = std::stod(t.render(rng, 0));
    sum += v;
    squares += v * v;
  }
  const double mean = sum / 10'000;
  EXPECT_NEAR(mean, 21, 0.1);
  EXPECT_NEAR(std::sqrt(squares / 10'000 - mean * mean), 2, 0.1);
}

TEST(ValueTemplate, OptionsOfOneOfMayBeTemplates) {
  const auto t = compiled("{oneOf: [{mode: eco, level: {uniform: [1, 3]}}, {mode: off-peak}]}");
  Rng rng{6};
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) seen.insert(t.render(rng, 0));
  EXPECT_EQ(seen, (std::set<std::string>{R"({"mode":"eco","level":1})", R"({"mode":"eco","level":2})",
                                         R"({"mode":"eco","level":3})", R"({"mode":"off-peak"})"}));
}

TEST(ValueTemplate, SequenceAndPatternFollowTheNumber) {
  EXPECT_EQ(rendered("{sequence: {start: 100, step: -5}}", 3), "85");
  EXPECT_EQ(rendered("{sequence: {}}", 7), "7");
  EXPECT_EQ(rendered("{pattern: \"rev-{index:05}\\\"{{x}}\"}", 42), R"("rev-00042\"{x}")");
}

TEST(ValueTemplate, LiteralShieldsGeneratorsAndOtherKeysBesideOneMakeItPlain) {
  EXPECT_EQ(rendered("{literal: {uniform: [1, 2]}}"), R"({"uniform":[1,2]})");
  EXPECT_EQ(rendered("{uniform: [1, 2], more: true}"), R"({"uniform":[1,2],"more":true})");
}

TEST(ValueTemplate, SameSeedAndNumberGiveTheSameTextAndItsSourceGivesTheSameTemplate) {
  const auto t = compiled(
      "{a: {uniform: [1, 1000000]}, b: {oneOf: [x, {c: {weighted: {p: 1, q: 2}}}]}, d: {pattern: \"{index}\"}, e: "
      "1.0}");
  const auto again = compiled(t.source());
  EXPECT_EQ(t, again);
  for (uint64_t n = 0; n < 50; ++n) {
    Rng a{n}, b{n}, c{n};
    const auto text = t.render(a, n);
    EXPECT_EQ(text, t.render(b, n));
    EXPECT_EQ(text, again.render(c, n));
    EXPECT_TRUE(nlohmann::json::accept(text)) << text;
  }
}

TEST(ValueTemplate, NoRenderingIsLongerThanAnnounced) {
  const auto t = compiled(
      "{a: {uniform: [-99999, 5]}, b: {oneOf: [x, {c: {weighted: {p: 1, longest: 2}}}]}, d: {pattern: \"r{index}\"}, "
      "e: {normal: {mean: 0, stddev: 1000}}, f: {sequence: {start: -5, step: -1000000}}, g: {uniform: [0.5, 1234.5]}}");
  Rng rng{8};
  size_t longest = 0;
  for (int i = 0; i < 20'000; ++i) longest = std::max(longest, t.render(rng, static_cast<uint64_t>(i) * 977).size());
  EXPECT_LE(longest, t.max_rendered_bytes());
  EXPECT_FALSE(t.is_constant());
  EXPECT_TRUE(compiled("{a: 1}").is_constant());
  EXPECT_EQ(compiled("{a: 1}").max_rendered_bytes(), 7u);
}

TEST(ValueTemplate, TwinSizeCountsAsTheServiceDoes) {
  EXPECT_EQ(compiled("{ab: 1, c: true, d: text, e: {f: null}}").max_twin_bytes(), 2u + 8 + 1 + 4 + 1 + 4 + 1 + 1);
  EXPECT_EQ(compiled("{a: {oneOf: [x, longer]}}").max_twin_bytes(), 7u);
}

TEST(ValueTemplate, MistakesAreNamedWithPlaceAndFix) {
  EXPECT_EQ(error_of("{a: {uniform: [3, 1]}}"), "template:1:15: a.uniform: [3, 1] runs backwards (try [1, 3])");
  EXPECT_EQ(error_of("{a: {uniform: 3}}"),
            "template:1:15: a.uniform: \"3\" is not a pair of numbers (try uniform: [60, 70])");
  EXPECT_EQ(error_of("{a: {weighted: {x: -1}}}"),
            "template:1:20: a.weighted.x: \"-1\" is not a weight (a number, 0 or more)");
  EXPECT_EQ(error_of("{a: {weighted: {x: 0}}}"),
            "template:1:16: a.weighted: the weights add up to nothing (give at least one name a weight above 0)");
  EXPECT_EQ(error_of("{a: {oneOf: []}}"),
            "template:1:13: a.oneOf: an empty list is not a list of values (try oneOf: [US, Europe])");
  EXPECT_EQ(error_of("{a: on}"),
            "template:1:5: a: \"on\" means different things to different readers of YAML (write true or false, or "
            "quote it: \"on\")");
  EXPECT_EQ(error_of("{a: 007}"),
            "template:1:5: a: \"007\" means different things to different readers of YAML (write a number as in JSON, "
            "or quote it: \"007\")");
  EXPECT_EQ(error_of("{a: 1, a: 2}"), "template:1:8: a: \"a\" appears twice (keep one)");
}

TEST(ValueTemplate, WordsThatOnlyLookOddAreText) {
  EXPECT_EQ(rendered("[1.2.3, 2026-11-23, 10.0.0.1, v1, -, a b]"),
            R"(["1.2.3","2026-11-23","10.0.0.1","v1","-","a b"])");
}

TEST(TextPattern, FormatsAndMatchesIndices) {
  const auto pattern = TextPattern::parse("{fleet}-{index:05}x", "therm").value();
  EXPECT_EQ(pattern.format(42), "therm-00042x");
  EXPECT_EQ(pattern.format(1234567), "therm-1234567x");
  EXPECT_EQ(pattern.match("therm-00042x"), 42u);
  EXPECT_EQ(pattern.match("therm-42x"), std::nullopt);
  EXPECT_EQ(pattern.match("therm-x"), std::nullopt);
  EXPECT_EQ(TextPattern::parse("one").value().match("one"), 0u);
}

TEST(TextPattern, MistakesNameThePlaceholder) {
  const auto error = [](std::string_view text) { return TextPattern::parse(text, "f").error().message; };
  EXPECT_EQ(error("a-{indx}"), "\"a-{indx}\" has an unknown placeholder {indx} (try {index}, {index:05} or {fleet})");
  EXPECT_EQ(error("a-{index"), "\"a-{index\" has a single brace (write {index}, or {{ for a brace)");
  EXPECT_EQ(error("{index}{index}"), "\"{index}{index}\" has two {index} (keep one)");
  EXPECT_EQ(error("{index:5}"),
            "\"{index:5}\" has an index format :5 (try {index:05}, zero-padded to at most 20 digits)");
}

TEST(Distribution, SamplesHaveThePercentilesAsked) {
  using std::chrono::milliseconds;
  const auto percentile = [](const Distribution& d, double q) {
    Rng rng{9};
    std::vector<Nanos> samples(20'000);
    for (auto& sample : samples) sample = d.sample(rng);
    std::sort(samples.begin(), samples.end());
    return to_seconds(samples[static_cast<size_t>(q * 20'000)]);
  };
  const auto lognormal = Distribution::lognormal(milliseconds{20}, milliseconds{200});
  EXPECT_NEAR(percentile(lognormal, 0.5), 0.020, 0.001);
  EXPECT_NEAR(percentile(lognormal, 0.99), 0.200, 0.025);
  EXPECT_NEAR(percentile(Distribution::exponential(milliseconds{20}), 0.5), 0.020 * std::log(2.0), 0.001);
  EXPECT_NEAR(percentile(Distribution::uniform(milliseconds{10}, milliseconds{30}), 0.5), 0.020, 0.001);
  EXPECT_EQ(percentile(Distribution::constant(milliseconds{5}), 0.99), 0.005);
  EXPECT_EQ(percentile(Distribution::normal(milliseconds{1}, milliseconds{10}), 0.01), 0);
  EXPECT_EQ(lognormal.to_yaml(), "{lognormal: {p50: 20ms, p99: 200ms}}");
}

}  // namespace
}  // namespace twinstorm::scenario
