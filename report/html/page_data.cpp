#include "report/html/page_data.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "metrics/op.hpp"
#include "metrics/slo.hpp"
#include "report/html/curve.hpp"
#include "report/report.hpp"
#include "report/wording.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::report {

namespace {

using metrics::HistogramSnapshot;
using metrics::IntervalSnapshot;
using metrics::LatencyRecord;
using metrics::LoadedRun;
using metrics::OperationRecord;
using metrics::SloStatistic;
using Json = nlohmann::json;

constexpr int kDigits = 4;
/// Histograms know no more than three.
constexpr int kLatencyDigits = 3;
/// All series of a page together: what keeps an hour of twenty streams below 1.5 MB.
constexpr size_t kPointsOfAllSeries = 150'000;
constexpr size_t kSeriesPerStream = 7;
constexpr size_t kOtherSeries = 20;
constexpr size_t kScenarioTextMax = 100'000;
constexpr size_t kMarksMax = 60;
constexpr size_t kEventsMax = 500;

Json number(std::optional<double> value, int digits = kDigits) {
  if (!value) return nullptr;
  const double rounded = round_significant(*value, digits);
  // Whole numbers without `.0`: most rates and counts are.
  if (rounded == std::floor(rounded) && std::abs(rounded) < 1e15) return static_cast<int64_t>(rounded);
  return rounded;
}

/// Samples for the lines of the page, one for each interval of the run, thinned to `kMaxSeriesPoints`.
class Timeline {
 public:
  explicit Timeline(const std::vector<IntervalSnapshot>& snapshots)
      : snapshots_{snapshots}, per_point_{values_per_point(snapshots.size(), points_max(snapshots))} {}

  template <class Fn>
  Json line(Thinning thinning, Fn&& value, int digits = kDigits) const {
    Json list = Json::array();
    for (const auto& point : thin(snapshots_.size(), per_point_, thinning,
                                  [&](size_t i) -> std::optional<double> { return value(snapshots_[i]); })) {
      list.push_back(number(point, digits));
    }
    return list;
  }

  Json time() const {
    Json list = Json::array();
    for (size_t i = 0; i < snapshots_.size(); i += per_point_) {
      const auto last = std::min(snapshots_.size(), i + per_point_) - 1;
      list.push_back(std::round(snapshots_[last].at_seconds * 1000) / 1000);
    }
    return list;
  }

  double seconds_per_point() const {
    if (per_point_ == 1 || snapshots_.empty()) return 1;
    return std::round(static_cast<double>(per_point_) * snapshots_.back().at_seconds /
                      static_cast<double>(snapshots_.size()) * 10) /
           10;
  }

  /// Names of the streams in the order of the run.
  std::vector<std::string> stream_names() const {
    std::vector<std::string> names;
    if (!snapshots_.empty()) {
      for (const auto& stream : snapshots_.front().streams) names.push_back(stream.name);
    }
    return names;
  }

 private:
  static size_t points_max(const std::vector<IntervalSnapshot>& snapshots) {
    const size_t streams = snapshots.empty() ? 0 : snapshots.front().streams.size();
    return std::min(kMaxSeriesPoints, kPointsOfAllSeries / (streams * kSeriesPerStream + kOtherSeries));
  }

