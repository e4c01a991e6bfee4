#include "sim/device/device_pool.hpp"

#include <deque>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fake_link.hpp"
#include "tests/support/ledger.hpp"

namespace twinstorm::device {
namespace {

using metrics::ErrorClass;
using metrics::ReconnectReason;
using testing::FakeHubSide;
using testing::FakeLink;
using transport::ConnectRefusal;
using transport::DisconnectReason;
using transport::Sent;
using twinstorm::testing::errors_of;
using twinstorm::testing::expect_ledger_adds_up;
using twinstorm::testing::Ledger;
using twinstorm::testing::ledger_of;
using namespace std::chrono_literals;

constexpr metrics::StreamIndex kConnect = 0, kGetTwin = 1, kReport = 2, kTelemetry = 3, kRenew = 4;

metrics::RecorderLayout layout() {
  using metrics::OpKind;
  return {{{"f.connect", OpKind::connect, "f", "mqtt"},
           {"f.getTwin", OpKind::get_twin, "f", "mqtt"},
           {"f.report", OpKind::report, "f", "mqtt"},
           {"f.telemetry", OpKind::telemetry, "f", "mqtt"},
           {"f.renewToken", OpKind::renew_token, "f", "mqtt"}},
          {{"first", true}, {"second", true}}};
}

/// What the run would hear, as lines: `notified 0 v2`, `reported 0 {"a":1} v5`, ...
class Heard final : public FleetObserver {
 public:
  std::vector<std::string> lines;

  void on_notified(LocalDevice device, int64_t version, MonoTime) override { add("notified", device, version); }
  void on_report_sent(LocalDevice device, int64_t version, MonoTime) override { add("sent", device, version); }
  void on_converged(LocalDevice device, int64_t version, MonoTime) override { add("converged", device, version); }
  void on_apply_failed(LocalDevice device, int64_t version, bool synced) override {
    add(synced ? "sync failed" : "apply failed", device, version);
  }
  void on_fetched(LocalDevice device, int64_t version, bool went_back) override {
    add(went_back ? "went back" : "fetched", device, version);
  }
  void on_synced(LocalDevice device, int64_t version, MonoTime) override { add("synced", device, version); }
  void on_reported(LocalDevice, std::string_view patch, int64_t version) override {
    lines.push_back("reported " + std::string{patch} + " v" + std::to_string(version));
  }
  void on_report_unknown(LocalDevice, std::string_view patch) override {
    lines.push_back("unknown " + std::string{patch});
  }
  std::vector<std::string> take() { return std::exchange(lines, {}); }

 private:
  void add(const char* what, LocalDevice device, int64_t version) {
    lines.push_back(std::string{what} + ' ' + std::to_string(device) + " v" + std::to_string(version));
  }
};

using Lines = std::vector<std::string>;
using Report = Listener::Report;

Listener listener(std::string path, std::function<Nanos(Rng&)> delay = {}, double failure = 0,
                  Report report = Report::echo, Renderer values = {}) {
  return {std::move(path), std::move(delay), failure, report, std::move(values)};
}
std::function<Nanos(Rng&)> after(Nanos delay) {
  return [delay](Rng&) { return delay; };
}

class DevicePoolTest : public ::testing::Test {
 protected:
  DevicePoolTest() {
    fleet.name = "f";
    fleet.count = kDevices;
    fleet.append_device_id = [](std::string& out, uint32_t index) { out += "dev-" + std::to_string(index); };
    fleet.listeners.push_back({});  // every patch, no delay, echo
    fleet.retry = {.initial = 1s, .max = 8s, .full_jitter = false};
    fleet.connect_stream = kConnect;
    fleet.get_twin_stream = kGetTwin;
    fleet.report_stream = kReport;
    fleet.telemetry_stream = kTelemetry;
    fleet.renew_stream = kRenew;
  }
  ~DevicePoolTest() override {
    if (!pool_) return;
    uint64_t open = pool_->requests_open();
    for (LocalDevice device = 0; device < pool_->size(); ++device) {
      open += pool_->state(device) == DeviceState::connecting ? 1 : 0;
    }
    expect_ledger_adds_up(recorder, open);
    const auto counts = pool_->counts();
    EXPECT_EQ(counts.offline + counts.connecting + counts.online + counts.waiting, pool_->size());
    EXPECT_EQ(recorder.devices(), counts);
  }

  /// Made on first use, after the test has set `fleet` and the limits.
  DevicePool& pool() {
    if (!pool_) {
      DevicePool::Config config;
      config.fleets = {&fleet};
      for (uint32_t i = 0; i < kDevices; ++i) {
        config.devices.push_back(i);
        config.fleet_of.push_back(0);
      }
      config.requests_max = requests_max;
      config.tasks_max = tasks_max;
      config.seed = 5;
      config.targets.push_back({.endpoint = {}, .host_name = "hub.localhost"});
      config.client_type = "twinstorm/1.2.3 (Linux; x64)";
      config.authority = &authority;
      config.make_link = [this](LocalDevice device, transport::TransportEvents& events) {
        hubs[device].events = &events;
        hubs[device].device = device;
        return std::make_unique<FakeLink>(hubs[device]);
      };
      wheel_ = std::make_unique<TimerWheel>(DevicePool::timers_needed(config), clock.mono());
      pool_ = std::make_unique<DevicePool>(config, io, *wheel_, 0, clock, recorder, heard);
    }
    return *pool_;
  }

  /// Lets time pass, firing timers at their ticks.
  void pass(Nanos duration) {
    const MonoTime end = clock.mono() + duration;
    const auto fire = [&](TimerWheel::TimerId id) { pool().on_timer(id); };
    while (wheel_->next_event() <= end) {
      if (wheel_->next_event() > clock.mono()) clock.advance(wheel_->next_event() - clock.mono());
      wheel_->advance(clock.mono(), fire);
    }
    clock.advance(end - clock.mono());
    wheel_->advance(clock.mono(), fire);
  }

  void connect(LocalDevice device = 0) {
    recorder.asked(kConnect, 0);
    pool().connect(device, 0, clock.mono());
  }
  void get_twin(LocalDevice device = 0) {
    recorder.asked(kGetTwin, 0);
    pool().get_twin(device, 0, clock.mono());
  }
  void report(uint64_t n, LocalDevice device = 0) {
    recorder.asked(kReport, 0);
    pool().report(device, 0, clock.mono(), n);
  }
  void telemetry(LocalDevice device = 0) {
    recorder.asked(kTelemetry, 0);
    pool().send_telemetry(device, 0, clock.mono());
  }
  /// From offline to online with an empty twin at desired version 1 that is synced without a report.
  void bring_online(LocalDevice device = 0) {
    connect(device);
    hubs[device].accept();
    hubs[device].grant();
    hubs[device].answer_twin(1);
    ASSERT_EQ(pool().state(device), DeviceState::online);
    heard.lines.clear();
    hubs[device].calls.clear();
  }
  /// From waiting or connecting to online again, with what the twin holds now.
  void come_back(int64_t version, std::string_view properties = {}, LocalDevice device = 0) {
    for (int i = 0; i < 100 && pool().state(device) == DeviceState::waiting; ++i) pass(100ms);
    hubs[device].accept();
    hubs[device].grant();
    hubs[device].answer_twin(version, properties);
  }
  Ledger ledger(metrics::StreamIndex stream) const { return ledger_of(recorder, stream); }
  uint64_t reconnects(ReconnectReason reason) const {
    return recorder.health().reconnects[static_cast<size_t>(reason)].get();
  }

