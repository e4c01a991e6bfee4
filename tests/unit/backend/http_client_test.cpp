#include "sim/backend/http_client.hpp"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/loopback_server.hpp"
#include "tests/support/stream_server.hpp"
#include "tests/support/tls_pair.hpp"

namespace twinstorm::backend {
namespace {

using twinstorm::testing::LoopbackServer;
using namespace std::chrono_literals;

using Lines = std::vector<std::string>;

const char* name_of(HttpFailure failure) {
  switch (failure) {
    case HttpFailure::refused:
      return "refused";
    case HttpFailure::disconnected:
      return "disconnected";
    case HttpFailure::protocol:
      return "protocol";
    case HttpFailure::timed_out:
      return "timed out";
    case HttpFailure::not_sent:
      return "not sent";
    case HttpFailure::tls:
      return "tls";
  }
  return "?";
}

/// Real sockets on loopback, a clock that stands still: deadlines pass only when the test says so.
class HttpClientTest : public ::testing::Test, protected HttpEvents {
 protected:
  void make(uint32_t connections, uint32_t requests_max, std::optional<net::Endpoint> endpoint = std::nullopt) {
    const HttpClient::Config config{endpoint.value_or(server.endpoint()), "hub.localhost", connections, requests_max};
    HttpEvents& events = *this;
    client = std::make_unique<HttpClient>(config, io, wheel, 0, clock, events);
  }
  bool submit(uint64_t tag, std::string_view body = "{}", Nanos timeout = 10s) {
    const http::Header header{"X-Tag", tag_text_ = std::to_string(tag)};
    return client->submit(tag, clock.mono() + timeout, "PATCH", "/twins/d", {&header, 1}, body);
  }
  void until(const std::function<bool()>& done) {
    for (int i = 0; i < 2000 && !done(); ++i) io.context.run_one_for(2ms);
    EXPECT_TRUE(done());
  }
  /// Everything that is on its way has arrived.
  void settle() {
    while (io.context.run_one_for(5ms) > 0) {
    }
  }
  void pass(Nanos time) {
    clock.advance(time);
    wheel.advance(clock.mono(), [&](TimerWheel::TimerId id) { client->on_timer(id); });
  }
  size_t ended() const { return answers.size() + failures.size(); }

  void on_http_sent(uint64_t tag, MonoTime) override { sent.push_back(tag); }
  void on_http_answer(uint64_t tag, const HttpAnswer& answer) override {
    answers.push_back(std::to_string(tag) + ' ' + std::to_string(answer.status) + ' ' + std::string{answer.body});
    if (on_answer) on_answer(tag, answer);
  }
  void on_http_failed(uint64_t tag, HttpFailure failure) override {
    failures.push_back(std::to_string(tag) + ' ' + name_of(failure));
    reason = client->error_text();
  }

  ManualClock clock;
  net::ShardIo io;
  TimerWheel wheel{64, clock.mono()};
  LoopbackServer server{io.context};
  std::unique_ptr<HttpClient> client;
  std::vector<uint64_t> sent;
  Lines answers, failures;
  std::string reason;  // of the last failure
  std::function<void(uint64_t, const HttpAnswer&)> on_answer;

