#include "sim/scenario/loader.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/scenario/plan.hpp"

namespace twinstorm::scenario {
namespace {

using metrics::OpKind;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kSmall = R"(schema: twinstorm/scenario/1
name: small
fleets:
  - name: thermostats
    count: 10
    reported: {connectivity: {type: cellular}}
    onDesired: {report: echo}
backends:
  - {name: rollout, do: patchDesired, patch: {climate: {minTemperature: 68}}}
phases:
  - name: steady
    duration: 5s
    load:
      rollout: 50/s
      thermostats.report: 1/s/device
)";

std::vector<std::string> lines(const LoadResult& result) {
  std::vector<std::string> out;
  for (const auto& diagnostic : result.diagnostics) out.push_back(to_string(diagnostic));
  return out;
}

Scenario loaded(std::string_view text, const std::vector<std::string>& overrides = {}) {
  auto result = load_scenario(text, "x.yaml", overrides);
  EXPECT_THAT(lines(result), IsEmpty());
  return result.ok() ? *result.scenario : Scenario{};
}

std::vector<std::string> mistakes(std::string_view text, const std::vector<std::string>& overrides = {}) {
  const auto result = load_scenario(text, "x.yaml", overrides);
  EXPECT_EQ(result.ok(), result.diagnostics.empty());
  return lines(result);
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file{path};
  std::stringstream out;
  out << file.rdbuf();
  return out.str();
}

const std::filesystem::path kScenarios = std::filesystem::path{TWINSTORM_SOURCE_DIR} / "scenarios";

std::vector<std::filesystem::path> yaml_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    if (entry.path().extension() == ".yaml") out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(Loader, ReadsWhatIsWrittenAndLeavesTheRestAtItsDefault) {
  const auto s = loaded(R"(
schema: twinstorm/scenario/1
name: everything
description: one of each
seed: 7
target: {connectionString: env:IOTHUB_CONNECTION_STRING, mqttPort: 1884}
fleets:
  - name: thermostats
    count: 5000
    deviceId: "therm-{index:05}"
    transport: mqtt
    engine: native
    tls: false
    auth: sas
    tags: {location: {region: {oneOf: [US, Europe]}, plant: Redmond43}}
    onDesired:
      - {path: properties.desired.climate, apply: {delay: {lognormal: {p50: 20ms, p99: 200ms}}, failure: 0.1%}, report: echo}
      - {path: climate.hvac.systemControl, apply: {delay: 5ms}, report: {fan: {sequence: {}}}}
    telemetry: {every: 30s, jitter: 10%, size: 1KB}
    reconnect: {enabled: true, backoff: {initial: 500ms, max: 8s, jitter: none}}
    keepAlive: 60s
  - {name: meters, count: 20}
backends:
  - {name: rollout, do: patchDesired, select: meters, patch: {a: 1}, tags: {b: 2}, ifMatch: lastSeen, connections: 4, timeout: 2s}
  - {name: ops, do: query, sql: SELECT * FROM devices, pageSize: 50, pages: first}
  - {name: reads, do: getTwin, select: thermostats}
phases:
  - {name: connect, connect: {shape: ramp, from: 10/s, to: 500/s, over: 10s, fleets: [meters, thermostats]}}
  - {name: steady, duration: 1m, record: false, load: {rollout: {rate: 3000/min, poisson: true}, ops: {concurrency: 8}, reads: 0.1/s/device}}
  - {name: storm, duration: 30s, disconnect: {share: 30%, after: 1s, over: 2s, fleets: [meters]}}
  - {name: back, until: {devicesConnected: 99%}, timeout: 20s}
slos: [query p95 < 200ms]
invariants: [versionsMonotonic]
limits: {operationTimeout: 3s, backlogMax: 5, scheduleLag: 50ms, dropped: 2%}
)");
  EXPECT_EQ(s.seed, 7u);
  EXPECT_EQ(s.target.kind, Target::Kind::connection_string);
  EXPECT_EQ(s.target.connection_string, "env:IOTHUB_CONNECTION_STRING");
  EXPECT_EQ(s.target.mqtt_port, 1884);
  ASSERT_EQ(s.fleets.size(), 2u);
  const auto& fleet = s.fleets[0];
  EXPECT_EQ(fleet.device_id.format(42), "therm-00042");
  ASSERT_EQ(fleet.on_desired.size(), 2u);
  EXPECT_EQ(fleet.on_desired[0].path, "climate");
  EXPECT_DOUBLE_EQ(fleet.on_desired[0].failure, 0.001);
  EXPECT_EQ(fleet.on_desired[0].delay, Distribution::lognormal(milliseconds{20}, milliseconds{200}));
  EXPECT_EQ(fleet.on_desired[1].path, "climate.hvac.systemControl");
  EXPECT_EQ(fleet.on_desired[1].report, DesiredListener::Report::values);
  EXPECT_EQ(fleet.telemetry, (Telemetry{seconds{30}, 0.1, 1024}));
  EXPECT_EQ(fleet.reconnect, (Reconnect{true, milliseconds{500}, seconds{8}, Reconnect::Jitter::none}));
  EXPECT_EQ(fleet.keep_alive, seconds{60});
  EXPECT_EQ(s.fleets[1].first, 5000u);
  EXPECT_EQ(s.fleets[1].device_id.format(3), "meters-00003");
  EXPECT_EQ(s.fleets[1].keep_alive, seconds{180});  // the official SDK's
  EXPECT_EQ(s.backends[0].fleet, 1u);
  EXPECT_EQ(s.backends[0].if_match, BackendGroup::IfMatch::last_seen);
  EXPECT_EQ(s.backends[0].connections, 4u);
  EXPECT_EQ(s.backends[1].op, OpKind::query);
  EXPECT_EQ(s.backends[1].pages, BackendGroup::Pages::first);
  EXPECT_EQ(s.backends[2].op, OpKind::backend_get_twin);
  EXPECT_THAT(s.phases[0].connect->fleets, ElementsAre(1, 0));
  ASSERT_EQ(s.phases[1].load.size(), 3u);
  EXPECT_EQ(s.phases[1].load[0].spec.rate, Rate{50});
  EXPECT_TRUE(s.phases[1].load[0].spec.poisson);
  EXPECT_EQ(s.phases[1].load[1].concurrency, 8u);
  EXPECT_TRUE(s.phases[1].load[2].spec.per_device);
  EXPECT_FALSE(s.phases[1].record);
  EXPECT_EQ(s.phases[2].disconnect->after, seconds{1});
  EXPECT_DOUBLE_EQ(s.phases[3].until->share, 0.99);
  EXPECT_EQ(s.slos.size(), 1u);
  EXPECT_THAT(s.invariants, ElementsAre(Invariant::versions_monotonic));
  EXPECT_EQ(s.limits.backlog_max, 5u);
  EXPECT_EQ(s.limits.drain_timeout, seconds{10});
}

TEST(Loader, StreamsHaveAFixedOrder) {
  const auto s = loaded(kSmall);
  const auto streams = s.streams();
  std::vector<std::string> names;
  for (const auto& stream : streams) names.push_back(stream.name);
  EXPECT_THAT(names, ElementsAre("thermostats.connect", "thermostats.getTwin", "thermostats.report",
                                 "thermostats.telemetry", "thermostats.renewToken", "rollout"));
  EXPECT_EQ(s.fleet_stream(0, OpKind::report), 2u);
  EXPECT_EQ(s.backend_stream(0), 5u);
  EXPECT_EQ(s.phases[0].load[0].stream, 5u);
  EXPECT_EQ(s.phases[0].load[1].stream, 2u);
}

TEST(Loader, ReadsTransportsCredentialsAndTokens) {
  const auto s = loaded(R"(
schema: twinstorm/scenario/1
canary: false
target: {connectionString: env:HUB, mqttsPort: 8884, httpsPort: 8443, caFile: ca.pem, deviceCa: {certificate: d.pem, key: d.key}}
fleets:
  - {name: a, count: 1, transport: mqttws, tls: {version: 1.2, resumption: true}, tokenLifetime: 10s, renewBefore: 3s, renewJitter: 0%}
  - {name: b, count: 1, auth: x509-ca, methods: true, c2d: true}
  - {name: c, count: 500, engine: paho, tls: {version: "1.3"}}
  - {name: d, count: 1, auth: x509-selfsigned, tls: true}
backends:
  - {name: reads, do: getTwin, select: a, tls: false}
phases: [{name: connect, connect: 1/s}]
)");
  EXPECT_FALSE(s.canary);
  EXPECT_EQ(s.target.mqtts_port, 8884);
  EXPECT_EQ(s.target.https_port, 8443);
  EXPECT_EQ(s.target.ca_file, "ca.pem");
  EXPECT_EQ(s.target.device_ca_certificate, "d.pem");
  EXPECT_EQ(s.target.device_ca_key, "d.key");
  ASSERT_EQ(s.fleets.size(), 4u);
  EXPECT_EQ(s.fleets[0].transport, TransportKind::mqttws);
  EXPECT_EQ(s.fleets[0].tls, (Tls{true, Tls::Version::v1_2, true}));
  EXPECT_EQ(s.fleets[0].tokens, (Tokens{seconds{10}, seconds{3}, 0}));
  EXPECT_EQ(s.fleets[1].auth, AuthKind::x509_ca);
  EXPECT_TRUE(s.fleets[1].methods && s.fleets[1].c2d);
  EXPECT_EQ(s.fleets[2].engine, Engine::paho);
  EXPECT_EQ(s.fleets[2].tls.version, Tls::Version::v1_3);
  EXPECT_EQ(s.fleets[3].auth, AuthKind::x509_selfsigned);
  EXPECT_EQ(s.backends[0].tls, false);
}

TEST(Loader, TheNameDefaultsToTheFile) {
  auto text = std::string{kSmall};
  text.erase(text.find("name: small\n"), 12);
  EXPECT_EQ(load_scenario(text, "some/folder/my test.v2.yaml").scenario->name, "my-test");
}

TEST(Loader, AnchorsAliasesAndMergesAreExpanded) {
  const auto s = loaded(R"(
schema: twinstorm/scenario/1
x-fleet: &base {count: 5, onDesired: {report: echo}}
fleets:
  - {name: a, <<: *base}
  - {<<: *base, name: b, count: 7}
phases: [{name: connect, connect: 5/s}]
)");
  EXPECT_EQ(s.fleets[0].count, 5u);
  EXPECT_EQ(s.fleets[1].count, 7u);
  EXPECT_EQ(s.fleets[1].on_desired.size(), 1u);
}

TEST(Loader, JsonIsReadToo) {
  const auto s = loaded(R"({"schema": "twinstorm/scenario/1", "fleets": [{"name": "a", "count": 1}],
                            "phases": [{"name": "p", "connect": {"rate": "1/s"}}]})");
  EXPECT_EQ(s.fleets[0].name, "a");
}

