// Direct methods between a caller and a device that are both the test.
#include "sim/hub/messaging/method_calls.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/hub/store/device_record.hpp"

namespace twinstorm::hub {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// A connected device that keeps what it is asked.
class FakeLink final : public DeviceLink {
 public:
  void notify_desired(int64_t, std::string_view) override {}
  bool invoke_method(std::string_view name, std::string_view rid, std::string_view payload) override {
    if (!subscribed) return false;
    requests.push_back({std::string{name}, std::string{rid}, std::string{payload}});
    return true;
  }
  void messages_waiting() override {}
  void close(CloseReason) override {}

  struct Request {
    std::string name;
    std::string rid;
    std::string payload;
  };
  std::vector<Request> requests;
  bool subscribed = true;
};

class MethodCallsTest : public ::testing::Test {
 protected:
  MethodCallsTest() { record.link = &link; }

  void call(std::string_view body) {
    auto request = parse_method_request(body);
    ASSERT_TRUE(request) << request.error().message;
    calls.call(record, std::move(*request), now, [this](MethodOutcome outcome) {
      outcomes.push_back(outcome ? std::to_string(outcome->status) + " " + outcome->payload
                                 : std::to_string(outcome.error().error_code));
    });
  }
  HubCounts counted() { return counts.read(); }

  LiveCounts counts;
  MethodCalls calls{counts};
  DeviceRecord record;
  FakeLink link;
  MonoTime now{100s};
  std::vector<std::string> outcomes;
};

TEST_F(MethodCallsTest, CarriesTheRequestAndTheAnswer) {
  call(R"({"methodName":"reboot","payload":{"delay":5.0},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0})");
  ASSERT_EQ(link.requests.size(), 1u);
  EXPECT_EQ(link.requests[0].name, "reboot");
  EXPECT_EQ(link.requests[0].payload, R"({"delay":5.0})");
  EXPECT_TRUE(calls.answer(record, link.requests[0].rid, 200, R"({"ok":true})"));
  EXPECT_THAT(outcomes, ::testing::ElementsAre(R"(200 {"ok":true})"));
  EXPECT_EQ(calls.pending(), 0u);
  EXPECT_EQ(calls.next_deadline(), MonoTime::max());
  EXPECT_EQ(counted().methods_answered, 1u);
}

TEST_F(MethodCallsTest, NoPayloadIsTheTextNullBothWays) {
  call(R"({"methodName":"m"})");
  EXPECT_EQ(link.requests.at(0).payload, "null");
  calls.answer(record, link.requests[0].rid, 418, "");
  EXPECT_THAT(outcomes, ::testing::ElementsAre("418 null"));
}

TEST_F(MethodCallsTest, AnswersFindTheirCallsWhateverTheOrder) {
  for (int i = 0; i < 100; ++i) call(R"({"methodName":"m"})");
  for (int i = 99; i >= 0; --i) {
    EXPECT_TRUE(calls.answer(record, link.requests[static_cast<size_t>(i)].rid, i, std::to_string(i)));
  }
  ASSERT_EQ(outcomes.size(), 100u);
  EXPECT_EQ(outcomes.front(), "99 99");
  EXPECT_EQ(outcomes.back(), "0 0");
}

TEST_F(MethodCallsTest, AnOfflineOrDeafDeviceIs404103AtOnce) {
  link.subscribed = false;
  call(R"({"methodName":"m"})");
  record.link = nullptr;
  call(R"({"methodName":"m"})");
  EXPECT_THAT(outcomes, ::testing::ElementsAre("404103", "404103"));
  EXPECT_EQ(counted().methods_offline, 2u);
}

TEST_F(MethodCallsTest, TheConnectTimeoutWaitsForTheDevice) {
  record.link = nullptr;
  call(R"({"methodName":"m","payload":1,"connectTimeoutInSeconds":10})");
  call(R"({"methodName":"m","payload":2,"connectTimeoutInSeconds":20})");
  EXPECT_TRUE(outcomes.empty());
  now += 10s;
  calls.expire(now);
  EXPECT_THAT(outcomes, ::testing::ElementsAre("404103"));
  record.link = &link;
  calls.device_ready(record, now);
  ASSERT_EQ(link.requests.size(), 1u);
  EXPECT_EQ(link.requests[0].payload, "2");
  calls.device_ready(record, now);  // a second SUBSCRIBE sends nothing again
  EXPECT_EQ(link.requests.size(), 1u);
  now += 29s;
  calls.expire(now);
  EXPECT_EQ(outcomes.size(), 1u);  // the response timeout counts from the delivery
  calls.answer(record, link.requests[0].rid, 200, "true");
  EXPECT_EQ(outcomes.back(), "200 true");
}

TEST_F(MethodCallsTest, ASilentDeviceIs504101AndItsLateAnswerIsUnused) {
  call(R"({"methodName":"m","responseTimeoutInSeconds":5})");
  calls.expire(now + 4s);
  EXPECT_TRUE(outcomes.empty());
  calls.expire(now + 5s);
  EXPECT_THAT(outcomes, ::testing::ElementsAre("504101"));
  EXPECT_FALSE(calls.answer(record, link.requests[0].rid, 200, ""));
  EXPECT_EQ(counted().method_answers_unused, 1u);
  EXPECT_EQ(counted().methods_timed_out, 1u);
}

TEST_F(MethodCallsTest, OnlyTheDeviceThatWasAskedMayAnswer) {
  call(R"({"methodName":"m"})");
  DeviceRecord other;
  EXPECT_FALSE(calls.answer(other, link.requests[0].rid, 200, ""));
  EXPECT_FALSE(calls.answer(record, "zz", 200, ""));
  EXPECT_FALSE(calls.answer(record, "", 200, ""));
  EXPECT_FALSE(calls.answer(record, "ffffffffffffffffff", 200, ""));
  EXPECT_TRUE(outcomes.empty());
}

TEST_F(MethodCallsTest, AnAnswerThatIsNoJsonIsTheDevicesFault) {
  for (const std::string& bad :
       {std::string{"{broken"}, std::string{"\"\xff\""}, std::string(kMethodPayloadMax + 1, '1')}) {
    call(R"({"methodName":"m"})");
    EXPECT_TRUE(calls.answer(record, link.requests.back().rid, 200, bad));
    EXPECT_EQ(outcomes.back(), "502000");
  }
  EXPECT_EQ(counted().methods_bad_answers, 3u);
}

TEST_F(MethodCallsTest, RemovingTheIdentityEndsItsCalls) {
  call(R"({"methodName":"m"})");
  record.link = nullptr;
  call(R"({"methodName":"m","connectTimeoutInSeconds":10})");
  calls.forget(record);
  EXPECT_THAT(outcomes, ::testing::ElementsAre("404001", "404001"));
  EXPECT_EQ(calls.pending(), 0u);
}

TEST_F(MethodCallsTest, PendingCallsAreBounded) {
  record.link = nullptr;
  const std::string large =
      R"({"methodName":"m","connectTimeoutInSeconds":10,"payload":")" + std::string(kMethodPayloadMax - 2, 'x') + "\"}";
  const size_t fit = MethodCalls::kWaitingBytesMax / kMethodPayloadMax;
  for (size_t i = 0; i < fit; ++i) call(large);
  EXPECT_TRUE(outcomes.empty());
  call(large);
  EXPECT_THAT(outcomes, ::testing::ElementsAre("429001"));
  record.link = &link;
  calls.device_ready(record, now);  // gives the bytes back
  EXPECT_EQ(link.requests.size(), fit);
  record.link = nullptr;
  call(large);
  EXPECT_EQ(outcomes.size(), 1u);
  for (size_t i = calls.pending(); i < MethodCalls::kCallsMax; ++i) {
    call(R"({"methodName":"m","connectTimeoutInSeconds":10})");
  }
  EXPECT_EQ(outcomes.size(), 1u);
  call(R"({"methodName":"m"})");
  EXPECT_THAT(outcomes, ::testing::ElementsAre("429001", "429001"));
  calls.clear();
  EXPECT_EQ(outcomes.size(), 2u);
}

