// Conversations of a device's session, written as they go over the wire.
#include "sim/protocol/mqtt/client_session.hpp"

#include <random>
#include <set>

#include <gtest/gtest.h>

#include "tests/unit/protocol/vectors.hpp"

namespace twinstorm::mqtt {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;

struct Log {
  std::vector<std::string> lines;
  void on_connack(const Connack& connack) {
    lines.push_back("CONNACK " + std::to_string(static_cast<int>(connack.code)));
  }
  void on_publish(const Publish& publish) {
    lines.push_back("PUBLISH " + std::string{publish.topic} + " " + std::string{publish.payload});
  }
  void on_puback(uint16_t packet_id) { lines.push_back("PUBACK " + std::to_string(packet_id)); }
  void on_suback(const Suback& suback) { lines.push_back("SUBACK " + std::to_string(suback.packet_id)); }
  void on_unsuback(uint16_t packet_id) { lines.push_back("UNSUBACK " + std::to_string(packet_id)); }
  void on_pingresp() { lines.push_back("PINGRESP"); }
};
using Lines = std::vector<std::string>;

class ClientSessionTest : public testing::Test {
 protected:
  static constexpr MonoTime kStart{Nanos{1s}};

  /// What the session has written since the last call.
  std::string written() {
    std::string bytes{out.view()};
    out.rewind(0);
    return bytes;
  }
  FeedResult hears(std::string_view hex, MonoTime now = kStart) { return session.feed(bytes_of(hex), log, now); }
  void connect(uint16_t keep_alive = 180) {
    Connect options;
    options.client_id = "dev1";
    options.keep_alive_seconds = keep_alive;
    ASSERT_TRUE(session.connect(out, options, kStart, 60s));
    ASSERT_EQ(hears("20 02 00 00").error, DecodeError::none);
    out.rewind(0);
    log.lines.clear();
  }

  std::string storage = std::string(4096, '\0');
  ByteWriter out{storage};
  ClientSession session;
  Log log;
};

TEST_F(ClientSessionTest, ConnectsSubscribesAndExchangesMessages) {
  Connect options;
  options.client_id = "ab";
  options.clean_session = true;
  ASSERT_TRUE(session.connect(out, options, kStart, 60s));
  EXPECT_EQ(written(), bytes_of("10 0e 0004 'MQTT' 04 02 0000 0002 'ab'"));
  EXPECT_EQ(session.state(), SessionState::connecting);
  EXPECT_EQ(session.next_deadline(), kStart + 60s);
  EXPECT_EQ(hears("20 02 00 00").consumed, 4U);
  EXPECT_TRUE(session.connected());
  EXPECT_EQ(session.next_deadline(), MonoTime::max()) << "keep alive 0: nothing to wait for";

  const Subscription filters[] = {{"$iothub/twin/res/#", Qos::at_most_once}};
  EXPECT_EQ(session.subscribe(out, filters), 1);
  EXPECT_EQ(written(), bytes_of("82 17 0001 0012 '$iothub/twin/res/#' 00"));
  EXPECT_TRUE(session.publish0(out, "a", "x"));
  EXPECT_EQ(session.publish1(out, "b", "y"), 2);
  EXPECT_EQ(written(), bytes_of("30 04 0001 'a' 'x' | 32 06 0001 'b' 0002 'y'"));
  EXPECT_EQ(session.outstanding(), 2);

  hears("90 03 0001 00 | 32 07 0003 'c/d' 0009 | 40 02 0002");
  EXPECT_EQ(log.lines, (Lines{"CONNACK 0", "SUBACK 1", "PUBLISH c/d ", "PUBACK 2"}));
  EXPECT_EQ(session.outstanding(), 0);
  EXPECT_TRUE(session.puback(out, 9));
  EXPECT_EQ(written(), bytes_of("40 02 0009"));

  const std::string_view names[] = {"$iothub/twin/res/#"};
  EXPECT_EQ(session.unsubscribe(out, names), 3);
  out.rewind(0);
  hears("b0 02 0003");
  EXPECT_EQ(log.lines.back(), "UNSUBACK 3");
  EXPECT_TRUE(session.disconnect(out));
  EXPECT_EQ(written(), bytes_of("e0 00"));
  EXPECT_EQ(session.state(), SessionState::closed);
}

TEST_F(ClientSessionTest, HearsTheSameHoweverTheBytesAreCut) {
  const auto bytes = bytes_of("20 02 00 00 | 30 04 0001 'a' 'x' | 32 06 0001 'b' 0009 'y' | d0 00");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    ClientSession fresh;
    Log heard;
    out.rewind(0);
    ASSERT_TRUE(fresh.connect(out, {}, kStart, 60s));
    std::string held = bytes.substr(0, cut);
    const auto first = fresh.feed(held, heard, kStart);
    ASSERT_EQ(first.error, DecodeError::none);
    held = held.substr(first.consumed) + bytes.substr(cut);
    const auto second = fresh.feed(held, heard, kStart);
    EXPECT_EQ(first.consumed + second.consumed, bytes.size());
    EXPECT_EQ(heard.lines, (Lines{"CONNACK 0", "PUBLISH a x", "PUBLISH b y", "PINGRESP"})) << "cut at " << cut;
  }
}

