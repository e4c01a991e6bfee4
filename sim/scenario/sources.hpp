// What one shard starts and when: every arrival, closed slot and event of the phases, as a sequence of pieces of work.
// Pure: no clock, no devices, no random state but what follows from the seed.
//
// The whole run's work is a list that does not depend on the shards: arrival n of a stream is due at a moment of the
// load shape, for device (offset + n) mod count of its fleet; event e happens to device d or not, at a moment drawn for
// (e, d). A shard takes what is about its own devices, and of what is about no device every N-th, without walking what
// belongs to others. So the union over the shards is the same list, whatever their number.
//
// A closed load's operations form the same list (operation n is for device (offset + n) mod count, with the values of
// n), and a shard goes through its part of it in order. When each happens, and so how far the list is worked through,
// depends on the answers. Slots are shared out evenly: with S shards, shard g has every S-th.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/base/ids.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"
#include "sim/scenario/arrivals.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::scenario {

/// The numbers of one shard's own operations of a load that goes round a fleet, ascending; or, for what is about no
/// device, every N-th number.
class OwnShare {
 public:
  /// About devices: those of `fleet`, beginning `offset` devices behind its first.
  OwnShare(const Fleet& fleet, uint64_t offset, ShardId shard, ShardId shards);
  /// About no device.
  OwnShare(ShardId shard, ShardId shards);
  /// The first own number that is not below `n`; nothing when the shard has no device of the fleet.
  std::optional<uint64_t> from(uint64_t n) const;
  /// For whom operation n is; the fleet's first device when it is about none.
  DeviceIndex device(uint64_t n) const;

 private:
  DeviceIndex first_ = 0;
  uint32_t count_ = 0;   // 0: about no device
  uint32_t offset_ = 0;  // < count_
  uint32_t own_ = 0;     // the first position in the fleet that is this shard's; count_ when none is
  uint32_t shard_, shards_;
};

class Sources {
 public:
  /// One thing to start now.
  struct Work {
    enum class Kind : uint8_t { stream, connect, disconnect, renew_token };
    Kind kind = Kind::stream;
    metrics::PhaseIndex phase = 0;
    uint32_t stream = 0;  ///< kind stream: which; else unused
    MonoTime due{};
    uint64_t n = 0;          ///< for renderers
    DeviceIndex device = 0;  ///< of the whole run; this shard's, or (about no device) the first of fleet 0
    bool closed = false;     ///< frees a slot when it has ended: tell `ended`
  };

  /// `scenario` is resolved and outlives this.
  Sources(const Scenario& scenario, ShardId shard, ShardId shards);

  /// Phase `phase` begins at `start`. Arrivals and events of earlier phases that are due before `start` still come;
  /// closed loads of theirs start nothing more.
  void begin_phase(metrics::PhaseIndex phase, MonoTime start);
  /// Nothing due at `at` or later comes any more, and no closed slot starts again.
  void finish(MonoTime at);
  /// When something is due next; MonoTime::max() when nothing is.
  MonoTime next_due() const;
  /// The earliest piece of work that is due by `now`, or nothing.
  std::optional<Work> next(MonoTime now);
  /// An operation of a closed load has ended at `now`: its slot rests for its think time and starts again. `idle` is
  /// the least it rests: for operations that could not be started. Others are ignored: of no closed load, or of an
  /// earlier phase.
  void ended(uint32_t stream, metrics::PhaseIndex phase, MonoTime now, Nanos idle = Nanos{0});

 private:
  /// One open flow of arrivals of one phase.
  struct Flow {
    metrics::PhaseIndex phase;
    uint32_t stream;
    bool connects;
    ArrivalSchedule schedule;
    OwnShare share;
    MonoTime end = MonoTime::max();  // arrivals due from here on do not happen
    Arrival head{};                  // the next one of this shard
    DeviceIndex device = 0;          // whom it is for
  };
  struct Closed {
    metrics::PhaseIndex phase;
    uint32_t stream;
    OwnShare share;
    Distribution think;
    uint64_t think_seed;
    uint64_t next_n = 0;     // of the next operation to start
    uint64_t next_rest = 0;  // of the next think time: that of operation n
    std::priority_queue<MonoTime, std::vector<MonoTime>, std::greater<>> free;  // when each resting slot is
  };
  struct Event {
    MonoTime due;
    DeviceIndex device;
    uint16_t phase;
    uint16_t event;  // index in Phase::events; kDisconnect: Phase::disconnect
  };
  static constexpr uint16_t kDisconnect = 0xffff;

  /// Moves to the first own arrival from number `n` on; false when there is none.
  bool advance(Flow& flow, uint64_t n) const;
  void add_flow(metrics::PhaseIndex phase, uint32_t stream, bool connects, const LoadShape& shape, MonoTime start);
  void add_events(metrics::PhaseIndex phase, uint16_t event, const EventSpec& spec, MonoTime start);
  Work work_of(const Event& event) const;
  OwnShare share_of(metrics::PhaseIndex phase, uint32_t stream) const;
  uint32_t fleet_of(DeviceIndex device) const;

  const Scenario& scenario_;
  ShardId shard_, shards_;
  std::vector<Flow> flows_;
  std::vector<Closed> closed_;
  std::vector<Event> events_;  // the next one last
};

}  // namespace twinstorm::scenario
