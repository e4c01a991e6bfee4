#include "metrics/export/prometheus_collector.hpp"

#include <array>
#include <utility>

#include <prometheus/metric_family.h>

#include "metrics/aggregator.hpp"

namespace twinstorm::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

ClientMetric gauge(Labels labels, double value) {
  ClientMetric m;
  m.label = std::move(labels);
  m.gauge.value = value;
  return m;
}
ClientMetric counter(Labels labels, double value) {
  ClientMetric m;
  m.label = std::move(labels);
  m.counter.value = value;
  return m;
}
ClientMetric counter(Labels labels, uint64_t value) { return counter(std::move(labels), static_cast<double>(value)); }

ClientMetric histogram(Labels labels, const HistogramSnapshot& h) {
  ClientMetric m;
  m.label = std::move(labels);
  m.histogram.sample_count = h.count();
  m.histogram.sample_sum = to_seconds(h.sum());
  // A bucket of ours counts for a bound if all of it lies at or below.
  const auto& bounds = classic_buckets_seconds();
  uint64_t seen = 0;
  size_t next = 0;
  h.for_each_bucket([&](uint64_t, uint64_t high_micros, uint64_t count) {
    for (; next < bounds.size() && high_micros > layout::to_micros(from_seconds(bounds[next])); ++next) {
      m.histogram.bucket.push_back({seen, bounds[next]});
    }
    seen += count;
  });
  for (; next < bounds.size(); ++next) m.histogram.bucket.push_back({seen, bounds[next]});
  return m;
}

/// Families in the order they are added, each named once.
class Families {
 public:
  MetricFamily& add(std::string_view name, MetricType type, std::string_view help) {
    families_.push_back({std::string(name), std::string(help), type, {}});
    return families_.back();
  }
  void gauge(std::string_view name, std::string_view help, std::vector<ClientMetric> values) {
    add(name, MetricType::Gauge, help).metric = std::move(values);
  }
  void counter(std::string_view name, std::string_view help, std::vector<ClientMetric> values) {
    add(name, MetricType::Counter, help).metric = std::move(values);
  }
  void histogram(std::string_view name, std::string_view help, std::vector<ClientMetric> values) {
    add(name, MetricType::Histogram, help).metric = std::move(values);
  }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  std::vector<MetricFamily> families_;
};

std::string text(std::string_view view) { return std::string(view); }

/// One stream over all shards, in one phase or over all.
struct StreamSums {
  uint64_t asked = 0, sent = 0;
  std::array<uint64_t, kOpOutcomeCount> outcomes{};
  std::array<uint64_t, kErrorClassCount> errors{};
  uint64_t conflicts = 0, retries = 0, pages = 0, rows = 0;
  HistogramSnapshot intended, service;

  uint64_t& outcome(OpOutcome o) { return outcomes[static_cast<size_t>(o)]; }
  void add(const ShardRecorder::Cell& cell) {
    // Ends before beginnings, so that nothing seems to have ended that hasn't begun.
    outcome(OpOutcome::acknowledged) += cell.acknowledged.get();
    outcome(OpOutcome::failed) += cell.failed.get();
    outcome(OpOutcome::timed_out) += cell.timed_out.get();
    outcome(OpOutcome::dropped) += cell.dropped.get();
    sent += cell.sent.get();
    asked += cell.asked.get();
    for (size_t e = 0; e < kErrorClassCount; ++e) errors[e] += cell.errors[e].count.get();
    conflicts += cell.conflicts.get();
    retries += cell.retries.get();
    pages += cell.pages.get();
    rows += cell.rows.get();
    cell.intended.add_to(intended);
    cell.service.add_to(service);
  }
  /// All but the histograms.
  void add_counts(const StreamSums& other) {
    asked += other.asked;
    sent += other.sent;
    for (size_t o = 0; o < kOpOutcomeCount; ++o) outcomes[o] += other.outcomes[o];
    for (size_t e = 0; e < kErrorClassCount; ++e) errors[e] += other.errors[e];
    conflicts += other.conflicts;
    retries += other.retries;
    pages += other.pages;
    rows += other.rows;
  }
};

Labels with(Labels labels, std::string name, std::string_view value) {
  labels.push_back({std::move(name), text(value)});
  return labels;
}

}  // namespace

const std::vector<double>& classic_buckets_seconds() {
  static const std::vector<double> kBounds{0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
                                           0.1,     0.2,    0.5,    1,      2,     5,     10,    20,   60};
  return kBounds;
}

PrometheusCollector::PrometheusCollector(ExportInfo info, RecorderLayout layout,
                                         std::vector<const ShardRecorder*> shards)
    : info_{std::move(info)}, layout_{std::move(layout)}, shards_{std::move(shards)} {
  live_.target_rates.resize(layout_.streams.size());
}

