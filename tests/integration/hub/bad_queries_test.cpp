// Queries that are wrong, too much or meant to hurt, over HTTP: each is answered as documented, soon, and the hub goes
// on.
#include <chrono>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "raw_clients.hpp"

namespace twinstorm::hub::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string repeat(const std::string& part, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += part;
  return out;
}

class BadQueries : public ::testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(HubConfig config) {
    config.threads = 2;
    config.import_file = TWINSTORM_SOURCE_DIR "/tests/vectors/query-cases.json";
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
    back_end.emplace(hub->ports().http, hub->service_connection_string());
  }

  HttpReply post(const std::string& body, const std::string& headers = {}) {
    return back_end->request("POST", "/devices/query?api-version=2021-04-12", body, headers);
  }
  HttpReply ask(const std::string& query, const std::string& headers = {}) {
    return post(json{{"query", query}}.dump(), headers);
  }
  HttpReply where(const std::string& condition) { return ask("SELECT * FROM devices WHERE " + condition); }
  HttpReply page(const std::string& query, int size, const std::string& token = {}) {
    return ask(query, "x-ms-max-item-count: " + std::to_string(size) + "\r\n" +
                          (token.empty() ? "" : "x-ms-continuation: " + token + "\r\n"));
  }
  static void expect_refused(const HttpReply& reply, const std::string& message = {}) {
    EXPECT_EQ(reply.status, 400) << reply.body;
    EXPECT_EQ(reply.header("iothub-errorcode"), "ArgumentInvalid");
    EXPECT_EQ(reply.header("x-ms-continuation"), "");
    EXPECT_THAT(reply.json().value("Message", ""), HasSubstr("ErrorCode:ArgumentInvalid")) << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(message));
    EXPECT_LT(reply.body.size(), 1'000U);
  }

  std::unique_ptr<Hub> hub;
  std::optional<RawHttp> back_end;
};

