#include "metrics/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include <gtest/gtest.h>

namespace twinstorm::metrics {
namespace {

using namespace std::chrono_literals;

Nanos micros(uint64_t n) { return Nanos{static_cast<int64_t>(n) * 1000}; }

/// HdrHistogram's definition on the values themselves: the smallest value so that at least `q` of all are not above it.
uint64_t exact_value_at(const std::vector<uint64_t>& sorted, double q) {
  const auto share = std::max(0.0, std::nextafter(q, -1.0));
  const auto rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(share * static_cast<double>(sorted.size()))));
  return sorted[rank - 1];
}

TEST(HistogramLayout, HasTheCountsLengthOfHdrHistogramForOneMicrosecondToOneHourWithThreeDigits) {
  EXPECT_EQ(layout::kCountsLength, 23'552u);
  EXPECT_EQ(sizeof(uint64_t) * layout::kCountsLength, 184u * 1024);
}

// Hand-computed from the layout's definition: 2048 buckets of 1 us, then 1024 each of 2, 4, 8, ... us.
TEST(HistogramLayout, PutsHandComputedValuesInTheirBuckets) {
  EXPECT_EQ(layout::index_of(0), 0u);
  EXPECT_EQ(layout::index_of(1), 1u);
  EXPECT_EQ(layout::index_of(2047), 2047u);
  EXPECT_EQ(layout::index_of(2048), 2048u);
  EXPECT_EQ(layout::index_of(2049), 2048u);
  EXPECT_EQ(layout::index_of(2050), 2049u);
  EXPECT_EQ(layout::index_of(4095), 3071u);
  EXPECT_EQ(layout::index_of(4096), 3072u);
  EXPECT_EQ(layout::index_of(4099), 3072u);
  EXPECT_EQ(layout::index_of(4100), 3073u);
  // 3.6e9 = 1716 * 2^21 + r with 2^31 <= 3.6e9 < 2^32: bucket 21, sub-bucket 1716, index 22 * 1024 + 1716 - 1024.
  EXPECT_EQ(layout::index_of(3'600'000'000), 23'220u);
  EXPECT_EQ(layout::lowest_in(23'220), uint64_t{1716} << 21);
  EXPECT_LT(layout::index_of((uint64_t{1} << 32) - 1), layout::kCountsLength);
}

TEST(HistogramLayout, CoversEveryValueOnceWithoutGapsAndWithinAThousandth) {
  for (size_t i = 0; i + 1 < layout::kCountsLength; ++i) {
    const auto low = layout::lowest_in(i);
    const auto high = layout::highest_in(i);
    ASSERT_LE(low, high);
    ASSERT_EQ(layout::index_of(low), i);
    ASSERT_EQ(layout::index_of(high), i);
    ASSERT_EQ(layout::lowest_in(i + 1), high + 1);
    ASSERT_LE(high - low, low / 1000);
  }
}

TEST(HistogramSnapshot, OfOneToOneHundredMillisecondsHasTheObviousPercentiles) {
  HistogramSnapshot h;
  for (int i = 1; i <= 100; ++i) h.record(i * 1ms);
  EXPECT_EQ(h.count(), 100u);
  EXPECT_EQ(h.mean(), 50'500us);
  EXPECT_EQ(h.min(), 1ms);
  EXPECT_EQ(h.max(), 100ms);
  // 50 ms = 50000 us lies in a bucket 32 us wide: 49984..50015.
  EXPECT_EQ(h.value_at(0.5), 50'015u);
  // 99 of 100: the 99th value, 99 ms, in a bucket 64 us wide: 98944..99007.
  EXPECT_EQ(h.value_at(0.99), 99'007u);
  EXPECT_EQ(h.value_at(0.0), 1'000u);
  // The bucket of 100 ms ends at 100031 us, but no sample was above 100 ms.
  EXPECT_EQ(h.value_at(1.0), 100'031u);
  EXPECT_EQ(h.percentile(1.0), 100ms);
}

class HistogramAgainstSortedValues : public testing::TestWithParam<int> {};

TEST_P(HistogramAgainstSortedValues, AgreesToTheBucketAtEveryPercentile) {
  std::mt19937_64 random(static_cast<uint64_t>(GetParam()));
  std::lognormal_distribution<double> spread(std::log(800.0) + GetParam() % 5, 0.3 + 0.4 * (GetParam() % 4));
  const size_t n = 1 + random() % 5000;
  std::vector<uint64_t> values;
  LatencyHistogram live;
  HistogramSnapshot plain;
  for (size_t i = 0; i < n; ++i) {
    const auto value = std::min<uint64_t>(static_cast<uint64_t>(spread(random)), layout::kHighestMicros);
    values.push_back(value);
    live.record(micros(value));
    plain.record(micros(value));
  }
  std::sort(values.begin(), values.end());
  const auto snapshot = live.snapshot();
  EXPECT_EQ(snapshot, plain);
  EXPECT_EQ(snapshot.count(), n);
  EXPECT_EQ(snapshot.min(), micros(values.front()));
  EXPECT_EQ(snapshot.max(), micros(values.back()));
  for (const double q : {0.0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0}) {
    const auto exact = exact_value_at(values, q);
    EXPECT_EQ(snapshot.value_at(q), layout::highest_in(layout::index_of(exact))) << "q " << q;
    EXPECT_GE(snapshot.percentile(q), micros(exact));
    EXPECT_LE(snapshot.percentile(q), snapshot.max());
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, HistogramAgainstSortedValues, testing::Range(1, 21));

TEST(HistogramSnapshot, RoundsToTheNearestMicrosecondAndCountsNegativesAsZero) {
  HistogramSnapshot h;
  h.record(1'499ns);
  h.record(1'500ns);
  h.record(-5ms);
  EXPECT_EQ(h.at(0), 1u);
  EXPECT_EQ(h.at(1), 1u);
  EXPECT_EQ(h.at(2), 1u);
  EXPECT_EQ(h.min(), 0ns);
}

TEST(LatencyHistogram, ClampsValuesAboveOneHourAndSaysSo) {
  LatencyHistogram h;
  h.record(1h);
  h.record(3h);
  const auto snapshot = h.snapshot();
  EXPECT_EQ(snapshot.count(), 2u);
  EXPECT_EQ(snapshot.saturated(), 1u);
  EXPECT_EQ(snapshot.max(), 3h);
  EXPECT_EQ(snapshot.at(layout::index_of(layout::kHighestMicros)), 2u);
}

TEST(HistogramSnapshot, MergedPartsEqualTheWhole) {
  std::mt19937_64 random(7);
  HistogramSnapshot whole;
  std::vector<HistogramSnapshot> parts(4);
  for (int i = 0; i < 20'000; ++i) {
    const auto value = micros(random() % 10'000'000);
    whole.record(value);
    parts[random() % parts.size()].record(value);
  }
  HistogramSnapshot merged;
  for (const auto& part : parts) merged.add(part);
  EXPECT_EQ(merged, whole);
  merged.add(HistogramSnapshot{});
  EXPECT_EQ(merged, whole);
}

TEST(HistogramSnapshot, SubtractedLeavesWhatCameLater) {
  LatencyHistogram h;
  h.record(5ms);
  h.record(90ms);
  const auto before = h.snapshot();
  h.record(20ms);
  h.record(30ms);
  auto interval = h.snapshot();
  interval.subtract(before);
  EXPECT_EQ(interval.count(), 2u);
  EXPECT_EQ(interval.mean(), 25ms);
  EXPECT_GE(interval.min(), 20ms - 16us);
  EXPECT_LE(interval.min(), 20ms);
  EXPECT_GE(interval.max(), 30ms);
  EXPECT_LE(interval.max(), 30ms + 16us);

  auto nothing = h.snapshot();
  nothing.subtract(h.snapshot());
  EXPECT_TRUE(nothing.empty());
  EXPECT_EQ(nothing, HistogramSnapshot{});
}

TEST(HistogramSnapshot, CountsOnlyBucketsThatEndAtOrBelowALimit) {
  HistogramSnapshot h;
  h.record(100us);
  h.record(101us);
  h.record(1ms);
  EXPECT_EQ(h.count_at_or_below(99us), 0u);
  EXPECT_EQ(h.count_at_or_below(100us), 1u);
  EXPECT_EQ(h.count_at_or_below(999us), 2u);
  EXPECT_EQ(h.count_at_or_below(1ms), 3u);
  EXPECT_EQ(h.count_at_or_below(2h), 3u);
}

TEST(EnoughSamples, TakesTenBeyondThePercentile) {
  EXPECT_FALSE(enough_samples(999, 0.99));
  EXPECT_TRUE(enough_samples(1000, 0.99));
  EXPECT_FALSE(enough_samples(9'999, 0.999));
  EXPECT_TRUE(enough_samples(10'000, 0.999));
  EXPECT_FALSE(enough_samples(19, 0.5));
  EXPECT_TRUE(enough_samples(20, 0.5));
  HistogramSnapshot h;
  h.record(1ms, 999);
  EXPECT_FALSE(h.percentile_if_enough(0.99));
  h.record(1ms);
  EXPECT_EQ(h.percentile_if_enough(0.99), 1ms);
}

TEST(LatencyHistogram, NeverShowsAReaderASmallerNumberThanBefore) {
  constexpr uint64_t kRecords = 200'000;
  LatencyHistogram h;
  std::thread writer([&] {
    std::mt19937_64 random(3);
    for (uint64_t i = 0; i < kRecords; ++i) h.record(micros(1 + random() % 5'000'000));
  });
  HistogramSnapshot before;
  uint64_t looks = 0;
  while (before.count() < kRecords) {
    auto now = h.snapshot();
    ASSERT_GE(now.count(), before.count());
    auto difference = now;
    difference.subtract(before);  // asserts that no bucket went down
    ASSERT_EQ(difference.count(), now.count() - before.count());
    before = std::move(now);
    ++looks;
  }
  writer.join();
  EXPECT_EQ(h.count(), kRecords);
  EXPECT_EQ(h.snapshot().count(), kRecords);
  EXPECT_GT(looks, 0u);
}

}  // namespace
}  // namespace twinstorm::metrics