  const std::vector<IntervalSnapshot>& snapshots_;
  size_t per_point_;
};

double per_second(uint64_t count, const IntervalSnapshot& at) {
  return at.seconds > 0 ? static_cast<double>(count) / at.seconds : 0;
}

Json latency(const LatencyRecord& record, const HistogramSnapshot& histogram) {
  if (record.count == 0) return nullptr;
  const auto curve = distribution_curve(histogram);
  Json quantile = Json::array();
  Json value = Json::array();
  for (size_t i = 0; i < curve.quantile.size(); ++i) {
    // Full digits: 0.9999 and 0.99999 are different places.
    quantile.push_back(std::round(curve.quantile[i] * 1e9) / 1e9);
    value.push_back(number(curve.seconds[i]));
  }
  return {{"count", record.count},       {"mean", number(record.mean)}, {"p50", number(record.p50)},
          {"p90", number(record.p90)},   {"p95", number(record.p95)},   {"p99", number(record.p99)},
          {"p999", number(record.p999)}, {"max", number(record.max)},   {"quantile", std::move(quantile)},
          {"value", std::move(value)}};
}

Json counts(const OperationRecord& op) {
  return {{"asked", op.asked},
          {"sent", op.sent},
          {"acknowledged", op.acknowledged},
          {"failed", op.failed},
          {"timedOut", op.timed_out},
          {"dropped", op.dropped},
          {"inFlight", op.in_flight},
          {"ratePerSecond", round_significant(op.rate_per_second, kDigits)}};
}

/// The tightest latency objective that `concerns` accepts: drawn as a line into the chart of what it limits.
template <class Fn>
Json latency_limit(const LoadedRun& run, Fn&& concerns) {
  Json limit = nullptr;
  double tightest = 0;
  for (const auto& slo : run.record.slos) {
    const auto spec = metrics::parse_slo(slo.slo);
    if (!spec || slo.unit != "seconds" || spec->service || !concerns(*spec)) continue;
    if (limit.is_null() || spec->threshold < tightest) {
      tightest = spec->threshold;
      limit = {{"value", tightest},
               {"label", fmt::format("objective: {} {}", to_string(spec->statistic), target_text(slo))}};
    }
  }
  return limit;
}

/// Operations in the order of their life (connect first), not of the alphabet.
std::vector<std::string> operation_order(const LoadedRun& run) {
  std::vector<std::string> order;
  for (size_t i = 0; i < metrics::kOpKindCount; ++i) {
    std::string kind{to_string(static_cast<metrics::OpKind>(i))};
    if (run.record.operations.contains(kind)) order.push_back(std::move(kind));
  }
  for (const auto& [kind, op] : run.record.operations) {
    if (std::find(order.begin(), order.end(), kind) == order.end()) order.push_back(kind);
  }
  return order;
}

Json streams(const LoadedRun& run, const Timeline& timeline) {
  std::vector<std::pair<std::string, std::string>> kind_of;  // stream -> operation, in the run's order
  std::vector<std::string> names = timeline.stream_names();
  for (const auto& kind : operation_order(run)) {
    for (const auto& [stream, record] : run.record.operations.at(kind).streams) {
      kind_of.emplace_back(stream, kind);
      if (std::find(names.begin(), names.end(), stream) == names.end()) names.push_back(stream);
    }
  }
  Json list = Json::array();
  for (const auto& name : names) {
    const auto found = std::find_if(kind_of.begin(), kind_of.end(), [&](const auto& p) { return p.first == name; });
    if (found == kind_of.end()) continue;
    const auto& kind = found->second;
    const auto whole = over_all_phases(run.record, kind, name);
    Json entry = counts(whole);
    entry["name"] = name;
    entry["operation"] = kind;
    entry["note"] = delivery_note(whole);
    entry["delivered"] = delivered(whole);
    entry["limit"] = latency_limit(run, [&](const metrics::SloSpec& spec) {
      return (spec.metric == metrics::SloMetric::operation && spec.operation && to_string(*spec.operation) == kind) ||
             (spec.metric == metrics::SloMetric::stream && spec.stream == name);
    });
    const auto in = [&name](const IntervalSnapshot& at) -> const IntervalSnapshot::Stream* {
      const auto it = std::find_if(at.streams.begin(), at.streams.end(), [&](const auto& s) { return s.name == name; });
      return it == at.streams.end() ? nullptr : &*it;
    };
    const auto rate = [&](auto count) {
      return timeline.line(Thinning::mean, [&](const IntervalSnapshot& at) -> std::optional<double> {
        const auto* stream = in(at);
        return stream == nullptr ? 0 : per_second(count(*stream), at);
      });
    };
    const auto percentile = [&](auto pick) {
      return timeline.line(
          Thinning::largest,
          [&](const IntervalSnapshot& at) -> std::optional<double> {
            const auto* stream = in(at);
            if (stream == nullptr || stream->intended.count == 0) return std::nullopt;
            return to_seconds(pick(*stream));
          },
          kLatencyDigits);
    };
    using Stream = IntervalSnapshot::Stream;
    entry["askedRate"] = rate([](const Stream& s) { return s.asked; });
    entry["acknowledgedRate"] = rate([](const Stream& s) { return s.acknowledged; });
    entry["lostRate"] = rate([](const Stream& s) { return s.failed + s.timed_out + s.dropped; });
    entry["intendedP50"] = percentile([](const Stream& s) { return s.intended.p50; });
    entry["intendedP99"] = percentile([](const Stream& s) { return s.intended.p99; });
    entry["serviceP50"] = percentile([](const Stream& s) { return s.service.p50; });
    entry["serviceP99"] = percentile([](const Stream& s) { return s.service.p99; });
    list.push_back(std::move(entry));
  }
  return list;
}

Json operations(const LoadedRun& run) {
  Json list = Json::array();
  for (const auto& kind : operation_order(run)) {
    const auto& record = run.record.operations.at(kind);
    HistogramSnapshot intended;
    HistogramSnapshot service;
    Json names = Json::array();
    for (const auto& [stream, op] : record.streams) {
      names.push_back(stream);
      intended.add(run.histogram(stream + ".intended"));
      service.add(run.histogram(stream + ".service"));
    }
    Json phases = Json::array();
    for (const auto& phase : run.record.phases) {
      const auto op = phase.operations.find(kind);
      if (op == phase.operations.end() || op->second.asked == 0) continue;
      Json row = counts(op->second);
      row["name"] = phase.name;
      row["recorded"] = phase.recorded;
      row["p50"] = number(op->second.intended.p50);
      row["p99"] = number(op->second.intended.p99);
      row["max"] = number(op->second.intended.max);
      phases.push_back(std::move(row));
    }
    Json entry = counts(record);
    entry["name"] = kind;
    entry["streams"] = std::move(names);
    entry["intended"] = latency(record.intended, intended);
    entry["service"] = latency(record.service, service);
    entry["phases"] = std::move(phases);
    list.push_back(std::move(entry));
  }
  return list;
}

Json convergence(const LoadedRun& run, const Timeline& timeline) {
  const auto& c = run.record.convergence;
  bool any = c.started > 0;
  for (const auto& phase : run.record.phases) any = any || phase.convergence.started > 0;
  if (!any) return nullptr;
  const auto leg = [&](std::string_view name, const LatencyRecord& record) {
    return latency(record, run.histogram(fmt::format("convergence.{}", name)));
  };
  const auto percentile = [&](auto pick) {
    return timeline.line(
        Thinning::largest,
        [&](const IntervalSnapshot& at) -> std::optional<double> {
          if (at.convergence.total.count == 0) return std::nullopt;
          return to_seconds(pick(at.convergence));
        },
        kLatencyDigits);
  };
  using Interval = IntervalSnapshot::Convergence;
  return {{"started", c.started},
          {"applied", c.applied},
          {"superseded", c.superseded},
          {"lost", c.lost},
          {"unconverged", c.unconverged},
          {"failed", c.failed},
          {"applyFailed", c.apply_failed},
          {"open", c.open},
          {"duplicate", c.duplicate},
          {"reordered", c.reordered},
          {"backlogMax", c.backlog_max},
          {"total", leg("total", c.total)},
          {"system", leg("system", c.system)},
          {"patch", leg("patch", c.patch)},
          {"delivery", leg("delivery", c.delivery)},
          {"apply", leg("apply", c.apply)},
          {"acknowledge", leg("acknowledge", c.acknowledge)},
          {"limit", latency_limit(run, [](const auto& s) { return s.metric == metrics::SloMetric::convergence; })},
          {"backlog", timeline.line(Thinning::largest,
                                    [](const IntervalSnapshot& at) -> std::optional<double> {
                                      return static_cast<double>(at.convergence.backlog);
                                    })},
          {"p50", percentile([](const Interval& i) { return i.total.p50; })},
          {"p99", percentile([](const Interval& i) { return i.total.p99; })}};
}

using StreamCount = uint64_t IntervalSnapshot::Stream::*;

/// One count of one stream over time, per second.
Json count_rate(const Timeline& timeline, const std::string& name, StreamCount count) {
  return timeline.line(Thinning::mean, [&](const IntervalSnapshot& at) -> std::optional<double> {
    const auto it = std::find_if(at.streams.begin(), at.streams.end(), [&](const auto& s) { return s.name == name; });
    return it == at.streams.end() ? 0 : per_second((*it).*count, at);
  });
}

/// Calls `fn(kind, name, stream)` for each stream, recorded phases.
template <class Fn>
void for_each_stream(const LoadedRun& run, Fn&& fn) {
  for (const auto& kind : operation_order(run)) {
    for (const auto& [name, op] : run.record.operations.at(kind).streams) fn(kind, name, op);
  }
}

Json staleness(const LoadedRun& run, const Timeline& timeline) {
  if (!run.record.staleness) return nullptr;
  const auto& s = *run.record.staleness;
  const auto percentile = [&](auto pick) {
    return timeline.line(
        Thinning::largest,
        [&](const IntervalSnapshot& at) -> std::optional<double> {
          const auto& l = at.staleness.since_acknowledged;
          if (l.count == 0) return std::nullopt;
          return to_seconds(pick(l));
        },
        kLatencyDigits);
  };
  using metrics::IntervalLatency;
  return {{"started", s.started},
          {"visible", s.visible},
          {"notVisible", s.not_visible},
          {"unknown", s.unknown},
          {"open", s.open},
          {"resolution", number(s.resolution)},
          {"latency", latency(s.since_acknowledged, run.histogram("queryStaleness"))},
          {"limit",
           latency_limit(run, [](const auto& spec) { return spec.metric == metrics::SloMetric::query_staleness; })},
          {"p50", percentile([](const IntervalLatency& l) { return l.p50; })},
          {"p99", percentile([](const IntervalLatency& l) { return l.p99; })}};
}

Json queries(const LoadedRun& run, const Timeline& timeline) {
  Json rows = Json::array();
  for_each_stream(run, [&](const std::string&, const std::string& name, const OperationRecord& op) {
    if (!op.pages) return;
    rows.push_back({{"name", name},
                    {"queries", op.acknowledged},
                    {"pages", op.pages->pages},
                    {"rows", op.pages->rows},
                    {"pagesPerQuery", number(op.pages->pages_per_query)},
                    {"rowsPerQuery", number(op.pages->rows_per_query)},
                    {"pagesMax", op.pages->pages_max},
                    {"rowsMax", op.pages->rows_max},
                    {"p50", number(op.intended.p50)},
                    {"p99", number(op.intended.p99)},
                    {"pageRate", count_rate(timeline, name, &IntervalSnapshot::Stream::pages)},
                    {"rowRate", count_rate(timeline, name, &IntervalSnapshot::Stream::rows)}});
  });
  auto stale = staleness(run, timeline);
  if (rows.empty() && stale.is_null()) return nullptr;
  return {{"streams", std::move(rows)}, {"staleness", std::move(stale)}};
}

Json etags(const LoadedRun& run, const Timeline& timeline) {
  if (!met_conflicts(run.record)) return nullptr;
  Json rows = Json::array();
  for_each_stream(run, [&](const std::string& kind, const std::string& name, const OperationRecord& op) {
    if (op.conflicts + op.retries == 0) return;
    const auto given_up = op.errors.find("preconditionFailed");
    rows.push_back({{"name", name},
                    {"operation", kind},
                    {"acknowledged", op.acknowledged},
                    {"conflicts", op.conflicts},
                    {"conflictShare", number(op.conflict_share())},
                    {"retries", op.retries},
                    {"retriesPerSuccess", number(op.retries_per_success())},
                    {"givenUp", given_up == op.errors.end() ? 0 : given_up->second},
                    {"conflictRate", count_rate(timeline, name, &IntervalSnapshot::Stream::conflicts)},
                    {"retryRate", count_rate(timeline, name, &IntervalSnapshot::Stream::retries)}});
  });
  return rows;
}

Json throttling(const LoadedRun& run, const Timeline& timeline) {
  if (!was_throttled(run.record)) return nullptr;
  Json hub = nullptr;
  if (run.record.throttling) {
    const auto& t = *run.record.throttling;
    Json classes = Json::array();
    for (const auto& c : t.classes) {
      if (c.admitted + c.refused == 0) continue;
      classes.push_back({{"name", c.name},
                         {"limit", number(c.limit_per_second)},
                         {"admitted", c.admitted},
                         {"shaped", c.shaped},
                         {"refused", c.refused},
                         {"delayP50", number(c.delay_p50, kLatencyDigits)},
                         {"delayP99", number(c.delay_p99, kLatencyDigits)},
                         {"delayMax", number(c.delay_max, kLatencyDigits)},
                         {"delaySum", number(c.delay_sum, kLatencyDigits)}});
    }
    hub = {{"tier", t.tier}, {"units", t.units}, {"classes", std::move(classes)}};
    hub["quotaUsed"] = t.quota_used ? Json(*t.quota_used) : Json(nullptr);
    hub["quotaLimit"] = t.quota_limit ? Json(*t.quota_limit) : Json(nullptr);
  }
  Json rows = Json::array();
  for_each_stream(run, [&](const std::string& kind, const std::string& name, const OperationRecord&) {
    const auto whole = over_all_phases(run.record, kind, name);
    if (whole.sent == 0) return;
    const auto refused = throttled_count(whole);
    const auto& recorded = run.record.operations.at(kind).streams.at(name);
    Json row = {{"name", name},
                {"operation", kind},
                {"sent", whole.sent},
                {"acknowledged", whole.acknowledged},
                {"refused", refused},
                {"serviceP50", number(recorded.service.p50)},
                {"serviceP99", number(recorded.service.p99)}};
    row["refusedRate"] =
        refused > 0 ? count_rate(timeline, name, &IntervalSnapshot::Stream::throttled) : Json(Json::array());
    rows.push_back(std::move(row));
  });
  return {{"hub", std::move(hub)}, {"streams", std::move(rows)}};
}

Json devices(const LoadedRun& run, const Timeline& timeline) {
  const auto& d = run.record.devices;
  const auto gauge = [&](Thinning thinning, auto pick) {
    return timeline.line(thinning, [&](const IntervalSnapshot& at) -> std::optional<double> { return pick(at); });
  };
  Json reasons = Json::array();
  for (const auto& [reason, count] : d.reconnect_reasons) reasons.push_back({reason, count});
  return {{"target", d.target},
          {"connected", d.connected},
          {"connectedMax", d.connected_max},
          {"reconnects", d.reconnects},
          {"reasons", std::move(reasons)},
          {"online", gauge(Thinning::smallest, [](const auto& at) { return at.devices.online; })},
          {"connecting", gauge(Thinning::largest, [](const auto& at) { return at.devices.connecting; })},
          {"waiting", gauge(Thinning::largest, [](const auto& at) { return at.devices.waiting; })},
          {"offline", gauge(Thinning::largest, [](const auto& at) { return at.devices.offline; })},
          {"reconnectRate", gauge(Thinning::mean, [](const auto& at) { return per_second(at.reconnects, at); })}};
}

Json error_rates(const LoadedRun& run, const Timeline& timeline) {
  Json list = Json::array();
  for (size_t i = 0; i < metrics::kErrorClassCount; ++i) {
    if (std::none_of(run.series.begin(), run.series.end(), [&](const auto& at) { return at.errors[i] > 0; })) continue;
    list.push_back({to_string(static_cast<metrics::ErrorClass>(i)),
                    timeline.line(Thinning::mean, [&](const IntervalSnapshot& at) -> std::optional<double> {
                      return per_second(at.errors[i], at);
                    })});
  }
  return list;
}

Json ledger(const LoadedRun& run) {
  Json list = Json::array();
  for (const auto& kind : operation_order(run)) {
    const auto op = over_all_phases(run.record, kind);
    Json row = counts(op);
    row["name"] = kind;
    row["notStarted"] = op.not_started;
    row["balanced"] = op.sent == op.acknowledged + op.failed + op.timed_out + op.in_flight &&
                      op.asked == op.sent + op.dropped + op.not_started;
    list.push_back(std::move(row));
  }
  return list;
}

Json hub(const LoadedRun& run) {
  if (!run.record.hub || !run.record.hub->comparison.checked) {
    return {{"compared", false},
            {"matches", false},
            {"note", "The target gives no counts of its own to compare with."},
            {"rows", Json::array()}};
  }
  const auto& comparison = run.record.hub->comparison;
  Json rows = Json::array();
  for (const auto& row : comparison.rows) rows.push_back({{"name", row.name}, {"run", row.run}, {"hub", row.hub}});
  return {{"compared", true},
          {"matches", comparison.matches()},
          {"note", "The hub counts what it answered, the run what it got answered; both over the whole run."},
          {"rows", std::move(rows)}};
}

Json estimate(const std::optional<metrics::PercentileEstimate>& e) {
  if (!e) return nullptr;
  return {{"value", number(e->value, kLatencyDigits)},
          {"low", number(e->low, kLatencyDigits)},
          {"high", number(e->high, kLatencyDigits)}};
}

Json canary(const LoadedRun& run) {
  if (!run.record.canary) return nullptr;
  const auto& c = *run.record.canary;
  Json rows = Json::array();
  for (const auto& row : c.rows) {
    Json percentiles = Json::array();
    for (const auto& each : row.percentiles) {
      percentiles.push_back({{"q", each.q},
                             {"canary", estimate(each.canary)},
                             {"fleet", estimate(each.fleet)},
                             {"verdict", to_string(each.verdict)}});
    }
    rows.push_back({{"phase", row.phase},
                    {"operation", row.operation},
                    {"canarySamples", row.canary_samples},
                    {"fleetSamples", row.fleet_samples},
                    {"verdict", to_string(row.verdict)},
                    {"percentiles", std::move(percentiles)}});
  }
  Json counts = Json::array();
  for (const auto& [name, op] : c.operations) {
    counts.push_back({{"name", name},
                      {"sent", op.sent},
                      {"acknowledged", op.acknowledged},
                      {"failed", op.failed},
                      {"timedOut", op.timed_out}});
  }
  return {{"verdict", to_string(c.verdict)},
          {"detail", c.detail},
          {"device", c.device},
          {"client", c.client},
          {"confidence", c.confidence},
          {"allowanceSeconds", c.allowance.seconds},
          {"allowanceShare", c.allowance.share},
          {"cpuSeconds", number(c.cpu_seconds)},
          {"counts", std::move(counts)},
          {"rows", std::move(rows)}};
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

Json to_pairs(const Pairs& pairs) {
  Json list = Json::array();
  for (const auto& [label, text] : pairs) list.push_back({label, text});
  return list;
}

Json generator(const LoadedRun& run, const Timeline& timeline) {
  const auto& g = run.record.generator;
  const double duration = run.record.run.duration_seconds;
  Pairs figures;
  figures.emplace_back("CPU time", duration > 0 ? fmt::format("{} ({:.2f} cores on average)",
                                                              duration_text(g.cpu_seconds), g.cpu_seconds / duration)
                                                : duration_text(g.cpu_seconds));
  if (!g.busy_shares.empty()) {
    figures.emplace_back(
        "Busy share of the busiest event loop",
        fmt::format("{} (of {})", percent_text(*std::max_element(g.busy_shares.begin(), g.busy_shares.end())),
                    counted(g.busy_shares.size(), "loop", "loops")));
  }
  figures.emplace_back("Schedule lag",
                       fmt::format("p50 {}, p99 {}, largest {}", duration_text(g.schedule_lag.p50),
                                   duration_text(g.schedule_lag.p99), duration_text(g.schedule_lag.max)));
  figures.emplace_back("Dropped before sending", percent_text(g.dropped_share));
  figures.emplace_back("Resident memory at the end", format_size(g.resident_bytes));
  if (g.heap_bytes_per_device) {
    figures.emplace_back("Heap per device",
                         format_size(static_cast<ByteCount>(std::max(0.0, *g.heap_bytes_per_device))));
  }
  figures.emplace_back("Received and sent",
                       fmt::format("{} and {}", format_size(g.bytes_in), format_size(g.bytes_out)));
  for (const auto& worker : run.record.workers) {
    auto text = fmt::format("{}, {} sent, {} acknowledged, CPU {}, busiest loop {}",
                            counted(worker.devices, "device", "devices"), format_count(worker.ledger.sent),
                            format_count(worker.ledger.acknowledged), duration_text(worker.cpu_seconds),
                            percent_text(worker.busy_share));
    if (worker.schedule_lag_p99) text += fmt::format(", schedule lag p99 {}", duration_text(*worker.schedule_lag_p99));
    if (worker.lost) text += fmt::format(". LOST: it {}", printable(worker.end, 200));
    figures.emplace_back(printable(worker.name, 60), std::move(text));
  }
  const auto lag_limit = latency_limit(run, [](const auto& s) { return s.metric == metrics::SloMetric::schedule_lag; });
  return {{"figures", to_pairs(figures)},
          {"cpu", timeline.line(Thinning::largest, [](const IntervalSnapshot& at) { return at.cpu_share; })},
          {"busy", timeline.line(Thinning::largest,
                                 [](const IntervalSnapshot& at) -> std::optional<double> {
                                   if (at.busy_shares.empty()) return std::nullopt;
                                   return *std::max_element(at.busy_shares.begin(), at.busy_shares.end());
                                 })},
          {"resident", timeline.line(Thinning::largest,
                                     [](const IntervalSnapshot& at) -> std::optional<double> {
                                       if (!at.resident_bytes) return std::nullopt;
                                       return static_cast<double>(*at.resident_bytes);
                                     })},
          {"lagP99", timeline.line(Thinning::largest,
                                   [](const IntervalSnapshot& at) -> std::optional<double> {
                                     if (at.schedule_lag.count == 0) return std::nullopt;
                                     return to_seconds(at.schedule_lag.p99);
                                   })},
          {"lag", latency(g.schedule_lag, run.histogram("scheduleLag"))},
          {"limit", lag_limit}};
}

/// `cpuModel` -> `CPU model`.
std::string spaced(std::string_view key, bool first) {
  std::vector<std::string> words{std::string{}};
  for (const char c : key) {
    const auto letter = static_cast<unsigned char>(c);
    if (std::isupper(letter) != 0 && !words.back().empty()) words.emplace_back();
    words.back() += static_cast<char>(std::tolower(letter));
  }
  std::string text;
  for (auto& word : words) {
    if (word == "cpu" || word == "os" || word == "id" || word == "ip") {
      for (char& c : word) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    } else if (first && text.empty() && !word.empty()) {
      word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
    }
    text += (text.empty() ? "" : " ") + word;
  }
  return text;
}

void flatten(const Json& value, const std::string& label, Pairs& into) {
  constexpr size_t kEnvironmentMax = 60;
  if (into.size() >= kEnvironmentMax) return;
  if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      flatten(member, label.empty() ? spaced(key, true) : fmt::format("{} {}", label, spaced(key, false)), into);
    }
  } else if (value.is_string()) {
    if (value != "") into.emplace_back(label, value.get<std::string>());
  } else if (value.is_boolean()) {
    into.emplace_back(label, value.get<bool>() ? "yes" : "no");
  } else if (constexpr std::string_view kBytes = " bytes"; value.is_number_unsigned() && label.ends_with(kBytes)) {
    into.emplace_back(label.substr(0, label.size() - kBytes.size()), format_size(value.get<uint64_t>()));
  } else if (value.is_number_unsigned()) {
    into.emplace_back(label, format_count(value.get<uint64_t>()));
  } else {
    into.emplace_back(label, value.dump());
  }
}

