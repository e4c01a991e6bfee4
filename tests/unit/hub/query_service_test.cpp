#include "sim/hub/query_service.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/hub/policy/access_control.hpp"

namespace twinstorm::hub {
namespace {

/// More devices than one slice visits where the clock stands still.
constexpr int kDevices = 2 * static_cast<int>(Slice::kStepsMax) + 1000;

class QueryServiceTest : public ::testing::Test {
 protected:
  QueryServiceTest() {
    config.policies = with_keys(default_policies());
    access.emplace(*AccessControl::make(config));
    shared.config = &config;
    shared.access = &*access;
    shared.clock = &clock;
    shared.token_key = "key";
    shared.shards.push_back(std::make_unique<Shard>(ShardId{0}, shared));
  }
  Shard& shard() { return *shared.shards.front(); }
  DeviceStore& store() { return shard().store(); }

  static std::string id(int device) { return fmt::format("dev-{:06}", device); }
  DeviceRecord& add(const std::string& device) {
    DeviceRecord record;
    record.twin = twin::TwinDocument::fresh(device, "", clock.wall());
    return store().devices.insert(std::move(record));
  }
  void fill() {
    for (int i = 0; i < kDevices; ++i) add(id(i));
  }
  static ServiceCall query(std::string_view sql, std::optional<std::string> page = {}) {
    ServiceCall call;
    call.route = *protocol::parse_service_route("POST", "/devices/query?api-version=2021-04-12");
    call.max_item_count = std::move(page);
    call.body = fmt::format(R"({{"query":"{}"}})", sql);
    return call;
  }
  /// Starts a query; the answer comes with later turns.
  void start(ServiceCall call) {
    answer.reset();
    serve_query(std::move(call), shard(), [this](ServiceAnswer given) { answer = std::move(given); });
  }
  void turn() {
    shard().io().restart();
    shard().io().poll_one();
  }
  std::string finish() {
    for (int i = 0; i < 100 && !answer; ++i) turn();
    return answer ? answer->body : "no answer";
  }

