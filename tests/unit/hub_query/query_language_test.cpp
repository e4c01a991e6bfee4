#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "query_fixture.hpp"

namespace twinstorm::hub::query {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

twin::TwinDocument sample() {
  const auto json = twin::parse_value(R"({"deviceId":"d1","etag":"AAAAAAAAAAM=","status":"disabled","version":7,
    "lastActivityTime":"2026-03-01T08:00:00.5Z","cloudToDeviceMessageCount":3,"capabilities":{"iotEdge":true},
    "x509Thumbprint":{"primaryThumbprint":"2DB2","secondaryThumbprint":null},"modelId":"",
    "parentScopes":["up-1","up-2"],"configurations":{"fw-1":{"status":"Applied"}},
    "tags":{"ring":2,"ratio":2.50,"name":"O'Brien","on":true,"off":false,"list":[1,"a",true],"o":{"Deep":"x"}},
    "properties":{"desired":{"a":{"b":1},"$version":4,
       "$metadata":{"$lastUpdated":"2026-02-20T10:00:00Z","$lastUpdatedVersion":4,
          "a":{"$lastUpdated":"2026-02-19T10:00:00Z","$lastUpdatedVersion":3}}},
     "reported":{"x":1e2,"$version":5,"$metadata":{"$lastUpdated":"2026-02-21T10:00:00Z"}}}})");
  return twin::TwinDocument::from_json(json.value()).value();
}

bool holds(const std::string& condition) {
  const auto query = Query::parse("SELECT * FROM devices WHERE " + condition);
  EXPECT_TRUE(query) << condition << ": " << (query ? "" : query.error().message);
  return query && query->matches(sample());
}

/// `yes`, `no`, or `undefined` when neither the condition nor its negation lets the row through.
std::string truth(const std::string& condition) {
  const bool yes = holds(condition);
  const bool no = holds("NOT (" + condition + ")");
  EXPECT_FALSE(yes && no) << condition;
  return yes ? "yes" : no ? "no" : "undefined";
}

