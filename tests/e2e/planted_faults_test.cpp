// A hub that spoils an operation on purpose is caught: the run fails with the invariant that the fault violates, and
// the example names the very device, version and time that the hub says it spoiled.
#include <regex>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/base/time.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// 60 patches go round 20 devices; each is notified and reported once.
std::string scenario(const std::string& hub) {
  return "schema: twinstorm/scenario/1\nname: planted\ncanary: false\n" + hub + R"(
fleets: [{name: a, count: 20, onDesired: {report: echo}}]
backends: [{name: rollout, do: patchDesired, select: a, patch: {x: {uniform: [1, 1000000000]}}}]
phases:
  - {name: connect, connect: 100/s}
  - {name: steady, duration: 2s, load: {rollout: 30/s}}
  - {name: settle, until: {converged: 100%}, timeout: 3s}
limits: {convergenceTimeout: 2s}
invariants: [noLostUpdates, versionsMonotonic, finalStateMatches, noDuplicates]
)";
}

struct Ran {
  int code = -1;
  std::string err;
  json summary;
  std::string hub_log;
};

Ran run(const std::string& hub) {
  TemporaryFolder folder;
  const auto file = folder.path() / "scenario.yaml";
  const auto out = folder.path() / "run";
  write_file(file, scenario(hub));
  Process process{{TWINSTORM_BINARY, "run", file.string(), "--out", out.string(), "--quiet"}};
  Ran ran;
  ran.code = process.wait(std::chrono::seconds{60});
  ran.err = process.err() + process.out();
  if (fs::exists(out / "summary.json")) ran.summary = json::parse(read_file(out / "summary.json"));
  if (fs::exists(out / "hub.log")) ran.hub_log = read_file(out / "hub.log");
  return ran;
}

struct Planted {
  std::string device;
  int version = 0;
  WallTime at{};
};

/// From the hub's log, which says the same as `GET /twinstorm/planted`.
std::vector<Planted> planted_in(const std::string& log, const std::string& kind) {
  const std::regex line{"planted " + kind + ": (\\S+) version (\\d+) at (\\S+)"};
  std::vector<Planted> all;
  for (std::sregex_iterator at{log.begin(), log.end(), line}, end; at != end; ++at) {
    all.push_back({(*at)[1], std::stoi((*at)[2]), parse_iso8601((*at)[3].str()).value()});
  }
  return all;
}

json invariant(const Ran& ran, const std::string& name) {
  for (const auto& each : ran.summary["invariants"]) {
    if (each["name"] == name) return each;
  }
  return {};
}

/// The only fault, the only example: device in front, the version behind "version", the time within a second.
void expect_caught(const std::string& fault, int every, const std::string& violated) {
  SCOPED_TRACE(fault);
  const auto ran = run("hub: {plant: {" + fault + ": " + std::to_string(every) + "}}");
  ASSERT_EQ(ran.code, 10) << ran.err;
  const auto planted = planted_in(ran.hub_log, fault);
  ASSERT_EQ(planted.size(), 1U) << ran.hub_log;
  const auto found = invariant(ran, violated);
  EXPECT_EQ(found["status"], "violated") << ran.summary["invariants"].dump(1);
  ASSERT_EQ(found["examples"].size(), 1U) << found.dump(1);
  const auto example = found["examples"][0].get<std::string>();
  EXPECT_TRUE(example.starts_with(planted[0].device + ": ")) << example;
  std::smatch match;
  ASSERT_TRUE(std::regex_search(example, match, std::regex{R"(version (\d+).*?(\d{4}-\d\d-\d\dT[0-9:.]+Z))"}))
      << example;
  EXPECT_EQ(std::stoi(match[1]), planted[0].version) << example;
  const Nanos apart = parse_iso8601(match[2].str()).value() - planted[0].at;
  EXPECT_LT(std::abs(to_seconds(apart)), 1.0) << example;
}

TEST(PlantedFault, ANotificationThatIsNeverSentIsALostUpdate) {
  expect_caught("dropNotification", 50, "noLostUpdates");
}

TEST(PlantedFault, TwoNotificationsExchangedAreAVersionThatWentBack) {
  expect_caught("swapNotifications", 31, "versionsMonotonic");
}

TEST(PlantedFault, ANotificationSentTwiceIsADuplicate) { expect_caught("duplicateNotification", 50, "noDuplicates"); }

TEST(PlantedFault, AReportAcknowledgedAndNotStoredIsAWrongFinalState) {
  expect_caught("loseReported", 50, "finalStateMatches");
}

TEST(PlantedFault, APatchAnsweredAndNotStoredIsALostUpdateAndAWrongFinalState) {
  expect_caught("forgetDesired", 50, "noLostUpdates");
  expect_caught("forgetDesired", 50, "finalStateMatches");
}

TEST(PlantedFault, WithoutFaultsAllInvariantsHold) {
  const auto ran = run("target: embedded");
  ASSERT_EQ(ran.code, 0) << ran.err;
  ASSERT_EQ(ran.summary["invariants"].size(), 4U);
  for (const auto& each : ran.summary["invariants"]) {
    EXPECT_EQ(each["status"], "held") << each.dump();
    EXPECT_TRUE(each["examples"].empty()) << each.dump();
  }
  EXPECT_EQ(ran.hub_log.find("planted"), std::string::npos) << ran.hub_log;
}

}  // namespace
}  // namespace twinstorm::testing
