#include "sim/run/oracle.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"

namespace twinstorm::run {
namespace {

using Verdict = Oracle::Verdict;

std::string twin(std::string_view desired, std::string_view reported = "{}") {
  return R"({"deviceId":"d","properties":{"desired":)" + std::string{desired} + R"(,"reported":)" +
         std::string{reported} + "}}";
}

class OracleTest : public ::testing::Test {
 protected:
  void accepted(int64_t version, std::string_view patch) { oracle.desired_accepted(0, version, patch, false); }
  /// What differs, without the evidence behind it; empty when the twin matches.
  std::string difference(const std::string& text) {
    const auto result = oracle.compare(0, text);
    EXPECT_EQ(result.verdict == Verdict::differs, !result.difference.empty());
    return result.difference.substr(0, result.difference.find(';'));
  }

  Oracle oracle{2};
};

TEST_F(OracleTest, ExpectsThePatchesMergedInOrder) {
  accepted(2, R"({"a":1,"b":{"x":1}})");
  accepted(3, R"({"b":{"y":2}})");
  oracle.reported_accepted(0, R"({"a":1})");
  EXPECT_EQ(difference(twin(R"({"a":1,"b":{"x":1,"y":2},"$version":3,"$metadata":{}})",
                            R"({"a":1,"$version":7,"$metadata":{"z":1}})")),
            "");
}

TEST_F(OracleTest, NamesThePlaceAndBothValues) {
  accepted(2, R"({"climate":{"minTemperature":64}})");
  EXPECT_EQ(difference(twin(R"({"climate":{"minTemperature":61}})")),
            "properties.desired.climate.minTemperature is 61, expected 64");
  EXPECT_EQ(difference(twin(R"({"climate":{}})")), "properties.desired.climate.minTemperature is absent, expected 64");
  EXPECT_EQ(difference(twin(R"({"climate":{"minTemperature":64},"other":true})")),
            "properties.desired.other is true, expected absent");
}

TEST_F(OracleTest, TellsWhenTheLastChangeWasAcknowledgedAndWhatTheHubHolds) {
  oracle.desired_accepted(0, 7, R"({"a":1})", false, WallTime{std::chrono::milliseconds{1'700'000'000'123}});
  EXPECT_EQ(oracle.compare(0, twin(R"({"$version":6})")).difference,
            "properties.desired.a is absent, expected 1; the last change was acknowledged as version 7 at "
            "2023-11-14T22:13:20.123Z, the hub holds version 6");
}

TEST_F(OracleTest, ReportedDifferencesAreFoundToo) {
  oracle.reported_accepted(0, R"({"battery":55})");
  EXPECT_EQ(difference(twin("{}", R"({"battery":54})")), "properties.reported.battery is 54, expected 55");
}

TEST_F(OracleTest, LongValuesAreShortened) {
  accepted(2, R"({"a":")" + std::string(200, 'x') + R"("})");
  const auto text = difference(twin("{}"));
  EXPECT_LT(text.size(), 120u);
  EXPECT_NE(text.find("..."), std::string::npos);
}

TEST_F(OracleTest, NumbersAreComparedByValue) {
  accepted(2, R"({"a":1.0})");
  EXPECT_EQ(difference(twin(R"({"a":1})")), "");
}

TEST_F(OracleTest, AnAnswerThatOvertookAnotherIsMergedInItsPlace) {
  accepted(3, R"({"a":3})");
  accepted(2, R"({"a":2,"b":2})");
  EXPECT_EQ(difference(twin(R"({"a":3,"b":2})")), "");
}

TEST_F(OracleTest, AnyOrderOfAnswersGivesTheSameExpectation) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Rng rng{seed};
    Oracle shuffled{1};
    std::vector<int64_t> versions;
    for (int64_t version = 2; version < 14; ++version) versions.push_back(version);
    for (size_t i = versions.size(); i > 1; --i) std::swap(versions[i - 1], versions[rng.below(i)]);
    for (const int64_t version : versions) {
      const auto n = std::to_string(version);
      shuffled.desired_accepted(0, version, R"({"a":)" + n + R"(,"v)" + n + R"(":1})", version == 6);
    }
    const auto result =
        shuffled.compare(0, twin(R"({"a":13,"v6":1,"v7":1,"v8":1,"v9":1,"v10":1,"v11":1,"v12":1,"v13":1})"));
    EXPECT_EQ(result.verdict, Verdict::matches) << result.difference;
  }
}

TEST_F(OracleTest, NullRemoves) {
  accepted(2, R"({"a":{"x":1,"y":2}})");
  accepted(3, R"({"a":{"x":null}})");
  EXPECT_EQ(difference(twin(R"({"a":{"y":2}})")), "");
  EXPECT_EQ(difference(twin(R"({"a":{"x":1,"y":2}})")), "properties.desired.a.x is 1, expected absent");
}

