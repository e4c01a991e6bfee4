#include "sim/run/correlator.hpp"

#include <deque>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"

namespace twinstorm::run {
namespace {

using metrics::ConvergenceOutcome;
using namespace std::chrono_literals;

constexpr uint32_t kDevice = 1;

metrics::RecorderLayout two_phases() { return {{}, {{"one", true}, {"two", true}}}; }

class CorrelatorTest : public ::testing::Test {
 protected:
  static MonoTime at(int64_t ms) { return MonoTime{1s} + std::chrono::milliseconds{ms}; }

  /// A patch due at `due`, sent a millisecond later.
  SlotId start(int64_t due = 0, uint32_t device = kDevice) {
    const SlotId slot = correlator.start(device, 0, at(due));
    correlator.patch_sent(slot, at(due + 1));
    return slot;
  }
  /// Notification, report and acknowledgement of `version` at 10, 30 and 40 ms.
  void device_side(int64_t version, uint32_t device = kDevice) {
    correlator.notified(device, version, at(10));
    correlator.report_sent(device, version, at(30));
    correlator.converged(device, version, at(40));
  }
  uint64_t ended(ConvergenceOutcome outcome, uint32_t phase = 0) const {
    return recorder.phase(phase).ended[static_cast<size_t>(outcome)].get();
  }
  uint64_t all_ended(uint32_t phase = 0) const {
    uint64_t sum = 0;
    for (const auto& count : recorder.phase(phase).ended) sum += count.get();
    return sum;
  }

  metrics::ShardRecorder recorder{two_phases()};
  Correlator correlator{4, 8, recorder};
};

TEST_F(CorrelatorTest, AnAppliedPatchIsTimedLegByLeg) {
  const SlotId slot = start();
  EXPECT_TRUE(correlator.awaiting_answer(slot));
  correlator.patch_accepted(slot, 2, at(8));
  EXPECT_FALSE(correlator.awaiting_answer(slot));
  device_side(2);

  EXPECT_EQ(correlator.open(), 0u);
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 1u);
  const auto& phase = recorder.phase(0);
  EXPECT_EQ(phase.started.get(), 1u);
  EXPECT_EQ(phase.total.snapshot().sum(), 40ms);        // T5 - T0
  EXPECT_EQ(phase.patch.snapshot().sum(), 7ms);         // T2 - T1
  EXPECT_EQ(phase.delivery.snapshot().sum(), 9ms);      // T3 - T1
  EXPECT_EQ(phase.apply.snapshot().sum(), 20ms);        // T4 - T3
  EXPECT_EQ(phase.acknowledge.snapshot().sum(), 10ms);  // T5 - T4
  EXPECT_EQ(phase.system.snapshot().sum(), 20ms);       // total - apply
}

TEST_F(CorrelatorTest, TheNotificationMayComeBeforeThePatchAnswer) {
  const SlotId slot = start();
  EXPECT_EQ(correlator.notified(kDevice, 2, at(5)), Notification::fresh);
  correlator.patch_accepted(slot, 2, at(8));
  correlator.report_sent(kDevice, 2, at(30));
  correlator.converged(kDevice, 2, at(40));
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 1u);
  EXPECT_EQ(recorder.phase(0).delivery.snapshot().sum(), 4ms);
  EXPECT_EQ(recorder.phase(0).apply.snapshot().sum(), 25ms);
}

TEST_F(CorrelatorTest, EverythingMayComeBeforeThePatchAnswer) {
  const SlotId slot = start();
  device_side(2);
  EXPECT_EQ(correlator.open(), 1u);
  correlator.patch_accepted(slot, 2, at(50));
  EXPECT_EQ(correlator.open(), 0u);
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 1u);
  EXPECT_EQ(recorder.phase(0).total.snapshot().sum(), 40ms);  // converged at 40, whenever the answer came
  EXPECT_EQ(recorder.phase(0).patch.snapshot().sum(), 49ms);
}