void PrometheusCollector::set_phase(PhaseIndex current) {
  const std::lock_guard lock{mutex_};
  live_.phase = current;
}
void PrometheusCollector::set_target_rate(StreamIndex stream, double per_second) {
  const std::lock_guard lock{mutex_};
  live_.target_rates.at(stream) = per_second;
}
void PrometheusCollector::set_processes(std::vector<ExportedProcess> processes) {
  const std::lock_guard lock{mutex_};
  live_.processes = std::move(processes);
}
void PrometheusCollector::set_slo(const SloSpec& spec, SloStatus status) {
  const std::lock_guard lock{mutex_};
  live_.slos[spec.text] = status;
}

void PrometheusCollector::set_verdict(VerdictStatus status) {
  const std::lock_guard lock{mutex_};
  live_.verdict = status;
}

std::vector<MetricFamily> PrometheusCollector::Collect() const {
  Live live;
  {
    const std::lock_guard lock{mutex_};
    live = live_;
  }
  Families out;

  out.gauge(
      "twinstorm_run_info", "Always 1; its labels name the run. Join the other metrics with it on instance.",
      {gauge(
          {{"run", info_.run_id}, {"scenario", info_.scenario}, {"version", info_.version}, {"target", info_.target}},
          1)});
  out.gauge("twinstorm_build_info", "Always 1; its label is the version of the tool.",
            {gauge({{"version", info_.version}}, 1)});
  // Series of a phase appear when it begins, and stay.
  const PhaseIndex begun = live.phase ? *live.phase + 1 : 0;
  std::vector<ClientMetric> phases;
  for (PhaseIndex p = 0; p < layout_.phases.size(); ++p) {
    phases.push_back(gauge({{"phase", layout_.phases[p].name}}, live.phase == p ? 1 : 0));
  }
  out.gauge("twinstorm_phase", "1 for the phase that is running, 0 for the others.", std::move(phases));

  // --- operations
  std::vector<ClientMetric> asked, sent, results, errors, in_flight, durations, services, targets;
  std::vector<ClientMetric> conflicts, retries, pages, rows;
  for (StreamIndex s = 0; s < layout_.streams.size(); ++s) {
    const auto& spec = layout_.streams[s];
    const Labels labels{
        {"op", text(to_string(spec.kind))}, {"stream", spec.name}, {"owner", spec.owner}, {"protocol", spec.protocol}};
    StreamSums all;
    for (PhaseIndex p = 0; p < begun; ++p) {
      StreamSums sums;
      for (const auto* shard : shards_) sums.add(shard->cell(s, p));
      all.add_counts(sums);
      const auto in_phase = with(labels, "phase", layout_.phases[p].name);
      asked.push_back(counter(in_phase, sums.asked));
      sent.push_back(counter(in_phase, sums.sent));
      for (size_t o = 0; o < kOpOutcomeCount; ++o) {
        results.push_back(counter(with(in_phase, "result", to_string(static_cast<OpOutcome>(o))), sums.outcomes[o]));
      }
      durations.push_back(histogram(in_phase, sums.intended));
      services.push_back(histogram(in_phase, sums.service));
    }
    for (size_t e = 0; e < kErrorClassCount; ++e) {
      errors.push_back(counter(with(labels, "reason", to_string(static_cast<ErrorClass>(e))), all.errors[e]));
    }
    const auto ended =
        all.outcome(OpOutcome::acknowledged) + all.outcome(OpOutcome::failed) + all.outcome(OpOutcome::timed_out);
    in_flight.push_back(gauge(labels, all.sent > ended ? static_cast<double>(all.sent - ended) : 0));
    conflicts.push_back(counter(labels, all.conflicts));
    retries.push_back(counter(labels, all.retries));
    if (spec.kind == OpKind::query) {
      pages.push_back(counter(labels, all.pages));
      rows.push_back(counter(labels, all.rows));
    }
    targets.push_back(gauge({{"stream", spec.name}}, live.target_rates[s]));
  }
  out.gauge("twinstorm_target_rate", "Operations per second the load shape asks for now.", std::move(targets));
  out.counter("twinstorm_ops_asked_total", "Operations that came due.", std::move(asked));
  out.counter("twinstorm_ops_sent_total", "Operations sent to the hub.", std::move(sent));
  out.counter(
      "twinstorm_ops_total",
      "Operations that ended. acknowledged = the hub confirmed; failed = refused or broken; timedOut = no answer in "
      "time; dropped = due but never sent.",
      std::move(results));
  out.counter("twinstorm_op_errors_total", "Operations that failed, timed out or were dropped, by reason.",
              std::move(errors));
  out.gauge("twinstorm_ops_in_flight", "Operations sent and not ended.", std::move(in_flight));
  out.histogram(
      "twinstorm_op_duration_seconds",
      "Time from when an operation was due to its acknowledgement, acknowledged ones only. Includes waiting to be "
      "sent, so a slow hub cannot hide behind a slow generator.",
      std::move(durations));
  out.histogram("twinstorm_op_service_seconds",
                "Time from sending an operation to its acknowledgement, acknowledged ones only.", std::move(services));

  out.counter("twinstorm_op_conflicts_total",
              "Answers 412: the twin had changed since its ETag was read. Retried or not.", std::move(conflicts));
  out.counter("twinstorm_op_retries_total", "Changes sent once more within the same operation.", std::move(retries));
  out.counter("twinstorm_query_pages_total", "Pages of query results answered.", std::move(pages));
  out.counter("twinstorm_query_rows_total", "Rows in the pages answered.", std::move(rows));

  // --- query staleness
  StalenessTotals stale;
  for (const auto* shard : shards_) {
    for (PhaseIndex p = 0; p < layout_.phases.size(); ++p) {
      const auto& phase = shard->phase(p);
      const auto ended_as = [&](StalenessOutcome o) { return phase.staleness_ended[static_cast<size_t>(o)].get(); };
      stale.visible += ended_as(StalenessOutcome::visible);
      stale.not_visible += ended_as(StalenessOutcome::not_visible);
      stale.unknown += ended_as(StalenessOutcome::unknown);
      stale.started += phase.staleness_started.get();
      phase.staleness.add_to(stale.since_acknowledged);
    }
  }
  out.histogram("twinstorm_query_staleness_seconds",
                "Time from the acknowledgement of a write until a query showed it, exact to the interval of the looks.",
                {histogram({}, stale.since_acknowledged)});
  out.counter(
      "twinstorm_query_staleness_writes_total",
      "Writes looked for in queries, by how that ended: visible, notVisible before the time-out, unknown.",
      {counter({{"outcome", "visible"}}, stale.visible), counter({{"outcome", "notVisible"}}, stale.not_visible),
       counter({{"outcome", "unknown"}}, stale.unknown)});
  out.gauge("twinstorm_query_staleness_open", "Writes looked for in queries now.",
            {gauge({}, stale.started > stale.ended() ? static_cast<double>(stale.started - stale.ended()) : 0)});

  // --- convergence
  uint64_t started = 0, ended = 0, duplicate = 0, reordered = 0;
  HistogramSnapshot system, patch, delivery, apply, acknowledge;
  std::vector<ClientMetric> updates, totals, lags;
  for (PhaseIndex p = 0; p < begun; ++p) {
    std::array<uint64_t, kConvergenceOutcomeCount> outcomes{};
    HistogramSnapshot total, lag;
    for (const auto* shard : shards_) {
      const auto& phase = shard->phase(p);
      for (size_t o = 0; o < kConvergenceOutcomeCount; ++o) {
        const auto n = phase.ended[o].get();
        outcomes[o] += n;
        ended += n;
      }
      started += phase.started.get();
      duplicate += phase.duplicate.get();
      reordered += phase.reordered.get();
      phase.total.add_to(total);
      phase.system.add_to(system);
      phase.patch.add_to(patch);
      phase.delivery.add_to(delivery);
      phase.apply.add_to(apply);
      phase.acknowledge.add_to(acknowledge);
      phase.schedule_lag.add_to(lag);
    }
    const Labels in_phase{{"phase", layout_.phases[p].name}};
    for (size_t o = 0; o < kConvergenceOutcomeCount; ++o) {
      updates.push_back(counter(with(in_phase, "outcome", to_string(static_cast<ConvergenceOutcome>(o))), outcomes[o]));
    }
    totals.push_back(histogram(in_phase, total));
    lags.push_back(histogram(in_phase, lag));
  }
  out.counter("twinstorm_twin_updates_started_total", "Desired-property updates that came due.",
              {counter({}, started)});
  out.counter(
      "twinstorm_twin_updates_total",
      "Desired-property updates that ended. applied = notified, applied, reported and acknowledged; superseded = the "
      "device learnt this or a newer version by reading its twin; lost = accepted by the hub but never delivered; "
      "unconverged = not done before the deadline; failed = the patch was not accepted; applyFailed = delivered, and "
      "the device's simulated work failed as the scenario asked.",
      std::move(updates));
  out.gauge("twinstorm_converging_updates", "Desired-property updates started and not ended.",
            {gauge({}, started > ended ? static_cast<double>(started - ended) : 0)});
  out.counter(
      "twinstorm_twin_notifications_unexpected_total",
      "Desired-property notifications with a version the device had already (duplicate) or had passed (reordered).",
      {counter({{"reason", "duplicate"}}, duplicate), counter({{"reason", "reordered"}}, reordered)});
  out.histogram(
      "twinstorm_convergence_seconds",
      "Time from when an update was due until its device held it: to the acknowledged report (applied) or to the "
      "read that showed it (superseded).",
      std::move(totals));
  out.histogram(
      "twinstorm_convergence_leg_seconds",
      "Parts of the convergence of applied updates. system = all but the simulated work; patch = back end's request; "
      "delivery = patch sent to device notified; apply = simulated work; acknowledge = report sent to acknowledged.",
      {histogram({{"leg", "system"}}, system), histogram({{"leg", "patch"}}, patch),
       histogram({{"leg", "delivery"}}, delivery), histogram({{"leg", "apply"}}, apply),
       histogram({{"leg", "acknowledge"}}, acknowledge)});

  // --- devices and the generator itself
  DeviceCounts devices;
  std::array<uint64_t, kReconnectReasonCount> reconnects{};
  uint64_t bytes_in = 0, bytes_out = 0;
  std::vector<ClientMetric> busy, turns;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const auto now = shards_[i]->devices();
    devices.offline += now.offline;
    devices.connecting += now.connecting;
    devices.online += now.online;
    devices.waiting += now.waiting;
    const auto& health = shards_[i]->health();
    for (size_t r = 0; r < kReconnectReasonCount; ++r) reconnects[r] += health.reconnects[r].get();
    bytes_in += health.bytes_in.get();
    bytes_out += health.bytes_out.get();
    const Labels shard{{"worker", i < info_.worker_of_shard.size() ? info_.worker_of_shard[i] : "run"},
                       {"shard", std::to_string(i)}};
    busy.push_back(counter(shard, static_cast<double>(health.busy_ns.get()) * 1e-9));
    turns.push_back(counter(shard, health.turns.get()));
  }
  out.gauge("twinstorm_devices",
            "Devices by state. online = connected and subscribed; waiting = backing off before the next attempt.",
            {gauge({{"state", "offline"}}, devices.offline), gauge({{"state", "connecting"}}, devices.connecting),
             gauge({{"state", "online"}}, devices.online), gauge({{"state", "waiting"}}, devices.waiting)});
  out.gauge("twinstorm_devices_target", "Devices the scenario asks for.",
            {gauge({}, static_cast<double>(info_.devices_target))});
  std::vector<ClientMetric> reasons;
  for (size_t r = 0; r < kReconnectReasonCount; ++r) {
    reasons.push_back(counter({{"reason", text(to_string(static_cast<ReconnectReason>(r)))}}, reconnects[r]));
  }
  out.counter("twinstorm_reconnects_total", "Connections lost and made again, by why they were lost.",
              std::move(reasons));
  out.histogram(
      "twinstorm_schedule_lag_seconds",
      "How late the generator started operations. Large values mean it could not keep up, and the run is invalid.",
      std::move(lags));
  out.counter("twinstorm_worker_busy_seconds_total", "Time a shard's loop worked rather than waited.", std::move(busy));
  out.counter("twinstorm_worker_loop_turns_total", "Turns of a shard's event loop.", std::move(turns));
  out.counter("twinstorm_worker_network_bytes_total", "Bytes of payload and protocol read (in) and written (out).",
              {counter({{"direction", "in"}}, bytes_in), counter({{"direction", "out"}}, bytes_out)});
  std::vector<ClientMetric> cpu, resident;
  for (const auto& process : live.processes) {
    cpu.push_back(counter({{"worker", process.name}}, process.cpu_seconds));
    resident.push_back(gauge({{"worker", process.name}}, static_cast<double>(process.resident_bytes)));
  }
  out.counter("twinstorm_worker_cpu_seconds_total",
              "CPU time of each process of the generator: run, and the workers that it started.", std::move(cpu));
  out.gauge("twinstorm_worker_resident_bytes",
            "Resident memory of each process of the generator; pages that they share count in each.",
            std::move(resident));

  std::vector<ClientMetric> slos;
  for (const auto& [slo, status] : live.slos) {
    for (const auto each : {SloStatus::passed, SloStatus::failed, SloStatus::undecided}) {
      slos.push_back(gauge({{"slo", slo}, {"state", text(to_string(each))}}, status == each ? 1 : 0));
    }
  }
  out.gauge("twinstorm_slo_state", "1 for the present state of each objective: passed, failed or undecided.",
            std::move(slos));
  std::vector<ClientMetric> verdicts;
  for (const auto each :
       {VerdictStatus::passed, VerdictStatus::failed, VerdictStatus::invalid, VerdictStatus::aborted}) {
    verdicts.push_back(gauge({{"status", text(to_string(each))}}, live.verdict == each ? 1 : 0));
  }
  out.gauge("twinstorm_run_verdict",
            "1 for the verdict of the run: passed, failed, invalid (its figures cannot be believed) or aborted. All 0 "
            "until the run is over.",
            std::move(verdicts));
  return out.take();
}

}  // namespace twinstorm::metrics
