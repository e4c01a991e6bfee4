#include "sim/run/correlator.hpp"

#include <algorithm>

namespace twinstorm::run {

using metrics::ConvergenceLegs;
using metrics::ConvergenceOutcome;

namespace {

Nanos micros(uint32_t us) { return std::chrono::microseconds{us}; }

}  // namespace

Correlator::Correlator(uint32_t devices, uint32_t slots, metrics::ShardRecorder& recorder)
    : devices_(devices), slots_(slots), unclaimed_(std::min<uint32_t>(slots, 4096) + 16), recorder_{recorder} {
  losses_.reserve(kLossesMax);
}

uint32_t Correlator::offset(const Slot& slot, MonoTime at) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(at - slot.due).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(us, 0, kNever - 1));
}

SlotId Correlator::start(uint32_t device, uint32_t phase, MonoTime due) {
  const SlotId id = slots_.take();
  if (id == kNone) return kNone;
  auto& slot = slots_[id];
  slot.due = due;
  slot.device = device;
  slot.phase = phase;
  slot.next = devices_[device].slots;
  devices_[device].slots = id;
  recorder_.convergence_started(phase);
  return id;
}

void Correlator::patch_sent(SlotId id, MonoTime at) { slots_[id].sent = offset(slots_[id], at); }

void Correlator::patch_accepted(SlotId id, int64_t version, MonoTime at) {
  auto& slot = slots_[id];
  slot.accepted = offset(slot, at);
  slot.version = static_cast<uint32_t>(version);
  const uint32_t device = slot.device;
  if (Unclaimed* early = find_unclaimed(device, slot.version)) {
    slot.device_side.delivered = offset(slot, early->delivered);
    if (early->reported != MonoTime{}) slot.device_side.reported = offset(slot, early->reported);
    const bool done = early->acknowledged != MonoTime{}, failed = early->apply_failed;
    if (done) slot.device_side.acknowledged = offset(slot, early->acknowledged);
    drop_unclaimed(device, slot.version);
    if (done || failed) finish(id, done ? ConvergenceOutcome::applied : ConvergenceOutcome::apply_failed);
    return;
  }
  if (slot.version <= devices_[device].synced_version) {
    supersede(id, at);
  } else if (slot.version <= devices_[device].failed_version) {
    finish(id, ConvergenceOutcome::apply_failed);
  }
}

void Correlator::patch_failed(SlotId id) { finish(id, ConvergenceOutcome::failed); }

Notification Correlator::notified(uint32_t device, int64_t version64, MonoTime at) {
  const auto version = static_cast<uint32_t>(version64);
  auto& state = devices_[device];
  SlotId id = kNone;
  Slot* slot = find(device, version, id);
  const uint32_t phase = slot != nullptr ? slot->phase : phase_;
  // Doubled when this very version is known to have arrived; otherwise, behind a newer one, it comes late.
  const bool seen = version == state.last_version || (slot != nullptr && slot->device_side.delivered != kNever) ||
                    find_unclaimed(device, version) != nullptr;
  if (seen) {
    recorder_.duplicate(phase);
    return Notification::duplicate;
  }
  if (slot != nullptr) {
    slot->device_side.delivered = offset(*slot, at);
  } else if (device_awaits_answer(device)) {
    keep_unclaimed(device, version, at);
  }
  if (version < state.last_version) {
    recorder_.reordered(phase);
    return Notification::reordered;
  }
  state.last_version = version;
  return Notification::fresh;
}

void Correlator::report_sent(uint32_t device, int64_t version64, MonoTime at) {
  const auto version = static_cast<uint32_t>(version64);
  SlotId id = kNone;
  if (Slot* slot = find(device, version, id)) {
    slot->device_side.reported = offset(*slot, at);
  } else if (Unclaimed* early = find_unclaimed(device, version)) {
    early->reported = at;
  }
}

void Correlator::converged(uint32_t device, int64_t version64, MonoTime at) {
  const auto version = static_cast<uint32_t>(version64);
  SlotId id = kNone;
  if (Slot* slot = find(device, version, id)) {
    slot->device_side.acknowledged = offset(*slot, at);
    finish(id, ConvergenceOutcome::applied);
  } else if (Unclaimed* early = find_unclaimed(device, version)) {
    early->acknowledged = at;
  }
}

void Correlator::synced(uint32_t device, int64_t version64, MonoTime at) {
  auto& state = devices_[device];
  state.synced_version = std::max(state.synced_version, static_cast<uint32_t>(version64));
  for (SlotId id = state.slots; id != kNone;) {
    const SlotId next = slots_[id].next;
    if (slots_[id].version != 0 && slots_[id].version <= state.synced_version) supersede(id, at);
    id = next;
  }
}