constexpr std::string_view kEveryOperation = R"(schema: twinstorm/scenario/1
name: all-operations
hub: {tier: S1, units: 2, query: {staleness: {uniform: [1s, 5s]}, pageMax: 100}}
fleets:
  - {name: thermostats, count: 40, methods: true}
backends:
  - {name: rollout, do: patchDesired, patch: {a: 1}, ifMatch: readModifyWrite, retries: {max: 3, backoff: {initial: 5ms, max: 100ms, jitter: none}}, staleness: {share: 5%, every: 100ms, timeout: 30s}}
  - {name: reboots, do: method, methodName: reboot, payload: {delay: {uniform: [1, 5]}}, responseTimeout: 20s, connectTimeout: 5s}
  - {name: newcomers, do: createDevice, deviceId: "new-{index:04}"}
  - {name: leavers, do: deleteDevice, of: newcomers}
  - {name: batches, do: bulk, mode: create, size: 50, keep: true, tags: {plant: {oneOf: [A, B]}}}
  - {name: purge, do: bulk, mode: delete, of: batches, size: 10}
  - {name: firmware, do: job, patch: {fw: 2}, condition: "tags.plant = 'A'", poll: 500ms, maxExecutionTime: 10m}
  - {name: calls, do: job, methodName: reboot, payload: 5}
  - {name: census, do: query, sql: SELECT COUNT() AS n FROM devices, pages: first}
