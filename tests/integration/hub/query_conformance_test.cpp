// Every case of the query conformance table and of our own further ones, imported and asked for over HTTP, with one
// shard and with several.
#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "raw_clients.hpp"

namespace twinstorm::hub::testing {
namespace {

using nlohmann::json;

const json& table() {
  static const json loaded = json::parse(std::ifstream{TWINSTORM_SOURCE_DIR "/tests/vectors/query-cases.json"});
  return loaded;
}

/// The shared cases, then ours.
const std::vector<json>& cases() {
  static const std::vector<json> all = [] {
    auto list = table()["cases"].get<std::vector<json>>();
    const json more = json::parse(std::ifstream{TWINSTORM_SOURCE_DIR "/tests/vectors/query-cases-more.json"});
    list.insert(list.end(), more["cases"].begin(), more["cases"].end());
    return list;
  }();
  return all;
}

const json& fixture(const json& list, const std::function<bool(const json&)>& wanted) {
  static const json none;
  const auto found = std::find_if(list.begin(), list.end(), wanted);
  return found == list.end() ? none : *found;
}

class QueryConformance : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override {
    HubConfig config;
    config.threads = GetParam();
    config.import_file = TWINSTORM_SOURCE_DIR "/tests/vectors/query-cases.json";
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
  }

  struct Rows {
    int status = 0;
    std::string item_type;
    std::string error_name;
    std::vector<json> rows;
    size_t largest_page = 0;
  };

  Rows ask(const json& test) {
    RawHttp back_end{hub->ports().http, hub->service_connection_string()};
    const std::string body = json{{"query", test["query"]}}.dump();
    Rows all;
    std::string token;
    do {
      std::string headers;
      if (test.contains("pageSize")) headers += "x-ms-max-item-count: " + test["pageSize"].dump() + "\r\n";
      if (!token.empty()) headers += "x-ms-continuation: " + token + "\r\n";
      const HttpReply page = back_end.request("POST", "/devices/query?api-version=2021-04-12", body, headers);
      all.status = page.status;
      all.item_type = page.header("x-ms-item-type");
      all.error_name = page.header("iothub-errorcode");
      if (page.status != 200) break;
      const json rows = page.json();
      all.largest_page = std::max(all.largest_page, rows.size());
      all.rows.insert(all.rows.end(), rows.begin(), rows.end());
      token = page.header("x-ms-continuation");
    } while (!token.empty());
    return all;
  }

  std::unique_ptr<Hub> hub;
};

INSTANTIATE_TEST_SUITE_P(Shards, QueryConformance, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

void sort_rows(std::vector<json>& rows) {
  std::sort(rows.begin(), rows.end(), [](const json& a, const json& b) { return a.dump() < b.dump(); });
}

TEST_P(QueryConformance, EveryCaseOfTheTable) {
  for (const json& test : cases()) {
    SCOPED_TRACE(test["id"].get<std::string>() + ": " + test["query"].get<std::string>().substr(0, 200));
    const json& expect = test["expect"];
    const Rows got = ask(test);
    if (expect.contains("statusIn")) {
      EXPECT_NE(std::find(expect["statusIn"].begin(), expect["statusIn"].end(), got.status), expect["statusIn"].end());
    } else {
      EXPECT_EQ(got.status, expect["status"].get<int>());
    }
    if (expect.contains("errorCodeHeader")) {
      EXPECT_EQ(got.error_name, expect["errorCodeHeader"].get<std::string>());
    }
    if (expect.contains("itemType")) {
      EXPECT_EQ(got.item_type, expect["itemType"].get<std::string>());
    }
    if (expect.contains("ids")) {
      std::vector<std::string> ids;
      for (const json& row : got.rows) {
        ids.push_back(row["deviceId"]);
        EXPECT_EQ(row,
                  fixture(table()["twins"], [&](const json& twin) { return twin["deviceId"] == row["deviceId"]; }));
      }
      EXPECT_TRUE(std::is_permutation(ids.begin(), ids.end(), expect["ids"].begin(), expect["ids"].end()));
    }
    if (expect.contains("rows")) {
      std::vector<json> rows = got.rows;
      std::vector<json> wanted = expect["rows"].get<std::vector<json>>();
      sort_rows(rows);
      sort_rows(wanted);
      EXPECT_EQ(rows.size(), wanted.size());
      EXPECT_EQ(json(rows), json(wanted));
    }
    if (expect.contains("moduleIds")) {
      EXPECT_EQ(got.rows.size(), expect["moduleIds"].size());
      for (const json& row : got.rows) {
        EXPECT_EQ(row, fixture(table()["modules"], [&](const json& twin) {
                    return twin["deviceId"] == row["deviceId"] && twin["moduleId"] == row["moduleId"];
                  }));
      }
    }
    if (expect.contains("jobRows")) {
      EXPECT_EQ(got.rows.size(), expect["jobRows"].size());
    }
    if (expect.contains("rowCount")) {
      EXPECT_EQ(got.rows.size(), expect["rowCount"].get<size_t>());
    }
    if (expect.contains("paging")) {
      EXPECT_LE(got.largest_page, expect["paging"]["maxRowsPerPage"].get<size_t>());
    }
  }
}

}  // namespace
}  // namespace twinstorm::hub::testing
