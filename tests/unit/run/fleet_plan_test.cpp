#include "sim/run/fleet_plan.hpp"

#include <gtest/gtest.h>

#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::run {
namespace {

using metrics::OpKind;
using namespace std::chrono_literals;

constexpr std::string_view kText = R"(
schema: twinstorm/scenario/1
name: mapping
target: embedded
seed: 7
fleets:
  - {name: meters, count: 3}
  - name: thermostats
    count: 5
    deviceId: "therm-{index:03}"
    reported: {battery: 5}
    keepAlive: 60s
    telemetry: {every: 30s, jitter: 10%, size: 128B}
    reconnect: {backoff: {initial: 2s, max: 8s, jitter: none}}
    onDesired:
      - {path: climate, apply: {delay: 20ms, failure: 5%}, report: echo}
      - {path: properties.desired.firmware.version, report: {firmware: {running: 2}}}
      - {path: quiet, report: none}
backends:
  - {name: rollout, do: patchDesired, select: thermostats, patch: {climate: {min: 64}}, ifMatch: lastSeen, timeout: 3s}
  - {name: ops, do: query, sql: "SELECT * FROM devices", pageSize: 50, pages: first}
phases:
  - {name: connect, connect: {rate: 5/s}, duration: 2s}
  - {name: steady, duration: 1s, load: {rollout: 5/s, ops: 1/s}}
)";

std::unique_ptr<const FleetPlan> plan() {
  const auto loaded = scenario::load_scenario(kText, "mapping.yaml");
  for (const auto& diagnostic : loaded.diagnostics) ADD_FAILURE() << diagnostic.path << ": " << diagnostic.message;
  if (!loaded.ok()) return nullptr;
  return make_fleet_plan(scenario::resolve(*loaded.scenario, 2));
}

TEST(FleetPlan, FindsTheFleetOfEveryDevice) {
  const auto made = plan();
  ASSERT_NE(made, nullptr);
  for (DeviceIndex device = 0; device < 8; ++device) EXPECT_EQ(made->fleet_of(device), device < 3 ? 0u : 1u) << device;
}

TEST(FleetPlan, DevicesAreNamedByTheirIndexInTheFleet) {
  const auto made = plan();
  ASSERT_NE(made, nullptr);
  std::string id;
  made->fleets[1].append_device_id(id, 4);
  EXPECT_EQ(id, "therm-004");
  EXPECT_EQ(made->fleets[1].first, 3u);
  EXPECT_EQ(made->fleets[1].count, 5u);
}

TEST(FleetPlan, CarriesBehaviourOver) {
  const auto made = plan();
  ASSERT_NE(made, nullptr);
  const auto& fleet = made->fleets[1];
  EXPECT_EQ(fleet.keep_alive, 60s);
  EXPECT_EQ(fleet.timeout, 10s);  // resolved from limits.operationTimeout
  EXPECT_EQ(fleet.telemetry.every, 30s);
  EXPECT_DOUBLE_EQ(fleet.telemetry.jitter, 0.1);
  EXPECT_EQ(fleet.telemetry.size, 128u);
  EXPECT_TRUE(fleet.retry.enabled);
  EXPECT_EQ(fleet.retry.initial, 2s);
  EXPECT_EQ(fleet.retry.max, 8s);
  EXPECT_FALSE(fleet.retry.full_jitter);
  Rng rng{1};
  std::string reported;
  ASSERT_TRUE(fleet.reported);
  fleet.reported(rng, 0, reported);
  EXPECT_EQ(reported, R"({"battery":5})");
  EXPECT_FALSE(made->fleets[0].reported);
  EXPECT_TRUE(made->fleets[0].listeners.empty());
}

TEST(FleetPlan, ListenersKeepPathDelayFailureAndReport) {
  const auto made = plan();
  ASSERT_NE(made, nullptr);
  const auto& listeners = made->fleets[1].listeners;
  ASSERT_EQ(listeners.size(), 3u);
  Rng rng{1};
  EXPECT_EQ(listeners[0].path, "climate");
  EXPECT_EQ(listeners[0].report, device::Listener::Report::echo);
  EXPECT_DOUBLE_EQ(listeners[0].failure, 0.05);
  ASSERT_TRUE(listeners[0].delay);
  EXPECT_EQ(listeners[0].delay(rng), 20ms);
  EXPECT_EQ(listeners[1].path, "firmware.version");
  EXPECT_EQ(listeners[1].report, device::Listener::Report::values);
  EXPECT_FALSE(listeners[1].delay);
  std::string values;
  listeners[1].values(rng, 0, values);
  EXPECT_EQ(values, R"({"firmware":{"running":2}})");
  EXPECT_EQ(listeners[2].report, device::Listener::Report::none);
}