Json environment(const LoadedRun& run) {
  Pairs pairs;
  const auto env = Json::parse(run.env_json, nullptr, false);
  if (env.is_object()) flatten(env, {}, pairs);
  return to_pairs(pairs);
}

Json setup(const LoadedRun& run) {
  const auto& record = run.record;
  Pairs pairs;
  pairs.emplace_back(
      "Target", record.run.target == "embedded" ? "embedded hub, its own process on this machine" : record.run.target);
  pairs.emplace_back("Devices", format_count(record.devices.target));
  double recorded = 0;
  for (const auto& phase : record.phases) recorded += phase.recorded ? phase.duration_seconds : 0;
  pairs.emplace_back("Duration", fmt::format("{}, of which {} recorded", duration_text(record.run.duration_seconds),
                                             duration_text(recorded)));
  for (const auto& kind : operation_order(run)) {
    const auto& op = record.operations.at(kind);
    if (op.asked > 0 && recorded > 0) {
      pairs.emplace_back(fmt::format("Asked of {}", kind),
                         fmt::format("{} on average", format_rate(Rate{static_cast<double>(op.asked) / recorded})));
    }
  }
  for (const auto& each : record.run.forced) pairs.emplace_back("Forced beyond", each);
  if (record.hub) {
    std::string text;
    if (record.hub->cpu_seconds) text += fmt::format("CPU {}", duration_text(record.hub->cpu_seconds));
    if (record.hub->resident_bytes) {
      text += fmt::format("{}resident memory {}", text.empty() ? "" : ", ", format_size(*record.hub->resident_bytes));
    }
    if (!text.empty()) pairs.emplace_back("The hub used", text);
  }
  return to_pairs(pairs);
}

}  // namespace

