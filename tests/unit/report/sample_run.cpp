#include "tests/unit/report/sample_run.hpp"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace twinstorm::report::testing {

namespace {

using namespace metrics;

/// `count` samples around `median` with a long tail, the same ones every time.
HistogramSnapshot distribution(uint64_t count, double median) {
  HistogramSnapshot histogram;
  for (uint64_t i = 0; i < count; ++i) {
    const double q = (static_cast<double>(i) + 0.5) / static_cast<double>(count);
    histogram.record(from_seconds(median * std::pow(2 * (1 - q), -0.6)));
  }
  return histogram;
}

struct Builder {
  LoadedRun run;

  void histogram(const std::string& tag, const HistogramSnapshot& samples, HdrLog& log) {
    log.lines.push_back({tag, 10, 60, samples});
  }

  OperationRecord counted(uint64_t asked, uint64_t failed, uint64_t timed_out, uint64_t dropped, double seconds) {
    OperationRecord op;
    op.asked = asked;
    op.dropped = dropped;
    op.sent = asked - dropped;
    op.failed = failed;
    op.timed_out = timed_out;
    op.acknowledged = op.sent - failed - timed_out;
    op.rate_per_second = static_cast<double>(op.acknowledged) / seconds;
    if (failed > 0) op.errors["throttled"] = failed;
    if (timed_out > 0) op.errors["timeout"] = timed_out;
    if (dropped > 0) op.errors["backlogFull"] = dropped;
    return op;
  }

