#include "metrics/slo.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/aggregator.hpp"
#include "metrics/run_record.hpp"

namespace twinstorm::metrics {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

struct Parsed {
  const char* text;
  SloMetric metric;
  SloStatistic statistic;
  SloComparison comparison;
  double threshold;
  const char* phase;
  const char* description;
};

class ParsedSlo : public testing::TestWithParam<Parsed> {};
TEST_P(ParsedSlo, SaysWhatItsTextSays) {
  const auto& expected = GetParam();
  const auto slo = parse_slo(expected.text);
  ASSERT_TRUE(slo) << slo.error().message;
  EXPECT_EQ(slo->metric, expected.metric);
  EXPECT_EQ(slo->statistic, expected.statistic);
  EXPECT_EQ(slo->comparison, expected.comparison);
  EXPECT_DOUBLE_EQ(slo->threshold, expected.threshold);
  EXPECT_EQ(slo->phase, expected.phase);
  EXPECT_EQ(describe(*slo), expected.description);
}
INSTANTIATE_TEST_SUITE_P(
    Grammar, ParsedSlo,
    testing::Values(
        Parsed{"convergence p99 < 500ms during steady", SloMetric::convergence, SloStatistic::p99, SloComparison::less,
               0.5, "steady", "p99 of convergence below 500 ms during \"steady\""},
        Parsed{"reportedUpdate errors < 0.1%", SloMetric::operation, SloStatistic::errors, SloComparison::less, 0.001,
               "", "share of report that failed or timed out below 0.1 %"},
        Parsed{"query p95 < 200ms", SloMetric::operation, SloStatistic::p95, SloComparison::less, 0.2, "",
               "p95 of query below 200 ms"},
        Parsed{"query service p999<=1.5s", SloMetric::operation, SloStatistic::p999, SloComparison::less_equal, 1.5, "",
               "p999 of query (service time) at most 1.5 s"},
        Parsed{"  rollout   rate>= 49.5/s  ", SloMetric::stream, SloStatistic::rate, SloComparison::greater_equal, 49.5,
               "", "rate of successful rollout at least 49.5/s"},
        Parsed{"thermostats.report dropped < 1%", SloMetric::stream, SloStatistic::dropped, SloComparison::less, 0.01,
               "", "share of thermostats.report the generator dropped below 1 %"},
        Parsed{"connect count >= 5000", SloMetric::operation, SloStatistic::count, SloComparison::greater_equal, 5000,
               "", "number of successful connect at least 5,000"},
        Parsed{"convergenceSystem max < 2 s during storm-2", SloMetric::convergence_system, SloStatistic::max,
               SloComparison::less, 2, "storm-2", "max of convergenceSystem below 2 s during \"storm-2\""},
        Parsed{"scheduleLag p99 < 50ms", SloMetric::schedule_lag, SloStatistic::p99, SloComparison::less, 0.05, "",
               "p99 of scheduleLag below 50 ms"},
        Parsed{"queryStaleness p99 < 5s during steady", SloMetric::query_staleness, SloStatistic::p99,
               SloComparison::less, 5, "steady", "p99 of queryStaleness below 5 s during \"steady\""},
        Parsed{"queryStaleness errors < 1%", SloMetric::query_staleness, SloStatistic::errors, SloComparison::less,
               0.01, "", "share of writes that no query showed in time below 1 %"},
        Parsed{"conflicts < 5%", SloMetric::all_streams, SloStatistic::conflicts, SloComparison::less, 0.05, "",
               "share of changes by operations answered 412 below 5 %"},
        Parsed{"throttled>1% during overload", SloMetric::all_streams, SloStatistic::throttled, SloComparison::greater,
               0.01, "overload", "share of operations ended by an answer 429 above 1 % during \"overload\""},
        Parsed{"patchTags conflicts < 20%", SloMetric::operation, SloStatistic::conflicts, SloComparison::less, 0.2, "",
               "share of changes by patchTags answered 412 below 20 %"},
        Parsed{"counters retries <= 0.5", SloMetric::stream, SloStatistic::retries, SloComparison::less_equal, 0.5, "",
               "retries per successful counters at most 0.5"},
        Parsed{"conflicts p99 < 1s", SloMetric::stream, SloStatistic::p99, SloComparison::less, 1, "",
               "p99 of conflicts below 1 s"},
        Parsed{"query errors <= 0", SloMetric::operation, SloStatistic::errors, SloComparison::less_equal, 0, "",
               "share of query that failed or timed out at most 0 %"}));

struct Refused {
  const char* text;
  const char* message;
};
class RefusedSlo : public testing::TestWithParam<Refused> {};
TEST_P(RefusedSlo, NamesTheWordAndTheFix) {
  const auto slo = parse_slo(GetParam().text);
  ASSERT_FALSE(slo);
  EXPECT_EQ(slo.error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(slo.error().message, GetParam().message);
}
INSTANTIATE_TEST_SUITE_P(
    Grammar, RefusedSlo,
    testing::Values(
        Refused{"conflicts < 5", "\"conflicts < 5\": \"5\" has no unit; conflicts is a share (try \"5%\")"},
        Refused{"patchTags retries < 5%",
                "\"patchTags retries < 5%\": \"5%\" is not a number; retries are counted per success (try 0.5)"},
        Refused{"queryStaleness rate > 1/s",
                "\"queryStaleness rate > 1/s\": queryStaleness has no rate (try queryStaleness p99 < 5s, or "
                "queryStaleness errors < 1% for writes that no query showed in time)"},
        Refused{"queryStaleness service p99 < 1s",
                "\"queryStaleness service p99 < 1s\": queryStaleness has no service time; leave \"service\" out"},
        Refused{
            "convergence throttled < 1%",
            "\"convergence throttled < 1%\": throttled belongs to an operation or a stream, not to convergence (try "
            "patchTags throttled < 5%)"},
        Refused{"convergence p99 < 500",
                "\"convergence p99 < 500\": \"500\" has no unit; p99 is a duration (try \"500ms\" or \"500s\")"},
        Refused{"query errors < 0.1", "\"query errors < 0.1\": \"0.1\" has no unit; errors is a share (try \"0.1%\")"},
        Refused{"query errors < 150%",
                "\"query errors < 150%\": \"150%\" is not a share; errors needs one from 0% to 100%, such as 0.1%"},
        Refused{"query errors < 5ms",
                "\"query errors < 5ms\": \"5ms\" is not a share; errors needs one from 0% to 100%, such as 0.1%"},
        Refused{"query rate > 50", "\"query rate > 50\": \"50\" has no unit; rate is per time (try \"50/s\")"},
        Refused{"query rate > 50ms", "\"query rate > 50ms\": \"50ms\" is not a rate (try 50/s)"},
        Refused{"query p99 < 5%", "\"query p99 < 5%\": \"5%\" is not a duration; p99 needs one such as 500ms"},
        Refused{"query count > 1.5",
                "\"query count > 1.5\": \"1.5\" is not a whole number; count needs one such as 1000"},
        Refused{
            "query p98 < 5ms",
            "\"query p98 < 5ms\": \"p98\" is not a statistic (did you mean \"p90\"?); use p50, p90, p95, p99, p999, "
            "mean, max, errors, rate, dropped, count, conflicts, retries or throttled"},
        Refused{"query eror < 5%",
                "\"query eror < 5%\": \"eror\" is not a statistic (did you mean \"errors\"?); use p50, p90, p95, p99, "
                "p999, mean, max, errors, rate, dropped, count, conflicts, retries or throttled"},
        Refused{"query p99 = 5ms", "\"query p99 = 5ms\": \"=\" is not a comparison; use <, <=, > or >="},
        Refused{"query p99", "\"query p99\": a comparison is missing after \"p99\": <, <=, > or >="},
        Refused{"query p99 <", "\"query p99 <\": a value is missing after \"<\""},
        Refused{"query",
                "\"query\": a statistic is missing after \"query\": p50, p90, p95, p99, p999, mean, max, errors, "
                "rate, dropped, count, conflicts, retries or throttled"},
        Refused{"", "\"\": an objective is empty (try \"convergence p99 < 500ms during steady\")"},
        Refused{"< 5ms",
                "\"< 5ms\": \"<\" is not a metric; begin with an operation, a stream, convergence, "
                "convergenceSystem, queryStaleness or scheduleLag (try \"convergence p99 < 500ms during steady\")"},
        Refused{"query p99 < 5ms in steady",
                "\"query p99 < 5ms in steady\": \"in\" is too much; only \"during <phase>\" may follow the value"},
        Refused{"query p99 < 5ms during",
                "\"query p99 < 5ms during\": the name of a phase is missing after \"during\""},
        Refused{"query p99 < 5ms during a b", "\"query p99 < 5ms during a b\": \"b\" is too much after the phase"},
        Refused{"convergence service p99 < 5ms",
                "\"convergence service p99 < 5ms\": convergence has no service time; leave \"service\" out"},
        Refused{"query service errors < 5%",
                "\"query service errors < 5%\": \"service\" goes with a latency, not with errors"},
        Refused{"scheduleLag errors < 5%",
                "\"scheduleLag errors < 5%\": scheduleLag is a latency and has no errors (try scheduleLag p99 < 50ms)"},
        Refused{"convergence dropped < 5%",
                "\"convergence dropped < 5%\": an update is never dropped, its patch is (try "
                "patchDesired dropped < 1%)"},
        Refused{"convergenceSystem rate > 5/s",
                "\"convergenceSystem rate > 5/s\": convergenceSystem is a latency; use \"convergence rate\" instead"}));

RecorderLayout layout() {
  return {{{"rollout", OpKind::patch_desired, "", ""}, {"ops", OpKind::query, "", ""}},
          {{"warmup", false}, {"steady", true}, {"storm", true}}};
}

TEST(CheckSlo, FindsStreamsAndPhasesOrSaysWhatWasMeant) {
  EXPECT_TRUE(check_slo(*parse_slo("rollout p99 < 5ms during storm"), layout()));
  const auto stream = check_slo(*parse_slo("rolout p99 < 5ms"), layout());
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().message,
            "\"rolout p99 < 5ms\": \"rolout\" is neither an operation nor a stream of this scenario (did you mean "
            "\"rollout\"?)");
  const auto operation = check_slo(*parse_slo("querry p99 < 5ms"), layout());
  ASSERT_FALSE(operation);
  EXPECT_THAT(operation.error().message, HasSubstr("(did you mean \"query\"?)"));
  const auto phase = check_slo(*parse_slo("rollout p99 < 5ms during stedy"), layout());
  ASSERT_FALSE(phase);
  EXPECT_EQ(phase.error().message,
            "\"rollout p99 < 5ms during stedy\": there is no phase \"stedy\" (did you mean \"steady\"?)");
}

class JudgedSlo : public testing::Test {
 protected:
  ShardRecorder shard{layout()};