TEST_F(CorrelatorTest, ADeviceThatReportsNothingConvergesWhenItHasApplied) {
  const SlotId slot = start();
  correlator.patch_accepted(slot, 2, at(8));
  correlator.notified(kDevice, 2, at(10));
  correlator.converged(kDevice, 2, at(10));
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 1u);
  EXPECT_EQ(recorder.phase(0).apply.snapshot().sum(), 0ms);
  EXPECT_EQ(recorder.phase(0).acknowledge.snapshot().sum(), 0ms);
}

TEST_F(CorrelatorTest, SimulatedWorkThatFailedIsNeitherLostNorUnconverged) {
  const SlotId slot = start();
  correlator.patch_accepted(slot, 2, at(8));
  correlator.notified(kDevice, 2, at(10));
  correlator.apply_failed(kDevice, 2, false);
  EXPECT_EQ(correlator.open(), 0u);
  EXPECT_EQ(ended(ConvergenceOutcome::apply_failed), 1u);
  EXPECT_EQ(all_ended(), 1u);
  EXPECT_EQ(recorder.phase(0).total.snapshot().count(), 0u) << "it never converged, so it has no time";
}

TEST_F(CorrelatorTest, SimulatedWorkMayFailBeforeThePatchAnswer) {
  const SlotId slot = start();
  correlator.notified(kDevice, 2, at(5));
  correlator.apply_failed(kDevice, 2, false);
  EXPECT_EQ(correlator.open(), 1u);
  correlator.patch_accepted(slot, 2, at(8));
  EXPECT_EQ(ended(ConvergenceOutcome::apply_failed), 1u);
}

TEST_F(CorrelatorTest, FailedWorkForAFetchedStateEndsEverythingUpToIt) {
  const SlotId first = start(), second = start(), third = start(), later = start();
  correlator.patch_accepted(first, 2, at(8));
  correlator.patch_accepted(second, 3, at(8));
  correlator.patch_accepted(later, 5, at(8));
  correlator.apply_failed(kDevice, 3, true);
  EXPECT_EQ(ended(ConvergenceOutcome::apply_failed), 2u);
  correlator.patch_accepted(third, 1, at(9));  // its answer comes behind the read that showed it
  EXPECT_EQ(ended(ConvergenceOutcome::apply_failed), 3u);
  EXPECT_EQ(correlator.open(), 1u);
}

TEST_F(CorrelatorTest, SeveralInFlightAreMatchedByVersionNotByOrder) {
  const SlotId first = start(0);
  const SlotId second = start(1);
  const SlotId third = start(2);
  correlator.patch_accepted(third, 3, at(5));  // answers in another order than the patches
  correlator.patch_accepted(first, 4, at(6));
  correlator.patch_accepted(second, 2, at(7));
  for (const int64_t version : {2, 3, 4}) correlator.notified(kDevice, version, at(10));
  std::vector<SlotId> order;
  correlator.on_end([](void* list, SlotId slot) { static_cast<std::vector<SlotId>*>(list)->push_back(slot); }, &order);
  correlator.converged(kDevice, 3, at(20));
  correlator.converged(kDevice, 4, at(21));
  correlator.converged(kDevice, 2, at(22));
  EXPECT_EQ(order, (std::vector<SlotId>{third, first, second}));
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 3u);
}

TEST_F(CorrelatorTest, DevicesDoNotShareVersions) {
  const SlotId mine = start(0, 1);
  const SlotId other = start(0, 2);
  correlator.patch_accepted(mine, 2, at(5));
  correlator.patch_accepted(other, 2, at(5));
  device_side(2, 2);
  EXPECT_EQ(correlator.open(), 1u);
  EXPECT_EQ(correlator.device_of(mine), 1u);
}

TEST_F(CorrelatorTest, ReconnectAndGetSupersedeEverythingUpToTheFetchedVersion) {
  const SlotId a = start();
  const SlotId b = start();
  const SlotId c = start();
  correlator.patch_accepted(a, 2, at(5));
  correlator.patch_accepted(b, 3, at(5));
  correlator.patch_accepted(c, 4, at(5));
  correlator.synced(kDevice, 3, at(100));
  EXPECT_EQ(ended(ConvergenceOutcome::superseded), 2u);
  EXPECT_EQ(correlator.open(), 1u);
  EXPECT_EQ(recorder.phase(0).total.snapshot().max(), 100ms);
  EXPECT_EQ(recorder.phase(0).delivery.snapshot().count(), 0u);  // no notification, no delivery time
  correlator.notified(kDevice, 4, at(110));
  correlator.converged(kDevice, 4, at(120));
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 1u);
}

