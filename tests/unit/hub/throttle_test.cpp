// Rates, daily messages and figures of tiers: on a clock that stands still, and from many threads.
#include "sim/hub/policy/throttle.hpp"

#include <algorithm>
#include <deque>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/base/rng.hpp"
#include "sim/hub/policy/quota.hpp"
#include "sim/hub/policy/tier_policy.hpp"

namespace twinstorm::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr auto kReads = OperationClass::twin_reads;
constexpr MonoTime kStart{seconds{1000}};

uint32_t per_minute(Tier tier, uint32_t units, OperationClass operation) {
  return limits_of(tier, units).per_minute[static_cast<size_t>(operation)];
}

TEST(Tiers, HaveTheDocumentedRates) {
  struct Row {
    OperationClass operation;
    uint32_t s1, s1x200, s2x20, s3x2;
  };
  // service.md 13.1, by hand.
  for (const Row& row :
       {Row{OperationClass::identity_registry, 100, 20'000, 2'000, 10'000},
        Row{OperationClass::connects, 6'000, 144'000, 144'000, 720'000},
        Row{OperationClass::d2c_sends, 6'000, 144'000, 144'000, 720'000},
        Row{OperationClass::file_uploads, 100, 20'000, 2'000, 10'000},
        Row{OperationClass::queries, 20, 4'000, 400, 2'000}, Row{OperationClass::c2d_sends, 100, 20'000, 2'000, 10'000},
        Row{OperationClass::c2d_receives, 1'000, 200'000, 20'000, 100'000},
        Row{OperationClass::direct_methods, 2'400, 480'000, 144'000, 737'280},
        Row{OperationClass::twin_reads, 6'000, 6'000, 12'000, 60'000},
        Row{OperationClass::twin_updates, 3'000, 3'000, 6'000, 30'000},
        Row{OperationClass::jobs, 100, 20'000, 2'000, 10'000},
        Row{OperationClass::job_device_operations, 600, 600, 1'200, 6'000},
        Row{OperationClass::configurations, 20, 4'000, 400, 40}}) {
    EXPECT_EQ(per_minute(Tier::s1, 1, row.operation), row.s1) << to_string(row.operation);
    EXPECT_EQ(per_minute(Tier::s1, 200, row.operation), row.s1x200) << to_string(row.operation);
    EXPECT_EQ(per_minute(Tier::s2, 20, row.operation), row.s2x20) << to_string(row.operation);
    EXPECT_EQ(per_minute(Tier::s3, 2, row.operation), row.s3x2) << to_string(row.operation);
    EXPECT_EQ(per_minute(Tier::f1, 1, row.operation), row.s1) << to_string(row.operation);
  }
}

TEST(Tiers, BasicOnesLackWhatTheServiceSaysTheyLack) {
  for (const Tier tier : {Tier::b1, Tier::b2, Tier::b3}) {
    const TierLimits limits = limits_of(tier, 1);
    for (const auto there : {OperationClass::identity_registry, OperationClass::connects, OperationClass::d2c_sends,
                             OperationClass::queries, OperationClass::file_uploads}) {
      EXPECT_TRUE(limits.has(there)) << to_string(there);
    }
    for (const auto missing : {OperationClass::c2d_sends, OperationClass::c2d_receives, OperationClass::direct_methods,
                               kReads, OperationClass::twin_updates, OperationClass::jobs,
                               OperationClass::job_device_operations, OperationClass::configurations}) {
      EXPECT_FALSE(limits.has(missing)) << to_string(missing);
    }
    EXPECT_EQ(limits.concurrent_jobs_max, 0u);
  }
}

TEST(Tiers, HaveTheirDailyMessagesAndOtherLimits) {
  EXPECT_EQ(limits_of(Tier::f1, 1).messages_per_day, 8'000u);
  EXPECT_EQ(limits_of(Tier::f1, 1).message_bytes, 512u);
  EXPECT_EQ(limits_of(Tier::f1, 1).identities_max, 500u);
  EXPECT_EQ(limits_of(Tier::f1, 1).configurations_max, 10u);
  EXPECT_EQ(limits_of(Tier::s1, 2).messages_per_day, 800'000u);
  EXPECT_EQ(limits_of(Tier::s1, 2).message_bytes, 4096u);
  EXPECT_EQ(limits_of(Tier::b2, 3).messages_per_day, 18'000'000u);
  EXPECT_EQ(limits_of(Tier::s3, 10).messages_per_day, 3'000'000'000u);
  EXPECT_EQ(limits_of(Tier::s1, 1).concurrent_jobs_max, 1u);
  EXPECT_EQ(limits_of(Tier::s2, 1).concurrent_jobs_max, 5u);
  EXPECT_EQ(limits_of(Tier::s3, 1).concurrent_jobs_max, 10u);
}

TEST(Tiers, AreReadInAnyCaseAndRefusedWithTheFix) {
  EXPECT_EQ(*parse_tier("s1"), Tier::s1);
  EXPECT_EQ(*parse_tier("B3"), Tier::b3);
  EXPECT_EQ(parse_tier("S4").error().message, "\"S4\" is not a tier: give F1, B1, B2, B3, S1, S2 or S3");
  EXPECT_TRUE(check_units(Tier::s1, 200));
  EXPECT_EQ(check_units(Tier::s1, 201).error().message, "201 units of S1 cannot be had: give 1 to 200");
  EXPECT_EQ(check_units(Tier::f1, 2).error().message, "2 units of F1 cannot be had: give 1");
  EXPECT_EQ(check_units(Tier::s3, 0).error().message, "0 units of S3 cannot be had: give 1 to 10");
}

TEST(Throttle, ABurstGoesThroughThenOperationsWaitThenTheyAreRefused) {
  Throttle throttle{limits_of(Tier::s1, 1)};  // 100 twin reads a second
  for (int i = 0; i < 6'000; ++i) {
    const auto admission = throttle.admit(kReads, 1, kStart);
    ASSERT_FALSE(admission.refused);
    ASSERT_EQ(admission.delay, Nanos::zero()) << i;
  }
  for (int i = 1; i <= 1'000; ++i) {
    const auto admission = throttle.admit(kReads, 1, kStart);
    ASSERT_FALSE(admission.refused);
    ASSERT_EQ(admission.delay, milliseconds{10 * i});
  }
  EXPECT_TRUE(throttle.admit(kReads, 1, kStart).refused);
  EXPECT_TRUE(throttle.admit(kReads, 1, kStart + milliseconds{9}).refused);
  EXPECT_EQ(throttle.admit(kReads, 1, kStart + milliseconds{10}).delay, seconds{10}) << "one has left the queue";

  const ThrottleFigures figures = throttle.figures(kReads);
  EXPECT_EQ(figures.admitted, 7'001u);
  EXPECT_EQ(figures.shaped, 1'001u);
  EXPECT_EQ(figures.refused, 2u);
  EXPECT_EQ(figures.delay.max, seconds{10});
  EXPECT_EQ(figures.delay.sum, milliseconds{10 * 1'000 * 1'001 / 2 + 10'000});
  EXPECT_NEAR(to_seconds(figures.delay.p50), 5.0, 0.2);
  EXPECT_NEAR(to_seconds(figures.delay.p99), 9.9, 0.35);
  EXPECT_DOUBLE_EQ(figures.per_second, 100);
  EXPECT_DOUBLE_EQ(figures.burst, 6'000);
  EXPECT_DOUBLE_EQ(figures.backlog, 1'000);
}

TEST(Throttle, ClassesDoNotDisturbEachOther) {
  Throttle throttle{limits_of(Tier::s1, 1)};
  while (!throttle.admit(kReads, 1, kStart).refused) {
  }
  EXPECT_EQ(throttle.admit(OperationClass::twin_updates, 1, kStart).delay, Nanos::zero());
  EXPECT_EQ(throttle.figures(OperationClass::twin_updates).admitted, 1u);
}

TEST(Throttle, ABulkRequestCountsItsEntries) {
  Throttle throttle{limits_of(Tier::s1, 1)};  // 100 a minute
  EXPECT_EQ(throttle.admit(OperationClass::identity_registry, 90, kStart).delay, Nanos::zero());
  EXPECT_EQ(throttle.admit(OperationClass::identity_registry, 20, kStart).delay, seconds{6}) << "10 too many";
  EXPECT_TRUE(throttle.admit(OperationClass::identity_registry, 100, kStart).refused);
  const ThrottleFigures figures = throttle.figures(OperationClass::identity_registry);
  EXPECT_EQ(figures.admitted, 2u);
  EXPECT_EQ(figures.admitted_cost, 110u);
  EXPECT_EQ(figures.refused_cost, 100u);
}

TEST(Throttle, ARefusalTakesNothingAndAQuietMinuteFillsTheBucketButNoMore) {
  Throttle throttle{limits_of(Tier::s1, 1)};
  const auto queries = OperationClass::queries;  // 20 a minute
  for (int i = 0; i < 23; ++i) EXPECT_FALSE(throttle.admit(queries, 1, kStart).refused) << i;
  for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(throttle.admit(queries, 1, kStart).refused);
  EXPECT_EQ(throttle.admit(queries, 1, kStart + seconds{3}).delay, seconds{9});
  const MonoTime later = kStart + std::chrono::hours{5};
  for (int i = 0; i < 20; ++i) EXPECT_EQ(throttle.admit(queries, 1, later).delay, Nanos::zero()) << i;
  EXPECT_EQ(throttle.admit(queries, 1, later).delay, seconds{3});
}

TEST(Throttle, TheSustainedRateIsTheLimitWhateverTheDemand) {
  for (const auto& [tier, units, operation] :
       {std::tuple{Tier::s1, 1U, kReads}, std::tuple{Tier::s1, 3U, OperationClass::identity_registry},
        std::tuple{Tier::s2, 1U, OperationClass::d2c_sends}, std::tuple{Tier::s3, 1U, OperationClass::twin_updates}}) {
    Throttle throttle{limits_of(tier, units)};
    const double rate = per_minute(tier, units, operation) / 60.0;
    MonoTime now = kStart;
    const Nanos step = from_seconds(1 / (rate * 1.5));  // half more than is allowed
    while (now < kStart + seconds{400}) {
      throttle.admit(operation, 1, now);
      now += step;
    }
    const double before = static_cast<double>(throttle.figures(operation).admitted);
    for (const MonoTime end = now + seconds{100}; now < end; now += step) throttle.admit(operation, 1, now);
    const double admitted = static_cast<double>(throttle.figures(operation).admitted) - before;
    EXPECT_NEAR(admitted, rate * 100, 1 + rate * 100 * 1e-4) << to_string(operation);
  }
}

/// Sixty seconds' worth of tokens that flow back one by one, and a list of those that wait for theirs.
class SlowBucket {
 public:
  explicit SlowBucket(uint32_t limit) : per_minute_{static_cast<double>(limit)}, tokens_{per_minute_} {}
  Throttle::Admission admit(uint32_t cost, MonoTime now) {
    tokens_ = std::min<double>(per_minute_, tokens_ + to_seconds(now - last_) * per_minute_ / 60);
    last_ = now;
    const double missing = cost - tokens_;
    const Nanos delay = missing <= 0 ? Nanos{} : from_seconds(missing * 60 / per_minute_);
    if (delay > kThrottleBacklog) return {.delay = {}, .refused = true};
    tokens_ -= cost;  // below zero: what waits
    return {.delay = delay, .refused = false};
  }

 private:
  double per_minute_;
  double tokens_;
  MonoTime last_ = kStart;
};

TEST(Throttle, DecidesAsABucketOfTokensWithAQueueWould) {
  Rng rng{7};
  for (const auto operation : {OperationClass::identity_registry, kReads, OperationClass::direct_methods}) {
    Throttle throttle{limits_of(Tier::s1, 1)};
    SlowBucket slow{per_minute(Tier::s1, 1, operation)};
    const double rate = per_minute(Tier::s1, 1, operation) / 60.0;
    MonoTime now = kStart;
    for (int i = 0; i < 20'000; ++i) {
      now += from_seconds(static_cast<double>(rng.next() % 1000) / 1000 * 15 / rate);
      const auto cost = static_cast<uint32_t>(1 + rng.next() % 16);
      const auto expected = slow.admit(cost, now);
      const auto got = throttle.admit(operation, cost, now);
      // The two round differently: at the very edge of the queue either is right.
      if (got.refused != expected.refused) {
        const Nanos edge = got.refused ? expected.delay : got.delay;
        ASSERT_GT(edge, kThrottleBacklog - milliseconds{1}) << i;
        break;
      }
      ASSERT_NEAR(to_seconds(got.delay), to_seconds(expected.delay), 1e-3) << i;
    }
  }
}

TEST(Throttle, WhatWaitsLeavesInTheOrderOfAsking) {
  Throttle throttle{limits_of(Tier::s1, 1)};
  Rng rng{11};
  MonoTime now = kStart;
  MonoTime last_leave = kStart;
  for (int i = 0; i < 20'000; ++i) {
    now += Nanos{static_cast<int64_t>(rng.next() % 4'000'000)};
    const auto admission = throttle.admit(kReads, 1, now);
    if (admission.refused || admission.delay == Nanos::zero()) continue;
    EXPECT_GE(now + admission.delay, last_leave);
    last_leave = now + admission.delay;
  }
}

TEST(Throttle, ManyThreadsAreNeverGivenMoreThanThereIs) {
  constexpr int kThreads = 8;
  constexpr int kAsks = 3'000;
  Throttle throttle{limits_of(Tier::s1, 1)};
  std::vector<std::vector<Nanos>> delays(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kAsks; ++i) {
        const auto admission = throttle.admit(kReads, 1, kStart);
        if (!admission.refused) delays[static_cast<size_t>(t)].push_back(admission.delay);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<Nanos> all;
  for (const auto& each : delays) all.insert(all.end(), each.begin(), each.end());
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), 7'000u);
  EXPECT_EQ(std::count(all.begin(), all.end(), Nanos::zero()), 6'000);
  for (size_t i = 6'000; i < all.size(); ++i) {
    ASSERT_EQ(all[i], milliseconds{10 * (i - 5'999)}) << "no two have the same turn";
  }
  const ThrottleFigures figures = throttle.figures(kReads);
  EXPECT_EQ(figures.admitted, 7'000u);
  EXPECT_EQ(figures.refused, uint64_t{kThreads} * kAsks - 7'000);
}

TEST(DelayHistogram, KeepsDelaysToASixteenth) {
  Rng rng{3};
  for (const int64_t largest : {200'000, 40'000'000}) {  // 0.2 ms, 40 ms; and up to ten times that
    DelayHistogram histogram;
    std::vector<Nanos> exact;
    for (int i = 0; i < 5'000; ++i) {
      exact.emplace_back(static_cast<int64_t>(rng.next() % static_cast<uint64_t>(largest * 10)) + 1);
      histogram.add(exact.back());
    }
    std::sort(exact.begin(), exact.end());
    const auto summary = histogram.read();
    EXPECT_EQ(summary.count, 5'000u);
    EXPECT_EQ(summary.max, exact.back());
    EXPECT_NEAR(to_seconds(summary.p50), to_seconds(exact[2'499]), to_seconds(exact[2'499]) / 16 + 62.5e-6);
    EXPECT_NEAR(to_seconds(summary.p99), to_seconds(exact[4'949]), to_seconds(exact[4'949]) / 16 + 62.5e-6);
  }
  EXPECT_EQ(DelayHistogram{}.read().count, 0u);
}

TEST(DailyQuota, EndsAtItsLimitAndBeginsAgainAtMidnightUtc) {
  const WallTime noon = *parse_iso8601("2026-03-01T12:00:00Z");
  const WallTime last = *parse_iso8601("2026-03-01T23:59:59.9999999Z");
  const WallTime midnight = *parse_iso8601("2026-03-02T00:00:00Z");
  DailyQuota quota{10};
  EXPECT_TRUE(quota.open(noon));
  quota.charge(9, noon);
  EXPECT_TRUE(quota.open(noon));
  quota.charge(4, noon);  // an answer's size is known only afterwards
  EXPECT_EQ(quota.used(noon), 13u);
  EXPECT_FALSE(quota.open(noon));
  EXPECT_FALSE(quota.open(last));
  EXPECT_EQ(quota.refused(), 2u);
  EXPECT_TRUE(quota.open(midnight));
  EXPECT_EQ(quota.used(midnight), 0u);
  quota.charge(3, midnight);
  EXPECT_EQ(quota.used(midnight), 3u);
  EXPECT_EQ(DailyQuota::next_reset(noon), midnight);
  EXPECT_EQ(DailyQuota::next_reset(midnight), midnight + std::chrono::hours{24});
}

TEST(DailyQuota, LosesNoChargeOfAnyThread) {
  DailyQuota quota{1'000'000};
  const WallTime now = *parse_iso8601("2026-03-01T12:00:00Z");
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5'000; ++i) quota.charge(2, now);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(quota.used(now), 80'000u);
}

TEST(Metering, ChargesChunksAndAtLeastOne) {
  EXPECT_EQ(charged_messages(0, 4096), 1u);
  EXPECT_EQ(charged_messages(1, 4096), 1u);
  EXPECT_EQ(charged_messages(4096, 4096), 1u);
  EXPECT_EQ(charged_messages(4097, 4096), 2u);
  EXPECT_EQ(charged_messages(4096, 512), 8u);
}

class TierPolicyTest : public ::testing::Test {
 protected:
  TierPolicy::Verdict decide(TierPolicy& policy, const OperationPolicy& operation, uint32_t cost = 1) {
    return policy.decide(operation, cost, "hub.localhost", kStart, now);
  }
  const WallTime now = *parse_iso8601("2026-03-01T12:00:00Z");
};

TEST_F(TierPolicyTest, RefusesInTheWordsOfTheService) {
  TierPolicy policy{Tier::f1, 1};
  const auto write = *policy_of(protocol::ServiceOperation::create_or_update_configuration);
  while (true) {
    const auto verdict = decide(policy, write);
    if (!verdict.refusal) continue;
    EXPECT_EQ(verdict.refusal->status, 429);
    EXPECT_EQ(verdict.refusal->name, "ThrottlingBacklogTimeout");
    EXPECT_EQ(verdict.refusal->message,
              "The request has been throttled. Wait 10 seconds and try again. Operation type: ConfigurationWrite");
    break;
  }
  policy.charge(8'000 * 512, now);
  EXPECT_FALSE(decide(policy, *policy_of(protocol::ServiceOperation::get_device)).refusal) << "identities are free";
  const auto verdict = decide(policy, kTelemetry);
  ASSERT_TRUE(verdict.refusal);
  EXPECT_EQ(verdict.refusal->status, 403);
  EXPECT_EQ(verdict.refusal->error_code, 403'002);
  EXPECT_EQ(verdict.refusal->name, "IotHubQuotaExceeded");
  EXPECT_EQ(verdict.refusal->message,
            "Total number of messages on IotHub 'hub.localhost' exceeded the allocated quota. Max allowed message "
            "count : '8000', current message count : '8000'.");
  EXPECT_EQ(policy.throttle().figures(OperationClass::d2c_sends).admitted, 0u);
}

TEST_F(TierPolicyTest, RefusesWhatABasicTierLacks) {
  TierPolicy policy{Tier::b1, 1};
  for (const auto operation :
       {protocol::ServiceOperation::get_twin, protocol::ServiceOperation::invoke_method,
        protocol::ServiceOperation::create_job, protocol::ServiceOperation::list_configurations}) {
    const auto verdict = decide(policy, *policy_of(operation));
    ASSERT_TRUE(verdict.refusal) << to_string(operation);
    EXPECT_EQ(verdict.refusal->status, 403);
    EXPECT_EQ(verdict.refusal->error_code, 403'010);
  }
  EXPECT_FALSE(decide(policy, *policy_of(protocol::ServiceOperation::query_devices)).refusal);
  EXPECT_FALSE(decide(policy, kTelemetry).refusal);
}

TEST_F(TierPolicyTest, ChargesBothSidesOfAMethod) {
  TierPolicy policy{Tier::s1, 1};
  policy.charge_method(10, 10, now);
  EXPECT_EQ(policy.quota().used(now), 2u);
  policy.charge_method(5'000, 0, now);  // offline: the missing answer counts, too
  EXPECT_EQ(policy.quota().used(now), 5u);
}

TEST_F(TierPolicyTest, HasPlacesForSoManyIdentities) {
  TierPolicy policy{Tier::f1, 1};
  policy.add_identities(499);
  EXPECT_TRUE(policy.take_identity());
  const auto full = policy.take_identity();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().error_code, 413'002);
  EXPECT_THAT(full.error().message, HasSubstr("500 devices and modules"));
  EXPECT_EQ(policy.identities(), 500u);
  policy.give_back_identities(1);
  EXPECT_TRUE(policy.take_identity());
}

TEST_F(TierPolicyTest, ItsJsonHasEveryClassAndTheQuota) {
  TierPolicy policy{Tier::s1, 2};
  decide(policy, *policy_of(protocol::ServiceOperation::bulk_devices), 200);
  decide(policy, *policy_of(protocol::ServiceOperation::bulk_devices), 5);
  decide(policy, *policy_of(protocol::ServiceOperation::bulk_devices), 100);
  policy.charge(9'000, now);
  const TierFigures figures = policy.figures(now);
  const auto json = nlohmann::json::parse(to_json(&figures));
  EXPECT_EQ(json["tier"], "S1");
  EXPECT_EQ(json["units"], 2);
  ASSERT_EQ(json["classes"].size(), kOperationClasses);
  const auto& registry = json["classes"][0];
  EXPECT_EQ(registry["class"], "identityRegistry");
  EXPECT_DOUBLE_EQ(registry["limitPerSecond"], 10.0 / 3);
  EXPECT_DOUBLE_EQ(registry["burst"], 200);
  EXPECT_EQ(registry["admitted"], 2);
  EXPECT_EQ(registry["admittedCost"], 205);
  EXPECT_EQ(registry["shaped"], 1);
  EXPECT_EQ(registry["refused"], 1);
  EXPECT_EQ(registry["refusedCost"], 100);
  EXPECT_DOUBLE_EQ(registry["delay"]["max"], 1.5);
  EXPECT_DOUBLE_EQ(registry["delay"]["p50"], 1.5);
  EXPECT_TRUE(json["classes"][1]["delay"]["p99"].is_null());
  EXPECT_EQ(json["quota"]["limit"], 800'000);
  EXPECT_EQ(json["quota"]["used"], 3);
  EXPECT_EQ(json["quota"]["resetsAt"], "2026-03-02T00:00:00Z");
  EXPECT_EQ(to_json(nullptr), R"({"tier":null,"units":0,"classes":[],"quota":null})");
}

}  // namespace
}  // namespace twinstorm::hub
