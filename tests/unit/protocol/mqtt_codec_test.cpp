// Properties of the codec that no single vector shows.
#include <random>

#include <gtest/gtest.h>

#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"
#include "tests/unit/protocol/vectors.hpp"

namespace twinstorm::mqtt {
namespace {

using test::ExactBytes;

/// RFC 3629 by decoding to a code point and encoding back: slow and written differently from the decoder.
bool reference_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const int size = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (size == 0 || text.size() - i < static_cast<size_t>(size)) return false;
    uint32_t point = size == 1 ? lead : lead & (0xffU >> (size + 1));
    for (int k = 1; k < size; ++k) {
      const auto next = static_cast<uint8_t>(text[i + static_cast<size_t>(k)]);
      if (next >> 6 != 2) return false;
      point = point << 6 | (next & 0x3f);
    }
    const int shortest = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    if (shortest != size || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) || point == 0) return false;
    i += static_cast<size_t>(size);
  }
  return true;
}

TEST(MqttUtf8, AgreesWithAReferenceOnEveryTwoBytesAndOnRandomOnes) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      ASSERT_EQ(check_utf8(text) == DecodeError::none, reference_utf8(text)) << a << " " << b;
    }
  }
  std::mt19937 random{7};
  const std::string alphabet = "a\x00\x7f\x80\xbf\xc1\xc2\xdf\xe0\xa0\x9f\xed\xef\xf0\x90\x8f\xf4\xf5\xff";
  for (int i = 0; i < 200'000; ++i) {
    std::string text(random() % 9, '\0');
    for (auto& c : text) c = alphabet[random() % alphabet.size()];
    ASSERT_EQ(check_utf8(text) == DecodeError::none, reference_utf8(text)) << i;
  }
}

TEST(MqttFraming, AStreamOfPacketsComesOutWholeHoweverItIsCut) {
  std::mt19937 random{11};
  std::string stream;
  std::vector<std::pair<std::string, std::string>> sent;
  for (int i = 0; i < 40; ++i) {
    sent.emplace_back("topic/" + std::to_string(i), std::string(random() % 300, static_cast<char>('a' + i % 26)));
    const auto qos = static_cast<Qos>(i % 3);
    encode_publish(stream, sent.back().first, sent.back().second, qos, static_cast<uint16_t>(i + 1));
  }
  for (size_t piece = 1; piece < 400; piece = piece * 3 / 2 + 1) {
    std::string held;
    std::vector<std::pair<std::string, std::string>> received;
    for (size_t at = 0; at < stream.size(); at += piece) {
      held += stream.substr(at, piece);
      while (true) {
        const ExactBytes exact{held};
        const auto frame = next_frame(exact.view());
        ASSERT_NE(frame.status, FrameStatus::malformed);
        if (frame.status == FrameStatus::need_more) break;
        const auto publish = decode_publish(frame.flags, frame.body).value();
        received.emplace_back(publish.topic, publish.payload);
        held.erase(0, frame.size);
      }
    }
    EXPECT_EQ(received, sent) << "in pieces of " << piece;
    EXPECT_TRUE(held.empty());
  }
}

TEST(MqttFraming, RefusesAPacketOverTheLimitAsSoonAsItsLengthIsKnown) {
  std::string packet;
  encode_publish(packet, "t", std::string(500, 'x'));
  EXPECT_EQ(next_frame(packet, packet.size()).status, FrameStatus::complete);
  const auto refused = next_frame(std::string_view{packet}.substr(0, 3), packet.size() - 1);
  EXPECT_EQ(refused.status, FrameStatus::malformed);
  EXPECT_EQ(refused.error, DecodeError::packet_too_large);
}

