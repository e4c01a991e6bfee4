#include "sim/scenario/plan.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/scenario/loader.hpp"

namespace twinstorm::scenario {
namespace {

using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string document(const std::string& phases, const std::string& more = {}) {
  return "schema: twinstorm/scenario/1\nfleets:\n  - {name: a, count: 100, onDesired: {report: echo}, reported: {x: "
         "1}}\n"
         "  - {name: b, count: 50, reported: {x: 1}}\n"
         "backends:\n  - {name: patch, do: patchDesired, select: a, patch: {x: {uniform: [1, 9]}}}\n"
         "  - {name: reads, do: getTwin, select: b}\nphases:\n" +
         phases + more;
}

Scenario loaded(const std::string& text) {
  auto result = load_scenario(text, "test.yaml");
  EXPECT_EQ(to_string(result.diagnostics), "");
  return result.ok() ? *result.scenario : Scenario{};
}

std::vector<std::string> phase_names(const Scenario& s) {
  std::vector<std::string> out;
  for (const auto& phase : s.phases) out.push_back(phase.name);
  return out;
}

TEST(Resolve, TheFirstPhaseThatNeedsDevicesGetsAPhaseThatConnectsThem) {
  const auto s = resolve(loaded(document(
      "  - {name: look, duration: 5s, load: {reads: 1/s}}\n  - {name: go, duration: 5s, load: {patch: 1/s}}\n")));
  EXPECT_THAT(phase_names(s), ElementsAre("look", "connect", "go"));
  EXPECT_THAT(s.phases[1].connect->fleets, ElementsAre(0, 1));
  EXPECT_EQ(s.phases[1].until, (Until{Until::Kind::devices_connected, 1.0}));
  EXPECT_GT(s.phases[1].timeout, seconds{0});
}

TEST(Resolve, DevicesThatAPhaseConnectsAreNotConnectedAgain) {
  const auto whole = resolve(
      loaded(document("  - {name: connect, connect: 10/s}\n  - {name: go, duration: 5s, load: {a.report: 1/s}}\n")));
  EXPECT_THAT(phase_names(whole), ElementsAre("connect", "go"));
  const auto part =
      resolve(loaded(document("  - {name: connect, connect: {rate: 10/s, fleets: [b]}}\n  - {name: go, duration: 5s, "
                              "load: {a.report: 1/s}}\n")));
  EXPECT_THAT(phase_names(part), ElementsAre("connect", "connect-2", "go"));
  EXPECT_THAT(part.phases[1].connect->fleets, ElementsAre(0));
}

TEST(Resolve, FillsInShapesTimeoutsAndConnections) {
  const auto s = resolve(loaded(document("  - {name: connect, connect: 50/s}\n"
                                         "  - {name: go, duration: 10s, load: {patch: {shape: ramp, from: 0/s, to: "
                                         "1000/s}, a.report: 2/s/device, reads: {concurrency: 30}}}\n"
                                         "  - {name: settle, until: {converged: 100%}}\n")),
                         2);
  EXPECT_EQ(s.phases[0].timeout, seconds{2 + 1 + 30} - seconds{0});
  const auto& load = s.phases[1].load;
  EXPECT_EQ(load[0].shape.arrivals(), 5000u);
  EXPECT_EQ(load[0].spec.over, Nanos{seconds{10}});
  EXPECT_EQ(load[1].shape.rate_at(seconds{1}).per_second, 200);
  EXPECT_EQ(s.phases[2].timeout, seconds{60});
  EXPECT_EQ(s.fleets[0].timeout, s.limits.operation_timeout);
  EXPECT_EQ(s.backends[0].connections, 20u);  // 1000/s, 2 shards, 20 ms, twice the need
  EXPECT_EQ(s.backends[1].connections, 15u);  // 30 in flight on 2 shards
}

struct SecurityCase {
  const char* target;
  const char* fleet;
  bool mqtt_tls, backend_tls;
  uint16_t mqtt, mqtts, http, https;
};

TEST(Resolve, TlsFollowsTheTargetUnlessTheScenarioSays) {
  const SecurityCase cases[] = {
      {"embedded", "", false, false, 0, 0, 0, 0},
      {"embedded", ", tls: true", true, false, 0, 0, 0, 0},
      {"{readyFile: hub.json}", "", false, false, 0, 0, 0, 0},
      {"{connectionString: env:HUB}", "", true, true, 0, 8883, 0, 443},
      {"{connectionString: env:HUB}", ", tls: false", false, true, 1883, 0, 0, 443},
      {"{connectionString: env:HUB, mqttPort: 1884, httpPort: 8080}", "", false, false, 1884, 0, 8080, 0},
      {"{connectionString: env:HUB, mqttPort: 1884, httpPort: 8080}", ", tls: true", true, false, 1884, 8883, 8080, 0},
      {"{connectionString: env:HUB, mqttPort: 1884, mqttsPort: 8884}", "", true, true, 1884, 8884, 0, 443},
      {"{connectionString: env:HUB, httpPort: 8080}", ", transport: mqttws", false, false, 0, 0, 8080, 0},
      {"{connectionString: env:HUB}", ", transport: mqttws", true, true, 0, 0, 0, 443},
  };
  for (const auto& c : cases) {
    const auto s = resolve(
        loaded(std::string{"schema: twinstorm/scenario/1\ntarget: "} + c.target + "\nfleets:\n  - {name: a, count: 1" +
               c.fleet + "}\nbackends:\n  - {name: r, do: getTwin}\nphases:\n  - {name: connect, connect: 1/s}\n"));
    const auto where = std::string{c.target} + c.fleet;
    EXPECT_EQ(s.fleets[0].tls.enabled, c.mqtt_tls) << where;
    EXPECT_EQ(s.backends[0].tls, c.backend_tls) << where;
    EXPECT_EQ(s.target.mqtt_port, c.mqtt) << where;
    EXPECT_EQ(s.target.mqtts_port, c.mqtts) << where;
    EXPECT_EQ(s.target.http_port, c.http) << where;
    EXPECT_EQ(s.target.https_port, c.https) << where;
    EXPECT_EQ(s.uses_tls(), c.mqtt_tls || c.backend_tls) << where;
  }
}

TEST(Resolve, ShortTokensAreRenewedAQuarterOfTheirLifeBeforeTheEnd) {
  const auto renew_before = [](const std::string& lifetime) {
    const auto s =
        resolve(loaded("schema: twinstorm/scenario/1\nfleets:\n  - {name: a, count: 1, tokenLifetime: " + lifetime +
                       "}\nphases:\n  - {name: connect, connect: 1/s}\n"));
    return s.fleets[0].tokens.renew_before;
  };
  EXPECT_EQ(renew_before("1h"), seconds{900});
  EXPECT_EQ(renew_before("1d"), seconds{900});
  EXPECT_EQ(renew_before("10s"), Nanos{std::chrono::milliseconds{2500}});
}

TEST(Plan, CountsTheMemoryOfEachKindOfConnection) {
  const auto heap = [](const std::string& fleet) {
    return make_plan(loaded("schema: twinstorm/scenario/1\nfleets:\n  - {name: a, count: 1000" + fleet +
                            "}\nphases:\n  - {name: connect, connect: 1000/s}\n"))
               .cost.device_heap /
           1000;
  };
  EXPECT_LT(heap(""), 1024u);
  EXPECT_LE(heap(", transport: mqttws"), heap("") + 2048);
  EXPECT_LE(heap(", tls: {version: 1.2}"), 24u * 1024);
  EXPECT_LE(heap(", tls: true"), 40u * 1024);
  EXPECT_GT(heap(", tls: true"), 10u * 1024);
  EXPECT_EQ(heap(", tls: true, auth: x509-ca"), heap(", tls: true") + 1024) << "a certificate a device";
}

TEST(Plan, SaysHowFleetsConnectAndWhenTheirTokensAreRenewed) {
  const auto text = [](const std::string& fleet) {
    return plan_text(make_plan(loaded("schema: twinstorm/scenario/1\nfleets:\n  - {name: a, count: 750" + fleet +
                                      "}\nphases:\n  - {name: connect, connect: 100/s}\n")));
  };
  EXPECT_THAT(text(""), HasSubstr("mqtt  sas, renewed after 45 min"));
  EXPECT_THAT(text(", tokenLifetime: 10s, transport: mqttws, tls: {version: 1.2}"),
              HasSubstr("mqttws over TLS 1.2  sas, renewed after 7.5 s"));
  EXPECT_THAT(text(", tls: true, auth: x509-ca"), HasSubstr("mqtt over TLS  x509-ca"));
}

TEST(Resolve, DoingItTwiceChangesNothing) {
  const auto once =
      resolve(loaded(document("  - {name: go, duration: 5s, load: {patch: {shape: ramp, from: 0/s, to: 10/s}}}\n")));
  EXPECT_EQ(resolved_yaml(resolve(once)), resolved_yaml(once));
}

TEST(Resolve, ConnectArrivalsGoThroughTheFleetsInOrder) {
  const auto s = resolve(loaded(document("  - {name: connect, connect: {rate: 10/s, fleets: [b, a]}}\n")));
  const auto& connect = *s.phases[0].connect;
  EXPECT_EQ(connect_target(s, connect, 0), 100u);
  EXPECT_EQ(connect_target(s, connect, 49), 149u);
  EXPECT_EQ(connect_target(s, connect, 50), 0u);
  EXPECT_EQ(connect_target(s, connect, 149), 99u);
  EXPECT_EQ(connect_target(s, connect, 150), std::nullopt);
}

TEST(Plan, AddsUpArrivalsConnectionsAndTime) {
  const auto plan = make_plan(
      loaded(document(
          "  - {name: connect, connect: 50/s}\n"
          "  - {name: go, duration: 10s, load: {patch: 100/s, reads: 20/s}, disconnect: {share: 30%, over: 1s}}\n"
          "  - {name: settle, until: {converged: 100%}, timeout: 40s}\n")),
      2);
  EXPECT_EQ(plan.devices, 150u);
  EXPECT_EQ(plan.phases[0].connects, 150u);
  EXPECT_NEAR(plan.phases[0].seconds, 2.98, 1e-6);
  EXPECT_EQ(plan.phases[1].load[0].arrivals, 1000);
  EXPECT_EQ(plan.phases[1].disconnects, 45u);
  EXPECT_NEAR(plan.fixed_seconds, 12.98, 1e-6);
  EXPECT_NEAR(plan.longest_seconds, 33 + 10 + 40, 1e-6);
  EXPECT_EQ(plan.cost.mqtt_connections, 150u);
  EXPECT_EQ(plan.cost.http_connections, 2u * (2 + 2));
  EXPECT_GT(plan.cost.descriptors, 158u);
  EXPECT_THAT(plan.notes, IsEmpty());
}

TEST(Plan, SharesDescriptorsOutToWorkersAndHubs) {
  const auto scenario = loaded(document("  - {name: connect, connect: 50/s}\n"));
  auto cost = make_plan(scenario, 4, 1).cost;
  EXPECT_EQ(cost.worker_devices, 150u);
  EXPECT_EQ(cost.hub_processes, 1u);
  EXPECT_EQ(cost.busy_threads, 5u);
  EXPECT_EQ(cost.descriptors, 150 + cost.http_connections + 64);
  EXPECT_EQ(cost.hub_descriptors, cost.descriptors);
  // Four shards on three workers: one has two of them, with 38 devices each.
  cost = make_plan(scenario, 4, 3).cost;
  EXPECT_EQ(cost.workers, 3u);
  EXPECT_EQ(cost.worker_devices, 76u);
  EXPECT_EQ(cost.descriptors, 76 + cost.http_connections / 2 + 64);
  EXPECT_EQ(cost.connect_rate, 50);
  ASSERT_FALSE(cost.destinations.empty());
  EXPECT_EQ(cost.destinations.back().port, "MQTT");
  EXPECT_EQ(cost.destinations.back().connections, 150u);
  auto three_hubs = scenario;
  three_hubs.target.hub.processes = 3;
  cost = make_plan(three_hubs, 3, 3).cost;
  EXPECT_EQ(cost.destinations.back().connections, 50u);
  EXPECT_EQ(cost.hub_processes, 3u);
  EXPECT_EQ(cost.total, cost.device_heap + cost.socket_kernel + cost.hub_heap + cost.processes);
}

TEST(Plan, NotesWhatIsLegalAndPerhapsNotMeant) {
  const auto plan = make_plan(loaded(
      document("  - {name: connect, duration: 1s, connect: 50/s}\n  - {name: go, duration: 5s, load: {patch: 10/s}}\n",
               "slos: [convergence p99 < 1s, patch errors < 1%]\n")));
  EXPECT_THAT(plan.notes, Contains("phase \"connect\" ends before it has connected all: 50 of 150 devices"));
  EXPECT_THAT(plan.notes, Contains("back end \"reads\" is in no phase's load, so it does nothing"));
  EXPECT_THAT(
      plan.notes,
      Contains("SLO \"convergence p99 < 1s\" will stay undecided: about 50 samples, and that percentile needs 1,000"));
  EXPECT_EQ(plan.notes.size(), 3u);
}

TEST(Plan, TextNamesPhasesLoadsAndCosts) {
  const auto text = plan_text(make_plan(loaded(document(
      "  - {name: go, duration: 10s, load: {patch: {rate: 100/s, poisson: true}}}\n", "slos: [patch errors < 1%]\n"))));
  EXPECT_THAT(text, HasSubstr("test: 150 devices, 2 phases"));
  EXPECT_THAT(text, HasSubstr("constant 100/s, Poisson  1,000"));
  EXPECT_THAT(text, HasSubstr("patch errors < 1%"));
  EXPECT_THAT(text, HasSubstr("150 MQTT"));
  for (size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    EXPECT_NE(text[end - 1], ' ') << "trailing blank";
    at = end + 1;
  }
}

TEST(Plan, JsonHasTheSameNumbers) {
  const auto plan = make_plan(loaded(document("  - {name: go, duration: 10s, load: {patch: 100/s}}\n")));
  const auto json = nlohmann::json::parse(plan_json(plan));
  EXPECT_EQ(json["schema"], "twinstorm/plan/1");
  EXPECT_EQ(json["devices"], 150);
  EXPECT_EQ(json["phases"][1]["load"][0]["stream"], "patch");
  EXPECT_EQ(json["phases"][1]["load"][0]["arrivals"], 1000);
  EXPECT_EQ(json["cost"]["mqttConnections"], 150);
}

TEST(ResolvedYaml, LoadsAgainAndGivesTheSamePlan) {
  std::vector<std::string> texts;
  for (const auto& entry :
       std::filesystem::directory_iterator{std::filesystem::path{TWINSTORM_SOURCE_DIR} / "scenarios"}) {
    if (entry.path().extension() != ".yaml") continue;
    const auto result = load_scenario_file(entry.path().string());
    ASSERT_TRUE(result.ok()) << entry.path();
    const auto plan = make_plan(*result.scenario, 2);
    texts.push_back(resolved_yaml(plan.scenario));
    const auto again = load_scenario(texts.back(), "resolved.yaml", {}, "/");
    EXPECT_EQ(to_string(again.diagnostics), "") << texts.back();
    if (!again.ok()) continue;
    EXPECT_EQ(plan_json(make_plan(*again.scenario, 2)), plan_json(plan)) << entry.path();
    EXPECT_EQ(resolved_yaml(resolve(*again.scenario, 2)), texts.back());
  }
  EXPECT_GE(texts.size(), 4u);
}

TEST(ResolvedYaml, KeepsEveryKindOfShapeDelayAndTemplate) {
  const auto scenario = loaded(R"(schema: twinstorm/scenario/1
name: "true"
description: "quotes \" and: colons"
target: {readyFile: "some where/hub.json", deviceCa: {certificate: "a b.pem", key: "c: d"}}
canary: false
fleets:
  - name: "on"
    count: 3
    transport: mqttws
    tls: {version: 1.2, resumption: true}
    tokenLifetime: 10s
    renewJitter: 0%
    methods: true
    c2d: true
    reported: {t: "1.0", n: 1.0, "null": null, s: {literal: {uniform: [1, 2]}}}
    onDesired:
      - {path: a, apply: {delay: {uniform: [1ms, 1500us]}, failure: 0.1%}, report: {x: {pattern: "p{index:03}"}}}
      - {path: b, apply: {delay: {exponential: {mean: 333333ns}}}, report: none}
      - {path: c, apply: {delay: {normal: {mean: 2s, stddev: 0.5s}}}}
    telemetry: {jitter: 33.3%, size: 1000B}
backends:
  - {name: q, do: query, sql: "SELECT * FROM devices WHERE a = 'x'\n AND b > 1", pages: first}
  - {name: w, do: replaceTwin, tls: true, patch: {a: 1}, tags: {b: {oneOf: [x, {c: 1}]}}, ifMatch: lastSeen}
phases:
  - {name: p1, duration: 10s, load: {q: {shape: sine, mean: 5/s, amplitude: 5/s, period: 3s}, w: {shape: spike, base: 20/min, peak: 7/s, at: 1s, for: 1500ms}}}
  - {name: p2, duration: 10s, load: {q: {concurrency: 3, think: {lognormal: {p50: 20ms, p99: 1s}}}, w: {shape: steps, steps: [{rate: 0.1/s/device, for: 2s}, {rate: 1/s/device}], poisson: true}}}
  - {name: p3, until: {converged: 99.9%}, load: {w: {shape: ramp, from: 0/s, to: 5/s, over: 1m30s}}}
  - {name: p4, until: {operations: 12}, events: [{do: report, share: 12.5%}, {do: renewToken, share: 1%, after: 1s, over: 333333ns, fleets: ["on"]}]}
  - {name: p5, until: {quiet: 1500ms}, timeout: 5s}
slos:
  - {slo: q errors < 5%, abort: true}
  - {slo: w rate > 1/s during p1, abort: {after: 1500ms, over: 3s, samples: 7}}
  - {slo: w p99 < 1s, abort: false}
limits: {dropped: 0.123}
)");
  const auto first = resolved_yaml(resolve(scenario));
  const auto again = load_scenario(first, "resolved.yaml");
  ASSERT_EQ(to_string(again.diagnostics), "") << first;
  EXPECT_EQ(resolved_yaml(resolve(*again.scenario)), first);
  EXPECT_EQ(plan_json(make_plan(*again.scenario)), plan_json(make_plan(scenario)));
  EXPECT_EQ(again.scenario->fleets, resolve(scenario).fleets);
  EXPECT_EQ(again.scenario->backends, resolve(scenario).backends);
  EXPECT_EQ(again.scenario->target, scenario.target);
  EXPECT_FALSE(again.scenario->canary);
  EXPECT_EQ(again.scenario->limits, scenario.limits);
  EXPECT_EQ(again.scenario->slos, scenario.slos);
  EXPECT_EQ(scenario.slos[1].abort, (metrics::AbortRule{std::chrono::milliseconds{1500}, std::chrono::seconds{3}, 7}));
  EXPECT_FALSE(scenario.slos[2].abort);
  EXPECT_EQ(again.scenario->phases.back().until, scenario.phases.back().until);
  EXPECT_EQ(again.scenario->description, scenario.description);
}

TEST(Plan, SaysWhatEventsThinkTimesAndObjectivesThatEndARunAmountTo) {
  const auto plan = make_plan(loaded(R"(schema: twinstorm/scenario/1
fleets: [{name: meters, count: 200, reported: {a: 1}}]
backends: [{name: reads, do: getTwin}]
phases:
  - {name: go, until: {operations: 2500}, load: {reads: {concurrency: 8, think: 1s}}, events: [{do: report, share: 30%, after: 1s, over: 2s}]}
  - {name: short, duration: 5s}
slos: [{slo: reads errors < 5%, abort: {over: 30s}}, {slo: reads p50 < 1s during short, abort: true}]
)"));
  const auto text = plan_text(plan);
  EXPECT_THAT(text, HasSubstr("when 2,500 operations ended, at most 60 s"));
  EXPECT_THAT(text, HasSubstr("closed, 8 in flight, resting 1s"));
  EXPECT_THAT(text, HasSubstr("(report)"));
  EXPECT_THAT(text, HasSubstr("over 2 s, after 1 s"));
  EXPECT_THAT(text, HasSubstr("reads errors < 5%  (else the run ends early, judged over 30 s)"));
  EXPECT_THAT(text, HasSubstr("SLO \"reads p50 < 1s during short\" never ends the run early: no phase that it judges "
                              "lasts longer than 10 s"));
  // The event needs devices, so a phase connects them first.
  const auto json = nlohmann::json::parse(plan_json(plan));
  EXPECT_EQ(json["phases"][0]["connects"], 200);
  EXPECT_EQ(json["phases"][1]["events"][0]["devices"], 60);
}

TEST(ResolvedYaml, HoldsNoSecret) {
  auto text = document("  - {name: connect, connect: 5/s}\n");
  text += "target: {connectionString: \"HostName=h;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0\"}\n";
  const auto plan = make_plan(loaded(text));
  EXPECT_THAT(resolved_yaml(plan.scenario), Not(HasSubstr("c2VjcmV0")));
  EXPECT_THAT(plan_text(plan), Not(HasSubstr("c2VjcmV0")));
  EXPECT_THAT(plan_json(plan), Not(HasSubstr("c2VjcmV0")));
}

}  // namespace
}  // namespace twinstorm::scenario