phases:
  - {name: steady, duration: 10s, load: {rollout: 5/s, reboots: {concurrency: 4}, newcomers: 2/s, leavers: 1/s, batches: 0.2/s, purge: 0.1/s, firmware: 0.1/s, calls: {concurrency: 1}, census: 1/s}}
)";

TEST(Loader, ReadsEveryOperationOfTheBackEnd) {
  const auto s = loaded(kEveryOperation);
  ASSERT_EQ(s.backends.size(), 9u);
  EXPECT_EQ(s.target.hub.tier, "S1");
  EXPECT_EQ(s.target.hub.units, 2u);
  EXPECT_EQ(s.target.hub.query_staleness, Distribution::uniform(seconds{1}, seconds{5}));
  EXPECT_EQ(s.target.hub.query_page_max, 100u);
  const auto& rollout = s.backends[0];
  EXPECT_EQ(rollout.if_match, BackendGroup::IfMatch::read_modify_write);
  EXPECT_EQ(rollout.retries, (Retries{3, milliseconds{5}, milliseconds{100}, Reconnect::Jitter::none}));
  EXPECT_EQ(rollout.staleness, (StalenessProbe{0.05, milliseconds{100}, seconds{30}}));
  const auto& reboots = s.backends[1];
  EXPECT_EQ(reboots.op, OpKind::method);
  EXPECT_EQ(reboots.method_name, "reboot");
  EXPECT_EQ(reboots.payload.source(), R"({"delay": {"uniform": [1, 5]}})");
  EXPECT_EQ(reboots.response_timeout, seconds{20});
  EXPECT_EQ(reboots.connect_timeout, seconds{5});
  EXPECT_EQ(s.backends[2].device_id.format(7), "new-0007");
  EXPECT_FALSE(s.backends[2].keep);
  EXPECT_EQ(s.backends[3].creator, 2u);
  EXPECT_TRUE(s.backends[4].creates_devices());
  EXPECT_EQ(s.backends[4].device_id.format(7), "batches-000007");
  EXPECT_TRUE(s.backends[4].keep);
  EXPECT_TRUE(s.backends[5].deletes_devices());
  EXPECT_EQ(s.backends[5].creator, 4u);
  EXPECT_EQ(s.backends[6].condition, "tags.plant = 'A'");
  EXPECT_EQ(s.backends[6].poll, milliseconds{500});
  EXPECT_EQ(s.backends[6].max_execution_time, std::chrono::minutes{10});
  EXPECT_EQ(s.backends[7].payload.source(), "5");
  EXPECT_EQ(s.recorder_layout().staleness_resolution, milliseconds{100});
}

