// The WebSocket stream against a server in the same loop, over TCP and over TLS.
#include "sim/net/ws_stream.hpp"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sim/protocol/ws/upgrade.hpp"
#include "tests/support/event_loop.hpp"
#include "tests/support/stream_server.hpp"
#include "tests/support/tls_pair.hpp"

namespace twinstorm::net {
namespace {

using namespace std::chrono_literals;
using testing::StreamServer;
using testing::valid_today;

template <class Stream>
class WsStreamTest : public ::testing::Test, protected testing::EventLoop, protected StreamEvents {
 protected:
  static constexpr bool kTls = std::is_same_v<Stream, WsStream<TlsStream>>;

  void dial() {
    StreamEvents& events = *this;
    stream.connect({.endpoint = server.endpoint(),
                    .tls = &client_side,
                    .server_name = "localhost",
                    .websocket_host = "hub.example",
                    .websocket_path = "/$iothub/websocket"},
                   events);
    until([&] { return server.received.ends_with("\r\n\r\n"); });
    request = server.received;
    server.received.clear();
  }
  std::string response() const {
    const std::string name = "Sec-WebSocket-Key: ";
    std::string out;
    ws::append_upgrade_response(out, ws::accept_for(request.substr(request.find(name) + name.size(), 24)));
    return out;
  }
  void open() {
    dial();
    server.send(response());
    until([&] { return connected == 1; });
  }
  /// What the client sent, unmasked: `binary ...`, `pong ...`, `close 1000`.
  std::vector<std::string> frames() {
    std::vector<std::string> out;
    ws::Framer framer{ws::Role::server};
    std::span<char> rest{server.received};
    for (;;) {
      const auto step = framer.next(rest);
      rest = rest.subspan(step.consumed);
      const std::string payload{step.payload};
      switch (step.kind) {
        case ws::Step::Kind::data:
          out.push_back("binary " + payload);
          break;
        case ws::Step::Kind::pong:
          out.push_back("pong " + payload);
          break;
        case ws::Step::Kind::close:
          out.push_back("close " + std::to_string(static_cast<int>(step.code)));
          break;
        case ws::Step::Kind::need_more:
          return out;
        default:
          out.push_back("error " + std::string{step.problem});
          return out;
      }
    }
  }
  void send_frame(ws::Opcode opcode, std::string_view payload, bool final = true) {
    std::string out;
    ws::append_frame(out, opcode, payload, std::nullopt, final);
    server.send(out);
  }

  void on_stream_connected() override { ++connected; }
  size_t on_stream_bytes(std::string_view bytes) override {
    calls.emplace_back(bytes);
    return consume ? consume(bytes) : bytes.size();
  }
  void on_stream_ended(StreamEnd end) override {
    ends.push_back(end);
    text = stream.error_text();
  }

