// Devices, back ends and the hub in one process over loopback: whole conversations, and counts that agree on both
// sides.
#include "sim/run/shard.hpp"

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "metrics/aggregator.hpp"
#include "sim/hub/hub.hpp"
#include "sim/run/certificates.hpp"
#include "sim/run/hub_link.hpp"
#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"
#include "tests/support/ledger.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::run {
namespace {

using metrics::ConvergenceOutcome;
using metrics::ErrorClass;
using twinstorm::testing::errors_of;
using twinstorm::testing::expect_ledger_adds_up;
using twinstorm::testing::Ledger;
using twinstorm::testing::ledger_of;
using namespace std::chrono_literals;

constexpr ShardId kShards = 2;

constexpr std::string_view kScenario = R"(
schema: twinstorm/scenario/1
name: loopback
target: embedded
seed: 11
fleets:
  - name: thermostats
    count: 40
    reported: {battery: {uniform: [5, 100]}}
    onDesired: {apply: {delay: 5ms}, report: echo}
    reconnect: {backoff: {initial: 50ms, max: 200ms}}
backends:
  - {name: rollout, do: patchDesired, select: thermostats, patch: {climate: {min: {uniform: [60, 70]}}}}
  - {name: ops, do: query, sql: "SELECT * FROM devices", pageSize: 15, pages: all}
phases:
  - {name: connect, connect: {rate: 400/s}, duration: 300ms}
  - {name: steady, duration: 1s, STEADY}
  - {name: settle, duration: 100ms}
invariants: [noLostUpdates, versionsMonotonic, finalStateMatches]
limits: {operationTimeout: 5s, convergenceTimeout: 10s}
)";

