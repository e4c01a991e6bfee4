// Every reason not to believe a run, provoked: the run is INVALID (exit code 13) and says why in one sentence.
// Elsewhere: a lost hub, devices that never connect and too few samples (tests/e2e/run_test.cpp).
#include "tests/truth/truth_run.hpp"

namespace twinstorm::testing {
namespace {

using ::testing::AssertionFailure;
using ::testing::AssertionSuccess;

std::string reports(const std::string& more = {}) {
  return more +
         "fleets:\n  - {name: devices, count: 200, deviceId: 'dev-{index:03}', reported: {a: 1}}\n"
         "phases:\n  - {name: connect, connect: 200/s, record: false}\n"
         "  - {name: steady, duration: 4s, load: {devices.report: 500/s}}\n";
}

::testing::AssertionResult is_invalid(const RunResult& run, const std::string& code, const std::string& says) {
  if (run.code != 13) return AssertionFailure() << "exit code " << run.code << "\n" << run.err << run.out;
  for (const auto& finding : run.record["validity"]["findings"]) {
    if (finding["code"] != code) continue;
    const auto text = finding["text"].get<std::string>();
    if (text.find(says) == std::string::npos) return AssertionFailure() << "\"" << text << "\" lacks " << says;
    return AssertionSuccess();
  }
  return AssertionFailure() << "no finding " << code << " in " << run.record["validity"].dump();
}

TEST(InvalidRun, AGeneratorThatGetsNoProcessorStartsLate) {
  ScriptedHub hub;
  // Stopped for a second in the middle: what was due meanwhile starts late, all of it.
  const auto run = run_scenario(hub.ready(), reports(), {"--shards", "1"}, {}, [](Process& process) {
    std::this_thread::sleep_for(std::chrono::seconds{3});
    process.signal(SIGSTOP);
    std::this_thread::sleep_for(std::chrono::seconds{1});
    process.signal(SIGCONT);
  });
  EXPECT_TRUE(is_invalid(run, "scheduleLag", "operations started late: schedule lag p99"));
}

TEST(InvalidRun, AShardThatWorksLongerThanItMay) {
  ScriptedHub hub;
  const auto run = run_scenario(hub.ready(), reports("limits: {busy: 0.1%}\n"), {"--shards", "1"});
  EXPECT_TRUE(is_invalid(run, "shardBusy", "shard 0 worked"));
}

TEST(InvalidRun, ArrivalsThatFoundNoRoomAreDroppedAndCounted) {
  ScriptedHub hub{{"--delay", "constant:500ms"}};
  const auto run = run_scenario(hub.ready(),
                                "limits: {backlogMax: 50, drainTimeout: 2s}\n"
                                "fleets:\n  - {name: devices, count: 10, deviceId: 'dev-{index:03}'}\n"
                                "backends:\n  - {name: writer, do: patchDesired, patch: {a: 1}, connections: 200}\n"
                                "phases:\n  - {name: steady, duration: 2s, load: {writer: 300/s}}\n",
                                {"--shards", "1"});
  EXPECT_TRUE(is_invalid(run, "dropped", "the load asked for was not the load made"));
  const auto& patches = run.record["operations"]["patchDesired"];
  EXPECT_EQ(patches["asked"], 600);
  EXPECT_EQ(patches["asked"].get<uint64_t>(), patches["sent"].get<uint64_t>() + patches["dropped"].get<uint64_t>());
}

TEST(InvalidRun, AWallClockThatJumps) {
  ScriptedHub hub;
  ::setenv("LD_PRELOAD", CLOCK_STEP_SHIM, 1);
  const auto run = run_scenario(hub.ready(), reports(), {"--shards", "1"});
  ::unsetenv("LD_PRELOAD");
  EXPECT_TRUE(is_invalid(run, "clockStep", "the wall clock stepped by 5"));
}

/// Asked, by operation and phase, is the sum of what became of it, and what the hub counted by itself.
TEST(Conservation, WhatWasAskedIsWhatBecameOfItAndWhatTheHubCounted) {
  ScriptedHub hub;
  const auto run = run_scenario(
      hub.ready(),
      "fleets:\n  - {name: devices, count: 100, deviceId: 'dev-{index:03}', reported: {a: 1}, onDesired: {report: "
      "echo}}\n"
      "backends:\n  - {name: writer, do: patchDesired, patch: {a: 2}}\n"
      "phases:\n  - {name: connect, connect: 200/s}\n"
      "  - {name: steady, duration: 2s, load: {writer: 100/s, devices.report: 200/s, devices.telemetry: 300/s}}\n"
      "  - {name: settle, until: {converged: 100%}, timeout: 10s}\n"
      "invariants: [noLostUpdates, versionsMonotonic]\n");
  ASSERT_EQ(run.code, 0) << run.err << run.out;
  const auto adds_up = [](const json& o) {
    const auto count = [&](const char* name) { return o[name].get<uint64_t>(); };
    EXPECT_EQ(count("asked"), count("acknowledged") + count("failed") + count("timedOut") + count("dropped") +
                                  count("inFlight") + count("notStarted"))
        << o.dump();
    return count("asked");
  };
  for (const auto& [name, operation] : run.record["operations"].items()) {
    const auto asked = adds_up(operation);
    uint64_t in_phases = 0;
    for (const auto& phase : run.record["phases"]) in_phases += adds_up(phase["operations"][name]);
    EXPECT_EQ(asked, in_phases) << name;
  }
  EXPECT_EQ(run.record["operations"]["patchDesired"]["asked"], 200);
  EXPECT_EQ(run.record["operations"]["telemetry"]["asked"], 600);
  ASSERT_TRUE(run.record["hub"]["checked"].get<bool>());
  for (const auto& row : run.record["hub"]["rows"]) EXPECT_EQ(row["run"], row["hub"]) << row.dump();
}

}  // namespace
}  // namespace twinstorm::testing
