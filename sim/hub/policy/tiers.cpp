#include "sim/hub/policy/tiers.hpp"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/hub/text.hpp"

namespace twinstorm::hub {
namespace {

constexpr std::array<const char*, 7> kTierNames{"F1", "B1", "B2", "B3", "S1", "S2", "S3"};
constexpr std::array<const char*, kOperationClasses> kClassNames{
    "identityRegistry",    "connects",       "d2cSends",   "queries",     "c2dSends",
    "c2dReceives",         "directMethods",  "twinReads",  "twinUpdates", "jobs",
    "jobDeviceOperations", "configurations", "fileUploads"};

/// F1, B1 and S1 have the same rates, B2 and S2, B3 and S3.
int size_of(Tier tier) {
  switch (tier) {
    case Tier::f1:
    case Tier::b1:
    case Tier::s1:
      return 0;
    case Tier::b2:
    case Tier::s2:
      return 1;
    case Tier::b3:
    case Tier::s3:
      return 2;
  }
  return 0;
}

uint32_t units_max(Tier tier) {
  if (tier == Tier::f1) return 1;
  return size_of(tier) == 2 ? 10 : 200;
}

/// A row of service.md 13.1, per minute: the larger of what every hub has and what each unit adds.
struct Row {
  OperationClass operation;
  std::array<uint32_t, 3> per_hub;
  std::array<uint32_t, 3> per_unit;
};

constexpr Row kAllTiers[] = {
    {OperationClass::identity_registry, {0, 0, 0}, {100, 100, 5'000}},
    {OperationClass::connects, {6'000, 0, 0}, {720, 7'200, 360'000}},
    {OperationClass::d2c_sends, {6'000, 0, 0}, {720, 7'200, 360'000}},
    {OperationClass::file_uploads, {0, 0, 0}, {100, 100, 5'000}},
    {OperationClass::queries, {0, 0, 0}, {20, 20, 1'000}},
};
constexpr Row kStandardTiers[] = {
    {OperationClass::c2d_sends, {0, 0, 0}, {100, 100, 5'000}},
    {OperationClass::c2d_receives, {0, 0, 0}, {1'000, 1'000, 50'000}},
    {OperationClass::direct_methods, {0, 0, 0}, {2'400, 7'200, 368'640}},
    {OperationClass::twin_reads, {6'000, 6'000, 0}, {0, 600, 30'000}},
    {OperationClass::twin_updates, {3'000, 3'000, 0}, {0, 300, 15'000}},
    {OperationClass::jobs, {0, 0, 0}, {100, 100, 5'000}},
    {OperationClass::job_device_operations, {600, 600, 0}, {0, 60, 3'000}},
    {OperationClass::configurations, {0, 0, 0}, {20, 20, 20}},
};

}  // namespace

const char* to_string(Tier tier) { return kTierNames[static_cast<size_t>(tier)]; }
const char* to_string(OperationClass operation) { return kClassNames[static_cast<size_t>(operation)]; }

Result<Tier> parse_tier(std::string_view text) {
  for (size_t i = 0; i < kTierNames.size(); ++i) {
    if (equal_ignoring_case(text, kTierNames[i])) return static_cast<Tier>(i);
  }
  return make_error(ErrorCode::invalid_argument,
                    fmt::format("\"{}\" is not a tier: give F1, B1, B2, B3, S1, S2 or S3", text));
}

bool is_basic(Tier tier) { return tier == Tier::b1 || tier == Tier::b2 || tier == Tier::b3; }

Result<void> check_units(Tier tier, uint32_t units) {
  if (units >= 1 && units <= units_max(tier)) return {};
  return make_error(ErrorCode::invalid_argument,
                    fmt::format("{} units of {} cannot be had: give 1{}", units, to_string(tier),
                                units_max(tier) == 1 ? std::string{} : fmt::format(" to {}", units_max(tier))));
}

TierLimits limits_of(Tier tier, uint32_t units) {
  TS_ASSERT(check_units(tier, units));
  const auto size = static_cast<size_t>(size_of(tier));
  TierLimits limits;
  limits.tier = tier;
  limits.units = units;
  const auto fill = [&](const Row& row) {
    limits.per_minute[static_cast<size_t>(row.operation)] = std::max(row.per_hub[size], row.per_unit[size] * units);
  };
  std::for_each(std::begin(kAllTiers), std::end(kAllTiers), fill);
  if (!is_basic(tier)) std::for_each(std::begin(kStandardTiers), std::end(kStandardTiers), fill);

  const bool free = tier == Tier::f1;
  constexpr std::array<uint64_t, 3> kMessages{400'000, 6'000'000, 300'000'000};
  constexpr std::array<uint32_t, 3> kJobs{1, 5, 10};
  limits.messages_per_day = free ? 8'000 : kMessages[size] * units;
  limits.message_bytes = free ? 512 : 4096;
  limits.identities_max = free ? 500 : 1'000'000;
  if (!is_basic(tier)) {
    limits.concurrent_jobs_max = kJobs[size];
    limits.configurations_max = free ? 10 : 100;
  }
  return limits;
}

}  // namespace twinstorm::hub
