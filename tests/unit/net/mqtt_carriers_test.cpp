// The device link over each carrier: what it says when it comes up, and why when it does not.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/ws/framer.hpp"
#include "sim/protocol/ws/upgrade.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"
#include "tests/support/event_loop.hpp"
#include "tests/support/stream_server.hpp"
#include "tests/support/tls_pair.hpp"

namespace twinstorm::transport {
namespace {

using namespace std::chrono_literals;
using testing::valid_today;

class MqttCarriersTest : public ::testing::TestWithParam<MqttCarrier>,
                         protected testing::EventLoop,
                         protected TransportEvents {
 protected:
  bool tls() const { return GetParam() == MqttCarrier::tls || GetParam() == MqttCarrier::wss; }
  bool websocket() const { return GetParam() == MqttCarrier::ws || GetParam() == MqttCarrier::wss; }
  LinkTarget target() const {
    return {.endpoint = server.endpoint(), .host_name = "localhost", .tls = tls() ? &client_side : nullptr};
  }
  void answer_upgrade() {
    until([&] { return server.received.ends_with("\r\n\r\n"); });
    const std::string name = "Sec-WebSocket-Key: ";
    std::string out;
    ws::append_upgrade_response(out,
                                ws::accept_for(server.received.substr(server.received.find(name) + name.size(), 24)));
    server.received.clear();
    server.send(out);
  }
  /// The first packet the server got, without frames.
  mqtt::Connect connect_packet() {
    until([&] { return server.received.size() > 20; });
    packet = server.received;
    if (websocket()) {
      ws::Framer framer{ws::Role::server};
      const auto step = framer.next(std::span<char>{packet});
      packet = std::string{step.payload};
    }
    return mqtt::decode_connect(mqtt::next_frame(packet).body).value();
  }
  void send_packet(const std::string& bytes) {
    std::string out = bytes;
    if (websocket()) {
      out.clear();
      ws::append_frame(out, ws::Opcode::binary, bytes, std::nullopt);
    }
    server.send(out);
  }

  void identify(LocalDevice, Identity& identity) override {
    identity.client_id = "dev-1";
    identity.user_name = "user";
    identity.password = password;
  }
  const net::CertifiedKey* client_certificate(LocalDevice) override { return certificate ? &*certificate : nullptr; }
  void on_connected(LocalDevice, bool) override { connected = true; }
  void on_connect_refused(LocalDevice, ConnectRefusal why) override {
    refusal = why;
    text = link->refusal_text();
  }
  void on_subscribed(LocalDevice, bool) override {}
  void on_twin_response(LocalDevice, const TwinResponse&) override {}
  void on_desired(LocalDevice, int64_t, std::string_view) override {}
  void on_telemetry_acknowledged(LocalDevice, uint16_t) override {}
  void on_disconnected(LocalDevice, DisconnectReason why) override { disconnected = why; }

  const net::CertifiedKey authority = net::make_authority("test CA", valid_today()).value();
  const net::TlsContext server_side =
      net::TlsContext::server(
          {.identity = net::issue_server_certificate(authority, {"localhost"}, valid_today()).value()})
          .value();
  const net::TlsContext client_side = net::TlsContext::client({.authorities_pem = authority.certificate_pem}).value();
  ManualClock clock;
  testing::StreamServer server{io.context, tls() ? &server_side : nullptr};
  TransportEvents& events_ = *this;
  std::unique_ptr<DeviceTransport> link = make_mqtt_transport(GetParam(), io, clock, events_, 1);
  std::string password = "token", text, packet;
  std::optional<net::CertifiedKey> certificate;
  bool connected = false;
  std::optional<ConnectRefusal> refusal;
  std::optional<DisconnectReason> disconnected;
};

TEST_P(MqttCarriersTest, IntroducesItselfAndHearsTheAnswer) {
  link->connect(target(), 10s);
  if (websocket()) answer_upgrade();
  EXPECT_EQ(connect_packet().password, "token");
  send_packet(std::string{"\x20\x02\x00\x00", 4});
  until([&] { return connected; });
  server.close();
  until([&] { return disconnected.has_value(); });
  EXPECT_EQ(disconnected, DisconnectReason::hub_closed);
}

TEST_P(MqttCarriersTest, EachDeviceConnectsFromItsAddressInTurn) {
  for (const LocalDevice device : {0u, 1u, 2u, 3u}) {
    link = make_mqtt_transport(GetParam(), io, clock, events_, device);
    auto from = target();
    for (const char* address : {"127.0.0.1", "127.0.0.9", "127.0.0.3"}) {
      from.sources.push_back(boost::asio::ip::make_address(address));
    }
    link->connect(from, 10s);
    const int before = static_cast<int>(device);
    until([&] { return server.connections > before; });
    EXPECT_EQ(server.other_end().address(), from.sources[device % 3]) << device;
    if (websocket()) answer_upgrade();
    EXPECT_EQ(connect_packet().client_id, "dev-1");
    link->abort();
    io.context.restart();
    io.context.poll();  // what the abort cancelled ends before the link does
  }
}

TEST_P(MqttCarriersTest, WithoutTokenNoPasswordIsSent) {
  password.clear();
  if (tls()) certificate = net::make_self_signed("dev-1", valid_today()).value();
  link->connect(target(), 10s);
  if (websocket()) answer_upgrade();
  EXPECT_FALSE(connect_packet().password);
  if (tls()) {
    ASSERT_TRUE(server.client);
    EXPECT_EQ(server.client->common_name, "dev-1");
  }
}

TEST_P(MqttCarriersTest, WhatWasRefusedIsNamed) {
  link->connect(target(), 10s);
  if (websocket()) answer_upgrade();
  connect_packet();
  send_packet(std::string{"\x20\x02\x00\x05", 4});
  until([&] { return refusal.has_value(); });
  EXPECT_EQ(refusal, ConnectRefusal::unauthorized);
  EXPECT_EQ(text, "the hub refused the credentials, or does not know the device (CONNACK 4 or 5)");
}

TEST_P(MqttCarriersTest, AServerThatIsNotTrustedIsNamed) {
  if (!tls()) return;
  auto elsewhere = target();
  elsewhere.server_name = "hub.example";
  link->connect(elsewhere, 10s);
  until([&] { return refusal.has_value(); });
  EXPECT_EQ(refusal, ConnectRefusal::untrusted);
  EXPECT_EQ(text,
            "the server's certificate for \"hub.example\" is not trusted: hostname mismatch; it is for localhost: "
            "connect by one of its names, or add the name to the server's certificate");
}

TEST_P(MqttCarriersTest, AHandshakeThatFailsIsNamed) {
  if (!tls()) return;
  server.silent = true;
  link->connect(target(), 10s);
  until([&] { return server.connections == 1; });
  server.close();
  until([&] { return refusal.has_value(); });
  EXPECT_EQ(refusal, ConnectRefusal::handshake);
  EXPECT_EQ(text.substr(0, 22), "TLS handshake failed: ");
}

TEST_P(MqttCarriersTest, AnUpgradeThatIsRefusedIsNamed) {
  if (!websocket()) return;
  auto elsewhere = target();
  elsewhere.websocket_path = "/mqtt";
  elsewhere.websocket_host = "hub.example:8080";
  link->connect(elsewhere, 10s);
  until([&] { return server.received.ends_with("\r\n\r\n"); });
  EXPECT_NE(server.received.find("\r\nHost: hub.example:8080\r\n"), std::string::npos);
  server.send("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  until([&] { return refusal.has_value(); });
  EXPECT_EQ(refusal, ConnectRefusal::upgrade);
  EXPECT_EQ(text,
            "the server answered \"503 Service Unavailable\" to the WebSocket request for \"/mqtt\" instead of 101: "
            "does this port carry MQTT over WebSocket?");
}

TEST_P(MqttCarriersTest, SilenceAfterConnectIsNamed) {
  link->connect(target(), 10s);
  if (websocket()) answer_upgrade();
  connect_packet();
  clock.advance(11s);
  link->on_time(clock.mono());
  EXPECT_EQ(refusal, ConnectRefusal::closed);
  EXPECT_EQ(text, "the hub did not answer CONNECT in time");
}

TEST_P(MqttCarriersTest, AnAbortLooksLikeALostNetwork) {
  link->connect(target(), 10s);
  if (websocket()) answer_upgrade();
  connect_packet();
  send_packet(std::string{"\x20\x02\x00\x00", 4});
  until([&] { return connected; });
  const auto before = server.received.size();
  link->abort();
  until([&] { return server.ended; });
  EXPECT_EQ(server.received.size(), before) << "no goodbye";
  EXPECT_FALSE(disconnected);
}

std::string name_of(const ::testing::TestParamInfo<MqttCarrier>& instance) {
  static constexpr const char* kNames[] = {"Tcp", "Tls", "WebSocket", "WebSocketOverTls"};
  return kNames[static_cast<size_t>(instance.param)];
}
INSTANTIATE_TEST_SUITE_P(Carriers, MqttCarriersTest,
                         ::testing::Values(MqttCarrier::tcp, MqttCarrier::tls, MqttCarrier::ws, MqttCarrier::wss),
                         name_of);

}  // namespace
}  // namespace twinstorm::transport
