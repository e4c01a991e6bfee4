// Queues of cloud-to-device messages and of feedback, by the clock of the test.
#include "sim/hub/messaging/message_queue.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/hub/messaging/event_watch.hpp"
#include "sim/hub/messaging/feedback_queue.hpp"

namespace twinstorm::hub {
namespace {

using namespace std::chrono_literals;

class MessageQueueTest : public ::testing::Test {
 protected:
  void add(std::string body, Nanos ttl = kCloudMessageTtl) {
    CloudMessage message;
    message.body = std::move(body);
    message.expires = now + ttl;
    ASSERT_TRUE(queue.add(std::move(message), now));
  }
  std::string lock(const std::string& token) {
    const CloudMessage* message = queue.lock(token, now);
    return message == nullptr ? "none" : message->body;
  }

  MessageQueue queue;
  WallTime now{1'700'000'000s};
};

TEST_F(MessageQueueTest, HoldsFiftyAndRefusesTheNext) {
  for (int i = 0; i < 50; ++i) add("m");
  const auto refused = queue.add({}, now);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, 403);
  EXPECT_EQ(refused.error().error_code, 403'004);
  EXPECT_EQ(refused.error().name, "DeviceMaximumQueueDepthExceeded");
}

TEST_F(MessageQueueTest, ALockedMessageIsNotOfferedAgainUntilItsMinuteIsOver) {
  add("a");
  add("b");
  EXPECT_EQ(lock("t1"), "a");
  EXPECT_EQ(lock("t2"), "b");
  EXPECT_EQ(lock("t3"), "none");
  now += 61s;
  EXPECT_EQ(queue.settle("t1", now).error().error_code, 412'002);
  EXPECT_EQ(lock("t4"), "a");
  EXPECT_EQ(queue.settle("t4", now)->body, "a");
  EXPECT_EQ(queue.settle("t4", now).error().name, "DeviceMessageLockLost");
  EXPECT_EQ(queue.size(), 1u);
}

TEST_F(MessageQueueTest, AnEmptyTokenLocksNothing) {
  add("a");
  EXPECT_FALSE(queue.settle("", now));
  EXPECT_FALSE(queue.abandon("", now));
}

TEST_F(MessageQueueTest, TheTenthTimeAMessageIsGivenBackIsItsLast) {
  add("a");
  for (int i = 1; i < 10; ++i) {
    ASSERT_EQ(lock("t"), "a");
    const auto given_back = queue.abandon("t", now);
    ASSERT_TRUE(given_back);
    EXPECT_FALSE(*given_back) << i;
  }
  lock("t");
  const auto last = queue.abandon("t", now);
  ASSERT_TRUE(last && *last);
  EXPECT_EQ((*last)->delivery_count, 10);
  EXPECT_TRUE(queue.empty());
}

TEST_F(MessageQueueTest, OneMessageIsOnTheWireAtATime) {
  add("a");
  add("b");
  bool repeated = true;
  const CloudMessage* first = queue.send_next(now, repeated);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->body, "a");
  EXPECT_FALSE(repeated);
  EXPECT_EQ(queue.send_next(now, repeated), nullptr);
  EXPECT_FALSE(queue.acknowledge(99));
  EXPECT_EQ(queue.acknowledge(first->packet_id)->body, "a");
  EXPECT_EQ(queue.send_next(now, repeated)->body, "b");
  EXPECT_FALSE(repeated);
}

TEST_F(MessageQueueTest, AnUnacknowledgedMessageIsRepeatedUnderItsIdInTheNextConnection) {
  add("a");
  bool repeated = false;
  const uint16_t id = queue.send_next(now, repeated)->packet_id;
  queue.connection_lost(true);
  const CloudMessage* again = queue.send_next(now, repeated);
  ASSERT_NE(again, nullptr);
  EXPECT_TRUE(repeated);
  EXPECT_EQ(again->packet_id, id);
  queue.connection_lost(false);  // a clean session knows nothing of it
  again = queue.send_next(now, repeated);
  EXPECT_FALSE(repeated);
  EXPECT_NE(again->packet_id, id);
}

TEST_F(MessageQueueTest, WhatIsOnTheWireDoesNotExpireAndIsNotPolled) {
  add("a", 5s);
  bool repeated = false;
  const uint16_t id = queue.send_next(now, repeated)->packet_id;
  EXPECT_EQ(lock("t"), "none");
  now += 6s;
  EXPECT_TRUE(queue.take_expired(now).empty());
  queue.connection_lost(true);
  EXPECT_EQ(queue.take_expired(now).size(), 1u);
  EXPECT_FALSE(queue.acknowledge(id));
}

TEST_F(MessageQueueTest, ExpiryTakesWhatIsDueAndNothingElse) {
  add("short", 5s);
  add("long", 50s);
  EXPECT_TRUE(queue.take_expired(now + 4s).empty());
  const auto expired = queue.take_expired(now + 5s);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].body, "short");
  now += 60s;
  EXPECT_EQ(lock("t"), "none");  // due, though nobody has swept yet
}

TEST(FeedbackWantedTest, NamesAndMeanings) {
  EXPECT_EQ(parse_feedback_wanted(""), FeedbackWanted::none);
  EXPECT_EQ(parse_feedback_wanted("Positive"), FeedbackWanted::positive);
  EXPECT_EQ(parse_feedback_wanted("FULL"), FeedbackWanted::full);
  EXPECT_FALSE(parse_feedback_wanted("always"));
  EXPECT_TRUE(wants_feedback(FeedbackWanted::positive, MessageOutcome::success));
  EXPECT_FALSE(wants_feedback(FeedbackWanted::positive, MessageOutcome::expired));
  EXPECT_TRUE(wants_feedback(FeedbackWanted::negative, MessageOutcome::purged));
  EXPECT_FALSE(wants_feedback(FeedbackWanted::negative, MessageOutcome::success));
  EXPECT_TRUE(wants_feedback(FeedbackWanted::full, MessageOutcome::rejected));
  EXPECT_FALSE(wants_feedback(FeedbackWanted::none, MessageOutcome::success));
}

class FeedbackQueueTest : public ::testing::Test {
 protected:
  size_t add(std::string id) { return queue.add({std::move(id), "gen", "dev1", "", MessageOutcome::success, now}); }

