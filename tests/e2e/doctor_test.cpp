// What a machine can hold, as a user meets it: doctor, the refusal of a run, --force, and source addresses.
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::seconds;

/// `twinstorm words`, after `before` in the same shell.
std::vector<std::string> shell(const std::string& before, const std::string& words) {
  return {"sh", "-c", before + " && exec " TWINSTORM_BINARY " " + words};
}

constexpr const char* kShort = " --set phases[steady].duration=2s";

/// A network namespace of its own, whose addresses have 50 ports each; 200 devices do not fit into one address.
const std::string kFewPorts =
    "ip link set lo up && echo '40000 40049' > /proc/sys/net/ipv4/ip_local_port_range && exec " TWINSTORM_BINARY " ";
std::vector<std::string> few_ports(const std::string& words) {
  return {"unshare", "-n", "sh", "-c", kFewPorts + words};
}
bool may_make_namespaces() {
  Process probe{{"unshare", "-n", "sh", "-c",
                 "ip link set lo up && echo '40000 40049' > "
                 "/proc/sys/net/ipv4/ip_local_port_range"}};
  return probe.wait() == 0;
}

json checks_of(const std::string& out) {
  json by_name;
  const auto document = json::parse(out);
  for (const auto& each : document["checks"]) by_name[each["check"].get<std::string>()] = each;
  return by_name;
}

TEST(Doctor, TellsHowManyDevicesTheMachineCanHoldAndWhatEndsIt) {
  Process text{shell("ulimit -n 1000", "doctor")};
  EXPECT_EQ(text.wait(), 0) << text.err();
  EXPECT_NE(text.out().find("open files of a process"), std::string::npos) << text.out();
  EXPECT_NE(text.out().find("mqtt over TLS"), std::string::npos);
  EXPECT_NE(text.out().find("936  (open files of the generator)"), std::string::npos) << text.out();

  Process as_json{shell("ulimit -n 1000", "doctor --json --workers 2")};
  EXPECT_EQ(as_json.wait(), 0) << as_json.err();
  const auto document = json::parse(as_json.out());
  EXPECT_EQ(document["schema"], "twinstorm/doctor/1");
  EXPECT_EQ(document["devices"][0]["transport"], "mqtt");
  EXPECT_EQ(document["devices"][0]["hubHere"], 2 * 936);
}

TEST(Doctor, ComparesAScenarioWithTheMachine) {
  Process fits{{TWINSTORM_BINARY, "doctor", "scenarios/smoke.yaml"}};
  EXPECT_EQ(fits.wait(), 0) << fits.err();
  EXPECT_EQ(fits.out().find("smoke: 200 devices, this machine can hold them\n"), 0u) << fits.out();

  Process fails{shell("ulimit -n 200", "doctor scenarios/smoke.yaml --json --shards 1")};
  EXPECT_EQ(fails.wait(), 3) << fails.err();
  const auto checks = checks_of(fails.out());
  EXPECT_EQ(checks["descriptors"]["severity"], "failure");
  EXPECT_EQ(checks["descriptors"]["have"], "200");
  EXPECT_EQ(checks["hubDescriptors"]["severity"], "failure");
  EXPECT_EQ(checks["ports"]["severity"], "ok");

  Process wrong{{TWINSTORM_BINARY, "doctor", "scenarios/not-there.yaml"}};
  EXPECT_EQ(wrong.wait(), 2);
}

TEST(Preflight, RefusesARunBeyondTheMachineWithTheArithmeticAndStartsNothing) {
  TemporaryFolder folder;
  const auto out = folder.path() / "run";
  Process run{shell("ulimit -n 200", "run scenarios/smoke.yaml --shards 1 --out " + out.string())};
  EXPECT_EQ(run.wait(), 3);
  EXPECT_NE(
      run.err().find("this machine cannot hold the run:\n  open files of the generator: 268 needed, 200 there (200 "
                     "devices with a connection each + 68 for back ends, the hub's control and files = 268): "
                     "--workers 2, or ulimit -n 268"),
      std::string::npos)
      << run.err();
  EXPECT_NE(run.err().find("--force runs it all the same"), std::string::npos) << run.err();
  EXPECT_FALSE(fs::exists(out));
}

TEST(Preflight, ForceRunsItAndTheRecordSaysSo) {
  TemporaryFolder folder;
  // Fewer than the rules ask for, and just enough.
  Process run{
      shell("ulimit -n 262", "run scenarios/smoke.yaml --shards 1 --force --out " + folder.path().string() + kShort)};
  EXPECT_EQ(run.wait(), 0) << run.err() << run.out();
  const auto record = json::parse(read_file(folder.path() / "summary.json"));
  ASSERT_GE(record["run"]["forced"].size(), 1u);
  EXPECT_EQ(record["run"]["forced"][0].get<std::string>().find("open files of the generator: 268 needed, 262 there"),
            0u);
  EXPECT_TRUE(record["validity"]["valid"].get<bool>()) << record["validity"].dump();
  EXPECT_NE(run.out().find("forced beyond the limits"), std::string::npos) << run.out();
  EXPECT_NE(read_file(folder.path() / "report.html").find("Forced beyond"), std::string::npos);
}

TEST(SourceAddresses, OnLoopbackAreAsManyAsTheDevicesNeed) {
  if (!may_make_namespaces()) GTEST_SKIP() << "needs the right to make network namespaces";
  TemporaryFolder folder;
  Process run{few_ports("run scenarios/smoke.yaml --shards 1 --out " + folder.path().string() + kShort)};
  EXPECT_EQ(run.wait(), 0) << run.err() << run.out();
  const auto record = json::parse(read_file(folder.path() / "summary.json"));
  EXPECT_EQ(record["devices"]["connected"], 200);
}

TEST(SourceAddresses, OfTheScenarioThatDoNotSufficeAreRefusedWithTheNumber) {
  if (!may_make_namespaces()) GTEST_SKIP() << "needs the right to make network namespaces";
  TemporaryFolder folder;
  const std::string set = " --set 'target={embedded: {}, sourceAddresses: [127.0.0.1-127.0.0.3]}'";
  Process run{few_ports("run scenarios/smoke.yaml --shards 1 --out " + (folder.path() / "run").string() + set)};
  EXPECT_EQ(run.wait(), 3);
  EXPECT_NE(run.err().find("200 connections to one address and port; 3 source addresses x 50 ports"), std::string::npos)
      << run.err();
}

}  // namespace
}  // namespace twinstorm::testing
