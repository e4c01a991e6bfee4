#include "sim/scenario/trace.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"
#include "sim/scenario/scaling.hpp"

namespace twinstorm::scenario {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

Trace parsed(std::string_view text) {
  const auto trace = Trace::parse(text, "trace.csv");
  EXPECT_TRUE(trace) << trace.error().message;
  return trace ? *trace : Trace{};
}

std::string mistake(std::string_view text) {
  const auto trace = Trace::parse(text, "trace.csv");
  return trace ? "no mistake" : trace.error().message;
}

TEST(Trace, OfRatesIsAChainOfSteps) {
  for (const std::string text :
       {"seconds,rate\n# morning\n1,50\n\n 3 , 100 \r\n4.5,0",
        "{\"seconds\": 1, \"rate\": 50}\n{\"rate\": 100, \"seconds\": 3}\n{\"seconds\": 4.5, \"rate\": 0}\n"}) {
    const auto trace = parsed(text);
    EXPECT_FALSE(trace.lists_arrivals());
    EXPECT_EQ(trace.describe(), "3 rates over 4.5 s");
    const auto shape = trace.shape(1, seconds{10});
    EXPECT_EQ(shape.rate_at(milliseconds{500}), Rate{0});
    EXPECT_EQ(shape.rate_at(seconds{2}), Rate{50});
    EXPECT_EQ(shape.rate_at(seconds{4}), Rate{100});
    EXPECT_EQ(shape.rate_at(seconds{9}), Rate{0});
    EXPECT_EQ(shape.arrivals(), 250u);
    EXPECT_EQ(shape.due_at(0), seconds{1});
    EXPECT_EQ(trace.shape(2, seconds{10}).arrivals(), 500u);
  }
}

TEST(Trace, OfRatesHoldsItsLastOneToTheEnd) {
  EXPECT_EQ(parsed("0,10").shape(1, seconds{60}).arrivals(), 600u);
  EXPECT_EQ(parsed("0,10").shape(1, LoadShape::kForever).due_at(36'000), std::chrono::hours{1});
}

TEST(Trace, OfArrivalsIsDueAtEachLine) {
  const auto trace = parsed("seconds\n0.25\n0.25\n1\n4.000000001\n");
  EXPECT_TRUE(trace.lists_arrivals());
  EXPECT_EQ(trace.describe(), "4 arrivals over 4 s");
  const auto shape = trace.shape(1, seconds{10});
  EXPECT_EQ(shape.arrivals(), 4u);
  EXPECT_EQ(shape.due_at(0), milliseconds{250});
  EXPECT_EQ(shape.due_at(1), milliseconds{250});
  EXPECT_EQ(shape.due_at(2), seconds{1});
  EXPECT_EQ(shape.due_at(3), seconds{4} + Nanos{1});
  EXPECT_EQ(shape.due_at(4), Nanos::max());
  EXPECT_DOUBLE_EQ(shape.count_by(seconds{1}), 3);
  EXPECT_EQ(shape.peak_rate(), Rate{3});
  EXPECT_EQ(shape.rate_at(milliseconds{600}), Rate{3});
  EXPECT_EQ(parsed("0.5\n2\n").shape(1, seconds{2}).arrivals(), 1u);  // what is due at the end is not part of it
}

TEST(Trace, OfArrivalsRepeatsOrLeavesOutByItsScale) {
  const auto trace = parsed("1\n2\n3\n4\n");
  const auto twice = trace.shape(2, seconds{10});
  EXPECT_EQ(twice.arrivals(), 8u);
  EXPECT_EQ(twice.due_at(2), seconds{2});
  EXPECT_EQ(twice.due_at(3), seconds{2});
  const auto half = trace.shape(0.5, seconds{10});
  EXPECT_EQ(half.arrivals(), 2u);
  EXPECT_EQ(half.due_at(1), seconds{3});
}

TEST(Trace, MistakesNameFileLineAndReason) {
  EXPECT_EQ(mistake(""), "trace.csv: the trace is empty");
  EXPECT_EQ(mistake("seconds,rate\n"), "trace.csv: the trace is empty");
  EXPECT_EQ(mistake("# c\n0,1\nabc,1\n"), "trace.csv:3: \"abc\" is not a number of seconds");
  EXPECT_EQ(mistake("0,1x"), "trace.csv:1: \"1x\" is not a number of arrivals a second");
  EXPECT_EQ(mistake("0,"), "trace.csv:1: \"\" is not a number of arrivals a second");
  EXPECT_EQ(mistake("0,1,2"), "trace.csv:1: \"1,2\" is not a number of arrivals a second");
  EXPECT_EQ(mistake("0,1\nseconds,rate\n"), "trace.csv:2: \"seconds\" is not a number of seconds");
  EXPECT_EQ(mistake("nan,1"), "trace.csv:1: \"nan\" is not a number of seconds");
  EXPECT_EQ(mistake("1,1\n1,2\n"), "trace.csv:2: 1 s is the 1 s of the line before: time must grow");
  EXPECT_EQ(mistake("3\n2.5\n"), "trace.csv:2: 2.5 s is before 3 s of the line before: time must not go back");
  EXPECT_EQ(mistake("-1,5"), "trace.csv:1: -1 s is not a time of a run (0 to 2592000)");
  EXPECT_THAT(mistake("0,-5"), HasSubstr("trace.csv:1: -5/s is not a rate that a run can ask"));
  EXPECT_THAT(mistake("0,1e300"), HasSubstr("is not a rate that a run can ask"));
  EXPECT_EQ(mistake("0,1\n2\n"), "trace.csv:2: the line has no rate, and those before it have");
  EXPECT_EQ(mistake("1\n2,1\n"), "trace.csv:2: the line has a rate, and those before it have none");
  EXPECT_THAT(mistake("{\"seconds\": 1"), HasSubstr("trace.csv:1: the line is not a JSON object"));
  EXPECT_EQ(mistake("{\"second\": 1}"), "trace.csv:1: \"second\" is neither seconds nor rate");
  EXPECT_EQ(mistake("{\"seconds\": \"1\"}"), "trace.csv:1: seconds is not a number");
  EXPECT_EQ(mistake("{\"rate\": 1}"), "trace.csv:1: the line has no \"seconds\"");
}

TEST(Trace, HasAtMostSoManyLines) {
  std::string text;
  for (size_t i = 0; i <= kMaxTraceRates; ++i) text += std::to_string(i) + ",1\n";
  EXPECT_EQ(mistake(text), "trace.csv:100001: a trace has at most 100,000 rates");
}

TEST(Trace, OfManyRatesIsFoundInQuickly) {
  std::string text;
  for (size_t i = 0; i < kMaxTraceRates; ++i) text += std::to_string(i) + "," + std::to_string(i % 7) + "\n";
  const auto shape = parsed(text).shape(1, LoadShape::kForever);
  double expected = 0;
  for (size_t i = 0; i < kMaxTraceRates; ++i) expected += static_cast<double>(i % 7);
  EXPECT_DOUBLE_EQ(shape.count_by(seconds{kMaxTraceRates}), expected);
  Nanos before{0};
  for (uint64_t n = 0; n < 200'000; ++n) {  // a linear search would take minutes
    const Nanos due = shape.due_at(n);
    ASSERT_GE(due, before);
    before = due;
  }
}

/// A scenario with its trace in a folder of its own.
class TraceFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("twinstorm-trace-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    write("traffic.csv", "seconds,rate\n0,50\n2,100\n");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) { std::ofstream{folder_ / name} << text; }
  LoadResult load(const std::string& shape) {
    write("s.yaml",
          "schema: twinstorm/scenario/1\nfleets: [{name: meters, count: 10}]\nphases:\n  - {name: p, duration: 4s, "
          "load: {meters.getTwin: {" +
              shape + "}}}\n");
    return load_scenario_file((folder_ / "s.yaml").string());
  }
  std::filesystem::path folder_;
};

TEST_F(TraceFile, LiesBesideTheScenarioAndThePlanSaysWhatItHolds) {
  const auto loaded = load("shape: trace, file: traffic.csv, scale: 0.5");
  ASSERT_TRUE(loaded.ok()) << to_string(loaded.diagnostics);
  const auto plan = make_plan(*loaded.scenario);
  EXPECT_THAT(plan_text(plan), HasSubstr("trace of 2 rates over 2 s, 0.5 times"));
  EXPECT_EQ(plan.phases.back().load.front().arrivals, 150);
  EXPECT_EQ(plan.phases.back().load.front().peak_rate, 50);
  EXPECT_EQ(asked_rate(resolve(scaled(*loaded.scenario, 3))), 150);
}

TEST_F(TraceFile, ResolvedScenarioNamesItFromAnywhereAndKnowsItsContent) {
  const auto loaded = load("shape: trace, file: ./traffic.csv, poisson: true");
  ASSERT_TRUE(loaded.ok()) << to_string(loaded.diagnostics);
  const auto plan = make_plan(*loaded.scenario);
  const auto text = resolved_yaml(plan.scenario);
  const auto again = load_scenario(text, "resolved.yaml", {}, "/");
  ASSERT_TRUE(again.ok()) << to_string(again.diagnostics);
  EXPECT_EQ(resolved_yaml(resolve(*again.scenario)), text);
  EXPECT_EQ(plan_text(make_plan(*again.scenario)), plan_text(plan));

  write("traffic.csv", "0,50\n");
  const auto changed = load_scenario(text, "resolved.yaml", {}, "/");
  ASSERT_EQ(changed.diagnostics.size(), 1u);
  EXPECT_THAT(changed.diagnostics[0].message, HasSubstr("holds another trace now"));
}

TEST_F(TraceFile, IsRefusedInATextThatIsNoFile) {
  const auto loaded = load_scenario(
      "schema: twinstorm/scenario/1\nfleets: [{name: m, count: 1}]\nphases: [{name: p, duration: 1s, load: {m.getTwin: "
      "{shape: trace, file: /etc/passwd}}}]",
      "text.yaml");
  ASSERT_EQ(loaded.diagnostics.size(), 1u);
  EXPECT_THAT(to_string(loaded.diagnostics[0]), HasSubstr("a trace lies beside a scenario file"));
}

TEST_F(TraceFile, ThatIsAFolderOrMissingIsSaidWithThePlaceInTheScenario) {
  EXPECT_THAT(to_string(load("shape: trace, file: .").diagnostics),
              HasSubstr("load.meters.getTwin.file: cannot read .: "));
  EXPECT_THAT(to_string(load("shape: trace, file: none.csv").diagnostics),
              HasSubstr("s.yaml:4:73: phases[0].load.meters.getTwin.file: cannot read none.csv: No such file"));
}

}  // namespace
}  // namespace twinstorm::scenario