  const CertifiedKey authority = make_authority("test CA", valid_today()).value();
  const TlsContext server_side =
      TlsContext::server({.identity = issue_server_certificate(authority, {"localhost"}, valid_today()).value()})
          .value();
  const TlsContext client_side = TlsContext::client({.authorities_pem = authority.certificate_pem}).value();
  StreamServer server{io.context, kTls ? &server_side : nullptr, 4096};
  Stream stream{io};
  std::string request, text;
  int connected = 0;
  std::vector<std::string> calls;
  std::vector<StreamEnd> ends;
  std::function<size_t(std::string_view)> consume;
};
using Lowers = ::testing::Types<WsStream<TcpStream>, WsStream<TlsStream>>;
TYPED_TEST_SUITE(WsStreamTest, Lowers);

TYPED_TEST(WsStreamTest, AsksForTheUpgradeAndThenCarriesBytes) {
  this->dial();
  EXPECT_TRUE(this->request.starts_with("GET /$iothub/websocket HTTP/1.1\r\n")) << this->request;
  EXPECT_NE(this->request.find("\r\nHost: hub.example\r\n"), std::string::npos);
  EXPECT_EQ(this->stream.send("too early"), SendResult::closed);
  this->server.send(this->response());
  this->until([&] { return this->connected == 1; });
  EXPECT_EQ(this->stream.send("to the server"), SendResult::sent);
  this->until([&] { return !this->server.received.empty(); });
  EXPECT_EQ(this->frames(), std::vector<std::string>{"binary to the server"});
  this->send_frame(ws::Opcode::binary, "to the client");
  this->until([&] { return !this->calls.empty(); });
  EXPECT_EQ(this->calls, std::vector<std::string>{"to the client"});
}

TYPED_TEST(WsStreamTest, EachConnectionHasItsOwnKeyAndEachFrameItsMask) {
  this->open();
  const auto first = this->request;
  this->stream.send("same");
  this->stream.send("same");
  this->until([&] { return this->server.received.size() == 20; });
  EXPECT_NE(this->server.received.substr(0, 10), this->server.received.substr(10));
  this->stream.close();
  this->connected = 0;
  this->open();
  EXPECT_NE(this->request, first);
}

TYPED_TEST(WsStreamTest, TheAnswerMayComeInPiecesWithFramesBehindIt) {
  this->dial();
  std::string bytes = this->response();
  ws::append_frame(bytes, ws::Opcode::binary, "early", std::nullopt);
  for (size_t at = 0; at < bytes.size(); at += 37) {
    this->server.send(std::string_view{bytes}.substr(at, 37));
    this->settle();
  }
  this->until([&] { return !this->calls.empty(); });
  EXPECT_EQ(this->connected, 1);
  EXPECT_EQ(this->calls, std::vector<std::string>{"early"});
}

TYPED_TEST(WsStreamTest, ARefusedUpgradeIsExplained) {
  this->dial();
  this->server.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  this->until([&] { return !this->ends.empty(); });
  EXPECT_EQ(this->ends, std::vector{StreamEnd::upgrade_refused});
  EXPECT_EQ(this->text,
            "the server answered \"404 Not Found\" to the WebSocket request for \"/$iothub/websocket\" instead of 101: "
            "does this port carry MQTT over WebSocket?");
  EXPECT_EQ(this->connected, 0);
  EXPECT_FALSE(this->stream.open());
}

TYPED_TEST(WsStreamTest, AnEndBeforeTheAnswerIsAnEnd) {
  this->dial();
  this->server.close();
  this->until([&] { return !this->ends.empty(); });
  EXPECT_EQ(this->ends, std::vector{StreamEnd::peer_closed});
}

TYPED_TEST(WsStreamTest, WhatTheOwnerLeavesComesBackAcrossFrames) {
  this->consume = [](std::string_view bytes) { return bytes.size() / 4 * 4; };
  this->open();
  this->send_frame(ws::Opcode::binary, "abc", false);
  this->send_frame(ws::Opcode::ping, "in between");
  this->send_frame(ws::Opcode::continuation, "defg");
  this->send_frame(ws::Opcode::binary, "h");
  this->until([&] { return this->calls.size() == 3; });
  EXPECT_EQ(this->calls, (std::vector<std::string>{"abc", "abcdefg", "efgh"}));
  this->until([&] { return !this->server.received.empty(); });
  EXPECT_EQ(this->frames(), std::vector<std::string>{"pong in between"});
}

TYPED_TEST(WsStreamTest, TheClosingHandshakeIsAnsweredAndTold) {
  this->open();
  std::string bytes;
  ws::append_frame(bytes, ws::Opcode::binary, "last words", std::nullopt);
  ws::append_close(bytes, ws::CloseCode::going_away, "bye", std::nullopt);
  this->server.send(bytes);
  this->until([&] { return !this->ends.empty() && this->server.ended; });
  EXPECT_EQ(this->calls, std::vector<std::string>{"last words"});
  EXPECT_EQ(this->ends, std::vector{StreamEnd::peer_closed});
  EXPECT_EQ(this->frames(), std::vector<std::string>{"close 1000"});
}

TYPED_TEST(WsStreamTest, SaysGoodbyeUnlessItResets) {
  this->open();
  this->stream.close();
  this->until([&] { return this->server.ended; });
  EXPECT_EQ(this->frames(), std::vector<std::string>{"close 1000"});
  this->connected = 0;
  this->open();
  this->stream.close(true);
  this->until([&] { return this->server.ended; });
  EXPECT_TRUE(this->frames().empty());
  EXPECT_TRUE(this->ends.empty());
}

TYPED_TEST(WsStreamTest, FramesThatBreakTheRulesEndIt) {
  this->open();
  this->send_frame(ws::Opcode::text, "hello");
  this->until([&] { return !this->ends.empty(); });
  EXPECT_EQ(this->ends, std::vector{StreamEnd::protocol_error});
  EXPECT_EQ(this->text, "a text message; only binary ones are spoken here");
}

TYPED_TEST(WsStreamTest, AnOwnerThatClosesInsideACallHearsNothingMore) {
  this->consume = [this](std::string_view bytes) {
    this->stream.close();
    return bytes.size();
  };
  this->open();
  std::string bytes;
  for (int i = 0; i < 3; ++i) ws::append_frame(bytes, ws::Opcode::binary, "frame", std::nullopt);
  this->server.send(bytes);
  this->until([&] { return !this->calls.empty(); });
  this->settle();
  EXPECT_EQ(this->calls.size(), 1u);
  EXPECT_TRUE(this->ends.empty());
}

TYPED_TEST(WsStreamTest, BackPressureReachesTheSender) {
  this->open();
  this->server.reading = false;
  const std::string block(ShardIo::kBufferSize, 'x');
  size_t sent = 0;
  SendResult result = SendResult::sent;
  for (int i = 0; i < 200 && (result = this->stream.send(block)) == SendResult::sent; ++i) ++sent;
  ASSERT_EQ(result, SendResult::would_block);
  EXPECT_TRUE(this->stream.send_pending());
  this->settle();
  this->server.resume_reading();
  this->until([&] { return this->server.received.size() == sent * (block.size() + ws::kHeaderMax); });
  size_t bytes = 0;
  for (const auto& frame : this->frames()) bytes += frame.size() - 7;
  EXPECT_EQ(bytes, sent * block.size());
}

}  // namespace
}  // namespace twinstorm::net