Json page_data(const LoadedRun& run) {
  const auto& record = run.record;
  const Timeline timeline{run.series};

  Json phases = Json::array();
  for (const auto& phase : record.phases) {
    phases.push_back({{"name", phase.name},
                      {"start", round_significant(phase.start_seconds, 7)},
                      {"end", round_significant(phase.start_seconds + phase.duration_seconds, 7)},
                      {"recorded", phase.recorded},
                      {"note", phase.note}});
  }
  Json marks = Json::array();
  Json events = Json::array();
  for (const auto& event : run.events) {
    const bool marked = event.kind == "storm" || event.kind == "signal" || event.kind == "error";
    if (marked && marks.size() < kMarksMax) marks.push_back({{"at", event.at_seconds}, {"text", event.text}});
    if (events.size() < kEventsMax) {
      events.push_back({{"at", event.at_seconds}, {"kind", event.kind}, {"text", event.text}});
    }
  }
  Json slos = Json::array();
  for (const auto& slo : record.slos) {
    slos.push_back({{"text", slo.slo},
                    {"during", judged_over(slo)},
                    {"target", target_text(slo)},
                    {"actual", actual_text(slo)},
                    {"samples", slo.samples},
                    {"status", slo.status},
                    {"detail", slo.detail}});
  }
  Json invariants = Json::array();
  for (const auto& invariant : record.invariants) {
    invariants.push_back({{"name", invariant.name},
                          {"status", to_string(invariant.status)},
                          {"detail", invariant.detail},
                          {"examples", invariant.examples}});
  }
  Json errors = Json::array();
  for (const auto& error : record.errors) {
    errors.push_back({{"operation", error.operation},
                      {"stream", error.stream},
                      {"errorClass", error.error},
                      {"count", error.count},
                      {"first", error.first_seconds},
                      {"last", error.last_seconds}});
  }
  Json commands = Json::array();
  if (!record.run.command.empty()) {
    commands.push_back({{"label", "The same run once more, from the same seed:"}, {"text", record.run.command}});
  }
  return {{"schema", "twinstorm/page/1"},
          {"verdict",
           {{"status", to_string(record.verdict.status)},
            {"exitCode", record.verdict.exit_code},
            {"reading", reading(record)},
            {"reasons", record.verdict.reasons}}},
          {"run",
           {{"id", record.run.id},
            {"scenario", record.run.scenario},
            {"description", record.run.description},
            {"seed", std::to_string(record.run.seed)},
            {"startedAt", record.run.started_at},
            {"durationSeconds", record.run.duration_seconds},
            {"version", record.run.version}}},
          {"commands", std::move(commands)},
          {"setup", setup(run)},
          {"environment", environment(run)},
          {"scenarioText", run.resolved_yaml.size() <= kScenarioTextMax ? run.resolved_yaml : std::string{}},
          {"phases", std::move(phases)},
          {"marks", std::move(marks)},
          {"events", std::move(events)},
          {"eventsTotal", run.events.size()},
          {"slos", std::move(slos)},
          {"invariants", std::move(invariants)},
          {"time", timeline.time()},
          {"pointSeconds", timeline.seconds_per_point()},
          {"streams", streams(run, timeline)},
          {"operations", operations(run)},
          {"convergence", convergence(run, timeline)},
          {"queries", queries(run, timeline)},
          {"etags", etags(run, timeline)},
          {"throttling", throttling(run, timeline)},
          {"devices", devices(run, timeline)},
          {"errors", std::move(errors)},
          {"errorRates", error_rates(run, timeline)},
          {"ledger", ledger(run)},
          {"ledgerHolds", record.ledger.holds},
          {"hub", hub(run)},
          {"generator", generator(run, timeline)},
          {"canary", canary(run)}};
}

}  // namespace twinstorm::report
