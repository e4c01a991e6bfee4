// Every reason not to believe a run, provoked: the run is INVALID (exit code 13) and says why in one sentence.
// Elsewhere: a lost hub, devices that never connect and too few samples (tests/e2e/run_test.cpp).
#include <atomic>

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

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

/// Processes that do nothing but compute, on one processor.
class Crowd {
 public:
  explicit Crowd(int members) {
    CPU_ZERO(&processor_);
    CPU_SET(0, &processor_);
    for (int i = 0; i < members; ++i) {
      const pid_t pid = fork();
      if (pid == 0) {
        alarm(30);  // never longer, whatever becomes of the test
        sched_setaffinity(0, sizeof(processor_), &processor_);
        for (std::atomic<uint64_t> turns{0};; turns.fetch_add(1)) {
        }
      }
      members_.push_back(pid);
    }
  }
  ~Crowd() {
    for (const pid_t pid : members_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  /// From now on the process, and every thread it starts later, has to live with them.
  void take_in(pid_t pid) const { ASSERT_EQ(sched_setaffinity(pid, sizeof(processor_), &processor_), 0); }

 private:
  cpu_set_t processor_{};
  std::vector<pid_t> members_;
};

TEST(InvalidRun, AGeneratorThatSharesItsProcessorWithManyOthersStartsLate) {
  ScriptedHub hub;
  const auto run = run_scenario(hub.ready(),
                                "canary: false\nlimits: {scheduleLag: 20ms}\n"
                                "fleets:\n  - {name: devices, count: 200, deviceId: 'dev-{index:03}'}\n"
                                "phases:\n  - {name: connect, connect: 200/s, record: false}\n"
                                "  - {name: steady, duration: 2s, load: {devices.telemetry: 10000/s}}\n",
                                {"--shards", "1"}, {}, [](Process& process) {
                                  const Crowd crowd{25};
                                  crowd.take_in(process.pid());
                                  std::this_thread::sleep_for(std::chrono::seconds{5});
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

/// Asked, by operation, phase and worker, is the sum of what became of it, and what the hub counted by itself.
class Conservation : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Workers, Conservation, ::testing::Values("1", "3"));

TEST_P(Conservation, WhatWasAskedIsWhatBecameOfItAndWhatTheHubCounted) {
  ScriptedHub hub;
  const auto run = run_scenario(
      hub.ready(),
      "fleets:\n  - {name: devices, count: 100, deviceId: 'dev-{index:03}', reported: {a: 1}, onDesired: {report: "
      "echo}}\n"
      "backends:\n  - {name: writer, do: patchDesired, patch: {a: 2}}\n"
      "phases:\n  - {name: connect, connect: 200/s}\n"
      "  - {name: steady, duration: 2s, load: {writer: 100/s, devices.report: 200/s, devices.telemetry: 300/s}}\n"
      "  - {name: settle, until: {converged: 100%}, timeout: 10s}\n"
      "invariants: [noLostUpdates, versionsMonotonic]\n",
      {"--workers", GetParam(), "--shards", "3"});
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
  uint64_t in_workers = 0;
  for (const auto& worker : run.record["workers"]) in_workers += adds_up(worker["ledger"]);
  if (!run.record["workers"].empty()) {
    EXPECT_EQ(in_workers, adds_up(run.record["ledger"]));
  }
  EXPECT_EQ(std::to_string(std::max<size_t>(1, run.record["workers"].size())), GetParam());
  ASSERT_TRUE(run.record["hub"]["checked"].get<bool>());
  for (const auto& row : run.record["hub"]["rows"]) EXPECT_EQ(row["run"], row["hub"]) << row.dump();
}

}  // namespace
}  // namespace twinstorm::testing
