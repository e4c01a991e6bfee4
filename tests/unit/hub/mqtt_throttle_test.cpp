// What devices see of the rates and daily messages of a hub's tier, on a clock that stands still.
#include "mqtt_fixture.hpp"

namespace twinstorm::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kEvents = "devices/dev1/messages/events/";

class MqttThrottleTest : public MqttSessionTest {
 protected:
  MqttThrottleTest() {
    shared.policy = std::make_unique<TierPolicy>(Tier::s1, 1);  // a second: 100 twin reads, 50 updates, 100 messages
    session = open(port);
    session->feed(subscribe("$iothub/twin/res/#"));
    port.take();
  }
  ~MqttThrottleTest() override { session.reset(); }

  /// Nothing of the class is left but its queue.
  void use_up(OperationClass operation) {
    const auto minute = shared.policy->limits().per_minute[static_cast<size_t>(operation)];
    ASSERT_EQ(shared.policy->throttle().admit(operation, minute, clock.mono()).delay, Nanos::zero());
  }
  void fill_queue(OperationClass operation) {
    while (!shared.policy->throttle().admit(operation, 1, clock.mono()).refused) {
    }
  }
  void advance(Nanos by) {
    clock.advance(by);
    session->do_held(clock.mono());
  }
  static std::string get(std::string_view rid) { return publish("$iothub/twin/GET/?$rid=" + std::string{rid}, ""); }
  static std::string patch(std::string_view rid) {
    return publish("$iothub/twin/PATCH/properties/reported/?$rid=" + std::string{rid}, R"({"a":1})");
  }
  static std::string ping() {
    std::string out;
    mqtt::encode_pingreq(out);
    return out;
  }
  ThrottleFigures figures(OperationClass operation) { return shared.policy->throttle().figures(operation); }

  RecordedPort port;
  std::unique_ptr<MqttSession> session;
};

TEST_F(MqttThrottleTest, WithinTheRateNothingIsDifferent) {
  session->feed(get("1") + patch("2") + publish(kEvents, "x", mqtt::Qos::at_least_once));
  EXPECT_THAT(port.take(), ElementsAre(StartsWith("$iothub/twin/res/200/?$rid=1"),
                                       StartsWith("$iothub/twin/res/204/?$rid=2"), "PUBACK"));
  EXPECT_EQ(figures(OperationClass::twin_reads).admitted, 1u);
  EXPECT_EQ(figures(OperationClass::twin_updates).admitted, 1u);
  EXPECT_EQ(figures(OperationClass::d2c_sends).admitted, 1u);
  EXPECT_EQ(shared.policy->quota().used(clock.wall()), 3u);
}

TEST_F(MqttThrottleTest, ARequestBeyondTheRateIsAnsweredWhenItsTurnComesAndPingsAreAnsweredMeanwhile) {
  use_up(OperationClass::twin_reads);
  session->feed(get("1") + ping());
  EXPECT_THAT(port.take(), ElementsAre("PINGRESP"));
  EXPECT_THAT(port.wakes, ElementsAre(clock.mono() + milliseconds{10}));
  advance(milliseconds{9});
  EXPECT_THAT(port.take(), ElementsAre());
  advance(milliseconds{1});
  EXPECT_THAT(port.take(), ElementsAre(StartsWith("$iothub/twin/res/200/?$rid=1")));
  EXPECT_EQ(counts().throttle_shaped, 1u);
  EXPECT_EQ(counts().twin_gets, 1u);
}

TEST_F(MqttThrottleTest, WhatADeviceAsksForBehindSomethingThatWaitsKeepsItsPlace) {
  use_up(OperationClass::twin_reads);
  session->feed(get("1") + patch("2") + publish(kEvents, "x", mqtt::Qos::at_least_once) + get("3"));
  EXPECT_THAT(port.take(), ElementsAre());
  advance(milliseconds{10});
  EXPECT_THAT(port.take(), ElementsAre(StartsWith("$iothub/twin/res/200/?$rid=1"),
                                       StartsWith("$iothub/twin/res/204/?$rid=2"), "PUBACK"));
  advance(milliseconds{10});
  EXPECT_THAT(port.take(), ElementsAre(StartsWith("$iothub/twin/res/200/?$rid=3")));
  session->feed(patch("4"));
  EXPECT_THAT(port.take(), ElementsAre(StartsWith("$iothub/twin/res/204/?$rid=4"))) << "nothing waits any more";
}

TEST_F(MqttThrottleTest, ATwinRequestThatWouldWaitTooLongIsAnswered429) {
  use_up(OperationClass::twin_updates);
  fill_queue(OperationClass::twin_updates);
  session->feed(patch("1"));
  EXPECT_THAT(
      port.take(),
      ElementsAre(AllOf(StartsWith("$iothub/twin/res/429/?$rid=1"), HasSubstr(R"("errorCode":429001)"),
                        HasSubstr("The request has been throttled. Wait 10 seconds and try again. Operation type: "
                                  "TwinWrite"))));
  EXPECT_FALSE(session->ended());
  EXPECT_EQ(counts().reported_patches_refused, 1u);
  EXPECT_EQ(counts().throttle_refused, 1u);
  EXPECT_TRUE(record->twin.reported.values.empty());
}