void Correlator::apply_failed(uint32_t device, int64_t version64, bool synced) {
  const auto version = static_cast<uint32_t>(version64);
  auto& state = devices_[device];
  if (!synced) {
    SlotId id = kNone;
    if (find(device, version, id) != nullptr) {
      finish(id, ConvergenceOutcome::apply_failed);
    } else if (Unclaimed* early = find_unclaimed(device, version)) {
      early->apply_failed = true;
    }
    return;
  }
  state.failed_version = std::max(state.failed_version, version);
  for (SlotId id = state.slots; id != kNone;) {
    const SlotId next = slots_[id].next;
    if (slots_[id].version != 0 && slots_[id].version <= version) finish(id, ConvergenceOutcome::apply_failed);
    id = next;
  }
}

void Correlator::expire(SlotId id, bool device_online) {
  const auto& slot = slots_[id];
  if (slot.version != 0 && losses_.size() < kLossesMax) {
    const auto& told = slot.device_side.delivered;
    losses_.push_back({slot.device, slot.version, slot.due + micros(slot.accepted),
                       told == kNever ? MonoTime{} : slot.due + micros(told)});
  }
  if (slot.version == 0) {
    finish(id, ConvergenceOutcome::failed);
  } else if (slot.device_side.delivered == kNever && device_online) {
    finish(id, ConvergenceOutcome::lost);
  } else {
    finish(id, ConvergenceOutcome::unconverged);
  }
}

Correlator::Slot* Correlator::find(uint32_t device, uint32_t version, SlotId& id) {
  for (id = devices_[device].slots; id != kNone; id = slots_[id].next) {
    if (slots_[id].version == version) return &slots_[id];
  }
  return nullptr;
}

Correlator::Unclaimed* Correlator::find_unclaimed(uint32_t device, uint32_t version) {
  for (uint32_t at = devices_[device].unclaimed; at != kNone; at = unclaimed_[at].next) {
    if (unclaimed_[at].version == version) return &unclaimed_[at];
  }
  return nullptr;
}

void Correlator::drop_unclaimed(uint32_t device, uint32_t version) {
  uint32_t* link = &devices_[device].unclaimed;
  while (*link != kNone) {
    const uint32_t at = *link;
    if (unclaimed_[at].version == version) {
      *link = unclaimed_[at].next;
      unclaimed_.release(at);
      return;
    }
    link = &unclaimed_[at].next;
  }
}

bool Correlator::device_awaits_answer(uint32_t device) const {
  for (SlotId id = devices_[device].slots; id != kNone; id = slots_[id].next) {
    if (slots_[id].version == 0) return true;
  }
  return false;
}

void Correlator::keep_unclaimed(uint32_t device, uint32_t version, MonoTime at) {
  int kept = 0;
  uint32_t oldest = 0;
  for (uint32_t i = devices_[device].unclaimed; i != kNone; i = unclaimed_[i].next) {
    ++kept;
    oldest = unclaimed_[i].version;
  }
  if (kept >= kUnclaimedMax) drop_unclaimed(device, oldest);
  const uint32_t index = unclaimed_.take();
  if (index == kNone) return;  // the slot then ends at its deadline, never silently
  unclaimed_[index].version = version;
  unclaimed_[index].delivered = at;
  unclaimed_[index].next = devices_[device].unclaimed;
  devices_[device].unclaimed = index;
}

void Correlator::supersede(SlotId id, MonoTime at) {
  slots_[id].device_side.acknowledged = offset(slots_[id], at);
  finish(id, ConvergenceOutcome::superseded);
}

void Correlator::finish(SlotId id, ConvergenceOutcome outcome) {
  const Slot slot = slots_[id];
  ConvergenceLegs legs{};
  const auto& side = slot.device_side;
  if (outcome == ConvergenceOutcome::applied || outcome == ConvergenceOutcome::superseded) {
    legs.total = micros(side.acknowledged);
  }
  if (outcome == ConvergenceOutcome::applied) {
    const uint32_t reported = side.reported == kNever ? side.acknowledged : side.reported;
    // A notification that had to give way (kUnclaimedMax) came at the latest when it was reported about.
    const uint32_t delivered = std::min(side.delivered, reported);
    legs.apply = micros(reported - delivered);
    legs.patch = micros(slot.accepted - std::min(slot.sent, slot.accepted));
    legs.delivery = micros(delivered - std::min(slot.sent, delivered));
    legs.acknowledge = micros(side.acknowledged - reported);
  }
  recorder_.convergence_ended(slot.phase, outcome, legs);
  if (end_callback_ != nullptr) end_callback_(end_context_, id);

  uint32_t* link = &devices_[slot.device].slots;
  while (*link != id) link = &slots_[*link].next;
  *link = slot.next;
  slots_.release(id);
  // Without an answer to wait for, kept notifications can no longer be claimed.
  if (!device_awaits_answer(slot.device)) {
    while (devices_[slot.device].unclaimed != kNone) {
      drop_unclaimed(slot.device, unclaimed_[devices_[slot.device].unclaimed].version);
    }
  }
}

}  // namespace twinstorm::run
