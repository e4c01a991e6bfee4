#include "metrics/abort_watch.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "sim/base/units.hpp"

namespace twinstorm::metrics {
namespace {

/// A window is cut into at most so many parts, however long it is: it is exact to one of them, and memory is bounded.
constexpr int kPartsMax = 12;
constexpr Nanos kPart = std::chrono::milliseconds{900};  // looks come about once a second

uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

bool is_about(const SloSpec& slo, const StreamSpec& stream) {
  switch (slo.metric) {
    case SloMetric::operation:
      return slo.operation == stream.kind;
    case SloMetric::stream:
      return slo.stream == stream.name;
    case SloMetric::all_streams:
      return true;
    default:
      return false;
  }
}

bool needs_latency(SloStatistic statistic) {
  return quantile_of(statistic).has_value() || statistic == SloStatistic::mean || statistic == SloStatistic::max;
}

void subtract(OpTotals& from, const OpTotals& earlier) {
  for (const auto member : {&OpTotals::asked, &OpTotals::sent, &OpTotals::acknowledged, &OpTotals::failed,
                            &OpTotals::timed_out, &OpTotals::dropped, &OpTotals::conflicts, &OpTotals::retries}) {
    from.*member = minus(from.*member, earlier.*member);
  }
  for (size_t i = 0; i < kErrorClassCount; ++i) {
    from.errors[i].count = minus(from.errors[i].count, earlier.errors[i].count);
  }
  from.intended.subtract(earlier.intended);
  from.service.subtract(earlier.service);
}

void subtract(ConvergenceTotals& from, const ConvergenceTotals& earlier) {
  for (const auto member : {&ConvergenceTotals::started, &ConvergenceTotals::applied, &ConvergenceTotals::superseded,
                            &ConvergenceTotals::lost, &ConvergenceTotals::unconverged, &ConvergenceTotals::failed,
                            &ConvergenceTotals::apply_failed}) {
    from.*member = minus(from.*member, earlier.*member);
  }
  from.total.subtract(earlier.total);
  from.system.subtract(earlier.system);
}

void subtract(StalenessTotals& from, const StalenessTotals& earlier) {
  for (const auto member : {&StalenessTotals::started, &StalenessTotals::visible, &StalenessTotals::not_visible,
                            &StalenessTotals::unknown}) {
    from.*member = minus(from.*member, earlier.*member);
  }
  from.since_acknowledged.subtract(earlier.since_acknowledged);
}

}  // namespace

AbortWatch::AbortWatch(RecorderLayout layout, const std::vector<SloSpec>& slos,
                       std::vector<const ShardRecorder*> shards, MonoTime start)
    : layout_{std::move(layout)}, shards_{std::move(shards)}, start_{start} {
  for (const auto& slo : slos) {
    if (!slo.abort) continue;
    Watched watched{slo, {}, {}};
    for (StreamIndex i = 0; i < layout_.streams.size(); ++i) {
      if (is_about(slo, layout_.streams[i])) watched.streams.push_back(i);
    }
    watched_.push_back(std::move(watched));
  }
}

AbortWatch::Reading AbortWatch::read(const Watched& watched, PhaseIndex phase, MonoTime now) const {
  Reading reading;
  reading.at = now;
  const bool latency = needs_latency(watched.slo.statistic);
  for (const auto* shard : shards_) {
    for (const auto stream : watched.streams) {
      const auto& cell = shard->cell(stream, phase);
      auto& to = reading.operations;
      // Ends before beginnings, so that nothing seems to have ended that hasn't begun.
      to.acknowledged += cell.acknowledged.get();
      to.failed += cell.failed.get();
      to.timed_out += cell.timed_out.get();
      to.dropped += cell.dropped.get();
      to.sent += cell.sent.get();
      to.asked += cell.asked.get();
      to.conflicts += cell.conflicts.get();
      to.retries += cell.retries.get();
      for (size_t i = 0; i < kErrorClassCount; ++i) to.errors[i].count += cell.errors[i].count.get();
      if (latency && watched.slo.service) cell.service.add_to(to.service);
      if (latency && !watched.slo.service) cell.intended.add_to(to.intended);
    }
    const auto& from = shard->phase(phase);
    switch (watched.slo.metric) {
      case SloMetric::convergence:
      case SloMetric::convergence_system: {
        auto& to = reading.convergence;
        const auto ended = [&](ConvergenceOutcome outcome) { return from.ended[static_cast<size_t>(outcome)].get(); };
        to.applied += ended(ConvergenceOutcome::applied);
        to.superseded += ended(ConvergenceOutcome::superseded);
        to.lost += ended(ConvergenceOutcome::lost);
        to.unconverged += ended(ConvergenceOutcome::unconverged);
        to.failed += ended(ConvergenceOutcome::failed);
        to.apply_failed += ended(ConvergenceOutcome::apply_failed);
        to.started += from.started.get();
        if (latency) from.total.add_to(to.total);
        if (latency) from.system.add_to(to.system);
        break;
      }
      case SloMetric::query_staleness: {
        auto& to = reading.staleness;
        const auto ended = [&](StalenessOutcome outcome) {
          return from.staleness_ended[static_cast<size_t>(outcome)].get();
        };
        to.visible += ended(StalenessOutcome::visible);
        to.not_visible += ended(StalenessOutcome::not_visible);
        to.unknown += ended(StalenessOutcome::unknown);
        to.started += from.staleness_started.get();
        if (latency) from.staleness.add_to(to.since_acknowledged);
        break;
      }
      case SloMetric::schedule_lag:
        from.schedule_lag.add_to(reading.schedule_lag);
        break;
      default:
        break;
    }
  }
  return reading;
}

std::optional<AbortWatch::Finding> AbortWatch::judge_window(const Watched& watched, const Reading& now,
                                                            PhaseIndex phase) const {
  const auto& slo = watched.slo;
  const auto& from = watched.readings.front();
  // A run of one phase with what the window holds. The sum of the streams stands in the first of them.
  Totals window;
  window.layout.streams = layout_.streams;
  window.layout.phases = {layout_.phases[phase]};
  PhaseTotals part;
  part.name = layout_.phases[phase].name;
  part.duration = now.at - from.at;
  part.streams.resize(layout_.streams.size());
  if (!watched.streams.empty()) {
    auto& sum = part.streams[watched.streams.front()];
    sum = now.operations;
    subtract(sum, from.operations);
    // Shares are of what ended in the window: some of it was sent before, and some of what was sent is still open.
    sum.sent = sum.acknowledged + sum.failed + sum.timed_out;
  }
  part.convergence = now.convergence;
  subtract(part.convergence, from.convergence);
  part.convergence.started = part.convergence.ended();
  part.staleness = now.staleness;
  subtract(part.staleness, from.staleness);
  part.schedule_lag = now.schedule_lag;
  part.schedule_lag.subtract(from.schedule_lag);
  window.phases.push_back(std::move(part));

  const auto result = judge(slo, window);
  const bool enough = slo.statistic == SloStatistic::rate || result.samples >= slo.abort->samples;
  if (result.status != SloStatus::failed || !enough || !result.actual) return std::nullopt;
  Finding finding{slo, *result.actual, result.samples, to_seconds(now.at - start_), layout_.phases[phase].name, {}};
  finding.text = fmt::format("\"{}\": {} over {:.1f} s, at second {:.1f} in phase \"{}\"", slo.text,
                             format_slo_value(slo.statistic, finding.actual), to_seconds(now.at - from.at),
                             finding.at_seconds, finding.phase);
  return finding;
}

std::optional<AbortWatch::Finding> AbortWatch::look(MonoTime now, PhaseIndex phase, MonoTime began) {
  const bool fresh = phase_ != phase;
  phase_ = phase;
  std::optional<Finding> finding;
  for (auto& watched : watched_) {
    const auto& rule = *watched.slo.abort;
    auto& readings = watched.readings;
    const bool judged =
        watched.slo.phase.empty() ? layout_.phases[phase].record : watched.slo.phase == layout_.phases[phase].name;
    if (fresh) readings.clear();
    if (!judged) continue;
    if (readings.empty()) {
      // The phase's own counts are all zero when it begins.
      Reading zero;
      zero.at = began;
      readings.push_back(std::move(zero));
    }
    auto present = read(watched, phase, now);
    // The window begins at the youngest reading that is at least `over` old.
    while (readings.size() > 1 && now - readings[1].at >= rule.over) readings.pop_front();
    if (!finding && now - readings.front().at >= rule.over && now - began >= rule.after) {
      finding = judge_window(watched, present, phase);
    }
    if (now - readings.back().at >= std::max(kPart, rule.over / kPartsMax)) readings.push_back(std::move(present));
  }
  return finding;
}

Result<void> check_abort(const SloSpec& spec) {
  if (spec.statistic != SloStatistic::count) return {};
  return make_error(
      ErrorCode::invalid_argument,
      fmt::format("\"{}\": a count is not over before the run is, so it cannot end it (use rate)", spec.text));
}

}  // namespace twinstorm::metrics
