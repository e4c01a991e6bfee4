#include "sim/hub/policy/planted_faults.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/base/log.hpp"

namespace twinstorm::hub {
namespace {

TEST(PlantedFaults, EveryNthOfEachKindStrikesOnItsOwnCount) {
  PlantedFaults faults{parse_fault_plan("dropNotification:3,loseReported:1").value()};
  std::string drops;
  for (int i = 0; i < 7; ++i) {
    drops += faults.strikes(Fault::drop_notification) ? 'x' : '.';
    EXPECT_TRUE(faults.strikes(Fault::lose_reported));
    EXPECT_FALSE(faults.strikes(Fault::forget_desired));
  }
  EXPECT_EQ(drops, "..x..x.");
}

TEST(PlantedFaults, WhatWasSpoiledIsToldWithDeviceVersionAndTime) {
  PlantedFaults faults{FaultPlan{}};
  EXPECT_EQ(faults.to_json(), R"({"forgotten":0,"planted":[]})");
  faults.record(Fault::forget_desired, "therm-1", 7, parse_iso8601("2026-01-02T03:04:05.678Z").value());
  const auto json = nlohmann::json::parse(faults.to_json());
  EXPECT_EQ(json["planted"][0].dump(),
            R"({"deviceId":"therm-1","kind":"forgetDesired","time":"2026-01-02T03:04:05.678Z","version":7})");
}

TEST(PlantedFaults, TheOldestAreForgottenAndCounted) {
  log::set_level(log::Level::warning);  // a thousand lines say nothing to a reader of the test
  PlantedFaults faults{FaultPlan{}};
  for (int i = 0; i < static_cast<int>(PlantedFaults::kKeptMax) + 2; ++i) {
    faults.record(Fault::lose_reported, "a", i, WallTime{});
  }
  log::set_level(log::Level::info);
  const auto json = nlohmann::json::parse(faults.to_json());
  EXPECT_EQ(json["forgotten"], 2);
  EXPECT_EQ(json["planted"].size(), PlantedFaults::kKeptMax);
  EXPECT_EQ(json["planted"][0]["version"], 2);
}

TEST(PlantedFaults, OneNotificationADeviceIsHeldAndEndsWithItsConnection) {
  PlantedFaults faults{FaultPlan{}};
  EXPECT_TRUE(faults.hold("a", 2, "{}"));
  EXPECT_FALSE(faults.hold("a", 3, "{}"));
  EXPECT_FALSE(faults.take_held("b"));
  const auto held = faults.take_held("a");
  ASSERT_TRUE(held);
  EXPECT_EQ(held->version, 2);
  EXPECT_EQ(held->body, "{}");
  EXPECT_TRUE(faults.hold("a", 4, "{}"));
  faults.drop_held("a");
  EXPECT_FALSE(faults.take_held("a"));
}

TEST(PlantedFaults, APlanThatCannotBeReadIsRefusedByName) {
  EXPECT_TRUE(parse_fault_plan("swapNotifications:500").has_value());
  EXPECT_EQ(parse_fault_plan("dropNotifications:3").error().message,
            "\"dropNotifications:3\" is no fault: give dropNotification, swapNotifications, duplicateNotification, "
            "loseReported, forgetDesired with how often, such as dropNotification:1000");
  for (const char* number : {"", ":", ":0", ":-1", ":3x", ":99999999999"}) {
    EXPECT_EQ(
        parse_fault_plan(std::string{"loseReported"} + number).error().message,
        std::string{"\"loseReported"} + number + "\" does not say how often: loseReported:1000 spoils every 1000th");
  }
}

}  // namespace
}  // namespace twinstorm::hub
