// A search for capacity from end to end: real runs, a rate, a record and a page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

using nlohmann::json;
using std::chrono::seconds;
using ::testing::HasSubstr;

const std::vector<std::string> kShort{"--set", "fleets[0].count=20",         "--set", "phases[connect].connect=100/s",
                                      "--set", "phases[steady].duration=2s", "--set", "canary=false",
                                      "--set", "slos=[rollout errors < 1%]"};

TEST(Capacity, OfAHubThatHoldsEverythingIsTheHighestRateTried) {
  TemporaryFolder folder;
  std::vector<std::string> words{TWINSTORM_BINARY, "capacity", "scenarios/smoke.yaml",  "--from", "60/s", "--to",
                                 "60/s",           "--out",    folder.path() / "search"};
  words.insert(words.end(), kShort.begin(), kShort.end());
  Process search{words};
  EXPECT_EQ(search.wait(seconds{120}), 0) << search.err() << search.out();
  EXPECT_THAT(search.out(), HasSubstr("60/s held in 2 of "));
  const auto record = json::parse(read_file(folder.path() / "search" / "capacity.json"), nullptr, false);
  ASSERT_TRUE(record.is_object());
  EXPECT_EQ(record["limit"], "range");
  EXPECT_NEAR(record["lower"]["perSecond"].get<double>(), 60, 0.001);
  EXPECT_GE(record["probes"].size(), 2);
  for (const auto& probe : record["probes"]) {
    EXPECT_NEAR(probe["deliveredPerSecond"].get<double>(), 60, 0.6) << probe.dump();
    EXPECT_TRUE(std::filesystem::exists(folder.path() / "search" / probe["run"].get<std::string>() / "report.html"));
  }
  EXPECT_THAT(read_file(folder.path() / "search" / "report.html"), HasSubstr("twinstorm/capacity/1"));
}

TEST(Capacity, NeedsAnOpenLoadAndSomethingToJudge) {
  TemporaryFolder folder;
  Process closed{{TWINSTORM_BINARY, "capacity", "scenarios/smoke.yaml", "--out", folder.path() / "a", "--set",
                  "phases[steady].load={rollout: {concurrency: 5}}"}};
  EXPECT_EQ(closed.wait(seconds{20}), 2);
  EXPECT_THAT(closed.err(), HasSubstr("open-model loads, and no recorded phase has one"));
  Process aimless{{TWINSTORM_BINARY, "capacity", "scenarios/smoke.yaml", "--out", folder.path() / "b", "--set",
                   "slos=[]", "--set", "invariants=[]"}};
  EXPECT_EQ(aimless.wait(seconds{20}), 2);
  EXPECT_THAT(aimless.err(), HasSubstr("no objectives and no invariants"));
}

}  // namespace
}  // namespace twinstorm::testing
