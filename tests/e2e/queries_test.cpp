// The shared conformance cases of the query language through our own client: `twinstorm twin query` against a
// `twinstorm hub --import`.
#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

class TwinQuery : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 500 && !fs::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    ASSERT_TRUE(fs::exists(ready)) << hub.err();
  }
  struct Outcome {
    int code;
    std::vector<json> rows;
    std::string err;
  };
  Outcome query(const std::string& sql, const Words& more) const {
    Words words{TWINSTORM_BINARY, "twin", "query", sql, "--ready-file", ready.string()};
    words.insert(words.end(), more.begin(), more.end());
    Process process{words};
    Outcome outcome{process.wait(), {}, process.err()};
    std::istringstream lines{process.out()};
    for (std::string line; std::getline(lines, line);) outcome.rows.push_back(json::parse(line));
    return outcome;
  }

  static constexpr const char* kVectors = TWINSTORM_SOURCE_DIR "/tests/vectors/query-cases.json";
  TemporaryFolder folder;
  fs::path ready = folder.path() / "hub.json";
  Process hub{Words{TWINSTORM_BINARY, "hub", "--mqtt-port", "off", "--mqtts-port", "off", "--http-port", "0",
                    "--https-port", "off", "--import", kVectors, "--query-page-max", "100", "--ready-file",
                    ready.string(), "--quiet"}};
};

std::vector<json> sorted(std::vector<json> values) {
  std::sort(values.begin(), values.end());
  return values;
}

/// The rows are those of `stored` that `ids` names.
void expect_stored(const std::vector<json>& rows, const json& ids, const json& stored,
                   const std::vector<const char*>& key) {
  const auto id_of = [&key](const json& row) {
    std::string id;
    for (const char* part : key) id += (id.empty() ? "" : "/") + row[part].get<std::string>();
    return id;
  };
  std::vector<json> wanted;
  for (const json& each : stored) {
    if (std::find(ids.begin(), ids.end(), id_of(each)) != ids.end()) wanted.push_back(each);
  }
  EXPECT_EQ(sorted(rows), sorted(wanted));
}

TEST_F(TwinQuery, AnswersEverySharedCase) {
  const json table = json::parse(std::ifstream{kVectors});
  size_t done = 0;
  for (const json& test : table["cases"]) {
    const auto sql = test["query"].get<std::string>();
    SCOPED_TRACE(test["id"].get<std::string>() + ": " + sql.substr(0, 200));
    const json& expect = test["expect"];
    const std::string size = test.contains("pageSize") ? test["pageSize"].dump() : "3";
    const Outcome got = query(sql, {"--all", "--page-size", size});
    ++done;
    if (expect.value("status", 400) != 200) {
      EXPECT_EQ(got.code, 3);
      EXPECT_NE(got.err.find("400"), std::string::npos) << got.err;
      EXPECT_TRUE(got.rows.empty());
      continue;
    }
    EXPECT_EQ(got.code, 0) << got.err;
    if (expect.contains("ids")) expect_stored(got.rows, expect["ids"], table["twins"], {"deviceId"});
    if (expect.contains("moduleIds")) {
      expect_stored(got.rows, expect["moduleIds"], table["modules"], {"deviceId", "moduleId"});
    }
    if (expect.contains("jobRows")) {
      expect_stored(got.rows, expect["jobRows"], table["deviceJobs"], {"jobId", "deviceId"});
    }
    if (expect.contains("rows")) {
      EXPECT_EQ(sorted(got.rows), sorted(expect["rows"].get<std::vector<json>>()));
    }
    if (expect.contains("rowCount")) {
      EXPECT_EQ(got.rows.size(), expect["rowCount"].get<size_t>());
    }
  }
  EXPECT_EQ(done, 75U);
}

TEST_F(TwinQuery, PrintsOnePageUnlessAskedForAll) {
  EXPECT_EQ(query("SELECT * FROM devices", {"--page-size", "3"}).rows.size(), 3U);
  EXPECT_EQ(query("SELECT * FROM devices", {"--page-size", "3", "--all"}).rows.size(), 8U);
}

TEST(HubPageSizes, AreCheckedOnTheCommandLine) {
  for (const Words& words : {Words{"--query-page-max", "0"},
                             {"--query-page-max", "10001"},
                             {"--query-page-default", "0"},
                             {"--query-page-default", "200", "--query-page-max", "100"}}) {
    Words all{TWINSTORM_BINARY, "hub", "--mqtt-port",  "off", "--mqtts-port", "off",
              "--http-port",    "0",   "--https-port", "off"};
    all.insert(all.end(), words.begin(), words.end());
    Process process{all};
    EXPECT_NE(process.wait(), 0) << words.back();
    EXPECT_NE(process.err(), "");
  }
}

}  // namespace
}  // namespace twinstorm::testing