TEST(Loader, EveryOperationOfTheBackEndIsWrittenOutAgain) {
  const auto resolved = resolve(loaded(kEveryOperation));
  EXPECT_EQ(resolved.backends[1].timeout, seconds{30});  // 20 s to answer, 5 s to connect and 5 s of patience
  EXPECT_EQ(resolved.backends[6].timeout, std::chrono::minutes{5});
  const auto text = resolved_yaml(resolved);
  const auto again = resolve(loaded(text));
  EXPECT_EQ(again.backends, resolved.backends);
  EXPECT_EQ(again.target, resolved.target);
  EXPECT_EQ(resolved_yaml(again), text);
}

TEST(Loader, ADiagnosticNamesFileLineColumnPathValueMessageAndHint) {
  auto text = std::string{kSmall};
  text.replace(text.find("50/s"), 4, "50/ss");
  const auto result = load_scenario(text, "scenarios/x.yaml");
  ASSERT_EQ(result.diagnostics.size(), 1u);
  const auto& d = result.diagnostics[0];
  EXPECT_EQ(to_string(d), "scenarios/x.yaml:14:16: phases[0].load.rollout: \"50/ss\" is not a rate (try 50/s)");
  EXPECT_EQ(d.file, "scenarios/x.yaml");
  EXPECT_EQ(d.line, 14u);
  EXPECT_EQ(d.column, 16u);
  EXPECT_EQ(d.path, "phases[0].load.rollout");
  EXPECT_EQ(d.value, "50/ss");
  EXPECT_EQ(d.hint, "try 50/s");
}

