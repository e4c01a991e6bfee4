#include "metrics/validity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/aggregator.hpp"

namespace twinstorm::metrics {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

RecorderLayout layout() {
  return {{{"rollout", OpKind::patch_desired, "", ""}}, {{"warmup", false}, {"steady", true}}};
}

class Run : public testing::Test {
 protected:
  ShardRecorder shard{layout()};
  Totals totals() { return Aggregator(layout(), {&shard}, MonoTime{}).totals(); }
  void operations(int n, PhaseIndex phase = 1) {
    for (int i = 0; i < n; ++i) {
      shard.asked(0, phase);
      shard.sent(0, phase);
      shard.acknowledged(0, phase, 1ms, 1ms);
    }
  }
  std::vector<ValidityFinding> findings() {
    const auto t = totals();
    return check_validity({t, {}, {}, {}, false, {}, {}}).findings;
  }
};
using RunValidityTest = Run;

TEST_F(RunValidityTest, IsValidWhenNothingSpeaksAgainstIt) {
  operations(1000);
  shard.schedule_lag(1, 2ms);
  EXPECT_THAT(findings(), IsEmpty());
}

TEST_F(RunValidityTest, IsInvalidWhenOperationsStartLate) {
  for (int i = 0; i < 100; ++i) shard.schedule_lag(1, i < 98 ? 1ms : 250ms);
  const auto found = findings();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].code, "scheduleLag");
  EXPECT_THAT(found[0].text, HasSubstr("schedule lag p99 250 ms is above 100 ms"));
}

TEST_F(RunValidityTest, DoesNotMindALateWarmUp) {
  shard.schedule_lag(0, 5s);
  EXPECT_THAT(findings(), IsEmpty());
}

TEST_F(RunValidityTest, IsInvalidWhenMoreThanAPercentWasNeverSent) {
  operations(989);
  for (int i = 0; i < 11; ++i) {
    shard.asked(0, 1);
    shard.dropped(0, 1, ErrorClass::backlog_full);
  }
  const auto found = findings();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].code, "dropped");
  EXPECT_THAT(found[0].text, HasSubstr("11 of 1,000 operations (1.1 %) were never sent, above 1 %"));
}

TEST_F(RunValidityTest, TellsEachOtherReasonWithItsCode) {
  operations(5);
  shard.failed(0, 1, ErrorClass::server_error, 1ms);  // one end more than was sent
  const auto t = totals();
  SloResult undecided;
  undecided.spec = *parse_slo("rollout p99 < 1s");
  undecided.detail = "5 samples are too few";
  const HubComparison hub{true, {{"patches", 5, 6}, {"connects", 1, 3, 2}}};
  const auto found = check_validity({t, {0.5, 0.99}, -250ms, hub, true, {"w2"}, {undecided}}).findings;
  std::vector<std::string> codes;
  for (const auto& finding : found) codes.push_back(finding.code);
  EXPECT_THAT(codes,
              ElementsAre("shardBusy", "clockStep", "ledger", "hubCounts", "hubLost", "workerLost", "tooFewSamples"));
  EXPECT_THAT(found[0].text, HasSubstr("shard 1 worked 99 % of the recorded time, above 95 %"));
  EXPECT_THAT(found[1].text, HasSubstr("stepped by 250 ms"));
  EXPECT_EQ(found[3].text, "tool and hub counted differently: patches 5 here, 6 there");
  EXPECT_THAT(found[5].text, HasSubstr("worker \"w2\" was lost"));
  EXPECT_EQ(found[6].text, "\"rollout p99 < 1s\" could not be decided: 5 samples are too few");
}

TEST(HubComparison, AllowsTheHubToHaveCountedWhatWasNotAnswered) {
  EXPECT_TRUE((HubComparison{true, {{"patches", 5, 5, 0}, {"patches", 5, 7, 2}, {"patches", 5, 5, 2}}}.matches()));
  EXPECT_FALSE((HubComparison{true, {{"patches", 5, 8, 2}}}.matches()));
  EXPECT_FALSE((HubComparison{true, {{"patches", 5, 4, 2}}}.matches()));
  EXPECT_FALSE((HubComparison{false, {}}.matches()));
}

TEST_F(RunValidityTest, DoesNotCompareWithAHubThatHasNoCounts) {
  const auto t = totals();
  EXPECT_THAT(check_validity({t, {}, {}, {false, {{"patches", 5, 0}}}, false, {}, {}}).findings, IsEmpty());
}

using Invariants = Run;

