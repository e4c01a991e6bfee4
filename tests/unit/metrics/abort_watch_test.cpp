#include "metrics/abort_watch.hpp"

#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twinstorm::metrics {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

const MonoTime kStart{seconds{100}};

RecorderLayout some_layout() {
  return {{{"meters.report", OpKind::report, "meters", "mqtt"},
           {"cameras.report", OpKind::report, "cameras", "mqtt"},
           {"rollout", OpKind::patch_desired, "rollout", "http"}},
          {{"warmup", false}, {"steady", true}, {"storm", true}}};
}

/// Two shards, a watch over them, and a clock that a test moves by seconds.
class Watched {
 public:
  explicit Watched(const std::string& slo, AbortRule rule = {}) {
    auto spec = parse_slo(slo);
    EXPECT_TRUE(spec);
    spec->abort = rule;
    watch_.emplace(some_layout(), std::vector<SloSpec>{*parse_slo("rollout p99 < 1us"), *spec},
                   std::vector<const ShardRecorder*>{&shards_[0], &shards_[1]}, kStart);
    EXPECT_FALSE(watch_->empty());
  }

  void phase(PhaseIndex phase) {
    phase_ = phase;
    began_ = now_;
  }
  /// So many operations a second succeed after `latency` and so many fail, spread over both shards; the first finding.
  std::optional<AbortWatch::Finding> run(int for_seconds, int succeed, Nanos latency, int fail = 0,
                                         StreamIndex stream = 0) {
    for (int second = 0; second < for_seconds; ++second) {
      for (int i = 0; i < succeed + fail; ++i) {
        auto& shard = shards_[i % 2];
        shard.asked(stream, phase_);
        shard.sent(stream, phase_);
        if (i < succeed) {
          shard.acknowledged(stream, phase_, latency, latency);
        } else {
          shard.failed(stream, phase_, ErrorClass::server_error, latency);
        }
      }
      now_ += seconds{1};
      if (auto finding = watch_->look(now_, phase_, began_)) return finding;
    }
    return std::nullopt;
  }
  double second() const { return to_seconds(now_ - kStart); }
  ShardRecorder& shard() { return shards_[0]; }

 private:
  ShardRecorder shards_[2]{ShardRecorder{some_layout()}, ShardRecorder{some_layout()}};
  std::optional<AbortWatch> watch_;
  MonoTime now_ = kStart, began_ = kStart;
  PhaseIndex phase_ = 1;
};

TEST(AbortWatch, EndsARunWhenTheWindowViolatesTheObjective) {
  Watched run{"report errors < 5%"};
  EXPECT_FALSE(run.run(30, 100, milliseconds{5}));
  const auto finding = run.run(30, 50, milliseconds{5}, 50);
  ASSERT_TRUE(finding);
  // 50 failures among 1,000 in ten seconds are 5 %: the first bad second is enough, and no good one ever was.
  EXPECT_DOUBLE_EQ(finding->at_seconds, 31);
  EXPECT_DOUBLE_EQ(finding->actual, 0.05);
  EXPECT_EQ(finding->samples, 1000u);
  EXPECT_EQ(finding->text, "\"report errors < 5%\": 5 % over 10.0 s, at second 31.0 in phase \"steady\"");
}

TEST(AbortWatch, ForgetsWhatLeftTheWindow) {
  Watched run{"report errors < 5%"};
  EXPECT_FALSE(run.run(20, 100, milliseconds{5}, 0));
  EXPECT_FALSE(run.run(1, 960, milliseconds{5}, 40));
  EXPECT_FALSE(run.run(40, 100, milliseconds{5}, 0));
  EXPECT_FALSE(run.run(1, 970, milliseconds{5}, 45));  // with the earlier 40 it would be too many
}

TEST(AbortWatch, AGoodBeginningDoesNotHideABadPresent) {
  // Over the whole run 1 % fails; over the last ten seconds much more.
  Watched run{"report errors < 5%"};
  EXPECT_FALSE(run.run(1000, 100, milliseconds{5}));
  EXPECT_TRUE(run.run(10, 90, milliseconds{5}, 10));
}

TEST(AbortWatch, JudgesPercentilesOverAllShardsWithTenSamplesBeyond) {
  Watched run{"meters.report p99 < 20ms", {.over = seconds{5}}};
  EXPECT_FALSE(run.run(10, 300, milliseconds{5}));
  const auto finding = run.run(10, 300, milliseconds{80});
  ASSERT_TRUE(finding);
  EXPECT_THAT(finding->text, HasSubstr("80 ms over 5.0 s, at second 11.0"));

  Watched few{"meters.report p99 < 20ms", {.over = seconds{5}}};
  EXPECT_FALSE(few.run(60, 100, milliseconds{80})) << "500 samples carry no p99";
}

TEST(AbortWatch, TakesTheObjectivesOwnStreamsOnly) {
  Watched one{"meters.report errors < 5%"};
  EXPECT_FALSE(one.run(20, 50, milliseconds{5}, 50, 1));
  Watched kind{"report errors < 5%"};
  EXPECT_TRUE(kind.run(20, 50, milliseconds{5}, 50, 1));
  Watched other{"patchDesired errors < 5%"};
  EXPECT_FALSE(other.run(20, 50, milliseconds{5}, 50, 1));
}

