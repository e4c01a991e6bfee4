// Every case of tests/vectors/query-cases.json and of our own query-cases-more.json, run against the engine the way a
// hub runs it: parsed once, evaluated shard by shard, read page by page. How results are compared is told by the file's
// own `comparison` member.
#include <algorithm>
#include <functional>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include "query_fixture.hpp"

namespace twinstorm::hub::query {
namespace {

struct Case {
  std::string id;
  Json json;
};
// Test runners make names of what is printed here.
void PrintTo(const Case& test, std::ostream* out) { *out << test.id; }

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* name : {"query-cases.json", "query-cases-more.json"}) {
    std::ifstream file{std::string{TWINSTORM_SOURCE_DIR "/tests/vectors/"} + name};
    const Json document = Json::parse(file);
    for (const Json& json : document["cases"]) cases.push_back({json["id"].get<std::string>(), json});
  }
  return cases;
}

class QueryCases : public testing::TestWithParam<Case> {
 protected:
  static const QueryFixture& fixture() {
    static const QueryFixture instance;
    return instance;
  }
};

std::vector<std::string> sorted(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  return texts;
}

std::vector<Json> sorted(std::vector<Json> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

/// The rows must be exactly those of `stored` whose id is among `ids`.
void expect_stored(const std::vector<Json>& rows, const Json& ids, const Json& stored,
                   const std::function<std::string(const Json&)>& id_of) {
  std::vector<std::string> found;
  for (const Json& row : rows) {
    found.push_back(id_of(row));
    const auto original =
        std::find_if(stored.begin(), stored.end(), [&](const Json& s) { return id_of(s) == id_of(row); });
    ASSERT_NE(original, stored.end());
    EXPECT_EQ(row, *original);
  }
  EXPECT_EQ(sorted(found), sorted(ids.get<std::vector<std::string>>()));
}

TEST_P(QueryCases, GiveTheExpectedRows) {
  const Json& test = GetParam().json;
  const Json& expect = test["expect"];
  const auto query = Query::parse(test["query"].get<std::string>());
  if (!expect.contains("status") || expect["status"] != 200) {
    ASSERT_FALSE(query) << test["query"];
    EXPECT_EQ(query.error().status, 400);
    EXPECT_EQ(query.error().name, "ArgumentInvalid");
    return;
  }
  ASSERT_TRUE(query) << query.error().message;
  EXPECT_EQ(to_string(query->item_type()), expect["itemType"].get<std::string>());
  const size_t page_size = test.value("pageSize", size_t{100});
  const Answer answer = fixture().run(*query, page_size);
  const Json& document = fixture().document();
  if (expect.contains("ids")) {
    expect_stored(answer.rows, expect["ids"], document["twins"],
                  [](const Json& row) { return row["deviceId"].get<std::string>(); });
  } else if (expect.contains("moduleIds")) {
    expect_stored(answer.rows, expect["moduleIds"], document["modules"], [](const Json& row) {
      return row["deviceId"].get<std::string>() + "/" + row["moduleId"].get<std::string>();
    });
  } else if (expect.contains("jobRows")) {
    expect_stored(answer.rows, expect["jobRows"], document["deviceJobs"], [](const Json& row) {
      return row["jobId"].get<std::string>() + "/" + row["deviceId"].get<std::string>();
    });
  } else if (expect.contains("rows")) {
    EXPECT_EQ(sorted(answer.rows), sorted(expect["rows"].get<std::vector<Json>>()));
  } else if (expect.contains("rowsSubsetOf")) {
    EXPECT_EQ(answer.rows.size(), expect["rowCount"].get<size_t>());
    auto rest = expect["rowsSubsetOf"].get<std::vector<Json>>();
    for (const Json& row : answer.rows) {
      const auto found = std::find(rest.begin(), rest.end(), row);
      ASSERT_NE(found, rest.end()) << row;
      rest.erase(found);
    }
  }
  if (expect.contains("paging")) {
    EXPECT_EQ(answer.rows.size(), expect["paging"]["totalRows"].get<size_t>());
    for (const size_t rows : answer.page_rows) EXPECT_LE(rows, expect["paging"]["maxRowsPerPage"].get<size_t>());
  }
}

// Whatever the page size, the pages together are the same rows in the same order.
TEST_P(QueryCases, GiveTheSameRowsInPagesOfTwo) {
  const auto query = Query::parse(GetParam().json["query"].get<std::string>());
  if (!query) return;
  const Answer whole = fixture().run(*query, 100);
  const Answer pages = fixture().run(*query, 2);
  EXPECT_EQ(pages.rows, whole.rows);
  EXPECT_EQ(pages.page_rows.size(), std::max<size_t>(1, (whole.rows.size() + 1) / 2)) << "no empty page at the end";
}

INSTANTIATE_TEST_SUITE_P(Vectors, QueryCases, testing::ValuesIn(all_cases()),
                         [](const auto& instance) { return instance.param.id; });

TEST(QueryCasesFile, IsReadWhole) { EXPECT_GT(all_cases().size(), 75U + 290U); }

}  // namespace
}  // namespace twinstorm::hub::query
