#include "sim/device/periodic.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace twinstorm::device {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::vector<Nanos> walk(const PeriodicTicks& ticks, Nanos from, Nanos to) {
  std::vector<Nanos> out;
  for (Nanos at = ticks.after(from); at < to; at = ticks.after(at)) out.push_back(at);
  return out;
}

TEST(PeriodicTicks, ComeOnceAPeriodAndNeverChangePlaces) {
  for (const double jitter : {0.0, 0.1, 0.5, 1.0}) {
    for (DeviceIndex device = 0; device < 20; ++device) {
      const PeriodicTicks ticks{42, device, seconds{10}, jitter};
      Nanos before{-1};
      for (uint64_t k = 0; k < 1000; ++k) {
        const Nanos at = ticks.at(k);
        ASSERT_GE(at, before);
        if (k > 1) {  // the very first is not moved before the beginning
          ASSERT_GE(to_seconds(at - before), 10 * (1 - jitter) - 1e-6);
          ASSERT_LE(to_seconds(at - before), 10 * (1 + jitter) + 1e-6);
        }
        before = at;
      }
      // No drift: the rate is exact over any time.
      EXPECT_NEAR(to_seconds(ticks.at(999)), 9995, 15);
    }
  }
}

TEST(PeriodicTicks, AreFoundFromAnyMomentAsASlowSearchFindsThem) {
  const PeriodicTicks ticks{7, 3, seconds{1}, 0.8};
  for (Nanos t{0}; t < seconds{30}; t += milliseconds{13}) {
    uint64_t k = 0;
    while (ticks.at(k) <= t) ++k;
    ASSERT_EQ(ticks.after(t), ticks.at(k));
    ASSERT_EQ(ticks.last(t), k == 0 ? Nanos{0} : ticks.at(k - 1));
  }
}

TEST(PeriodicTicks, DependOnSeedAndDeviceOnlyWheneverOneLooks) {
  const auto whole = walk({42, 5, seconds{2}, 0.3}, Nanos{-1}, seconds{100});
  EXPECT_NEAR(static_cast<double>(whole.size()), 50, 1);
  // Looking from later, as a device does that connects later or again, finds the same ticks.
  const auto later = walk({42, 5, seconds{2}, 0.3}, seconds{31}, seconds{100});
  EXPECT_TRUE(std::equal(later.rbegin(), later.rend(), whole.rbegin()));
  EXPECT_NE(walk({42, 6, seconds{2}, 0.3}, Nanos{-1}, seconds{100}), whole);
  EXPECT_NE(walk({43, 5, seconds{2}, 0.3}, Nanos{-1}, seconds{100}), whole);
}

TEST(PeriodicTicks, OfManyDevicesAreSpreadOverThePeriod) {
  std::vector<int> tenths(10);
  for (DeviceIndex device = 0; device < 10'000; ++device) {
    ++tenths[static_cast<size_t>(to_seconds(PeriodicTicks{42, device, seconds{10}, 0}.at(0)))];
  }
  for (const int count : tenths) EXPECT_NEAR(count, 1000, 150);
}

}  // namespace
}  // namespace twinstorm::device
