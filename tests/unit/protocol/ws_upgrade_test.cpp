// Opening a WebSocket: the RFC's example, what each side insists on, and what people are told.
#include <gtest/gtest.h>

#include "sim/protocol/ws/upgrade.hpp"

namespace twinstorm::ws {
namespace {

constexpr std::string_view kKey = "dGhlIHNhbXBsZSBub25jZQ==";  // RFC 6455 section 1.3
constexpr std::string_view kAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const UpgradeRequest kRequest{.host = "hub.localhost:8080", .key = kKey};

std::string response(std::string_view fields) {
  return "HTTP/1.1 101 Switching Protocols\r\n" + std::string{fields} + "\r\n\r\n";
}
std::string good_fields() {
  return "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + std::string{kAccept} +
         "\r\nSec-WebSocket-Protocol: mqtt";
}
std::string verdict(std::string_view bytes) {
  const auto checked = check_upgrade_response(bytes, kRequest);
  if (!checked) return "more";
  return *checked ? "ok " + std::to_string(checked->value()) : checked->error().message;
}

UpgradeHeaders good_headers() {
  return {.method = "GET",
          .upgrade = "websocket",
          .connection = "keep-alive, Upgrade",
          .version = "13",
          .key = kKey,
          .subprotocols = "amqp, mqtt"};
}
std::string verdict(const UpgradeHeaders& headers) {
  const auto checked = check_upgrade_request(headers);
  return checked ? *checked : checked.error().message;
}

TEST(WsUpgradeTest, KeyAndAcceptOfTheRfc) {
  EXPECT_EQ(make_key({'t', 'h', 'e', ' ', 's', 'a', 'm', 'p', 'l', 'e', ' ', 'n', 'o', 'n', 'c', 'e'}), kKey);
  EXPECT_EQ(accept_for(kKey), kAccept);
}

TEST(WsUpgradeTest, TheRequestAsksForMqttAndNoExtension) {
  std::string out;
  append_upgrade_request(out, kRequest);
  EXPECT_EQ(out,
            "GET /$iothub/websocket HTTP/1.1\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Connection: Upgrade\r\n"
            "Upgrade: websocket\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\n"
            "Host: hub.localhost:8080\r\n\r\n");
}

TEST(WsUpgradeTest, AnAnswerThatFitsIsTakenUpToItsEnd) {
  std::string out;
  append_upgrade_response(out, kAccept);
  const auto size = out.size();
  EXPECT_EQ(verdict(out + "\x82\x01x"), "ok " + std::to_string(size));
  for (size_t i = 0; i < size; ++i) EXPECT_EQ(verdict(std::string_view{out}.substr(0, i)), "more") << i;
  EXPECT_EQ(verdict(response("upgrade:  WebSocket \r\nCONNECTION: keep-alive, upgrade\r\nServer: x\r\n"
                             "sec-websocket-accept: " +
                             std::string{kAccept} + "\r\nSec-WebSocket-Protocol: mqtt"))
                .substr(0, 2),
            "ok");
}

TEST(WsUpgradeTest, AnyOtherAnswerIsExplained) {
  EXPECT_EQ(verdict("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            "the server answered \"404 Not Found\" to the WebSocket request for \"/$iothub/websocket\" instead of 101: "
            "does this port carry MQTT over WebSocket?");
  EXPECT_EQ(verdict("SSH-2.0-OpenSSH_9.2\r\n"),
            "the server's answer to the WebSocket request is not HTTP/1.1: \"SSH-2.0-OpenSSH_9.2??\"");
  EXPECT_EQ(verdict("\x15\x03\x01"), "the server's answer to the WebSocket request is not HTTP/1.1: \"???\"");
  EXPECT_EQ(verdict("HTTP/1.1 200 OK\r\n" + std::string(kResponseHeadMax, 'x')),
            "the server's answer to the WebSocket request has a header of more than 16384 bytes");
  EXPECT_EQ(verdict(response("Upgrade: h2c\r\nConnection: Upgrade")),
            "the server's answer 101 to the WebSocket request does not upgrade to websocket");
  EXPECT_EQ(verdict(response("Upgrade: websocket\r\nConnection: close")),
            "the server's answer 101 to the WebSocket request does not upgrade to websocket");
  EXPECT_EQ(verdict(response("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA")),
            "the server's answer 101 to the WebSocket request has a Sec-WebSocket-Accept that does not fit the key: is "
            "there a cache in between?");
  EXPECT_EQ(
      verdict(response("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + std::string{kAccept})),
      "the server's answer 101 to the WebSocket request does not agree to the subprotocol \"mqtt\"");
  EXPECT_EQ(verdict(response(good_fields() + "\r\nSec-WebSocket-Extensions: permessage-deflate")),
            "the server's answer 101 to the WebSocket request uses an extension that was not offered");
}

TEST(WsUpgradeTest, ARequestThatFitsGetsItsAccept) { EXPECT_EQ(verdict(good_headers()), kAccept); }

TEST(WsUpgradeTest, RequestsThatDoNotFitAreExplained) {
  auto headers = good_headers();
  headers.method = "POST";
  EXPECT_EQ(verdict(headers), "a WebSocket opens with GET");
  headers = good_headers();
  headers.connection = "close";
  EXPECT_FALSE(wants_websocket(headers));
  EXPECT_EQ(verdict(headers), "a WebSocket opens with the headers \"Upgrade: websocket\" and \"Connection: Upgrade\"");
  headers = good_headers();
  headers.version = "8";
  EXPECT_EQ(verdict(headers), "WebSocket version \"8\" is not spoken here: 13 is");
  EXPECT_EQ(check_upgrade_request(headers).error().code, ErrorCode::precondition_failed);
  for (const std::string_view key : {"", "dGhl", "dGhlIHNhbXBsZSBub25jZQ=!", "AAAAAAAAAAAAAAAAAAAAAAAA"}) {
    headers = good_headers();
    headers.key = key;
    EXPECT_EQ(verdict(headers), "Sec-WebSocket-Key must be 16 bytes in base64") << key;
  }
  headers = good_headers();
  headers.subprotocols = "amqp,MQTT";
  EXPECT_EQ(verdict(headers), "the WebSocket must offer the subprotocol \"mqtt\" (offered: \"amqp,MQTT\")");
}

}  // namespace
}  // namespace twinstorm::ws
