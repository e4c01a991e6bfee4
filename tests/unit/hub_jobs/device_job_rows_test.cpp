// Rows of `devices.jobs`: their JSON, and that a scan in slices finds what a look at all of them would.
#include "sim/hub/jobs/device_job_rows.hpp"

#include <algorithm>
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace twinstorm::hub::jobs {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

const WallTime kNow = *parse_iso8601("2026-03-01T10:00:00Z");

JobSpecPtr make_spec(std::string id, JobType type = JobType::device_method) {
  static uint64_t number = 0;
  JobSpec spec;
  spec.number = ++number;
  spec.id = std::move(id);
  spec.type = type;
  spec.created = kNow;
  spec.start = kNow + 1s;
  return std::make_shared<const JobSpec>(std::move(spec));
}

Json json_of(const DeviceJobPart& part, size_t row) {
  std::string text;
  twin::write(device_job_json(*part.spec, part.rows[row]), text);
  return Json::parse(text);
}

TEST(DeviceJobRow, ShowsHowFarItsDeviceIs) {
  DeviceJobRows rows;
  const auto part = rows.add(make_spec("j"), {"a", "b"});
  EXPECT_EQ(json_of(*part, 0),
            Json::parse(R"({"deviceId":"a","jobId":"j","jobType":"scheduleDeviceMethod","status":"pending",
                "startTimeUtc":"2026-03-01T10:00:01Z","createdDateTimeUtc":"2026-03-01T10:00:00Z",
                "lastUpdatedDateTimeUtc":"2026-03-01T10:00:01Z","outcome":null})"));
  part->rows[0].status = DeviceJobStatus::running;
  part->rows[0].started = part->rows[0].updated = kNow + 2s;
  EXPECT_EQ(json_of(*part, 0)["status"], "running");
  rows.finish(*part, part->rows[0], MethodAnswer{207, R"({"ok":[1,"ü"]})"}, kNow + 3s);
  EXPECT_EQ(json_of(*part, 0),
            Json::parse(R"({"deviceId":"a","jobId":"j","jobType":"scheduleDeviceMethod","status":"completed",
                "startTimeUtc":"2026-03-01T10:00:02Z","endTimeUtc":"2026-03-01T10:00:03Z",
                "createdDateTimeUtc":"2026-03-01T10:00:00Z","lastUpdatedDateTimeUtc":"2026-03-01T10:00:03Z",
                "outcome":{"deviceMethodResponse":{"status":207,"payload":{"ok":[1,"ü"]}}}})"));
  rows.finish(*part, part->rows[1], device_not_online(), kNow + 3s);
  const Json failed = json_of(*part, 1);
  EXPECT_EQ(failed["status"], "failed");
  EXPECT_EQ(failed["error"]["code"], "404103");
  EXPECT_THAT(failed["error"]["description"].get<std::string>(), ::testing::HasSubstr("isn't online"));
  EXPECT_FALSE(failed.contains("outcome"));
}

TEST(DeviceJobRow, OfAnUpdateHasAnOutcomeWithoutAResponse) {
  DeviceJobRows rows;
  const auto part = rows.add(make_spec("j", JobType::update_twin), {"a"});
  rows.finish(*part, part->rows[0], MethodAnswer{}, kNow);
  EXPECT_EQ(json_of(*part, 0)["outcome"], Json::parse(R"({"deviceMethodResponse":null})"));
  EXPECT_EQ(json_of(*part, 0)["jobType"], "scheduleUpdateTwin");
}

TEST(DeviceJobRows, KeepPayloadsUpToABudgetAndGiveItBack) {
  DeviceJobRows rows;
  const JobSpecPtr spec = make_spec("j");
  const size_t big = 128 * 1024;
  const size_t fit = DeviceJobRows::kPayloadBytesMax / big;
  std::vector<std::string> ids;
  for (size_t i = 0; i <= fit; ++i) ids.push_back(fmt::format("d{:05}", i));
  const auto part = rows.add(spec, ids);
  const std::string payload = "\"" + std::string(big - 2, 'x') + "\"";
  for (DeviceJobRow& row : part->rows) rows.finish(*part, row, MethodAnswer{200, payload}, kNow);
  EXPECT_EQ(rows.payload_bytes(), DeviceJobRows::kPayloadBytesMax);
  EXPECT_EQ(json_of(*part, 0)["outcome"]["deviceMethodResponse"]["payload"].get<std::string>().size(), big - 2);
  EXPECT_EQ(json_of(*part, fit)["outcome"]["deviceMethodResponse"], Json::parse(R"({"status":200,"payload":null})"));
  EXPECT_EQ(rows.size(), fit + 1);
  rows.forget(spec->number + 1);
  EXPECT_EQ(rows.size(), fit + 1);
  rows.forget(spec->number);
  EXPECT_EQ(rows.size(), 0u);
  EXPECT_EQ(rows.payload_bytes(), 0u);
}

/// Reads all pages; rows as `job/device`. `between` runs after every slice.
std::vector<std::string> read_all(
    const DeviceJobRows& rows, std::string_view text, size_t page_size, size_t slice,
    const std::function<void()>& between = [] {}) {
  const query::Query query = query::Query::parse(text).value();
  std::vector<std::string> all;
  query::Cursor cursor;
  while (true) {
    DeviceJobScan scan{query, cursor, page_size};
    while (!scan.step(rows, slice)) between();
    std::vector<query::Row> found = scan.take_rows();
    EXPECT_LE(found.size(), page_size + 1);
    const query::Page page = query::assemble_page(query, cursor, page_size, {found});
    for (size_t i = 0; i < page.rows; ++i) all.push_back(found[i].first + "/" + found[i].second);
    if (!page.next) return all;
    cursor = *page.next;
  }
}

class DeviceJobScanTest : public ::testing::Test {
 protected:
  DeviceJobScanTest() {
    std::vector<twin::Value> imported;
    for (const char* device : {"b", "a"}) {
      imported.push_back(
          twin::parse_value(fmt::format(R"({{"jobId":"job-1","deviceId":"{}","status":"completed"}})", device))
              .value());
    }
    imported.push_back(twin::parse_value(R"({"jobId":"zz","deviceId":"c","status":"failed"})").value());
    rows.import(std::move(imported));
    rows.add(make_spec("job-2"), {"a", "c", "d"});
    part = rows.add(make_spec("job-0"), {"a", "b"});
  }
  DeviceJobRows rows;
  std::shared_ptr<DeviceJobPart> part;
};

TEST_F(DeviceJobScanTest, FindsTheRowsInOrderWhateverThePageAndTheSlice) {
  const std::vector<std::string> all{"job-0/a", "job-0/b", "job-1/a", "job-1/b",
                                     "job-2/a", "job-2/c", "job-2/d", "zz/c"};
  for (size_t page = 1; page < 10; ++page) {
    for (size_t slice = 1; slice < 10; ++slice) {
      EXPECT_EQ(read_all(rows, "SELECT * FROM devices.jobs", page, slice), all) << page << " " << slice;
    }
  }
}

TEST_F(DeviceJobScanTest, LooksOnlyForTheDeviceThatTheConditionNames) {
  const char* query = "SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'a'";
  const std::vector<std::string> expected{"job-0/a", "job-1/a", "job-2/a"};
  for (size_t slice = 1; slice < 5; ++slice) EXPECT_EQ(read_all(rows, query, 1, slice), expected);
  EXPECT_TRUE(read_all(rows, "SELECT * FROM devices.jobs WHERE deviceId = 'nobody'", 5, 2).empty());
}

TEST_F(DeviceJobScanTest, ShortCutsSkipNothingThatMatches) {
  const auto found = [&](const std::string& where) {
    return read_all(rows, "SELECT * FROM devices.jobs WHERE " + where, 2, 1);
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(found("jobId = 'job-2'"), ElementsAre("job-2/a", "job-2/c", "job-2/d"));
  EXPECT_THAT(found("'job-1' = devices.jobs.jobId"), ElementsAre("job-1/a", "job-1/b"));
  EXPECT_THAT(found("jobId = 'job-2' AND deviceId = 'c'"), ElementsAre("job-2/c"));
  EXPECT_THAT(found("deviceId = 'c' AND (jobId = 'job-2' OR jobId = 'zz')"), ElementsAre("job-2/c", "zz/c"));
  EXPECT_THAT(found("jobId = 'job-2' AND jobId = 'job-0'"), ElementsAre());
  EXPECT_THAT(found("NOT jobId = 'job-2' AND deviceId != 'a'"), ElementsAre("job-0/b", "job-1/b", "zz/c"));
  EXPECT_THAT(found("deviceId = 'b' OR deviceId = 'c'"), ElementsAre("job-0/b", "job-1/b", "job-2/c", "zz/c"));
}

TEST_F(DeviceJobScanTest, HonoursWhereAndTop) {
  EXPECT_EQ(read_all(rows, "SELECT * FROM devices.jobs WHERE status = 'pending' AND jobId = 'job-2'", 2, 1).size(), 3u);
  EXPECT_EQ(read_all(rows, "SELECT TOP 3 * FROM devices.jobs", 2, 2).size(), 3u);
  EXPECT_TRUE(read_all(rows, "SELECT * FROM devices.jobs WHERE status = 'no'", 2, 2).empty());
}

TEST_F(DeviceJobScanTest, ChangesBetweenSlicesNeitherHideNorRepeatWhatStays) {
  std::mt19937 random{11};
  int next = 0;
  std::vector<JobSpecPtr> extra;
  const auto change = [&] {
    if (random() % 2 == 0 || extra.empty()) {
      extra.push_back(make_spec(fmt::format("job-{}x{}", random() % 4, next++)));
      rows.add(extra.back(), {"a", "q"});
    } else {
      rows.forget(extra.back()->number);
      extra.pop_back();
    }
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> found = read_all(rows, "SELECT * FROM devices.jobs", 3, 2, change);
    EXPECT_TRUE(std::is_sorted(found.begin(), found.end()));
    EXPECT_EQ(std::adjacent_find(found.begin(), found.end()), found.end());
    std::erase_if(found, [](const std::string& row) { return row.find('x') != std::string::npos; });
    EXPECT_EQ(found.size(), 8u);
  }
}

}  // namespace
}  // namespace twinstorm::hub::jobs