TEST_F(OracleTest, AReplaceForgetsWhatWasThere) {
  accepted(2, R"({"a":1,"b":1})");
  oracle.desired_accepted(0, 3, R"({"b":2})", true);
  EXPECT_EQ(difference(twin(R"({"b":2})")), "");
  EXPECT_EQ(difference(twin(R"({"a":1,"b":2})")), "properties.desired.a is 1, expected absent");
}

TEST_F(OracleTest, AnUnansweredPatchExplainsBothItsFates) {
  accepted(2, R"({"a":1})");
  oracle.desired_unknown(0, R"({"a":5,"n":{"m":1}})");
  EXPECT_EQ(difference(twin(R"({"a":1})")), "");                                       // not applied
  EXPECT_EQ(difference(twin(R"({"a":5,"n":{"m":1}})")), "");                           // applied
  EXPECT_EQ(difference(twin(R"({"a":7})")), "properties.desired.a is 7, expected 1");  // neither
  EXPECT_EQ(difference(twin(R"({"a":1,"n":{"m":2}})")), "properties.desired.n.m is 2, expected absent");
}

TEST_F(OracleTest, AnUnansweredRemovalExplainsAnAbsentValue) {
  accepted(2, R"({"a":{"x":1,"y":1}})");
  oracle.desired_unknown(0, R"({"a":{"x":null}})");
  EXPECT_EQ(difference(twin(R"({"a":{"y":1}})")), "");
  EXPECT_EQ(difference(twin(R"({"a":{"x":1,"y":1}})")), "");
  EXPECT_EQ(difference(twin(R"({"a":{"x":1}})")), "properties.desired.a.y is absent, expected 1");
}

TEST_F(OracleTest, SeveralUnansweredPatchesMayTogetherMakeAnObject) {
  oracle.desired_unknown(0, R"({"a":{"x":1}})");
  oracle.desired_unknown(0, R"({"a":{"y":2}})");
  EXPECT_EQ(difference(twin(R"({"a":{"x":1,"y":2}})")), "");
  EXPECT_EQ(difference(twin(R"({"a":{"x":1}})")), "");
}

TEST_F(OracleTest, UnansweredReportsExplainReportedOnly) {
  oracle.reported_unknown(0, R"({"a":5})");
  EXPECT_EQ(difference(twin("{}", R"({"a":5})")), "");
  EXPECT_EQ(difference(twin(R"({"a":5})")), "properties.desired.a is 5, expected absent");
}

TEST_F(OracleTest, AGapOfAnUnansweredPatchIsMergedOverAtTheEnd) {
  oracle.desired_unknown(0, R"({"a":2})");  // may have become version 2
  accepted(3, R"({"b":3})");
  EXPECT_EQ(difference(twin(R"({"a":2,"b":3})")), "");
  EXPECT_EQ(difference(twin(R"({"b":3})")), "");
}

TEST_F(OracleTest, AnAnswerThatIsLateBehindAnOldGapStillFindsItsPlace) {
  oracle.desired_unknown(0, R"({"u":1})");  // version 2, never answered
  for (int64_t version = 3; version <= 10; ++version) accepted(version, R"({"a":)" + std::to_string(version) + "}");
  accepted(12, R"({"a":12})");  // more wait behind the gap than it is worth: the oldest go over it
  accepted(11, R"({"a":11})");  // overtaken by 12
  EXPECT_EQ(difference(twin(R"({"a":12})")), "");
}

TEST_F(OracleTest, TooManyUnansweredRequestsLeaveTheTwinUnchecked) {
  for (size_t i = 0; i <= Oracle::kUnknownMax; ++i) oracle.desired_unknown(0, R"({"a":1})");
  EXPECT_EQ(oracle.compare(0, twin(R"({"z":1})")).verdict, Verdict::unchecked);
  EXPECT_EQ(oracle.compare(1, twin("{}")).verdict, Verdict::matches);  // only that device
}

TEST_F(OracleTest, UnreadablePatchesLeaveTheTwinUnchecked) {
  accepted(2, "{broken");
  EXPECT_EQ(oracle.compare(0, twin("{}")).verdict, Verdict::unchecked);
  oracle.reported_accepted(1, "{broken");
  EXPECT_EQ(oracle.compare(1, twin("{}")).verdict, Verdict::unchecked);
}

TEST_F(OracleTest, AnUnreadableTwinDiffers) { EXPECT_EQ(difference("<html>"), "the hub's answer is not JSON"); }

TEST_F(OracleTest, StartsFromTheTwinThatWasThere) {
  EXPECT_TRUE(oracle.seed(0, twin(R"({"old":1,"$version":41,"$metadata":{}})", R"({"r":1,"$version":3})")));
  accepted(43, R"({"new":2})");
  accepted(42, R"({"new":1,"also":1})");
  EXPECT_EQ(difference(twin(R"({"old":1,"new":2,"also":1,"$version":43})", R"({"r":1})")), "");
  EXPECT_FALSE(oracle.seed(1, "nonsense"));
}

}  // namespace
}  // namespace twinstorm::run
