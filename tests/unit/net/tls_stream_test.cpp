// The TLS stream against a server in the same loop: every way a connection can begin and end.
#include "sim/net/tls_stream.hpp"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/event_loop.hpp"
#include "tests/support/stream_server.hpp"
#include "tests/support/tls_pair.hpp"

namespace twinstorm::net {
namespace {

using namespace std::chrono_literals;
using testing::StreamServer;
using testing::valid_today;

const CertifiedKey& test_authority() {
  static const auto authority = make_authority("twinstorm test CA", valid_today()).value();
  return authority;
}
TlsContext server_context(const std::vector<std::string>& names = {"localhost"}, Validity validity = valid_today()) {
  return TlsContext::server({.identity = issue_server_certificate(test_authority(), names, validity).value()}).value();
}
TlsContext client_context(TlsVersion version = TlsVersion::any, bool resumption = false) {
  return TlsContext::client({.authorities_pem = test_authority().certificate_pem,
                             .version = version,
                             .session_resumption = resumption})
      .value();
}

class TlsStreamTest : public ::testing::Test, protected testing::EventLoop, protected StreamEvents {
 protected:
  void dial(StreamServer& server, const TlsContext& context, const std::string& name = "localhost") {
    StreamEvents& events = *this;
    stream.connect({.endpoint = server.endpoint(), .tls = &context, .server_name = name, .certificate = certificate},
                   events);
  }
  void connect(StreamServer& server, const TlsContext& context) {
    connected = 0;
    dial(server, context);
    until([&] { return connected == 1 && server.established; });
  }
  std::string failure(StreamServer& server, const TlsContext& context, StreamEnd expected,
                      const std::string& name = "localhost") {
    ends.clear();
    dial(server, context, name);
    until([&] { return !ends.empty(); });
    EXPECT_EQ(ends, std::vector{expected});
    EXPECT_EQ(connected, 0);
    EXPECT_FALSE(stream.open());
    return text;
  }

  void on_stream_connected() override {
    ++connected;
    if (close_when_connected) stream.close();
  }
  size_t on_stream_bytes(std::string_view bytes) override {
    return consume ? consume(bytes) : (seen.append(bytes), bytes.size());
  }
  void on_stream_ended(StreamEnd end) override {
    ends.push_back(end);
    text = stream.error_text();
  }