TEST(AbortWatch, WaitsForAFullWindowAndTheGraceOfThePhase) {
  Watched full{"report errors < 5%"};
  const auto finding = full.run(60, 10, milliseconds{5}, 10);
  ASSERT_TRUE(finding);
  EXPECT_DOUBLE_EQ(finding->at_seconds, 10);

  Watched grace{"report errors < 5%", {.after = seconds{25}}};
  const auto late = grace.run(60, 10, milliseconds{5}, 10);
  ASSERT_TRUE(late);
  EXPECT_DOUBLE_EQ(late->at_seconds, 25);
}

TEST(AbortWatch, EachPhaseBeginsAWindowOfItsOwn) {
  Watched run{"report errors < 5%"};
  EXPECT_FALSE(run.run(9, 10, milliseconds{5}, 10));
  run.phase(2);
  EXPECT_FALSE(run.run(9, 10, milliseconds{5}, 10));
  const auto finding = run.run(1, 10, milliseconds{5}, 10);
  ASSERT_TRUE(finding);
  EXPECT_EQ(finding->phase, "storm");
  EXPECT_DOUBLE_EQ(finding->at_seconds, 19);
}

TEST(AbortWatch, JudgesRecordedPhasesOrTheOneNamed) {
  Watched recorded{"report errors < 5%"};
  recorded.phase(0);
  EXPECT_FALSE(recorded.run(30, 10, milliseconds{5}, 10));
  Watched named{"report errors < 5% during storm"};
  EXPECT_FALSE(named.run(30, 10, milliseconds{5}, 10));
  named.phase(2);
  EXPECT_TRUE(named.run(30, 10, milliseconds{5}, 10));
  Watched warmup{"report errors < 5% during warmup"};
  warmup.phase(0);
  EXPECT_TRUE(warmup.run(30, 10, milliseconds{5}, 10));
}

TEST(AbortWatch, FewSamplesDecideNothing) {
  Watched few{"report errors < 5%"};
  EXPECT_FALSE(few.run(60, 0, milliseconds{5}, 1)) << "ten in a window";
  Watched enough{"report errors < 5%", {.samples = 10}};
  EXPECT_TRUE(enough.run(60, 0, milliseconds{5}, 1));
}

TEST(AbortWatch, ASilentHubFailsARateAndNothingElse) {
  Watched rate{"report rate > 50/s"};
  EXPECT_FALSE(rate.run(20, 100, milliseconds{5}));
  const auto finding = rate.run(20, 0, milliseconds{5});
  ASSERT_TRUE(finding);
  EXPECT_THAT(finding->text, HasSubstr("50/s over 10.0 s, at second 25.0"));
  Watched latency{"report p50 < 20ms"};
  EXPECT_FALSE(latency.run(60, 0, milliseconds{5}));
}

TEST(AbortWatch, WatchesConvergenceStalenessAndTheScheduleToo) {
  const auto each_second = [](const char* slo, const std::function<void(ShardRecorder&)>& work) {
    Watched run{slo};
    for (int second = 0; second < 12; ++second) {
      for (int i = 0; i < 100; ++i) work(run.shard());
      if (run.run(1, 1, milliseconds{1})) return true;
    }
    return false;
  };
  const auto converge = [](ShardRecorder& shard) {
    shard.convergence_started(1);
    shard.convergence_ended(1, ConvergenceOutcome::lost, {});
  };
  EXPECT_TRUE(each_second("convergence errors < 1%", converge));
  const auto late = [](ShardRecorder& shard) { shard.schedule_lag(1, milliseconds{300}); };
  EXPECT_TRUE(each_second("scheduleLag p99 < 100ms", late));
  EXPECT_FALSE(each_second("scheduleLag p99 < 400ms", late));
  const auto stale = [](ShardRecorder& shard) {
    shard.staleness_started(1);
    shard.staleness_ended(1, StalenessOutcome::visible, seconds{2});
  };
  EXPECT_TRUE(each_second("queryStaleness p90 < 1s", stale));
}

TEST(AbortWatch, LongWindowsKeepABoundedNumberOfParts) {
  Watched run{"report errors < 5%", {.over = std::chrono::minutes{10}}};
  EXPECT_FALSE(run.run(1200, 100, milliseconds{5}));
  const auto finding = run.run(600, 50, milliseconds{5}, 50);
  ASSERT_TRUE(finding);
  EXPECT_NEAR(finding->at_seconds, 1260, 5);  // 10 % of ten minutes, exact to a twelfth of them
}

TEST(AbortWatch, WithoutSuchObjectivesLooksAtNothing) {
  const ShardRecorder shard{some_layout()};
  AbortWatch watch{some_layout(), {*parse_slo("report errors < 5%")}, {&shard}, kStart};
  EXPECT_TRUE(watch.empty());
  EXPECT_FALSE(watch.look(kStart + seconds{1}, 0, kStart));
}

TEST(AbortWatch, ACountIsRefused) {
  const auto refused = check_abort(*parse_slo("report count > 5"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "\"report count > 5\": a count is not over before the run is, so it cannot end it (use rate)");
  EXPECT_TRUE(check_abort(*parse_slo("report rate > 5/s")));
}

}  // namespace
}  // namespace twinstorm::metrics