  static constexpr uint32_t kDevices = 3;
  uint32_t requests_max = 16, tasks_max = 16;
  ManualClock clock;
  FleetBehavior fleet;
  Authority authority{"hub.localhost", "group secret"};
  metrics::ShardRecorder recorder{layout()};
  const metrics::ShardRecorder& recorded = recorder;
  net::ShardIo io;
  Heard heard;
  std::array<FakeHubSide, kDevices> hubs;
  FakeHubSide& hub = hubs[0];

 private:
  std::unique_ptr<TimerWheel> wheel_;
  std::unique_ptr<DevicePool> pool_;
};

// --- Connecting ------------------------------------------------------------------------------------------------------

TEST_F(DevicePoolTest, ConnectsInTheDocumentedOrderSubscribeThenGet) {
  connect();
  EXPECT_EQ(pool().state(0), DeviceState::connecting);
  hub.accept();
  EXPECT_EQ(pool().state(0), DeviceState::subscribing);
  hub.grant();
  EXPECT_EQ(pool().state(0), DeviceState::fetching);
  hub.answer_twin(1);
  EXPECT_EQ(pool().state(0), DeviceState::online);
  EXPECT_EQ(hub.calls, (Lines{"dial", "subscribe", "get"}));
  EXPECT_EQ(pool().counts(), (metrics::DeviceCounts{2, 0, 1, 0}));
}

TEST_F(DevicePoolTest, IntroducesItselfWithTokenAndUserNameOfTheDevice) {
  fleet.keep_alive = 17s;
  connect(2);
  hubs[2].accept();
  const auto& identity = hubs[2].identity;
  EXPECT_EQ(identity.client_id, "dev-2");
  EXPECT_EQ(identity.user_name,
            "hub.localhost/dev-2/?api-version=2021-04-12&DeviceClientType=twinstorm%2F1.2.3%20(Linux%3B%20x64)");
  EXPECT_EQ(identity.keep_alive_seconds, 17);
  const auto token = protocol::parse_sas_token(identity.password);
  ASSERT_TRUE(token) << token.error().message;
  EXPECT_EQ(token->se, unix_seconds(clock.wall()) + 3600);
}

TEST_F(DevicePoolTest, ConnectIsTimedFromWhenItWasDue) {
  recorder.asked(kConnect, 1);
  const MonoTime due = clock.mono();
  clock.advance(30ms);  // started late
  pool().connect(0, 1, due);
  clock.advance(50ms);
  hub.accept();
  const auto& cell = recorded.cell(kConnect, 1);
  EXPECT_EQ(cell.intended.snapshot().max(), 80ms);
  EXPECT_EQ(cell.service.snapshot().max(), 50ms);
}

TEST_F(DevicePoolTest, ConnectingADeviceThatIsNotOfflineIsDropped) {
  bring_online();
  connect();
  EXPECT_EQ(ledger(kConnect), (Ledger{2, 1, 1, 0, 0, 1}));
  EXPECT_EQ(hub.dials, 1);
}

TEST_F(DevicePoolTest, NotificationsThatTheFetchedTwinHoldsAlreadyAreIgnored) {
  bring_online();
  hub.notify(2, R"("a":1)");
  hub.answer_report();
  heard.take();
  hub.notify(2, R"("a":1)");
  hub.notify(1, R"("a":0)");
  EXPECT_TRUE(hub.reports.empty());
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "notified 0 v1"}));
}

TEST_F(DevicePoolTest, AFreshDeviceAppliesTheFetchedStateAndReportsIt) {
  connect();
  hub.accept();
  hub.grant();
  hub.answer_twin(4, R"("climate":{"min":64},"$metadata":{})");
  ASSERT_EQ(hub.reports.size(), 1u);
  EXPECT_EQ(hub.reports[0].patch, R"({"climate":{"min":64}})");
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v4"}));
  hub.answer_report(9);
  EXPECT_EQ(heard.take(), (Lines{R"(reported {"climate":{"min":64}} v9)", "synced 0 v4"}));
}

TEST_F(DevicePoolTest, AnAnswerOlderThanANotificationThatOvertookItIsAskedForAgain) {
  connect();
  hub.accept();
  hub.grant();
  hub.notify(5, R"("a":5)");  // pushed while the GET is under way
  hub.answer_twin(4, R"("a":4)");
  EXPECT_EQ(pool().state(0), DeviceState::fetching);
  ASSERT_EQ(hub.gets.size(), 1u);
  hub.answer_twin(5, R"("a":5)");
  EXPECT_EQ(pool().state(0), DeviceState::online);
  EXPECT_EQ(hub.reports.at(0).patch, R"({"a":5})");
  EXPECT_EQ(ledger(kGetTwin), (Ledger{2, 2, 2, 0, 0, 0}));
}

TEST_F(DevicePoolTest, AskingAgainDoesNotDependOnHowOftenTheDeviceHadToConnect) {
  connect();
  for (int i = 0; i < 8; ++i) {  // a long outage
    hub.refuse(ConnectRefusal::unreachable);
    pass(8s + 10ms);
  }
  hub.accept();
  hub.grant();
  hub.notify(5, R"("a":5)");
  hub.answer_twin(4, R"("a":4)");
  EXPECT_EQ(pool().state(0), DeviceState::fetching) << "the update of version 5 would be lost";
  hub.answer_twin(5, R"("a":5)");
  EXPECT_EQ(hub.reports.at(0).patch, R"({"a":5})");
}

TEST_F(DevicePoolTest, AskingAgainEndsEvenIfTheHubNeverCatchesUp) {
  connect();
  hub.accept();
  hub.grant();
  hub.notify(9, R"("a":9)");
  for (int i = 0; i < 20 && !hub.gets.empty(); ++i) hub.answer_twin(4);
  EXPECT_EQ(pool().state(0), DeviceState::online);
  EXPECT_EQ(ledger(kGetTwin).acknowledged, 6u);
}

TEST_F(DevicePoolTest, ATwinThatWentBackIsTold) {
  bring_online();
  hub.notify(7, R"("a":1)");
  hub.answer_report();
  hub.hang_up();
  heard.take();
  come_back(3);
  EXPECT_EQ(heard.take(), (Lines{"went back 0 v3"}));
}

TEST_F(DevicePoolTest, ATwinWithoutDesiredVersionIsAProtocolError) {
  connect();
  hub.accept();
  hub.grant();
  hub.answer_get(R"({"desired":{},"reported":{}})");
  EXPECT_EQ(pool().state(0), DeviceState::waiting);
  EXPECT_EQ(hub.aborts, 1);
  EXPECT_EQ(reconnects(ReconnectReason::protocol), 1u);
}

TEST_F(DevicePoolTest, ARefusedSubscriptionEndsTheConnection) {
  connect();
  hub.accept();
  hub.events->on_subscribed(0, false);
  EXPECT_EQ(pool().state(0), DeviceState::waiting);
  EXPECT_EQ(hub.aborts, 1);
}

TEST_F(DevicePoolTest, ARefusedFetchEndsTheConnectionAndNamesItsClass) {
  connect();
  hub.accept();
  hub.grant();
  hub.answer_get("{}", 429);
  EXPECT_EQ(pool().state(0), DeviceState::waiting);
  EXPECT_EQ(errors_of(recorder, kGetTwin, ErrorClass::throttled), 1u);
}