TEST_F(BadQueries, TheLengthIsLimited) {
  const std::string start = "SELECT * FROM devices WHERE deviceId = '";
  const auto of_length = [&](size_t length) { return start + std::string(length - start.size() - 1, 'x') + "'"; };
  EXPECT_EQ(ask(of_length(8'192)).status, 200);
  expect_refused(ask(of_length(8'193)), "8193 characters");
  expect_refused(ask(of_length(1'000'000)));
}

TEST_F(BadQueries, NestingIsLimited) {
  EXPECT_EQ(where(repeat("(", 90) + "true" + repeat(")", 90)).status, 200);
  for (const std::string& condition :
       {repeat("(", 4'000) + "true" + repeat(")", 4'000), repeat("NOT ", 2'000) + "true",
        "0 = " + repeat("-", 8'000) + "1", "deviceId IN " + repeat("[", 8'000), repeat("STARTSWITH(", 700),
        repeat("(", 8'000), repeat("[[", 4'000), "ARRAY_CONTAINS(" + repeat("[ ", 3'000)}) {
    expect_refused(where(condition));
  }
  expect_refused(post(repeat("[", 100'000)));
}

TEST_F(BadQueries, AThousandOrsAndListsAreAnswered) {
  std::string ors = "tags.ring=1";
  while (ors.size() < 8'140) ors += " OR tags.ring=9";
  EXPECT_EQ(where(ors).json().size(), 3U);
  EXPECT_EQ(where("0" + repeat(" OR 0", 1'000) + " OR true").json().size(), 8U);
  EXPECT_EQ(where("tags.ring IN [1" + repeat(",9", 4'000) + "]").json().size(), 3U);
  expect_refused(where("true" + repeat(" OR true", 1'100)), "characters");
}

TEST_F(BadQueries, OddNumbersNeverBecomeResults) {
  for (const char* condition :
       {"1 / 0 = 1", "0 / 0 = 0", "tags.ring / 0 > 0", "tags.ring % 0 = 0", "NaN = NaN", "Infinity > 1",
        "1e308 * 10 > 0", "-1e308 * 10 < 0", "tags.ring = 99999999999999999999999999999", "NOT 1 / 0 = 1"}) {
    const auto reply = where(condition);
    EXPECT_EQ(reply.status, 200) << condition << reply.body;
    EXPECT_EQ(reply.body, "[]") << condition;
  }
  EXPECT_EQ(where("tags.ring < 99999999999999999999999999999").json().size(), 7U);
  for (const char* condition : {"tags.ring = 1e999", "tags.ring = 0xffffffffffffffffff", "tags.ring = 1.2.3",
                                "tags.ring = 1x", "tags.ring = 0x"}) {
    expect_refused(where(condition));
  }
  expect_refused(ask("SELECT TOP 99999999999999999999 * FROM devices"), "at most 2147483647");
  expect_refused(ask("SELECT TOP -1 * FROM devices"));
}

TEST_F(BadQueries, UnknownFunctionsAndOtherLanguagesAreRefused) {
  for (const char* condition : {"nonsense(1)", "STARTS_WITH(deviceId, 'a')", "CONTAINS(deviceId, 'a')", "COUNT() = 1",
                                "deviceId LIKE 'a%'", "1 = 1; DROP devices", "deviceId IN (SELECT *)"}) {
    expect_refused(where(condition));
  }
}

TEST_F(BadQueries, BodiesThatHoldNoQueryAreRefused) {
  for (const char* body : {"", "{}", "[]", "null", "\"SELECT * FROM devices\"", R"({"query":null})", R"({"query":5})",
                           R"({"query":["SELECT * FROM devices"]})", R"({"query":""})", R"({"query":"SELECT)",
                           R"({"Query":"SELECT * FROM devices"})", "{\"query\":\"SELECT \xff\"}",
                           R"({"query":"SELECT \ud800 FROM devices"})", R"({"query":"SELECT * FROM devices\u0000"})"}) {
    EXPECT_EQ(post(body).status, 400) << body;
  }
  EXPECT_EQ(post(R"({"query":"SELECT * FROM devices","more":1})").status, 200);
}

TEST_F(BadQueries, PageSizesAreFromOneToTenThousand) {
  const std::string query = "SELECT deviceId FROM devices";
  for (const char* size : {"0", "10001", "-1", "1.5", "ten", "4294967297", "99999999999999999999", "0x10", "1,2"}) {
    expect_refused(ask(query, std::string{"x-ms-max-item-count: "} + size + "\r\n"), "is not a number from 1 to 10000");
  }
  EXPECT_EQ(page(query, 1).json().size(), 1U);
  EXPECT_EQ(page(query, 10'000).json().size(), 8U);
}

TEST_F(BadQueries, TheMaximumPageCutsWhatIsAskedFor) {
  HubConfig config;
  config.query_page_default = 3;
  config.query_page_max = 5;
  start(std::move(config));
  const std::string query = "SELECT deviceId FROM devices";
  EXPECT_EQ(ask(query).json().size(), 3U);
  EXPECT_EQ(page(query, 5).json().size(), 5U);
  const auto cut = page(query, 10'000);
  EXPECT_EQ(cut.json().size(), 5U);
  EXPECT_EQ(page(query, 10'000, cut.header("x-ms-continuation")).json().size(), 3U);
  expect_refused(page(query, 10'001));
}

TEST_F(BadQueries, SizesAHubCannotHaveAreRefusedAtItsStart) {
  for (const auto& [usual, most] : {std::pair{0U, 10U}, {11U, 10U}, {1U, 0U}, {1'000U, 10'001U}}) {
    HubConfig config;
    config.query_page_default = usual;
    config.query_page_max = most;
    EXPECT_FALSE(Hub::start(std::move(config))) << usual << " " << most;
  }
}

TEST_F(BadQueries, TokensAreOpaqueAndRefusedWhenChanged) {
  const std::string query = "SELECT deviceId FROM devices";
  const std::string token = page(query, 3).header("x-ms-continuation");
  ASSERT_NE(token, "");
  EXPECT_EQ(page(query, 100, token).json().size(), 5U) << "another page size may go on with it";
  EXPECT_NE(page(query, 3).header("x-ms-continuation"), token) << "not even equal positions look alike";
  for (size_t i = 0; i < token.size(); i += 3) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    expect_refused(page(query, 3, changed), "not a token of this hub");
  }
  for (const std::string& bad : {std::string{"x"}, token + "A", token.substr(1), token + token, repeat("A", 6'000),
                                 std::string{"0000000000000000-3-6131-"}, std::string{"%00"}, std::string{"===="}}) {
    expect_refused(page(query, 3, bad), "not a token of this hub");
  }
  for (const char* other : {"SELECT deviceId FROM devices ", "select deviceId FROM devices", "SELECT * FROM devices",
                            "SELECT COUNT() FROM devices", "SELECT deviceId FROM devices.modules"}) {
    expect_refused(page(other, 3, token), "the token belongs to another query");
  }
  // A hub's tokens end with it.
  start({});
  expect_refused(page(query, 3, token), "not a token of this hub");
}

TEST_F(BadQueries, TokensStayRightUnderWrites) {
  const std::string query = "SELECT deviceId, tags.n AS n FROM devices WHERE NOT tags.gone";
  RawHttp owner{hub->ports().http, hub->owner_connection_string()};
  const auto put = [&owner](const std::string& id) {
    const auto made = owner.request("PUT", "/devices/" + id, json{{"deviceId", id}}.dump());
    ASSERT_EQ(made.status, 200) << made.body;
    const auto tagged = owner.request("PATCH", "/twins/" + id, R"({"tags":{"gone":false,"n":1}})", "If-Match: *\r\n");
    ASSERT_EQ(tagged.status, 200) << tagged.body;
  };
  const auto ids = [](const HttpReply& reply) {
    std::vector<std::string> all;
    for (const json& row : reply.json()) all.push_back(row["deviceId"]);
    return all;
  };
  for (const char* id : {"b", "d", "f", "h"}) put(id);
  const auto first = page(query, 2);
  EXPECT_EQ(ids(first), (std::vector<std::string>{"b", "d"}));
  // The row the token stands on goes, others come before and behind it, one ahead no longer matches.
  EXPECT_EQ(owner.request("DELETE", "/devices/d", {}, "If-Match: *\r\n").status, 204);
  for (const char* id : {"a", "c", "e", "g"}) put(id);
  owner.request("PATCH", "/twins/f", R"({"tags":{"gone":true}})", "If-Match: *\r\n");
  const auto second = page(query, 2, first.header("x-ms-continuation"));
  EXPECT_EQ(ids(second), (std::vector<std::string>{"e", "g"}));
  const auto third = page(query, 2, second.header("x-ms-continuation"));
  EXPECT_EQ(ids(third), (std::vector<std::string>{"h"}));
  EXPECT_EQ(third.header("x-ms-continuation"), "");
  // The same token twice gives the same page.
  EXPECT_EQ(ids(page(query, 2, first.header("x-ms-continuation"))), (std::vector<std::string>{"e", "g"}));
}

}  // namespace
}  // namespace twinstorm::hub::testing