  HubConfig config;
  std::optional<AccessControl> access;
  ManualClock clock;
  HubShared shared;
  std::optional<ServiceAnswer> answer;
};

TEST_F(QueryServiceTest, AScanOfAllTwinsTakesSeveralTurnsOfTheLoop) {
  fill();
  start(query("SELECT COUNT() AS n FROM devices"));
  EXPECT_FALSE(answer.has_value());
  EXPECT_EQ(shard().slices().size(), 1u);
  EXPECT_EQ(finish(), fmt::format(R"([{{"n":{}}}])", kDevices));
  EXPECT_EQ(shard().slices().size(), 0u);
}

TEST_F(QueryServiceTest, AFirstPageIsAnsweredAtOnceWhereItsRowsAreNear) {
  fill();
  start(query("SELECT deviceId FROM devices", "2"));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->body, R"([{"deviceId":"dev-000000"},{"deviceId":"dev-000001"}])");
  EXPECT_FALSE(answer->continuation.empty());
}

TEST_F(QueryServiceTest, TwinsThatStayAreCountedOnceWhileOthersComeAndGoBetweenTheSlices) {
  fill();
  for (int i = 0; i < kDevices; i += 2) store().devices.find(id(i))->twin.iot_edge = true;
  start(query("SELECT COUNT() AS n FROM devices WHERE capabilities.iotEdge = true"));
  // Every second one goes, among them the one the scan has come to; new ones come before and behind it.
  for (int round = 0; !answer && round < 100; ++round) {
    for (int i = 1; i < kDevices; i += 2) {
      if (round == 0) store().devices.erase(id(i));
    }
    for (int i = 0; i < 500; ++i) add(fmt::format("dev-{:06}-{}", (round * 977 + i * 61) % kDevices, 1000 * round + i));
    turn();
  }
  EXPECT_EQ(finish(), fmt::format(R"([{{"n":{}}}])", (kDevices + 1) / 2));
}

TEST_F(QueryServiceTest, AScanGoesOnWhereTheTwinItHasComeToIsGone) {
  fill();
  start(query("SELECT COUNT() AS n FROM devices"));
  for (int i = 0; i < kDevices - 10; ++i) store().devices.erase(id(i));
  const std::string expected = fmt::format(R"([{{"n":{}}}])", Slice::kStepsMax + 10);
  const std::string counted = finish();
  EXPECT_EQ(counted.substr(0, 8), expected.substr(0, 8)) << counted;
}

TEST_F(QueryServiceTest, SelectedKeysAreInTheOrderOfDevicesAndTheirModules) {
  for (const char* device : {"b", "a", "a-b"}) add(device);
  for (const auto& [device, module] : {std::pair{"a-b", "m"}, {"a", "z"}, {"a", "m"}}) {
    DeviceRecord record;
    record.twin = twin::TwinDocument::fresh(device, module, clock.wall());
    store().modules.insert(std::move(record));
  }
  KeysByShard keys;
  const auto take = [&keys](KeysByShard found) { keys = std::move(found); };
  select_twins(shard(), *query::Query::parse_condition("deviceId != 'b'"), take);
  EXPECT_EQ(keys, (KeysByShard{{"a", "a-b"}}));
  select_twins(shard(), *query::Query::parse_condition("FROM devices.modules WHERE moduleId != ''"), take);
  EXPECT_EQ(keys, (KeysByShard{{"a/m", "a/z", "a-b/m"}}));
}

TEST_F(QueryServiceTest, CountsTheRowsOfEveryKindOfQuery) {
  for (int i = 0; i < 30; ++i)
    twin::set_tags(add(id(i)).twin, *twin::parse_value(fmt::format(R"({{"ring":{}}})", i % 3)));
  const auto rows = [this](std::string_view sql) {
    uint64_t counted = 0;
    count_rows(shard(), *query::Query::parse(sql), [&counted](uint64_t found) { counted = found; });
    return counted;
  };
  EXPECT_EQ(rows("SELECT deviceId FROM devices WHERE tags.ring = 1"), 10u);
  EXPECT_EQ(rows("SELECT TOP 4 deviceId FROM devices"), 4u);
  EXPECT_EQ(rows("SELECT COUNT() AS n FROM devices"), 1u);
  EXPECT_EQ(rows("SELECT tags.ring, COUNT() AS n FROM devices GROUP BY tags.ring"), 3u);
  EXPECT_EQ(rows("SELECT * FROM devices.jobs"), 0u);
  EXPECT_EQ(rows("SELECT * FROM devices.modules"), 0u);
}

TEST_F(QueryServiceTest, OfManyLargePagesOnlySomeAreUnderWayAndASmallQueryPassesThem) {
  fill();
  constexpr size_t kQueries = 50;
  bool there = true;
  size_t answered = 0;
  size_t abandoned = 0;
  for (size_t i = 0; i < kQueries; ++i) {
    ServiceCall call = query("SELECT * FROM devices", "10000");
    call.wanted = [&there] { return there; };
    serve_query(std::move(call), shard(), [&](ServiceAnswer given) { ++(given.abandoned ? abandoned : answered); });
  }
  const QueryLane& lane = shard().query_lane(10'000);
  EXPECT_EQ(lane.under_way(), QueryLane::kLargeMax);
  EXPECT_EQ(shard().slices().size(), QueryLane::kLargeMax);
  start(query("SELECT deviceId FROM devices WHERE deviceId = 'dev-000001'"));
  for (size_t i = 0; i < 3 * QueryLane::kLargeMax && !answer; ++i) turn();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answered, 0u);

  there = false;
  for (size_t i = 0; i < 1000 && lane.under_way() > 0; ++i) turn();
  EXPECT_EQ(answered, QueryLane::kLargeMax) << "what has begun is for clients that may only have ended their sending";
  EXPECT_EQ(abandoned, kQueries - QueryLane::kLargeMax);
  EXPECT_EQ(shard().counts().read().queries_abandoned, abandoned);
  EXPECT_EQ(lane.under_way(), 0u);
  EXPECT_EQ(lane.waiting(), 0u);
}

TEST_F(QueryServiceTest, QueriesLagWhereLookUpsByIdDoToo) {
  store().lag_queries(Distribution::constant(std::chrono::seconds{5}), clock, 1);
  add("a");
  const auto ask = [this](std::string_view sql) {
    start(query(sql));
    return finish();
  };
  EXPECT_EQ(ask("SELECT deviceId FROM devices WHERE deviceId = 'a'"), "[]");
  EXPECT_EQ(ask("SELECT deviceId FROM devices"), "[]");
  EXPECT_EQ(ask("SELECT COUNT() AS n FROM devices"), R"([{"n":0}])");
  clock.advance(std::chrono::seconds{5});
  EXPECT_EQ(ask("SELECT deviceId FROM devices WHERE deviceId = 'a'"), R"([{"deviceId":"a"}])");
  EXPECT_EQ(ask("SELECT COUNT() AS n FROM devices"), R"([{"n":1}])");
}

TEST_F(QueryServiceTest, APageBehindALookUpByIdIsEmpty) {
  add("a");
  add("b");
  start(query("SELECT deviceId FROM devices WHERE deviceId = 'a'", "1"));
  EXPECT_EQ(finish(), R"([{"deviceId":"a"}])");
  EXPECT_TRUE(answer->continuation.empty());
}

}  // namespace
}  // namespace twinstorm::hub