 private:
  std::string tag_text_;
};

TEST_F(HttpClientTest, SendsTheRequestAndHandsOverTheAnswer) {
  make(1, 4);
  server.watched = {"Host", "X-Tag", "Content-Length"};
  server.reply = [](const auto&) { return LoopbackServer::response(200, R"({"a":1})", {{"ETag", "\"x\""}}); };
  std::string etag;
  on_answer = [&](uint64_t, const HttpAnswer& answer) { etag = answer.header("etag").value_or("none"); };
  ASSERT_TRUE(submit(7, R"({"b":2})"));
  until([&] { return ended() == 1; });
  EXPECT_EQ(answers, (Lines{R"(7 200 {"a":1})"}));
  EXPECT_EQ(etag, "\"x\"");
  ASSERT_EQ(server.requests.size(), 1u);
  EXPECT_EQ(server.requests[0].method, "PATCH");
  EXPECT_EQ(server.requests[0].target, "/twins/d");
  EXPECT_EQ(server.requests[0].body, R"({"b":2})");
  EXPECT_EQ(server.requests[0].headers["Host"], "hub.localhost");
  EXPECT_EQ(server.requests[0].headers["X-Tag"], "7");
  EXPECT_EQ(client->open(), 0u);
}

TEST_F(HttpClientTest, KeepsItsConnectionForTheNextRequest) {
  make(4, 4);
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  for (uint64_t tag = 0; tag < 5; ++tag) {
    submit(tag);
    until([&] { return ended() == tag + 1; });
  }
  EXPECT_EQ(server.connections(), 1u);
}

TEST_F(HttpClientTest, RequestsBeyondTheConnectionsWaitInOrder) {
  make(2, 8);
  for (uint64_t tag = 0; tag < 5; ++tag) submit(tag);
  EXPECT_EQ(client->waiting(), 3u);
  until([&] { return server.requests.size() == 2; });
  settle();
  EXPECT_EQ(server.requests.size(), 2u);  // one at a time on each connection
  EXPECT_EQ(server.connections(), 2u);
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  server.send(0, LoopbackServer::response(200, "{}"));
  server.send(1, LoopbackServer::response(200, "{}"));
  until([&] { return ended() == 5; });
  EXPECT_EQ(sent, (std::vector<uint64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(server.connections(), 2u);
}

TEST_F(HttpClientTest, TakesNoMoreThanItsLimit) {
  make(1, 2);
  EXPECT_TRUE(submit(1));
  EXPECT_TRUE(submit(2));
  EXPECT_FALSE(submit(3));
  EXPECT_EQ(client->open(), 2u);
}

TEST_F(HttpClientTest, ARequestThatWaitsUntilItsDeadlineWasNotSent) {
  make(1, 4);
  submit(1, "{}", 10s);
  submit(2, "{}", 2s);
  submit(3, "{}", 10s);
  until([&] { return server.requests.size() == 1; });
  pass(3s);
  EXPECT_EQ(failures, (Lines{"2 not sent"}));
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  server.send(0, LoopbackServer::response(200, "{}"));
  until([&] { return ended() == 3; });
  EXPECT_EQ(sent, (std::vector<uint64_t>{1, 3}));
}

TEST_F(HttpClientTest, ARequestWithoutAnswerTimesOutAndItsConnectionIsNotUsedAgain) {
  make(1, 4);
  submit(1, "{}", 2s);
  until([&] { return server.requests.size() == 1; });
  pass(3s);
  EXPECT_EQ(failures, (Lines{"1 timed out"}));
  server.reply = [](const auto&) { return LoopbackServer::response(200, "second"); };
  submit(2);
  until([&] { return ended() == 2; });
  EXPECT_EQ(answers, (Lines{"2 200 second"}));
  EXPECT_EQ(server.connections(), 2u);
}

TEST_F(HttpClientTest, AConnectionThatEndsBeforeTheAnswerIsADisconnect) {
  make(1, 4);
  submit(1);
  submit(2);
  until([&] { return server.requests.size() == 1; });
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  server.close(0);
  until([&] { return ended() == 2; });
  EXPECT_EQ(failures, (Lines{"1 disconnected"}));
  EXPECT_EQ(answers, (Lines{"2 200 {}"}));  // on a new connection
}

TEST_F(HttpClientTest, HalfAnAnswerIsADisconnectToo) {
  make(1, 4);
  submit(1);
  until([&] { return server.requests.size() == 1; });
  server.send(0, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
  server.close(0);
  until([&] { return ended() == 1; });
  EXPECT_EQ(failures, (Lines{"1 disconnected"}));
}

TEST_F(HttpClientTest, ABodyMayEndWithTheConnection) {
  make(1, 4);
  submit(1);
  until([&] { return server.requests.size() == 1; });
  server.send(0, "HTTP/1.1 200 OK\r\n\r\nuntil the end");
  server.close(0);
  until([&] { return ended() == 1; });
  EXPECT_EQ(answers, (Lines{"1 200 until the end"}));
}

TEST_F(HttpClientTest, ARefusedConnectFailsEveryRequestThatWaitsForIt) {
  make(1, 4, LoopbackServer::dead_endpoint(io.context));
  submit(1);
  submit(2);
  until([&] { return ended() == 2; });
  EXPECT_EQ(failures, (Lines{"1 refused", "2 refused"}));
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(client->open(), 0u);
}

TEST_F(HttpClientTest, WhatIsNotHttpIsAProtocolFailure) {
  make(1, 4);
  submit(1);
  until([&] { return server.requests.size() == 1; });
  server.send(0, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
  until([&] { return ended() == 1; });
  EXPECT_EQ(failures, (Lines{"1 protocol"}));
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  submit(2);
  until([&] { return ended() == 2; });
  EXPECT_EQ(answers, (Lines{"2 200 {}"}));
}

TEST_F(HttpClientTest, BytesNobodyAskedForEndTheIdleConnectionQuietly) {
  make(1, 4);
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  submit(1);
  until([&] { return ended() == 1; });
  server.send(0, LoopbackServer::response(408, "too slow"));
  settle();
  submit(2);
  until([&] { return ended() == 2; });
  EXPECT_EQ(answers, (Lines{"1 200 {}", "2 200 {}"}));
  EXPECT_EQ(server.connections(), 2u);
}

TEST_F(HttpClientTest, ConnectionCloseIsObeyed) {
  make(1, 4);
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}", {{"Connection", "close"}}); };
  submit(1);
  submit(2);
  until([&] { return ended() == 2; });
  EXPECT_EQ(answers.size(), 2u);
  EXPECT_EQ(server.connections(), 2u);
}

TEST_F(HttpClientTest, AnIdleConnectionThatThePeerClosedIsReplaced) {
  make(1, 4);
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  submit(1);
  until([&] { return ended() == 1; });
  server.close(0);
  settle();
  submit(2);
  until([&] { return ended() == 2; });
  EXPECT_EQ(answers.size(), 2u);
  EXPECT_TRUE(failures.empty());
}

TEST_F(HttpClientTest, AnAnswerBeforeTheWholeRequestWasSentLeavesNoBrokenConnectionBehind) {
  make(1, 4);
  submit(1, std::string(12u << 20, 'x'));  // far beyond the server's limit and every socket buffer
  until([&] { return ended() == 1; });
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  submit(2);
  until([&] { return ended() == 2; });
  ASSERT_FALSE(answers.empty());
  EXPECT_EQ(answers.back(), "2 200 {}");
}

TEST_F(HttpClientTest, TheNextRequestMayBeSubmittedFromWithinAnAnswer) {
  make(1, 4);
  server.reply = [](const auto& request) { return LoopbackServer::response(200, request.body); };
  on_answer = [&](uint64_t tag, const HttpAnswer& answer) {
    const auto body = answer.body;  // still the first answer's after the submit
    if (tag < 3) {
      EXPECT_TRUE(submit(tag + 1, std::string{body} + "!"));
    }
    EXPECT_EQ(body, std::string("x") + std::string(tag - 1, '!'));
  };
  submit(1, "x");
  until([&] { return ended() == 3; });
  EXPECT_EQ(answers, (Lines{"1 200 x", "2 200 x!", "3 200 x!!"}));
  EXPECT_EQ(server.connections(), 1u);
}

TEST_F(HttpClientTest, ClosingForgetsWhatIsOpen) {
  make(1, 4);
  submit(1);
  submit(2);
  until([&] { return server.requests.size() == 1; });
  client->close();
  EXPECT_EQ(client->open(), 0u);
  pass(60s);
  settle();
  EXPECT_EQ(ended(), 0u);
}

// --- HTTPS -----------------------------------------------------------------------------------------------------------

class HttpsClientTest : public HttpClientTest {
 protected:
  using StreamServer = twinstorm::testing::StreamServer;

  /// `authority`: whom the client trusts.
  void make_over_tls(const net::CertifiedKey& trusted, const std::string& name = "127.0.0.1") {
    trust = net::TlsContext::client({.authorities_pem = trusted.certificate_pem}).value();
    HttpClient::Config config{tls_server.endpoint(), "hub.localhost", 1, 4};
    config.tls = &*trust;
    config.server_name = name;
    HttpEvents& events = *this;
    client = std::make_unique<HttpClient>(config, io, wheel, 0, clock, events);
  }
  static net::CertifiedKey make_ca() {
    return net::make_authority("test CA", twinstorm::testing::valid_today()).value();
  }

  const net::CertifiedKey ca = make_ca();
  const net::TlsContext identity =
      net::TlsContext::server(
          {.identity = net::issue_server_certificate(ca, {"127.0.0.1"}, twinstorm::testing::valid_today()).value()})
          .value();
  StreamServer tls_server{io.context, &identity};
  std::optional<net::TlsContext> trust;
};

TEST_F(HttpsClientTest, RequestsAndAnswersGoThroughTlsAndTheConnectionIsKept) {
  make_over_tls(ca);
  for (const uint64_t tag : {1u, 2u}) {
    ASSERT_TRUE(submit(tag, R"({"a":1})"));
    until([&] { return tls_server.received.ends_with(R"({"a":1})"); });
    EXPECT_TRUE(tls_server.received.starts_with("PATCH /twins/d HTTP/1.1\r\n")) << tls_server.received;
    tls_server.received.clear();
    tls_server.send(LoopbackServer::response(200, "{}"));
    until([&] { return ended() == tag; });
  }
  EXPECT_EQ(answers, (Lines{"1 200 {}", "2 200 {}"}));
  EXPECT_EQ(tls_server.connections, 1);
}

TEST_F(HttpsClientTest, ACertificateThatIsNotTrustedFailsTheRequestWithTheReason) {
  make_over_tls(make_ca());
  ASSERT_TRUE(submit(1));
  until([&] { return ended() == 1; });
  EXPECT_EQ(failures, (Lines{"1 tls"}));
  EXPECT_TRUE(sent.empty());
  EXPECT_NE(reason.find("not trusted"), std::string::npos) << reason;
  EXPECT_TRUE(tls_server.received.empty());
}

TEST_F(HttpsClientTest, ACertificateForAnotherNameFailsToo) {
  make_over_tls(ca, "hub.example.net");
  ASSERT_TRUE(submit(1));
  until([&] { return ended() == 1; });
  EXPECT_EQ(failures, (Lines{"1 tls"}));
  EXPECT_NE(reason.find("hub.example.net"), std::string::npos) << reason;
}

}  // namespace
}  // namespace twinstorm::backend