TEST_F(MqttThrottleTest, TelemetryThatWouldWaitTooLongEndsTheConnection) {
  use_up(OperationClass::d2c_sends);
  fill_queue(OperationClass::d2c_sends);
  session->feed(publish(kEvents, "x"));
  EXPECT_TRUE(session->ended());
  EXPECT_TRUE(port.ended);
  EXPECT_EQ(counts().disconnects_throttled, 1u);
  EXPECT_EQ(counts().disconnects, 1u);
  EXPECT_EQ(counts().telemetry_messages, 0u);
}

TEST_F(MqttThrottleTest, ADeviceWithMuchWaitingIsNotReadAndNotTakenForSilent) {
  use_up(OperationClass::d2c_sends);
  std::string many;
  for (int i = 0; i < 100; ++i) many += publish(kEvents, "x");
  const size_t one = many.size() / 100;
  EXPECT_EQ(session->feed(many), 64 * one);
  EXPECT_TRUE(session->full());
  EXPECT_FALSE(port.reading);
  clock.advance(seconds{20});  // more than 1.5 times the keep-alive
  session->check_deadline(clock.mono());
  EXPECT_FALSE(session->ended());
  session->do_held(clock.mono());
  EXPECT_EQ(counts().telemetry_messages, 64u);
  EXPECT_FALSE(session->full());
  EXPECT_EQ(session->feed(many.substr(64 * one)), 36 * one);
  EXPECT_EQ(counts().telemetry_messages, 100u);
}

TEST_F(MqttThrottleTest, LargeMessagesThatWaitAreBoundedByTheirBytes) {
  use_up(OperationClass::d2c_sends);
  const std::string large = publish(kEvents, std::string(40'000, 'x'));
  EXPECT_EQ(session->feed(large + large + large), 2 * large.size());
  EXPECT_TRUE(session->full());
}

TEST_F(MqttThrottleTest, WhatWaitsIsNotDoneWhenTheDeviceLeaves) {
  use_up(OperationClass::d2c_sends);
  session->feed(publish(kEvents, "x") + publish(kEvents, "y"));
  session->feed(disconnect());
  EXPECT_TRUE(session->ended());
  EXPECT_EQ(figures(OperationClass::d2c_sends).abandoned, 2u);
  EXPECT_EQ(counts().throttle_abandoned, 2u);
  advance(seconds{1});
  EXPECT_EQ(counts().telemetry_messages, 0u);
}

TEST_F(MqttThrottleTest, WhenTheDaysMessagesAreUsedUpTwinRequestsAre403AndTelemetryEndsTheConnection) {
  shared.policy->quota().charge(shared.policy->quota().limit(), clock.wall());
  session->feed(get("1"));
  EXPECT_THAT(port.take(), ElementsAre(AllOf(StartsWith("$iothub/twin/res/403/?$rid=1"),
                                             HasSubstr(R"("errorCode":403002)"), HasSubstr("allocated quota"))));
  session->feed(publish(kEvents, "x"));
  EXPECT_TRUE(session->ended());
  EXPECT_EQ(counts().quota_refused, 2u);
  EXPECT_EQ(counts().disconnects_throttled, 1u);
}

TEST_F(MqttThrottleTest, NotificationsOfDesiredPropertiesAreCharged) {
  session->feed(subscribe("$iothub/twin/PATCH/properties/desired/#"));
  const uint64_t before = shared.policy->quota().used(clock.wall());
  const auto body = *twin::parse_body(R"({"properties":{"desired":{"a":")" + std::string(3'000, 'x') + R"(","b":")" +
                                      std::string(3'000, 'x') + R"("}}})");
  ASSERT_TRUE(patch_twin(*record, body, clock.wall()));
  EXPECT_EQ(shared.policy->quota().used(clock.wall()), before + 2);
}

TEST_F(MqttThrottleTest, MessagesAreChargedByTheirChunks) {
  const uint64_t before = shared.policy->quota().used(clock.wall());
  session->feed(publish(kEvents, std::string(4'097, 'x')));
  EXPECT_EQ(shared.policy->quota().used(clock.wall()), before + 2);
}

TEST_F(MqttThrottleTest, ABasicTierHasNoTwins) {
  session.reset();
  shared.policy = std::make_unique<TierPolicy>(Tier::b1, 1);
  session = open(port);
  session->feed(subscribe("$iothub/twin/res/#"));
  port.take();
  session->feed(get("1"));
  EXPECT_THAT(port.take(),
              ElementsAre(AllOf(StartsWith("$iothub/twin/res/403/?$rid=1"), HasSubstr(R"("errorCode":403010)"))));
  session->feed(publish(kEvents, "x", mqtt::Qos::at_least_once));
  EXPECT_THAT(port.take(), ElementsAre("PUBACK"));
}

}  // namespace
}  // namespace twinstorm::hub
