#include "sim/scenario/arrivals.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace twinstorm::scenario {
namespace {

using std::chrono::seconds;

const MonoTime kStart{seconds{1000}};

using Arrivals = std::vector<std::pair<uint64_t, MonoTime>>;

Arrivals drain(ArrivalSchedule schedule) {
  Arrivals out;
  while (const auto arrival = schedule.next()) out.emplace_back(arrival->n, arrival->intended);
  return out;
}

Arrivals union_of(const LoadShape& shape, ShardId shards, uint64_t seed) {
  Arrivals out;
  for (ShardId shard = 0; shard < shards; ++shard) {
    const auto part = drain({shape, kStart, shard, shards, seed});
    for (const auto& [n, intended] : part) EXPECT_EQ(n % shards, shard);
    out.insert(out.end(), part.begin(), part.end());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<LoadShape> shapes() {
  return {LoadShape::constant(Rate{123}, seconds{5}), LoadShape::ramp(Rate{0}, Rate{300}, seconds{4}, seconds{6}),
          LoadShape::steps({{Rate{10}, seconds{1}}, {Rate{0}, seconds{1}}, {Rate{99}, seconds{1}}}, seconds{5}),
          LoadShape::sine(Rate{100}, Rate{90}, seconds{2}, seconds{5})};
}

TEST(ArrivalSchedule, TheUnionOverShardsDoesNotDependOnTheirNumber) {
  for (const bool poisson : {false, true}) {
    for (auto shape : shapes()) {
      shape.set_poisson(poisson);
      const auto whole = union_of(shape, 1, 99);
      ASSERT_FALSE(whole.empty());
      EXPECT_EQ(union_of(shape, 2, 99), whole);
      EXPECT_EQ(union_of(shape, 8, 99), whole);
    }
  }
}

TEST(ArrivalSchedule, EvenLoadsYieldEveryArrivalOfTheShape) {
  for (const auto& shape : shapes()) {
    const auto all = drain({shape, kStart, 0, 1, 0});
    ASSERT_EQ(all.size(), shape.arrivals());
    for (uint64_t n = 0; n < all.size(); ++n) {
      EXPECT_EQ(all[n].first, n);
      EXPECT_EQ(all[n].second, kStart + shape.due_at(n));
    }
  }
}

TEST(ArrivalSchedule, PoissonGapsHaveTheMeanAndTheSpreadOfAnExponential) {
  const auto all = drain({LoadShape::constant(Rate{1000}, seconds{100}).set_poisson(true), kStart, 0, 1, 5});
  EXPECT_NEAR(static_cast<double>(all.size()), 100'000, 4 * std::sqrt(100'000));
  double sum = 0, squares = 0;
  for (size_t i = 1; i < all.size(); ++i) {
    const double gap = to_seconds(all[i].second - all[i - 1].second) * 1000;
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double n = static_cast<double>(all.size() - 1), mean = sum / n;
  EXPECT_NEAR(mean, 1, 0.02);
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean), 1, 0.02);
}

TEST(ArrivalSchedule, PoissonArrivalsFollowTheShape) {
  const auto all =
      drain({LoadShape::ramp(Rate{0}, Rate{2000}, seconds{20}, seconds{20}).set_poisson(true), kStart, 0, 1, 6});
  const auto first_half =
      std::count_if(all.begin(), all.end(), [](const auto& a) { return a.second < kStart + seconds{10}; });
  EXPECT_NEAR(static_cast<double>(first_half), 5'000, 4 * std::sqrt(5'000));
  EXPECT_NEAR(static_cast<double>(all.size()), 20'000, 4 * std::sqrt(20'000));
}

TEST(ArrivalSchedule, SeedsOfStreamsAndPhasesDiffer) {
  EXPECT_NE(arrival_seed(42, 0, 1), arrival_seed(42, 1, 0));
  EXPECT_NE(arrival_seed(42, 0, 1), arrival_seed(43, 0, 1));
  const auto shape = LoadShape::constant(Rate{100}, seconds{1}).set_poisson(true);
  EXPECT_NE(drain({shape, kStart, 0, 1, 1}), drain({shape, kStart, 0, 1, 2}));
}

}  // namespace
}  // namespace twinstorm::scenario
