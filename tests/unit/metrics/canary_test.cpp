#include "metrics/canary.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/aggregator.hpp"
#include "metrics/shard_recorder.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::metrics {
namespace {

using std::chrono::microseconds;
using ::testing::HasSubstr;

/// P(B = k) for B binomial (n, q), each by itself and in long double: slow and simple.
long double mass(uint64_t n, uint64_t k, long double q) {
  const auto log_choose = std::lgamma(static_cast<long double>(n) + 1) - std::lgamma(static_cast<long double>(k) + 1) -
                          std::lgamma(static_cast<long double>(n - k) + 1);
  return std::exp(log_choose + static_cast<long double>(k) * std::log(q) +
                  static_cast<long double>(n - k) * std::log(1 - q));
}

/// The definition, word by word.
RankInterval by_brute_force(uint64_t n, double q, double confidence) {
  const long double error = (1 - static_cast<long double>(confidence)) / 2;
  RankInterval ranks{0, n + 1};
  for (uint64_t rank = 1; rank <= n; ++rank) {
    long double too_high = 0;  // fewer than `rank` samples at or below the quantile
    for (uint64_t k = 0; k < rank; ++k) too_high += mass(n, k, q);
    if (too_high <= error) ranks.low = rank;
  }
  for (uint64_t rank = n; rank >= 1; --rank) {
    long double too_low = 0;  // `rank` samples or more at or below it
    for (uint64_t k = rank; k <= n; ++k) too_low += mass(n, k, q);
    if (too_low <= error) ranks.high = rank;
  }
  return ranks;
}

TEST(PercentileRanks, AreThoseOfTheDefinition) {
  for (const uint64_t n : {1, 2, 5, 10, 20, 57, 120}) {
    for (const double q : {0.1, 0.5, 0.9, 0.95, 0.99, 0.999}) {
      for (const double confidence : {0.9, 0.95, 0.99}) {
        EXPECT_EQ(percentile_ranks(n, q, confidence), by_brute_force(n, q, confidence))
            << n << " samples, q " << q << ", confidence " << confidence;
      }
    }
  }
}

TEST(PercentileRanks, OfTheMedianAreThoseInTextbooks) {
  // Tables of the sign test: n = 10 and 95 % give the second and the ninth sample, n = 20 the sixth and the fifteenth.
  EXPECT_EQ(percentile_ranks(10, 0.5, 0.95), (RankInterval{2, 9}));
  EXPECT_EQ(percentile_ranks(20, 0.5, 0.95), (RankInterval{6, 15}));
}

TEST(PercentileRanks, NeedEnoughSamplesForABound) {
  EXPECT_EQ(percentile_ranks(0, 0.5), (RankInterval{0, 1}));
  EXPECT_EQ(percentile_ranks(3, 0.5), (RankInterval{0, 4}));
  EXPECT_EQ(percentile_ranks(200, 0.999).high, 201u);
  EXPECT_GT(percentile_ranks(200, 0.999).low, 0u);
}

TEST(PercentileRanks, FollowTheNormalApproximationForMany) {
  const auto ranks = percentile_ranks(10'000'000, 0.5, 0.95);
  const double half = 1.959964 * std::sqrt(10'000'000 * 0.25);
  EXPECT_NEAR(static_cast<double>(ranks.low), 5'000'000 - half, 3);
  EXPECT_NEAR(static_cast<double>(ranks.high), 5'000'000 + half, 3);
}

TEST(PercentileRanks, EncloseTheTruePercentileAsOftenAsTheyPromise) {
  // Exponential samples: the true q-quantile is known.
  Rng rng{7, "canary"};
  for (const double q : {0.5, 0.9}) {
    const double truth = -std::log(1 - q);
    const auto ranks = percentile_ranks(150, q, 0.95);
    int enclosed = 0;
    for (int round = 0; round < 4000; ++round) {
      std::vector<double> samples(150);
      for (auto& sample : samples) sample = rng.exponential();
      std::sort(samples.begin(), samples.end());
      enclosed += samples[ranks.low - 1] <= truth && truth <= samples[ranks.high - 1] ? 1 : 0;
    }
    EXPECT_GE(enclosed, 3760) << "q " << q;  // 94 % of 4,000: five standard deviations below 95.7 %
  }
}

HistogramSnapshot exponential(uint64_t count, double median, const char* purpose) {
  Rng rng{11, purpose};
  HistogramSnapshot histogram;
  for (uint64_t i = 0; i < count; ++i) histogram.record(from_seconds(rng.exponential() * median / std::log(2)));
  return histogram;
}

TEST(PercentileEstimates, AreBoundedByTheBucketsOfTheirRanks) {
  HistogramSnapshot histogram;
  for (int i = 1; i <= 100; ++i) histogram.record(microseconds{i});
  const auto median = estimate_percentile(histogram, 0.5);
  ASSERT_TRUE(median);
  const auto ranks = percentile_ranks(100, 0.5);
  EXPECT_DOUBLE_EQ(median->value, 50e-6);
  EXPECT_DOUBLE_EQ(*median->low, static_cast<double>(ranks.low) * 1e-6);
  EXPECT_DOUBLE_EQ(*median->high, static_cast<double>(ranks.high) * 1e-6);
  EXPECT_FALSE(estimate_percentile(histogram, 0.99)) << "one sample beyond it is not ten";
}

TEST(CanaryComparison, RarelyCriesWolfAboutTheSameDistribution) {
  const auto fleet = exponential(50'000, 0.02, "fleet");
  for (const uint64_t samples : {40, 300}) {
    int wolves = 0;
    for (int round = 0; round < 200; ++round) {
      const auto canary = exponential(samples, 0.02, ("canary " + std::to_string(round)).c_str());
      wolves += compare_percentile(0.5, canary, fleet, {0, 0, 5}).verdict == CanaryVerdict::disagree ? 1 : 0;
    }
    EXPECT_LE(wolves, 6) << samples << " samples: 2 of 200 are to be expected at 99 % and without allowance";
  }
}

TEST(CanaryComparison, ComparesThePercentilesThatHaveEnoughSamples) {
  for (const uint64_t samples : {40, 300, 3000}) {
    const auto row =
        compare_operation("steady", "report", exponential(samples, 0.02, "one"), exponential(50'000, 0.02, "other"));
    EXPECT_EQ(row.canary_samples, samples);
    EXPECT_EQ(row.fleet_samples, 50'000u);
    EXPECT_EQ(row.verdict, CanaryVerdict::agree) << samples;
    EXPECT_EQ(row.percentiles[0].verdict, CanaryVerdict::agree);
    EXPECT_EQ(row.percentiles[1].verdict, samples >= 100 ? CanaryVerdict::agree : CanaryVerdict::too_few_samples);
    EXPECT_EQ(row.percentiles[2].verdict, samples >= 1000 ? CanaryVerdict::agree : CanaryVerdict::too_few_samples);
  }
}

TEST(CanaryComparison, SeesADifferenceBeyondErrorAndAllowanceInBothDirections) {
  const auto slow = exponential(400, 0.040, "one"), fast = exponential(50'000, 0.020, "other");
  const CanaryAllowance small{0.001, 0.1, 5};
  EXPECT_EQ(compare_operation("p", "report", slow, fast, small).verdict, CanaryVerdict::disagree);
  EXPECT_EQ(compare_operation("p", "report", fast, slow, small).verdict, CanaryVerdict::disagree);
  const CanaryAllowance large{0.060, 0.5, 5};
  EXPECT_EQ(compare_operation("p", "report", slow, fast, large).verdict, CanaryVerdict::agree);
}

/// The fleet's path from a shard's recorder to the totals, with `late` added to what its stopwatch says.
HistogramSnapshot fleet_with_a_late_stopwatch(Nanos late) {
  const RecorderLayout layout{{{"f.report", OpKind::report, "f", "mqtt"}}, {{"steady", true}}};
  ShardRecorder recorder{layout};
  Rng rng{3, "fleet"};
  for (int i = 0; i < 5000; ++i) {
    const Nanos took = from_seconds(0.001 * (0.5 + rng.exponential()));
    recorder.asked(0, 0);
    recorder.sent(0, 0);
    recorder.acknowledged(0, 0, took + late, took + late);
  }
  return Aggregator{layout, {&recorder}, MonoTime{}}.totals().stream(0, 0).service;
}

TEST(CanaryComparison, FindsAFleetWhoseStopwatchIsLate) {
  HistogramSnapshot canary;
  Rng rng{4, "canary"};
  for (int i = 0; i < 300; ++i) canary.record(from_seconds(0.001 * (0.6 + rng.exponential())));
  const auto at = [&](Nanos late) {
    CanaryRecord record;
    record.rows = {compare_operation("steady", "report", canary, fleet_with_a_late_stopwatch(late), record.allowance)};
    judge_canary(record);
    return record;
  };
  EXPECT_EQ(at(Nanos{0}).verdict, CanaryVerdict::agree);
  EXPECT_EQ(at(std::chrono::milliseconds{8}).verdict, CanaryVerdict::disagree);
  EXPECT_FALSE(canary_invalidates(at(std::chrono::milliseconds{8})));
  EXPECT_TRUE(canary_invalidates(at(std::chrono::milliseconds{50})));
}

TEST(CanaryComparison, DoesNotJudgeByTooFewSamples) {
  const auto row = compare_operation("p", "report", exponential(19, 1, "one"), exponential(50'000, 0.001, "other"));
  EXPECT_EQ(row.verdict, CanaryVerdict::too_few_samples);
  EXPECT_FALSE(row.percentiles[0].canary);
  EXPECT_TRUE(row.percentiles[0].fleet);
}

CanaryRecord judged(std::vector<CanaryRow> rows) {
  CanaryRecord record;
  record.rows = std::move(rows);
  judge_canary(record);
  return record;
}

TEST(CanaryVerdict, OfARunIsThatOfItsWorstComparison) {
  const auto good = compare_operation("steady", "report", exponential(300, 0.02, "a"), exponential(9000, 0.02, "b"));
  const auto bad = compare_operation("storm", "getTwin", exponential(300, 0.2, "a"), exponential(9000, 0.02, "b"));
  const auto few = compare_operation("storm", "delivery", exponential(3, 0.2, "a"), exponential(9000, 0.02, "b"));
  ASSERT_EQ(bad.verdict, CanaryVerdict::disagree);

  EXPECT_EQ(judged({}).verdict, CanaryVerdict::too_few_samples);
  EXPECT_EQ(judged({few}).verdict, CanaryVerdict::too_few_samples);
  EXPECT_THAT(judged({few}).detail, HasSubstr("too few samples"));
  EXPECT_EQ(judged({good, few}).verdict, CanaryVerdict::agree);
  EXPECT_THAT(judged({good, few}).detail, HasSubstr("agree with those of the independent client in 1 comparison"));
  const auto record = judged({good, bad, few});
  EXPECT_EQ(record.verdict, CanaryVerdict::disagree);
  EXPECT_THAT(record.detail, HasSubstr("in 1 of 2 comparisons"));
  EXPECT_THAT(record.detail, HasSubstr("of getTwin in phase \"storm\": the fleet says"));
}

TEST(CanaryVerdict, SaysWhyThereIsNothingToCompare) {
  CanaryRecord record;
  record.state = "the canary could not connect: refused";
  judge_canary(record);
  EXPECT_EQ(record.detail, record.state);
}

TEST(CanaryVerdict, MakesARunInvalidOnlyFarBeyondTheAllowance) {
  const auto at = [](double canary) {
    return judged(
        {compare_operation("steady", "report", exponential(400, canary, "a"), exponential(9000, 0.001, "b"))});
  };
  const auto near = at(0.006), far = at(0.1);
  EXPECT_EQ(near.verdict, CanaryVerdict::disagree);
  EXPECT_FALSE(canary_invalidates(near));
  EXPECT_EQ(far.verdict, CanaryVerdict::disagree);
  ASSERT_TRUE(canary_invalidates(far));
  EXPECT_THAT(*canary_invalidates(far), HasSubstr("an independent client timed the same operations very differently"));
  EXPECT_FALSE(canary_invalidates(at(0.001)));
}

TEST(CanaryVerdict, HasNamesThatComeBack) {
  for (const auto verdict : {CanaryVerdict::agree, CanaryVerdict::disagree, CanaryVerdict::too_few_samples}) {
    EXPECT_EQ(parse_canary_verdict(to_string(verdict)), verdict);
  }
  EXPECT_FALSE(parse_canary_verdict("perhaps"));
}

}  // namespace
}  // namespace twinstorm::metrics