TEST(FleetPlan, StreamsAreTheRecordersOwn) {
  const auto made = plan();
  ASSERT_NE(made, nullptr);
  const auto expect = [&](metrics::StreamIndex stream, std::string_view name, OpKind kind) {
    ASSERT_LT(stream, made->layout.streams.size());
    EXPECT_EQ(made->layout.streams[stream].name, name);
    EXPECT_EQ(made->layout.streams[stream].kind, kind);
  };
  expect(made->fleets[0].connect_stream, "meters.connect", OpKind::connect);
  expect(made->fleets[1].get_twin_stream, "thermostats.getTwin", OpKind::get_twin);
  expect(made->fleets[1].report_stream, "thermostats.report", OpKind::report);
  expect(made->fleets[1].telemetry_stream, "thermostats.telemetry", OpKind::telemetry);
  expect(made->backends[0].stream, "rollout", OpKind::patch_desired);
  expect(made->backends[1].stream, "ops", OpKind::query);
}

TEST(FleetPlan, BackEndsCarryTheirQuestions) {
  const auto made = plan();
  ASSERT_NE(made, nullptr);
  const auto& rollout = made->backends[0];
  EXPECT_EQ(rollout.op, OpKind::patch_desired);
  EXPECT_EQ(rollout.if_match, backend::IfMatch::last_seen);
  EXPECT_EQ(rollout.timeout, 3s);
  EXPECT_GT(rollout.connections, 0u);  // resolved
  EXPECT_FALSE(rollout.tags);
  Rng rng{1};
  std::string patch;
  rollout.desired(rng, 0, patch);
  EXPECT_EQ(patch, R"({"climate":{"min":64}})");
  const auto& ops = made->backends[1];
  EXPECT_EQ(ops.query, "SELECT * FROM devices");
  EXPECT_EQ(ops.page_size, 50u);
  EXPECT_FALSE(ops.all_pages);
  EXPECT_EQ(ops.if_match, backend::IfMatch::any);
}

TEST(FleetPlan, TokensSubscriptionsAndCertificatesComeAlong) {
  const auto loaded = scenario::load_scenario(R"(
schema: twinstorm/scenario/1
fleets:
  - {name: a, count: 1, transport: mqttws, tokenLifetime: 8s, renewJitter: 5%, methods: true}
  - {name: b, count: 1, tls: true, auth: x509-ca, c2d: true}
backends: [{name: r, do: getTwin, select: a, tls: true}]
phases: [{name: connect, connect: 1/s}]
)",
                                              "x.yaml");
  ASSERT_TRUE(loaded.ok());
  const auto made = make_fleet_plan(scenario::resolve(*loaded.scenario), {}, {{}, {"key", {"certificate"}}});
  using transport::Subscriptions;
  EXPECT_EQ(made->fleets[0].token.lifetime, 8s);
  EXPECT_EQ(made->fleets[0].token.renew_before, 2s);
  EXPECT_EQ(made->fleets[0].token.jitter, 0.05);
  EXPECT_EQ(made->fleets[0].subscriptions, Subscriptions::twin | Subscriptions::methods);
  EXPECT_TRUE(made->fleets[0].websocket);
  EXPECT_TRUE(made->fleets[0].certificates.empty());
  EXPECT_EQ(made->fleets[0].renew_stream, made->scenario.fleet_stream(0, OpKind::renew_token));
  EXPECT_EQ(made->fleets[1].certificates.key_pem, "key");
  EXPECT_EQ(made->fleets[1].subscriptions, Subscriptions::twin | Subscriptions::devicebound);
  EXPECT_TRUE(made->backends[0].tls);
}

}  // namespace
}  // namespace twinstorm::run