TEST_F(DevicePoolTest, EveryStepOfConnectingHasItsDeadline) {
  connect();
  pass(11s);  // nobody answers the dial
  EXPECT_EQ(ledger(kConnect).timed_out, 1u);
  EXPECT_EQ(hub.aborts, 1);
  pass(1s);
  EXPECT_EQ(pool().state(0), DeviceState::connecting);
  hub.accept();
  pass(11s);  // nobody answers SUBSCRIBE
  EXPECT_EQ(hub.aborts, 2);
  for (int i = 0; i < 50 && pool().state(0) == DeviceState::waiting; ++i) pass(100ms);
  hub.accept();
  hub.grant();
  pass(11s);  // nobody answers GET
  EXPECT_EQ(hub.aborts, 3);
  EXPECT_EQ(ledger(kGetTwin), (Ledger{1, 1, 0, 0, 1, 0}));
  EXPECT_EQ(pool().requests_open(), 0u);
}

TEST_F(DevicePoolTest, RefusalsAreClassedAndBackOffDoubles) {
  const ConnectRefusal refusals[] = {ConnectRefusal::unreachable,  ConnectRefusal::closed,
                                     ConnectRefusal::unauthorized, ConnectRefusal::unavailable,
                                     ConnectRefusal::protocol,     ConnectRefusal::rejected};
  connect();
  const Nanos backoff[] = {1s, 2s, 4s, 8s, 8s, 8s};
  for (size_t i = 0; i < 6; ++i) {
    hub.refuse(refusals[i]);
    EXPECT_EQ(pool().state(0), DeviceState::waiting);
    pass(backoff[i] - 2ms);
    EXPECT_EQ(pool().state(0), DeviceState::waiting) << i;
    pass(4ms);
    EXPECT_EQ(pool().state(0), DeviceState::connecting) << i;
  }
  EXPECT_EQ(errors_of(recorder, kConnect, ErrorClass::refused), 2u);
  EXPECT_EQ(errors_of(recorder, kConnect, ErrorClass::disconnected), 1u);
  EXPECT_EQ(errors_of(recorder, kConnect, ErrorClass::unauthorized), 1u);
  EXPECT_EQ(errors_of(recorder, kConnect, ErrorClass::throttled), 1u);
  EXPECT_EQ(errors_of(recorder, kConnect, ErrorClass::protocol), 1u);
  EXPECT_EQ(ledger(kConnect), (Ledger{7, 7, 0, 6, 0, 0}));
}

TEST_F(DevicePoolTest, FullJitterSpreadsDevicesThatWereRefusedTogether) {
  fleet.retry.full_jitter = true;
  for (LocalDevice device = 0; device < kDevices; ++device) {
    connect(device);
    hubs[device].refuse(ConnectRefusal::unavailable);
  }
  std::vector<int> waited(kDevices, 0);
  for (int ms = 0; ms < 1100; ++ms) {
    pass(1ms);
    for (LocalDevice device = 0; device < kDevices; ++device) {
      if (pool().state(device) == DeviceState::waiting) ++waited[device];
    }
  }
  for (LocalDevice device = 0; device < kDevices; ++device) {
    EXPECT_LE(waited[device], 1001);
    EXPECT_EQ(pool().state(device), DeviceState::connecting);
  }
  EXPECT_FALSE(waited[0] == waited[1] && waited[1] == waited[2]);
}

TEST_F(DevicePoolTest, WithoutReconnectARefusedDeviceStaysOffline) {
  fleet.retry.enabled = false;
  connect();
  hub.refuse(ConnectRefusal::unauthorized);
  pass(60s);
  EXPECT_EQ(pool().state(0), DeviceState::offline);
  EXPECT_EQ(hub.dials, 1);
}

TEST_F(DevicePoolTest, TheFirstTimeOnlineTheFleetsPropertiesAreReportedOnce) {
  fleet.reported = [](Rng&, uint64_t n, std::string& out) { out += "{\"n\":" + std::to_string(n) + "}"; };
  connect(1);
  hubs[1].accept();
  hubs[1].grant();
  hubs[1].answer_twin(1);
  ASSERT_EQ(hubs[1].reports.size(), 1u);
  EXPECT_EQ(hubs[1].reports[0].patch, R"({"n":1})");
  hubs[1].answer_report();
  hubs[1].hang_up();
  come_back(1, {}, 1);
  EXPECT_TRUE(hubs[1].reports.empty());
}

// --- Desired properties ----------------------------------------------------------------------------------------------

TEST_F(DevicePoolTest, EchoReportsTheWholePatchWithoutItsVersion) {
  bring_online();
  hub.notify(2, R"("climate":{"min":64},"list":[1,{"x":null}])");
  ASSERT_EQ(hub.reports.size(), 1u);
  EXPECT_EQ(hub.reports[0].patch, R"({"climate":{"min":64},"list":[1,{"x":null}]})");
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2"}));
  hub.answer_report(5);
  EXPECT_EQ(heard.take(), (Lines{R"(reported {"climate":{"min":64},"list":[1,{"x":null}]} v5)", "converged 0 v2"}));
  EXPECT_EQ(pool().tasks_open(), 0u);
}

TEST_F(DevicePoolTest, AGroupListenerHearsItsGroupAndEchoesItInPlace) {
  fleet.listeners = {listener("climate.hvac")};
  bring_online();
  hub.notify(2, R"("climate":{"hvac":{"systemControl":1},"other":2},"light":1)");
  ASSERT_EQ(hub.reports.size(), 1u);
  EXPECT_EQ(hub.reports[0].patch, R"({"climate":{"hvac":{"systemControl":1}}})");
}

TEST_F(DevicePoolTest, ASinglePropertyListenerHearsItsPropertyOnly) {
  fleet.listeners = {listener("climate.min")};
  bring_online();
  hub.notify(2, R"("climate":{"min":64,"max":80})");
  ASSERT_EQ(hub.reports.size(), 1u);
  EXPECT_EQ(hub.reports[0].patch, R"({"climate":{"min":64}})");
}

TEST_F(DevicePoolTest, APatchThatNoListenerCaresAboutIsDoneWhenItArrives) {
  fleet.listeners = {listener("climate")};
  bring_online();
  hub.notify(2, R"("light":1)");
  EXPECT_TRUE(hub.reports.empty());
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "converged 0 v2"}));
  hub.hang_up();
  come_back(2, R"("light":1)");
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v2"}));  // nothing was missed, so nothing is synced
}

TEST_F(DevicePoolTest, AListenerThatReportsNothingConvergesWhenItsWorkIsDone) {
  fleet.listeners = {listener("", after(50ms), 0, Report::none)};
  bring_online();
  hub.notify(2, R"("a":1)");
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2"}));
  pass(60ms);
  EXPECT_EQ(heard.take(), (Lines{"sent 0 v2", "converged 0 v2"}));
  EXPECT_TRUE(hub.reports.empty());
}

TEST_F(DevicePoolTest, AListenerMayReportValuesOfItsOwn) {
  fleet.listeners = {listener("firmware", {}, 0, Report::values, [](Rng&, uint64_t n, std::string& out) {
    out += "{\"running\":" + std::to_string(n) + "}";
  })};
  bring_online();
  hub.notify(6, R"("firmware":{"version":"2.0"})");
  EXPECT_EQ(hub.reports.at(0).patch, R"({"running":6})");
}

