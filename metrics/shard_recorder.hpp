// What one shard writes while it runs: a cell of counters and histograms for each (phase, stream), convergence per
// phase, and the shard's own health. One writer (the shard's thread), any readers, no locks; recording costs a few
// nanoseconds and never allocates. `Aggregator` adds shards up; nobody else needs to read here. The counters lie in
// memory that forked processes share, so the writer may also be a worker process forked after the recorder was made,
// and what it counted outlives it.
//
// The ledger every operation goes through, in this order:
//
//   asked ──┬── dropped (the generator could not start it)
//           ├── sent ──┬── acknowledged
//           │          ├── failed
//           │          ├── timed_out
//           │          └── (in flight)
//           └── (not started yet)
//
// so that   asked = sent + dropped + not started   and   sent = acknowledged + failed + timed out + in flight
// hold at any time. Each call below counts exactly one step for one operation; the phase is the one the operation was
// asked in, also for steps that happen after that phase ended.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "metrics/histogram.hpp"
#include "metrics/op.hpp"
#include "metrics/shared_array.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

using StreamIndex = uint32_t;  ///< position in RecorderLayout::streams
using PhaseIndex = uint32_t;   ///< position in RecorderLayout::phases

/// One thing that arrives: a back end by its name, or `<fleet>.<operation>`.
struct StreamSpec {
  std::string name;
  OpKind kind = OpKind::connect;
  std::string owner;     ///< fleet or back-end group
  std::string protocol;  ///< `mqtt`, `mqttws`, `amqp`, `http`...; a label of exports, may be empty
};

struct PhaseSpec {
  std::string name;
  bool record = true;  ///< false = warm-up: measured and shown, but in no total and no SLO without `during`
};

struct RecorderLayout {
  std::vector<StreamSpec> streams;
  std::vector<PhaseSpec> phases;
  /// How often followed writes are looked for in queries, so what a query staleness is exact to; the longest of all
  /// back ends. Absent when nobody follows writes.
  std::optional<Nanos> staleness_resolution{};

  std::optional<StreamIndex> find_stream(std::string_view name) const;
  std::optional<PhaseIndex> find_phase(std::string_view name) const;
};