  FeedbackQueue queue;
  WallTime now{1'700'000'000s};
};

TEST_F(FeedbackQueueTest, BatchesAreLockedCompletedOrGivenBack) {
  for (int i = 0; i < 70; ++i) add(std::to_string(i));
  const FeedbackQueue::Batch* batch = queue.receive("t1", now);
  ASSERT_NE(batch, nullptr);
  EXPECT_EQ(batch->records.size(), 64u);
  EXPECT_TRUE(queue.abandon("t1", now));
  batch = queue.receive("t2", now);
  ASSERT_NE(batch, nullptr);
  EXPECT_EQ(batch->records.front().original_message_id, "0");
  EXPECT_TRUE(queue.complete("t2", now));
  EXPECT_EQ(queue.complete("t2", now).error().error_code, 412'002);
  EXPECT_EQ(queue.size(), 6u);
  queue.receive("t3", now);
  EXPECT_EQ(queue.receive("t4", now), nullptr);
  EXPECT_EQ(queue.expire(now + 61s), 0u);  // the lock has run out
  EXPECT_EQ(queue.receive("t5", now + 61s)->records.size(), 6u);
}

TEST_F(FeedbackQueueTest, OldRecordsGo) {
  add("a");
  EXPECT_EQ(queue.expire(now + 61min), 1u);
  size_t dropped = 0;
  for (size_t i = 0; i < FeedbackQueue::kRecordsMax + 5; ++i) dropped += add("x");
  EXPECT_EQ(dropped, 5u);
  EXPECT_EQ(queue.size(), FeedbackQueue::kRecordsMax);
}

TEST_F(FeedbackQueueTest, LockedRecordsTakeRoomToo) {
  for (size_t i = 0; i < FeedbackQueue::kRecordsMax; ++i) EXPECT_EQ(add("x"), 0u);
  ASSERT_NE(queue.receive("t1", now), nullptr);
  ASSERT_NE(queue.receive("t2", now), nullptr);
  EXPECT_EQ(queue.size(), FeedbackQueue::kRecordsMax);
  EXPECT_EQ(add("y"), 1u);
  EXPECT_TRUE(queue.abandon("t1", now));
  EXPECT_EQ(queue.size(), FeedbackQueue::kRecordsMax);
  EXPECT_TRUE(queue.complete("t2", now));
  EXPECT_EQ(queue.size(), FeedbackQueue::kRecordsMax - FeedbackQueue::kBatchMax);
  ASSERT_NE(queue.receive("t3", now), nullptr);
  queue.expire(now + 61s);
  EXPECT_EQ(queue.size(), FeedbackQueue::kRecordsMax - FeedbackQueue::kBatchMax);
}

TEST_F(FeedbackQueueTest, TheBodyIsWhatTheServiceSends) {
  std::string out;
  write_feedback({{"m1", "gen", "dev1", "", MessageOutcome::success, now},
                  {"m\"2", "gen", "dev1", "mod", MessageOutcome::delivery_count_exceeded, now}},
                 out);
  EXPECT_EQ(out, R"([{"originalMessageId":"m1","description":"Success","deviceGenerationId":"gen","deviceId":"dev1",)"
                 R"("enqueuedTimeUtc":"2023-11-14T22:13:20Z","statusCode":"Success"},)"
                 R"({"originalMessageId":"m\"2","description":"DeliveryCountExceeded","deviceGenerationId":"gen",)"
                 R"("deviceId":"dev1","moduleId":"mod","enqueuedTimeUtc":"2023-11-14T22:13:20Z",)"
                 R"("statusCode":"DeliveryCountExceeded"}])");
}

TEST(EventWatchTest, ShowsWhatCameSinceTheLastLook) {
  const WallTime now{1'700'000'000s};
  EventWatch watch{now};
  protocol::MessageProperties properties;
  properties.message_id = "m1";
  properties.application = {{"k", "v"}, {"bare", std::nullopt}, {"bytes", "\xff"}};
  watch.add(properties, "hello", now);
  watch.add({}, std::string(EventWatch::kBodyBytesMax + 1, 'x'), now);
  std::string out;
  watch.take(now, out);
  EXPECT_EQ(out, R"([{"enqueuedTime":"2023-11-14T22:13:20Z","systemProperties":{"messageId":"m1"},)"
                 R"("properties":{"k":"v","bare":null,"bytes":"%FF"},"bodySize":5,"body":"aGVsbG8="},)"
                 R"({"enqueuedTime":"2023-11-14T22:13:20Z","systemProperties":{},"properties":{},"bodySize":4097}])");
  out.clear();
  watch.take(now, out);
  EXPECT_EQ(out, "[]");
  EXPECT_FALSE(watch.forgotten(now + 60s));
  EXPECT_TRUE(watch.forgotten(now + 61s));
}

TEST(EventWatchTest, LargePropertiesTakeBoundedMemory) {
  const WallTime now{1'700'000'000s};
  EventWatch watch{now};
  protocol::MessageProperties large;
  large.application = {{"k", std::string(60'000, 'v')}};
  for (char c = 'a'; c < 'k'; ++c) {
    large.message_id = c;
    watch.add(large, "x", now);
  }
  std::string out;
  watch.take(now, out);
  EXPECT_LT(out.size(), EventWatch::kBytesMax + 1000);
  EXPECT_THAT(out, ::testing::HasSubstr(R"("messageId":"j")"));
  EXPECT_THAT(out, ::testing::Not(::testing::HasSubstr(R"("messageId":"a")")));

  // Of a single message beyond all bounds only the body is kept; small ones have their room again.
  large.application.assign(10'000, {"a", "b"});
  watch.add(large, "body", now);
  for (size_t i = 1; i < EventWatch::kMessagesMax; ++i) watch.add({}, "y", now);
  out.clear();
  watch.take(now, out);
  EXPECT_THAT(out, ::testing::StartsWith(R"([{"enqueuedTime":"2023-11-14T22:13:20Z","systemProperties":{},)"
                                         R"("properties":{},"bodySize":4,)"));
}

}  // namespace
}  // namespace twinstorm::hub