TEST_F(ClientSessionTest, IsClosedByARefusal) {
  ASSERT_TRUE(session.connect(out, {}, kStart, 60s));
  const auto fed = hears("20 02 00 05 | 30 04 0001 'a' 'x'");
  EXPECT_EQ(log.lines, Lines{"CONNACK 5"}) << "what follows a refusal is not heard";
  EXPECT_EQ(fed.consumed, 4U);
  EXPECT_EQ(session.state(), SessionState::closed);
  out.rewind(0);
  EXPECT_FALSE(session.publish0(out, "a", "x"));
  EXPECT_EQ(session.publish1(out, "a", "x"), 0);
  EXPECT_EQ(written(), "");
}

TEST_F(ClientSessionTest, GivesUpWhenNoConnackComes) {
  ASSERT_TRUE(session.connect(out, {}, kStart, 60s));
  out.rewind(0);
  EXPECT_EQ(session.on_time(kStart + 59s, out), TimeAction::none);
  EXPECT_EQ(session.on_time(kStart + 60s, out), TimeAction::connack_missing);
  EXPECT_EQ(session.state(), SessionState::closed);
  EXPECT_EQ(session.next_deadline(), MonoTime::max());
}

TEST_F(ClientSessionTest, PingsEveryKeepAlivePeriodEvenUnderTraffic) {
  connect(180);
  EXPECT_EQ(session.next_deadline(), kStart + 180s);
  EXPECT_TRUE(session.publish0(out, "a", "x"));
  out.rewind(0);
  EXPECT_EQ(session.on_time(kStart + 179s, out), TimeAction::none);
  EXPECT_EQ(session.on_time(kStart + 180s, out), TimeAction::ping_sent);
  EXPECT_EQ(written(), bytes_of("c0 00"));
  EXPECT_EQ(session.next_deadline(), kStart + 360s);
  hears("d0 00");
  EXPECT_EQ(session.on_time(kStart + 360s, out), TimeAction::ping_sent);
}

TEST_F(ClientSessionTest, IsDeadWhenThePingIsUnansweredAtTheNextPeriod) {
  connect(10);
  EXPECT_EQ(session.on_time(kStart + 10s, out), TimeAction::ping_sent);
  out.rewind(0);
  hears("30 04 0001 'a' 'x'");  // other traffic is no answer
  EXPECT_EQ(session.on_time(kStart + 20s, out), TimeAction::pingresp_missing);
  EXPECT_EQ(session.state(), SessionState::closed);
  EXPECT_EQ(written(), "");
}

TEST_F(ClientSessionTest, AsksAgainWhenThePingDidNotFit) {
  connect(10);
  ByteWriter full{std::span<char>{}};
  EXPECT_EQ(session.on_time(kStart + 10s, full), TimeAction::would_block);
  EXPECT_EQ(session.on_time(kStart + 11s, out), TimeAction::ping_sent);
}

TEST_F(ClientSessionTest, WritesNothingWhenThereIsNoRoom) {
  connect();
  char few[10];
  ByteWriter small{few};
  EXPECT_FALSE(session.publish0(small, "topic", "payload"));
  EXPECT_EQ(session.publish1(small, "topic", "payload"), 0);
  const Subscription filters[] = {{"a/long/filter", Qos::at_most_once}};
  EXPECT_EQ(session.subscribe(small, filters), 0);
  EXPECT_EQ(small.size(), 0U);
  EXPECT_FALSE(small.overflowed());
  EXPECT_EQ(session.outstanding(), 0);
}

TEST_F(ClientSessionTest, KeepsItsHandsOffAWriterThatOverflowedBefore) {
  connect();
  char few[10];
  ByteWriter small{few};
  small.append("12345678901");
  ASSERT_TRUE(small.overflowed());
  EXPECT_FALSE(session.publish0(small, "a", ""));
  EXPECT_TRUE(small.overflowed());
}

TEST_F(ClientSessionTest, IgnoresAnswersToIdentifiersItDidNotSend) {
  connect();
  EXPECT_EQ(hears("40 02 0001 | 90 03 0007 00 | b0 02 ffff").error, DecodeError::none);
  EXPECT_EQ(log.lines, Lines{});
  EXPECT_EQ(session.publish1(out, "a", ""), 1);
  hears("40 02 0001 | 40 02 0001");
  EXPECT_EQ(log.lines, Lines{"PUBACK 1"}) << "the second one is a duplicate";
}

