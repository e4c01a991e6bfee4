// The binary as a user meets it: whole runs, their files, exit codes and messages.
#include <csignal>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/mount.h>

#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::seconds;

std::vector<std::string> twinstorm(std::vector<std::string> words) {
  words.insert(words.begin(), TWINSTORM_BINARY);
  return words;
}

/// A short run of smoke.yaml into `folder`.
std::vector<std::string> short_run(const fs::path& folder, std::vector<std::string> more = {}) {
  auto words =
      twinstorm({"run", "scenarios/smoke.yaml", "--out", folder.string(), "--set", "phases[steady].duration=2s"});
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

json summary(const fs::path& folder) { return json::parse(read_file(folder / "summary.json")); }

/// Everything a finished run must have, whatever its verdict.
void expect_complete(const fs::path& folder) {
  for (const char* name :
       {"summary.json", "series.ndjson", "events.ndjson", "operations.hlog", "convergence.hlog", "generator.hlog",
        "resolved.yaml", "env.json", "manifest.json", "report.html", "junit.xml"}) {
    EXPECT_TRUE(fs::exists(folder / name)) << name;
  }
  const auto record = summary(folder);
  EXPECT_EQ(record["schema"], "twinstorm/summary/1");
  EXPECT_TRUE(record["ledger"]["holds"].get<bool>()) << record["ledger"].dump();
  const auto& l = record["ledger"];
  EXPECT_EQ(l["sent"].get<uint64_t>(), l["acknowledged"].get<uint64_t>() + l["failed"].get<uint64_t>() +
                                           l["timedOut"].get<uint64_t>() + l["inFlight"].get<uint64_t>());
}

/// A hub of its own with its ready file.
struct OwnHub {
  TemporaryFolder folder;
  fs::path ready = folder.path() / "hub.json";
  Process process{twinstorm({"hub", "--mqtt-port", "0", "--http-port", "0", "--mqtts-port", "off", "--https-port",
                             "off", "--ready-file", ready.string(), "--quiet"})};
  json address;
  OwnHub() {
    for (int i = 0; i < 500 && !fs::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    address = json::parse(read_file(ready));
  }
};

TEST(Run, SmokePassesWithEveryFileAndTheHubCountingTheSame) {
  TemporaryFolder folder;
  Process run{short_run(folder.path())};
  ASSERT_EQ(run.wait(), 0) << run.err() << run.out();
  expect_complete(folder.path());
  const auto record = summary(folder.path());
  EXPECT_EQ(record["verdict"]["status"], "passed");
  EXPECT_EQ(record["devices"]["connected"], 200);
  EXPECT_EQ(record["operations"]["patchDesired"]["acknowledged"], 200);
  EXPECT_EQ(record["convergence"]["applied"], 200);
  EXPECT_TRUE(record["hub"]["checked"].get<bool>());
  EXPECT_TRUE(record["hub"]["matches"].get<bool>()) << record["hub"].dump();
  for (const auto& row : record["hub"]["rows"]) EXPECT_EQ(row["run"], row["hub"]) << row.dump();
  for (const auto& invariant : record["invariants"]) EXPECT_EQ(invariant["status"], "held") << invariant.dump();
  EXPECT_EQ(last_line(run.out()), (folder.path() / "report.html").string());
  EXPECT_EQ(run.out().find("SharedAccessKey"), std::string::npos);
}

TEST(Run, TheSameSeedAsksForTheSameOperationsWhateverTheShards) {
  std::vector<json> operations;
  for (const char* shards : {"1", "2"}) {
    TemporaryFolder folder;
    Process run{short_run(folder.path(), {"--shards", shards, "--seed", "7"})};
    ASSERT_EQ(run.wait(), 0) << run.err();
    json asked;
    for (const auto& [name, operation] : summary(folder.path())["operations"].items()) asked[name] = operation["asked"];
    operations.push_back(asked);
  }
  EXPECT_EQ(operations[0], operations[1]);
}

TEST(Run, EveryShippedScenarioPassesWhenShortened) {
  struct Case {
    const char* file;
    std::vector<std::string> overrides;
  };
  const std::vector<Case> cases{
      {"rollout", {"fleets[0].count=300", "phases[warmup].duration=1s", "phases[steady].duration=3s", "slos=[]"}},
      {"query-mix", {"fleets[0].count=200", "slos=[]"}},
      {"reconnect-storm", {"fleets[0].count=300", "slos=[]"}},
  };
  for (const auto& each : cases) {
    TemporaryFolder folder;
    auto words = twinstorm({"run", "scenarios/" + std::string{each.file} + ".yaml", "--out", folder.path().string()});
    for (const auto& text : each.overrides) words.insert(words.end(), {"--set", text});
    Process run{words};
    EXPECT_EQ(run.wait(seconds{150}), 0) << each.file << run.err() << run.out();
    expect_complete(folder.path());
  }
}

TEST(Run, AWrongScenarioListsEveryMistakeAndStartsNothing) {
  TemporaryFolder folder;
  const auto file = folder.path() / "wrong.yaml";
  write_file(file,
             "schema: twinstorm/scenario/1\nname: wrong\nfleets:\n  - {name: a, count: -3}\nphases:\n  - {name: p, "
             "duraton: 3}\n");
  const auto out = folder.path() / "run";
  Process run{twinstorm({"run", file.string(), "--out", out.string()})};
  EXPECT_EQ(run.wait(), 2);
  EXPECT_NE(run.err().find("wrong.yaml:4:"), std::string::npos) << run.err();
  EXPECT_NE(run.err().find("did you mean \"duration\""), std::string::npos) << run.err();
  EXPECT_FALSE(fs::exists(out));
}

TEST(Run, AHubThatCannotBeReachedIsNamedWithHostPortAndReason) {
  TemporaryFolder folder;
  const std::string target =
      "target={connectionString: 'HostName=127.0.0.1;SharedAccessKeyName=iothubowner;SharedAccessKey=a2V5', mqttPort: "
      "1, httpPort: 2}";
  Process run{short_run(folder.path() / "run", {"--set", target})};
  EXPECT_EQ(run.wait(), 3);
  EXPECT_NE(run.err().find("127.0.0.1:1"), std::string::npos) << run.err();
  EXPECT_NE(run.err().find("refused"), std::string::npos) << run.err();
}

TEST(Run, WrongCredentialsAreRefusedBeforeAnythingIsMeasured) {
  OwnHub hub;
  TemporaryFolder folder;
  const auto port = [&](const char* name) { return std::to_string(hub.address[name].get<int>()); };
  const std::string target =
      "target={connectionString: 'HostName=127.0.0.1;SharedAccessKeyName=iothubowner;SharedAccessKey=d3Jvbmc=', "
      "mqttPort: " +
      port("mqttPort") + ", httpPort: " + port("httpPort") + "}";
  Process run{short_run(folder.path() / "run", {"--set", target})};
  EXPECT_EQ(run.wait(), 3);
  EXPECT_NE(run.err().find("refuses the credentials (HTTP 401)"), std::string::npos) << run.err();
  EXPECT_NE(run.err().find("127.0.0.1:" + port("httpPort")), std::string::npos) << run.err();
  EXPECT_EQ(run.err().find("d3Jvbmc="), std::string::npos) << "a key was printed";
}

TEST(Run, AHubOfItsOwnServesTwoRunsWithTheSameDevices) {
  OwnHub hub;
  for (int round = 0; round < 2; ++round) {
    TemporaryFolder folder;
    Process run{short_run(folder.path(), {"--set", "target={readyFile: '" + hub.ready.string() + "'}"})};
    ASSERT_EQ(run.wait(), 0) << run.err() << run.out();
    EXPECT_TRUE(summary(folder.path())["hub"]["matches"].get<bool>());
  }
  hub.process.signal(SIGTERM);
  EXPECT_EQ(hub.process.wait(), 0);
}

TEST(Run, DevicesConnectWithTheirOwnConnectionStrings) {
  OwnHub hub;
  TemporaryFolder folder;
  const auto strings = folder.path() / "devices.txt";
  const std::string host = hub.address["hostName"], key = protocol::base64_encode("the key of a device");
  std::string lines = "# one device connection string a line\n";
  for (const char* id : {"boiler", "pump#7"})
    lines += "HostName=" + host + ";DeviceId=" + id + ";SharedAccessKey=" + key + "\n";
  write_file(strings, lines);
  const std::vector<std::string> overrides{"--set", "target={readyFile: '" + hub.ready.string() + "'}", "--set",
                                           "fleets[0]={name: thermostats, count: 2, connectionStrings: '" +
                                               strings.string() + "', reported: {a: 1}, onDesired: {report: echo}}"};

  Process unknown{short_run(folder.path() / "unknown", overrides)};
  EXPECT_EQ(unknown.wait(), 3);
  EXPECT_NE(unknown.err().find("of connectionStrings is not registered"), std::string::npos) << unknown.err();

  // Registered by somebody else, as far as the tool is concerned.
  const auto owner = protocol::parse_connection_string(hub.address["ownerConnectionString"].get<std::string>()).value();
  const auto token = protocol::make_sas_token(host, protocol::base64_decode(owner.shared_access_key).value(),
                                              4'000'000'000, owner.shared_access_key_name);
  const json symmetric{{"primaryKey", key}, {"secondaryKey", key}};
  for (const char* id : {"boiler", "pump%237"}) {
    const json device{{"deviceId", id == std::string{"boiler"} ? "boiler" : "pump#7"},
                      {"status", "enabled"},
                      {"authentication", {{"type", "sas"}, {"symmetricKey", symmetric}}}};
    http_request(hub.address["httpPort"], "PUT", "/devices/" + std::string{id} + "?api-version=2021-04-12", token,
                 device.dump());
  }
  Process run{short_run(folder.path() / "run", overrides)};
  ASSERT_EQ(run.wait(), 0) << run.err() << run.out();
  const auto record = summary(folder.path() / "run");
  EXPECT_EQ(record["devices"]["connected"], 2);
  EXPECT_EQ(record["convergence"]["applied"], 200);
  EXPECT_EQ(run.out().find(key), std::string::npos);
  EXPECT_EQ(read_file(folder.path() / "run" / "resolved.yaml").find(key), std::string::npos);
}

TEST(Run, KillingTheHubInTheMiddleEndsWithAVerdictAndAReport) {
  TemporaryFolder folder;
  Process run{twinstorm(
      {"run", "scenarios/smoke.yaml", "--out", folder.path().string(), "--set", "phases[steady].duration=60s"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  const auto children = run.children();
  ASSERT_EQ(children.size(), 1u);
  kill(children.front(), SIGKILL);
  EXPECT_EQ(run.wait(seconds{20}), 13) << run.err() << run.out();
  expect_complete(folder.path());
  EXPECT_EQ(summary(folder.path())["verdict"]["status"], "invalid");
  EXPECT_NE(run.out().find("killed by signal 9"), std::string::npos) << run.out();
}

TEST(Run, AHubOfSomebodyElseThatDiesMakesTheRunInvalid) {
  OwnHub hub;
  TemporaryFolder folder;
  Process run{short_run(folder.path(), {"--set", "target={readyFile: '" + hub.ready.string() + "'}", "--set", "slos=[]",
                                        "--set", "invariants=[]", "--set", "phases[settle].timeout=2s"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  hub.process.signal(SIGKILL);
  EXPECT_EQ(run.wait(seconds{60}), 13) << run.err() << run.out();
  expect_complete(folder.path());
}

TEST(Run, DevicesThatDoNotConnectInTimeMakeTheRunInvalid) {
  TemporaryFolder folder;
  Process run{short_run(folder.path(), {"--set", "phases[connect]={name: connect, connect: 10/s, timeout: 1s}", "--set",
                                        "slos=[]", "--set", "invariants=[]", "--set", "phases[settle].timeout=2s",
                                        "--set", "limits.convergenceTimeout=2s"})};
  EXPECT_EQ(run.wait(), 13) << run.err() << run.out();
  EXPECT_NE(run.out().find("invalid (phaseTimeout)"), std::string::npos) << run.out();
}

TEST(Run, SequencesOfPatchesCountArrivals) {
  TemporaryFolder folder;
  Process run{short_run(folder.path(), {"--set", "backends[0].patch={revision: {sequence: {start: 1, step: 10}}}"})};
  EXPECT_EQ(run.wait(), 0) << run.err() << run.out();
  EXPECT_EQ(summary(folder.path())["operations"]["patchDesired"]["acknowledged"], 200);
}

TEST(Run, AMetricsAddressThatCannotBeServedIsSaidBeforeTheRun) {
  TemporaryFolder folder;
  Process run{short_run(folder.path() / "run", {"--metrics-listen", "nonsense:99999"})};
  EXPECT_EQ(run.wait(), 3) << run.out();
  EXPECT_NE(run.err().find("nonsense:99999"), std::string::npos) << run.err();
}

TEST(Run, CtrlCStopsInOrderAndStillReports) {
  TemporaryFolder folder;
  Process run{twinstorm(
      {"run", "scenarios/smoke.yaml", "--out", folder.path().string(), "--set", "phases[steady].duration=60s"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  const auto children = run.children();
  run.signal(SIGINT);
  EXPECT_EQ(run.wait(seconds{20}), 130) << run.err() << run.out();
  expect_complete(folder.path());
  EXPECT_EQ(summary(folder.path())["verdict"]["status"], "aborted");
  ASSERT_EQ(children.size(), 1u);
  EXPECT_NE(kill(children.front(), 0), 0) << "the hub outlived the run";
}

TEST(Run, KillingTheGeneratorTakesTheHubWithIt) {
  TemporaryFolder folder;
  pid_t hub = 0;
  {
    Process run{twinstorm(
        {"run", "scenarios/smoke.yaml", "--out", folder.path().string(), "--set", "phases[steady].duration=60s"})};
    ASSERT_TRUE(run.saw("steady (")) << run.err();
    ASSERT_EQ(run.children().size(), 1u);
    hub = run.children().front();
    run.signal(SIGKILL);
    run.wait();
  }
  for (int i = 0; i < 200 && kill(hub, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
  // It may stay a zombie of whoever adopts it; it must not run.
  const auto stat = read_file("/proc/" + std::to_string(hub) + "/stat");
  EXPECT_TRUE(stat.empty() || stat.find(") Z") != std::string::npos) << stat;
}

TEST(Run, AnSloThatDoesNotHoldHasItsOwnExitCode) {
  TemporaryFolder folder;
  Process run{short_run(folder.path(), {"--set", "slos=['rollout p50 < 1us']"})};
  EXPECT_EQ(run.wait(), 11) << run.out();
  EXPECT_NE(read_file(folder.path() / "junit.xml").find("<failure"), std::string::npos);
}

TEST(Run, AnSloWithoutEnoughSamplesIsNoPass) {
  TemporaryFolder folder;
  Process run{short_run(folder.path(), {"--set", "slos=['rollout p999 < 10s']"})};
  EXPECT_EQ(run.wait(), 13) << run.out();
}

TEST(Run, WorkThatIsNotReportedInTimeIsACorrectnessFailure) {
  TemporaryFolder folder;
  Process run{short_run(folder.path(),
                        {"--set", "fleets[0].onDesired={apply: {delay: 1m}}", "--set", "phases[settle].timeout=2s",
                         "--set", "limits.convergenceTimeout=2s", "--set", "slos=[]"})};
  EXPECT_EQ(run.wait(), 10) << run.err() << run.out();
  EXPECT_GT(summary(folder.path())["convergence"]["unconverged"].get<int>(), 0);
}

TEST(Run, AnOutputFolderThatCannotBeWrittenIsSaidBeforeTheRun) {
  Process run{short_run("/proc/twinstorm-cannot-be-here")};
  EXPECT_EQ(run.wait(), 3);
  EXPECT_NE(run.err().find("/proc/twinstorm-cannot-be-here"), std::string::npos) << run.err();
  EXPECT_EQ(run.err().find("registering"), std::string::npos) << run.err();
}

TEST(Run, AFullDiskIsSaidBeforeTheRun) {
  TemporaryFolder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "needs the right to mount";
  Process run{short_run(folder.path() / "run")};
  EXPECT_EQ(run.wait(), 3);
  EXPECT_NE(run.err().find("the disk of"), std::string::npos) << run.err();
  umount(folder.path().c_str());
}

TEST(Run, AFolderThatHoldsARunIsNotOverwritten) {
  TemporaryFolder folder;
  write_file(folder.path() / "summary.json", "{}");
  Process run{short_run(folder.path())};
  EXPECT_EQ(run.wait(), 2);
  EXPECT_NE(run.err().find("holds a run already"), std::string::npos) << run.err();
  EXPECT_EQ(read_file(folder.path() / "summary.json"), "{}");
}

TEST(Run, MetricsAreServedWhileItRuns) {
  TemporaryFolder folder;
  Process run{short_run(folder.path(), {"--metrics-listen", "127.0.0.1:0"})};
  ASSERT_TRUE(run.saw("steady (")) << run.err();
  const auto text = run.err();
  const std::string before = "metrics at http://127.0.0.1:";
  const auto at = text.find(before);
  ASSERT_NE(at, std::string::npos) << text;
  const auto port = static_cast<uint16_t>(std::stoi(text.substr(at + before.size())));
  const auto metrics = http_get(port, "/metrics");
  EXPECT_NE(metrics.find("twinstorm_ops_total{"), std::string::npos) << metrics.substr(0, 500);
  EXPECT_NE(metrics.find("twinstorm_devices{"), std::string::npos);
  EXPECT_EQ(run.wait(), 0) << run.err();
}

TEST(Report, IsMadeAgainFromTheFolderAlone) {
  TemporaryFolder folder;
  Process run{short_run(folder.path())};
  ASSERT_EQ(run.wait(), 0) << run.err();
  const auto html = read_file(folder.path() / "report.html");
  fs::remove(folder.path() / "report.html");
  Process again{twinstorm({"report", folder.path().string()})};
  ASSERT_EQ(again.wait(), 0) << again.err();
  EXPECT_EQ(read_file(folder.path() / "report.html"), html);
  for (const char* format : {"text", "junit", "json"}) {
    Process other{twinstorm({"report", folder.path().string(), "--format", format})};
    EXPECT_EQ(other.wait(), 0) << format << other.err();
    EXPECT_GT(other.out().size(), 500u) << format;
  }

  // Any change of any file is noticed and named.
  for (const auto& entry : fs::directory_iterator{folder.path()}) {
    const auto name = entry.path().filename().string();
    if (name == "report.html" || name == "junit.xml" || name == "hub.log") continue;
    const auto content = read_file(entry.path());
    auto changed = content;
    changed[changed.size() / 2] ^= 1;
    write_file(entry.path(), changed);
    Process broken{twinstorm({"report", folder.path().string()})};
    EXPECT_EQ(broken.wait(), 2) << name;
    EXPECT_NE(broken.err().find(name == "manifest.json" ? folder.path().string() : name), std::string::npos)
        << name << broken.err();
    fs::remove(entry.path());
    Process missing{twinstorm({"report", folder.path().string()})};
    EXPECT_EQ(missing.wait(), 2) << name;
    EXPECT_NE(missing.err().find(name), std::string::npos) << name << missing.err();
    write_file(entry.path(), content);
  }
}

TEST(CommandLine, HelpTeachesAndMistakesAreExplained) {
  Process help{twinstorm({"--help"})};
  EXPECT_EQ(help.wait(), 0);
  EXPECT_NE(help.out().find("twinstorm run scenarios/rollout.yaml"), std::string::npos) << help.out();
  Process version{twinstorm({"version"})};
  EXPECT_EQ(version.wait(), 0);
  EXPECT_TRUE(version.out().starts_with("twinstorm ")) << version.out();
  Process unknown{twinstorm({"run", "scenarios/smoke.yaml", "--no-such-option"})};
  EXPECT_EQ(unknown.wait(), 2);
  EXPECT_NE(unknown.err().find("--no-such-option"), std::string::npos);
  Process missing{twinstorm({"run", "scenarios/none.yaml"})};
  EXPECT_EQ(missing.wait(), 2);
  EXPECT_NE(missing.err().find("none.yaml"), std::string::npos);
  Process nothing{twinstorm({})};
  EXPECT_EQ(nothing.wait(), 2);
  const auto mistyped = [](const std::vector<std::string>& words) {
    Process process{twinstorm(words)};
    EXPECT_EQ(process.wait(), 2);
    return process.err();
  };
  EXPECT_EQ(mistyped({"rnu", "scenarios/smoke.yaml"}),
            "twinstorm: twinstorm has no command \"rnu\": did you mean \"run\"? (see twinstorm --help)\n");
  EXPECT_NE(mistyped({"benchmark"}).find("no command \"benchmark\": give one of run, plan, doctor, capacity, hub"),
            std::string::npos);
  EXPECT_NE(mistyped({"twin", "gte", "dev1"}).find("twin has no command \"gte\": did you mean \"get\"?"),
            std::string::npos);
}

TEST(CommandLine, PlanShowsArrivalsWithoutTraffic) {
  Process plan{twinstorm({"plan", "scenarios/rollout.yaml", "--json"})};
  ASSERT_EQ(plan.wait(), 0) << plan.err();
  const auto document = json::parse(plan.out());
  EXPECT_EQ(document["schema"], "twinstorm/plan/1");
  Process text{twinstorm({"plan", "scenarios/rollout.yaml"})};
  EXPECT_EQ(text.wait(), 0);
  EXPECT_NE(text.out().find("38,500"), std::string::npos) << text.out();
}

TEST(Hub, APortThatIsTakenIsNamed) {
  OwnHub hub;
  Process second{twinstorm({"hub", "--mqtt-port", std::to_string(hub.address["mqttPort"].get<int>()), "--http-port",
                            "0", "--mqtts-port", "off", "--https-port", "off"})};
  EXPECT_EQ(second.wait(), 3);
  EXPECT_NE(second.err().find(std::to_string(hub.address["mqttPort"].get<int>())), std::string::npos) << second.err();
}

}  // namespace
}  // namespace twinstorm::testing