/// One counter with a single writer.
class Counter {
 public:
  void add(uint64_t by = 1) { value_.store(value_.load(std::memory_order_relaxed) + by, std::memory_order_relaxed); }
  void set(uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// The legs of one applied update (docs/architecture.md, "One sample"; T0 due, T1 sent, T2 patch answered, T3 notified,
/// T4 report sent, T5 report acknowledged).
struct ConvergenceLegs {
  Nanos total{0};        ///< T5 - T0; for `superseded`: when the device was known to hold the value, minus T0
  Nanos patch{0};        ///< T2 - T1
  Nanos delivery{0};     ///< T3 - T1
  Nanos apply{0};        ///< T4 - T3, simulated work
  Nanos acknowledge{0};  ///< T5 - T4
  Nanos system() const { return total - apply; }
};

/// How the following of one write ended.
enum class StalenessOutcome : uint8_t {
  visible,      ///< a query showed the write, or a later version of the twin
  not_visible,  ///< no query showed it before the time-out
  unknown,      ///< not followed to an end: the queries failed, or the run was over first
  kCount
};
inline constexpr size_t kStalenessOutcomeCount = static_cast<size_t>(StalenessOutcome::kCount);

/// Devices of the shard by what they are doing now.
struct DeviceCounts {
  uint32_t offline = 0;     ///< not connected and not trying
  uint32_t connecting = 0;  ///< a connection attempt is under way
  uint32_t online = 0;      ///< connected and subscribed
  uint32_t waiting = 0;     ///< backing off before the next attempt
  friend bool operator==(const DeviceCounts&, const DeviceCounts&) = default;
};

class alignas(64) ShardRecorder {
 public:
  explicit ShardRecorder(RecorderLayout layout);
  ShardRecorder(const ShardRecorder&) = delete;
  ShardRecorder& operator=(const ShardRecorder&) = delete;

  const RecorderLayout& layout() const { return layout_; }

  // --- operations ---------------------------------------------------------------------------------------------------
  void asked(StreamIndex stream, PhaseIndex phase) { cell(stream, phase).asked.add(); }
  void sent(StreamIndex stream, PhaseIndex phase) { cell(stream, phase).sent.add(); }
  /// `intended_latency` counts from when the operation was due, `service_latency` from when it was sent.
  void acknowledged(StreamIndex stream, PhaseIndex phase, Nanos intended_latency, Nanos service_latency) {
    auto& c = cell(stream, phase);
    c.intended.record(intended_latency);
    c.service.record(service_latency);
    c.acknowledged.add();
  }
  /// Failures never enter the success histograms; their own longest time is kept.
  void failed(StreamIndex stream, PhaseIndex phase, ErrorClass error, Nanos intended_latency) {
    auto& c = cell(stream, phase);
    c.failed.add();
    unsuccessful(c, error, intended_latency);
  }
  void timed_out(StreamIndex stream, PhaseIndex phase, Nanos intended_latency) {
    auto& c = cell(stream, phase);
    c.timed_out.add();
    unsuccessful(c, ErrorClass::timeout, intended_latency);
  }
  void dropped(StreamIndex stream, PhaseIndex phase, ErrorClass error) {
    auto& c = cell(stream, phase);
    c.dropped.add();
    note_error(c, error);
  }

  // --- what operations go through before they end; none of it is a step of the ledger -------------------------------
  /// An answer 412: the twin had changed since the ETag was read. Counted for each such answer, whether the operation
  /// tries again or ends as failed with `ErrorClass::precondition_failed`.
  void conflict(StreamIndex stream, PhaseIndex phase) { cell(stream, phase).conflicts.add(); }
  /// The operation sent its change once more. The repetition is part of the same operation, not a new one.
  void retried(StreamIndex stream, PhaseIndex phase) { cell(stream, phase).retries.add(); }
  /// A page of a query's result, answered with success.
  void page(StreamIndex stream, PhaseIndex phase, uint64_t rows) {
    auto& c = cell(stream, phase);
    c.pages.add();
    c.rows.add(rows);
  }
  /// A query ended with success; the totals of its pages, each counted by `page` already.
  void query_ended(StreamIndex stream, PhaseIndex phase, uint64_t pages, uint64_t rows) {
    auto& c = cell(stream, phase);
    c.query_pages.add(pages);
    c.query_rows.add(rows);
    if (pages > c.pages_max.get()) c.pages_max.set(pages);
    if (rows > c.rows_max.get()) c.rows_max.set(rows);
  }

  // --- query staleness ----------------------------------------------------------------------------------------------
  /// A write was acknowledged and is looked for in queries from now on.
  void staleness_started(PhaseIndex phase) { phases_[phase].staleness_started.add(); }
  /// `since_acknowledged` (from the write's acknowledgement to the answer that showed it) is read for `visible` only.
  void staleness_ended(PhaseIndex phase, StalenessOutcome outcome, Nanos since_acknowledged) {
    auto& p = phases_[phase];
    if (outcome == StalenessOutcome::visible) p.staleness.record(since_acknowledged);
    p.staleness_ended[static_cast<size_t>(outcome)].add();
  }

  // --- convergence --------------------------------------------------------------------------------------------------
  void convergence_started(PhaseIndex phase) { phases_[phase].started.add(); }
  /// `legs` is read for `applied` (all of it) and `superseded` (total only).
  void convergence_ended(PhaseIndex phase, ConvergenceOutcome outcome, const ConvergenceLegs& legs = {}) {
    auto& p = phases_[phase];
    if (outcome == ConvergenceOutcome::applied || outcome == ConvergenceOutcome::superseded) p.total.record(legs.total);
    if (outcome == ConvergenceOutcome::applied) {
      p.system.record(legs.system());
      p.patch.record(legs.patch);
      p.delivery.record(legs.delivery);
      p.apply.record(legs.apply);
      p.acknowledge.record(legs.acknowledge);
    }
    p.ended[static_cast<size_t>(outcome)].add();
  }
  /// A notification whose version the device had already.
  void duplicate(PhaseIndex phase) { phases_[phase].duplicate.add(); }
  /// A notification with a version below one the device had already.
  void reordered(PhaseIndex phase) { phases_[phase].reordered.add(); }

  // --- health -------------------------------------------------------------------------------------------------------
  /// How late an operation was started, against when it was due.
  void schedule_lag(PhaseIndex phase, Nanos lag) { phases_[phase].schedule_lag.record(lag); }
  void set_devices(const DeviceCounts& now);
  void reconnected(ReconnectReason reason) { health().reconnects[static_cast<size_t>(reason)].add(); }
  /// A device answered a direct method.
  void method_answered() { health().methods_answered.add(); }
  /// A device received a cloud-to-device message.
  void message_received() { health().messages_received.add(); }
  /// One turn of the event loop begins. `wall_seconds` (since 1970) stamps the errors counted until the next turn.
  void turn(int64_t wall_seconds) {
    wall_seconds_ = wall_seconds;
    health().turns.add();
  }
  /// Time the loop spent working rather than waiting.
  void busy(Nanos spent) { health().busy_ns.add(static_cast<uint64_t>(spent.count())); }
  void bytes_in(uint64_t bytes) { health().bytes_in.add(bytes); }
  void bytes_out(uint64_t bytes) { health().bytes_out.add(bytes); }
  /// What the shard still has to end: operations, simulated work and convergence slots.
  void set_open_work(uint64_t open) { health().open_work.set(open); }

  // --- for readers --------------------------------------------------------------------------------------------------
  struct ErrorCell {
    Counter count, first_seconds, last_seconds;  ///< seconds since 1970, meaningful if count != 0
  };
  struct alignas(64) Cell {
    Counter asked, sent, acknowledged, failed, timed_out, dropped, unsuccessful_max_ns;
    Counter conflicts, retries, pages, rows;
    Counter query_pages, query_rows, pages_max, rows_max;  ///< of queries that ended with success
    std::array<ErrorCell, kErrorClassCount> errors;
    LatencyHistogram intended, service;
  };
  struct alignas(64) PhaseCell {
    Counter started, duplicate, reordered;
    std::array<Counter, kConvergenceOutcomeCount> ended;
    LatencyHistogram total, system, patch, delivery, apply, acknowledge, schedule_lag;
    Counter staleness_started;
    std::array<Counter, kStalenessOutcomeCount> staleness_ended;
    LatencyHistogram staleness;
  };
  struct alignas(64) Health {
    std::array<Counter, 4> devices;  ///< offline, connecting, online, waiting
    std::array<Counter, kReconnectReasonCount> reconnects;
    Counter busy_ns, turns, bytes_in, bytes_out;
    Counter methods_answered, messages_received;
    Counter open_work;
  };
  const Cell& cell(StreamIndex stream, PhaseIndex phase) const { return cells_[phase * streams_ + stream]; }
  const PhaseCell& phase(PhaseIndex phase) const { return phases_[phase]; }
  const Health& health() const { return health_[0]; }
  DeviceCounts devices() const;

 private:
  Health& health() { return health_[0]; }
  Cell& cell(StreamIndex stream, PhaseIndex phase) { return cells_[phase * streams_ + stream]; }
  void note_error(Cell& c, ErrorClass error) {
    auto& e = c.errors[static_cast<size_t>(error)];
    if (e.count.get() == 0) e.first_seconds.set(static_cast<uint64_t>(wall_seconds_));
    e.last_seconds.set(static_cast<uint64_t>(wall_seconds_));
    e.count.add();
  }
  void unsuccessful(Cell& c, ErrorClass error, Nanos latency) {
    const auto nanos = static_cast<uint64_t>(std::max<int64_t>(latency.count(), 0));
    if (nanos > c.unsuccessful_max_ns.get()) c.unsuccessful_max_ns.set(nanos);
    note_error(c, error);
  }

  RecorderLayout layout_;
  size_t streams_;
  int64_t wall_seconds_ = 0;
  SharedArray<Cell> cells_;  // [phase][stream]
  SharedArray<PhaseCell> phases_;
  SharedArray<Health> health_;
};
static_assert(sizeof(ShardRecorder) % 64 == 0 && sizeof(ShardRecorder::Cell) % 64 == 0,
              "two shards must never share a cache line");

}  // namespace twinstorm::metrics
