// A generator of several processes: one run, one record, nothing counted twice or left out.
#include <csignal>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::seconds;

std::vector<std::string> run_of(const fs::path& folder, std::vector<std::string> more) {
  std::vector<std::string> words{TWINSTORM_BINARY, "run", "scenarios/smoke.yaml", "--out", folder.string()};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

json summary(const fs::path& folder) { return json::parse(read_file(folder / "summary.json")); }

std::string name_of(pid_t pid) {
  auto name = read_file("/proc/" + std::to_string(pid) + "/comm");
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return name;
}

pid_t child_named(const Process& run, const std::string& name) {
  for (const pid_t child : run.children()) {
    if (name_of(child) == name) return child;
  }
  return 0;
}

bool runs(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  return !stat.empty() && stat.find(") Z") == std::string::npos;
}

/// The sum over the workers of one column of their ledgers.
uint64_t sum_of(const json& record, const char* column) {
  uint64_t sum = 0;
  for (const auto& worker : record["workers"]) sum += worker["ledger"][column].get<uint64_t>();
  return sum;
}

TEST(Workers, SharesOfThreeAddUpToTheRunOfOne) {
  std::vector<json> asked;
  for (const char* workers : {"1", "3"}) {
    TemporaryFolder folder;
    Process run{run_of(folder.path(),
                       {"--workers", workers, "--set", "phases[steady].duration=2s", "--set", "fleets[0].count=200"})};
    ASSERT_EQ(run.wait(seconds{60}), 0) << run.err() << run.out();
    const auto record = summary(folder.path());
    json operations;
    for (const auto& [name, operation] : record["operations"].items()) operations[name] = operation["asked"];
    asked.push_back(operations);
    EXPECT_TRUE(record["hub"]["matches"].get<bool>()) << record["hub"].dump();
    for (const auto& invariant : record["invariants"]) EXPECT_EQ(invariant["status"], "held") << invariant.dump();
    if (workers == std::string{"1"}) {
      EXPECT_TRUE(record["workers"].empty());
      continue;
    }
    ASSERT_EQ(record["workers"].size(), 3u);
    uint64_t devices = 0;
    for (const auto& worker : record["workers"]) {
      EXPECT_FALSE(worker["lost"].get<bool>());
      EXPECT_TRUE(worker["ledger"]["holds"].get<bool>());
      EXPECT_GT(worker["ledger"]["acknowledged"], 0);
      EXPECT_GT(worker["residentBytes"], 0);
      devices += worker["devices"].get<uint64_t>();
    }
    EXPECT_EQ(devices, 200u);
    for (const char* column : {"asked", "sent", "acknowledged", "failed", "timedOut", "dropped", "inFlight"}) {
      EXPECT_EQ(sum_of(record, column), record["ledger"][column].get<uint64_t>()) << column;
    }
    EXPECT_NE(run.out().find("worker-3: 66 devices"), std::string::npos) << run.out();
    EXPECT_NE(record["run"]["command"].get<std::string>().find("--workers 3"), std::string::npos);
  }
  EXPECT_EQ(asked[0], asked[1]);
}

TEST(Workers, SeveralHubsHoldOneDeviceInTurnEach) {
  TemporaryFolder folder;
  Process run{run_of(folder.path(), {"--workers", "2", "--set", "target={embedded: {processes: 2}}", "--set",
                                     "phases[steady].duration=2s"})};
  ASSERT_EQ(run.wait(seconds{60}), 0) << run.err() << run.out();
  const auto record = summary(folder.path());
  EXPECT_EQ(record["devices"]["connected"], 200);
  EXPECT_TRUE(record["hub"]["matches"].get<bool>()) << record["hub"].dump();
  for (const auto& invariant : record["invariants"]) EXPECT_EQ(invariant["status"], "held") << invariant.dump();
  for (const char* log : {"hub-1.log", "hub-2.log"}) EXPECT_TRUE(fs::exists(folder.path() / log)) << log;
}

TEST(Workers, OneThatIsKilledMakesTheRunInvalidAndTheOthersFinishIt) {
  TemporaryFolder folder;
  Process run{run_of(folder.path(), {"--workers", "3", "--set", "phases[steady].duration=5s", "--set",
                                     "phases[settle].timeout=5s", "--set", "limits.convergenceTimeout=3s"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  const pid_t victim = child_named(run, "twinstorm-w2");
  ASSERT_NE(victim, 0);
  kill(victim, SIGKILL);
  EXPECT_EQ(run.wait(seconds{60}), 13) << run.err() << run.out();
  const auto record = summary(folder.path());
  EXPECT_EQ(record["verdict"]["status"], "invalid");
  std::vector<std::string> codes;
  for (const auto& finding : record["validity"]["findings"]) codes.push_back(finding["code"]);
  // Lost devices and whatever the worker had in flight explain no other finding about the books.
  EXPECT_NE(std::find(codes.begin(), codes.end(), "workerLost"), codes.end()) << record["validity"].dump();
  for (const char* none : {"ledger", "hubCounts", "hubLost"}) {
    EXPECT_EQ(std::find(codes.begin(), codes.end(), none), codes.end()) << record["validity"].dump();
  }
  ASSERT_EQ(record["workers"].size(), 3u);
  for (const auto& worker : record["workers"]) {
    const bool lost = worker["name"] == "worker-2";
    EXPECT_EQ(worker["lost"].get<bool>(), lost);
    EXPECT_GT(worker["ledger"]["acknowledged"], 0) << "what it counted until then is kept";
    if (lost) {
      EXPECT_EQ(worker["end"], "was killed by signal 9 (Killed)");
    }
  }
  EXPECT_NE(run.out().find("\"worker-2\" was lost"), std::string::npos) << run.out();
  EXPECT_TRUE(fs::exists(folder.path() / "report.html"));
}

TEST(Workers, OneThatHangsIsGivenUpAtTheEnd) {
  TemporaryFolder folder;
  Process run{run_of(folder.path(),
                     {"--workers", "2", "--set", "phases[steady].duration=3s", "--set", "phases[settle].timeout=1s",
                      "--set", "limits={convergenceTimeout: 1s, drainTimeout: 1s}", "--set", "canary=false"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  const pid_t victim = child_named(run, "twinstorm-w1");
  ASSERT_NE(victim, 0);
  kill(victim, SIGSTOP);
  EXPECT_EQ(run.wait(seconds{90}), 13) << run.err() << run.out();
  EXPECT_NE(run.out().find("gave no answer"), std::string::npos) << run.out();
  EXPECT_FALSE(runs(victim));
}

TEST(Workers, GoWithTheGenerator) {
  TemporaryFolder folder;
  pid_t worker = 0;
  {
    Process run{run_of(folder.path(), {"--workers", "2", "--set", "phases[steady].duration=60s"})};
    ASSERT_TRUE(run.saw("steady (")) << run.err();
    worker = child_named(run, "twinstorm-w1");
    ASSERT_NE(worker, 0);
    run.signal(SIGKILL);
    run.wait();
  }
  for (int i = 0; i < 200 && runs(worker); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
  EXPECT_FALSE(runs(worker));
}

TEST(Workers, CtrlCEndsThemInOrder) {
  TemporaryFolder folder;
  Process run{run_of(folder.path(), {"--workers", "2", "--set", "phases[steady].duration=60s"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  run.signal(SIGINT);
  EXPECT_EQ(run.wait(seconds{20}), 130) << run.err() << run.out();
  const auto record = summary(folder.path());
  for (const auto& worker : record["workers"]) EXPECT_FALSE(worker["lost"].get<bool>());
}

TEST(Workers, MustNotBeMoreThanTheShards) {
  TemporaryFolder folder;
  Process run{run_of(folder.path(), {"--workers", "3", "--shards", "2"})};
  EXPECT_EQ(run.wait(), 2);
  EXPECT_NE(run.err().find("--shards 3"), std::string::npos) << run.err();
}

}  // namespace
}  // namespace twinstorm::testing
