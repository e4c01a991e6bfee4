// Filling a run record from totals.
#include "metrics/run_record.hpp"

#include <algorithm>

namespace twinstorm::metrics {
namespace {

/// Divided, not multiplied: 412351 us then prints as 0.412351.
double seconds(Nanos value) { return static_cast<double>(value.count()) / 1e9; }

OperationRecord record_of(const OpTotals& op, Nanos duration) {
  OperationRecord r;
  r.asked = op.asked;
  r.sent = op.sent;
  r.acknowledged = op.acknowledged;
  r.failed = op.failed;
  r.timed_out = op.timed_out;
  r.dropped = op.dropped;
  r.in_flight = op.in_flight();
  r.not_started = op.not_started();
  r.rate_per_second = duration > Nanos{0} ? static_cast<double>(op.acknowledged) / seconds(duration) : 0;
  r.intended = summarise(op.intended);
  r.service = summarise(op.service);
  if (op.failed + op.timed_out != 0) r.unsuccessful_max = seconds(op.unsuccessful_max);
  r.conflicts = op.conflicts;
  r.retries = op.retries;
  if (op.pages != 0) {
    auto& pages = r.pages.emplace();
    pages.pages = op.pages;
    pages.rows = op.rows;
    if (op.acknowledged != 0 && op.query_pages != 0) {
      const auto queries = static_cast<double>(op.acknowledged);
      pages.pages_per_query = static_cast<double>(op.query_pages) / queries;
      pages.rows_per_query = static_cast<double>(op.query_rows) / queries;
    }
    pages.pages_max = op.pages_max;
    pages.rows_max = op.rows_max;
  }
  for (size_t i = 0; i < kErrorClassCount; ++i) {
    if (op.errors[i].count != 0) r.errors[std::string(to_string(static_cast<ErrorClass>(i)))] = op.errors[i].count;
  }
  return r;
}

ConvergenceRecord record_of(const ConvergenceTotals& c) {
  ConvergenceRecord r;
  r.started = c.started;
  r.applied = c.applied;
  r.superseded = c.superseded;
  r.lost = c.lost;
  r.unconverged = c.unconverged;
  r.failed = c.failed;
  r.apply_failed = c.apply_failed;
  r.open = c.open();
  r.duplicate = c.duplicate;
  r.reordered = c.reordered;
  r.backlog_max = c.backlog_max;
  r.total = summarise(c.total);
  r.system = summarise(c.system);
  r.patch = summarise(c.patch);
  r.delivery = summarise(c.delivery);
  r.apply = summarise(c.apply);
  r.acknowledge = summarise(c.acknowledge);
  return r;
}

std::optional<StalenessRecord> record_of(const StalenessTotals& s, std::optional<Nanos> resolution) {
  if (s.started == 0) return std::nullopt;
  StalenessRecord r;
  r.started = s.started;
  r.visible = s.visible;
  r.not_visible = s.not_visible;
  r.unknown = s.unknown;
  r.open = s.open();
  if (resolution) r.resolution = seconds(*resolution);
  r.since_acknowledged = summarise(s.since_acknowledged);
  return r;
}

std::map<std::string, OperationRecord> operations_of(const Totals& totals, std::optional<PhaseIndex> phase) {
  std::map<std::string, OperationRecord> operations;
  const auto duration = totals.duration(phase);
  for (size_t k = 0; k < kOpKindCount; ++k) {
    const auto kind = static_cast<OpKind>(k);
    std::map<std::string, OperationRecord> streams;
    for (StreamIndex s = 0; s < totals.layout.streams.size(); ++s) {
      const auto& spec = totals.layout.streams[s];
      if (spec.kind == kind) streams[spec.name] = record_of(totals.stream(s, phase), duration);
    }
    if (streams.empty()) continue;
    auto& operation = operations[std::string(to_string(kind))];
    operation = record_of(totals.kind(kind, phase), duration);
    operation.streams = std::move(streams);
  }
  return operations;
}

}  // namespace

LatencyRecord summarise(const HistogramSnapshot& histogram) {
  LatencyRecord r;
  r.count = histogram.count();
  if (histogram.empty()) return r;
  r.mean = seconds(histogram.mean());
  r.min = seconds(histogram.min());
  r.p50 = percentile_seconds(histogram, 0.5);
  r.p90 = percentile_seconds(histogram, 0.9);
  r.p95 = percentile_seconds(histogram, 0.95);
  r.p99 = percentile_seconds(histogram, 0.99);
  r.p999 = percentile_seconds(histogram, 0.999);
  r.max = seconds(histogram.max());
  return r;
}

SloRecord to_record(const SloResult& result) {
  SloRecord r;
  r.slo = result.spec.text;
  r.description = describe(result.spec);
  r.status = std::string(to_string(result.status));
  switch (result.spec.statistic) {
    case SloStatistic::errors:
    case SloStatistic::dropped:
    case SloStatistic::conflicts:
    case SloStatistic::throttled:
      r.unit = "share";
      break;
    case SloStatistic::rate:
      r.unit = "perSecond";
      break;
    case SloStatistic::retries:
      r.unit = "perSuccess";
      break;
    case SloStatistic::count:
      r.unit = "count";
      break;
    default:
      r.unit = "seconds";
  }
  r.target = result.spec.threshold;
  r.actual = result.actual;
  r.samples = result.samples;
  r.phase = result.spec.phase;
  r.detail = result.detail;
  return r;
}

std::optional<double> percentile_seconds(const HistogramSnapshot& histogram, double q) {
  const auto value = histogram.percentile_if_enough(q);
  return value ? std::optional{seconds(*value)} : std::nullopt;
}

LedgerRecord ledger_of(const Totals& totals) {
  const auto all = totals.everything();
  return {totals.ledger_holds(), all.asked,   all.sent,        all.acknowledged, all.failed,
          all.timed_out,         all.dropped, all.in_flight(), all.not_started()};
}

void fill_measurements(RunRecord& record, Totals& totals, const std::vector<PhaseTiming>& timings, WallTime start) {
  for (size_t p = 0; p < totals.phases.size(); ++p) {
    totals.phases[p].duration = p < timings.size() ? from_seconds(timings[p].duration_seconds) : Nanos{0};
  }

  record.phases.clear();
  record.run.recorded_seconds = 0;
  for (PhaseIndex p = 0; p < totals.phases.size(); ++p) {
    const auto& from = totals.phases[p];
    auto& to = record.phases.emplace_back();
    to.name = from.name;
    to.recorded = from.record;
    if (p < timings.size()) {
      to.start_seconds = timings[p].start_seconds;
      to.duration_seconds = timings[p].duration_seconds;
      to.note = timings[p].note;
    } else {
      to.note = "did not run";
    }
    if (to.recorded) record.run.recorded_seconds += to.duration_seconds;
    to.operations = operations_of(totals, p);
    to.convergence = record_of(from.convergence);
    to.staleness = record_of(from.staleness, totals.layout.staleness_resolution);
    to.schedule_lag = summarise(from.schedule_lag);
  }
  record.operations = operations_of(totals, std::nullopt);
  record.convergence = record_of(totals.convergence());
  record.staleness = record_of(totals.staleness(), totals.layout.staleness_resolution);

  record.ledger = ledger_of(totals);

  record.errors.clear();
  const auto run_start = unix_seconds(start);
  const auto since_start = [&](int64_t at) { return static_cast<double>(std::max<int64_t>(0, at - run_start)); };
  for (StreamIndex s = 0; s < totals.layout.streams.size(); ++s) {
    OpTotals sum;
    for (const auto& phase : totals.phases) sum.add(phase.streams[s]);
    const auto& spec = totals.layout.streams[s];
    for (size_t e = 0; e < kErrorClassCount; ++e) {
      const auto& error = sum.errors[e];
      if (error.count == 0) continue;
      record.errors.push_back({std::string(to_string(spec.kind)), spec.name,
                               std::string(to_string(static_cast<ErrorClass>(e))), error.count,
                               since_start(error.first_seconds), since_start(error.last_seconds)});
    }
  }
  std::stable_sort(record.errors.begin(), record.errors.end(),
                   [](const ErrorRecord& a, const ErrorRecord& b) { return a.count > b.count; });

  record.devices.reconnects = totals.reconnect_count();
  record.devices.methods_answered = totals.methods_answered;
  record.devices.messages_received = totals.messages_received;
  record.devices.reconnect_reasons.clear();
  for (size_t i = 0; i < kReconnectReasonCount; ++i) {
    if (totals.reconnects[i] == 0) continue;
    record.devices.reconnect_reasons[std::string(to_string(static_cast<ReconnectReason>(i)))] = totals.reconnects[i];
  }

  record.generator.bytes_in = totals.bytes_in;
  record.generator.bytes_out = totals.bytes_out;
  record.generator.schedule_lag = summarise(totals.schedule_lag());
  uint64_t asked = 0;
  uint64_t dropped = 0;
  for (const auto& [name, operation] : record.operations) {
    asked += operation.asked;
    dropped += operation.dropped;
  }
  record.generator.dropped_share = asked == 0 ? 0 : static_cast<double>(dropped) / static_cast<double>(asked);
}

RunHistograms collect_histograms(const Totals& totals, const std::vector<PhaseTiming>& timings, WallTime start) {
  RunHistograms out;
  for (auto* log : {&out.operations, &out.convergence, &out.generator}) log->start = start;
  for (PhaseIndex p = 0; p < totals.phases.size(); ++p) {
    const auto& phase = totals.phases[p];
    if (!phase.record || p >= timings.size()) continue;
    const auto add = [&](HdrLog& log, std::string tag, const HistogramSnapshot& histogram) {
      if (histogram.empty()) return;
      log.lines.push_back({std::move(tag), timings[p].start_seconds, timings[p].duration_seconds, histogram});
    };
    for (StreamIndex s = 0; s < totals.layout.streams.size(); ++s) {
      const auto& name = totals.layout.streams[s].name;
      add(out.operations, name + ".intended", phase.streams[s].intended);
      add(out.operations, name + ".service", phase.streams[s].service);
    }
    add(out.operations, "queryStaleness", phase.staleness.since_acknowledged);
    add(out.convergence, "convergence.total", phase.convergence.total);
    add(out.convergence, "convergence.system", phase.convergence.system);
    add(out.convergence, "convergence.patch", phase.convergence.patch);
    add(out.convergence, "convergence.delivery", phase.convergence.delivery);
    add(out.convergence, "convergence.apply", phase.convergence.apply);
    add(out.convergence, "convergence.acknowledge", phase.convergence.acknowledge);
    add(out.generator, "scheduleLag", phase.schedule_lag);
  }
  return out;
}

}  // namespace twinstorm::metrics