TEST_F(DevicePoolTest, TheReportWaitsForTheSimulatedWork) {
  fleet.listeners = {listener("", after(200ms))};
  bring_online();
  hub.notify(2, R"("a":1)");
  pass(195ms);
  EXPECT_TRUE(hub.reports.empty());
  EXPECT_EQ(pool().tasks_open(), 1u);
  pass(10ms);
  ASSERT_EQ(hub.reports.size(), 1u);
  clock.advance(30ms);
  hub.answer_report();
  // The report was due when the work was done: the work itself is not in its latency.
  EXPECT_GE(recorded.cell(kReport, 0).intended.snapshot().max(), 30ms);
  EXPECT_LT(recorded.cell(kReport, 0).intended.snapshot().max(), 40ms);
}

TEST_F(DevicePoolTest, APatchConvergesWhenTheLastOfItsListenersIsAcknowledged) {
  fleet.listeners = {listener("a"), listener("b", after(20ms)), listener("c")};
  bring_online();
  hub.notify(2, R"("a":1,"b":2)");
  ASSERT_EQ(hub.reports.size(), 1u);
  hub.answer_report();
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2", R"(reported {"a":1} v2)"}));
  pass(30ms);
  hub.answer_report(3);
  EXPECT_EQ(heard.take(), (Lines{"sent 0 v2", R"(reported {"b":2} v3)", "converged 0 v2"}));
}

TEST_F(DevicePoolTest, SeveralVersionsAreWorkedOnAtOnce) {
  int calls = 0;
  fleet.listeners = {listener("", [&](Rng&) -> Nanos { return calls++ == 0 ? 100ms : 10ms; })};
  bring_online();
  hub.notify(2, R"("a":2)");
  hub.notify(3, R"("a":3)");
  pass(20ms);
  hub.answer_report();
  pass(100ms);
  hub.answer_report();
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "notified 0 v3", "sent 0 v3", R"(reported {"a":3} v2)",
                                 "converged 0 v3", "sent 0 v2", R"(reported {"a":2} v2)", "converged 0 v2"}));
}

TEST_F(DevicePoolTest, FailingWorkIsNeverReportedAndNeverConverges) {
  fleet.listeners = {listener("", {}, 1)};
  bring_online();
  hub.notify(2, R"("a":1)");
  pass(1s);
  EXPECT_TRUE(hub.reports.empty());
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "apply failed 0 v2"}));
  EXPECT_EQ(pool().tasks_open(), 0u);
  EXPECT_EQ(ledger(kReport).asked, 0u);
}

TEST_F(DevicePoolTest, OneFailingListenerKeepsItsPatchFromConverging) {
  fleet.listeners = {listener("a"), listener("b", {}, 1)};
  bring_online();
  hub.notify(2, R"("a":1,"b":1)");
  hub.answer_report();
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2", R"(reported {"a":1} v2)", "apply failed 0 v2"}));
}

TEST_F(DevicePoolTest, AFailingListenerIsToldOnceTheLastListenerIsDone) {
  fleet.listeners = {listener("a", after(50ms)), listener("b", {}, 1)};
  bring_online();
  hub.notify(2, R"("a":1,"b":1)");
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2"}));
  pass(51ms);
  hub.answer_report();
  EXPECT_EQ(heard.take(), (Lines{"sent 0 v2", R"(reported {"a":1} v2)", "apply failed 0 v2"}));
}

TEST_F(DevicePoolTest, AReportThatIsNotAcceptedIsNoFailureOfTheSimulatedWork) {
  fleet.listeners = {listener("a"), listener("b", {}, 1)};
  bring_online();
  hub.notify(2, R"("a":1,"b":1)");
  hub.answer_report(0, 500);
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2"}));
}

TEST_F(DevicePoolTest, FailingWorkForAFetchedStateIsTold) {
  fleet.listeners = {listener("", {}, 1)};
  connect();
  hub.accept();
  hub.grant();
  hub.answer_twin(4, R"("a":1)");
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v4", "sync failed 0 v4"}));
}

TEST_F(DevicePoolTest, TheFailureShareIsMet) {
  fleet.listeners = {listener("", {}, 0.25)};
  bring_online();
  int reported = 0;
  for (int version = 2; version < 2002; ++version) {
    hub.notify(version, R"("a":1)");
    if (!hub.reports.empty()) {
      ++reported;
      hub.answer_report();
    }
  }
  EXPECT_NEAR(reported, 1500, 80);
}

TEST_F(DevicePoolTest, ARefusedReportLeavesItsPatchUnconverged) {
  bring_online();
  hub.notify(2, R"("a":1)");
  hub.answer_report(0, 413);
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2"}));
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::too_large), 1u);
  EXPECT_EQ(pool().tasks_open(), 0u);
}

TEST_F(DevicePoolTest, AReportWithoutAnswerTimesOutWithUnknownFate) {
  bring_online();
  hub.notify(2, R"("a":1)");
  pass(11s);
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2", R"(unknown {"a":1})"}));
  EXPECT_EQ(ledger(kReport), (Ledger{1, 1, 0, 0, 1, 0}));
  hub.answer_report();  // too late: nobody waits for it
  EXPECT_TRUE(heard.take().empty());
  EXPECT_EQ(ledger(kReport), (Ledger{1, 1, 0, 0, 1, 0}));
  EXPECT_EQ(pool().state(0), DeviceState::online);
}

TEST_F(DevicePoolTest, WorkBeyondTheSlabIsDroppedCountedAndSyncedLater) {
  tasks_max = 1;
  fleet.listeners = {listener("", after(1s))};
  bring_online();
  hub.notify(2, R"("a":2)");
  hub.notify(3, R"("a":3)");
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::backlog_full), 1u);
  pass(2s);
  hub.answer_report();
  hub.hang_up();
  heard.take();
  come_back(3, R"("a":3)");
  pass(2s);
  hub.answer_report(4);
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v3", R"(reported {"a":3} v4)", "synced 0 v3"}));
}

// --- Losing connections ----------------------------------------------------------------------------------------------

TEST_F(DevicePoolTest, WhatWasMissedIsFetchedAndSyncedAfterAReconnect) {
  bring_online();
  hub.hang_up();
  EXPECT_EQ(reconnects(ReconnectReason::hub_closed), 1u);
  come_back(3, R"("a":1,"b":2)");
  ASSERT_EQ(hub.reports.size(), 1u);
  EXPECT_EQ(hub.reports[0].patch, R"({"a":1,"b":2})");
  hub.answer_report(4);
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v3", R"(reported {"a":1,"b":2} v4)", "synced 0 v3"}));
}

TEST_F(DevicePoolTest, NothingIsSyncedWhenNothingWasMissed) {
  bring_online();
  hub.notify(2, R"("a":1)");
  hub.answer_report();
  hub.hang_up();
  heard.take();
  come_back(2, R"("a":1)");
  EXPECT_TRUE(hub.reports.empty());
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v2"}));
}

TEST_F(DevicePoolTest, WorkAndRequestsOfALostConnectionEndAndAreDoneAgain) {
  fleet.listeners = {listener("", after(50ms))};
  bring_online();
  hub.notify(2, R"("a":2)");
  pass(60ms);  // its report is on its way
  hub.notify(3, R"("b":3)");
  get_twin();
  hub.hang_up(DisconnectReason::io);
  EXPECT_EQ(pool().tasks_open(), 0u);
  EXPECT_EQ(pool().requests_open(), 0u);
  EXPECT_EQ(reconnects(ReconnectReason::io), 1u);
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::disconnected), 1u);
  EXPECT_EQ(errors_of(recorder, kGetTwin, ErrorClass::disconnected), 1u);
  EXPECT_EQ(heard.take(), (Lines{"notified 0 v2", "sent 0 v2", "notified 0 v3", R"(unknown {"a":2})"}));
  come_back(3, R"("a":2,"b":3)");
  pass(60ms);
  hub.answer_report(5);
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v3", R"(reported {"a":2,"b":3} v5)", "synced 0 v3"}));
}

