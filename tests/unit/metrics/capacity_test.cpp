#include "metrics/capacity.hpp"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace twinstorm::metrics {
namespace {

using Limit = CapacitySearch::Limit;

/// Runs the search against a hub that answers as `hub(factor, number of the run)` says; returns how many runs it took.
int drive(CapacitySearch& search, const std::function<ProbeVerdict(double, int)>& hub) {
  int runs = 0;
  while (const auto factor = search.next()) {
    search.record(hub(*factor, runs++));
    EXPECT_LE(runs, CapacitySearch::kRunsMax);
    if (runs > CapacitySearch::kRunsMax) break;
  }
  return runs;
}

ProbeVerdict holds_if(bool holds) { return holds ? ProbeVerdict::holds : ProbeVerdict::breaks; }

TEST(CapacitySearch, FindsTheLimitFromBelowAndFromAboveWithinItsPrecision) {
  for (const double limit : {0.021, 0.3, 0.97, 1.0, 1.4, 7.7, 31.0, 63.0}) {
    CapacitySearch search{{}};
    const int runs = drive(search, [&](double factor, int) { return holds_if(factor <= limit); });
    const auto result = search.result();
    ASSERT_TRUE(result.lower && result.upper) << limit;
    EXPECT_EQ(result.limit, Limit::objective) << limit;
    EXPECT_LE(*result.lower, limit);
    EXPECT_GT(*result.upper, limit);
    EXPECT_LE(*result.upper / *result.lower, 1.05);
    EXPECT_GE(result.held, 2) << "the reported rate has held twice";
    EXPECT_LE(runs, 26) << limit;
  }
}

TEST(CapacitySearch, OneUnluckyRunDecidesNothing) {
  for (int unlucky = 0; unlucky < 12; ++unlucky) {
    CapacitySearch search{{}};
    drive(search, [&](double factor, int run) { return holds_if(factor <= 3.1 && run != unlucky); });
    const auto result = search.result();
    ASSERT_TRUE(result.lower.has_value());
    EXPECT_LE(*result.lower, 3.1);
    EXPECT_GE(*result.lower, 3.1 / 1.05) << "run " << unlucky << " broke by chance";
  }
}

TEST(CapacitySearch, OneLuckyRunAboveTheLimitIsNotReported) {
  for (int lucky = 0; lucky < 12; ++lucky) {
    CapacitySearch search{{}};
    drive(search, [&](double factor, int run) { return holds_if(factor <= 3.1 || run == lucky); });
    ASSERT_TRUE(search.result().lower.has_value());
    EXPECT_LE(*search.result().lower, 3.1) << "run " << lucky << " held by chance";
  }
}

TEST(CapacitySearch, AGeneratorThatCannotDoMoreIsNoLimitOfTheHub) {
  CapacitySearch search{{}};
  drive(search, [](double factor, int) { return factor <= 5 ? ProbeVerdict::holds : ProbeVerdict::generator; });
  EXPECT_EQ(search.result().limit, Limit::generator);
  EXPECT_LE(*search.result().lower, 5);
  EXPECT_GE(*search.result().lower, 5 / 1.05);
}

TEST(CapacitySearch, StopsAtTheEndsOfItsRange) {
  CapacitySearch up{{.highest = 4}};
  drive(up, [](double factor, int) {
    EXPECT_LE(factor, 4);
    return ProbeVerdict::holds;
  });
  EXPECT_EQ(up.result().limit, Limit::range);
  EXPECT_EQ(up.result().lower, 4);
  EXPECT_EQ(up.result().held, 2);

  CapacitySearch down{{.lowest = 0.25}};
  drive(down, [](double factor, int) {
    EXPECT_GE(factor, 0.25);
    return ProbeVerdict::breaks;
  });
  EXPECT_EQ(down.result().limit, Limit::nothing);
  EXPECT_FALSE(down.result().lower.has_value());
}

TEST(CapacitySearch, RunsThatSayNothingAreRepeatedOnceAndThenEndIt) {
  CapacitySearch search{{}};
  EXPECT_EQ(drive(search, [](double, int) { return ProbeVerdict::unusable; }), 2);
  EXPECT_EQ(search.result().limit, Limit::unusable);

  CapacitySearch once{{}};
  drive(once, [](double factor, int run) { return run == 3 ? ProbeVerdict::unusable : holds_if(factor <= 2.2); });
  EXPECT_EQ(once.result().limit, Limit::objective);
}

TEST(CapacitySearch, EndsWhateverItIsTold) {
  for (int pattern = 0; pattern < 256; ++pattern) {
    CapacitySearch search{{}};
    drive(search, [&](double, int run) { return static_cast<ProbeVerdict>((pattern >> (2 * (run % 4))) & 3); });
    EXPECT_FALSE(search.next().has_value());
    EXPECT_NE(search.result().limit, Limit::none);
  }
}

RunRecord ended(VerdictStatus status, int exit_code, std::vector<std::string> codes = {}) {
  RunRecord record;
  record.verdict.status = status;
  record.verdict.exit_code = exit_code;
  for (auto& code : codes) record.validity.push_back({std::move(code), ""});
  return record;
}

TEST(ProbeVerdict, TellsTheHubsFailureFromTheGenerators) {
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::passed, 0)), ProbeVerdict::holds);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::failed, 11)), ProbeVerdict::breaks);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::failed, 10)), ProbeVerdict::breaks);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::aborted, 14)), ProbeVerdict::breaks);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::aborted, 130)), ProbeVerdict::unusable);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::invalid, 13, {"dropped"})), ProbeVerdict::breaks);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::invalid, 13, {"scheduleLag", "dropped"})), ProbeVerdict::generator);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::invalid, 13, {"hubLost"})), ProbeVerdict::breaks);
  EXPECT_EQ(probe_verdict(ended(VerdictStatus::invalid, 13, {"tooFewSamples"})), ProbeVerdict::unusable);
}

TEST(CapacityRecord, IsWrittenWithEverythingAReportNeeds) {
  CapacityRecord record;
  record.run.scenario = "rollout";
  record.limit = "objective";
  record.lower_per_second = 200;
  record.probes.push_back(
      {"run-01", 1, 100, 99.5, ProbeVerdict::holds, {}, {{"convergence", {.count = 5, .p50 = 0.01}}}, 0.5, {}});
  const auto json = to_json(record);
  EXPECT_EQ(json["schema"], "twinstorm/capacity/1");
  EXPECT_EQ(json["lower"]["perSecond"], 200);
  EXPECT_TRUE(json["upper"]["perSecond"].is_null());
  EXPECT_EQ(json["probes"][0]["verdict"], "holds");
  EXPECT_EQ(json["probes"][0]["latencies"]["convergence"]["p50"], 0.01);
}

}  // namespace
}  // namespace twinstorm::metrics
