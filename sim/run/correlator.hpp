// Follows every desired patch from its due time to the acknowledged report, and makes sure that each ends exactly once.
//
//   T0 due -> T1 PATCH sent -> T2 accepted as $version v -> T3 device notified of v -> T4 report sent -> T5
//   acknowledged
//
// T2 and T3 arrive in either order, several patches of one device may be in flight, notifications may be doubled,
// swapped or never come, and a device that reconnects learns the newest state by a GET instead. Matching is by
// `$version`, never by order. A plain object: told about events with their times, it records outcomes; no clock, no
// sockets. One per shard, that shard's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "metrics/shard_recorder.hpp"
#include "sim/base/slab.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::run {

using SlotId = uint32_t;

/// What a notification was, compared with what the device had seen before.
enum class Notification : uint8_t { fresh, duplicate, reordered };

class Correlator {
 public:
  static constexpr SlotId kNone = Slab<int>::kNone;
  /// Notifications kept per device whose patch answer has not come yet; the oldest gives way.
  static constexpr int kUnclaimedMax = 4;

  /// `devices` are this shard's, addressed 0 .. devices - 1; at most `slots` patches are followed at a time. `recorder`
  /// must outlive the correlator.
  Correlator(uint32_t devices, uint32_t slots, metrics::ShardRecorder& recorder);

  /// The phase that notifications without a slot of their own are counted in.
  void set_phase(uint32_t phase) { phase_ = phase; }

  /// A patch for `device` is due (T0). kNone when all slots are taken: the caller counts the arrival as dropped.
  SlotId start(uint32_t device, uint32_t phase, MonoTime due);
  void patch_sent(SlotId slot, MonoTime at);
  /// The hub accepted the patch as desired `$version`.
  void patch_accepted(SlotId slot, int64_t version, MonoTime at);
  /// Refused, timed out or never sent: the slot ends as `failed`.
  void patch_failed(SlotId slot);

  /// The device received desired `$version`. Compared with earlier notifications only: one that comes behind the answer
  /// to a GET which showed its value already is the documented order, neither a double nor a reordering.
  Notification notified(uint32_t device, int64_t version, MonoTime at);
  /// The device finished simulated work for `$version` and sent what it reports about it; with several listeners the
  /// last one counts, so that waiting for simulated work never looks like waiting for the hub.
  void report_sent(uint32_t device, int64_t version, MonoTime at);
  /// The last report for `$version` was acknowledged, or the device applied it and reports nothing (then T5 = T4).
  void converged(uint32_t device, int64_t version, MonoTime at);

  /// The state fetched as `version` is applied and acknowledged: everything up to it has arrived, if not by
  /// notification.
  void synced(uint32_t device, int64_t version, MonoTime at);

  /// The device's simulated work for `version` failed, as the scenario asked; `synced`: for everything up to it.
  void apply_failed(uint32_t device, int64_t version, bool synced);

  /// The slot's deadline passed. `device_online` tells a lost notification (online) from one that could not arrive.
  void expire(SlotId slot, bool device_online);
  /// An accepted patch that never got through.
  struct Loss {
    uint32_t device = 0;
    uint32_t version = 0;
    MonoTime accepted{};
    MonoTime delivered{};  ///< MonoTime{}: no notification came
  };
  static constexpr size_t kLossesMax = 5;
  /// The first few of them, as `expire` met them.
  const std::vector<Loss>& losses() const { return losses_; }

  /// Ends whatever is still open (end of the run) as `expire` does, by each device's `online(device)`.
  template <class Online>
  void expire_all(Online&& online) {
    for (uint32_t device = 0; device < devices_.size(); ++device) {
      while (devices_[device].slots != kNone) expire(devices_[device].slots, online(device));
    }
  }

  uint32_t open() const { return slots_.used(); }
  /// The patch's answer has not come yet.
  bool awaiting_answer(SlotId slot) const { return slots_[slot].version == 0; }
  uint32_t device_of(SlotId slot) const { return slots_[slot].device; }
  /// Called with every slot that ends, before its id is free again: the owner cancels the slot's timer.
  void on_end(void (*callback)(void* context, SlotId slot), void* context) {
    end_callback_ = callback;
    end_context_ = context;
  }

 private:
  static constexpr uint32_t kNever = 0xffffffff;
  /// Microseconds after T0 (or, unclaimed, after the shard's origin); kNever = not yet.
  struct Stamps {
    uint32_t delivered = kNever, reported = kNever, acknowledged = kNever;
  };
  struct Slot {
    MonoTime due{};
    uint32_t sent = kNever, accepted = kNever;
    Stamps device_side;
    uint32_t version = 0;  // 0 = not accepted yet
    uint32_t device = 0;
    uint32_t next = kNone;
    uint32_t phase = 0;
  };
  static_assert(sizeof(Slot) <= 64);
  struct Unclaimed {
    uint32_t version = 0;
    uint32_t next = kNone;
    MonoTime delivered{}, reported{}, acknowledged{};
    bool apply_failed = false;
  };
  struct Device {
    uint32_t slots = kNone;       // newest first
    uint32_t unclaimed = kNone;   // newest first
    uint32_t last_version = 0;    // newest notified
    uint32_t synced_version = 0;  // everything up to here is applied and acknowledged through a GET
    uint32_t failed_version = 0;  // everything up to here was read by a GET, and its simulated work failed
  };

  static uint32_t offset(const Slot& slot, MonoTime at);
  Slot* find(uint32_t device, uint32_t version, SlotId& id);
  Unclaimed* find_unclaimed(uint32_t device, uint32_t version);
  void drop_unclaimed(uint32_t device, uint32_t version);
  bool device_awaits_answer(uint32_t device) const;
  void keep_unclaimed(uint32_t device, uint32_t version, MonoTime at);
  void finish(SlotId id, metrics::ConvergenceOutcome outcome);
  void supersede(SlotId id, MonoTime at);

  std::vector<Device> devices_;
  Slab<Slot> slots_;
  Slab<Unclaimed> unclaimed_;
  metrics::ShardRecorder& recorder_;
  uint32_t phase_ = 0;
  std::vector<Loss> losses_;
  void (*end_callback_)(void*, SlotId) = nullptr;
  void* end_context_ = nullptr;
};

}  // namespace twinstorm::run