/// A hub, its devices registered, and the shards in their threads.
class ShardTest : public ::testing::Test {
 protected:
  void start_run(std::string_view steady) {
    std::string text{kScenario};
    text.replace(text.find("STEADY"), 6, steady);
    start_scenario(text);
  }
  void start_scenario(const std::string& text) {
    const auto loaded = scenario::load_scenario(text, "loopback.yaml");
    for (const auto& each : loaded.diagnostics) ADD_FAILURE() << each.path << ": " << each.message;
    ASSERT_TRUE(loaded.ok());
    const auto resolved = scenario::resolve(*loaded.scenario, kShards);
    const auto ca = device_authority(resolved.target, clock_.wall());
    ASSERT_TRUE(ca) << ca.error().message;
    auto certificates = make_certificates(resolved, &*ca, clock_.wall(), {});
    ASSERT_TRUE(certificates) << certificates.error().message;
    plan_ = make_fleet_plan(resolved, {}, std::move(*certificates));

    hub::HubConfig hub_config;
    const auto needed = needed_ports(resolved);
    if (needed.mqtts) hub_config.mqtts_port = 0;
    if (needed.https) hub_config.https_port = 0;
    hub_config.data_folder = folder_.path().string();
    hub_config.device_authorities_pem = ca->certificate_pem;
    auto started = hub::Hub::start(hub_config);
    ASSERT_TRUE(started) << started.error().message;
    hub_ = std::move(*started);
    HubAddress address;
    address.host = "127.0.0.1";
    address.host_name = hub_->config().host_name;
    address.mqtt_port = hub_->ports().mqtt;
    address.mqtts_port = hub_->ports().mqtts;
    address.http_port = hub_->ports().http;
    address.https_port = hub_->ports().https;
    address.ca_file = hub_->authority_file();
    address.service_connection_string = hub_->owner_connection_string();
    auto hub_link = make_hub_link(address, {});
    ASSERT_TRUE(hub_link) << hub_link.error().message;
    link_.emplace(std::move(*hub_link));
    auto links = make_fleet_links(*link_, resolved);
    ASSERT_TRUE(links) << links.error().message;
    links_ = std::move(*links);
    const auto reachable = check_fleet_links(*link_, resolved, links_);
    ASSERT_TRUE(reachable) << reachable.error().message;
    authority_.emplace(link_->host_name, "group secret");
    const auto provisioned = provision(*link_, *plan_, *authority_, {});
    ASSERT_TRUE(provisioned) << provisioned.error().message;
    EXPECT_EQ(provisioned->created, plan_->scenario.device_count());

    for (ShardId id = 0; id < kShards; ++id) {
      const Shard::Config config{.id = id,
                                 .shards = kShards,
                                 .plan = plan_.get(),
                                 .targets = links_.targets,
                                 .hub = &*link_,
                                 .authority = &*authority_,
                                 .keep_model = true};
      recorders_.push_back(std::make_unique<metrics::ShardRecorder>(plan_->layout));
      shards_.push_back(std::make_unique<Shard>(config, *recorders_.back(), clock_));
    }
    for (const auto& shard : shards_) threads_.emplace_back([&each = *shard] { each.run(); });
  }
  /// Begins the phase now and lets it last as the scenario says.
  void phase(metrics::PhaseIndex index) {
    const MonoTime begin = clock_.mono();
    for (const auto& shard : shards_) shard->begin_phase(index, begin);
    std::this_thread::sleep_until(begin + plan_->scenario.phases[index].length());
  }
  void finish_load() {
    for (const auto& shard : shards_) shard->finish_load(clock_.mono());
    std::this_thread::sleep_for(100ms);  // the last arrivals start, and the shards' view of what is open follows
  }
  bool until(Nanos patience, const std::function<bool()>& done) const {
    const MonoTime end = clock_.mono() + patience;
    while (!done()) {
      if (clock_.mono() > end) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }
  uint64_t open_work() const {
    uint64_t sum = 0;
    for (const auto& shard : shards_) sum += shard->recorder().health().open_work.get();
    return sum;
  }
  uint32_t online() const {
    uint32_t sum = 0;
    for (const auto& shard : shards_) sum += shard->recorder().devices().online;
    return sum;
  }
  void stop_run() {
    for (const auto& shard : shards_) shard->stop();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }
  ~ShardTest() override {
    if (!threads_.empty()) stop_run();
  }

  Ledger ledger(std::string_view stream) const {
    Ledger sum;
    for (const auto& shard : shards_) {
      const auto index = plan_->layout.find_stream(stream);
      const Ledger part = ledger_of(shard->recorder(), index.value());
      sum.asked += part.asked;
      sum.sent += part.sent;
      sum.acknowledged += part.acknowledged;
      sum.failed += part.failed;
      sum.timed_out += part.timed_out;
      sum.dropped += part.dropped;
    }
    return sum;
  }
  uint64_t outcome(ConvergenceOutcome which) const {
    uint64_t sum = 0;
    for (const auto& shard : shards_) {
      for (metrics::PhaseIndex p = 0; p < plan_->layout.phases.size(); ++p) {
        sum += shard->recorder().phase(p).ended[static_cast<size_t>(which)].get();
      }
    }
    return sum;
  }
  uint64_t updates_started() const {
    uint64_t sum = 0;
    for (const auto& shard : shards_) {
      for (metrics::PhaseIndex p = 0; p < plan_->layout.phases.size(); ++p) {
        sum += shard->recorder().phase(p).started.get();
      }
    }
    return sum;
  }
  uint64_t updates_ended() const {
    uint64_t sum = 0;
    for (size_t i = 0; i < metrics::kConvergenceOutcomeCount; ++i) sum += outcome(static_cast<ConvergenceOutcome>(i));
    return sum;
  }
  /// After the run: every twin of the hub holds what the shards' own models expect.
  void expect_final_state_matches() {
    std::vector<DeviceIndex> devices;
    for (DeviceIndex i = 0; i < plan_->scenario.device_count(); ++i) devices.push_back(i);
    size_t compared = 0;
    const auto read = read_twins(
        *link_, *plan_, devices,
        [&](size_t i, int status, std::string_view body) {
          EXPECT_EQ(status, 200);
          const auto result = shards_[devices[i] % kShards]->oracle().compare(devices[i] / kShards, body);
          EXPECT_EQ(result.verdict, Oracle::Verdict::matches) << "device " << devices[i] << ": " << result.difference;
          ++compared;
        },
        {});
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(compared, devices.size());
  }

  SteadyClock clock_;
  std::unique_ptr<hub::Hub> hub_;
  std::unique_ptr<const FleetPlan> plan_;
  twinstorm::testing::TemporaryFolder folder_;
  std::optional<HubLink> link_;
  FleetLinks links_;
  std::optional<device::Authority> authority_;
  std::vector<std::unique_ptr<metrics::ShardRecorder>> recorders_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<std::thread> threads_;
};

TEST_F(ShardTest, EverythingConvergesAndBothSidesCountTheSame) {
  ASSERT_NO_FATAL_FAILURE(start_run("load: {rollout: 150/s, ops: 10/s, thermostats.getTwin: {concurrency: 4}}"));
  const auto before = hub_->counts();
  phase(0);
  ASSERT_TRUE(until(10s, [&] { return online() == 40; })) << online() << " devices online";
  phase(1);
  phase(2);
  finish_load();
  ASSERT_TRUE(until(10s, [&] { return open_work() == 0; })) << open_work() << " operations still open";
  const auto after = hub_->counts();
  stop_run();

  for (const auto& shard : shards_) expect_ledger_adds_up(shard->recorder(), 0);
  const Ledger connects = ledger("thermostats.connect");
  const Ledger reports = ledger("thermostats.report");
  const Ledger gets = ledger("thermostats.getTwin");
  const Ledger patches = ledger("rollout");
  EXPECT_EQ(connects, (Ledger{40, 40, 40, 0, 0, 0}));
  EXPECT_EQ(patches.acknowledged, patches.asked);
  EXPECT_NEAR(static_cast<double>(patches.asked), 150, 2);
  EXPECT_EQ(outcome(ConvergenceOutcome::applied), patches.asked);
  EXPECT_EQ(updates_started(), patches.asked);
  EXPECT_EQ(reports.acknowledged, patches.asked + 40);  // an echo each, and every device introduces itself
  EXPECT_GT(gets.acknowledged, 40u);

  EXPECT_EQ(after.connects_accepted - before.connects_accepted, connects.acknowledged);
  EXPECT_EQ(after.twin_gets - before.twin_gets, gets.acknowledged);
  EXPECT_EQ(after.reported_patches - before.reported_patches, reports.acknowledged);
  EXPECT_EQ(after.desired_patches - before.desired_patches, patches.acknowledged);
  uint64_t notifications = 0, pages = 0;
  for (const auto& shard : shards_) {
    notifications += shard->findings().notifications;
    pages += shard->findings().requests.of(backend::HubCount::queries).answered;
    EXPECT_EQ(shard->findings().versions_went_back, 0u);
    EXPECT_TRUE(shard->findings().lost.empty());
    EXPECT_TRUE(shard->findings().went_back.empty());
    EXPECT_TRUE(shard->findings().duplicates.empty());
  }
  EXPECT_EQ(notifications, patches.acknowledged);
  EXPECT_EQ(after.desired_notifications_sent - before.desired_notifications_sent, notifications);
  const Ledger queries = ledger("ops");
  EXPECT_EQ(queries.acknowledged, queries.asked);
  EXPECT_EQ(pages, queries.asked * 3);  // 40 devices, 15 a page
  EXPECT_EQ(after.queries - before.queries, pages);
  expect_final_state_matches();
}

constexpr const char* kEveryConnection = R"(
schema: twinstorm/scenario/1
target: embedded
seed: 11
fleets:
  - {name: plain, count: 6, onDesired: {report: echo}}
  - {name: tls, count: 6, tls: true, onDesired: {report: echo}}
  - {name: web, count: 6, transport: mqttws, onDesired: {report: echo}}
  - {name: webtls, count: 6, transport: mqttws, tls: {version: 1.3, resumption: true}, onDesired: {report: echo}}
  - {name: own, count: 6, tls: {version: 1.2}, auth: x509-selfsigned, onDesired: {report: echo}}
  - {name: signed, count: 6, transport: mqttws, tls: true, auth: x509-ca, onDesired: {report: echo}}
backends:
  - {name: p0, do: patchDesired, select: plain, patch: {n: {sequence: {}}}}
  - {name: p1, do: patchDesired, select: tls, patch: {n: {sequence: {}}}, tls: true}
  - {name: p2, do: patchDesired, select: web, patch: {n: {sequence: {}}}}
  - {name: p3, do: patchDesired, select: webtls, patch: {n: {sequence: {}}}, tls: true}
  - {name: p4, do: patchDesired, select: own, patch: {n: {sequence: {}}}}
  - {name: p5, do: patchDesired, select: signed, patch: {n: {sequence: {}}}}
phases:
  - {name: connect, connect: {rate: 200/s}, duration: 300ms}
  - {name: steady, duration: 1s, load: {p0: 20/s, p1: 20/s, p2: 20/s, p3: 20/s, p4: 20/s, p5: 20/s}, DISCONNECT}
limits: {operationTimeout: 5s, convergenceTimeout: 10s}
)";

