#include "sim/hub/slice_queue.hpp"

#include <deque>
#include <string>

#include <gtest/gtest.h>

namespace twinstorm::hub {
namespace {

class SliceQueueTest : public ::testing::Test {
 protected:
  void turn() {
    ASSERT_FALSE(posted.empty());
    const auto next = std::move(posted.front());
    posted.pop_front();
    next();
  }

  ManualClock clock;
  std::deque<std::function<void()>> posted;
  SliceQueue queue{clock, [this](std::function<void()> f) { posted.push_back(std::move(f)); }};
};

TEST(Slice, EndsWhenItsTimeIsOver) {
  ManualClock clock;
  Slice slice{clock};
  size_t steps = 0;
  while (slice.step()) {
    ++steps;
    clock.advance(std::chrono::microseconds{10});
  }
  EXPECT_GE(steps, 100u);
  EXPECT_LE(steps, 100 + Slice::kStepsPerLook);
  EXPECT_FALSE(slice.step());
}

TEST(Slice, EndsWhereTheClockStandsStill) {
  ManualClock clock;
  Slice slice{clock};
  size_t steps = 0;
  while (slice.step()) ++steps;
  EXPECT_LE(steps, Slice::kStepsMax + Slice::kStepsPerLook);
}

TEST(Slice, AllowsItsFirstStepWhateverTheTime) {
  ManualClock clock;
  Slice slice{clock};
  clock.advance(std::chrono::seconds{1});
  EXPECT_TRUE(slice.step(1000));
  EXPECT_FALSE(slice.step(1000));
}

TEST_F(SliceQueueTest, SmallWorkEndsAtOnce) {
  bool done = false;
  queue.start([&](Slice&) { return done = true; });
  EXPECT_TRUE(done);
  EXPECT_TRUE(posted.empty());
}

TEST_F(SliceQueueTest, WorkTakesTurnsAndOneSliceATurn) {
  std::string log;
  const auto work = [&log](char name, int slices) {
    return [&log, name, slices](Slice&) mutable {
      log += name;
      return --slices == 0;
    };
  };
  queue.start(work('a', 3));
  queue.start(work('b', 2));
  queue.start(work('c', 1));
  EXPECT_EQ(log, "a");
  while (!posted.empty()) {
    const size_t before = log.size();
    ASSERT_EQ(posted.size(), 1u);
    turn();
    EXPECT_EQ(log.size(), before + 1);
  }
  EXPECT_EQ(log, "aabcab");
  EXPECT_EQ(queue.size(), 0u);
}

TEST_F(SliceQueueTest, AShortPieceOfWorkWaitsForOneSliceOfEachLongOne) {
  constexpr int kLong = 40;
  int slices = 0;
  for (int i = 0; i < kLong; ++i) {
    queue.start([&slices, left = 50](Slice&) mutable { return ++slices, --left == 0; });
  }
  int before = -1;
  queue.start([&](Slice&) { return before = slices, true; });
  while (before < 0) turn();
  EXPECT_EQ(before, 1 + kLong);
}

TEST_F(SliceQueueTest, WorkMayStartFurtherWork) {
  int inner = 0;
  queue.start([&](Slice&) { return ++inner == 2; });
  queue.start([&](Slice&) {
    queue.start([&](Slice&) { return ++inner > 3; });
    return true;
  });
  while (!posted.empty()) turn();
  EXPECT_EQ(inner, 4);
}

}  // namespace
}  // namespace twinstorm::hub
