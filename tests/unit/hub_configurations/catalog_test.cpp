// Create, update, delete under the ETag rules of configurations (service.md 3.2 and 9).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fixture.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CatalogTest : public ::testing::Test {
 protected:
  /// The ETag, or status and name of the error.
  std::string put(std::string_view id, std::optional<std::string_view> if_match = std::nullopt,
                  const std::string& text = device_body("1"), size_t limit = 100) {
    auto parsed = request(id, text);
    EXPECT_TRUE(parsed) << parsed.error().message;
    const auto made = catalog.put(id, if_match, std::move(*parsed), now += std::chrono::seconds{1}, limit);
    if (!made) return fmt::format("{} {}", made.error().status, made.error().name);
    return std::to_string((*made)->etag);
  }
  std::string remove(std::string_view id, std::optional<std::string_view> if_match = std::nullopt) {
    const auto removed = catalog.remove(id, if_match);
    return removed ? "gone" : fmt::format("{} {}", removed.error().status, removed.error().name);
  }
  std::vector<std::string> precedence() const {
    std::vector<std::string> ids;
    const auto set = catalog.targets();
    for (const Target& target : set->targets) ids.push_back(target.id);
    return ids;
  }

  ConfigurationCatalog catalog;
  WallTime now = kNow;
};

TEST_F(CatalogTest, WithoutIfMatchAPutCreatesOnly) {
  EXPECT_EQ(put("a"), "1");
  EXPECT_EQ(put("a"), "409 ConfigurationAlreadyExists");
  EXPECT_EQ(put("a", R"("")"), "409 ConfigurationAlreadyExists");
  EXPECT_EQ(put("b", ""), "1");
}

TEST_F(CatalogTest, StarUpdatesAndAQuotedETagUpdatesOnlyThat) {
  EXPECT_EQ(put("a", "*"), "404 ConfigurationNotFound");
  EXPECT_EQ(put("a", R"("MQ==")"), "404 ConfigurationNotFound");
  put("a");
  EXPECT_EQ(put("a", "*"), "2");
  EXPECT_EQ(put("a", R"("*")"), "3");
  EXPECT_EQ(put("a", R"("MQ==")"), "412 PreconditionFailed");
  EXPECT_EQ(put("a", R"("Mw==")"), "4");
}

TEST_F(CatalogTest, AnETagWithoutQuotesIsAnsweredAsIfThereWereNone) {
  put("a");
  EXPECT_EQ(put("a", "MQ=="), "409 ConfigurationAlreadyExists");
}

TEST_F(CatalogTest, AnUpdateKeepsContentAndCreationAndTakesTheRest) {
  put("a", std::nullopt, device_body("1", "tags.a = 1", 5));
  put("a", "*", device_body("2", "tags.a = 2", 6));
  const Configuration& a = **catalog.get("a");
  EXPECT_EQ(twin::write(a.content->patch), R"({"properties":{"desired":{"fw":1}}})");
  EXPECT_EQ(a.settings.condition.text, "tags.a = 2");
  EXPECT_EQ(a.settings.priority, 6);
  EXPECT_EQ(a.last_updated - a.created, std::chrono::seconds{1});
}

TEST_F(CatalogTest, AnUpdateWithContentOfAnotherKindStillNeedsAConditionForTheKeptOne) {
  put("a", std::nullopt, device_body("1"));
  const std::string modules = R"({"moduleContent":{"properties.desired.a":1}})";
  EXPECT_EQ(put("a", "*", body(modules, "FROM devices.modules WHERE tags.a = 1")),
            "400 InvalidConfigurationTargetCondition");
  EXPECT_EQ(put("a", "*", body(modules, "*")), "2");
  EXPECT_EQ((*catalog.get("a"))->settings.condition.query->source(), query::Source::devices);
}

TEST_F(CatalogTest, AMetricKeepsItsFigureWhileItsQueryStays) {
  const auto with = [](std::string_view text) {
    return body(R"({"deviceContent":{"properties.desired.a":1}})", "*", 0,
                fmt::format(R"(,"metrics":{{"queries":{{"m":"{}"}}}})", text));
  };
  put("a", std::nullopt, with("SELECT * FROM devices"));
  catalog.set_metric("a", "m", "SELECT * FROM devices", 5);
  put("a", "*", with("SELECT * FROM devices"));
  EXPECT_EQ((*catalog.get("a"))->settings.metrics[0].result, 5U);
  put("a", "*", with("SELECT deviceId FROM devices"));
  EXPECT_EQ((*catalog.get("a"))->settings.metrics[0].result, std::nullopt);
  catalog.set_metric("a", "m", "SELECT * FROM devices", 5);
  EXPECT_EQ((*catalog.get("a"))->settings.metrics[0].result, std::nullopt) << "a figure of the query before";
}

TEST_F(CatalogTest, DeletesWithoutIfMatchWithStarAndWithTheETag) {
  EXPECT_EQ(remove("a"), "404 ConfigurationNotFound");
  for (const char* if_match : {"*", R"("*")", R"("MQ==")", "MQ=="}) {
    put("a");
    EXPECT_EQ(remove("a", if_match), "gone") << if_match;
  }
  put("a");
  EXPECT_EQ(remove("a", R"("Mg==")"), "412 PreconditionFailed");
  EXPECT_EQ(remove("a"), "gone");
}

TEST_F(CatalogTest, TakesAsManyAsTheLimitAndUpdatesBeyondIt) {
  put("a", std::nullopt, device_body("1"), 2);
  put("b", std::nullopt, device_body("1"), 2);
  EXPECT_EQ(put("c", std::nullopt, device_body("1"), 2), "403 ConfigurationCountLimitExceeded");
  EXPECT_EQ(put("a", "*", device_body("1"), 2), "2");
}

TEST_F(CatalogTest, PriorityDecidesAndBetweenEqualsTheLatestCreated) {
  put("low", std::nullopt, device_body("1", "*", 1));
  put("old", std::nullopt, device_body("1", "*", 5));
  put("new", std::nullopt, device_body("1", "*", 5));
  put("high", std::nullopt, device_body("1", "*", 9));
  put("old", "*", device_body("1", "*", 5));
  EXPECT_THAT(precedence(), ElementsAre("high", "new", "old", "low"));
}

TEST_F(CatalogTest, ADeletedOneIsRetiredUntilAnEvaluationThatKnewOfIt) {
  put("a");
  const auto before = catalog.targets();
  remove("a");
  catalog.evaluated(*before, {{1, 1}});
  const auto after = catalog.targets();
  ASSERT_EQ(after->retired.size(), 1U);
  put("a", std::nullopt, device_body("2"));
  catalog.evaluated(*after, {});
  EXPECT_TRUE(catalog.targets()->retired.empty());
  EXPECT_EQ((*catalog.get("a"))->results, TargetCounts{}) << "the figures were of the one before";
}

TEST_F(CatalogTest, TheAuthorOfAContentIsItsIdAndWhenItWasCreated) {
  put("a");
  const std::string first = catalog.targets()->targets[0].author->digest;
  put("a", "*");
  EXPECT_EQ(catalog.targets()->targets[0].author->digest, first);
  EXPECT_EQ(catalog.targets()->targets[0].author->id, "a");
  EXPECT_THAT(first, HasSubstr("639155"));
  remove("a");
  put("a");
  EXPECT_NE(catalog.targets()->targets[0].author->digest, first);
}

}  // namespace
}  // namespace twinstorm::hub::testing