class EveryConnection : public ShardTest {
 protected:
  void run(const std::string& disconnect) {
    std::string text{kEveryConnection};
    const auto at = text.find(", DISCONNECT");
    text.replace(at, 12, disconnect);
    ASSERT_NO_FATAL_FAILURE(start_scenario(text));
    phase(0);
    ASSERT_TRUE(until(10s, [&] { return online() == 36; })) << online() << " devices online";
    phase(1);
    // Before the end of the load: nobody comes back after it.
    ASSERT_TRUE(until(20s, [&] { return online() == 36 && open_work() == 0; })) << online() << " devices online";
    finish_load();
    stop_run();
    for (const auto& shard : shards_) expect_ledger_adds_up(shard->recorder(), 0);
    EXPECT_EQ(updates_started(), 120u);
    EXPECT_EQ(outcome(ConvergenceOutcome::applied) + outcome(ConvergenceOutcome::superseded), 120u);
    expect_final_state_matches();
  }
};

TEST_F(EveryConnection, WorksSideBySide) {
  run("");
  for (const char* fleet : {"plain", "tls", "web", "webtls", "own", "signed"}) {
    EXPECT_EQ(ledger(std::string{fleet} + ".connect"), (Ledger{6, 6, 6, 0, 0, 0})) << fleet;
  }
  EXPECT_EQ(outcome(ConvergenceOutcome::applied), 120u);
}

