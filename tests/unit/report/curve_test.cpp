#include "report/html/curve.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twinstorm::report {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

TEST(DistributionCurve, IsEmptyWithoutSamples) {
  const auto curve = distribution_curve({});
  EXPECT_TRUE(curve.quantile.empty());
  EXPECT_TRUE(curve.seconds.empty());
}

TEST(DistributionCurve, EndsWithTheExactMaximum) {
  metrics::HistogramSnapshot histogram;
  histogram.record(Nanos{1'000'000});
  histogram.record(Nanos{987'654'321});
  const auto curve = distribution_curve(histogram);
  EXPECT_EQ(curve.quantile.back(), 1);
  EXPECT_DOUBLE_EQ(curve.seconds.back(), 0.987654321);
}

TEST(DistributionCurve, AgreesWithTheSortedSamplesAtEveryPoint) {
  metrics::HistogramSnapshot histogram;
  std::vector<double> samples;
  uint64_t state = 7;
  for (int i = 0; i < 20'000; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const double seconds = 0.0005 * std::exp(static_cast<double>(state >> 40) / (1 << 24) * 6);
    samples.push_back(seconds);
    histogram.record(from_seconds(seconds));
  }
  std::sort(samples.begin(), samples.end());
  const auto curve = distribution_curve(histogram);
  ASSERT_EQ(curve.quantile.size(), curve.seconds.size());
  for (size_t i = 0; i < curve.quantile.size(); ++i) {
    const auto rank = std::max<size_t>(1, static_cast<size_t>(std::ceil(curve.quantile[i] * 20'000 - 1e-6)));
    EXPECT_NEAR(curve.seconds[i], samples[rank - 1], samples[rank - 1] * 0.002) << "at " << curve.quantile[i];
  }
  EXPECT_TRUE(std::is_sorted(curve.seconds.begin(), curve.seconds.end()));
  EXPECT_TRUE(std::is_sorted(curve.quantile.begin(), curve.quantile.end()));
}

TEST(DistributionCurve, StaysSmallWhateverTheNumberOfSamples) {
  metrics::HistogramSnapshot histogram;
  histogram.record(Nanos{1'000'000}, 1'000'000'000);
  EXPECT_LE(distribution_curve(histogram).quantile.size(), 230U);
}

TEST(Thinning, KeepsEachPointWhileThereAreFewEnough) {
  EXPECT_EQ(values_per_point(0, 1500), 1U);
  EXPECT_EQ(values_per_point(1500, 1500), 1U);
  EXPECT_EQ(values_per_point(1501, 1500), 2U);
  EXPECT_EQ(values_per_point(3600, 1500), 3U);
}

TEST(Thinning, TakesMeanLargestOrSmallestOfThePresentValues) {
  const std::vector<std::optional<double>> values{1, 5, std::nullopt, 2, std::nullopt, std::nullopt, 8};
  const auto at = [&](size_t i) { return values[i]; };
  EXPECT_THAT(thin(7, 2, Thinning::mean, at),
              ElementsAre(Optional(3.0), Optional(2.0), std::optional<double>{}, Optional(8.0)));
  EXPECT_THAT(thin(7, 2, Thinning::largest, at),
              ElementsAre(Optional(5.0), Optional(2.0), std::optional<double>{}, Optional(8.0)));
  EXPECT_THAT(thin(7, 3, Thinning::smallest, at), ElementsAre(Optional(1.0), Optional(2.0), Optional(8.0)));
}

TEST(Rounding, GivesTheNearestShortDecimal) {
  EXPECT_EQ(round_significant(0.00123456, 4), 0.001235);
  EXPECT_EQ(round_significant(123456, 4), 123500);
  EXPECT_EQ(round_significant(0.1 + 0.2, 4), 0.3);
  EXPECT_EQ(round_significant(-9.99996, 4), -10);
  EXPECT_EQ(round_significant(0, 4), 0);
}

}  // namespace
}  // namespace twinstorm::report
