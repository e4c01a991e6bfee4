// Whole runs: an objective that ends one early, phases that wait for something, and the same seed with other shards and
// workers.
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

struct Ran {
  int code = -1;
  std::string text, report, events;
  json summary;
  double seconds = 0;
};

Ran run(const std::string& scenario, std::vector<std::string> more = {}) {
  TemporaryFolder folder;
  const auto file = folder.path() / "scenario.yaml";
  const auto out = folder.path() / "run";
  write_file(file, "schema: twinstorm/scenario/1\nname: models\ncanary: false\n" + scenario);
  write_file(folder.path() / "traffic.csv", "seconds,rate\n0,40\n0.5,160\n1.5,10\n");
  std::vector<std::string> command{TWINSTORM_BINARY, "run", file.string(), "--out", out.string()};
  command.insert(command.end(), more.begin(), more.end());
  const auto began = std::chrono::steady_clock::now();
  Process process{command};
  Ran ran;
  ran.code = process.wait(std::chrono::seconds{60});
  ran.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  ran.text = process.out() + process.err();
  if (fs::exists(out / "summary.json")) ran.summary = json::parse(read_file(out / "summary.json"));
  if (fs::exists(out / "report.html")) ran.report = read_file(out / "report.html");
  if (fs::exists(out / "events.ndjson")) ran.events = read_file(out / "events.ndjson");
  return ran;
}

TEST(AbortSlo, EndsTheRunInOrderAndSaysWhichObjectiveWhatValueAndWhen) {
  const auto ran = run(R"(
fleets: [{name: meters, count: 20}]
backends: [{name: ops, do: getTwin}]
phases:
  - {name: steady, duration: 40s, load: {ops: 100/s}}
  - {name: later, duration: 40s, load: {ops: 100/s}}
slos:
  - {slo: ops p50 < 1us, abort: {over: 2s}}
  - {slo: ops errors < 50%, abort: true}
  - ops p50 < 10s during later
)");
  ASSERT_EQ(ran.code, 14) << ran.text;
  EXPECT_LT(ran.seconds, 20);
  const auto& verdict = ran.summary["verdict"];
  EXPECT_EQ(verdict["status"], "aborted");
  EXPECT_EQ(verdict["exitCode"], 14);
  ASSERT_FALSE(verdict["reasons"].empty());
  const auto reason = verdict["reasons"][0].get<std::string>();
  EXPECT_THAT(reason, ::testing::MatchesRegex(
                          "ended early by \"ops p50 < 1us\": [0-9.]+ (us|ms) over [23].[0-9] s, at second [234].[0-9] "
                          "in phase \"steady\""));
  EXPECT_THAT(ran.text, HasSubstr("at second"));
  EXPECT_THAT(ran.events, HasSubstr("stopping because of \\\"ops p50 < 1us\\\""));
  EXPECT_THAT(ran.report, HasSubstr("ended early by"));
  // The operations until then are all there, the phase that never ran made nothing invalid, and the hub agrees.
  EXPECT_TRUE(ran.summary["validity"]["valid"].get<bool>()) << ran.summary["validity"].dump();
  EXPECT_TRUE(ran.summary["hub"]["matches"].get<bool>());
  EXPECT_GT(ran.summary["operations"]["backendGetTwin"]["acknowledged"], 150);
  EXPECT_LT(ran.summary["operations"]["backendGetTwin"]["acknowledged"], 600);
}

TEST(PhasesUntil, EndAfterSoManyOperationsOrWhenAllIsQuiet) {
  const auto ran = run(R"(
fleets: [{name: meters, count: 20, onDesired: {apply: {delay: 300ms}, report: echo}}]
backends:
  - {name: rollout, do: patchDesired, patch: {a: {sequence: {}}}}
  - {name: ops, do: getTwin}
phases:
  - {name: count, until: {operations: 500}, timeout: 20s, load: {ops: {concurrency: 4}}}
  - {name: burst, duration: 500ms, load: {rollout: 100/s}}
  - {name: calm, until: {quiet: 700ms}, timeout: 20s}
invariants: [noLostUpdates]
)");
  ASSERT_EQ(ran.code, 0) << ran.text;
  std::map<std::string, json> phases;
  for (const auto& phase : ran.summary["phases"]) phases[phase["name"]] = phase;
  EXPECT_GE(phases["count"]["operations"]["backendGetTwin"]["acknowledged"], 500);
  EXPECT_LT(phases["count"]["durationSeconds"], 15.0);
  EXPECT_GE(phases["calm"]["durationSeconds"], 0.9) << "the work of 300 ms, then 700 ms of nothing";
  EXPECT_LT(phases["calm"]["durationSeconds"], 10.0);
}

TEST(ThinkTime, BoundsWhatAClosedLoadAsks) {
  const auto ran = run(R"(
fleets: [{name: meters, count: 20}]
backends: [{name: ops, do: getTwin}]
phases: [{name: steady, duration: 3s, load: {ops: {concurrency: 10, think: 100ms}}}]
)");
  ASSERT_EQ(ran.code, 0) << ran.text;
  // Ten users, a tenth of a second each: at most 100/s, and not far below beside a hub that answers in a millisecond.
  EXPECT_LE(ran.summary["operations"]["backendGetTwin"]["asked"], 310);
  EXPECT_GE(ran.summary["operations"]["backendGetTwin"]["asked"], 200);
}

/// What each stream was asked.
std::map<std::string, uint64_t> asked_of(const Ran& ran) {
  std::map<std::string, uint64_t> all;
  for (const auto& phase : ran.summary["phases"]) {
    for (const auto& [kind, operation] : phase["operations"].items()) {
      for (const auto& [name, stream] : operation["streams"].items()) {
        all[phase["name"].get<std::string>() + " " + name] = stream["asked"];
      }
    }
  }
  return all;
}

TEST(Seed, RepeatsWhatEachStreamIsAskedWithAnyNumberOfShardsAndWorkers) {
  const std::string scenario = R"(
seed: 11
fleets: [{name: meters, count: 60, reported: {a: {uniform: [1, 1000]}}, reconnect: {enabled: false}}]
backends:
  - {name: rollout, do: patchTags, tags: {a: {uniform: [1, 1000]}}}
  - {name: ops, do: query, sql: SELECT deviceId FROM devices, pages: first}
phases:
  - {name: connect, connect: {rate: 300/s, poisson: true}}
  - {name: steady, duration: 2s, load: {rollout: {shape: trace, file: traffic.csv, poisson: true}, ops: {rate: 10/s, poisson: true}, meters.getTwin: 2/s/device}}
  - {name: events, duration: 1s, events: [{do: report, share: 30%, over: 500ms}, {do: telemetry, share: 40%, over: 500ms}]}
invariants: [finalStateMatches]
)";
  const auto one = run(scenario, {"--shards", "1"});
  ASSERT_EQ(one.code, 0) << one.text;
  const auto asked = asked_of(one);
  EXPECT_GT(asked.at("steady rollout"), 150U);
  EXPECT_EQ(asked.at("steady meters.getTwin"), 240U);
  for (const std::vector<std::string>& shards :
       {std::vector<std::string>{"--shards", "2"}, {"--shards", "2", "--workers", "2"}}) {
    const auto other = run(scenario, shards);
    ASSERT_EQ(other.code, 0) << other.text;
    EXPECT_EQ(asked_of(other), asked) << shards.size();
  }
  EXPECT_NE(asked_of(run(scenario, {"--seed", "12"})), asked);
}

}  // namespace
}  // namespace twinstorm::testing