  void operation(const std::string& kind, const std::string& stream, OperationRecord op, double median) {
    const auto intended = distribution(op.acknowledged, median);
    const auto service = distribution(op.acknowledged, median * 0.9);
    op.intended = summarise(intended);
    op.service = summarise(service);
    histogram(stream + ".intended", intended, run.histograms.operations);
    histogram(stream + ".service", service, run.histograms.operations);
    OperationRecord whole = op;
    whole.streams[stream] = op;
    run.record.operations[kind] = whole;
    run.record.phases[1].operations[kind] = whole;
  }
};

IntervalLatency interval_latency(uint64_t count, double median) {
  return {count, from_seconds(median), from_seconds(median * 2), from_seconds(median * 4), from_seconds(median * 9)};
}

LoadedRun build(bool failing) {
  Builder b;
  auto& record = b.run.record;
  record.run = {.id = "rollout-20260301T080000Z",
                .scenario = "rollout",
                .description = "A firmware setting is rolled out to 5,000 thermostats while a dashboard queries them.",
                .seed = 42,
                .started_at = "2026-03-01T08:00:00.123Z",
                .duration_seconds = 75.2,
                .recorded_seconds = 60,
                .version = "0.1.0",
                .target = "embedded",
                .command = "twinstorm run scenarios/rollout.yaml --seed 42"};
  const auto phase = [&](std::string name, bool recorded, double start, double lasted) -> PhaseRecord& {
    auto& added = record.phases.emplace_back();
    added.name = std::move(name);
    added.recorded = recorded;
    added.start_seconds = start;
    added.duration_seconds = lasted;
    return added;
  };
  phase("connect", false, 0, 10);
  phase("rollout", true, 10, 60);
  phase("drain", false, 70, 5.2).note = "ended early: everything converged";

  // Connecting happened before the recorded phases: counted there, in no total.
  auto connects = b.counted(5'000, 0, 0, 0, 10);
  connects.intended = summarise(distribution(5'000, 0.004));
  connects.service = summarise(distribution(5'000, 0.0035));
  connects.streams["thermostats.connect"] = connects;
  record.phases[0].operations["connect"] = connects;
  record.operations["connect"].streams["thermostats.connect"] = {};

  b.operation("report", "thermostats.report", b.counted(6'000, 0, 0, 0, 60), 0.0012);
  b.operation("patchDesired", "rollout", failing ? b.counted(6'000, 41, 8, 40, 60) : b.counted(6'000, 0, 0, 0, 60),
              0.0021);
  b.operation("query", "dashboard", b.counted(120, 0, 0, 0, 60), 0.031);

  // Of queries and ETags: what dashboards read, whom writers met, when writes showed. Totals, streams and phases alike.
  const auto amend = [&](const std::string& kind, const std::string& stream, auto&& change) {
    for (auto* operations : {&record.operations, &record.phases[1].operations}) {
      change(operations->at(kind));
      change(operations->at(kind).streams.at(stream));
    }
  };
  amend("query", "dashboard", [](OperationRecord& op) {
    op.pages = PagesRecord{.pages = 6'000,
                           .rows = 600'000,
                           .pages_per_query = 50,
                           .rows_per_query = 5'000,
                           .pages_max = 50,
                           .rows_max = 5'000};
  });
  if (failing) {
    amend("patchDesired", "rollout", [](OperationRecord& op) {
      op.conflicts = 611;
      op.retries = 596;
      op.errors["throttled"] -= 15;
      op.errors["preconditionFailed"] = 15;
    });
  }
  const auto stale = distribution(failing ? 288 : 300, 1.8);
  record.staleness = StalenessRecord{.started = 300,
                                     .visible = failing ? 288U : 300U,
                                     .not_visible = failing ? 9U : 0U,
                                     .unknown = failing ? 2U : 0U,
                                     .open = failing ? 1U : 0U,
                                     .resolution = 0.05,
                                     .since_acknowledged = summarise(stale)};
  record.phases[1].staleness = record.staleness;
  b.histogram("queryStaleness", stale, b.run.histograms.operations);

  auto& c = record.convergence;
  c.started = failing ? 5'960 : 6'000;
  c.failed = failing ? 49 : 0;
  c.superseded = failing ? 20 : 0;
  c.applied = c.started - c.failed - c.superseded;
  c.duplicate = failing ? 3 : 0;
  c.backlog_max = 212;
  const auto leg = [&](std::string_view name, LatencyRecord& into, uint64_t count, double median) {
    const auto samples = distribution(count, median);
    into = summarise(samples);
    b.histogram(fmt::format("convergence.{}", name), samples, b.run.histograms.convergence);
  };
  leg("total", c.total, c.applied + c.superseded, 0.0124);
  leg("system", c.system, c.applied, 0.0061);
  leg("patch", c.patch, c.applied, 0.0021);
  leg("delivery", c.delivery, c.applied, 0.0024);
  leg("apply", c.apply, c.applied, 0.0055);
  leg("acknowledge", c.acknowledge, c.applied, 0.0012);
  record.phases[1].convergence = c;

  record.devices = {.target = 5'000,
                    .connected = 5'000,
                    .connected_max = 5'000,
                    .reconnects = failing ? 1'000U : 0U,
                    .reconnect_reasons = {}};
  if (failing) record.devices.reconnect_reasons["scripted"] = 1'000;

  const auto lag = distribution(10'000, 0.0001);
  record.generator = {.cpu_seconds = 41.2,
                      .resident_bytes = 222'298'112,
                      .heap_bytes_per_device = 612,
                      .bytes_in = 12'345'678,
                      .bytes_out = 9'876'543,
                      .schedule_lag = summarise(lag),
                      .busy_shares = {0.31, 0.28},
                      .dropped_share = failing ? 0.0033 : 0};
  b.histogram("scheduleLag", lag, b.run.histograms.generator);

  const auto slo = [&](std::string text, std::string status, std::string unit, double target,
                       std::optional<double> actual, uint64_t samples, std::string detail) {
    record.slos.push_back({.slo = std::move(text),
                           .description = {},
                           .status = std::move(status),
                           .unit = std::move(unit),
                           .target = target,
                           .actual = actual,
                           .samples = samples,
                           .phase = {},
                           .detail = std::move(detail)});
  };
  slo("convergence p99 < 250ms", "passed", "seconds", 0.25, 0.1297, c.applied + c.superseded,
      "130 ms: target < 250 ms");
  slo("patchDesired errors < 0.1%", failing ? "failed" : "passed", "share", 0.001, failing ? 0.00822 : 0, 5'960,
      failing ? "0.822 %: target < 0.1 %" : "0 %: target < 0.1 %");
  if (failing) {
    slo("query p99 < 100ms", "undecided", "seconds", 0.1, std::nullopt, 120, "p99 needs 1,000 samples, there are 120");
  }
  record.invariants = {{std::string{kNoLostUpdates}, InvariantStatus::held, "0 of 5,911 updates lost.", {}},
                       {std::string{kFinalStateMatches}, InvariantStatus::held, "5,000 of 5,000 twins match.", {}},
                       {std::string{kVersionsMonotonic}, InvariantStatus::not_checked, "", {}}};
  if (failing) {
    record.invariants[1] = {
        std::string{kFinalStateMatches},
        InvariantStatus::violated,
        "2 of 5,000 twins differ.",
        {"therm-00042: desired version 7, device holds 6", "<script>alert(\"1\")</script>\u202Eevil"}};
    record.errors = {{"patchDesired", "rollout", "backlogFull", 40, 53, 55},
                     {"patchDesired", "rollout", "throttled", 26, 52, 55},
                     {"patchDesired", "rollout", "preconditionFailed", 15, 12, 69},
                     {"patchDesired", "rollout", "timeout", 8, 62, 63}};
    record.verdict = {VerdictStatus::failed,
                      exit_code::kCorrectness,
                      {"finalStateMatches: 2 of 5,000 twins differ.", "patchDesired errors < 0.1%: 0.822 %"}};
  }
  auto& l = record.ledger;
  for (const auto& each : record.phases) {
    for (const auto& [kind, op] : each.operations) {
      l.asked += op.asked;
      l.sent += op.sent;
      l.acknowledged += op.acknowledged;
      l.failed += op.failed;
      l.timed_out += op.timed_out;
      l.dropped += op.dropped;
    }
  }
  record.hub = HubRecord{.cpu_seconds = 55.1,
                         .resident_bytes = 98'000'000,
                         .comparison = {true, {{"connects", 6'000, 6'000}, {"twinPatches", 5'911, 5'911}}}};

  if (failing) {
    auto& tier = record.throttling.emplace();
    tier.tier = "S1";
    tier.units = 2;
    tier.quota_used = 12'034;
    tier.quota_limit = 800'000;
    tier.classes = {{.name = "connects", .limit_per_second = 24, .admitted = 6'000},
                    {.name = "twinUpdates",
                     .limit_per_second = 100,
                     .admitted = 5'911,
                     .shaped = 2'104,
                     .refused = 26,
                     .delay_p50 = 0.4,
                     .delay_p99 = 1.9,
                     .delay_max = 2,
                     .delay_sum = 948},
                    {.name = "queries", .admitted = 120}};
  }

  auto& canary = record.canary.emplace();
  canary.device = "rollout-20260301T080000Z-canary";
  canary.client = "Paho MQTT C++ 1.2.0";
  canary.operations = {{"connect", {1, 1, 0, 0}}, {"report", {301, 301, 0, 0}}};
  canary.cpu_seconds = 0.21;
  canary.rows = {metrics::compare_operation("rollout", "report", distribution(301, failing ? 0.03 : 0.0014),
                                            distribution(6'000, 0.0011), canary.allowance)};
  metrics::judge_canary(canary);

  for (int second = 1; second <= 75; ++second) {
    IntervalSnapshot at;
    at.at_seconds = second;
    at.seconds = 1;
    const bool rolling = second > 10 && second <= 70;
    const bool slow = failing && second > 52 && second <= 56;
    const auto stream = [&](std::string name, bool active, uint64_t rate, double median) {
      IntervalSnapshot::Stream s;
      s.name = std::move(name);
      if (active) {
        s.asked = s.sent = rate;
        s.acknowledged = slow ? rate * 7 / 10 : rate;
        s.failed = s.sent - s.acknowledged;
        s.intended = interval_latency(s.acknowledged, slow ? median * 8 : median);
        s.service = interval_latency(s.acknowledged, median);
      }
      at.streams.push_back(std::move(s));
    };
    stream("thermostats.connect", second <= 10, 500, 0.004);
    stream("thermostats.report", rolling, 100, 0.0012);
    stream("rollout", rolling, 100, 0.0021);
    stream("dashboard", rolling, 2, 0.031);
    if (rolling) {
      auto& rollout = at.streams[2];
      if (failing) rollout.conflicts = rollout.retries = 10;
      if (slow) rollout.throttled = 10;
      at.streams[3].pages = 100;
      at.streams[3].rows = 10'000;
      at.staleness.started = at.staleness.visible = 5;
      at.staleness.since_acknowledged = interval_latency(5, slow ? 4 : 1.8);
    }
    if (slow) at.errors[static_cast<size_t>(ErrorClass::throttled)] = 10;
    at.convergence.backlog = slow ? 200 : rolling ? 12 : 0;
    if (rolling) at.convergence.total = interval_latency(100, slow ? 0.1 : 0.0124);
    at.devices.online = second <= 10 ? static_cast<uint32_t>(second) * 500 : slow ? 4'000 : 5'000;
    at.devices.offline = second <= 10 ? 5'000 - at.devices.online : 0;
    at.devices.waiting = slow ? 1'000 : 0;
    at.reconnects = failing && second == 56 ? 1'000 : 0;
    at.schedule_lag = interval_latency(200, 0.0001);
    at.busy_shares = {0.31, 0.28};
    at.cpu_share = 0.55;
    at.resident_bytes = 200'000'000 + static_cast<uint64_t>(second) * 100'000;
    b.run.series.push_back(std::move(at));
  }
  b.run.events = {{0, "phase", "connect"}, {10, "phase", "rollout"}, {70, "phase", "drain"}};
  if (failing) b.run.events.insert(b.run.events.begin() + 2, {52, "storm", "20 % of thermostats disconnected"});
  b.run.resolved_yaml = "schema: twinstorm/scenario/1\nname: rollout\n# </script><script>alert(2)</script>\n";
  b.run.env_json =
      R"({"cpu":{"model":"AMD EPYC","cores":2},"kernel":"Linux 6.1.0","build":"g++ 12.2, RelWithDebInfo"})";
  return std::move(b.run);
}

}  // namespace

LoadedRun failed_run() { return build(true); }
LoadedRun passed_run() { return build(false); }

LoadedRun long_run() {
  auto run = build(true);
  const auto pattern = run.series.at(53);
  run.series.clear();
  for (int second = 1; second <= 3'600; ++second) {
    auto at = pattern;
    at.at_seconds = second;
    at.streams.clear();
    for (int i = 0; i < 20; ++i) {
      auto stream = pattern.streams[2];
      stream.name = fmt::format("stream-{}", i);
      // Figures of full length, different in each second.
      const double jitter = 1 + 0.3 * std::sin(second * 12.9898 + i * 78.233);
      stream.acknowledged = static_cast<uint64_t>(1'000 * jitter);
      stream.intended = interval_latency(stream.acknowledged, 0.00212345 * jitter);
      stream.service = interval_latency(stream.acknowledged, 0.00198765 * jitter);
      at.streams.push_back(std::move(stream));
    }
    run.series.push_back(std::move(at));
  }
  auto& op = run.record.operations["patchDesired"];
  const auto one = op.streams.at("rollout");
  op.streams.clear();
  for (int i = 0; i < 20; ++i) {
    const auto name = fmt::format("stream-{}", i);
    op.streams[name] = one;
    run.histograms.operations.lines.push_back({name + ".intended", 10, 60, distribution(1'000, 0.002)});
  }
  run.record.phases[1].operations["patchDesired"] = op;
  run.record.phases[1].duration_seconds = 3'590;
  return run;
}

}  // namespace twinstorm::report::testing