TEST_F(EveryConnection, ComesBackAfterLosingIts) {
  run(", disconnect: {share: 60%, over: 500ms}");
  for (const char* fleet : {"plain", "tls", "web", "webtls", "own", "signed"}) {
    const auto connects = ledger(std::string{fleet} + ".connect");
    EXPECT_EQ(connects.acknowledged, connects.asked) << fleet;
    EXPECT_GT(connects.acknowledged, 6u) << fleet;
  }
}

constexpr const char* kEveryOperation = R"(
schema: twinstorm/scenario/1
target: embedded
seed: 11
fleets:
  - {name: t, count: 20, methods: true, onDesired: {report: echo}}
backends:
  - {name: careful, do: patchDesired, patch: {n: {sequence: {}}}, ifMatch: readModifyWrite, retries: {max: 50}}
  - {name: rival, do: patchTags, tags: {n: {sequence: {}}}, staleness: {share: 50%, every: 20ms, timeout: 5s}}
  - {name: reboots, do: method, methodName: reboot, payload: {delay: 1}, responseTimeout: 5s}
  - {name: newcomers, do: createDevice}
  - {name: leavers, do: deleteDevice, of: newcomers}
  - {name: batches, do: bulk, mode: create, size: 20, tags: {batch: true}}
  - {name: purge, do: bulk, mode: delete, of: batches, size: 5}
  - {name: updates, do: job, tags: {fw: 2}, poll: 20ms}
  - {name: calls, do: job, methodName: reboot, poll: 20ms}
  - {name: reads, do: getTwin}
