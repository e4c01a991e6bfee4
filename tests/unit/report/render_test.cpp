#include <cstdlib>
#include <fstream>
#include <regex>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "report/report.hpp"
#include "report/text/table.hpp"
#include "tests/unit/report/sample_run.hpp"

namespace twinstorm::report {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string html_of(const metrics::LoadedRun& run) {
  const auto html = render_html(run);
  EXPECT_TRUE(html) << (html ? "" : html.error().message);
  return html ? *html : std::string{};
}

nlohmann::json data_of(const std::string& html) {
  constexpr std::string_view kStart = R"(<script type="application/json" id="run-data">)";
  const auto begin = html.find(kStart) + kStart.size();
  return nlohmann::json::parse(html.substr(begin, html.find("</script>", begin) - begin));
}

TEST(Html, CarriesTheFiguresOfTheRecord) {
  const auto run = testing::failed_run();
  const auto data = data_of(html_of(run));
  EXPECT_EQ(data["schema"], "twinstorm/page/1");
  EXPECT_EQ(data["verdict"]["status"], "failed");
  EXPECT_EQ(data["verdict"]["exitCode"], 10);
  EXPECT_EQ(data["time"].size(), 75U);
  EXPECT_EQ(data["convergence"]["applied"], run.record.convergence.applied);
  const auto& operations = data["operations"];
  ASSERT_EQ(operations.size(), 4U);
  EXPECT_EQ(operations[0]["name"], "connect") << "in the order of an operation's life";
  EXPECT_TRUE(operations[0]["intended"].is_null()) << "nothing recorded: no distribution to draw";
  EXPECT_EQ(operations[0]["phases"][0]["name"], "connect");
  EXPECT_EQ(operations[2]["name"], "patchDesired");
  EXPECT_EQ(operations[2]["intended"]["count"], run.record.operations.at("patchDesired").acknowledged);
  EXPECT_EQ(operations[2]["intended"]["quantile"].back(), 1);
  for (const auto& stream : data["streams"]) {
    for (const auto* series : {"askedRate", "acknowledgedRate", "lostRate", "intendedP50", "serviceP99"}) {
      EXPECT_EQ(stream[series].size(), 75U) << stream["name"] << " " << series;
    }
  }
}

TEST(Html, PutsObjectivesIntoTheChartsTheyLimit) {
  const auto data = data_of(html_of(testing::failed_run()));
  EXPECT_EQ(data["convergence"]["limit"]["label"], "objective: p99 < 250 ms");
  for (const auto& stream : data["streams"]) {
    EXPECT_EQ(stream["limit"].is_null(), stream["operation"] != "query") << stream["name"];
  }
}

TEST(Html, IsOneFileThatLoadsNothing) {
  const auto html = html_of(testing::failed_run());
  EXPECT_THAT(html, StartsWith("<!doctype html>"));
  EXPECT_FALSE(std::regex_search(html, std::regex{R"((src|href|url|import)\s*[=(]\s*["']?(https?:)?//)"}));
  EXPECT_FALSE(std::regex_search(html, std::regex{R"(<(link|script|img|iframe)[^>]+(src|href)="(?!data:))"}));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, Not(HasSubstr("@RUN_DATA@")));
}

TEST(Html, TextOfTheRecordCannotLeaveItsPlace) {
  const auto html = html_of(testing::failed_run());
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_EQ(data_of(html)["invariants"][1]["examples"][1], "<script>alert(\"1\")</script>\u202Eevil");
}

TEST(Html, SurvivesBytesThatAreNotUtf8) {
  auto run = testing::passed_run();
  run.record.run.description = "broken \xff name";
  EXPECT_EQ(data_of(html_of(run))["run"]["description"], "broken \uFFFD name");
}

TEST(Html, OfARunWithoutAnyMeasurementIsStillAPage) {
  metrics::LoadedRun run;
  run.record.verdict = {metrics::VerdictStatus::aborted, 130, {"interrupted"}};
  run.env_json = "not JSON";
  const auto data = data_of(html_of(run));
  EXPECT_TRUE(data["convergence"].is_null());
  EXPECT_TRUE(data["time"].empty());
  EXPECT_TRUE(data["environment"].empty());
}

TEST(Html, OfAnHourWithTwentyStreamsStaysBelowOneAndAHalfMegabytes) {
  const auto html = html_of(testing::long_run());
  EXPECT_LT(html.size(), 1'500'000U);
  const auto data = data_of(html);
  EXPECT_EQ(data["time"].size(), 900U);
  EXPECT_EQ(data["time"].back(), 3'600);
  EXPECT_EQ(data["pointSeconds"], 4);
  EXPECT_EQ(data["streams"].size(), 20U + 3U) << "those of the series, and three that only the record knows";
}

// For looking at the page: TWINSTORM_WRITE_REPORTS=<folder> unit_report --gtest_filter=Html.WrittenOnRequest
TEST(Html, WrittenOnRequest) {
  const char* folder = std::getenv("TWINSTORM_WRITE_REPORTS");
  if (folder == nullptr) GTEST_SKIP() << "TWINSTORM_WRITE_REPORTS is not set";
  std::ofstream{std::string{folder} + "/failed.html"} << html_of(testing::failed_run());
  std::ofstream{std::string{folder} + "/passed.html"} << html_of(testing::passed_run());
  std::ofstream{std::string{folder} + "/long.html"} << html_of(testing::long_run());
}

TEST(Json, IsTheRecordItself) {
  const auto run = testing::failed_run();
  const auto text = render_json(run);
  EXPECT_EQ(nlohmann::json::parse(text), metrics::to_json(run.record));
  EXPECT_THAT(text, EndsWith("}\n"));
}

TEST(Text, EndsWithTheReportsPath) {
  EXPECT_THAT(render_text(testing::passed_run(), {.report_path = "runs/x/report.html"}),
              EndsWith("\nruns/x/report.html\n"));
}

TEST(Text, ColoursAddNothingButEscapeSequences) {
  const auto run = testing::failed_run();
  const auto coloured = render_text(run, {.color = true});
  EXPECT_THAT(coloured, HasSubstr("\x1b[1;31mFAILED\x1b[0m"));
  EXPECT_EQ(std::regex_replace(coloured, std::regex{"\x1b\\[[0-9;]*m"}, ""), render_text(run, {.color = false}));
}

TEST(Text, OfARunWithoutAnyMeasurementIsShort) {
  metrics::LoadedRun run;
  run.record.verdict = {metrics::VerdictStatus::invalid, 13, {"hubLost: the hub ended before the run did"}};
  const auto text = render_text(run);
  EXPECT_THAT(text, HasSubstr("INVALID"));
  EXPECT_THAT(text, HasSubstr("- hubLost: the hub ended before the run did"));
  EXPECT_THAT(text, Not(HasSubstr("Operations")));
}

TEST(TextTable, AlignsByWhatIsSeen) {
  TextTable table{{{"name", Align::left}, {"n"}}};
  table.add({"ä", "1"});
  table.add({"\x1b[31mred\x1b[0m", "1,000"});
  std::string out;
  table.append_to(out);
  EXPECT_EQ(out, "  name      n\n  ä         1\n  \x1b[31mred\x1b[0m   1,000\n");
}

TEST(Wrapping, KeepsWithinTheWidthAndNeverLosesAWord) {
  EXPECT_EQ(wrapped("aa bb cc dddddddddddd e", 8, "  "), "  aa bb\n  cc\n  dddddddddddd\n  e\n");
}

}  // namespace
}  // namespace twinstorm::report