TEST_F(MethodCallsTest, EveryCallIsCountedOnce) {
  call(R"({"methodName":"m"})");
  calls.answer(record, link.requests.back().rid, 200, "");
  call(R"({"methodName":"m"})");
  calls.expire(now + 30s);
  record.link = nullptr;
  call(R"({"methodName":"m"})");
  call(R"({"methodName":"m","connectTimeoutInSeconds":1})");
  const HubCounts c = counted();
  EXPECT_EQ(c.methods_called, 4u);
  EXPECT_EQ(c.methods_answered + c.methods_offline + c.methods_timed_out + c.methods_bad_answers + c.methods_refused +
                calls.pending(),
            4u);
}

TEST(MethodRequestTest, RefusesWhatTheServiceRefuses) {
  const auto error = [](std::string_view body) {
    const auto request = parse_method_request(body);
    return request ? std::string{"accepted"} : std::to_string(request.error().status) + " " + request.error().message;
  };
  EXPECT_THAT(error("[]"), HasSubstr("400 the body is not a JSON object"));
  EXPECT_THAT(error("{"), HasSubstr("400 the body is not a JSON object"));
  EXPECT_THAT(error("{}"), HasSubstr("'methodName' must be a string"));
  EXPECT_THAT(error(R"({"methodName":5})"), HasSubstr("'methodName' must be a string"));
  EXPECT_THAT(error(R"({"methodName":""})"), HasSubstr("'methodName' must be 1 to 128"));
  EXPECT_THAT(error(R"({"methodName":"a b"})"), HasSubstr("'methodName' must be 1 to 128"));
  EXPECT_THAT(error(R"({"methodName":"\u00e4"})"), HasSubstr("'methodName' must be 1 to 128"));
  EXPECT_THAT(error(R"({"methodName":"a\/b"})"), HasSubstr("'methodName' must be 1 to 128"));
  EXPECT_THAT(error(R"({"methodName":"m","responseTimeoutInSeconds":4})"), HasSubstr("is 4, a whole number from 5"));
  EXPECT_THAT(error(R"({"methodName":"m","responseTimeoutInSeconds":301})"), HasSubstr("is 301"));
  EXPECT_THAT(error(R"({"methodName":"m","responseTimeoutInSeconds":"x"})"), HasSubstr("is \"x\""));
  EXPECT_THAT(error(R"({"methodName":"m","connectTimeoutInSeconds":-1})"), HasSubstr("is -1"));
  EXPECT_THAT(error(R"({"methodName":"m","responseTimeoutInSeconds":5,"connectTimeoutInSeconds":6})"),
              HasSubstr("must not be more than"));
  EXPECT_THAT(error(R"({"methodName":"m","payload":")" + std::string(kMethodPayloadMax, 'x') + "\"}"),
              HasSubstr("413 the payload has 131074 bytes, 131072 are allowed"));
  EXPECT_EQ(error(R"({"methodName":"comp*cmd","payload":null,"responseTimeoutInSeconds":null})"), "accepted");
}

}  // namespace
}  // namespace twinstorm::hub