TEST_F(CorrelatorTest, APatchAnsweredAfterItsValueWasSyncedIsSuperseded) {
  const SlotId slot = start();
  correlator.synced(kDevice, 5, at(100));
  EXPECT_EQ(correlator.open(), 1u);  // its version is not known yet
  correlator.patch_accepted(slot, 5, at(110));
  EXPECT_EQ(ended(ConvergenceOutcome::superseded), 1u);
  EXPECT_EQ(correlator.open(), 0u);
}

TEST_F(CorrelatorTest, ASecondNotificationOfTheSameVersionIsADuplicate) {
  const SlotId slot = start();
  correlator.patch_accepted(slot, 2, at(5));
  EXPECT_EQ(correlator.notified(kDevice, 2, at(10)), Notification::fresh);
  EXPECT_EQ(correlator.notified(kDevice, 2, at(11)), Notification::duplicate);
  correlator.converged(kDevice, 2, at(20));
  EXPECT_EQ(correlator.notified(kDevice, 2, at(30)), Notification::duplicate);  // also after the slot has ended
  EXPECT_EQ(recorder.phase(0).duplicate.get(), 2u);
  EXPECT_EQ(recorder.phase(0).delivery.snapshot().sum(), 9ms);  // the first counts
  EXPECT_EQ(all_ended(), 1u);
}

TEST_F(CorrelatorTest, ANotificationBehindANewerOneIsReorderedAndHasArrived) {
  const SlotId older = start();
  const SlotId newer = start();
  correlator.patch_accepted(older, 2, at(5));
  correlator.patch_accepted(newer, 3, at(5));
  EXPECT_EQ(correlator.notified(kDevice, 3, at(10)), Notification::fresh);
  EXPECT_EQ(correlator.notified(kDevice, 2, at(11)), Notification::reordered);
  EXPECT_EQ(correlator.notified(kDevice, 2, at(12)), Notification::duplicate);
  EXPECT_EQ(recorder.phase(0).reordered.get(), 1u);
  EXPECT_EQ(recorder.phase(0).duplicate.get(), 1u);
  correlator.converged(kDevice, 3, at(20));
  correlator.expire(older, true);  // the device ignores older versions, so it never converges, but it was not lost
  EXPECT_EQ(ended(ConvergenceOutcome::lost), 0u);
  EXPECT_EQ(ended(ConvergenceOutcome::unconverged), 1u);
}

TEST_F(CorrelatorTest, ReorderedAndDoubledNotificationsAreKnownBeforeTheAnswersToo) {
  const SlotId older = start();
  const SlotId newer = start();
  EXPECT_EQ(correlator.notified(kDevice, 3, at(3)), Notification::fresh);
  EXPECT_EQ(correlator.notified(kDevice, 2, at(4)), Notification::reordered);
  EXPECT_EQ(correlator.notified(kDevice, 2, at(5)), Notification::duplicate);
  correlator.patch_accepted(older, 2, at(6));
  correlator.patch_accepted(newer, 3, at(6));
  correlator.expire(older, true);
  EXPECT_EQ(ended(ConvergenceOutcome::lost), 0u);
  EXPECT_EQ(ended(ConvergenceOutcome::unconverged), 1u);
}

TEST_F(CorrelatorTest, ANotificationBehindTheGetThatShowedItIsNeitherDoubledNorReordered) {
  const SlotId a = start();
  const SlotId b = start();
  correlator.patch_accepted(a, 2, at(5));
  correlator.patch_accepted(b, 3, at(5));
  correlator.synced(kDevice, 3, at(20));
  EXPECT_EQ(correlator.notified(kDevice, 2, at(21)), Notification::fresh);
  EXPECT_EQ(correlator.notified(kDevice, 3, at(22)), Notification::fresh);
  EXPECT_EQ(recorder.phase(0).duplicate.get() + recorder.phase(0).reordered.get(), 0u);
}