TEST_F(DevicePoolTest, ASyncThatIsInterruptedIsRepeated) {
  connect();
  hub.accept();
  hub.grant();
  hub.answer_twin(4, R"("a":4)");
  hub.hang_up();
  heard.take();
  come_back(4, R"("a":4)");
  ASSERT_EQ(hub.reports.size(), 1u);
  hub.answer_report(2);
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v4", R"(reported {"a":4} v2)", "synced 0 v4"}));
}

TEST_F(DevicePoolTest, CutIsAScriptedLossThatReconnects) {
  bring_online();
  pool().cut(0);
  EXPECT_EQ(hub.aborts, 1);
  EXPECT_EQ(pool().state(0), DeviceState::waiting);
  EXPECT_EQ(reconnects(ReconnectReason::scripted), 1u);
  pool().cut(0);  // nothing to cut
  EXPECT_EQ(reconnects(ReconnectReason::scripted), 1u);
  pass(1100ms);
  EXPECT_EQ(pool().state(0), DeviceState::connecting);
  pool().cut(0);
  EXPECT_EQ(errors_of(recorder, kConnect, ErrorClass::disconnected), 1u);
}

TEST_F(DevicePoolTest, ReconnectsAreAskedForInTheCurrentPhase) {
  bring_online();
  pool().set_phase(1);
  pool().cut(0);
  pass(1100ms);
  hub.accept();
  EXPECT_EQ(recorded.cell(kConnect, 1).asked.get(), 1u);
  EXPECT_EQ(recorded.cell(kConnect, 1).acknowledged.get(), 1u);
}

TEST_F(DevicePoolTest, TheBackoffStartsAnewAfterTheDeviceWasOnline) {
  connect();
  for (int i = 0; i < 4; ++i) {
    hub.refuse(ConnectRefusal::unreachable);
    pass(8s + 2ms);
  }
  hub.accept();
  hub.grant();
  hub.answer_twin(1);
  hub.hang_up();
  pass(1002ms);
  EXPECT_EQ(pool().state(0), DeviceState::connecting);
}

TEST_F(DevicePoolTest, AfterTheStopNothingReconnects) {
  bring_online();
  connect(1);
  hubs[1].refuse(ConnectRefusal::unreachable);
  pool().stop_spontaneous_work();
  hub.hang_up();
  EXPECT_EQ(pool().state(0), DeviceState::offline);
  pass(20s);
  EXPECT_EQ(pool().state(1), DeviceState::offline);
  EXPECT_EQ(hubs[1].dials, 1);
}

TEST_F(DevicePoolTest, SayingGoodbyeForgetsWhatIsInFlightButNotItsReports) {
  bring_online();
  bring_online(1);
  report(1);
  get_twin(1);
  hub.notify(2, R"("a":1)");
  heard.take();
  pool().disconnect_all();
  EXPECT_EQ(hub.disconnects, 1);
  EXPECT_EQ(hubs[1].disconnects, 1);
  EXPECT_EQ(hubs[2].disconnects, 0);
  auto lines = heard.take();
  std::sort(lines.begin(), lines.end());
  EXPECT_EQ(lines, (Lines{R"(unknown {"a":1})", R"(unknown {"twinstorm":{"n":1}})"}));
  EXPECT_EQ(pool().counts().offline, kDevices);
  EXPECT_EQ(pool().tasks_open(), 0u);
  // The recorder shows them as in flight: they were sent, and nobody will know how they ended.
  EXPECT_EQ(ledger(kReport).in_flight(), 2u);
  EXPECT_EQ(ledger(kGetTwin).in_flight(), 1u);
  pass(60s);
  EXPECT_EQ(ledger(kReport).in_flight(), 2u);
  // For the check at the end of the test, end them by hand.
  recorder.failed(kReport, 0, ErrorClass::aborted, 0s);
  recorder.failed(kReport, 0, ErrorClass::aborted, 0s);
  recorder.failed(kGetTwin, 0, ErrorClass::aborted, 0s);
}

// --- Scheduled operations --------------------------------------------------------------------------------------------

TEST_F(DevicePoolTest, OperationsAreTimedFromDueAndFromSent) {
  bring_online();
  recorder.asked(kGetTwin, 1);
  const MonoTime due = clock.mono();
  clock.advance(5ms);
  pool().get_twin(0, 1, due);
  clock.advance(20ms);
  hub.answer_twin(1);
  const auto& cell = recorded.cell(kGetTwin, 1);
  EXPECT_EQ(cell.intended.snapshot().max(), 25ms);
  EXPECT_EQ(cell.service.snapshot().max(), 20ms);
  EXPECT_EQ(recorder.phase(1).schedule_lag.snapshot().max(), 5ms);
}

TEST_F(DevicePoolTest, ReportsAndTelemetryReachTheHub) {
  fleet.telemetry.size = 40;
  fleet.reported = [](Rng&, uint64_t n, std::string& out) { out += "{\"n\":" + std::to_string(n) + "}"; };
  bring_online();
  hub.answer_report();  // the introduction
  report(17);
  telemetry();
  EXPECT_EQ(hub.reports.at(0).patch, R"({"n":17})");
  EXPECT_EQ(hub.telemetry.at(0).device_id, "dev-0");
  EXPECT_EQ(hub.telemetry.at(0).size, 40u);
  hub.answer_report(3);
  hub.acknowledge_telemetry();
  EXPECT_EQ(ledger(kReport), (Ledger{2, 2, 2, 0, 0, 0}));
  EXPECT_EQ(ledger(kTelemetry), (Ledger{1, 1, 1, 0, 0, 0}));
}

TEST_F(DevicePoolTest, OperationsOfADeviceThatIsNotOnlineAreDropped) {
  connect();
  get_twin();
  report(1);
  telemetry();
  EXPECT_EQ(errors_of(recorder, kGetTwin, ErrorClass::device_offline), 1u);
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::device_offline), 1u);
  EXPECT_EQ(errors_of(recorder, kTelemetry, ErrorClass::device_offline), 1u);
}

TEST_F(DevicePoolTest, OperationsBeyondTheSlabAreDropped) {
  requests_max = 2;
  bring_online();
  for (int i = 0; i < 3; ++i) get_twin();
  EXPECT_EQ(hub.gets.size(), 2u);
  EXPECT_EQ(errors_of(recorder, kGetTwin, ErrorClass::backlog_full), 1u);
}

TEST_F(DevicePoolTest, ALinkThatStillHasUnsentBytesRefusesAndTheOperationIsDropped) {
  bring_online();
  hub.next_result = Sent::would_block;
  get_twin();
  report(1);
  telemetry();
  hub.notify(2, R"("a":1)");  // its report cannot leave either
  EXPECT_EQ(errors_of(recorder, kGetTwin, ErrorClass::backlog_full), 1u);
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::backlog_full), 2u);
  EXPECT_EQ(errors_of(recorder, kTelemetry, ErrorClass::backlog_full), 1u);
  EXPECT_EQ(pool().requests_open(), 0u);
  EXPECT_EQ(pool().tasks_open(), 0u);
}