  TlsStream stream{io};
  const CertifiedKey* certificate = nullptr;
  bool close_when_connected = false;
  int connected = 0;
  std::string seen, text;
  std::vector<StreamEnd> ends;
  std::function<size_t(std::string_view)> consume;
};

TEST_F(TlsStreamTest, CarriesBytesBothWaysInBothVersions) {
  const auto serving = server_context();
  StreamServer server{io.context, &serving};
  for (const auto version : {TlsVersion::tls12, TlsVersion::tls13}) {
    const auto context = client_context(version);
    connect(server, context);
    EXPECT_EQ(stream.send("to the server"), SendResult::sent);
    until([&] { return server.received == "to the server"; });
    seen.clear();
    server.send("to the client");
    until([&] { return seen == "to the client"; });
    stream.close();
    until([&] { return server.ended; });
    EXPECT_EQ(server.error, "") << "a polite end";
  }
  EXPECT_TRUE(ends.empty());
}

TEST_F(TlsStreamTest, BigAnswersArriveWholeThoughTheLoopTakesTurns) {
  const auto serving = server_context();
  const auto context = client_context();
  StreamServer server{io.context, &serving};
  connect(server, context);
  std::string block(900'000, '\0');
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(i * 13);
  server.send(block);
  until([&] { return seen.size() == block.size(); });
  EXPECT_EQ(seen, block);
}

TEST_F(TlsStreamTest, AnIncompleteTailComesBackInFrontOfNewerBytes) {
  const auto serving = server_context();
  const auto context = client_context();
  StreamServer server{io.context, &serving};
  std::vector<std::string> calls;
  consume = [&](std::string_view bytes) {
    calls.emplace_back(bytes);
    return bytes.size() / 4 * 4;
  };
  connect(server, context);
  server.send("abcdef");
  until([&] { return calls.size() == 1; });
  server.send("gh");
  until([&] { return calls.size() == 2; });
  EXPECT_EQ(calls, (std::vector<std::string>{"abcdef", "efgh"}));
}

TEST_F(TlsStreamTest, AnUntrustedServerIsNamedWithTheFix) {
  const auto serving = server_context();
  const auto other = make_authority("other", valid_today()).value();
  const auto context = TlsContext::client({.authorities_pem = other.certificate_pem}).value();
  StreamServer server{io.context, &serving};
  EXPECT_EQ(failure(server, context, StreamEnd::untrusted),
            "the server's certificate for \"localhost\" is not trusted: self-signed certificate in certificate chain; "
            "give its CA (PEM) as caFile in the scenario's target");
}

TEST_F(TlsStreamTest, AWrongNameAndAnExpiredCertificateAreUntrustedToo) {
  const auto context = client_context();
  const auto serving = server_context({"hub.example"});
  StreamServer server{io.context, &serving};
  EXPECT_NE(failure(server, context, StreamEnd::untrusted).find("it is for hub.example"), std::string::npos) << text;
  const auto now = valid_today().from;
  const auto old = server_context({"localhost"}, {now - 48h, now - 24h});
  StreamServer old_server{io.context, &old};
  EXPECT_NE(failure(old_server, context, StreamEnd::untrusted).find("has expired"), std::string::npos) << text;
}

TEST_F(TlsStreamTest, AServerWithoutTlsIsAFailedHandshake) {
  StreamServer server{io.context};
  const auto context = client_context();
  ends.clear();
  dial(server, context);
  until([&] { return server.established; });
  server.send("HTTP/1.1 400 Bad Request\r\n\r\n");
  until([&] { return !ends.empty(); });
  EXPECT_EQ(ends, std::vector{StreamEnd::handshake_failed});
  EXPECT_NE(text.find("is this a port without TLS?"), std::string::npos) << text;
}

TEST_F(TlsStreamTest, NobodyListeningIsAFailedConnect) {
  const auto context = client_context();
  net::Endpoint dead;
  {
    StreamServer server{io.context};
    dead = server.endpoint();
  }
  StreamEvents& events = *this;
  stream.connect({.endpoint = dead, .tls = &context, .server_name = "localhost"}, events);
  until([&] { return !ends.empty(); });
  EXPECT_EQ(ends, std::vector{StreamEnd::connect_failed});
  EXPECT_EQ(stream.last_errno(), ECONNREFUSED);
  EXPECT_EQ(text, "Connection refused");
}

TEST_F(TlsStreamTest, WrongSettingsAreToldAsAFailedHandshake) {
  StreamServer server{io.context};
  const auto context = client_context();
  EXPECT_EQ(failure(server, context, StreamEnd::handshake_failed, ""),
            "\"\" is not a name that a server certificate can carry");
}

TEST_F(TlsStreamTest, AnEndOrResetDuringTheHandshakeFailsIt) {
  const auto context = client_context();
  for (const bool reset : {false, true}) {
    StreamServer server{io.context};
    server.silent = true;
    ends.clear();
    dial(server, context);
    until([&] { return server.connections == 1; });
    settle();
    server.close(reset);
    until([&] { return !ends.empty(); });
    EXPECT_EQ(ends, std::vector{StreamEnd::handshake_failed});
    EXPECT_EQ(text.substr(0, 22), "TLS handshake failed: ");
  }
}

TEST_F(TlsStreamTest, AHandshakeThatNeverEndsCanBeGivenUp) {
  StreamServer server{io.context};
  server.silent = true;
  const auto context = client_context();
  dial(server, context);
  until([&] { return server.connections == 1; });
  settle();
  EXPECT_TRUE(stream.open());
  EXPECT_EQ(stream.send("too early"), SendResult::closed);
  stream.close(true);
  settle();
  EXPECT_EQ(connected, 0);
  EXPECT_TRUE(ends.empty());
  EXPECT_FALSE(stream.open());
}

TEST_F(TlsStreamTest, EndsOfAnEstablishedConnectionAreTold) {
  const auto serving = server_context();
  const auto context = client_context();
  StreamServer server{io.context, &serving};
  connect(server, context);
  server.close();
  until([&] { return !ends.empty(); });
  EXPECT_EQ(ends.back(), StreamEnd::peer_closed);
  connect(server, context);
  ends.clear();
  server.close(true);
  until([&] { return !ends.empty(); });
  EXPECT_EQ(ends.back(), StreamEnd::io_error);
  EXPECT_EQ(stream.last_errno(), ECONNRESET);
}

TEST_F(TlsStreamTest, ClosingInsideOnConnectedIsSilent) {
  const auto serving = server_context();
  const auto context = client_context();
  StreamServer server{io.context, &serving};
  close_when_connected = true;
  dial(server, context);
  until([&] { return connected == 1; });
  settle();
  EXPECT_TRUE(ends.empty());
  EXPECT_FALSE(stream.open());
}

TEST_F(TlsStreamTest, MoreThanThePeerReadsIsKeptOnceAndWrittenLater) {
  const auto serving = server_context();
  const auto context = client_context();
  StreamServer server{io.context, &serving, 4096};
  connect(server, context);
  server.reading = false;
  std::string block(300'000, '\0');
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(i * 7);
  std::string sent;
  SendResult result = SendResult::sent;
  for (int i = 0; i < 200 && (result = stream.send(block)) == SendResult::sent; ++i) sent += block;
  ASSERT_EQ(result, SendResult::would_block);
  EXPECT_TRUE(stream.send_pending());
  settle();
  server.resume_reading();
  until([&] { return server.received.size() == sent.size(); });
  EXPECT_EQ(server.received, sent);
  EXPECT_FALSE(stream.send_pending());
  EXPECT_EQ(stream.send("more"), SendResult::sent);
}

TEST_F(TlsStreamTest, ShowsItsCertificateWhenAsked) {
  const auto serving = server_context();
  const auto context = client_context();
  StreamServer server{io.context, &serving};
  const auto own = make_self_signed("dev-7", valid_today()).value();
  certificate = &own;
  connect(server, context);
  ASSERT_TRUE(server.client);
  EXPECT_EQ(server.client->common_name, "dev-7");
}

TEST_F(TlsStreamTest, EachStreamResumesItsOwnSession) {
  for (const auto version : {TlsVersion::tls12, TlsVersion::tls13}) {
    const auto serving = server_context();
    const auto context = client_context(version, true);
    StreamServer server{io.context, &serving};
    for (const bool again : {false, true, true}) {
      seen.clear();
      connect(server, context);
      EXPECT_EQ(server.resumed, again);
      server.send("the ticket of TLS 1.3 comes in front of this");
      until([&] { return !seen.empty(); });
      stream.close();
    }
    TlsStream other{io};
    StreamEvents& events = *this;
    other.connect({.endpoint = server.endpoint(), .tls = &context, .server_name = "localhost"}, events);
    until([&] { return server.connections == 4 && server.established; });
    EXPECT_FALSE(server.resumed);
    until([&] { return connected == 2; });
    other.close();
    settle();  // its cancelled wait still refers to it
  }
}

}  // namespace
}  // namespace twinstorm::net