TEST_F(CorrelatorTest, NotificationsWithoutASlotAreCountedInTheCurrentPhase) {
  correlator.set_phase(1);
  correlator.notified(kDevice, 5, at(0));
  correlator.notified(kDevice, 5, at(1));
  correlator.notified(kDevice, 4, at(2));
  EXPECT_EQ(recorder.phase(1).duplicate.get(), 1u);
  EXPECT_EQ(recorder.phase(1).reordered.get(), 1u);
}

TEST_F(CorrelatorTest, ARefusedPatchFails) {
  correlator.patch_failed(start());
  EXPECT_EQ(ended(ConvergenceOutcome::failed), 1u);
  EXPECT_EQ(recorder.phase(0).total.snapshot().count(), 0u);  // failures are in no histogram
  EXPECT_EQ(correlator.open(), 0u);
}

TEST_F(CorrelatorTest, ExpiryTellsFailedLostAndUnconvergedApart) {
  correlator.expire(start(), true);  // never answered
  EXPECT_EQ(ended(ConvergenceOutcome::failed), 1u);

  const SlotId lost = start();
  correlator.patch_accepted(lost, 2, at(5));
  correlator.expire(lost, true);  // accepted, device there, nothing came
  EXPECT_EQ(ended(ConvergenceOutcome::lost), 1u);

  const SlotId away = start();
  correlator.patch_accepted(away, 3, at(5));
  correlator.expire(away, false);  // it could not arrive
  EXPECT_EQ(ended(ConvergenceOutcome::unconverged), 1u);

  const SlotId slow = start();
  correlator.patch_accepted(slow, 4, at(5));
  correlator.notified(kDevice, 4, at(6));
  correlator.expire(slow, true);  // arrived, not finished
  EXPECT_EQ(ended(ConvergenceOutcome::unconverged), 2u);
  EXPECT_EQ(all_ended(), recorder.phase(0).started.get());
}

TEST_F(CorrelatorTest, WhatComesAfterTheEndOfASlotChangesNothing) {
  const SlotId slot = start();
  correlator.patch_accepted(slot, 2, at(5));
  correlator.expire(slot, true);
  device_side(2);
  correlator.synced(kDevice, 2, at(60));
  EXPECT_EQ(all_ended(), 1u);
}

TEST_F(CorrelatorTest, FullSlotsAreToldToTheCallerAndNotCounted) {
  for (int i = 0; i < 8; ++i) EXPECT_NE(correlator.start(kDevice, 0, at(0)), Correlator::kNone);
  EXPECT_EQ(correlator.start(kDevice, 0, at(0)), Correlator::kNone);
  EXPECT_EQ(recorder.phase(0).started.get(), 8u);
  correlator.expire_all([](uint32_t) { return true; });
  EXPECT_EQ(ended(ConvergenceOutcome::failed), 8u);
  EXPECT_NE(correlator.start(kDevice, 0, at(0)), Correlator::kNone);
}

TEST_F(CorrelatorTest, TheOldestUnclaimedNotificationGivesWay) {
  std::vector<SlotId> slots;
  for (int i = 0; i < 5; ++i) slots.push_back(start());
  for (int64_t version = 2; version <= 6; ++version) correlator.notified(kDevice, version, at(10));
  for (int i = 0; i < 5; ++i) correlator.patch_accepted(slots[static_cast<size_t>(i)], 2 + i, at(20));
  correlator.expire_all([](uint32_t) { return true; });
  EXPECT_EQ(ended(ConvergenceOutcome::unconverged), static_cast<uint64_t>(Correlator::kUnclaimedMax));
  EXPECT_EQ(ended(ConvergenceOutcome::lost), 1u);  // version 2: never silently applied
}