TEST(MqttFraming, NeverReadsOutsideRandomBytes) {
  std::mt19937 random{3};
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes(random() % 40, '\0');
    for (auto& c : bytes) c = static_cast<char>(random());
    // Often a plausible header, so that the typed decoders get work.
    if (bytes.size() > 2 && i % 4 != 0) {
      const uint8_t types[] = {0x10, 0x20, 0x30, 0x32, 0x40, 0x82, 0x90, 0xa2, 0xb0};
      bytes[0] = static_cast<char>(types[random() % std::size(types)]);
      bytes[1] = static_cast<char>(bytes.size() - 2);
    }
    const ExactBytes exact{bytes};
    const auto frame = next_frame(exact.view());
    if (frame.status != FrameStatus::complete) continue;
    (void)decode_connect(frame.body);
    (void)decode_connack(frame.body);
    (void)decode_publish(frame.flags, frame.body);
    (void)decode_suback(frame.body);
    if (const auto subscribe = decode_subscribe(frame.body)) {
      size_t bytes_seen = 2;
      for (const auto& one : subscribe->filters) bytes_seen += 3 + one.filter.size();
      ASSERT_EQ(bytes_seen, frame.body.size());
    }
    if (const auto unsubscribe = decode_unsubscribe(frame.body)) {
      for (const auto& one : unsubscribe->filters) ASSERT_FALSE(one.filter.empty());
    }
  }
}

TEST(PublishWriter, WritesTheSameBytesAsTheEncoderForEveryLengthOfTheLengthField) {
  for (const size_t payload_size :
       {0U, 1U, 100U, 118U, 119U, 120U, 2000U, 16'370U, 16'371U, 16'372U, 16'375U, 40'000U}) {
    for (const auto qos : {Qos::at_most_once, Qos::at_least_once}) {
      const std::string payload(payload_size, 'p');
      std::string expected = "before";
      encode_publish(expected, "topic/1", payload, qos, 513, true, qos != Qos::at_most_once);

      std::string storage(expected.size() + 8, '#');
      ByteWriter out{storage};
      out.append("before");
      PublishWriter publish{out, qos, 513, true, qos != Qos::at_most_once};
      publish.out().append("topic/");
      protocol::append_decimal(publish.out(), 1);
      publish.begin_payload();
      publish.out().append(payload);
      ASSERT_TRUE(publish.finish());
      EXPECT_EQ(out.view(), expected) << payload_size;
      EXPECT_EQ(expected.size() - 6, publish_size(7, payload_size, qos));
    }
  }
}

TEST(PublishWriter, LeavesNothingBehindWhenTheBufferIsTooSmall) {
  const std::string payload(20'000, 'p');
  std::string whole;
  encode_publish(whole, "topic", payload);
  std::string storage(whole.size() + 6, '#');
  for (const size_t room : {size_t{0}, size_t{3}, size_t{8}, size_t{500}, whole.size() - 1}) {
    ByteWriter out{std::span{storage}.first(room + 6)};
    out.append("before");
    PublishWriter publish{out};
    publish.out().append("topic");
    publish.begin_payload();
    publish.out().append(payload);
    EXPECT_FALSE(publish.finish());
    EXPECT_EQ(out.view(), "before");
    EXPECT_FALSE(out.overflowed());
  }
  ByteWriter out{storage};
  out.append("before");
  PublishWriter publish{out};
  publish.out().append("topic");
  publish.begin_payload();
  publish.out().append(payload);
  EXPECT_TRUE(publish.finish()) << "exactly enough room";
}

TEST(PublishWriter, GivesUpOnATopicLongerThanItsLengthField) {
  std::string storage(100'000, '#');
  ByteWriter out{storage};
  PublishWriter publish{out};
  publish.out().append(std::string(65'536, 't'));
  publish.begin_payload();
  EXPECT_FALSE(publish.finish());
  EXPECT_EQ(out.size(), 0U);
}

TEST(ByteWriter, IgnoresEverythingBehindTheFirstAppendThatDoesNotFit) {
  char buffer[4];
  ByteWriter out{buffer};
  out.append("ab");
  out.append("xyz");
  out.push_back('c');
  EXPECT_TRUE(out.overflowed());
  EXPECT_EQ(out.view(), "ab");
  out.rewind(1);
  out.append("xyz");
  EXPECT_FALSE(out.overflowed());
  EXPECT_EQ(out.view(), "axyz");
  EXPECT_EQ(out.remaining(), 0U);
}

TEST(ByteWriter, CountsDecimalDigits) {
  for (const uint64_t value : {0UL, 9UL, 10UL, 99UL, 100UL, 4'294'967'295UL, 18'446'744'073'709'551'615UL}) {
    std::string text;
    protocol::append_decimal(text, value);
    EXPECT_EQ(text, std::to_string(value));
    EXPECT_EQ(protocol::decimal_size(value), text.size());
  }
}

}  // namespace
}  // namespace twinstorm::mqtt
