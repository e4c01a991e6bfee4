// Certificates made, read back and judged.
#include "sim/net/certificates.hpp"

#include <gtest/gtest.h>

#include "tests/support/tls_pair.hpp"

namespace twinstorm::net {
namespace {

using namespace std::chrono_literals;
using testing::kNow;
using testing::kValid;
using testing::peer_of;

TEST(CertificatesTest, AChainLeadsToItsAuthority) {
  const auto authority = make_authority("twinstorm test CA", kValid).value();
  const auto device = issue_client_certificate(authority, "therm-00001", kValid).value();
  const auto peer = peer_of(device);
  EXPECT_EQ(peer.common_name, "therm-00001");
  EXPECT_EQ(peer.validity.from, kValid.from);
  EXPECT_EQ(peer.validity.until, kValid.until);
  EXPECT_TRUE(verify_chain(peer, authority.certificate_pem, kNow));
}

TEST(CertificatesTest, AForeignAuthorityDoesNotVouch) {
  const auto authority = make_authority("one", kValid).value();
  const auto other = make_authority("other", kValid).value();
  const auto verdict =
      verify_chain(peer_of(issue_client_certificate(authority, "d", kValid).value()), other.certificate_pem, kNow);
  ASSERT_FALSE(verdict);
  EXPECT_EQ(verdict.error().code, ErrorCode::unauthorized);
  EXPECT_EQ(verdict.error().message, "the certificate of \"d\" is not trusted: unable to get local issuer certificate");
  EXPECT_TRUE(verify_chain(peer_of(issue_client_certificate(authority, "d", kValid).value()),
                           other.certificate_pem + authority.certificate_pem, kNow))
      << "one of several is enough";
}

TEST(CertificatesTest, AServersCertificateIsNoDevices) {
  const auto authority = make_authority("one", kValid).value();
  const auto verdict = verify_chain(peer_of(issue_server_certificate(authority, {"d"}, kValid).value()),
                                    authority.certificate_pem, kNow);
  ASSERT_FALSE(verdict);
  EXPECT_EQ(verdict.error().code, ErrorCode::unauthorized);
  EXPECT_NE(verdict.error().message.find("purpose"), std::string::npos) << verdict.error().message;
}

TEST(CertificatesTest, AnIntermediateVouchesWhenItIsShownOrRegistered) {
  const auto root = make_authority("root", kValid).value();
  const auto middle = issue_authority(root, "middle", kValid).value();
  auto device = issue_client_certificate(middle, "d", kValid).value();
  EXPECT_FALSE(verify_chain(peer_of(device), root.certificate_pem, kNow));
  EXPECT_TRUE(verify_chain(peer_of(device), middle.certificate_pem, kNow));
  device.certificate_pem += middle.certificate_pem;
  EXPECT_TRUE(verify_chain(peer_of(device), root.certificate_pem, kNow));
}

TEST(CertificatesTest, TimeIsTheCallers) {
  const auto authority = make_authority("one", {kNow - 24h * 900, kNow + 24h * 900}).value();
  const auto peer = peer_of(issue_client_certificate(authority, "d", kValid).value());
  const auto expired = verify_chain(peer, authority.certificate_pem, kValid.until + 1s);
  ASSERT_FALSE(expired);
  EXPECT_NE(expired.error().message.find("certificate has expired"), std::string::npos) << expired.error().message;
  const auto early = verify_chain(peer, authority.certificate_pem, kValid.from - 1s);
  ASSERT_FALSE(early);
  EXPECT_NE(early.error().message.find("not yet valid"), std::string::npos) << early.error().message;
}

TEST(CertificatesTest, SelfSignedOnesHaveNoAuthority) {
  const auto device = make_self_signed("dev", kValid).value();
  const auto authority = make_authority("one", kValid).value();
  EXPECT_FALSE(verify_chain(peer_of(device), authority.certificate_pem, kNow));
}

TEST(CertificatesTest, ThumbprintsAreDigestsInUpperCaseHex) {
  const auto device = make_self_signed("dev", kValid).value();
  const auto peer = peer_of(device);
  EXPECT_EQ(sha1_thumbprint(device.certificate_pem).value(), peer.sha1);
  EXPECT_EQ(sha256_thumbprint(device.certificate_pem).value(), peer.sha256);
  EXPECT_EQ(peer.sha1.size(), 40u);
  EXPECT_EQ(peer.sha256.size(), 64u);
  EXPECT_EQ(peer.sha1.find_first_not_of("0123456789ABCDEF"), std::string::npos);
}

// Made with `openssl x509 -fingerprint`, so that the digest is somebody else's.
TEST(CertificatesTest, ThumbprintsAreThoseOfOpenssl) {
  const std::string pem =
      "-----BEGIN CERTIFICATE-----\n"
      "MIIBdTCCARugAwIBAgIUeyMa73HcoRNbg4hPrlmpFZsO/McwCgYIKoZIzj0EAwIw\n"
      "EDEOMAwGA1UEAwwFZml4ZWQwHhcNMjYxMTIzMTgyMjM3WhcNMzYxMTIwMTgyMjM3\n"
      "WjAQMQ4wDAYDVQQDDAVmaXhlZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDlT\n"
      "ybpRalP2OEiBLAcqOA13me3bKCPo9OMJF/skq4iGRMVHKNKCtfSxE1s15yLcn8fA\n"
      "zoTTJmnd7zNlNzGuBuajUzBRMB0GA1UdDgQWBBRZ+F9O8ooZlqLQSbw7VPM5bT0F\n"
      "ODAfBgNVHSMEGDAWgBRZ+F9O8ooZlqLQSbw7VPM5bT0FODAPBgNVHRMBAf8EBTAD\n"
      "AQH/MAoGCCqGSM49BAMCA0gAMEUCIQDVcRr3GDIo6JfRAw4xgppRj+OcQaal1hHi\n"
      "/soyr0N14QIgLU3gsBiNePTnNvpwusxv3cDLuS3OsVYKsxM3mK+txio=\n"
      "-----END CERTIFICATE-----\n";
  EXPECT_EQ(sha1_thumbprint(pem).value(), "E2E9AA196C70FAFABF597AEBC38368E0F7F5D167");
  EXPECT_EQ(sha256_thumbprint(pem).value(), "785C02154B0B63043E1CFEFBB9CE749C3A11FA37D981E567284C6815ADA32FC8");
}

TEST(CertificatesTest, CommonNamesMayBeAsLongAsDeviceIds) {
  const std::string id(128, 'x');
  EXPECT_EQ(peer_of(make_self_signed(id, kValid).value()).common_name, id);
  EXPECT_EQ(peer_of(make_self_signed("a:b.%_#*?!(),=@$'", kValid).value()).common_name, "a:b.%_#*?!(),=@$'");
}

TEST(CertificatesTest, WrongInputsAreNamed) {
  const auto authority = make_authority("one", kValid).value();
  const auto message = [](const auto& result) { return result ? std::string{"no error"} : result.error().message; };
  EXPECT_EQ(message(sha1_thumbprint("nothing")), "the text holds no certificate (PEM)");
  EXPECT_EQ(message(sha1_thumbprint("")), "the text holds no certificate (PEM)");
  EXPECT_EQ(message(issue_server_certificate(authority, {}, kValid)), "a server certificate needs at least one name");
  EXPECT_EQ(message(issue_server_certificate(authority, {"good.example", "a,IP:1.2.3.4"}, kValid)),
            "\"a,IP:1.2.3.4\" is not a host name or an IP address, so it cannot stand in a certificate");
  EXPECT_EQ(message(make_authority("late", {kNow, kNow - 1s})),
            "certificate of \"late\" would end before it begins (2026-11-23T11:59:59Z)");
  const auto other = make_authority("other", kValid).value();
  EXPECT_EQ(message(issue_client_certificate({authority.certificate_pem, other.key_pem}, "d", kValid)),
            "the authority's private key does not belong to its certificate");
  EXPECT_NE(message(issue_client_certificate({authority.certificate_pem, "x"}, "d", kValid)).find("not encrypted"),
            std::string::npos);
  EXPECT_NE(message(verify_chain({}, "", kNow)).find("the CA text holds no certificate"), std::string::npos);
  EXPECT_EQ(message(verify_chain({}, authority.certificate_pem, kNow)), "the peer showed no certificate");
  PeerCertificate broken;
  broken.chain_der.push_back("rubbish");
  EXPECT_NE(message(verify_chain(broken, authority.certificate_pem, kNow)).find("certificate 1 of the peer"),
            std::string::npos);
  std::string damaged = authority.certificate_pem;
  damaged[100] = damaged[100] == 'A' ? 'B' : 'A';
  damaged[101] = '!';
  EXPECT_NE(message(sha1_thumbprint(damaged)).find("certificate 1 of the text cannot be read"), std::string::npos);
}

TEST(CertificatesTest, EveryCertificateIsItsOwn) {
  EXPECT_NE(make_self_signed("d", kValid).value().certificate_pem,
            make_self_signed("d", kValid).value().certificate_pem);
}

}  // namespace
}  // namespace twinstorm::net