TEST_F(CorrelatorTest, AnAppliedPatchWhoseNotificationGaveWayHasBelievableLegs) {
  std::vector<SlotId> slots;
  for (int i = 0; i < 5; ++i) slots.push_back(start());
  for (int64_t version = 2; version <= 6; ++version) correlator.notified(kDevice, version, at(10));
  correlator.patch_accepted(slots[0], 2, at(20));
  correlator.report_sent(kDevice, 2, at(30));
  correlator.converged(kDevice, 2, at(40));
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 1u);
  EXPECT_EQ(recorder.phase(0).delivery.snapshot().max(), 29ms);  // known to have arrived when it was reported about
  EXPECT_EQ(recorder.phase(0).apply.snapshot().max(), 0ms);
  EXPECT_EQ(recorder.phase(0).acknowledge.snapshot().max(), 10ms);
}

TEST_F(CorrelatorTest, UnclaimedNotificationsAreForgottenWhenNoAnswerIsAwaited) {
  const SlotId slot = start();
  correlator.notified(kDevice, 7, at(5));  // somebody else's patch
  correlator.patch_failed(slot);
  // Far more of them than the pool holds: each must have been given back.
  for (int64_t version = 8; version < 10'000; ++version) {
    const SlotId next = start();
    correlator.notified(kDevice, version, at(5));
    correlator.patch_accepted(next, version, at(6));
    correlator.converged(kDevice, version, at(7));
  }
  EXPECT_EQ(ended(ConvergenceOutcome::applied), 9'992u);
}

TEST_F(CorrelatorTest, TimesBeforeTheDueTimeCountAsZero) {
  const SlotId slot = correlator.start(kDevice, 0, at(10));
  correlator.patch_sent(slot, at(9));
  correlator.patch_accepted(slot, 2, at(9));
  correlator.notified(kDevice, 2, at(9));
  correlator.converged(kDevice, 2, at(9));
  EXPECT_EQ(recorder.phase(0).total.snapshot().sum(), 0ms);
}

TEST_F(CorrelatorTest, TheOwnerHearsOfEveryEndWhileTheSlotIsStillItsOwn) {
  struct Heard {
    Correlator* correlator;
    std::vector<uint32_t> devices;
  } heard{&correlator, {}};
  correlator.on_end(
      [](void* context, SlotId slot) {
        auto& self = *static_cast<Heard*>(context);
        self.devices.push_back(self.correlator->device_of(slot));
      },
      &heard);
  correlator.patch_failed(start(0, 3));
  correlator.expire(start(0, 2), true);
  EXPECT_EQ(heard.devices, (std::vector<uint32_t>{3, 2}));
}

/// A hub, its network and its devices, as badly behaved as the protocol allows.
class Chaos {
 public:
  static constexpr uint32_t kDevices = 5;

  explicit Chaos(uint64_t seed) : rng_{seed} {
    correlator_.on_end([](void* self, SlotId slot) { static_cast<Chaos*>(self)->slot_ended(slot); }, this);
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      now_ += std::chrono::microseconds{rng_.below(3000)};
      step();
    }
    // Answers first, as the back ends end before the slots do.
    while (!unanswered_.empty()) answer();
    correlator_.expire_all([&](uint32_t) { return rng_.chance(0.5); });
  }
  void check() {
    uint64_t ended = 0, started = 0;
    for (uint32_t phase = 0; phase < 2; ++phase) {
      for (const auto& count : recorder_.phase(phase).ended) ended += count.get();
      started += recorder_.phase(phase).started.get();
      EXPECT_LE(recorder_.phase(phase).delivery.snapshot().max(), 1h - 1s);
      EXPECT_EQ(recorder_.phase(phase).delivery.snapshot().saturated(), 0u);
    }
    EXPECT_EQ(correlator_.open(), 0u);
    EXPECT_EQ(ended, started);
    EXPECT_EQ(started, started_);
    EXPECT_EQ(ends_heard_, started_);
    EXPECT_TRUE(alive_.empty());
  }

 private:
  struct Patch {
    SlotId slot;
    uint32_t device;
  };
  struct Message {
    uint32_t device;
    int64_t version;
  };

  void slot_ended(SlotId slot) {
    ASSERT_EQ(alive_.erase(slot), 1u) << "a slot ended twice, or was never started";
    ++ends_heard_;
  }
  Patch take_unanswered() {
    const auto at = static_cast<std::ptrdiff_t>(rng_.below(unanswered_.size()));
    const Patch patch = unanswered_[static_cast<size_t>(at)];
    unanswered_.erase(unanswered_.begin() + at);
    return patch;
  }
  void answer() {
    const Patch patch = take_unanswered();
    const int64_t version = accepted_version(patch);
    if (version == 0) {
      correlator_.patch_failed(patch.slot);
    } else {
      correlator_.patch_accepted(patch.slot, version, now_);
    }
    merged_.erase(patch.slot);
  }
  /// 0: the hub refused it. The hub merges before it answers, so a notification may already be on its way.
  int64_t accepted_version(const Patch& patch) {
    if (const auto found = merged_.find(patch.slot); found != merged_.end()) return found->second;
    return rng_.chance(0.2) ? 0 : merge(patch.device);
  }
  int64_t merge(uint32_t device) {
    const int64_t version = ++version_[device];
    if (!rng_.chance(0.1)) network_.push_back({device, version});  // a tenth is lost
    if (rng_.chance(0.1)) network_.push_back({device, version});   // a tenth is doubled
    return version;
  }
  void step() {
    const auto device = static_cast<uint32_t>(rng_.below(kDevices));
    switch (rng_.below(8)) {
      case 0:
      case 1: {
        const SlotId slot = correlator_.start(device, static_cast<uint32_t>(rng_.below(2)), now_);
        if (slot == Correlator::kNone) return;
        ASSERT_TRUE(alive_.insert({slot, device}).second);
        ++started_;
        correlator_.patch_sent(slot, now_);
        unanswered_.push_back({slot, device});
        return;
      }
      case 2:
        if (!unanswered_.empty()) answer();
        return;
      case 3: {  // merged, notified, not answered yet
        if (unanswered_.empty()) return;
        const Patch& patch = unanswered_[rng_.below(unanswered_.size())];
        if (!merged_.contains(patch.slot)) merged_[patch.slot] = merge(patch.device);
        return;
      }
      case 4: {  // any message in the network arrives
        if (network_.empty()) return;
        const auto at = static_cast<std::ptrdiff_t>(rng_.below(network_.size()));
        const Message message = network_[static_cast<size_t>(at)];
        network_.erase(network_.begin() + at);
        if (correlator_.notified(message.device, message.version, now_) == Notification::fresh) {
          working_.push_back(message);
        }
        return;
      }
      case 5: {
        if (working_.empty()) return;
        const auto at = static_cast<std::ptrdiff_t>(rng_.below(working_.size()));
        const Message message = working_[static_cast<size_t>(at)];
        if (rng_.chance(0.7)) correlator_.report_sent(message.device, message.version, now_);
        if (rng_.chance(0.8)) correlator_.converged(message.device, message.version, now_ + 1ms);
        working_.erase(working_.begin() + at);
        return;
      }
      case 6:  // reconnect and GET
        if (rng_.chance(0.2)) correlator_.synced(device, version_[device], now_);
        return;
      default: {  // some deadline
        if (alive_.empty() || !rng_.chance(0.3)) return;
        auto at = alive_.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(rng_.below(alive_.size())));
        if (!correlator_.awaiting_answer(at->first)) correlator_.expire(at->first, rng_.chance(0.5));
        return;
      }
    }
  }

  Rng rng_;
  metrics::ShardRecorder recorder_{two_phases()};
  Correlator correlator_{kDevices, 24, recorder_};
  MonoTime now_{1s};
  std::map<uint32_t, int64_t> version_;
  std::vector<Patch> unanswered_;
  std::map<SlotId, int64_t> merged_;
  std::vector<Message> network_, working_;
  std::map<SlotId, uint32_t> alive_;
  uint64_t started_ = 0, ends_heard_ = 0;
};

TEST(CorrelatorProperty, EverySlotEndsInExactlyOneOutcomeWhateverHappens) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    Chaos chaos{seed};
    chaos.run(2'000);
    chaos.check();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace twinstorm::run
