#include "metrics/aggregator.hpp"

#include <algorithm>

#include "sim/base/assert.hpp"

namespace twinstorm::metrics {
namespace {

IntervalLatency interval_latency(const HistogramSnapshot& h) {
  return {h.count(), h.percentile(0.5), h.percentile(0.9), h.percentile(0.99), h.max()};
}

/// `current` minus `before`, and `before` becomes `current`.
IntervalLatency step(HistogramSnapshot& before, HistogramSnapshot& current) {
  HistogramSnapshot difference = current;
  difference.subtract(before);
  before = std::move(current);
  return interval_latency(difference);
}

void add_into(HistogramSnapshot& sum, const LatencyHistogram& h) { h.add_to(sum); }

size_t index(ConvergenceOutcome outcome) { return static_cast<size_t>(outcome); }
size_t index(StalenessOutcome outcome) { return static_cast<size_t>(outcome); }
size_t index(ErrorClass error) { return static_cast<size_t>(error); }

/// Counters of different words are read one after the other while the writer goes on: never let a difference wrap.
uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

// --- totals ----------------------------------------------------------------------------------------------

void OpTotals::add(const OpTotals& other) {
  asked += other.asked;
  sent += other.sent;
  acknowledged += other.acknowledged;
  failed += other.failed;
  timed_out += other.timed_out;
  dropped += other.dropped;
  for (size_t i = 0; i < errors.size(); ++i) {
    const auto& from = other.errors[i];
    auto& to = errors[i];
    if (from.count == 0) continue;
    to.first_seconds = to.count == 0 ? from.first_seconds : std::min(to.first_seconds, from.first_seconds);
    to.last_seconds = to.count == 0 ? from.last_seconds : std::max(to.last_seconds, from.last_seconds);
    to.count += from.count;
  }
  unsuccessful_max = std::max(unsuccessful_max, other.unsuccessful_max);
  intended.add(other.intended);
  service.add(other.service);
  conflicts += other.conflicts;
  retries += other.retries;
  pages += other.pages;
  rows += other.rows;
  query_pages += other.query_pages;
  query_rows += other.query_rows;
  pages_max = std::max(pages_max, other.pages_max);
  rows_max = std::max(rows_max, other.rows_max);
}

void StalenessTotals::add(const StalenessTotals& other) {
  started += other.started;
  visible += other.visible;
  not_visible += other.not_visible;
  unknown += other.unknown;
  since_acknowledged.add(other.since_acknowledged);
}

bool OpTotals::ledger_holds() const {
  return asked >= sent + dropped && sent >= acknowledged + failed + timed_out && intended.count() == acknowledged &&
         service.count() == acknowledged;
}

void ConvergenceTotals::add(const ConvergenceTotals& other) {
  started += other.started;
  applied += other.applied;
  superseded += other.superseded;
  lost += other.lost;
  unconverged += other.unconverged;
  failed += other.failed;
  apply_failed += other.apply_failed;
  duplicate += other.duplicate;
  reordered += other.reordered;
  backlog_max = std::max(backlog_max, other.backlog_max);
  total.add(other.total);
  system.add(other.system);
  patch.add(other.patch);
  delivery.add(other.delivery);
  apply.add(other.apply);
  acknowledge.add(other.acknowledge);
}

namespace {

template <class Fn>
void for_phases(const Totals& totals, std::optional<PhaseIndex> only, Fn&& fn) {
  if (only) {
    if (*only < totals.phases.size()) fn(totals.phases[*only]);
    return;
  }
  for (const auto& phase : totals.phases) {
    if (phase.record) fn(phase);
  }
}

}  // namespace

OpTotals Totals::stream(StreamIndex stream, std::optional<PhaseIndex> phase) const {
  OpTotals sum;
  for_phases(*this, phase, [&](const PhaseTotals& p) { sum.add(p.streams[stream]); });
  return sum;
}

OpTotals Totals::kind(OpKind kind, std::optional<PhaseIndex> phase) const {
  OpTotals sum;
  for_phases(*this, phase, [&](const PhaseTotals& p) {
    for (size_t s = 0; s < p.streams.size(); ++s) {
      if (layout.streams[s].kind == kind) sum.add(p.streams[s]);
    }
  });
  return sum;
}

OpTotals Totals::all_streams(std::optional<PhaseIndex> phase) const {
  OpTotals sum;
  for_phases(*this, phase, [&](const PhaseTotals& p) {
    for (const auto& stream : p.streams) sum.add(stream);
  });
  return sum;
}

StalenessTotals Totals::staleness(std::optional<PhaseIndex> phase) const {
  StalenessTotals sum;
  for_phases(*this, phase, [&](const PhaseTotals& p) { sum.add(p.staleness); });
  return sum;
}

ConvergenceTotals Totals::convergence(std::optional<PhaseIndex> phase) const {
  ConvergenceTotals sum;
  for_phases(*this, phase, [&](const PhaseTotals& p) { sum.add(p.convergence); });
  if (!phase) sum.backlog_max = backlog_max;
  return sum;
}

HistogramSnapshot Totals::schedule_lag(std::optional<PhaseIndex> phase) const {
  HistogramSnapshot sum;
  for_phases(*this, phase, [&](const PhaseTotals& p) { sum.add(p.schedule_lag); });
  return sum;
}

Nanos Totals::duration(std::optional<PhaseIndex> phase) const {
  Nanos sum{0};
  for_phases(*this, phase, [&](const PhaseTotals& p) { sum += p.duration; });
  return sum;
}

uint64_t Totals::reconnect_count() const {
  uint64_t sum = 0;
  for (const auto n : reconnects) sum += n;
  return sum;
}

OpTotals Totals::everything() const {
  OpTotals sum;
  for (const auto& phase : phases) {
    for (const auto& stream : phase.streams) sum.add(stream);
  }
  return sum;
}

bool Totals::ledger_holds() const {
  return std::all_of(phases.begin(), phases.end(), [](const PhaseTotals& phase) {
    return phase.convergence.ledger_holds() && phase.staleness.ledger_holds() &&
           std::all_of(phase.streams.begin(), phase.streams.end(), [](const OpTotals& s) { return s.ledger_holds(); });
  });
}

// --- aggregator ------------------------------------------------------------------------------------------

Aggregator::Aggregator(RecorderLayout layout, std::vector<const ShardRecorder*> shards, MonoTime start)
    : layout_{std::move(layout)},
      shards_{std::move(shards)},
      start_{start},
      last_{start},
      backlog_max_(layout_.phases.size()) {
  before_.streams.resize(layout_.streams.size());
  before_.busy_ns.resize(shards_.size());
}

Aggregator::State Aggregator::read() const {
  State now;
  now.streams.resize(layout_.streams.size());
  now.busy_ns.reserve(shards_.size());
  for (const auto* shard : shards_) {
    for (PhaseIndex p = 0; p < layout_.phases.size(); ++p) {
      for (StreamIndex s = 0; s < layout_.streams.size(); ++s) {
        const auto& cell = shard->cell(s, p);
        auto& stream = now.streams[s];
        // Ends before beginnings, so that nothing seems to have ended that hasn't begun.
        stream.acknowledged += cell.acknowledged.get();
        stream.failed += cell.failed.get();
        stream.timed_out += cell.timed_out.get();
        stream.dropped += cell.dropped.get();
        stream.sent += cell.sent.get();
        stream.asked += cell.asked.get();
        stream.conflicts += cell.conflicts.get();
        stream.retries += cell.retries.get();
        stream.pages += cell.pages.get();
        stream.rows += cell.rows.get();
        stream.throttled += cell.errors[index(ErrorClass::throttled)].count.get();
        add_into(stream.intended, cell.intended);
        add_into(stream.service, cell.service);
        for (size_t e = 0; e < kErrorClassCount; ++e) now.errors[e] += cell.errors[e].count.get();
      }
      const auto& phase = shard->phase(p);
      for (size_t o = 0; o < kConvergenceOutcomeCount; ++o) now.convergence.ended[o] += phase.ended[o].get();
      now.convergence.started += phase.started.get();
      now.convergence.duplicate += phase.duplicate.get();
      now.convergence.reordered += phase.reordered.get();
      add_into(now.convergence.total, phase.total);
      add_into(now.convergence.system, phase.system);
      for (size_t o = 0; o < kStalenessOutcomeCount; ++o) now.staleness.ended[o] += phase.staleness_ended[o].get();
      now.staleness.started += phase.staleness_started.get();
      add_into(now.staleness.since_acknowledged, phase.staleness);
      add_into(now.schedule_lag, phase.schedule_lag);
    }
    const auto& health = shard->health();
    for (const auto& reason : health.reconnects) now.reconnects += reason.get();
    now.bytes_in += health.bytes_in.get();
    now.bytes_out += health.bytes_out.get();
    now.busy_ns.push_back(health.busy_ns.get());
  }
  return now;
}

IntervalSnapshot Aggregator::take(MonoTime now) {
  TS_ASSERT(now >= last_);
  State current = read();
  IntervalSnapshot out;
  out.at_seconds = to_seconds(now - start_);
  out.seconds = to_seconds(now - last_);
  const auto per_second = [&](double amount) { return out.seconds > 0 ? amount / out.seconds : 0; };

  out.streams.resize(layout_.streams.size());
  for (size_t i = 0; i < out.streams.size(); ++i) {
    auto& to = out.streams[i];
    auto& was = before_.streams[i];
    auto& is = current.streams[i];
    to.name = layout_.streams[i].name;
    to.asked = is.asked - was.asked;
    to.sent = is.sent - was.sent;
    to.acknowledged = is.acknowledged - was.acknowledged;
    to.failed = is.failed - was.failed;
    to.timed_out = is.timed_out - was.timed_out;
    to.dropped = is.dropped - was.dropped;
    to.in_flight = minus(is.sent, is.acknowledged + is.failed + is.timed_out);
    to.rate_per_second = per_second(static_cast<double>(to.acknowledged));
    to.conflicts = is.conflicts - was.conflicts;
    to.retries = is.retries - was.retries;
    to.pages = is.pages - was.pages;
    to.rows = is.rows - was.rows;
    to.throttled = is.throttled - was.throttled;
    to.intended = step(was.intended, is.intended);
    to.service = step(was.service, is.service);
  }

  auto& c = out.convergence;
  auto& was = before_.convergence;
  auto& is = current.convergence;
  const auto ended = [&](ConvergenceOutcome outcome) { return is.ended[index(outcome)] - was.ended[index(outcome)]; };
  c.started = is.started - was.started;
  c.applied = ended(ConvergenceOutcome::applied);
  c.superseded = ended(ConvergenceOutcome::superseded);
  c.lost = ended(ConvergenceOutcome::lost);
  c.unconverged = ended(ConvergenceOutcome::unconverged);
  c.failed = ended(ConvergenceOutcome::failed);
  c.apply_failed = ended(ConvergenceOutcome::apply_failed);
  c.duplicate = is.duplicate - was.duplicate;
  c.reordered = is.reordered - was.reordered;
  uint64_t all_ended = 0;
  for (const auto n : is.ended) all_ended += n;
  c.backlog = minus(is.started, all_ended);
  backlog_max_all_ = std::max(backlog_max_all_, c.backlog);
  c.total = step(was.total, is.total);
  c.system = step(was.system, is.system);

  auto& stale_before = before_.staleness;
  auto& stale_now = current.staleness;
  const auto stale_ended = [&](StalenessOutcome outcome) {
    return stale_now.ended[index(outcome)] - stale_before.ended[index(outcome)];
  };
  out.staleness.started = stale_now.started - stale_before.started;
  out.staleness.visible = stale_ended(StalenessOutcome::visible);
  out.staleness.not_visible = stale_ended(StalenessOutcome::not_visible);
  out.staleness.unknown = stale_ended(StalenessOutcome::unknown);
  uint64_t all_stale_ended = 0;
  for (const auto n : stale_now.ended) all_stale_ended += n;
  out.staleness.open = minus(stale_now.started, all_stale_ended);
  out.staleness.since_acknowledged = step(stale_before.since_acknowledged, stale_now.since_acknowledged);

  for (PhaseIndex p = 0; p < backlog_max_.size(); ++p) {
    uint64_t started = 0;
    uint64_t phase_ended = 0;
    for (const auto* shard : shards_) {
      for (const auto& n : shard->phase(p).ended) phase_ended += n.get();
      started += shard->phase(p).started.get();
    }
    backlog_max_[p] = std::max(backlog_max_[p], minus(started, phase_ended));
  }

  for (const auto* shard : shards_) {
    const auto devices = shard->devices();
    out.devices.offline += devices.offline;
    out.devices.connecting += devices.connecting;
    out.devices.online += devices.online;
    out.devices.waiting += devices.waiting;
  }
  out.reconnects = current.reconnects - before_.reconnects;
  for (size_t e = 0; e < kErrorClassCount; ++e) out.errors[e] = current.errors[e] - before_.errors[e];
  out.schedule_lag = step(before_.schedule_lag, current.schedule_lag);
  for (size_t i = 0; i < shards_.size(); ++i) {
    const auto spent = static_cast<double>(current.busy_ns[i] - before_.busy_ns[i]) * 1e-9;
    out.busy_shares.push_back(std::min(1.0, per_second(spent)));
  }
  out.bytes_in = current.bytes_in - before_.bytes_in;
  out.bytes_out = current.bytes_out - before_.bytes_out;

  // The histograms have been moved already; take over the plain numbers.
  for (size_t i = 0; i < before_.streams.size(); ++i) {
    auto& to = before_.streams[i];
    const auto& from = current.streams[i];
    to.asked = from.asked;
    to.sent = from.sent;
    to.acknowledged = from.acknowledged;
    to.failed = from.failed;
    to.timed_out = from.timed_out;
    to.dropped = from.dropped;
    to.conflicts = from.conflicts;
    to.retries = from.retries;
    to.pages = from.pages;
    to.rows = from.rows;
    to.throttled = from.throttled;
  }
  stale_before.started = stale_now.started;
  stale_before.ended = stale_now.ended;
  was.started = is.started;
  was.duplicate = is.duplicate;
  was.reordered = is.reordered;
  was.ended = is.ended;
  before_.errors = current.errors;
  before_.reconnects = current.reconnects;
  before_.bytes_in = current.bytes_in;
  before_.bytes_out = current.bytes_out;
  before_.busy_ns = std::move(current.busy_ns);
  last_ = now;
  return out;
}

Totals Aggregator::totals() const {
  Totals out;
  out.layout = layout_;
  out.backlog_max = backlog_max_all_;
  for (PhaseIndex p = 0; p < layout_.phases.size(); ++p) {
    PhaseTotals phase;
    phase.name = layout_.phases[p].name;
    phase.record = layout_.phases[p].record;
    phase.streams.resize(layout_.streams.size());
    for (const auto* shard : shards_) {
      for (StreamIndex s = 0; s < layout_.streams.size(); ++s) {
        const auto& cell = shard->cell(s, p);
        OpTotals one;
        one.acknowledged = cell.acknowledged.get();
        one.failed = cell.failed.get();
        one.timed_out = cell.timed_out.get();
        one.dropped = cell.dropped.get();
        one.sent = cell.sent.get();
        one.asked = cell.asked.get();
        one.unsuccessful_max = Nanos{static_cast<int64_t>(cell.unsuccessful_max_ns.get())};
        for (size_t e = 0; e < kErrorClassCount; ++e) {
          const auto& error = cell.errors[e];
          one.errors[e] = {error.count.get(), static_cast<int64_t>(error.first_seconds.get()),
                           static_cast<int64_t>(error.last_seconds.get())};
        }
        one.conflicts = cell.conflicts.get();
        one.retries = cell.retries.get();
        one.pages = cell.pages.get();
        one.rows = cell.rows.get();
        one.query_pages = cell.query_pages.get();
        one.query_rows = cell.query_rows.get();
        one.pages_max = cell.pages_max.get();
        one.rows_max = cell.rows_max.get();
        cell.intended.add_to(one.intended);
        cell.service.add_to(one.service);
        phase.streams[s].add(one);
      }
      const auto& from = shard->phase(p);
      auto& to = phase.convergence;
      const auto ended = [&](ConvergenceOutcome outcome) { return from.ended[index(outcome)].get(); };
      to.applied += ended(ConvergenceOutcome::applied);
      to.superseded += ended(ConvergenceOutcome::superseded);
      to.lost += ended(ConvergenceOutcome::lost);
      to.unconverged += ended(ConvergenceOutcome::unconverged);
      to.failed += ended(ConvergenceOutcome::failed);
      to.apply_failed += ended(ConvergenceOutcome::apply_failed);
      to.started += from.started.get();
      to.duplicate += from.duplicate.get();
      to.reordered += from.reordered.get();
      from.total.add_to(to.total);
      from.system.add_to(to.system);
      from.patch.add_to(to.patch);
      from.delivery.add_to(to.delivery);
      from.apply.add_to(to.apply);
      from.acknowledge.add_to(to.acknowledge);
      from.schedule_lag.add_to(phase.schedule_lag);
      auto& stale = phase.staleness;
      stale.visible += from.staleness_ended[index(StalenessOutcome::visible)].get();
      stale.not_visible += from.staleness_ended[index(StalenessOutcome::not_visible)].get();
      stale.unknown += from.staleness_ended[index(StalenessOutcome::unknown)].get();
      stale.started += from.staleness_started.get();
      from.staleness.add_to(stale.since_acknowledged);
    }
    phase.convergence.backlog_max = backlog_max_[p];
    out.phases.push_back(std::move(phase));
  }
  for (const auto* shard : shards_) {
    const auto& health = shard->health();
    for (size_t i = 0; i < kReconnectReasonCount; ++i) out.reconnects[i] += health.reconnects[i].get();
    out.methods_answered += health.methods_answered.get();
    out.messages_received += health.messages_received.get();
    const auto devices = shard->devices();
    out.devices.offline += devices.offline;
    out.devices.connecting += devices.connecting;
    out.devices.online += devices.online;
    out.devices.waiting += devices.waiting;
    out.busy.push_back(Nanos{static_cast<int64_t>(health.busy_ns.get())});
    out.bytes_in += health.bytes_in.get();
    out.bytes_out += health.bytes_out.get();
  }
  return out;
}

}  // namespace twinstorm::metrics