TEST_F(ClientSessionTest, LimitsWhatIsInFlight) {
  connect();
  for (int i = 1; i <= ClientSession::kInFlightMax; ++i) {
    ASSERT_EQ(session.publish1(out, "a", ""), i);
  }
  EXPECT_EQ(session.publish1(out, "a", ""), 0);
  hears("40 02 0002");
  EXPECT_EQ(session.publish1(out, "a", ""), 0) << "the window begins at the oldest, which is still unanswered";
  hears("40 02 0001");
  EXPECT_EQ(session.publish1(out, "a", ""), 65);
  EXPECT_EQ(session.publish1(out, "a", ""), 66);
  EXPECT_EQ(session.publish1(out, "a", ""), 0);
}

TEST_F(ClientSessionTest, SkipsIdentifierZeroWhenTheyWrapAround) {
  session = ClientSession{0xfffe};
  connect();
  EXPECT_EQ(session.publish1(out, "a", ""), 0xfffe);
  EXPECT_EQ(session.publish1(out, "a", ""), 0xffff);
  EXPECT_EQ(session.publish1(out, "a", ""), 1);
  EXPECT_EQ(session.publish1(out, "a", ""), 2);
  hears("40 02 0001 | 40 02 fffe | 40 02 ffff | 40 02 0002");
  EXPECT_EQ(log.lines, (Lines{"PUBACK 1", "PUBACK 65534", "PUBACK 65535", "PUBACK 2"}));
  EXPECT_EQ(session.outstanding(), 0);
}

TEST_F(ClientSessionTest, TracksIdentifiersLikeASet) {
  session = ClientSession{65'500};
  connect();
  std::mt19937 random{5};
  std::set<uint16_t> expected;
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0) {
      const auto id = session.acquire_packet_id();
      if (id != 0) {
        ASSERT_TRUE(expected.insert(id).second) << "identifier " << id << " is in use";
      } else {
        ASSERT_FALSE(expected.empty());
      }
    } else if (!expected.empty()) {
      auto pick = expected.begin();
      std::advance(pick, static_cast<long>(random() % expected.size()));
      const auto id = *pick;
      ASSERT_TRUE(session.is_outstanding(id));
      session.release_packet_id(id);
      expected.erase(pick);
      ASSERT_FALSE(session.is_outstanding(id));
    }
    ASSERT_EQ(session.outstanding(), static_cast<int>(expected.size()));
  }
}

TEST_F(ClientSessionTest, RefusesPacketsAServerMayNotSend) {
  struct Case {
    const char* hex;
    DecodeError error;
  };
  for (const auto& one :
       {Case{"20 02 00 00", DecodeError::unexpected_packet}, Case{"c0 00", DecodeError::unexpected_packet},
        Case{"82 06 0001 0001 'a' 00", DecodeError::unexpected_packet},
        Case{"34 06 0001 'a' 0001 'x'", DecodeError::unexpected_packet},
        Case{"30 05 0003 'a/#'", DecodeError::wildcard_in_topic_name}, Case{"d0 01 00", DecodeError::wrong_packet_size},
        Case{"f0 00", DecodeError::reserved_packet_type}}) {
    session = ClientSession{};
    connect();
    const auto fed = hears(one.hex);
    EXPECT_EQ(fed.error, one.error) << one.hex << ": " << describe(fed.error);
    EXPECT_EQ(fed.consumed, 0U);
    EXPECT_EQ(session.state(), SessionState::closed);
    EXPECT_EQ(log.lines, Lines{});
  }
}

TEST_F(ClientSessionTest, WantsTheConnackFirst) {
  ASSERT_TRUE(session.connect(out, {}, kStart, 60s));
  EXPECT_EQ(hears("30 04 0001 'a' 'x'").error, DecodeError::unexpected_packet);
}

TEST_F(ClientSessionTest, StartsOverAfterReset) {
  connect();
  EXPECT_EQ(session.publish1(out, "a", ""), 1);
  session.reset();
  EXPECT_EQ(session.state(), SessionState::idle);
  EXPECT_EQ(session.outstanding(), 0);
  connect();
  EXPECT_EQ(session.publish1(out, "a", ""), 2) << "identifiers continue";
}

TEST_F(ClientSessionTest, ConnectsOnlyOnce) {
  connect();
  EXPECT_FALSE(session.connect(out, {}, kStart, 60s));
}

TEST_F(ClientSessionTest, HonoursThePacketLimit) {
  connect();
  const auto fed = session.feed(bytes_of("30 7f 0001 'a'"), log, kStart, 100);
  EXPECT_EQ(fed.error, DecodeError::packet_too_large);
}

}  // namespace
}  // namespace twinstorm::mqtt