phases:
  - {name: connect, connect: {rate: 200/s}, duration: 300ms}
  - {name: make, duration: 500ms, load: {newcomers: 40/s, batches: 4/s}}
  - name: steady
    duration: 1s
    load: {careful: 100/s, rival: {concurrency: 2}, reboots: 50/s, newcomers: {concurrency: 1}, leavers: 10/s,
           purge: 4/s, updates: 3/s, calls: {concurrency: 1}, reads: 20/s}
limits: {operationTimeout: 10s, convergenceTimeout: 10s}
)";

TEST_F(ShardTest, EveryOperationOfTheBackEndIsCountedAlikeOnBothSides) {
  ASSERT_NO_FATAL_FAILURE(start_scenario(kEveryOperation));
  const auto before = hub_->counts();
  phase(0);
  ASSERT_TRUE(until(10s, [&] { return online() == 20; })) << online() << " devices online";
  phase(1);
  phase(2);
  finish_load();
  ASSERT_TRUE(until(20s, [&] { return open_work() == 0; })) << open_work() << " operations still open";
  const auto after = hub_->counts();
  stop_run();

  for (const auto& shard : shards_) expect_ledger_adds_up(shard->recorder(), 0);
  for (const char* stream :
       {"careful", "rival", "reboots", "newcomers", "leavers", "batches", "purge", "updates", "calls", "reads"}) {
    const Ledger sums = ledger(stream);
    EXPECT_GT(sums.acknowledged, 0u) << stream;
    EXPECT_EQ(sums.acknowledged, sums.asked) << stream << ": " << sums;
  }
  backend::RequestBooks ours;
  uint64_t started = 0, visible = 0, left = 0;
  for (const auto& shard : shards_) {
    ours.add(shard->findings().requests);
    const auto& cell = shard->recorder().phase(2);
    started += cell.staleness_started.get();
    visible += cell.staleness_ended[static_cast<size_t>(metrics::StalenessOutcome::visible)].get();
    for (const uint32_t maker : {3u, 5u}) left += shard->findings().created[maker].known.size();
  }
  using backend::HubCount;
  EXPECT_EQ(after.desired_patches - before.desired_patches, ours.of(HubCount::desired_patches).answered);
  EXPECT_EQ(after.tags_patches - before.tags_patches, ours.of(HubCount::tags_patches).answered);
  EXPECT_EQ(after.twin_reads - before.twin_reads, ours.of(HubCount::twin_reads).answered);
  EXPECT_EQ(after.queries - before.queries, ours.of(HubCount::queries).answered);
  EXPECT_EQ(after.methods_answered - before.methods_answered, ours.of(HubCount::methods_answered).answered);
  EXPECT_EQ(after.registry_writes - before.registry_writes, ours.of(HubCount::registry_writes).answered);
  EXPECT_EQ(after.jobs_created - before.jobs_created, ours.of(HubCount::jobs_created).answered);
  EXPECT_EQ(ours.of(HubCount::registry_writes).answered,
            ledger("newcomers").acknowledged + ledger("leavers").acknowledged + 20 * ledger("batches").acknowledged +
                5 * ledger("purge").acknowledged);
  EXPECT_GT(started, 0u);
  EXPECT_EQ(visible, started);
  EXPECT_EQ(left, ledger("newcomers").acknowledged - ledger("leavers").acknowledged +
                      20 * ledger("batches").acknowledged - 5 * ledger("purge").acknowledged);

  // What the run created goes with it; somebody else's device of uncertain fate stays.
  MadeDevices made;
  for (const auto& shard : shards_) {
    for (const uint32_t maker : {3u, 5u}) {
      for (const auto number : shard->findings().created[maker].known) {
        made.known.push_back(plan_->scenario.backends[maker].device_id.format(number));
      }
    }
  }
  made.uncertain = {made.known.back(), "never-there"};
  made.known.pop_back();
  ASSERT_TRUE(control_request(*link_, "PUT", "/devices/stranger?api-version=2021-04-12", R"({"deviceId":"stranger"})"));
  made.uncertain.emplace_back("stranger");
  const auto remaining = remove_devices(*link_, *authority_, made);
  ASSERT_TRUE(remaining) << remaining.error().message;
  EXPECT_EQ(*remaining, 0u);
  const auto statistics = control_get(*link_, "/statistics/devices?api-version=2021-04-12");
  ASSERT_TRUE(statistics);
  EXPECT_NE(statistics->body.find("\"totalDeviceCount\":21"), std::string::npos) << statistics->body;
}