TEST(Loader, EveryInvalidScenarioGetsExactlyTheExpectedDiagnostics) {
  const auto files = yaml_files(kScenarios / "invalid");
  EXPECT_GE(files.size(), 12u);
  for (const auto& file : files) {
    const auto name = "scenarios/invalid/" + file.filename().string();
    const auto result = load_scenario(text_of(file), name, {}, file.parent_path().string());
    EXPECT_FALSE(result.ok()) << name;
    auto expected = file;
    expected.replace_extension(".expected.txt");
    EXPECT_EQ(to_string(result.diagnostics), text_of(expected)) << name;
  }
}

TEST(Loader, EveryShippedScenarioLoads) {
  const auto files = yaml_files(kScenarios);
  EXPECT_GE(files.size(), 4u);
  for (const auto& file : files) {
    const auto result = load_scenario_file(file.string());
    EXPECT_THAT(lines(result), IsEmpty()) << file;
    if (!result.ok()) continue;
    EXPECT_EQ(result.scenario->name, file.stem().string());
    // Back ends may work on the twins of a fleet that never connects.
    EXPECT_THAT(make_plan(*result.scenario, 2).notes, Each(HasSubstr("stays offline"))) << file;
  }
}

// --- overrides
// --------------------------------------------------------------------------------------------------------

TEST(Overrides, ReachItemsByIndexAndByName) {
  const auto s =
      loaded(kSmall, {"seed=9", "fleets[0].count=100", "phases[steady].duration=2s", "phases[0].load.rollout=7/s",
                      "phases[steady].load.thermostats.report=3/s", "limits.backlogMax=3"});
  EXPECT_EQ(s.seed, 9u);
  EXPECT_EQ(s.fleets[0].count, 100u);
  EXPECT_EQ(s.phases[0].duration, seconds{2});
  EXPECT_EQ(s.phases[0].load[0].spec.rate, Rate{7});
  EXPECT_EQ(s.phases[0].load[1].spec.rate, Rate{3});
  EXPECT_FALSE(s.phases[0].load[1].spec.per_device);
  EXPECT_EQ(s.limits.backlog_max, 3u);
}

TEST(Overrides, MayAddWhatTheFileLeavesOutAndTakeYamlValues) {
  const auto s = loaded(
      kSmall, {"fleets[thermostats].reconnect.backoff.initial=2s", "phases[0].load[thermostats.getTwin]=2/s",
               "phases[0].load.thermostats.telemetry={shape: ramp, from: 0/s, to: 5/s}", "slos=[rollout p50 < 1s]"});
  EXPECT_EQ(s.fleets[0].reconnect.initial, seconds{2});
  EXPECT_EQ(s.phases[0].load.size(), 4u);
  EXPECT_EQ(s.slos.size(), 1u);
}

TEST(Overrides, MistakesNameTheOption) {
  EXPECT_THAT(mistakes(kSmall, {"fleets[0].count=many"}),
              ElementsAre("--set fleets[0].count=many: fleets[0].count: \"many\" is not a whole number (try 1)"));
  EXPECT_THAT(mistakes(kSmall, {"fleets[0].cuont=5"}),
              ElementsAre("--set fleets[0].cuont=5: fleets[0].cuont: unknown key \"cuont\" (did you mean \"count\"?)"));
  EXPECT_THAT(mistakes(kSmall, {"fleets[3].count=5"}),
              ElementsAre("--set fleets[3].count=5: fleets[3].count: fleets has 1 items (items count from 0)"));
  EXPECT_THAT(
      mistakes(kSmall, {"phases[stedy].duration=5s"}),
      ElementsAre(
          "--set phases[stedy].duration=5s: phases[stedy].duration: phases has no item named \"stedy\" (did you mean "
          "\"steady\"?)"));
  EXPECT_THAT(mistakes(kSmall, {"fleets.count=5"}),
              ElementsAre("--set fleets.count=5: fleets.count: fleets is a list of 1, which has no keys (pick an item: "
                          "[0] or [name])"));
  EXPECT_THAT(mistakes(kSmall, {"seed.x=5", "name[0]=5", "seed", "=3", "fleets[0=3", "seed.=1"}).size(), 6u);
  EXPECT_THAT(mistakes(kSmall, {"seed"}),
              ElementsAre("--set seed: \"seed\" is not path=value (try fleets[0].count=100)"));
}

