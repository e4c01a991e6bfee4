// The canary and `engine: paho` as a user meets them: whole runs with somebody else's client in them.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

using nlohmann::json;

constexpr const char* kScenario = R"(
schema: twinstorm/scenario/1
name: canary
target: embedded
fleets:
  - {name: f, count: 50, reported: {battery: {uniform: [5, 100]}}, onDesired: {report: echo}}
backends:
  - {name: patch, do: patchDesired, select: f, patch: {climate: {min: {uniform: [60, 70]}}}}
phases:
  - {name: connect, connect: {rate: 100/s}, until: {devicesConnected: 100%}, timeout: 30s, record: false}
  - {name: steady, duration: 9s, load: {patch: 10/s, f.getTwin: 40/s, f.report: 40/s, f.telemetry: 20/s}}
  - {name: settle, until: {converged: 100%}, timeout: 20s}
invariants: [noLostUpdates, versionsMonotonic, finalStateMatches]
)";

struct Ran {
  int exit_code = 0;
  json summary;
  std::string out, report;
};

Ran run(const std::string& text, std::vector<std::string> more = {}) {
  TemporaryFolder folder;
  const auto file = folder.path() / "scenario.yaml", into = folder.path() / "run";
  write_file(file, text);
  std::vector<std::string> words{TWINSTORM_BINARY, "run", file.string(), "--out", into.string()};
  words.insert(words.end(), more.begin(), more.end());
  Process process{words};
  Ran ran;
  ran.exit_code = process.wait();
  ran.out = process.out();
  EXPECT_TRUE(std::filesystem::exists(into / "summary.json")) << process.err() << ran.out;
  ran.summary = json::parse(read_file(into / "summary.json"), nullptr, false);
  ran.report = read_file(into / "report.html");
  return ran;
}

void expect_books_equal_the_hubs(const json& summary) {
  EXPECT_TRUE(summary["hub"]["matches"].get<bool>()) << summary["hub"].dump();
  for (const auto& row : summary["hub"]["rows"]) {
    EXPECT_EQ(row["run"], row["hub"]) << row.dump();
    EXPECT_EQ(row["unknown"], 0) << row.dump();
  }
}

TEST(CanaryInARun, DoesWhatTheFleetDoesAndIsInNoTotal) {
  const auto ran = run(kScenario);
  EXPECT_EQ(ran.exit_code, 0) << ran.out;
  const auto& canary = ran.summary["canary"];
  EXPECT_NE(canary["verdict"], "disagree") << canary["detail"];
  EXPECT_EQ(canary["state"], "");
  std::vector<std::string> operations;
  for (const auto& row : canary["rows"]) {
    operations.push_back(row["operation"]);
    EXPECT_EQ(row["phase"], "steady");
    EXPECT_GT(row["canarySamples"].get<int>(), 5) << row.dump();
    EXPECT_GT(row["fleetSamples"].get<int>(), 50) << row.dump();
  }
  EXPECT_EQ(operations, (std::vector<std::string>{"getTwin", "report", "telemetry", "delivery"}));
  for (const auto& [name, books] : canary["operations"].items()) {
    EXPECT_GT(books["sent"].get<int>(), 0) << name;
    EXPECT_EQ(books["sent"], books["acknowledged"]) << name << books.dump();
  }
  expect_books_equal_the_hubs(ran.summary);
  EXPECT_EQ(ran.summary["operations"]["getTwin"]["asked"], 360);
  EXPECT_EQ(ran.summary["devices"]["target"], 50);
  EXPECT_EQ(ran.summary["devices"]["connectedMax"], 50);
  EXPECT_NE(ran.out.find("canary: "), std::string::npos) << ran.out;
  EXPECT_NE(ran.report.find("\"canary\":{"), std::string::npos);
}

TEST(CanaryInARun, IsNotThereWhenSwitchedOff) {
  const auto ran = run(kScenario, {"--set", "canary=false", "--set", "phases[steady].duration=2s"});
  EXPECT_EQ(ran.exit_code, 0) << ran.out;
  EXPECT_FALSE(ran.summary.contains("canary"));
  expect_books_equal_the_hubs(ran.summary);
  EXPECT_EQ(ran.out.find("canary: "), std::string::npos);
  EXPECT_NE(ran.report.find("\"canary\":null"), std::string::npos);
}

TEST(CanaryInARun, GoesWhereItsFleetGoes) {
  for (const char* way : {"tls: true", "transport: mqttws", "transport: mqttws, tls: true"}) {
    std::string text = kScenario;
    text.replace(text.find("count: 50"), 9, "count: 20, " + std::string{way});
    const auto ran = run(text, {"--set", "phases[steady].duration=4s"});
    EXPECT_EQ(ran.exit_code, 0) << way << ran.out;
    EXPECT_EQ(ran.summary["canary"]["state"], "") << way;
    EXPECT_EQ(ran.summary["canary"]["operations"]["connect"]["acknowledged"], 1) << way;
    EXPECT_GT(ran.summary["canary"]["operations"]["getTwin"]["acknowledged"].get<int>(), 3) << way;
    expect_books_equal_the_hubs(ran.summary);
  }
}

TEST(PahoFleet, OfFiftyDevicesLosesNothing) {
  std::string text = kScenario;
  text.replace(text.find("count: 50"), 9, "count: 50, engine: paho");
  const auto ran = run(text, {"--set", "phases[steady].duration=4s"});
  EXPECT_EQ(ran.exit_code, 0) << ran.out;
  EXPECT_EQ(ran.summary["devices"]["connected"], 50);
  EXPECT_EQ(ran.summary["convergence"]["lost"], 0);
  EXPECT_EQ(ran.summary["convergence"]["unconverged"], 0);
  EXPECT_EQ(ran.summary["convergence"]["applied"], ran.summary["convergence"]["started"]);
  for (const auto& invariant : ran.summary["invariants"]) EXPECT_EQ(invariant["status"], "held") << invariant.dump();
  EXPECT_TRUE(ran.summary["canary"]["cpuSeconds"].is_null()) << "Paho's threads work for the fleet, too";
  expect_books_equal_the_hubs(ran.summary);
}

}  // namespace
}  // namespace twinstorm::testing
