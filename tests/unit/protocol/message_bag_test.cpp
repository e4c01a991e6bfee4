// Message properties as bags and as headers.
#include "sim/protocol/message_bag.hpp"

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"

namespace twinstorm::protocol {
namespace {

TEST(MessageBagTest, ReadsWhatTheSdkWrites) {
  // device.md 3.5, recorded.
  const std::string bag =
      "%24.mid=m%201%2F%C3%A4&%24.cid=c1&%24.uid=u&%24.ct=application%2Fjson&%24.ce=utf-8&"
      "%24.exp=2023-11-14T22%3A13%3A20.000Z&k%201=v%26%3D%2F%C3%BC&%24.sub=comp&empty=";
  const auto parsed = parse_message_bag(bag);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->message_id, "m 1/ä");
  EXPECT_EQ(parsed->correlation_id, "c1");
  EXPECT_EQ(parsed->user_id, "u");
  EXPECT_EQ(parsed->content_type, "application/json");
  EXPECT_EQ(parsed->content_encoding, "utf-8");
  EXPECT_EQ(parsed->expiry, "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(parsed->subject, "comp");
  const std::vector<Property> application = {{"k 1", "v&=/ü"}, {"empty", ""}};
  EXPECT_EQ(parsed->application, application);
}

TEST(MessageBagTest, BothSpellingsOfSystemNamesAreOne) {
  EXPECT_EQ(parse_message_bag("$.mid=a&$.to=%2Fx")->message_id, "a");
  EXPECT_EQ(*parse_message_bag("$.mid=a&$.ct=b"), *parse_message_bag("%24.mid=a&%24.ct=b"));
  EXPECT_EQ(parse_message_bag("%24.on=out1/")->output, "out1");
  EXPECT_EQ(parse_message_bag("%24.ifid=x&%24.sub=y")->interface_id, "x");
}

TEST(MessageBagTest, BareEmptyAndValuedApplicationPropertiesDiffer) {
  const auto parsed = parse_message_bag("p1&p2=&p3=a%20string&p4=a+b");
  ASSERT_TRUE(parsed);
  const std::vector<Property> application = {{"p1", std::nullopt}, {"p2", ""}, {"p3", "a string"}, {"p4", "a+b"}};
  EXPECT_EQ(parsed->application, application);
  EXPECT_FALSE(parsed->find("p1"));
  EXPECT_EQ(parsed->find("p2"), "");
  EXPECT_FALSE(parsed->find("p9"));
  EXPECT_EQ(format_message_bag(*parsed), "p1&p2=&p3=a%20string&p4=a%2Bb");
}

TEST(MessageBagTest, BareSystemPropertiesCountAsAbsent) {
  EXPECT_EQ(*parse_message_bag("%24.mid"), MessageProperties{});
  EXPECT_EQ(*parse_message_bag(""), MessageProperties{});
}

TEST(MessageBagTest, UnknownSystemNamesStayApplicationProperties) {
  const auto parsed = parse_message_bag("%24.new=1");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->find("$.new"), "1");
  EXPECT_EQ(format_message_bag(*parsed), "%24.new=1");
}

TEST(MessageBagTest, WritesSystemPropertiesFirstAndNeverAPlusForABlank) {
  MessageProperties properties;
  properties.to = "/devices/dev1/messages/devicebound";
  properties.message_id = "abc";
  properties.application = {{"p1", std::nullopt}, {"p3", "a string"}, {"path", "a/b"}};
  EXPECT_EQ(format_message_bag(properties),
            "%24.mid=abc&%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound&p1&p3=a%20string&path=a%2Fb");
}

TEST(MessageBagTest, MalformedBagsAreRefusedByBothReaders) {
  for (const char* bag : {"%", "%2", "%zz=1", "a=%g0", "=v", "&", "a=1&&b=2", "a=1&"}) {
    EXPECT_FALSE(parse_message_bag(bag)) << bag;
    EXPECT_FALSE(measure_message_bag(bag)) << bag;
  }
}

TEST(MessageBagTest, MeasuringCountsSystemValuesAndApplicationNamesWithValues) {
  const auto size = measure_message_bag("%24.mid=abc&$.ct=%20&key=v%20w&bare");
  ASSERT_TRUE(size);
  EXPECT_EQ(size->properties, 4u);
  EXPECT_EQ(size->bytes, 3u + 1u + 3u + 3u + 4u);
}

TEST(MessageBagTest, ReadersAgreeOnRandomText) {
  Rng rng{20'261'123};
  constexpr std::string_view kAlphabet = "a%2Bx&=/$.midctoE4 +#";
  for (int round = 0; round < 20'000; ++round) {
    std::string bag;
    for (uint64_t length = rng.next() % 24; length > 0; --length) bag += kAlphabet[rng.next() % kAlphabet.size()];
    const auto parsed = parse_message_bag(bag);
    const auto size = measure_message_bag(bag);
    ASSERT_EQ(parsed.has_value(), size.has_value()) << bag;
    if (!parsed) continue;
    // Repeated system properties replace each other when parsed, each counts when measured.
    ASSERT_GE(size->bytes, measure(*parsed).bytes) << bag;
    const auto again = parse_message_bag(format_message_bag(*parsed));
    ASSERT_TRUE(again) << bag;
    ASSERT_EQ(*again, *parsed) << bag;
    ASSERT_EQ(measure_message_bag(format_message_bag(*parsed))->bytes, measure(*parsed).bytes) << bag;
  }
}

TEST(MessageHeadersTest, AreTakenInAnyCase) {
  MessageProperties properties;
  EXPECT_TRUE(take_message_header(properties, "IoTHub-MessageId", "m1"));
  EXPECT_TRUE(take_message_header(properties, "iothub-contenttype", "text/plain"));
  EXPECT_TRUE(take_message_header(properties, "dt-subject", "comp"));
  EXPECT_TRUE(take_message_header(properties, "iothub-app-Colour", "red"));
  EXPECT_TRUE(take_message_header(properties, "IoTHub-Ack", "full"));
  EXPECT_FALSE(take_message_header(properties, "Content-Type", "text/plain"));
  EXPECT_FALSE(take_message_header(properties, "iothub-app-", "nameless"));
  EXPECT_EQ(properties.message_id, "m1");
  EXPECT_EQ(properties.content_type, "text/plain");
  EXPECT_EQ(properties.subject, "comp");
  EXPECT_EQ(properties.find("Colour"), "red");
  EXPECT_EQ(properties.find(kAckProperty), "full");
}

TEST(MessageHeadersTest, NeverCarryWhatWouldEndAHeader) {
  MessageProperties properties;
  properties.message_id = "m1";
  properties.correlation_id = "a\r\nSet-Cookie: x";
  properties.application = {{"good", "1"}, {"bad name", "2"}, {"bare", std::nullopt}, {"lf", "a\nb"}};
  std::vector<std::string> seen;
  for_each_message_header(properties, [&](std::string_view name, std::string_view value) {
    seen.push_back(std::string{name} + "=" + std::string{value});
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"iothub-messageid=m1", "iothub-app-good=1", "iothub-app-bare="}));
}

}  // namespace
}  // namespace twinstorm::protocol