TEST(Overrides, MistakesOfTheFileComeFirst) {
  auto text = std::string{kSmall};
  text.replace(text.find("50/s"), 4, "50/ss");
  const auto all = mistakes(text, {"seed=x"});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_THAT(all[0], HasSubstr("x.yaml:14:16"));
  EXPECT_THAT(all[1], HasSubstr("--set seed=x"));
}

TEST(Overrides, SecretsAreNotRepeated) {
  for (const auto& line : mistakes(kSmall, {"target=HostName=h;SharedAccessKey=c2VjcmV0",
                                            "target.connectionString=HostName=h;SharedAccessKe=c2VjcmV0"})) {
    EXPECT_THAT(line, ::testing::Not(HasSubstr("c2VjcmV0")));
  }
}

// --- hostile input
// ----------------------------------------------------------------------------------------------------

TEST(Loader, RefusesWhatIsTooLargeTooDeepOrNotText) {
  EXPECT_THAT(mistakes(std::string(kMaxScenarioBytes + 1, '#')), ElementsAre(HasSubstr("a scenario may have 1048576")));
  EXPECT_THAT(mistakes("a: " + std::string(100, '[') + std::string(100, ']')),
              ElementsAre(HasSubstr("nested deeper than 64 levels")));
  EXPECT_THAT(mistakes("a: " + std::string(200'000, '[')), ElementsAre(HasSubstr("x.yaml")));
  EXPECT_THAT(mistakes(std::string_view{"a\0b", 3}), ElementsAre(HasSubstr("it holds a zero byte")));
  EXPECT_THAT(mistakes("? [1, 2]\n: x\n"), ElementsAre(HasSubstr("used as a key")));
  EXPECT_THAT(mistakes("a: &a [*a]"), ElementsAre(HasSubstr("stands inside the value it names")));
  EXPECT_THAT(mistakes("a: *nowhere"), ElementsAre(HasSubstr("not valid YAML")));
}

TEST(Loader, ReportsAnEmptyOrShapelessDocument) {
  EXPECT_THAT(mistakes(""), ElementsAre(HasSubstr("nothing is not a mapping")));
  EXPECT_THAT(mistakes("just text"), ElementsAre(HasSubstr("\"just text\" is not a mapping")));
  EXPECT_THAT(mistakes("[1, 2]"), ElementsAre(HasSubstr("a list of 2 is not a mapping")));
}

TEST(Loader, AFileThatCannotBeReadIsADiagnostic) {
  const auto result = load_scenario_file("/no/such/file.yaml");
  EXPECT_THAT(lines(result),
              ElementsAre("/no/such/file.yaml: cannot read the scenario: No such file or directory (check the path)"));
  EXPECT_FALSE(load_scenario_file("/").ok());
}

TEST(Loader, CutAndScrambledScenariosNeverCrash) {
  const auto text = text_of(kScenarios / "query-mix.yaml");
  for (size_t cut = 0; cut < text.size(); cut += 41) load_scenario(text.substr(0, cut), "cut.yaml");
  Rng rng{1};
  const std::string_view alphabet = "{}[]:,-#&*!|>'\"%@`\n \t0aZ<~";
  for (int round = 0; round < 200; ++round) {
    auto scrambled = text;
    for (int i = 0; i < 5; ++i) scrambled[rng.below(scrambled.size())] = alphabet[rng.below(alphabet.size())];
    const auto result = load_scenario(scrambled, "scrambled.yaml");
    EXPECT_NE(result.ok(), !result.diagnostics.empty());
    if (result.ok()) make_plan(*result.scenario);
  }
}

}  // namespace
}  // namespace twinstorm::scenario