TEST_F(DevicePoolTest, AFetchThatCannotBeSentTriesTheWholeConnectionAgain) {
  connect();
  hub.accept();
  hub.next_result = Sent::would_block;
  hub.grant();
  EXPECT_EQ(pool().state(0), DeviceState::waiting);
  hub.next_result = Sent::ok;
  come_back(1);
  EXPECT_EQ(pool().state(0), DeviceState::online);
}

TEST_F(DevicePoolTest, AnswersThatNobodyAskedForChangeNothing) {
  bring_online();
  get_twin();
  hub.events->on_twin_response(0, {200, 0xffffffff, std::nullopt, "{}"});
  hub.events->on_twin_response(1, {200, hub.gets[0], std::nullopt, "{}"});  // another device's number
  hub.events->on_telemetry_acknowledged(0, 4711);
  EXPECT_EQ(pool().requests_open(), 1u);
  hub.answer_twin(1);
  EXPECT_EQ(pool().requests_open(), 0u);
}

TEST_F(DevicePoolTest, StatusesBecomeErrorClasses) {
  bring_online();
  const std::pair<int, ErrorClass> expected[] = {
      {400, ErrorClass::bad_request}, {401, ErrorClass::unauthorized},        {403, ErrorClass::unauthorized},
      {404, ErrorClass::not_found},   {412, ErrorClass::precondition_failed}, {413, ErrorClass::too_large},
      {429, ErrorClass::throttled},   {500, ErrorClass::server_error},        {503, ErrorClass::server_error}};
  for (const auto& [status, error] : expected) {
    const auto before = errors_of(recorder, kReport, error);
    report(1);
    hub.answer_report(0, status);
    EXPECT_EQ(errors_of(recorder, kReport, error), before + 1) << status;
  }
  report(1);
  const uint32_t request = hub.reports.at(0).request;
  hub.events->on_twin_response(0, {403, request, std::nullopt, R"({"errorCode":403100})"});
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::too_large), 2u);
}

TEST_F(DevicePoolTest, ATelemetryNumberMayEqualARequestNumber) {
  bring_online();
  get_twin();  // stays open, so that the next request is not number 0 of the slab
  for (int i = 0; i < 4093; ++i) {
    get_twin();
    const uint32_t last = hub.gets.back();
    hub.gets.pop_back();
    hub.events->on_twin_response(0, {200, last, std::nullopt, "{}"});
  }
  uint32_t number = 0xffffffff;
  for (int i = 0; i < 4 && number >= 65536;
       ++i) {  // generations wrap: soon a `$rid` is as small as a packet identifier
    get_twin();
    number = hub.gets.back();
  }
  ASSERT_LT(number, 65536u);
  hub.next_message = static_cast<uint16_t>(number);
  telemetry();
  get_twin();
  hub.events->on_telemetry_acknowledged(0, static_cast<uint16_t>(number));
  EXPECT_EQ(ledger(kTelemetry), (Ledger{1, 1, 1, 0, 0, 0}));
}

TEST_F(DevicePoolTest, ClosedLoadsHearOfScheduledOperationsOnly) {
  fleet.telemetry.every = 1s;
  fleet.reported = [](Rng&, uint64_t, std::string& out) { out += "{}"; };
  std::vector<metrics::StreamIndex> ended;
  pool().on_request_ended = [&](metrics::StreamIndex stream, metrics::PhaseIndex) { ended.push_back(stream); };
  bring_online();
  hub.answer_report();  // the introduction
  hub.notify(2, R"("a":1)");
  hub.answer_report();  // the echo
  pass(3s);
  while (!hub.telemetry.empty()) hub.acknowledge_telemetry();
  EXPECT_TRUE(ended.empty());

  get_twin();
  hub.answer_twin(2);
  report(1);
  hub.answer_report(0, 500);
  telemetry();
  pass(11s);
  report(2, 1);  // offline
  EXPECT_EQ(ended, (std::vector<metrics::StreamIndex>{kGetTwin, kReport, kTelemetry, kReport}));
}

// --- Telemetry and keep-alive ----------------------------------------------------------------------------------------

TEST_F(DevicePoolTest, PeriodicTelemetryKeepsItsPeriodWithinTheJitter) {
  fleet.telemetry = {.every = 10s, .jitter = 0.1, .size = 8};
  bring_online();
  std::vector<MonoTime> sent;
  for (int i = 0; i < 3000; ++i) {
    pass(100ms);
    if (hub.telemetry.empty()) continue;
    sent.push_back(clock.mono());
    hub.acknowledge_telemetry();
    ASSERT_TRUE(hub.telemetry.empty());
  }
  ASSERT_GE(sent.size(), 27u);
  ASSERT_LE(sent.size(), 34u);
  Nanos shortest = 1h, longest = 0s;
  for (size_t i = 1; i < sent.size(); ++i) {
    shortest = std::min(shortest, sent[i] - sent[i - 1]);
    longest = std::max(longest, sent[i] - sent[i - 1]);
  }
  EXPECT_GE(shortest, 8900ms);
  EXPECT_LE(longest, 11100ms);
  EXPECT_GT(longest - shortest, 300ms);
}

TEST_F(DevicePoolTest, TheFirstTelemetryOfAFleetIsSpreadOverThePeriod) {
  fleet.telemetry = {.every = 10s, .jitter = 0, .size = 8};
  std::vector<int> first(kDevices, -1);
  for (LocalDevice device = 0; device < kDevices; ++device) bring_online(device);
  for (int tenth = 0; tenth < 110; ++tenth) {
    pass(100ms);
    for (LocalDevice device = 0; device < kDevices; ++device) {
      if (first[device] < 0 && !hubs[device].telemetry.empty()) first[device] = tenth;
    }
  }
  for (const int tenth : first) {
    EXPECT_GE(tenth, 0);
    EXPECT_LE(tenth, 100);
  }
  EXPECT_FALSE(first[0] == first[1] && first[1] == first[2]);
}

TEST_F(DevicePoolTest, TelemetryPausesOfflineAndGoesOnAfterwards) {
  fleet.telemetry = {.every = 1s, .jitter = 0, .size = 8};
  fleet.retry.initial = 5s;
  bring_online();
  hub.hang_up();
  pass(4s);
  EXPECT_EQ(ledger(kTelemetry).dropped, 0u);  // the device does not even try
  const auto before = ledger(kTelemetry).asked;
  come_back(1);
  pass(5s);
  EXPECT_GE(ledger(kTelemetry).asked, before + 4);
  pool().stop_spontaneous_work();
  const auto stopped = ledger(kTelemetry).asked;
  pass(5s);
  EXPECT_EQ(ledger(kTelemetry).asked, stopped);
}

TEST_F(DevicePoolTest, TheLinkIsCalledWhenItsKeepAliveIsDue) {
  connect();
  hub.deadline = clock.mono() + 240s;
  hub.accept();
  hub.grant();
  hub.answer_twin(1);
  pass(239s);
  EXPECT_EQ(hub.on_time_calls, 0);
  pass(2s);
  EXPECT_EQ(hub.on_time_calls, 1);
  pass(61s);  // the link asked for another call a minute later
  EXPECT_EQ(hub.on_time_calls, 2);
}

// --- Everything at once ----------------------------------------------------------------------------------------------

