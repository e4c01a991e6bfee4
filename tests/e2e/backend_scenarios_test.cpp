// The shipped scenarios of back ends, shortened: what each is for shows in its figures.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

using nlohmann::json;
using std::chrono::seconds;

/// The summary of a run that passed, null if it did not.
json run_shortened(const std::string& name, const std::vector<std::string>& overrides) {
  TemporaryFolder folder;
  std::vector<std::string> words{
      TWINSTORM_BINARY, "run", "scenarios/" + name + ".yaml", "--out", folder.path(), "--set", "slos=[]", "--quiet"};
  for (const auto& text : overrides) words.insert(words.end(), {"--set", text});
  Process run{words};
  EXPECT_EQ(run.wait(seconds{60}), 0) << run.err() << run.out();
  const auto text = read_file(folder.path() / "summary.json");
  const auto summary = json::parse(text, nullptr, false);
  EXPECT_TRUE(summary.is_object()) << text;
  if (!summary.is_object()) return {};
  EXPECT_TRUE(summary["ledger"]["holds"].get<bool>()) << summary["ledger"].dump();
  EXPECT_TRUE(summary["hub"]["matches"].get<bool>()) << summary["hub"].dump();
  return summary;
}

json throttled(const json& summary, const std::string& name) {
  for (const auto& row : summary["throttling"]["classes"]) {
    if (row["name"] == name) return row;
  }
  ADD_FAILURE() << name << " has no row: " << summary["throttling"].dump();
  return {};
}

TEST(BackendScenarios, AQueryStormMeasuresHowLateQueriesSeeWrites) {
  const auto summary = run_shortened(
      "query-storm", {"fleets[0].count=500", "hub.query.staleness={uniform: [200ms, 600ms]}",
                      "phases[quiet].duration=1s", "phases[storm].duration=3s", "phases[catch-up].duration=1s"});
  ASSERT_TRUE(summary.is_object());
  const auto& staleness = summary["queryStaleness"];
  EXPECT_GT(staleness["visible"], 10) << staleness.dump();
  EXPECT_EQ(staleness["notVisible"], 0);
  EXPECT_EQ(staleness["visible"], staleness["started"]);
  // Never earlier than the hub shows a write; later by the time between two looks and what a busy machine adds.
  EXPECT_GE(staleness["sinceAcknowledged"]["min"], 0.19);
  EXPECT_LE(staleness["sinceAcknowledged"]["p50"], 0.6);
  const auto& exports = summary["operations"]["query"]["streams"]["export"];
  EXPECT_GT(exports["acknowledged"], 0);
  EXPECT_EQ(exports["errorShare"], 0);
}

TEST(BackendScenarios, WritersWithETagsMeetEachOther) {
  const auto summary =
      run_shortened("etag-contention", {"phases[editors-only].duration=1s", "phases[contention].duration=3s"});
  ASSERT_TRUE(summary.is_object());
  const auto& streams = summary["operations"]["patchTags"]["streams"];
  EXPECT_GT(streams["editors"]["conflicts"], 0);
  EXPECT_GT(streams["editors"]["retries"], 0);
  EXPECT_GT(streams["cached"]["conflicts"], 0);
  EXPECT_GT(streams["cached"]["errors"]["preconditionFailed"], 0) << streams["cached"].dump();
  EXPECT_EQ(streams["ticker"]["errorShare"], 0);
}

TEST(BackendScenarios, JobsWaitForTheRateOfTheirTier) {
  const auto summary = run_shortened(
      "job-rollout", {"phases[connect].connect=600/s", "phases[methods].duration=1s", "phases[rollout].duration=2s",
                      "phases[rollout].load.self-test=2/s", "phases[rollout].load.assign-ring=0.5/s"});
  ASSERT_TRUE(summary.is_object());
  const auto& jobs = summary["operations"]["job"];
  EXPECT_EQ(jobs["acknowledged"], 5);
  EXPECT_EQ(jobs["asked"], 5);
  const auto row = throttled(summary, "jobDeviceOperations");
  EXPECT_EQ(row["refused"], 0);
  EXPECT_GT(row["shaped"], 0);
  // A device operation is done when its turn has come, however many answers of others arrive meanwhile: each waits for
  // one turn of 50 a second, and the job for all of them.
  EXPECT_LT(row["delayMax"], 0.1);
  EXPECT_GT(jobs["intended"]["max"], row["delaySum"].get<double>() / 2);
}

TEST(BackendScenarios, AnS1HubDelaysAndThenRefusesByClass) {
  const auto summary =
      run_shortened("throttled-s1", {"phases[within-limits].duration=1s", "phases[overload].duration=2s",
                                     "phases[overload].load.dashboard=30/s", "phases[overload].load.onboarding=80/s"});
  ASSERT_TRUE(summary.is_object());
  for (const char* name : {"identityRegistry", "queries"}) {
    const auto row = throttled(summary, name);
    EXPECT_GT(row["shaped"], 0) << row.dump();
    EXPECT_GT(row["refused"], 0) << row.dump();
    EXPECT_LE(row["delayMax"], 10.01) << row.dump();
  }
  const auto reads = throttled(summary, "twinReads");
  EXPECT_GT(reads["admitted"], 0);
  EXPECT_EQ(reads["refused"], 0);
  EXPECT_GT(summary["operations"]["query"]["errors"]["throttled"], 0);
}

}  // namespace
}  // namespace twinstorm::testing
