#include <set>

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"
#include "sim/base/slab.hpp"

namespace twinstorm {
namespace {

TEST(Rng, SameSeedPurposeAndIndexGiveTheSameNumbers) {
  Rng a{42, "device", 17};
  Rng b{42, "device", 17};
  for (int i = 0; i < 100; ++i) ASSERT_EQ(a.next(), b.next());
}

TEST(Rng, NumbersArePinnedBecauseRunsMustRepeatAcrossReleases) {
  Rng rng{42, "device", 0};
  const uint64_t first = rng.next();
  EXPECT_EQ(first, mix64(mix64(mix64(42 ^ stable_hash("device")))));
  EXPECT_EQ(stable_hash(""), 0xcbf29ce484222325ULL);   // FNV-1a's published offset basis
  EXPECT_EQ(stable_hash("a"), 0xaf63dc4c8601ec8cULL);  // and its published test vector
  EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafULL);          // SplitMix64's first output for seed 0
  EXPECT_EQ(Rng{0}.next(), 0xe220a8397b1dcdafULL);
}

TEST(Rng, PurposesIndexesAndSeedsSplitIntoDifferentStreams) {
  std::set<uint64_t> firsts;
  for (const uint64_t seed : {1, 2, 3}) {
    for (const char* purpose : {"device", "arrivals", "backend"}) {
      for (uint64_t index = 0; index < 1000; ++index) firsts.insert(Rng{seed, purpose, index}.next());
    }
  }
  EXPECT_EQ(firsts.size(), 9000u);
}

TEST(Rng, ContinuesFromItsState) {
  Rng a{7};
  a.next();
  Rng b{a.state()};
  EXPECT_EQ(a.next(), b.next());
}

TEST(Rng, StaysInItsRanges) {
  Rng rng{5};
  double low = 1, high = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    low = std::min(low, u);
    high = std::max(high, u);
    ASSERT_LT(rng.below(10), 10u);
    const double v = rng.uniform(-3, 5);
    ASSERT_GE(v, -3);
    ASSERT_LT(v, 5);
    ASSERT_GE(rng.exponential(), 0);
  }
  EXPECT_LT(low, 0.001);
  EXPECT_GT(high, 0.999);
  EXPECT_EQ(rng.below(0), 0u);
  EXPECT_FALSE(rng.chance(0));
  EXPECT_TRUE(rng.chance(1));
}

TEST(Rng, DistributionsHaveTheirMoments) {
  Rng rng{11};
  constexpr int kDraws = 200'000;
  double sum = 0, exponential = 0, normal = 0, square = 0;
  int buckets[10] = {};
  for (int i = 0; i < kDraws; ++i) {
    sum += rng.uniform();
    exponential += rng.exponential();
    const double n = rng.normal();
    normal += n;
    square += n * n;
    ++buckets[rng.below(10)];
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  EXPECT_NEAR(exponential / kDraws, 1, 0.015);
  EXPECT_NEAR(normal / kDraws, 0, 0.015);
  EXPECT_NEAR(square / kDraws, 1, 0.02);
  for (const int count : buckets) EXPECT_NEAR(count, kDraws / 10, 600);
}

TEST(Slab, HandsOutEveryItemOnceAndThenSaysFull) {
  Slab<int> slab{3};
  std::set<uint32_t> taken{slab.take(), slab.take(), slab.take()};
  EXPECT_EQ(taken, (std::set<uint32_t>{0, 1, 2}));
  EXPECT_EQ(slab.used(), 3u);
  EXPECT_EQ(slab.take(), Slab<int>::kNone);
  EXPECT_EQ(slab.used(), 3u);
}

TEST(Slab, ReusesReleasedItemsValueInitialised) {
  Slab<int> slab{2};
  const uint32_t index = slab.take();
  slab[index] = 17;
  slab.release(index);
  EXPECT_FALSE(slab.taken(index));
  const uint32_t again = slab.take();
  EXPECT_EQ(again, index);
  EXPECT_EQ(slab[again], 0);
}

TEST(Slab, OfNoCapacityIsAlwaysFull) {
  Slab<int> slab{0};
  EXPECT_EQ(slab.take(), Slab<int>::kNone);
  EXPECT_FALSE(slab.taken(0));
}

TEST(Slab, KnowsWhatIsTakenUnderRandomUse) {
  Slab<int> slab{50};
  std::set<uint32_t> model;
  Rng rng{3};
  for (int i = 0; i < 10'000; ++i) {
    if (rng.chance(0.5)) {
      const uint32_t index = slab.take();
      ASSERT_EQ(index == Slab<int>::kNone, model.size() == 50);
      if (index != Slab<int>::kNone) {
        ASSERT_TRUE(model.insert(index).second);
      }
    } else if (!model.empty()) {
      auto at = model.begin();
      std::advance(at, static_cast<std::ptrdiff_t>(rng.below(model.size())));
      slab.release(*at);
      model.erase(at);
    }
    ASSERT_EQ(slab.used(), model.size());
    const auto probe = static_cast<uint32_t>(rng.below(60));
    ASSERT_EQ(slab.taken(probe), model.contains(probe));
  }
}

TEST(SlabDeathTest, ReleasingTwiceIsADefect) {
  Slab<int> slab{1};
  const uint32_t index = slab.take();
  slab.release(index);
  EXPECT_DEATH(slab.release(index), "taken\\(index\\)");
}

}  // namespace
}  // namespace twinstorm