TEST_F(ShardTest, AClosedLoadKeepsItsConcurrencyBesideTheDevicesOwnWork) {
  ASSERT_NO_FATAL_FAILURE(start_run("load: {thermostats.report: {concurrency: 3}, rollout: 100/s}"));
  phase(0);
  ASSERT_TRUE(until(10s, [&] { return online() == 40; }));
  const MonoTime begin = clock_.mono();
  for (const auto& shard : shards_) shard->begin_phase(1, begin);
  // Echoes of the rollout end on the same stream as the load's own reports and must not start more of them.
  uint64_t worst = 0;
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(10ms);
    const Ledger reports = ledger("thermostats.report");
    worst = std::max(worst, reports.sent - std::min(reports.sent, reports.acknowledged));
  }
  EXPECT_LT(worst, 3 + 40u) << "more in flight than three of the load and an echo of each device";
  finish_load();
  EXPECT_TRUE(until(10s, [&] { return open_work() == 0; }));
  stop_run();
  expect_final_state_matches();
}

TEST_F(ShardTest, AStormOfLostConnectionsEndsWithEverythingInPlace) {
  ASSERT_NO_FATAL_FAILURE(start_run("disconnect: {share: 60%, over: 500ms}, load: {rollout: 200/s}"));
  phase(0);
  ASSERT_TRUE(until(10s, [&] { return online() == 40; }));
  phase(1);
  ASSERT_TRUE(until(20s, [&] { return online() == 40 && open_work() == 0; }))
      << online() << " online, " << open_work() << " open";
  finish_load();
  stop_run();
  for (const auto& shard : shards_) expect_ledger_adds_up(shard->recorder(), 0);
  EXPECT_EQ(updates_started(), updates_ended());
  EXPECT_EQ(outcome(ConvergenceOutcome::lost) + outcome(ConvergenceOutcome::unconverged), 0u);
  EXPECT_EQ(outcome(ConvergenceOutcome::applied) + outcome(ConvergenceOutcome::superseded), ledger("rollout").asked);
  EXPECT_GT(ledger("thermostats.connect").acknowledged, 50u);
  expect_final_state_matches();
}

TEST_F(ShardTest, AHubThatStopsInTheMiddleEndsTheRunWithoutHanging) {
  ASSERT_NO_FATAL_FAILURE(start_run("load: {rollout: 150/s, ops: 10/s, thermostats.getTwin: {concurrency: 4}}"));
  phase(0);
  ASSERT_TRUE(until(10s, [&] { return online() == 40; }));
  const MonoTime begin = clock_.mono();
  for (const auto& shard : shards_) shard->begin_phase(1, begin);
  std::this_thread::sleep_for(300ms);
  hub_->stop();
  std::this_thread::sleep_until(begin + 1s);
  finish_load();
  // Nothing answers any more, so everything that is asked ends at once; only accepted updates wait for their deadline.
  EXPECT_TRUE(until(10s, [&] { return open_work() == updates_started() - updates_ended(); }));
  EXPECT_EQ(online(), 0u);
  const MonoTime stopping = clock_.mono();
  stop_run();
  EXPECT_LT(clock_.mono() - stopping, 5s);
  EXPECT_EQ(updates_started(), updates_ended());
  EXPECT_GT(errors_of(shards_[0]->recorder(), *plan_->layout.find_stream("rollout"), ErrorClass::refused), 0u);
  for (const auto& shard : shards_) {
    uint64_t in_flight = 0;  // connection attempts under way when the shard stopped
    for (metrics::StreamIndex stream = 0; stream < plan_->layout.streams.size(); ++stream) {
      in_flight += ledger_of(shard->recorder(), stream).in_flight();
    }
    expect_ledger_adds_up(shard->recorder(), in_flight);
  }
}

}  // namespace
}  // namespace twinstorm::run