TEST_F(Invariants, NoLostUpdatesHoldsViolatesOrStaysUndecided) {
  EXPECT_EQ(check_no_lost_updates(totals()).status, InvariantStatus::undecided);
  shard.convergence_started(0);
  EXPECT_EQ(check_no_lost_updates(totals()).detail,
            "1 of 1 updates were still open when the run ended (a settle phase would wait for them)");
  shard.convergence_ended(0, ConvergenceOutcome::applied, {1ms, {}, {}, {}, {}});
  shard.convergence_started(1);
  shard.convergence_ended(1, ConvergenceOutcome::failed);
  EXPECT_EQ(check_no_lost_updates(totals()).status, InvariantStatus::held);
  EXPECT_EQ(check_no_lost_updates(totals()).detail,
            "2 updates: 1 applied, 0 superseded, 1 refused by the hub, none lost");
  shard.convergence_started(0);  // also in the warm-up
  shard.convergence_ended(0, ConvergenceOutcome::lost);
  const auto violated = check_no_lost_updates(totals(), {"therm-00042: version 7"});
  EXPECT_EQ(violated.name, "noLostUpdates");
  EXPECT_EQ(violated.status, InvariantStatus::violated);
  EXPECT_EQ(violated.detail, "1 of 3 updates were lost and 0 did not converge");
  EXPECT_THAT(violated.examples, ElementsAre("therm-00042: version 7"));
}

TEST_F(Invariants, VersionsMonotonicIsViolatedByOneStepBack) {
  EXPECT_EQ(check_versions_monotonic(totals()).status, InvariantStatus::undecided);
  shard.convergence_started(1);
  EXPECT_EQ(check_versions_monotonic(totals()).status, InvariantStatus::held);
  shard.reordered(1);
  EXPECT_EQ(check_versions_monotonic(totals()).status, InvariantStatus::violated);
}

TEST_F(Invariants, FinalStateNeedsDevicesToCompare) {
  EXPECT_EQ(check_final_state(0, 0).status, InvariantStatus::undecided);
  EXPECT_EQ(check_final_state(10, 0).status, InvariantStatus::held);
  EXPECT_EQ(check_final_state(10, 1).status, InvariantStatus::violated);
  EXPECT_EQ(check_final_state(10, 1).detail, "1 of 10 devices ended with a state that differs from what was asked");
}

VerdictInputs everything_wrong() {
  VerdictInputs in;
  in.validity.findings = {{"dropped", "too much was dropped"}};
  in.invariants = {{"noLostUpdates", InvariantStatus::violated, "3 lost", {}},
                   {"versionsMonotonic", InvariantStatus::held, "fine", {}}};
  SloResult slo;
  slo.spec = *parse_slo("query p99 < 1s");
  slo.status = SloStatus::failed;
  slo.detail = "2 s: target < 1 s";
  in.slos = {slo};
  in.regressions = {"p99 of query rose by 20 %"};
  in.aborted_by = "\"query errors < 5%\": 12 % over 10.0 s";
  in.signal = 2;
  return in;
}

TEST(Verdict, PassesWhenNothingIsWrong) {
  const auto verdict = decide({});
  EXPECT_EQ(verdict.status, VerdictStatus::passed);
  EXPECT_EQ(verdict.exit_code, 0);
  EXPECT_THAT(verdict.reasons, IsEmpty());
}

TEST(Verdict, GoesByTheWorstReasonAndListsAll) {
  auto in = everything_wrong();
  const auto all = decide(in);
  EXPECT_EQ(all.exit_code, 130);
  EXPECT_EQ(all.status, VerdictStatus::aborted);
  EXPECT_THAT(all.reasons,
              ElementsAre("interrupted by the user (SIGINT)", "invalid (dropped): too much was dropped",
                          "noLostUpdates violated: 3 lost", "ended early by \"query errors < 5%\": 12 % over 10.0 s",
                          "\"query p99 < 1s\" failed: 2 s: target < 1 s", "p99 of query rose by 20 %"));
  in.signal = 15;
  EXPECT_EQ(decide(in).exit_code, 143);
  in.signal = 0;
  EXPECT_EQ(decide(in).exit_code, 13);
  EXPECT_EQ(decide(in).status, VerdictStatus::invalid);
  in.validity.findings.clear();
  EXPECT_EQ(decide(in).exit_code, 10);
  EXPECT_EQ(decide(in).status, VerdictStatus::failed);
  in.invariants.clear();
  EXPECT_EQ(decide(in).exit_code, 14);
  EXPECT_EQ(decide(in).status, VerdictStatus::aborted);
  in.aborted_by.reset();
  EXPECT_EQ(decide(in).exit_code, 11);
  EXPECT_EQ(decide(in).status, VerdictStatus::failed);
  in.slos.clear();
  EXPECT_EQ(decide(in).exit_code, 12);
  in.regressions.clear();
  EXPECT_EQ(decide(in).exit_code, 0);
}

TEST(Verdict, NeverTakesNoAnswerForAPass) {
  VerdictInputs in;
  SloResult slo;
  slo.spec = *parse_slo("query p99 < 1s");
  slo.detail = "too few";
  in.slos = {slo};
  EXPECT_EQ(decide(in).exit_code, 13);
  EXPECT_THAT(decide(in).reasons, ElementsAre("\"query p99 < 1s\" could not be decided: too few"));
  in.slos.clear();
  in.invariants = {{"finalStateMatches", InvariantStatus::undecided, "no device was compared", {}}};
  EXPECT_EQ(decide(in).exit_code, 13);
  in.invariants[0].status = InvariantStatus::not_checked;
  EXPECT_EQ(decide(in).exit_code, 0);
}

}  // namespace
}  // namespace twinstorm::metrics
