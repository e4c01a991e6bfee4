#include "sim/protocol/connection_string.hpp"

#include <gtest/gtest.h>

namespace twinstorm::protocol {
namespace {

TEST(ConnectionString, ReadsADevice) {
  const auto parsed =
      parse_connection_string("HostName=hub.example:8883;DeviceId=dev=1;SharedAccessKey=Zm9vYg==;GatewayHostName=gw")
          .value();
  ConnectionString expected;
  expected.host_name = "hub.example:8883";
  expected.device_id = "dev=1";
  expected.shared_access_key = "Zm9vYg==";
  expected.gateway_host_name = "gw";
  EXPECT_EQ(parsed, expected);
}

TEST(ConnectionString, ReadsAPolicyAndIgnoresUnknownNames) {
  const auto parsed =
      parse_connection_string("HostName=h;SharedAccessKeyName=iothubowner;SharedAccessKey=Zm9v;Endpoint=x;").value();
  EXPECT_EQ(parsed.shared_access_key_name, "iothubowner");
  EXPECT_EQ(parsed.shared_access_key, "Zm9v");
  EXPECT_TRUE(parsed.device_id.empty());
}

TEST(ConnectionString, ReadsAModuleWithACertificate) {
  const auto parsed = parse_connection_string("HostName=h;DeviceId=d;ModuleId=m;x509=true").value();
  EXPECT_TRUE(parsed.x509);
  EXPECT_EQ(parsed.module_id, "m");
}

TEST(ConnectionString, TakesNamesFromAReadySignature) {
  const auto parsed = parse_connection_string(
                          "SharedAccessSignature=SharedAccessSignature "
                          "sr=hub.example%2Fdevices%2Fd%201%2Fmodules%2Fm&sig=YQ%3D%3D&se=1700003600")
                          .value();
  EXPECT_EQ(parsed.host_name, "hub.example");
  EXPECT_EQ(parsed.device_id, "d 1");
  EXPECT_EQ(parsed.module_id, "m");
}

TEST(ConnectionString, RefusesASignatureForANameItCannotHold) {
  const auto parsed =
      parse_connection_string("SharedAccessSignature=SharedAccessSignature sr=hub%3Bx%2Fdevices%2Fd&sig=YQ%3D%3D&se=1");
  ASSERT_FALSE(parsed);
  EXPECT_NE(parsed.error().message.find("which a connection string cannot hold"), std::string::npos);
}

TEST(ConnectionString, IsTheSameAfterFormattingAndReading) {
  for (const auto* text : {"HostName=h;DeviceId=d;SharedAccessKey=Zm9v",
                           "HostName=h;SharedAccessKeyName=p;SharedAccessKey=Zm9v;GatewayHostName=g:1",
                           "HostName=h;DeviceId=d;ModuleId=m;x509=true"}) {
    EXPECT_EQ(format_connection_string(parse_connection_string(text).value()), text);
  }
}

TEST(ConnectionString, SaysWhatIsMissingOrWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "HostName is missing"},
      {"DeviceId=d;SharedAccessKey=Zm9v", "HostName is missing"},
      {"hostname=h;DeviceId=d;SharedAccessKey=Zm9v",
       "HostName is missing; names are case-sensitive, hostname is not HostName"},
      {"HostName=h;DeviceId=d", "SharedAccessKey, SharedAccessSignature or x509=true is missing"},
      {"HostName=h;DeviceId=d;sharedaccesskey=Zm9v",
       "SharedAccessKey, SharedAccessSignature or x509=true is missing; names are case-sensitive, sharedaccesskey is "
       "not "
       "SharedAccessKey"},
      {"HostName=h;DeviceId=d;SharedAccessKey", "a part between \";\" has no \"=\" (write Name=value;Name=value)"},
      {"HostName=h;HostName=i;x509=true", "HostName stands twice"},
      {"HostName=h;x509=true;x509=true", "x509 stands twice"},
      {"HostName=h;DeviceId=d;x509=yes", "x509 wants true or false"},
      {"HostName=h;DeviceId=d;x509=true;SharedAccessKey=Zm9v",
       "x509=true together with a key or signature (keep one of them)"},
      {"HostName=h;ModuleId=m;x509=true", "ModuleId without DeviceId"},
      {"HostName=h;DeviceId=d;SharedAccessKey=Zm9",
       "SharedAccessKey is not base64: its length is not a multiple of 4 (padding cut off?)"},
      {"HostName=h;DeviceId=d;SharedAccessKey=Zm9?",
       "SharedAccessKey is not base64: a character outside A-Z a-z 0-9 + /"},
      {"HostName=h:0;DeviceId=d;x509=true", "HostName: \"h:0\" has a port that is not a number from 1 to 65535"},
      {"HostName=h;GatewayHostName=:1;DeviceId=d;x509=true", "GatewayHostName: \":1\" has no host name"},
      {"HostName=h;SharedAccessSignature=nothing",
       "SharedAccessSignature: SAS token: does not begin with \"SharedAccessSignature \""},
  };
  for (const auto& [text, message] : cases) {
    const auto parsed = parse_connection_string(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message, std::string{"connection string: "} + message) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::invalid_argument);
  }
}

TEST(Redaction, HidesKeysAndSignaturesWhereverTheyStand) {
  const std::pair<const char*, const char*> cases[] = {
      {"HostName=h;SharedAccessKeyName=p;SharedAccessKey=Zm9v;DeviceId=d",
       "HostName=h;SharedAccessKeyName=p;SharedAccessKey=***;DeviceId=d"},
      {"HostName=h;SharedAccessKey=Zm9vYg==", "HostName=h;SharedAccessKey=***"},
      {"cannot use \"HostName=h;sharedaccesskey=Zm9v\" here", "cannot use \"HostName=h;sharedaccesskey=***\" here"},
      {"SharedAccessSignature=SharedAccessSignature sr=a&sig=b&se=1;DeviceId=d",
       "SharedAccessSignature=***;DeviceId=d"},
      {"Authorization: SharedAccessSignature sr=a&sig=b%3D&se=1",
       "Authorization: SharedAccessSignature sr=a&sig=***&se=1"},
      {"design=modern; sig=x", "design=modern; sig=***"},
      {"nothing secret", "nothing secret"},
      {"", ""},
  };
  for (const auto& [text, redacted] : cases) EXPECT_EQ(redact_connection_string(text), redacted);
}

TEST(HostPort, Splits) {
  const auto check = [](std::string_view text, std::string_view host, int port) {
    const auto split = split_host_port(text, 8883).value();
    EXPECT_EQ(split.host, host);
    EXPECT_EQ(split.port, port);
  };
  check("hub.example", "hub.example", 8883);
  check("localhost:18883", "localhost", 18883);
  check("[::1]:443", "::1", 443);
  check("[::1]", "::1", 8883);
}

TEST(HostPort, SaysWhatIsWrong) {
  for (const auto* text : {"", ":1", "h:", "h:0", "h:65536", "h:1x", "::1", "[::1", "[::1]x", "[]:1"}) {
    EXPECT_FALSE(split_host_port(text, 1)) << text;
  }
  EXPECT_EQ(split_host_port("::1", 1).error().message, "\"::1\" is an IPv6 address: write it in [brackets]");
}

}  // namespace
}  // namespace twinstorm::protocol