TEST_F(DevicePoolTest, TheLedgerAddsUpAfterAnyStory) {
  tasks_max = 6;
  requests_max = 8;
  fleet.telemetry = {.every = 3s, .jitter = 0.5, .size = 8};
  fleet.timeout = 2s;
  fleet.listeners = {listener(
                         "a", [](Rng& rng) { return from_seconds(rng.uniform()); }, 0.1),
                     listener("b", {}, 0, Report::none), listener("")};
  Rng rng{99};
  std::array<int64_t, kDevices> version{1, 1, 1};
  const auto twin = [&](LocalDevice device) { hubs[device].answer_twin(version[device], R"("a":{"x":1},"b":2)"); };
  for (int step = 0; step < 30'000; ++step) {
    const auto device = static_cast<LocalDevice>(rng.below(kDevices));
    auto& side = hubs[device];
    const auto state = pool().state(device);
    switch (rng.below(16)) {
      case 0:
        connect(device);
        break;
      case 1:
        get_twin(device);
        break;
      case 2:
        report(1, device);
        break;
      case 3:
        telemetry(device);
        break;
      case 4:
        if (state == DeviceState::connecting) side.accept();
        break;
      case 5:
        if (state == DeviceState::subscribing) side.events->on_subscribed(device, rng.chance(0.9));
        break;
      case 6:
      case 7:
        if (!side.gets.empty()) rng.chance(0.9) ? twin(device) : side.answer_get("{}", 500);
        break;
      case 8:
        if (!side.reports.empty()) side.answer_report(2, rng.chance(0.9) ? 204 : 400);
        break;
      case 9:
        if (!side.telemetry.empty()) side.acknowledge_telemetry();
        break;
      case 10:
      case 11:
        if (state == DeviceState::online || state == DeviceState::fetching) {
          side.notify(++version[device], rng.chance(0.5) ? R"("a":{"x":1})" : R"("b":2,"c":3)");
        }
        break;
      case 12:
        if (state == DeviceState::connecting && rng.chance(0.3)) side.refuse(ConnectRefusal::closed);
        if (state == DeviceState::online && rng.chance(0.1)) side.hang_up();
        break;
      case 13:
        if (rng.chance(0.05)) pool().cut(device);
        break;
      case 14:
        side.next_result = rng.chance(0.1) ? Sent::would_block : Sent::ok;
        break;
      default:
        pass(std::chrono::milliseconds{rng.below(300)});
        break;
    }
  }
  for (auto& side : hubs) side.next_result = Sent::ok;
  pool().stop_spontaneous_work();
  pass(20s);  // every deadline passes
  EXPECT_EQ(pool().requests_open(), 0u);
  EXPECT_EQ(pool().tasks_open(), 0u);
  EXPECT_GT(ledger(kReport).acknowledged, 100u);
  EXPECT_GT(ledger(kConnect).acknowledged, 20u);
}

// --- Token renewal ---------------------------------------------------------------------------------------------------

class TokenRenewal : public DevicePoolTest {
 protected:
  TokenRenewal() { fleet.token = {.lifetime = 10s, .renew_before = 2500ms, .jitter = 0}; }
  /// Accepted with the session that the hub kept, and the gap closed.
  void let_back(int64_t version, std::string_view properties = {}, LocalDevice device = 0) {
    hubs[device].session_present = true;
    hubs[device].accept();
    hubs[device].answer_twin(version, properties);
  }
};

TEST_F(TokenRenewal, IsACleanReconnectWithANewTokenAndWithoutSubscribe) {
  bring_online();
  pass(7s);
  EXPECT_TRUE(hub.calls.empty());
  pass(600ms);
  EXPECT_EQ(hub.calls, (Lines{"disconnect", "dial"}));
  EXPECT_EQ(pool().state(0), DeviceState::connecting);
  pass(20ms);
  hub.session_present = true;
  hub.accept();
  EXPECT_EQ(pool().state(0), DeviceState::online);
  const auto token = protocol::parse_sas_token(hub.identity.password);
  ASSERT_TRUE(token);
  EXPECT_EQ(token->se, unix_seconds(clock.wall() + 10s));
  EXPECT_EQ(hub.calls, (Lines{"disconnect", "dial", "get"})) << "what changed in between is read, nothing subscribed";
  hub.answer_twin(1);
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v1"}));
}

TEST_F(TokenRenewal, IsAnOperationOfItsOwnAndNoReconnect) {
  bring_online();
  pass(7600ms);
  clock.advance(30ms);
  let_back(1);
  EXPECT_EQ(ledger(kRenew), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(ledger(kConnect), (Ledger{1, 1, 1, 0, 0, 0}));
  uint64_t reconnects_sum = 0;
  for (const auto& reason : recorded.health().reconnects) reconnects_sum += reason.get();
  EXPECT_EQ(reconnects_sum, 0u);
  const auto took = recorded.cell(kRenew, 0).service.snapshot().max();
  EXPECT_GE(took, 30ms);
  EXPECT_LT(took, 200ms);
}

TEST_F(TokenRenewal, ComesAgainAndAgain) {
  bring_online();
  for (int i = 1; i <= 5; ++i) {
    pass(7600ms);
    let_back(1);
    EXPECT_EQ(ledger(kRenew).acknowledged, static_cast<uint64_t>(i));
  }
}

TEST_F(TokenRenewal, WaitsForWhatIsInFlightAndHoldsBackWhatIsNew) {
  bring_online();
  pass(7400ms);
  get_twin();
  pass(200ms);
  EXPECT_EQ(hub.disconnects, 0) << "the GET is not answered yet";
  report(7);
  telemetry();
  EXPECT_TRUE(hub.reports.empty() && hub.telemetry.empty());
  EXPECT_EQ(pool().requests_waiting(), 2u);
  hub.answer_twin(1);
  pass(2ms);
  EXPECT_EQ(hub.disconnects, 1);
  get_twin();
  EXPECT_EQ(pool().requests_waiting(), 3u);
  hub.calls.clear();
  hub.session_present = true;
  hub.accept();
  EXPECT_EQ(hub.calls, (Lines{"get", "report", "telemetry", "get"})) << "the gap first, then in the order of arrival";
  EXPECT_EQ(hub.reports[0].patch, R"({"twinstorm":{"n":7}})");
  EXPECT_EQ(pool().requests_waiting(), 0u);
  hub.answer_twin(1);
  hub.answer_twin(1);
  hub.answer_report();
  hub.acknowledge_telemetry();
  EXPECT_EQ(ledger(kReport), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(ledger(kTelemetry), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(ledger(kGetTwin).acknowledged, 4u);  // the first connect, two asked for, the gap
}

TEST_F(TokenRenewal, WaitingRequestsAreTimedFromWhenTheyWereDue) {
  bring_online();
  pass(7600ms);
  report(1);
  clock.advance(40ms);
  let_back(1);
  hub.answer_report();
  const auto& cell = recorded.cell(kReport, 0);
  EXPECT_GE(cell.intended.snapshot().max(), 40ms);
  EXPECT_EQ(cell.service.snapshot().max(), 0ms);
}

TEST_F(TokenRenewal, AChangeMissedInBetweenIsFoundAndApplied) {
  bring_online();
  pass(7600ms);
  heard.take();
  let_back(2, R"("a":2)");
  EXPECT_EQ(hub.reports.at(0).patch, R"({"a":2})");
  hub.answer_report();
  EXPECT_EQ(heard.take(), (Lines{"fetched 0 v2", R"(reported {"a":2} v2)", "synced 0 v2"}));
}

TEST_F(TokenRenewal, ANotificationBeforeTheAnswerIsAppliedOnceAndIsNoStepBack) {
  bring_online();
  pass(7600ms);
  heard.take();
  hub.session_present = true;
  hub.accept();
  hub.notify(2, R"("a":2)");
  hub.answer_report();
  hub.answer_twin(1);  // read before that change
  EXPECT_EQ(heard.take(),
            (Lines{"notified 0 v2", "sent 0 v2", R"(reported {"a":2} v2)", "converged 0 v2", "fetched 0 v1"}));
}

TEST_F(TokenRenewal, SimulatedWorkGoesOnAndIsReportedAfterwards) {
  fleet.listeners = {listener("", after(300ms))};
  bring_online();
  pass(7400ms);
  hub.notify(2, R"("a":2)");
  pass(200ms);
  EXPECT_EQ(hub.disconnects, 1) << "simulated work is nothing in flight";
  pass(200ms);  // the work is done while the device is away
  heard.take();
  let_back(2, R"("a":2)");
  hub.answer_report();
  EXPECT_EQ(heard.take(), (Lines{"sent 0 v2", "fetched 0 v2", R"(reported {"a":2} v2)", "converged 0 v2"}));
}

TEST_F(TokenRenewal, SubscribesWhenTheHubHasForgottenTheSession) {
  bring_online();
  pass(7600ms);
  report(1);
  hub.calls.clear();
  hub.session_present = false;
  hub.accept();
  hub.grant();
  EXPECT_TRUE(hub.reports.empty());
  hub.answer_twin(1);
  EXPECT_EQ(pool().state(0), DeviceState::online);
  EXPECT_EQ(hub.calls, (Lines{"subscribe", "get", "report"}));
  hub.answer_report();
}

TEST_F(TokenRenewal, ThatIsRefusedFailsAndTheRetryPolicyGoesOn) {
  bring_online();
  pass(7600ms);
  report(1);
  hub.refuse(ConnectRefusal::unauthorized);
  EXPECT_EQ(pool().state(0), DeviceState::waiting);
  EXPECT_EQ(errors_of(recorder, kRenew, ErrorClass::unauthorized), 1u);
  EXPECT_EQ(reconnects(ReconnectReason::renewal), 1u);
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::device_offline), 1u) << "it had waited in vain";
  come_back(1);
  EXPECT_EQ(pool().state(0), DeviceState::online);
  EXPECT_EQ(ledger(kConnect).acknowledged, 2u);
}

TEST_F(TokenRenewal, ThatNobodyAnswersTimesOut) {
  bring_online();
  pass(7600ms);
  pass(11s);
  EXPECT_EQ(ledger(kRenew).timed_out, 1u);
  EXPECT_EQ(reconnects(ReconnectReason::renewal), 1u);
}

TEST_F(TokenRenewal, WhatWaitsTooLongIsDroppedAtItsDeadline) {
  fleet.timeout = 1s;
  bring_online();
  pass(7600ms);
  hub.session_present = false;
  hub.accept();  // subscribing, which takes as long as it may
  report(1);
  pass(900ms);
  hub.grant();
  pass(200ms);
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::deadline_passed), 1u);
  EXPECT_EQ(pool().requests_waiting(), 0u);
}

