// What the terminal and CI see of a fixed run, byte by byte. After an intended change:
//   TWINSTORM_UPDATE_GOLDEN=1 unit_report --gtest_filter='Golden.*'   and read the difference before committing it.
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "report/report.hpp"
#include "tests/unit/report/sample_run.hpp"

namespace twinstorm::report {
namespace {

void expect_golden(const std::string& name, const std::string& actual) {
  const std::string path = std::string{TWINSTORM_SOURCE_DIR} + "/tests/golden/report/" + name;
  if (std::getenv("TWINSTORM_UPDATE_GOLDEN") != nullptr) {
    std::ofstream{path, std::ios::binary} << actual;
    return;
  }
  std::ifstream file{path, std::ios::binary};
  ASSERT_TRUE(file) << "no " << path;
  std::ostringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(actual, expected.str()) << "differs from " << path;
}

const TextOptions kOptions{.color = false,
                           .width = 100,
                           .run_folder = "runs/rollout-20260301T080000Z",
                           .report_path = "runs/rollout-20260301T080000Z/report.html"};

TEST(Golden, TextOfAFailedRun) { expect_golden("failed.txt", render_text(testing::failed_run(), kOptions)); }
TEST(Golden, TextOfAPassedRun) { expect_golden("passed.txt", render_text(testing::passed_run(), kOptions)); }
TEST(Golden, JUnitOfAFailedRun) { expect_golden("failed.junit.xml", render_junit(testing::failed_run())); }

TEST(Golden, JUnitOfAnInvalidRun) {
  auto run = testing::passed_run();
  run.record.verdict = {metrics::VerdictStatus::invalid, metrics::exit_code::kInvalid, {"schedule lag p99 340 ms"}};
  run.record.validity = {{"scheduleLag", "schedule lag p99 was 340 ms, the limit is 100 ms: use more shards"}};
  expect_golden("invalid.junit.xml", render_junit(run));
}

}  // namespace
}  // namespace twinstorm::report
