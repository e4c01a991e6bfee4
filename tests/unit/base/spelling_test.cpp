#include "sim/base/spelling.hpp"

#include <gtest/gtest.h>

namespace twinstorm {
namespace {

TEST(Spelling, FindsTheWordThatWasMeant) {
  const std::vector<std::string> commands{"run", "plan", "hub", "report", "device", "twin", "version"};
  EXPECT_EQ(nearest("rnu", commands), "run") << "neighbours swapped";
  EXPECT_EQ(nearest("raport", commands), "report");
  EXPECT_EQ(nearest("devices", commands), "device");
  EXPECT_EQ(nearest("Twin", commands), "twin") << "case counts little";
  EXPECT_EQ(nearest("run", commands), "run");
}

TEST(Spelling, DoesNotGuessWhenNothingIsNear) {
  EXPECT_EQ(nearest("benchmark", {"run", "plan"}), "");
  EXPECT_EQ(nearest("", {"run"}), "");
  EXPECT_EQ(nearest("run", {}), "");
  EXPECT_EQ(nearest(std::string(100'000, 'r'), {"run"}), "") << "without the quadratic work";
}

}  // namespace
}  // namespace twinstorm
