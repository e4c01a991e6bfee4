// Sessions against each other over a socket pair: what is trusted, what is refused, and what people are told.
#include "sim/net/tls.hpp"

#include <array>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/tls_pair.hpp"

namespace twinstorm::net {
namespace {

using namespace std::chrono_literals;
using testing::shake_hands;
using testing::SocketPair;
using testing::valid_today;

const CertifiedKey& test_authority() {
  static const auto authority = make_authority("twinstorm test CA", valid_today()).value();
  return authority;
}

TlsContext server_context(std::vector<std::string> names = {"localhost", "127.0.0.1"},
                          Validity validity = valid_today(), TlsVersion version = TlsVersion::any) {
  return TlsContext::server(
             {.identity = issue_server_certificate(test_authority(), names, validity).value(), .version = version})
      .value();
}
TlsContext client_context(TlsVersion version = TlsVersion::any, bool resumption = false) {
  return TlsContext::client({.authorities_pem = test_authority().certificate_pem,
                             .version = version,
                             .session_resumption = resumption})
      .value();
}

struct Ends {
  Ends(const TlsContext& client_side, const TlsContext& server_side, const std::string& host = "localhost",
       const CertifiedKey* own = nullptr, TlsTicket* ticket = nullptr)
      : client{TlsSession::client(client_side, sockets.client(), host, own, ticket).value()},
        server{TlsSession::server(server_side, sockets.server()).value()},
        status{shake_hands(client, server)} {}
  SocketPair sockets;
  TlsSession client, server;
  std::pair<TlsStatus, TlsStatus> status;
};

std::string transfer(TlsSession& from, TlsSession& to, const std::string& bytes) {
  size_t sent = 0, got = 0;
  std::string received;
  std::array<char, 4096> buffer{};
  for (int i = 0; i < 100'000 && received.size() < bytes.size(); ++i) {
    if (sent < bytes.size()) {
      from.write(std::string_view{bytes}.substr(sent), got);
      sent += got;
    }
    while (to.read(buffer, got) == TlsStatus::ok) received.append(buffer.data(), got);
  }
  return received;
}

const std::pair<TlsStatus, TlsStatus> kBothOk{TlsStatus::ok, TlsStatus::ok};

TEST(TlsTest, SpeaksBothVersionsAndCarriesBytesBothWays) {
  for (const auto& [version, name] : {std::pair{TlsVersion::any, "TLSv1.3"}, std::pair{TlsVersion::tls12, "TLSv1.2"},
                                      std::pair{TlsVersion::tls13, "TLSv1.3"}}) {
    Ends ends{client_context(version), server_context()};
    ASSERT_EQ(ends.status, kBothOk) << ends.client.error();
    EXPECT_STREQ(ends.client.version(), name);
    EXPECT_TRUE(ends.client.established() && ends.server.established());
    EXPECT_FALSE(ends.client.resumed());
    std::string bytes(100'000, 'x');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31);
    EXPECT_EQ(transfer(ends.client, ends.server, bytes), bytes);
    EXPECT_EQ(transfer(ends.server, ends.client, bytes), bytes);
  }
}

TEST(TlsTest, AnUnknownAuthorityIsNotTrustedAndTheFixIsNamed) {
  const auto other = make_authority("other", valid_today()).value();
  const auto client = TlsContext::client({.authorities_pem = other.certificate_pem}).value();
  Ends ends{client, server_context()};
  EXPECT_EQ(ends.status.first, TlsStatus::failed);
  EXPECT_TRUE(ends.client.untrusted());
  EXPECT_EQ(ends.client.error(),
            "the server's certificate for \"localhost\" is not trusted: self-signed certificate in certificate chain; "
            "give its CA (PEM) as caFile in the scenario's target");
  EXPECT_EQ(ends.status.second, TlsStatus::failed);
  EXPECT_EQ(ends.server.error(),
            "TLS handshake failed: tlsv1 alert unknown ca; the peer does not accept the certificate that this side "
            "showed");
  const auto at_a_shell =
      TlsContext::client({.authorities_pem = other.certificate_pem, .authorities_setting = "with --ca-file"}).value();
  EXPECT_TRUE(Ends(at_a_shell, server_context()).client.error().ends_with("; give its CA (PEM) with --ca-file"));
}

TEST(TlsTest, AnotherHostsCertificateIsRefusedWithTheNamesItHas) {
  Ends ends{client_context(), server_context({"hub.example", "10.1.2.3"})};
  EXPECT_EQ(ends.status.first, TlsStatus::failed);
  EXPECT_TRUE(ends.client.untrusted());
  EXPECT_EQ(ends.client.error(),
            "the server's certificate for \"localhost\" is not trusted: hostname mismatch; it is for hub.example, "
            "10.1.2.3: connect by one of its names, or add the name to the server's certificate");
  Ends by_address{client_context(), server_context({"hub.example"}), "127.0.0.1"};
  EXPECT_TRUE(by_address.client.untrusted());
  EXPECT_EQ(by_address.client.error(),
            "the server's certificate is not trusted: IP address mismatch; it is for hub.example: connect by one of "
            "its names, or add the name to the server's certificate");
}

TEST(TlsTest, AddressesAreNamesToo) {
  Ends ends{client_context(), server_context(), "127.0.0.1"};
  EXPECT_EQ(ends.status, kBothOk) << ends.client.error();
}

TEST(TlsTest, ExpiredAndFutureCertificatesAreRefusedWithTheirDates) {
  const auto now = valid_today().from;
  Ends expired{client_context(), server_context({"localhost"}, {now - 48h, now - 24h})};
  EXPECT_TRUE(expired.client.untrusted());
  EXPECT_EQ(expired.client.error(),
            "the server's certificate for \"localhost\" is not trusted: certificate has expired; it is valid from " +
                format_iso8601(now - 48h) + " until " + format_iso8601(now - 24h) +
                ": renew it, or check this machine's clock");
  Ends future{client_context(), server_context({"localhost"}, {now + 24h, now + 48h})};
  EXPECT_TRUE(future.client.untrusted());
  EXPECT_NE(future.client.error().find("certificate is not yet valid; it is valid from"), std::string::npos);
}

TEST(TlsTest, VersionsThatDoNotMeetAreSaidSo) {
  Ends ends{client_context(TlsVersion::tls12), server_context({"localhost"}, valid_today(), TlsVersion::tls13)};
  EXPECT_EQ(ends.status, (std::pair{TlsStatus::failed, TlsStatus::failed}));
  EXPECT_FALSE(ends.client.untrusted());
  EXPECT_EQ(ends.client.error(),
            "TLS handshake failed: tlsv1 alert protocol version; the two sides share no TLS version (1.2 and 1.3 are "
            "known here)");
}

TEST(TlsTest, APeerWithoutTlsIsRecognised) {
  SocketPair sockets;
  auto client = TlsSession::client(client_context(), sockets.client(), "localhost").value();
  EXPECT_EQ(client.handshake(), TlsStatus::want_read);
  ASSERT_GT(::write(sockets.server(), "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 0);
  EXPECT_EQ(client.handshake(), TlsStatus::failed);
  EXPECT_EQ(client.error(),
            "TLS handshake failed: wrong version number; the peer's bytes are not TLS: is this a port without TLS?");
}

TEST(TlsTest, ClientsWithAndWithoutCertificatesMayConnect) {
  Ends without{client_context(), server_context()};
  ASSERT_EQ(without.status, kBothOk);
  EXPECT_FALSE(without.server.peer_certificate());
  for (const auto version : {TlsVersion::tls12, TlsVersion::tls13}) {
    const auto own = make_self_signed("dev-1", valid_today()).value();
    Ends with{client_context(version), server_context(), "localhost", &own};
    ASSERT_EQ(with.status, kBothOk) << with.server.error();
    const auto seen = with.server.peer_certificate();
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->common_name, "dev-1");
    EXPECT_EQ(seen->sha256, sha256_thumbprint(own.certificate_pem).value());
    EXPECT_EQ(seen->chain_der.size(), 1u);
    const auto server = with.client.peer_certificate();
    ASSERT_TRUE(server);
    EXPECT_EQ(server->common_name, "localhost");
    EXPECT_EQ(server->chain_der.size(), 1u) << "its authority is forgotten once it has vouched";
  }
}

TEST(TlsTest, CertificateAndKeyMustBelongTogether) {
  const auto one = make_self_signed("one", valid_today()).value();
  const auto other = make_self_signed("other", valid_today()).value();
  const std::string text =
      "certificate and private key do not belong together: give the key that the certificate was made for";
  const auto server = TlsContext::server({.identity = {one.certificate_pem, other.key_pem}});
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().message, text);
  const CertifiedKey mixed{one.certificate_pem, other.key_pem};
  SocketPair sockets;
  const auto client = TlsSession::client(client_context(), sockets.client(), "localhost", &mixed);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().message, text);
  const auto nothing = TlsContext::client({.authorities_pem = "no certificate in here"});
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().message, "the CA text holds no certificate: give PEM (-----BEGIN CERTIFICATE-----)");
}

TEST(TlsTest, SessionsAreResumedOnlyWhenAskedFor) {
  for (const auto version : {TlsVersion::tls12, TlsVersion::tls13}) {
    const auto server = server_context();
    const auto own = make_self_signed("dev-1", valid_today()).value();
    TlsTicket ticket;
    for (const bool second : {false, true}) {
      Ends ends{client_context(version, true), server, "localhost", &own, &ticket};
      ASSERT_EQ(ends.status, kBothOk) << ends.client.error();
      EXPECT_EQ(transfer(ends.server, ends.client, "reading takes the TLS 1.3 ticket in").size(), 35u);
      EXPECT_EQ(ends.client.resumed(), second);
      EXPECT_EQ(ends.server.resumed(), second);
      const auto seen = ends.server.peer_certificate();
      ASSERT_TRUE(seen) << "the certificate travels with the ticket";
      EXPECT_EQ(seen->common_name, "dev-1");
    }
    EXPECT_TRUE(ticket);
    TlsTicket unused;
    Ends ends{client_context(version, false), server, "localhost", nullptr, &unused};
    transfer(ends.server, ends.client, "bytes");
    EXPECT_FALSE(unused);
    EXPECT_FALSE(ends.client.resumed());
  }
}

TEST(TlsTest, AResumedSessionShowsTheChainOfTheFirst) {
  const auto root = make_authority("device root", valid_today()).value();
  const auto middle = issue_authority(root, "device intermediate", valid_today()).value();
  auto own = issue_client_certificate(middle, "dev-1", valid_today()).value();
  const auto alone = own;
  own.certificate_pem += middle.certificate_pem;
  const WallTime now = SteadyClock{}.wall();
  for (const auto version : {TlsVersion::tls12, TlsVersion::tls13}) {
    const auto server = server_context();
    TlsTicket ticket;
    for (int i = 0; i < 3; ++i) {  // the third resumes with a ticket that the second was given
      Ends ends{client_context(version, true), server, "localhost", &own, &ticket};
      ASSERT_EQ(ends.status, kBothOk) << ends.client.error();
      transfer(ends.server, ends.client, "the ticket");
      EXPECT_EQ(ends.server.resumed(), i > 0);
      const auto seen = ends.server.peer_certificate();
      ASSERT_TRUE(seen);
      EXPECT_EQ(seen->chain_der.size(), 2u) << "connection " << i;
      const auto verdict = verify_chain(*seen, root.certificate_pem, now);
      EXPECT_TRUE(verdict) << "connection " << i << ": " << verdict.error().message;
    }
    TlsTicket other;
    for (const bool resumed : {false, true}) {  // what nobody showed does not appear
      Ends ends{client_context(version, true), server, "localhost", &alone, &other};
      transfer(ends.server, ends.client, "the ticket");
      EXPECT_EQ(ends.server.resumed(), resumed);
      EXPECT_FALSE(verify_chain(ends.server.peer_certificate().value(), root.certificate_pem, now));
    }
  }
}

TEST(TlsTest, AnEndInTheMiddleOfTheHandshakeIsAnEnd) {
  SocketPair sockets;
  auto client = TlsSession::client(client_context(), sockets.client(), "localhost").value();
  EXPECT_EQ(client.handshake(), TlsStatus::want_read);
  std::array<char, 4096> hello{};
  ASSERT_GT(::read(sockets.server(), hello.data(), hello.size()), 0);
  sockets.close_end(1);
  EXPECT_EQ(client.handshake(), TlsStatus::closed);
  EXPECT_EQ(client.error(), "TLS handshake failed: the peer closed the connection");
}

TEST(TlsTest, AnEndIsToldWithAndWithoutCloseNotify) {
  for (const bool polite : {true, false}) {
    Ends ends{client_context(), server_context()};
    ASSERT_EQ(ends.status, kBothOk);
    if (polite) ends.server.shutdown();
    ends.sockets.close_end(1);
    std::array<char, 16> buffer{};
    size_t got = 0;
    EXPECT_EQ(ends.client.read(buffer, got), TlsStatus::closed) << polite;
  }
}

TEST(TlsTest, WritingToAClosedSocketFailsWithoutASignal) {
  Ends ends{client_context(), server_context()};
  ends.sockets.close_end(1);
  size_t put = 0;
  EXPECT_EQ(ends.client.write("bytes", put), TlsStatus::failed);
  EXPECT_EQ(ends.client.error(), "TLS connection failed: Broken pipe");
}

TEST(TlsTest, AWriteThatMustWaitGoesOnFromAnotherAddress) {
  Ends ends{client_context(), server_context()};
  ASSERT_EQ(ends.status, kBothOk);
  const std::string block(64 * 1024, 'b');
  size_t put = 0, sent = 0;
  TlsStatus status = TlsStatus::ok;
  for (int i = 0; i < 1000 && status != TlsStatus::want_write; ++i) {
    status = ends.client.write(block, put);
    sent += put;
  }
  ASSERT_EQ(status, TlsStatus::want_write);
  size_t received = 0, got = 0;
  std::array<char, 16384> buffer{};
  const auto drain = [&] {
    while (ends.server.read(buffer, got) == TlsStatus::ok) received += got;
  };
  drain();
  EXPECT_EQ(received, sent);
  const std::string copy = block;
  ASSERT_EQ(ends.client.write(copy, put), TlsStatus::ok);
  sent += put;
  drain();
  EXPECT_EQ(received, sent);
}

}  // namespace
}  // namespace twinstorm::net
