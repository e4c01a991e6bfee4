#include "sim/hub/query_lane.hpp"

#include <string>

#include <gtest/gtest.h>

namespace twinstorm::hub {
namespace {

class QueryLaneTest : public ::testing::Test {
 protected:
  /// Its name goes into the log when it begins, in lower case when it is dropped.
  void enter(char name) {
    lane.enter([this] { return !left; }, [this, name] { log += name; },
               [this, name] { log += static_cast<char>(name - 'A' + 'a'); });
  }
  void run() {
    while (!posted.empty()) {
      const auto next = std::move(posted.front());
      posted.pop_front();
      next();
    }
  }

  std::string log;
  bool left = false;
  std::deque<std::function<void()>> posted;
  QueryLane lane{[] { return size_t{2}; }, [this](std::function<void()> f) { posted.push_back(std::move(f)); }};
};

TEST_F(QueryLaneTest, BeginsAtOnceWhileThereAreFewAndLaterInOrder) {
  for (const char name : {'A', 'B', 'C', 'D', 'E'}) enter(name);
  EXPECT_EQ(log, "AB");
  lane.leave();
  EXPECT_EQ(log, "AB") << "in a later turn";
  run();
  EXPECT_EQ(log, "ABC");
  lane.leave();
  lane.leave();
  run();
  EXPECT_EQ(log, "ABCDE");
  EXPECT_EQ(lane.under_way(), 2u);
  EXPECT_EQ(lane.waiting(), 0u);
}

TEST_F(QueryLaneTest, DropsThoseWhoseClientHasLeftAndGivesThePlaceToTheNext) {
  for (const char name : {'A', 'B', 'C', 'D'}) enter(name);
  left = true;
  lane.enter({}, [this] { log += 'E'; }, {});
  lane.leave();
  run();
  EXPECT_EQ(log, "ABcdE");
  EXPECT_EQ(lane.under_way(), 2u);
}

TEST_F(QueryLaneTest, NobodyOvertakesAWaitingOneWhosePlaceIsFree) {
  for (const char name : {'A', 'B', 'C'}) enter(name);
  lane.leave();
  enter('D');
  run();
  EXPECT_EQ(log, "ABC");
  EXPECT_EQ(lane.waiting(), 1u);
}

TEST_F(QueryLaneTest, AQueryThatEndsWhileItBeginsLetsTheNextIn) {
  enter('A');
  enter('B');
  for (int i = 0; i < 1000; ++i) lane.enter({}, [this] { lane.leave(); }, {});
  lane.leave();
  run();
  EXPECT_EQ(lane.under_way(), 1u);
  EXPECT_EQ(lane.waiting(), 0u);
}

}  // namespace
}  // namespace twinstorm::hub