  void operations(StreamIndex stream, PhaseIndex phase, int n, Nanos latency) {
    for (int i = 0; i < n; ++i) {
      shard.asked(stream, phase);
      shard.sent(stream, phase);
      shard.acknowledged(stream, phase, latency, latency / 2);
    }
  }
  SloResult judged(const char* text) {
    auto totals = Aggregator(layout(), {&shard}, MonoTime{}).totals();
    totals.phases[1].duration = 60s;
    totals.phases[2].duration = 30s;
    return judge(*parse_slo(text), totals);
  }
};

TEST_F(JudgedSlo, PassesOrFailsByTheNumber) {
  operations(0, 1, 1000, 400ms);
  const auto passed = judged("rollout p99 < 500ms");
  EXPECT_EQ(passed.status, SloStatus::passed);
  EXPECT_DOUBLE_EQ(*passed.actual, 0.4);
  EXPECT_EQ(passed.samples, 1000u);
  EXPECT_EQ(passed.detail, "400 ms: target < 500 ms");
  EXPECT_EQ(judged("patchDesired p99 < 400ms").status, SloStatus::failed);
  EXPECT_EQ(judged("patchDesired p99 <= 400ms").status, SloStatus::passed);
  EXPECT_EQ(judged("rollout service p99 < 201ms").status, SloStatus::passed);
  EXPECT_EQ(judged("rollout count >= 1000").status, SloStatus::passed);
  EXPECT_EQ(judged("rollout rate >= 11/s").status, SloStatus::passed) << "1000 in 90 s";
  EXPECT_EQ(judged("rollout rate >= 12/s").status, SloStatus::failed);
  EXPECT_EQ(judged("rollout rate >= 16/s during steady").status, SloStatus::passed) << "1000 in 60 s";
}

TEST_F(JudgedSlo, IsUndecidedWithTooFewSamplesWhichIsNoPass) {
  operations(0, 1, 999, 400ms);
  const auto result = judged("rollout p99 < 500ms");
  EXPECT_EQ(result.status, SloStatus::undecided);
  EXPECT_EQ(result.detail, "999 samples are too few for p99: it takes 1,000 to have 10 beyond it");
  EXPECT_EQ(judged("rollout p90 < 500ms").status, SloStatus::passed);
  EXPECT_EQ(judged("rollout max < 500ms").status, SloStatus::passed);
  EXPECT_EQ(judged("ops max < 500ms").detail, "no ops succeeded");
  EXPECT_EQ(judged("ops errors < 1%").detail, "no ops was sent");
  EXPECT_EQ(judged("ops dropped < 1%").detail, "no ops was due");
  EXPECT_EQ(judged("rollout rate > 1/s during warmup").detail, "the phase did not run");
  EXPECT_EQ(judged("rollout p99 < 1s during other").detail, "there is no phase \"other\"");
  EXPECT_EQ(judged("other p99 < 1s").detail, "there is no stream \"other\"");
}

TEST_F(JudgedSlo, LooksAtWarmUpOnlyWhenAskedTo) {
  operations(0, 0, 1000, 900ms);
  operations(0, 1, 1000, 10ms);
  EXPECT_EQ(judged("rollout max < 100ms").status, SloStatus::passed);
  EXPECT_EQ(judged("rollout max < 100ms during warmup").status, SloStatus::failed);
}

TEST_F(JudgedSlo, CountsFailuresAndTimeoutsAsErrorsOfWhatWasSent) {
  operations(1, 1, 97, 1ms);
  for (int i = 0; i < 3; ++i) {
    shard.asked(1, 1);
    shard.sent(1, 1);
    i == 0 ? shard.timed_out(1, 1, 10s) : shard.failed(1, 1, ErrorClass::throttled, 1ms);
  }
  shard.asked(1, 1);
  shard.dropped(1, 1, ErrorClass::backlog_full);
  const auto errors = judged("query errors < 3%");
  EXPECT_EQ(errors.status, SloStatus::failed);
  EXPECT_DOUBLE_EQ(*errors.actual, 0.03);
  EXPECT_EQ(errors.detail, "3 %: target < 3 %");
  EXPECT_DOUBLE_EQ(*judged("query dropped < 1%").actual, 1.0 / 101);
}

TEST_F(JudgedSlo, JudgesConvergenceByAllUpdatesThatReachedTheirDevice) {
  for (int i = 0; i < 1000; ++i) {
    shard.convergence_started(2);
    const auto outcome = i % 50 == 0 ? ConvergenceOutcome::superseded : ConvergenceOutcome::applied;
    shard.convergence_ended(2, outcome, {outcome == ConvergenceOutcome::applied ? 50ms : 3s, 5ms, 5ms, 30ms, 5ms});
  }
  shard.convergence_started(2);
  shard.convergence_ended(2, ConvergenceOutcome::lost);
  EXPECT_EQ(judged("convergence p99 < 500ms").status, SloStatus::failed) << "2 % took 3 s";
  EXPECT_EQ(judged("convergence p95 < 500ms during storm").status, SloStatus::passed);
  EXPECT_DOUBLE_EQ(*judged("convergenceSystem p90 < 1s").actual, 0.02);
  EXPECT_DOUBLE_EQ(*judged("convergence errors < 1%").actual, 1.0 / 1001);
  EXPECT_EQ(*judged("convergence count > 1").actual, 980);
}

TEST_F(JudgedSlo, CountsConflictsAgainstEveryChangeSentAndRetriesAgainstSuccesses) {
  operations(0, 1, 80, 5ms);
  for (int i = 0; i < 20; ++i) {
    shard.conflict(0, 1);
    shard.retried(0, 1);
  }
  EXPECT_DOUBLE_EQ(*judged("patchDesired conflicts < 25%").actual, 0.2) << "20 of 80 first and 20 repeated changes";
  EXPECT_DOUBLE_EQ(*judged("rollout retries < 0.5").actual, 0.25);
  EXPECT_EQ(judged("rollout retries < 0.25").detail, "0.25: target < 0.25");
  operations(1, 1, 100, 5ms);
  EXPECT_DOUBLE_EQ(*judged("conflicts < 25%").actual, 0.1) << "of all streams together";
  EXPECT_EQ(judged("conflicts < 25% during storm").detail, "no operations was sent");
  EXPECT_EQ(to_record(judged("rollout retries < 0.5")).unit, "perSuccess");
  EXPECT_EQ(to_record(judged("conflicts < 25%")).unit, "share");
}

TEST_F(JudgedSlo, CountsAnswers429AgainstWhatWasSent) {
  operations(1, 1, 90, 1ms);
  for (int i = 0; i < 10; ++i) {
    shard.asked(1, 1);
    shard.sent(1, 1);
    shard.failed(1, 1, i < 6 ? ErrorClass::throttled : ErrorClass::server_error, 1ms);
  }
  EXPECT_DOUBLE_EQ(*judged("ops throttled < 10%").actual, 0.06);
  EXPECT_EQ(judged("throttled > 5%").status, SloStatus::passed);
}

TEST_F(JudgedSlo, JudgesStalenessOfVisibleWritesAndCountsTheOthersAsErrors) {
  EXPECT_EQ(judged("queryStaleness p90 < 5s").detail,
            "no write was looked for in queries (give a back end that writes \"staleness\")");
  shard.staleness_started(1);
  shard.staleness_ended(1, StalenessOutcome::unknown, 0s);
  EXPECT_EQ(judged("queryStaleness p90 < 5s").detail, "no write became visible in a query");
  EXPECT_EQ(judged("queryStaleness errors < 5%").detail, "no write was followed to an end");
  for (int i = 0; i < 99; ++i) {
    shard.staleness_started(1);
    shard.staleness_ended(1, StalenessOutcome::visible, 2s);
  }
  shard.staleness_started(2);
  shard.staleness_ended(2, StalenessOutcome::not_visible, 0s);
  EXPECT_EQ(judged("queryStaleness max <= 2s").status, SloStatus::passed);
  EXPECT_EQ(judged("queryStaleness p50 < 1s during steady").status, SloStatus::failed);
  EXPECT_DOUBLE_EQ(*judged("queryStaleness errors < 5%").actual, 0.01) << "the unknown one is neither";
  EXPECT_DOUBLE_EQ(*judged("queryStaleness count > 1").actual, 99);
}

TEST_F(JudgedSlo, BecomesARecordWithItsUnit) {
  operations(0, 1, 1000, 400ms);
  const auto record = to_record(judged("rollout p99 < 500ms during steady"));
  EXPECT_EQ(record.slo, "rollout p99 < 500ms during steady");
  EXPECT_EQ(record.status, "passed");
  EXPECT_EQ(record.unit, "seconds");
  EXPECT_EQ(record.target, 0.5);
  EXPECT_EQ(record.actual, 0.4);
  EXPECT_EQ(record.phase, "steady");
  EXPECT_EQ(to_record(judged("rollout errors < 1%")).unit, "share");
  EXPECT_EQ(to_record(judged("rollout rate > 1/s")).unit, "perSecond");
  EXPECT_EQ(to_record(judged("rollout count > 1")).unit, "count");
}

}  // namespace
}  // namespace twinstorm::metrics
