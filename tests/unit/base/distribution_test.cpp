#include "sim/base/distribution.hpp"

#include <gtest/gtest.h>

namespace twinstorm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string error_of(std::string_view text) {
  const auto result = Distribution::parse(text);
  return result ? "no error" : result.error().message;
}

TEST(Distribution, ReadsBackWhatItWrites) {
  for (const Distribution& each :
       {Distribution{}, Distribution::constant(milliseconds{1500}), Distribution::uniform(seconds{1}, seconds{5}),
        Distribution::uniform(Nanos{0}, Nanos{7}), Distribution::lognormal(milliseconds{20}, milliseconds{200}),
        Distribution::exponential(milliseconds{20}), Distribution::normal(seconds{60}, Nanos{0})}) {
    const auto back = Distribution::parse(each.to_yaml());
    ASSERT_TRUE(back.has_value()) << back.error().message;
    EXPECT_EQ(*back, each) << each.to_yaml();
  }
}

TEST(Distribution, NeedsNoOuterBracesAndNoSpaces) {
  EXPECT_EQ(*Distribution::parse("uniform: [1s, 5s]"), Distribution::uniform(seconds{1}, seconds{5}));
  EXPECT_EQ(*Distribution::parse("{lognormal:{p50:1s,p99:10s}}"), Distribution::lognormal(seconds{1}, seconds{10}));
  EXPECT_EQ(*Distribution::parse(" 0 "), Distribution{});
}

TEST(Distribution, RefusalsNameTheProblemAndAFormThatWorks) {
  EXPECT_EQ(error_of(""),
            "'' is no distribution of durations: it is empty; try 5s, {uniform: [1s, 5s]} or "
            "{lognormal: {p50: 1s, p99: 10s}}");
  EXPECT_NE(error_of("zipf: [1s, 2s]").find("none of uniform, lognormal, exponential, normal"), std::string::npos);
  EXPECT_NE(error_of("uniform: [5s, 1s]").find("the first duration is longer"), std::string::npos);
  EXPECT_NE(error_of("uniform: [5s]").find("uniform has other parameters"), std::string::npos);
  EXPECT_NE(error_of("lognormal: {p50: 1s, p95: 10s}").find("lognormal has other parameters"), std::string::npos);
  EXPECT_NE(error_of("exponential: {mean: 0s}").find("longer than 0"), std::string::npos);
  EXPECT_NE(error_of("uniform: [1s, 2]").find("2"), std::string::npos);
  EXPECT_NE(error_of("{}").find("it is empty"), std::string::npos);
  EXPECT_NE(error_of("5").find("'5' is no distribution"), std::string::npos);
}

}  // namespace
}  // namespace twinstorm