TEST_F(TokenRenewal, ACutInTheMiddleLosesNothingFromTheBooks) {
  bring_online();
  pass(7600ms);
  report(1);
  pool().cut(0);
  EXPECT_EQ(errors_of(recorder, kRenew, ErrorClass::disconnected), 1u);
  EXPECT_EQ(ledger(kReport).dropped, 1u);
  EXPECT_EQ(reconnects(ReconnectReason::scripted), 1u);
}

TEST_F(TokenRenewal, DoesNotBeginWhenTheLoadIsOver) {
  bring_online();
  pool().stop_spontaneous_work();
  pass(20s);
  EXPECT_EQ(hub.disconnects, 0);
}

TEST_F(TokenRenewal, TheEndOfTheRunDropsWhatStillWaits) {
  bring_online();
  pass(7600ms);
  hub.session_present = false;
  hub.accept();
  report(1);
  EXPECT_EQ(pool().requests_open() - pool().requests_waiting(), 0u);
  pool().disconnect_all();
  EXPECT_EQ(errors_of(recorder, kReport, ErrorClass::aborted), 1u);
}

TEST_F(TokenRenewal, KeepsTheKeepAliveOfTheLinkGoing) {
  bring_online();
  pass(7600ms);
  let_back(1);
  const int before = hub.on_time_calls;
  hub.deadline = clock.mono() + 1s;
  hub.notify(2, R"("a":1)");
  hub.answer_report();
  pass(7600ms);
  EXPECT_EQ(hub.on_time_calls, before) << "the deadline moved without the owner being told; it is read when armed";
  let_back(2);
  pass(2s);
  EXPECT_EQ(hub.on_time_calls, before + 1);
}

TEST_F(TokenRenewal, JitterSpreadsItAndNeverMakesItLater) {
  fleet.token.jitter = 0.5;
  for (LocalDevice device = 0; device < kDevices; ++device) bring_online(device);
  std::vector<Nanos> ages(kDevices, Nanos{0});
  for (Nanos age{0}; age <= 7600ms; age += 10ms) {
    for (LocalDevice device = 0; device < kDevices; ++device) {
      if (hubs[device].disconnects > 0 && ages[device] == Nanos{0}) ages[device] = age;
    }
    pass(10ms);
  }
  for (const Nanos age : ages) {
    EXPECT_GE(age, 3740ms);
    EXPECT_LE(age, 7510ms);
  }
  EXPECT_NE(ages[0], ages[1]);
  EXPECT_NE(ages[1], ages[2]);
}

// --- Certificates, methods, messages ---------------------------------------------------------------------------------

TEST_F(DevicePoolTest, DevicesWithCertificatesShowTheirOwnAndSendNoTokenNorRenewAny) {
  fleet.certificates = {"the key", {"zero", "one", "two"}};
  fleet.token = {.lifetime = 10s, .renew_before = 2s, .jitter = 0};
  connect(1);
  const auto* shown = hubs[1].events->client_certificate(1);
  ASSERT_NE(shown, nullptr);
  EXPECT_EQ(shown->certificate_pem, "one");
  EXPECT_EQ(shown->key_pem, "the key");
  hubs[1].accept();
  EXPECT_EQ(hubs[1].identity.password, "");
  hubs[1].grant();
  hubs[1].answer_twin(1);
  pass(1h);
  EXPECT_EQ(hubs[1].disconnects, 0);
}

TEST_F(DevicePoolTest, DevicesWithTokensShowNoCertificate) {
  connect();
  EXPECT_EQ(hub.events->client_certificate(0), nullptr);
}

TEST_F(DevicePoolTest, MethodsAreAnsweredWithTheirPayloadAndMessagesCounted) {
  using transport::Subscriptions;
  fleet.subscriptions = Subscriptions::twin | Subscriptions::methods | Subscriptions::devicebound;
  bring_online();
  EXPECT_EQ(hub.subscriptions, fleet.subscriptions);
  hub.events->on_method(0, "reboot", "1f", R"({"delay":3})");
  EXPECT_EQ(hub.method_responses, (Lines{R"(1f 200 {"delay":3})"}));
  hub.events->on_message(0, "%24.mid=1", "hello");
  hub.next_result = Sent::would_block;
  hub.events->on_method(0, "reboot", "20", "null");
  EXPECT_EQ(recorded.health().methods_answered.get(), 1u);
  EXPECT_EQ(recorded.health().messages_received.get(), 1u);
}

}  // namespace
}  // namespace twinstorm::device