std::string error_of(const std::string& text) {
  const auto query = Query::parse(text);
  EXPECT_FALSE(query) << text;
  if (query) return {};
  EXPECT_EQ(query.error().status, 400);
  EXPECT_EQ(query.error().error_code, 400'004);
  EXPECT_EQ(query.error().name, "ArgumentInvalid");
  EXPECT_EQ(query.error().message.find(';'), std::string::npos) << "SDKs cut the message there";
  return query.error().message;
}

std::string projected(const std::string& columns) {
  const auto query = Query::parse("SELECT " + columns + " FROM devices");
  EXPECT_TRUE(query) << columns << ": " << (query ? "" : query.error().message);
  std::string out;
  if (query) query->write_row(sample(), out);
  return out;
}

TEST(QueryLanguage, EvaluatesConditions) {
  const std::vector<std::pair<const char*, const char*>> table{
      // literals and types
      {"tags.ring = 2", "yes"},
      {"tags.ring = 2.0", "yes"},
      {"tags.ring = 0x2", "yes"},
      {"tags.ratio = 2.5", "yes"},
      {"tags.ratio = 25e-1", "yes"},
      {"properties.reported.x = 100", "yes"},
      {"tags.ring > -1", "yes"},
      {"tags.ring = - -2", "yes"},
      {"tags.name = 'O\\'Brien'", "yes"},
      {"tags.name = \"O'Brien\"", "yes"},
      {"tags.name = 'O\\u0027Brien'", "yes"},
      {"'\\uD83D\\uDE00' = '\\ud83d\\ude00'", "yes"},
      {"tags.name < 'P'", "yes"},
      {"tags.name < 'o'", "yes"},
      {"tags.on", "yes"},
      {"tags.off", "no"},
      {"tags.on = true", "yes"},
      {"tags.off != TRUE", "yes"},
      {"true > false", "yes"},
      {"null = null", "yes"},
      {"null != null", "no"},
      // undefined operands and mixed types
      {"tags.none = 1", "undefined"},
      {"tags.none != 1", "undefined"},
      {"tags.none IN [1]", "undefined"},
      {"tags.none NIN [1]", "undefined"},
      {"tags.ring = '2'", "undefined"},
      {"tags.ring != '2'", "undefined"},
      {"tags.ring = null", "undefined"},
      {"tags.o = 1", "undefined"},
      {"tags.o = tags.o", "undefined"},
      {"tags.list = tags.list", "undefined"},
      {"undefined = undefined", "undefined"},
      {"tags.name", "undefined"},
      {"'true'", "undefined"},
      {"1", "undefined"},
      {"tags.o", "undefined"},
      // three-valued logic
      {"tags.none = 1 OR tags.ring = 2", "yes"},
      {"tags.none = 1 OR tags.ring = 3", "undefined"},
      {"tags.none = 1 AND tags.ring = 3", "no"},
      {"tags.none = 1 AND tags.ring = 2", "undefined"},
      {"NOT tags.none = 1", "undefined"},
      // precedence: NOT before AND before OR, * before +, all before comparisons
      {"tags.on OR tags.off AND tags.off", "yes"},
      {"(tags.on OR tags.off) AND tags.off", "no"},
      {"NOT tags.off AND tags.off", "no"},
      {"NOT tags.ring = 3", "yes"},
      {"NOT NOT tags.on", "yes"},
      {"tags.ring + 2 * 3 = 8", "yes"},
      {"(tags.ring + 2) * 3 = 12", "yes"},
      {"10 - 4 - 3 = 3", "yes"},
      {"100 / 10 / 5 = 2", "yes"},
      {"7 % 4 * 2 = 6", "yes"},
      {"-tags.ring + 5 = 3", "yes"},
      {"tags.ring -1 = 1", "yes"},
      {"(tags.ring = 2) = true", "yes"},
      {"tags.ring / 0 = 1", "undefined"},
      {"tags.ring % 0 = 1", "undefined"},
      {"tags.name + 1 = 2", "undefined"},
      // IN
      {"tags.ring IN [1, 2]", "yes"},
      {"tags.ring in [2]", "yes"},
      {"tags.ring IN [1, -2]", "no"},
      {"tags.ring IN [1, '2']", "undefined"},
      {"tags.ring NIN [1, 3]", "yes"},
      {"tags.ring nin [1, 2]", "no"},
      {"tags.ring + 1 IN [3]", "yes"},
      // functions
      {"is_defined(tags.o)", "yes"},
      {"IS_DEFINED(tags.o.Deep)", "yes"},
      {"Is_Defined(tags.o.deep)", "no"},
      {"IS_DEFINED(undefinedMember)", "no"},
      {"IS_DEFINED(moduleId)", "no"},
      {"IS_DEFINED(statusReason)", "no"},
      {"IS_DEFINED(deviceScope)", "no"},
      {"IS_DEFINED(modelId)", "yes"},
      {"IS_DEFINED(properties.desired)", "yes"},
      {"startswith(deviceId, 'd')", "yes"},
      {"STARTSWITH(deviceId, 'x')", "no"},
      {"STARTSWITH(tags.none, 'x')", "undefined"},
      {"STARTSWITH(tags.ring, '2')", "undefined"},
      {"ARRAY_CONTAINS(parentScopes, 'up-2')", "yes"},
      {"ARRAY_CONTAINS(parentScopes, 'up-3')", "no"},
      {"ARRAY_CONTAINS(tags.list, true)", "yes"},
      {"ARRAY_CONTAINS(tags.list, '1')", "no"},
      {"ARRAY_CONTAINS([1, 2], tags.ring)", "yes"},
      {"ARRAY_CONTAINS(tags.ring, 2)", "undefined"},
      // system members, whatever their case; own keys with their case
      {"DEVICEID = 'd1'", "yes"},
      {"devices.deviceId = 'd1'", "yes"},
      {"Devices.DeviceId = 'd1'", "yes"},
      {"Tags.ring = 2", "yes"},
      {"tags.Ring = 2", "undefined"},
      {"Properties.Reported.x = 100", "yes"},
      {"Properties.Reported.X = 100", "undefined"},
      {"status = 'disabled'", "yes"},
      {"status = 'Disabled'", "no"},
      {"etag = 'AAAAAAAAAAM='", "yes"},
      {"version = 7", "yes"},
      {"cloudToDeviceMessageCount >= 3", "yes"},
      {"lastActivityTime > '2026-03-01'", "yes"},
      {"lastActivityTime = '2026-03-01T08:00:00.5Z'", "yes"},
      {"statusUpdateTime = '0001-01-01T00:00:00Z'", "yes"},
      {"connectionState = 'Disconnected'", "yes"},
      {"authenticationType = 'sas'", "yes"},
      {"capabilities.iotEdge", "yes"},
      {"x509Thumbprint.primaryThumbprint = '2DB2'", "yes"},
      {"x509Thumbprint.secondaryThumbprint = null", "yes"},
      {"configurations.[[fw-1]].status = 'Applied'", "yes"},
      {"deviceId.x = 1", "undefined"},
      {"properties.desired.$version = 4", "yes"},
      {"properties.desired.$metadata.$lastUpdated = '2026-02-20T10:00:00Z'", "yes"},
      {"properties.desired.$metadata.a.$lastUpdated = '2026-02-19T10:00:00Z'", "yes"},
      {"properties.desired.$metadata.a.b.$lastUpdatedVersion = 3", "yes"},
      {"properties.desired.$metadata.z.$lastUpdated = 'x'", "undefined"},
      {"IS_DEFINED(properties.reported.$metadata.$lastUpdatedVersion)", "no"},
      {"IS_DEFINED(properties.reported.$metadata.x)", "yes"},
      {"[[tags]].[[ring]] = 2", "yes"},
  };
  for (const auto& [condition, expected] : table) EXPECT_EQ(truth(condition), expected) << condition;
}

TEST(QueryLanguage, ProjectsColumns) {
  EXPECT_EQ(projected("DEVICEID"), R"({"deviceId":"d1"})");
  EXPECT_EQ(projected("deviceId AS id, tags.ring"), R"({"id":"d1","ring":2})");
  EXPECT_EQ(projected("tags.none, deviceId, moduleId"), R"({"deviceId":"d1"})") << "undefined members are left out";
  EXPECT_EQ(projected("tags.none"), "{}");
  EXPECT_EQ(projected("tags.ratio, properties.reported.x"), R"({"ratio":2.50,"x":1e2})") << "literals are kept";
  EXPECT_EQ(projected("tags.list, tags.o"), R"({"list":[1,"a",true],"o":{"Deep":"x"}})");
  EXPECT_EQ(projected("capabilities, capabilities.IOTEDGE"), R"({"capabilities":{"iotEdge":true},"iotEdge":true})");
  EXPECT_EQ(projected("properties.reported"),
            R"({"reported":{"x":1e2,"$metadata":{"$lastUpdated":"2026-02-21T10:00:00Z",)"
            R"("x":{"$lastUpdated":"2026-02-21T10:00:00Z"}},"$version":5}})");
  EXPECT_THAT(projected("Properties"), StartsWith(R"({"properties":{"desired":{"a":{"b":1},"$metadata":)"));
  EXPECT_EQ(projected("properties.desired.$version, version"), R"({"$version":4,"version":7})");
  EXPECT_EQ(projected("properties.desired.$metadata.a AS m"),
            R"({"m":{"$lastUpdated":"2026-02-19T10:00:00Z","$lastUpdatedVersion":3,)"
            R"("b":{"$lastUpdated":"2026-02-19T10:00:00Z","$lastUpdatedVersion":3}}})");
  EXPECT_EQ(projected("x509Thumbprint, x509Thumbprint.SecondaryThumbprint"),
            R"({"x509Thumbprint":{"primaryThumbprint":"2DB2","secondaryThumbprint":null},"secondaryThumbprint":null})");
  EXPECT_EQ(projected("lastActivityTime, etag, cloudToDeviceMessageCount, parentScopes"),
            R"({"lastActivityTime":"2026-03-01T08:00:00.5Z","etag":"AAAAAAAAAAM=","cloudToDeviceMessageCount":3,)"
            R"("parentScopes":["up-1","up-2"]})");
  EXPECT_EQ(projected("configurations.[[fw-1]].status"), R"({"status":"Applied"})");
}

TEST(QueryLanguage, RefusesWhatIsNotInTheLanguage) {
  const std::vector<std::pair<std::string, const char*>> table{
      {"", "expected SELECT, found the end at character 1"},
      {"SELEC nonsense", "expected SELECT, found 'SELEC' at character 1"},
      {"SELECT", "expected a name, found the end at character 7"},
      {"SELECT * devices", "expected FROM, found 'devices' at character 10"},
      {"SELECT * FROM c", "expected devices, devices.modules or devices.jobs, found 'c'"},
      {"SELECT * FROM devices.things", "expected modules or jobs, found 'things'"},
      {"SELECT * FROM devices d", "expected the end of the query, found 'd'"},
      {"SELECT * FROM devices WHERE", "expected a name, found the end at character 28"},
      {"SELECT * FROM devices ORDER BY deviceId", "expected the end of the query, found 'ORDER'"},
      {"SELECT * FROM devices JOIN devices.modules", "expected the end of the query, found 'JOIN'"},
      {"SELECT DISTINCT deviceId FROM devices", "expected FROM, found 'deviceId'"},
      {"SELECT *, deviceId FROM devices", "expected FROM, found ','"},
      {"SELECT TOP deviceId FROM devices", "expected a whole number, at most 2147483647, after TOP"},
      {"SELECT TOP 1.5 * FROM devices", "expected a whole number, at most 2147483647, after TOP"},
      {"SELECT * FROM devices WHERE tags.group.name = 'a'", "a reserved word needs [[ ]] to be a name, found 'group'"},
      {"SELECT deviceId AS select FROM devices", "a reserved word needs [[ ]] to be a name, found 'select'"},
      {"SELECT * FROM devices WHERE STARTS_WITH(deviceId, 'a')",
       "expected one of the functions IS_DEFINED, STARTSWITH, ARRAY_CONTAINS, found 'STARTS_WITH'"},
      {"SELECT * FROM devices WHERE CONTAINS(deviceId, 'a')", "expected one of the functions"},
      {"SELECT * FROM devices WHERE IS_DEFINED('a')", "expected a name"},
      {"SELECT * FROM devices WHERE IS_DEFINED()", "expected a name"},
      {"SELECT * FROM devices WHERE STARTSWITH(deviceId)", "expected ,"},
      {"SELECT * FROM devices WHERE deviceId IN ('a')", "expected an array in [ ]"},
      {"SELECT * FROM devices WHERE deviceId IN []", "expected a constant"},
      {"SELECT * FROM devices WHERE deviceId IN [tags.a]", "expected a constant"},
      {"SELECT * FROM devices WHERE deviceId IN ['a',]", "expected a constant"},
      {"SELECT * FROM devices WHERE a = b = c", "expected the end of the query, found '='"},
      {"SELECT * FROM devices WHERE a LIKE 'x'", "expected the end of the query, found 'LIKE'"},
      {"SELECT * FROM devices WHERE (a = 1", "expected ), found the end"},
      {"SELECT * FROM devices WHERE a == 1", "expected a name, found '='"},
      {"SELECT * FROM devices WHERE a = 'x", "a string without its closing quote at character 33"},
      {"SELECT * FROM devices WHERE a = 'x\\", "an escape other than"},
      {"SELECT * FROM devices WHERE a = 'x\\n'", "an escape other than"},
      {"SELECT * FROM devices WHERE a = '\\u12'", "an escape other than"},
      {"SELECT * FROM devices WHERE a = '\\ud800'", "half a surrogate pair"},
      {"SELECT * FROM devices WHERE a = 1x", "a number followed directly by a name"},
      {"SELECT * FROM devices WHERE a = 0x", "a number that cannot be read"},
      {"SELECT * FROM devices WHERE a = 0xfffffffffffffffff", "a number that cannot be read"},
      {"SELECT * FROM devices WHERE a = 1e999", "a number that cannot be read"},
      {"SELECT * FROM devices WHERE a = #", "a character that is not part of the language at character 33"},
      {"SELECT * FROM devices WHERE a = 'é' ;", "a character that is not part of the language at character 37"},
      {"SELECT * FROM devices WHERE tags.[[a = 1", "a [[name]] without its closing brackets"},
      {"SELECT * FROM devices WHERE tags.[[]] = 1", "an empty [[name]]"},
      {"SELECT * FROM devices WHERE tags. = 1", "expected a name, found '='"},
      {"SELECT * FROM devices GROUP BY status", "GROUP BY needs columns instead of *"},
      {"SELECT status, COUNT() FROM devices", "a column beside aggregates must be the path of GROUP BY"},
      {"SELECT deviceId FROM devices GROUP BY status", "a column beside aggregates must be the path of GROUP BY"},
      {"SELECT COUNT(deviceId) FROM devices", "expected ), found 'deviceId'"},
      {"SELECT AVG() FROM devices", "expected a name, found ')'"},
      {"SELECT COUNT() AS n FROM devices.modules", "aggregates and GROUP BY need FROM devices"},
      {"SELECT moduleId FROM devices.modules GROUP BY moduleId", "aggregates and GROUP BY need FROM devices"},
      {"SELECT jobId FROM devices.jobs", "devices.jobs can only be read with SELECT *"},
      {"SELECT tags.a.x, tags.b.x FROM devices", "two columns have the same name"},
      {"SELECT * FROM devices GROUP BY", "expected a name, found the end"},
  };
  for (const auto& [text, message] : table) EXPECT_THAT(error_of(text), HasSubstr(message)) << text;
}

TEST(QueryLanguage, BoundsItsInput) {
  const std::string start = "SELECT * FROM devices WHERE deviceId = '";
  const auto of_length = [&](size_t length) { return start + std::string(length - start.size() - 1, 'x') + "'"; };
  EXPECT_TRUE(Query::parse(of_length(8192)));
  EXPECT_EQ(error_of(of_length(8193)), "query: 8193 characters long, at most 8192 are allowed");
  // Characters, not bytes.
  std::string wide = start;
  while (wide.size() < 8300) wide += "é";
  EXPECT_TRUE(Query::parse(wide + "'"));

  const auto nested = [](const std::string& open, const std::string& inner, const std::string& close, int levels) {
    std::string text = "SELECT * FROM devices WHERE ";
    for (int i = 0; i < levels; ++i) text += open;
    text += inner;
    for (int i = 0; i < levels; ++i) text += close;
    return text;
  };
  EXPECT_TRUE(Query::parse(nested("(", "true", ")", 99)));
  EXPECT_THAT(error_of(nested("(", "true", ")", 100)), HasSubstr("nested deeper than 100 levels"));
  EXPECT_THAT(error_of(nested("(", "true", ")", 4000)), HasSubstr("nested deeper than 100 levels"));
  EXPECT_THAT(error_of(nested("NOT ", "true", "", 2000)), HasSubstr("nested deeper than 100 levels"));
  EXPECT_THAT(error_of(nested("-", "1", "", 8000)), HasSubstr("nested deeper than 100 levels"));
  EXPECT_THAT(error_of(nested("STARTSWITH(", "true", ")", 400)), HasSubstr("nested deeper than 100 levels"));
  EXPECT_THAT(error_of("SELECT * FROM devices WHERE a IN " + std::string(8000, '[')), HasSubstr("nested deeper"));
  // Long chains are not nested: they evaluate without recursion.
  std::string chain = "tags.ring = 1";
  while (chain.size() < 8000) chain += " OR tags.ring = 1";
  EXPECT_FALSE(holds(chain));
  std::string sum = "0";
  while (sum.size() < 8000) sum += "+1";
  EXPECT_TRUE(holds(sum + " > 3000"));
}

TEST(QueryLanguage, ErrorsShowOnlyPlainCharacters) {
  EXPECT_THAT(error_of("SELECT * FROM devices 'a;\n\xc3\xa9'"), HasSubstr("found '?a????"
                                                                          "?'"));
}

TEST(QueryLanguage, ConditionsStandAlone) {
  const twin::TwinDocument twin = sample();
  for (const char* all : {"*", " * "}) EXPECT_TRUE(Query::parse_condition(all)->matches(twin));
  EXPECT_TRUE(Query::parse_condition("deviceId IN ['d1']")->matches(twin));
  EXPECT_FALSE(Query::parse_condition("tags.ring = 3")->matches(twin));
  EXPECT_EQ(Query::parse_condition("from devices.modules where moduleId = 'm'")->source(), Source::modules);
  EXPECT_FALSE(Query::parse_condition(""));
  EXPECT_FALSE(Query::parse_condition("SELECT * FROM devices"));
  EXPECT_FALSE(Query::parse_condition("* tags.ring = 1"));
  EXPECT_THAT(Query::parse_condition("FROM devices.jobs WHERE status = 'failed'").error().message,
              HasSubstr("expected devices or devices.modules in a condition"));
  EXPECT_EQ(Query::parse_condition("FROM devices")->source(), Source::devices);
}

TEST(QueryLanguage, KnowsWhichDevicesAreEnough) {
  const auto only = [](const std::string& condition) -> std::string {
    const auto query = Query::parse("SELECT * FROM devices WHERE " + condition).value();
    const auto ids = query.only_device_ids();
    if (!ids) return "(scan)";
    std::string joined;
    for (const std::string& id : *ids) joined += (joined.empty() ? "" : " ") + id;
    return joined;
  };
  EXPECT_EQ(only("deviceId = 'd1'"), "d1");
  EXPECT_EQ(only("'d1' = devices.DeviceId"), "d1");
  EXPECT_EQ(only("tags.a = 1 AND (deviceId = 'd1')"), "d1");
  EXPECT_EQ(only("deviceId = 'd1' OR tags.a = 1"), "(scan)");
  EXPECT_EQ(only("NOT deviceId = 'd1'"), "(scan)");
  EXPECT_EQ(only("deviceId != 'd1'"), "(scan)");
  EXPECT_EQ(only("tags.deviceId = 'd1'"), "(scan)");
  EXPECT_EQ(only("true"), "(scan)");
  EXPECT_EQ(only("deviceId IN ['c', 'a', 'b', 'a']"), "a b c");
  EXPECT_EQ(only("deviceId = 'b' OR deviceId IN ['c', 'a'] OR 'b' = deviceId"), "a b c");
  EXPECT_EQ(only("deviceId IN ['a', 'b'] AND tags.x = 1 AND deviceId = 'b'"), "b");
  EXPECT_EQ(only("(deviceId = 'a' AND tags.x = 1) OR (deviceId = 'b' AND NOT tags.x = 1)"), "a b");
  EXPECT_EQ(only("deviceId IN ['a', 1, null]"), "a");
  EXPECT_EQ(only("deviceId IN [1]"), "") << "nobody";
  EXPECT_EQ(only("deviceId IN ['a'] OR tags.x = 1"), "(scan)");
  EXPECT_EQ(only("deviceId NIN ['a']"), "(scan)");
  EXPECT_EQ(only("NOT deviceId IN ['a']"), "(scan)");
  EXPECT_EQ(only("tags.id IN ['a']"), "(scan)");
}

TEST(QueryAggregates, AreNamedNumberedAndLeftOutWithoutNumbers) {
  const QueryFixture fixture;
  const auto run = [&](const std::string& text) {
    std::vector<std::string> rows;
    for (const Json& row : fixture.run(Query::parse(text).value()).rows) rows.push_back(row.dump());
    return rows;
  };
  EXPECT_THAT(run("SELECT COUNT(), MAX(properties.reported.battery) FROM devices"),
              ElementsAre(R"({"$1":8,"$2":100})"));
  EXPECT_THAT(run("SELECT COUNT() AS n, AVG(tags.none) AS a, SUM(tags.location) AS s FROM devices WHERE false"),
              ElementsAre(R"({"n":0})"));
  EXPECT_THAT(run("SELECT AVG(properties.reported.battery) AS a FROM devices WHERE deviceId IN ['therm-01','pump-02']"),
              ElementsAre(R"({"a":48})"));
  EXPECT_THAT(run("SELECT AVG(tags.floor) AS a FROM devices WHERE tags.floor IN [0, 5]"), ElementsAre(R"({"a":2.5})"));
  EXPECT_THAT(run("SELECT status FROM devices GROUP BY status"),
              ElementsAre(R"({"status":"disabled"})", R"({"status":"enabled"})"));
  EXPECT_THAT(run("SELECT tags.ring AS r, COUNT() AS n FROM devices GROUP BY tags.ring"),
              ElementsAre(R"({"n":1})", R"({"n":3,"r":1})", R"({"n":2,"r":2})", R"({"n":2,"r":3})"))
      << "undefined is a group of its own, its key left out";
  EXPECT_THAT(
      run("SELECT TOP 1 tags.ring AS r, COUNT() AS n FROM devices WHERE is_defined(tags.ring) GROUP BY tags.ring"),
      ElementsAre(R"({"n":3,"r":1})"));
  EXPECT_THAT(run("SELECT count FROM devices WHERE deviceId = 'cam-02'"), ElementsAre("{}")) << "a name without ( )";
}

TEST(QueryAggregates, GroupNumbersByMagnitude) {
  Aggregation groups{Query::parse("SELECT tags.n AS n, COUNT() AS c FROM devices GROUP BY tags.n").value()};
  for (const char* literal : {"1", "1.0", "10e-1", "\"1\"", "0", "-0"}) {
    auto twin = twin::TwinDocument::fresh("d", "", WallTime{});
    set_tags(twin, twin::parse_value("{\"n\":" + std::string{literal} + "}").value());
    groups.add(twin);
  }
  EXPECT_THAT(groups.rows(), ElementsAre(R"({"n":0,"c":2})", R"({"n":1,"c":3})", R"({"n":"1","c":1})"));
}

twin::TwinDocument twin_with_tags(const char* id, const std::string& tags) {
  auto twin = twin::TwinDocument::fresh(id, "", WallTime{});
  set_tags(twin, twin::parse_value(tags).value());
  return twin;
}

TEST(QueryAggregates, LeaveOutWhatNoDoubleHolds) {
  Aggregation total{Query::parse("SELECT SUM(tags.n) AS s, AVG(tags.n) AS a, MAX(tags.n) AS m FROM devices").value()};
  for (const char* id : {"a", "b"}) total.add(twin_with_tags(id, R"({"n":1.5e308})"));
  EXPECT_THAT(total.rows(), ElementsAre(R"({"m":1.5e+308})"));
}

TEST(QueryAggregates, GroupLongValuesByTheWholeOfThem) {
  const Query query = Query::parse("SELECT COUNT() AS n FROM devices GROUP BY tags.t").value();
  Aggregation groups{query};
  const std::string start(3'000, 'x');
  for (const char* end : {"a", "b", "a"}) groups.add(twin_with_tags("d", R"({"t":")" + start + end + R"("})"));
  EXPECT_THAT(groups.rows(), testing::UnorderedElementsAre(R"({"n":2})", R"({"n":1})"));
  const Page page = assemble_page(query, Cursor{}, 1, groups);
  ASSERT_TRUE(page.next);
  EXPECT_LT(encode_cursor(*page.next, query).size(), 1'000U) << "a token is a header";
}

TEST(QueryPages, OfGroupsStayRightWhileGroupsComeAndGo) {
  const Query query = Query::parse("SELECT tags.t AS t, COUNT() AS n FROM devices GROUP BY tags.t").value();
  const auto page_from = [&](const Cursor& cursor, std::initializer_list<const char*> values) {
    Aggregation groups{query};
    for (const char* value : values) groups.add(twin_with_tags("d", std::string{R"({"t":")"} + value + R"("})"));
    return assemble_page(query, cursor, 2, groups);
  };
  Page page = page_from(Cursor{}, {"a", "b", "c", "d"});
  EXPECT_EQ(page.body, R"([{"t":"a","n":1},{"t":"b","n":1}])");
  // The group the token stands on vanishes, one appears before it and one behind it.
  page = page_from(*page.next, {"a", "aa", "bb", "c", "d"});
  EXPECT_EQ(page.body, R"([{"t":"bb","n":1},{"t":"c","n":1}])");
  page = page_from(*page.next, {"a", "d"});
  EXPECT_EQ(page.body, R"([{"t":"d","n":1}])");
  EXPECT_FALSE(page.next);
}

TEST(QueryPages, HaveSizesFromOneToTenThousand) {
  const auto size = [](std::optional<std::string_view> asked) -> std::string {
    const auto read = read_page_size(asked, 50, 100);
    return read ? std::to_string(*read) : read.error().message;
  };
  EXPECT_EQ(size({}), "50");
  EXPECT_EQ(size("1"), "1");
  EXPECT_EQ(size("100"), "100");
  EXPECT_EQ(size("101"), "100") << "cut to the maximum";
  EXPECT_EQ(size("10000"), "100");
  for (const char* bad : {"0", "10001", "-1", "+1", "", " 1", "1.0", "1e2", "ten", "99999999999999999999", "0x10"}) {
    EXPECT_EQ(size(bad), "x-ms-max-item-count '" + std::string{bad} + "' is not a number from 1 to 10000");
    EXPECT_EQ(read_page_size(bad, 50, 100).error().status, 400);
  }
  EXPECT_THAT(size(std::string(500, 'x')), testing::SizeIs(testing::Lt(120U)));
}

TEST(QueryPages, StayRightWhileTwinsComeAndGo) {
  std::vector<twin::TwinDocument> twins;
  for (const char* id : {"a", "b", "c", "d", "e"}) twins.push_back(twin::TwinDocument::fresh(id, "", WallTime{}));
  const Query query = Query::parse("SELECT deviceId FROM devices").value();
  const auto page_from = [&](const Cursor& cursor) {
    PageCollector collector{query, cursor, 2};
    for (auto it = twins.rbegin(); it != twins.rend(); ++it) collector.offer(*it);
    return assemble_page(query, cursor, 2, {collector.take_rows()});
  };
  Page page = page_from(Cursor{});
  EXPECT_EQ(page.body, R"([{"deviceId":"a"},{"deviceId":"b"}])");
  ASSERT_TRUE(page.next);
  // The row the cursor stands on vanishes, one appears before it and one behind it.
  twins.erase(twins.begin() + 1);
  twins.push_back(twin::TwinDocument::fresh("aa", "", WallTime{}));
  twins.push_back(twin::TwinDocument::fresh("cc", "", WallTime{}));
  page = page_from(*page.next);
  EXPECT_EQ(page.body, R"([{"deviceId":"c"},{"deviceId":"cc"}])");
  page = page_from(*page.next);
  EXPECT_EQ(page.body, R"([{"deviceId":"d"},{"deviceId":"e"}])");
  EXPECT_FALSE(page.next);
}

TEST(QueryPages, CountTopOverAllPages) {
  const QueryFixture fixture;
  const Query query = Query::parse("SELECT TOP 5 deviceId FROM devices").value();
  EXPECT_THAT(fixture.run(query, 2).page_rows, ElementsAre(2U, 2U, 1U));
  EXPECT_THAT(fixture.run(query, 5).page_rows, ElementsAre(5U));
  EXPECT_THAT(fixture.run(Query::parse("SELECT TOP 0 * FROM devices").value()).page_rows, ElementsAre(0U));
}

TEST(QueryPages, CollectorsStopWhenTheyHaveEnough) {
  const QueryFixture fixture;
  const Query query = Query::parse("SELECT deviceId FROM devices").value();
  PageCollector collector{query, Cursor{}, 1};
  EXPECT_FALSE(collector.full());
  for (size_t shard = 0; shard < QueryFixture::kShards; ++shard) {
    for (const auto& twin : fixture.devices(shard)) collector.offer(twin);
  }
  EXPECT_TRUE(collector.full());
  const std::vector<Row> rows = collector.take_rows();
  ASSERT_EQ(rows.size(), 2U) << "one more than the page, to know whether there is a next one";
  EXPECT_EQ(rows[0].first, "cam-01");
}

TEST(QueryTokens, RoundTripAndBelongToTheirQuery) {
  const Query query = Query::parse("SELECT * FROM devices").value();
  const Query other = Query::parse("SELECT * FROM devices WHERE tags.a = 1").value();
  const std::string token = encode_cursor(Cursor{true, "dev-1 %é", "$edgeHub", 42}, query);
  EXPECT_EQ(token.find_first_not_of("0123456789abcdef-"), std::string::npos) << token;
  const Cursor cursor = decode_cursor(token, query).value();
  EXPECT_TRUE(cursor.started);
  EXPECT_EQ(cursor.first, "dev-1 %é");
  EXPECT_EQ(cursor.second, "$edgeHub");
  EXPECT_EQ(cursor.delivered, 42U);
  EXPECT_EQ(decode_cursor(token, other).error().message, "x-ms-continuation: the token belongs to another query");
  for (const std::string& garbage : {std::string{}, std::string{"x"}, token + "0", token.substr(1), token + "-",
                                     std::string{"0-0-0-0"}, std::string{"----"}, std::string{"a--b-c"}}) {
    EXPECT_FALSE(decode_cursor(garbage, query)) << garbage;
  }
}

}  // namespace
}  // namespace twinstorm::hub::query
