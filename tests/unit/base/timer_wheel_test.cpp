#include "sim/base/timer_wheel.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"

namespace twinstorm {
namespace {

using namespace std::chrono_literals;

const MonoTime kOrigin{1234567891ns};

std::vector<uint32_t> fire_until(TimerWheel& wheel, MonoTime now) {
  std::vector<uint32_t> fired;
  wheel.advance(now, [&](uint32_t id) { fired.push_back(id); });
  return fired;
}

using Ids = std::vector<uint32_t>;

TEST(TimerWheel, FiresAtTheFirstWholeTickThatIsNotBeforeTheDeadline) {
  TimerWheel wheel{1, kOrigin};
  wheel.arm(0, kOrigin + 5ms + 1ns);
  EXPECT_EQ(wheel.next_event(), kOrigin + 6ms);
  EXPECT_EQ(fire_until(wheel, kOrigin + 5ms + 999us), Ids{});
  EXPECT_EQ(fire_until(wheel, kOrigin + 6ms), Ids{0});
  EXPECT_FALSE(wheel.armed(0));
  EXPECT_EQ(wheel.armed_count(), 0u);
  EXPECT_EQ(wheel.next_event(), MonoTime::max());
}

TEST(TimerWheel, ADeadlineOnATickFiresOnThatTick) {
  TimerWheel wheel{1, kOrigin};
  wheel.arm(0, kOrigin + 5ms);
  EXPECT_EQ(fire_until(wheel, kOrigin + 5ms - 1ns), Ids{});
  EXPECT_EQ(fire_until(wheel, kOrigin + 5ms), Ids{0});
}

TEST(TimerWheel, APastDeadlineFiresOneTickLater) {
  TimerWheel wheel{2, kOrigin};
  fire_until(wheel, kOrigin + 100ms);
  wheel.arm(0, kOrigin + 3ms);
  wheel.arm(1, kOrigin - 1h);
  EXPECT_EQ(wheel.next_event(), kOrigin + 101ms);
  EXPECT_EQ(fire_until(wheel, kOrigin + 101ms).size(), 2u);
}

TEST(TimerWheel, RearmingMovesTheOneDeadline) {
  TimerWheel wheel{1, kOrigin};
  wheel.arm(0, kOrigin + 5ms);
  wheel.arm(0, kOrigin + 500ms);
  EXPECT_EQ(wheel.armed_count(), 1u);
  EXPECT_EQ(fire_until(wheel, kOrigin + 499ms), Ids{});
  EXPECT_EQ(fire_until(wheel, kOrigin + 500ms), Ids{0});
}

TEST(TimerWheel, CancelledTimersDoNotFireAndCancellingIdleOnesIsHarmless) {
  TimerWheel wheel{2, kOrigin};
  wheel.arm(0, kOrigin + 5ms);
  wheel.arm(1, kOrigin + 5ms);
  wheel.cancel(0);
  wheel.cancel(0);
  EXPECT_EQ(fire_until(wheel, kOrigin + 1s), Ids{1});
}

TEST(TimerWheel, FiringMayCancelATimerOfTheSameTick) {
  TimerWheel wheel{2, kOrigin};
  wheel.arm(0, kOrigin + 5ms);
  wheel.arm(1, kOrigin + 5ms);
  int fired = 0;
  wheel.advance(kOrigin + 5ms, [&](uint32_t id) {
    ++fired;
    wheel.cancel(1 - id);
  });
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(wheel.armed_count(), 0u);
}

TEST(TimerWheel, FiringMayRearmItself) {
  TimerWheel wheel{1, kOrigin};
  wheel.arm(0, kOrigin + 10ms);
  int fired = 0;
  const auto every_10ms = [&](uint32_t id) {
    ++fired;
    wheel.arm(id, kOrigin + 10ms * (fired + 1));
  };
  wheel.advance(kOrigin + 35ms, every_10ms);
  EXPECT_EQ(fired, 3);
  wheel.advance(kOrigin + 40ms, every_10ms);
  EXPECT_EQ(fired, 4);
}

TEST(TimerWheel, ATimerThatRearmsItselfInThePastEndsWithTheAdvance) {
  TimerWheel wheel{1, kOrigin};
  wheel.arm(0, kOrigin);
  int fired = 0;
  wheel.advance(kOrigin + 20ms, [&](uint32_t id) {
    ++fired;
    wheel.arm(id, kOrigin);
  });
  EXPECT_EQ(fired, 20);  // once a tick
  EXPECT_TRUE(wheel.armed(0));
}

TEST(TimerWheel, TheEndOfTimeIsClampedAndNotDueSoon) {
  TimerWheel wheel{1, MonoTime{}};
  wheel.arm(0, MonoTime::max());
  EXPECT_TRUE(wheel.armed(0));
  EXPECT_EQ(fire_until(wheel, MonoTime{} + 10min), Ids{});
  EXPECT_TRUE(wheel.armed(0));
}

TEST(TimerWheel, FiresExactlyAcrossEveryLevelBoundary) {
  for (const uint64_t ticks : {1ULL, 255ULL, 256ULL, 257ULL, 511ULL, 512ULL, 65'535ULL, 65'536ULL, 65'537ULL,
                               131'072ULL, 16'777'215ULL, 16'777'216ULL, 16'777'217ULL, 33'554'433ULL}) {
    for (const uint64_t start : {0ULL, 1ULL, 255ULL, 65'535ULL}) {
      TimerWheel wheel{1, kOrigin};
      fire_until(wheel, kOrigin + 1ms * start);
      const MonoTime due = kOrigin + 1ms * (start + ticks);
      wheel.arm(0, due);
      ASSERT_EQ(fire_until(wheel, due - 1ms), Ids{}) << ticks << " from " << start;
      ASSERT_EQ(fire_until(wheel, due), Ids{0}) << ticks << " from " << start;
    }
  }
}

TEST(TimerWheel, NextEventIsNeverLateAndNeverBehind) {
  TimerWheel wheel{1, kOrigin};
  MonoTime now = kOrigin;
  wheel.arm(0, kOrigin + 100'000ms);
  int wakes = 0;
  while (wheel.armed(0)) {
    const MonoTime next = wheel.next_event();
    ASSERT_GT(next, now);
    ASSERT_LE(next, kOrigin + 100'000ms);
    now = next;
    fire_until(wheel, now);
    ++wakes;
  }
  EXPECT_EQ(now, kOrigin + 100'000ms);
  EXPECT_LE(wakes, 500);  // early only for cascades
}

/// What the wheel promises, done the slow way: a sorted map of ticks.
class NaiveTimers {
 public:
  void arm(uint32_t id, MonoTime at) {
    cancel(id);
    const auto late = at - kOrigin;
    const int64_t ticks = late <= 0ns ? 0 : (late.count() + 999'999) / 1'000'000;
    due_[id] = std::max(ticks, current_ + 1);
  }
  void cancel(uint32_t id) { due_.erase(id); }
  bool armed(uint32_t id) const { return due_.contains(id); }
  size_t size() const { return due_.size(); }
  MonoTime earliest() const {
    int64_t first = INT64_MAX;
    for (const auto& [id, tick] : due_) first = std::min(first, tick);
    return kOrigin + 1ms * first;
  }
  /// (tick, id) of what fires, ordered.
  std::vector<std::pair<int64_t, uint32_t>> advance(MonoTime now) {
    const int64_t target = (now - kOrigin) / 1ms;
    std::vector<std::pair<int64_t, uint32_t>> fired;
    for (const auto& [id, tick] : due_) {
      if (tick <= target) fired.emplace_back(tick, id);
    }
    std::sort(fired.begin(), fired.end());
    for (const auto& each : fired) due_.erase(each.second);
    current_ = std::max(current_, target);
    return fired;
  }

 private:
  std::map<uint32_t, int64_t> due_;
  int64_t current_ = 0;
};

TEST(TimerWheel, AgreesWithANaiveReferenceOverLongRandomTimes) {
  constexpr uint32_t kTimers = 60;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Rng rng{seed};
    TimerWheel wheel{kTimers, kOrigin};
    NaiveTimers naive;
    MonoTime now = kOrigin;
    // Deadlines and jumps from microseconds to hours: every level and its cascades.
    const auto span = [&](double longest) { return from_seconds(1e-6 * std::pow(longest / 1e-6, rng.uniform())); };
    for (int step = 0; step < 2'000; ++step) {
      const auto id = static_cast<uint32_t>(rng.below(kTimers));
      const double what = rng.uniform();
      if (what < 0.6) {
        const MonoTime at = rng.chance(0.05) ? now - span(100) : now + span(20'000);
        wheel.arm(id, at);
        naive.arm(id, at);
      } else if (what < 0.75) {
        wheel.cancel(id);
        naive.cancel(id);
      } else {
        if (naive.size() > 0) {
          ASSERT_LE(wheel.next_event(), naive.earliest());
        }
        now += span(rng.chance(0.02) ? 10'000 : 2);
        std::vector<std::pair<int64_t, uint32_t>> fired;
        const auto expected = naive.advance(now);
        size_t in_order = 0;
        wheel.advance(now, [&](uint32_t timer) {
          // Any order within a tick, ticks in order.
          ASSERT_LT(in_order, expected.size());
          fired.emplace_back(expected[in_order++].first, timer);
        });
        std::sort(fired.begin(), fired.end());
        ASSERT_EQ(fired, expected) << "seed " << seed << " step " << step;
      }
      ASSERT_EQ(wheel.armed(id), naive.armed(id));
      ASSERT_EQ(wheel.armed_count(), naive.size());
    }
  }
}

}  // namespace
}  // namespace twinstorm
