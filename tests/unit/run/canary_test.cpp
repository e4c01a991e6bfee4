#include "sim/run/canary.hpp"

#include <gtest/gtest.h>

#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::run {
namespace {

constexpr std::string_view kText = R"(
schema: twinstorm/scenario/1
name: canary
target: embedded
fleets:
  - {name: meters, count: 3, reported: {a: 1}}
  - {name: thermostats, count: 5, reported: {a: 1}}
backends:
  - {name: few, do: patchDesired, select: meters, patch: {a: 1}}
  - {name: rollout, do: patchDesired, select: thermostats, patch: {climate: {min: 64}}}
  - {name: ops, do: query, sql: "SELECT * FROM devices"}
phases:
  - {name: connect, connect: {rate: 5/s}, duration: 2s, record: false, load: {thermostats.report: 1/s}}
  - {name: read, duration: 1s, load: {thermostats.getTwin: 5/s, meters.report: 5/s, few: 1/s}}
  - {name: change, duration: 1s, load: {rollout: 5/s, ops: 1/s, thermostats.telemetry: 2/s, thermostats.report: 1/s}}
  - {name: look, duration: 1s, load: {ops: 1/s}}
)";

CanaryPlan plan(std::string text = std::string{kText}) {
  const auto loaded = scenario::load_scenario(text, "canary.yaml");
  for (const auto& diagnostic : loaded.diagnostics) ADD_FAILURE() << diagnostic.path << ": " << diagnostic.message;
  return make_canary_plan(scenario::resolve(*loaded.scenario, 1));
}

std::vector<std::string_view> operations(const CanaryPhase& phase) {
  std::vector<std::string_view> names;
  for (size_t op = 0; op < kCanaryOps; ++op) {
    if (phase.does[op]) names.push_back(to_string(static_cast<CanaryOp>(op)));
  }
  return names;
}

using Names = std::vector<std::string_view>;

TEST(CanaryPlan, MirrorsTheLargestFleetInRecordedPhasesOnly) {
  const auto made = plan();
  EXPECT_EQ(made.fleet, 1u);
  ASSERT_EQ(made.phases.size(), 4u);
  EXPECT_EQ(operations(made.phases[0]), Names{}) << "a phase that is not recorded";
  EXPECT_EQ(operations(made.phases[1]), Names{"getTwin"}) << "not what the other fleet does";
  EXPECT_EQ(operations(made.phases[2]), (Names{"report", "telemetry", "delivery"}));
  EXPECT_EQ(made.phases[2].backend, 1u);
  EXPECT_TRUE(made.phases[3].idle()) << "queries are no operation of a device";
}

TEST(CanaryPlan, SendsTelemetryWhereTheFleetDoesByItself) {
  std::string text{kText};
  const auto put = [&text](const std::string& old, const std::string& now) {
    text.replace(text.find(old), old.size(), now);
  };
  put("count: 5,", "count: 5, telemetry: {every: 5s},");
  put(" thermostats.telemetry: 2/s,", "");
  const auto made = plan(text);
  EXPECT_EQ(operations(made.phases[0]), Names{});
  EXPECT_EQ(operations(made.phases[3]), Names{"telemetry"});
}

constexpr std::string_view kUneven = R"(
schema: twinstorm/scenario/1
name: uneven
target: embedded
fleets:
  - {name: f, count: 5, reported: {a: 1}}
backends:
  - {name: rollout, do: patchDesired, select: f, patch: {a: 1}}
phases:
  - {name: connect, connect: {rate: 5/s}, duration: 2s, load: {rollout: 1/s, f.report: 1/s, f.getTwin: 1/s}}
  - {name: climb, duration: 10s, load: {f.getTwin: {shape: ramp, from: 0/s, to: 100/s}, rollout: 5/s}}
  - {name: closed, duration: 2s, load: {f.getTwin: {concurrency: 2}, f.report: 1/s, rollout: {concurrency: 2}}}
  - {name: storm, duration: 2s, disconnect: {share: 50%}, load: {f.getTwin: 1/s, f.telemetry: 1/s, rollout: 1/s}}
  - {name: after, duration: 2s, load: {f.getTwin: 1/s, f.report: 1/s, f.telemetry: 1/s}}
  - {name: calm, duration: 2s, load: {f.getTwin: 1/s}}
)";

TEST(CanaryPlan, LeavesOutWhatDevicesDoAllAtOnceBecauseTheyConnectOrComeBack) {
  const auto made = plan(std::string{kUneven});
  EXPECT_EQ(operations(made.phases[0]), Names{"delivery"});
  EXPECT_FALSE(made.phases[0].compares[static_cast<size_t>(CanaryOp::report)])
      << "what devices report when they connect";
  EXPECT_EQ(operations(made.phases[3]), (Names{"telemetry", "delivery"}));
  EXPECT_EQ(operations(made.phases[4]), Names{"telemetry"}) << "the devices of the storm are not back yet";
  EXPECT_EQ(operations(made.phases[5]), Names{"getTwin"});
}

TEST(CanaryPlan, LeavesOutClosedLoopsWhichSeeTheHubAtItsBestMoments) {
  const auto made = plan(std::string{kUneven});
  EXPECT_EQ(operations(made.phases[2]), Names{"report"});
}

TEST(CanaryPlan, FollowsALoadThatChanges) {
  const auto made = plan(std::string{kUneven});
  const auto& climb = made.phases[1];
  EXPECT_EQ(operations(climb), (Names{"getTwin", "delivery"}));
  EXPECT_TRUE(climb.compares[static_cast<size_t>(CanaryOp::report)]) << "a patch is answered with one";
  for (const int second : {0, 2, 9}) {
    const auto at = std::chrono::seconds{second};
    EXPECT_NEAR(climb.share_at(CanaryOp::get_twin, at), second / 10.0, 1e-9);
    EXPECT_EQ(climb.share_at(CanaryOp::delivery, at), 1);
  }
}

TEST(CanaryDevice, HasAnIdThatTheRegistryTakes) {
  EXPECT_EQ(canary_device_id("rollout-20260301T080000Z"), "rollout-20260301T080000Z-canary");
  EXPECT_EQ(canary_device_id("my run/1 \xc3\xa4"), "my-run-1----canary");
  const auto longest = canary_device_id(std::string(200, 'x'));
  EXPECT_EQ(longest.size(), 128u);
  EXPECT_TRUE(longest.ends_with("x-canary"));
}

TEST(CanaryRecord, SaysWhyARunHasNone) {
  const auto record = Canary::absent("run-canary", make_error(ErrorCode::unauthorized, "no right to register"));
  EXPECT_EQ(record.device, "run-canary");
  EXPECT_EQ(record.verdict, metrics::CanaryVerdict::too_few_samples);
  EXPECT_EQ(record.detail, "the canary could not be set up: no right to register");
  EXPECT_TRUE(record.rows.empty());
}

}  // namespace
}  // namespace twinstorm::run
