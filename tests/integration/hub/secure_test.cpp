// TLS and MQTT over WebSocket at the hub, with clients that share no code with it. The hub has two shards, so that some
// devices move to another one with their TLS session and their framer.
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "secure_hub.hpp"
#include "sim/hub/dev_certificates.hpp"
#include "sim/net/certificates.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string content(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream{path}.rdbuf();
  return text.str();
}
void write(const std::filesystem::path& path, const std::string& text) { std::ofstream{path} << text; }

class TlsVersions : public SecureHub, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Versions, TlsVersions, ::testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& version) { return version.param == TLS1_2_VERSION ? "Tls12" : "Tls13"; });

TEST_P(TlsVersions, DevicesOfEveryShardWorkOverTls) {
  for (int i = 0; i < 8; ++i) {
    const DeviceLogin login = create(fmt::format("dev{}", i));
    auto device = mqtts(tls(GetParam()));
    // The second packet comes with the first, so it moves to the owner's shard with it.
    std::string subscribe;
    const mqtt::Subscription wanted{"$iothub/twin/res/#", mqtt::Qos::at_most_once};
    mqtt::encode_subscribe(subscribe, 1, {&wanted, 1});
    device->send(RawMqtt::connect_packet(login) + subscribe);
    const auto connack = device->connack();
    ASSERT_TRUE(connack);
    EXPECT_EQ(connack->code, mqtt::ConnackCode::accepted);
    ASSERT_TRUE(device->next());
    const auto got = device->ask("$iothub/twin/GET/?$rid=1", " ");
    ASSERT_TRUE(got);
    EXPECT_EQ(got->topic, "$iothub/twin/res/200/?$rid=1");
  }
  EXPECT_EQ(hub->counts().tls_handshakes, 8u);
  EXPECT_EQ(hub->counts().connects_accepted, 8u);
}

TEST_P(TlsVersions, MessagesLargerThanARecordArriveWhole) {
  auto device = mqtts(tls(GetParam()));
  ASSERT_TRUE(accepted(*device, create("dev1")));
  const std::string payload(200'000, 'x');
  for (int i = 0; i < 5; ++i) device->publish("devices/dev1/messages/events/", payload, mqtt::Qos::at_least_once);
  for (int i = 0; i < 5; ++i) {
    const auto puback = device->next();
    ASSERT_TRUE(puback);
    EXPECT_EQ(puback->type, mqtt::PacketType::puback);
  }
  EXPECT_EQ(hub->counts().telemetry_bytes, 5 * payload.size());
}

TEST_P(TlsVersions, RestSpeaksHttpsWithLargeAnswers) {
  RawHttp bulk = service();
  for (int i = 0; i < 300; ++i) {
    const auto id = fmt::format("dev{}", i);
    ASSERT_EQ(bulk.request("PUT", "/devices/" + id, fmt::format(R"({{"deviceId":"{}"}})", id)).status, 200);
  }
  RawHttp secured{hub->ports().https, hub->owner_connection_string()};
  ASSERT_TRUE(secure(secured, tls(GetParam())));
  for (int i = 0; i < 3; ++i) {
    const HttpReply reply =
        secured.request("POST", "/devices/query?api-version=2021-04-12", R"({"query":"SELECT * FROM devices"})");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.json().size(), 300u);
  }
}

TEST_P(TlsVersions, ADeviceThatDoesNotReadIsClosedAndCounted) {
  HubConfig config;
  config.max_pending_bytes = 64 * 1024;
  start(std::move(config));
  auto watching = bystander();
  RawMqtt slow{hub->ports().mqtts};
  slow.shrink_receive_buffer();
  ASSERT_TRUE(secure(slow, tls(GetParam())));
  ASSERT_TRUE(accepted(slow, create("dev1")));
  ASSERT_TRUE(slow.subscribe("$iothub/twin/res/#"));
  const std::string big(16'000, 'x');
  ASSERT_TRUE(slow.ask("$iothub/twin/PATCH/properties/reported/?$rid=0", fmt::format(R"({{"a":"{:.4000}"}})", big)));
  std::string gets;
  for (int i = 0; i < 5000; ++i) {
    mqtt::encode_publish(gets, "$iothub/twin/GET/?$rid=1", " ", mqtt::Qos::at_most_once, 0);
  }
  slow.send(gets);
  EXPECT_TRUE(eventually([](const HubCounts& counts) { return counts.disconnects_slow_reader == 1; }));
  EXPECT_TRUE(watching->alive());
}

TEST_F(SecureHub, TheCertificateIsForLocalhostTheAddressAndGivenNames) {
  for (const char* name : {"localhost", "127.0.0.1", "hub.localhost"}) {
    TlsOptions options = tls();
    options.server_name = name;
    RawSocket client{hub->ports().mqtts};
    EXPECT_TRUE(secure(client, options)) << name;
  }
  TlsOptions options = tls();
  options.server_name = "hub.lab";
  RawSocket client{hub->ports().mqtts};
  EXPECT_FALSE(secure(client, options));
  HubConfig config;
  config.tls_names = {"hub.lab"};
  start(std::move(config));
  RawSocket again{hub->ports().mqtts};
  EXPECT_TRUE(secure(again, options)) << "the certificate is made anew when a name is missing, the CA stays";
}

TEST_F(SecureHub, CertificatesAreKeptAcrossRestarts) {
  const auto fingerprint = [&] {
    RawSocket client{hub->ports().https};
    EXPECT_TRUE(secure(client, tls()));
    return static_cast<TlsLayer&>(*client.layer).server_fingerprint();
  };
  const std::string first = fingerprint();
  start();
  EXPECT_EQ(fingerprint(), first);
  namespace fs = std::filesystem;
  for (const char* key : {"data/ca-key.pem", "data/server-key.pem"}) {
    EXPECT_EQ(fs::status(folder.path() / key).permissions(), fs::perms::owner_read | fs::perms::owner_write) << key;
  }
}

TEST_F(SecureHub, AnExpiredCertificateIsRenewedUnderTheSameAuthority) {
  const std::string authority = content(hub->authority_file());
  const std::string before = content(folder.path() / "data/server.pem");
  const auto wall = SteadyClock{}.wall();
  const std::vector<std::string> names{"localhost"};
  const auto later = [&](int days) {
    return prepare_dev_certificates(folder.path() / "data", names, wall + days * std::chrono::hours{24});
  };
  ASSERT_TRUE(later(300));
  EXPECT_EQ(content(folder.path() / "data/server.pem"), before);
  ASSERT_TRUE(later(400));
  EXPECT_NE(content(folder.path() / "data/server.pem"), before);
  EXPECT_EQ(content(folder.path() / "data/ca.pem"), authority);
  const auto expired = later(3700);
  ASSERT_FALSE(expired);
  EXPECT_THAT(expired.error().message, HasSubstr("ca.pem' has expired"));
  EXPECT_THAT(expired.error().message, HasSubstr("remove '"));
}

TEST_F(SecureHub, ForeignAndDamagedFilesAreNamedAndLeftAlone) {
  const auto data = folder.path() / "data";
  const auto wall = SteadyClock{}.wall();
  const auto prepare = [&] { return prepare_dev_certificates(data, {"localhost"}, wall); };
  const std::string server = content(data / "server.pem");
  const std::string key = content(data / "server-key.pem");
  const std::string ca_key = content(data / "ca-key.pem");

  write(data / "server.pem", "not a certificate");
  auto failed = prepare();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::corrupt);
  EXPECT_THAT(failed.error().message, HasSubstr("server.pem' is not a certificate in PEM form"));
  EXPECT_THAT(failed.error().message, HasSubstr("--tls-cert"));
  EXPECT_EQ(content(data / "server.pem"), "not a certificate");

  const auto other = net::make_authority("somebody else", {wall, wall + std::chrono::hours{24}});
  ASSERT_TRUE(other);
  const auto foreign = net::issue_server_certificate(*other, {"localhost"}, {wall, wall + std::chrono::hours{24}});
  ASSERT_TRUE(foreign);
  write(data / "server.pem", foreign->certificate_pem);
  failed = prepare();
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("does not belong to the certificate"));
  write(data / "server-key.pem", foreign->key_pem);
  failed = prepare();
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("is not signed by the CA"));

  write(data / "server.pem", server);
  write(data / "server-key.pem", key);
  EXPECT_TRUE(prepare());
  std::filesystem::remove(data / "ca-key.pem");
  failed = prepare();
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("ca.pem' but no '"));
  write(data / "ca-key.pem", ca_key);
  EXPECT_TRUE(prepare());
}

TEST_F(SecureHub, AnOwnCertificateReplacesTheDevelopmentOne) {
  const auto wall = SteadyClock{}.wall();
  const net::Validity today{wall - std::chrono::hours{1}, wall + std::chrono::hours{24}};
  const auto authority = net::make_authority("own CA", today);
  ASSERT_TRUE(authority);
  const auto own = net::issue_server_certificate(*authority, {"127.0.0.1"}, today);
  ASSERT_TRUE(own);
  write(folder.path() / "own-ca.pem", authority->certificate_pem);
  write(folder.path() / "own.pem", own->certificate_pem);
  write(folder.path() / "own.key", own->key_pem);
  HubConfig config;
  config.server_certificate_file = (folder.path() / "own.pem").string();
  config.server_key_file = (folder.path() / "own.key").string();
  start(config);
  EXPECT_EQ(hub->authority_file(), "");
  RawSocket client{hub->ports().mqtts};
  EXPECT_TRUE(secure(client, {.authority_file = (folder.path() / "own-ca.pem").string()}));

  const auto failure = [&](const std::string& certificate, const std::string& key) {
    HubConfig wrong;
    wrong.mqtts_port = 0;
    wrong.server_certificate_file = certificate;
    wrong.server_key_file = key;
    auto started = Hub::start(std::move(wrong));
    return started ? std::string{"started"} : started.error().message;
  };
  EXPECT_THAT(failure(config.server_certificate_file, ""), HasSubstr("--tls-cert FILE and --tls-key FILE"));
  EXPECT_THAT(failure("/nowhere.pem", config.server_key_file), HasSubstr("'/nowhere.pem'"));
  EXPECT_THAT(failure(config.server_certificate_file, (folder.path() / "data/server-key.pem").string()),
              HasSubstr("do not belong together"));
  EXPECT_THAT(failure("", ""), HasSubstr("--data"));
}

TEST_F(SecureHub, ADeviceIsKnownByItsCertificate) {
  const auto wall = SteadyClock{}.wall();
  const auto own = net::make_self_signed("dev-x", {wall - std::chrono::hours{1}, wall + std::chrono::hours{24}});
  ASSERT_TRUE(own);
  write(folder.path() / "dev.pem", own->certificate_pem);
  write(folder.path() / "dev.key", own->key_pem);
  const auto thumbprint = net::sha1_thumbprint(own->certificate_pem);
  // As many identities as make some move to the other shard: the certificate must be known there, too.
  for (int i = 0; i < 6; ++i) {
    const auto id = fmt::format("x{}", i);
    const HttpReply made =
        service().request("PUT", "/devices/" + id,
                          fmt::format(R"({{"deviceId":"{}","authentication":{{"type":"selfSigned","x509Thumbprint":)"
                                      R"({{"primaryThumbprint":"{}","secondaryThumbprint":"{}"}}}}}})",
                                      id, *thumbprint, *thumbprint));
    ASSERT_EQ(made.status, 200) << made.body;
    std::string packet;
    const std::string user = "localhost/" + id + "/?api-version=2021-04-12";
    mqtt::Connect connect;
    connect.client_id = id;
    connect.user_name = user;
    connect.keep_alive_seconds = 60;
    mqtt::encode_connect(packet, connect);
    TlsOptions with = tls();
    with.certificate_file = (folder.path() / "dev.pem").string();
    with.key_file = (folder.path() / "dev.key").string();
    auto device = mqtts(with);
    device->send(packet);
    auto connack = device->connack();
    ASSERT_TRUE(connack);
    EXPECT_EQ(connack->code, mqtt::ConnackCode::accepted) << id;
    auto nobody = mqtts(tls());
    nobody->send(packet);
    connack = nobody->connack();
    ASSERT_TRUE(connack);
    EXPECT_EQ(connack->code, mqtt::ConnackCode::not_authorized) << id;
  }
}

TEST_F(SecureHub, AStormOfTlsConnectsIsAcceptedToTheLast) {
  constexpr size_t kDevices = 200;
  std::vector<DeviceLogin> logins;
  for (size_t i = 0; i < kDevices; ++i) logins.push_back(create(fmt::format("storm{}", i)));
  std::vector<std::unique_ptr<RawMqtt>> devices;
  for (size_t i = 0; i < kDevices; ++i) devices.push_back(std::make_unique<RawMqtt>(hub->ports().mqtts));
  for (size_t i = 0; i < kDevices; ++i) {
    ASSERT_TRUE(secure(*devices[i], tls()));
    devices[i]->send(RawMqtt::connect_packet(logins[i]));
  }
  for (const auto& device : devices) {
    const auto connack = device->connack();
    ASSERT_TRUE(connack);
    EXPECT_EQ(connack->code, mqtt::ConnackCode::accepted);
  }
  EXPECT_EQ(hub->counts().tls_handshakes, kDevices);
  EXPECT_EQ(hub->counts().connects_refused, 0u);
}

class WebSocketHub : public SecureHub, public ::testing::WithParamInterface<bool> {
 protected:
  RawMqtt connect() const { return RawMqtt{GetParam() ? hub->ports().https : hub->ports().http}; }
  /// The framing of a client that has been upgraded.
  WebSocketLayer* open(RawMqtt& client) const {
    if (GetParam() && !secure(client, tls())) return nullptr;
    return upgrade(client);
  }
};
INSTANTIATE_TEST_SUITE_P(Schemes, WebSocketHub, ::testing::Bool(),
                         [](const auto& secured) { return secured.param ? "Wss" : "Ws"; });

TEST_P(WebSocketHub, DevicesOfEveryShardWork) {
  for (int i = 0; i < 8; ++i) {
    const DeviceLogin login = create(fmt::format("dev{}", i));
    RawMqtt device = connect();
    ASSERT_NE(open(device), nullptr);
    ASSERT_TRUE(accepted(device, login));
    ASSERT_TRUE(device.subscribe("$iothub/twin/res/#"));
    const auto got = device.ask("$iothub/twin/GET/?$rid=1", " ");
    ASSERT_TRUE(got);
    EXPECT_EQ(got->topic, "$iothub/twin/res/200/?$rid=1");
    EXPECT_EQ(got->payload, R"({"desired":{"$version":1},"reported":{"$version":1}})");
  }
  EXPECT_EQ(hub->counts().websocket_upgrades, 8u);
  EXPECT_EQ(hub->counts().connects_accepted, 8u);
}

TEST_P(WebSocketHub, PacketsMayBeSplitAndMergedOverFrames) {
  const DeviceLogin login = create("dev1");
  RawMqtt device = connect();
  WebSocketLayer* const frames = open(device);
  ASSERT_NE(frames, nullptr);
  std::string bytes = RawMqtt::connect_packet(login);
  const mqtt::Subscription wanted{"$iothub/twin/res/#", mqtt::Qos::at_most_once};
  mqtt::encode_subscribe(bytes, 1, {&wanted, 1});
  // Every size of piece from 1 byte up, one message of several frames with a ping inside, several packets in a frame.
  frames->write_frame(0x02, std::string_view{bytes}.substr(0, 1));
  frames->write_frame(0x89, "between");
  frames->write_frame(0x00, std::string_view{bytes}.substr(1, 20));
  frames->write_frame(0x80, std::string_view{bytes}.substr(21, 50));
  frames->write_frame(0x82, "");
  frames->write_frame(0x82, std::string_view{bytes}.substr(71));
  const auto connack = device.connack();
  ASSERT_TRUE(connack);
  EXPECT_EQ(connack->code, mqtt::ConnackCode::accepted);
  ASSERT_TRUE(device.next());  // SUBACK
  EXPECT_EQ(frames->pongs, std::vector<std::string>{"between"});
  std::string pings;
  for (int i = 0; i < 100; ++i) mqtt::encode_pingreq(pings);
  frames->write_frame(0x82, pings);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(device.next());
  EXPECT_EQ(hub->counts().pings, 100u);
}

TEST_P(WebSocketHub, FrameBytesMayComeOneByOne) {
  RawMqtt device = connect();
  WebSocketLayer* const frames = open(device);
  ASSERT_NE(frames, nullptr);
  const std::string packet = RawMqtt::connect_packet(create("dev1"));
  std::string frame{"\x82\xfe", 2};
  frame += static_cast<char>(packet.size() >> 8);
  frame += static_cast<char>(packet.size() & 0xff);
  frame += std::string(4, '\0') + packet;  // a mask of zeros
  for (const char byte : frame) {
    frames->write_raw({&byte, 1});
    usleep(100);
  }
  const auto connack = device.connack();
  ASSERT_TRUE(connack);
  EXPECT_EQ(connack->code, mqtt::ConnackCode::accepted);
}

TEST_P(WebSocketHub, FramesMayComeWithTheUpgradeRequest) {
  const DeviceLogin login = create("dev1");
  RawMqtt device = connect();
  if (GetParam()) {
    ASSERT_TRUE(secure(device, tls()));
  }
  const std::string packet = RawMqtt::connect_packet(login);
  std::string frame{"\x82\xfe", 2};
  frame += static_cast<char>(packet.size() >> 8);
  frame += static_cast<char>(packet.size() & 0xff);
  frame += std::string(4, '\0') + packet;
  EXPECT_THAT(ask_for_websocket(device, std::string{kUpgradeRequest} + frame), StartsWith("HTTP/1.1 101 "));
  while (device.received.size() < 6 && device.receive()) {
  }
  EXPECT_EQ(device.received, (std::string{"\x82\x04\x20\x02\x00\x00", 6}));
}

TEST_P(WebSocketHub, TheUpgradeIsAnsweredAsTheStandardSays) {
  RawMqtt device = connect();
  if (GetParam()) {
    ASSERT_TRUE(secure(device, tls()));
  }
  std::string with_query{kUpgradeRequest};
  with_query.insert(with_query.find(" HTTP/1.1"), "?iothub-no-client-cert=true");
  const std::string head = ask_for_websocket(device, with_query);
  EXPECT_THAT(head, StartsWith("HTTP/1.1 101 "));
  EXPECT_THAT(head, HasSubstr("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));  // RFC 6455 section 1.3
  EXPECT_THAT(head, HasSubstr("Sec-WebSocket-Protocol: mqtt\r\n"));
  EXPECT_THAT(head, ::testing::Not(HasSubstr("permessage-deflate")));
}

TEST_P(WebSocketHub, WrongUpgradeRequestsAreRefusedAndTheConnectionGoesOn) {
  RawMqtt client = connect();
  if (GetParam()) {
    ASSERT_TRUE(secure(client, tls()));
  }
  const auto with = [](std::string_view what, std::string_view instead) {
    std::string request{kUpgradeRequest};
    request.replace(request.find(what), what.size(), instead);
    return request;
  };
  const auto answer = [&](const std::string& request) {
    const std::string head = ask_for_websocket(client, request);
    const size_t length = std::stoul(head.substr(head.find("Content-Length: ") + 16));
    while (client.received.size() < length && client.receive()) {
    }
    client.received.erase(0, length);
    return head;
  };
  EXPECT_THAT(answer(with("Protocol: mqtt", "Protocol: soap")), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer(with("Sec-WebSocket-Protocol: mqtt\r\n", "")), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer(with("dGhlIHNhbXBsZSBub25jZQ==", "short")), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer(with("Upgrade: websocket\r\n", "")), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer(with("GET ", "POST ")), StartsWith("HTTP/1.1 400 "));
  const std::string version = answer(with("Version: 13", "Version: 8"));
  EXPECT_THAT(version, StartsWith("HTTP/1.1 426 "));
  EXPECT_THAT(version, HasSubstr("Sec-WebSocket-Version: 13\r\n"));
  EXPECT_THAT(answer(with("/$iothub/websocket", "/elsewhere")), StartsWith("HTTP/1.1 404 "));
  EXPECT_NE(upgrade(client), nullptr);
  EXPECT_EQ(hub->counts().http_4xx, 7u);
}

TEST_P(WebSocketHub, WhatAClientMustNotFrameEndsItsConnectionOnly) {
  auto watching = bystander();
  const DeviceLogin login = create("dev1");
  const struct {
    const char* name;
    int code;
    std::function<void(WebSocketLayer&)> misdeed;
  } misdeeds[] = {
      {"text", 1003, [](WebSocketLayer& frames) { frames.write_frame(0x81, "hello"); }},
      {"no mask", 1002, [](WebSocketLayer& frames) { frames.write_frame(0x82, "\xc0", false); }},
      {"reserved bit", 1002, [](WebSocketLayer& frames) { frames.write_frame(0xc2, "\xc0"); }},
      {"reserved opcode", 1002, [](WebSocketLayer& frames) { frames.write_frame(0x83, "x"); }},
      {"oversize", 1009,
       [](WebSocketLayer& frames) {
         frames.write_raw(std::string_view{"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00mask", 14});
       }},
      {"long ping", 1002, [](WebSocketLayer& frames) { frames.write_frame(0x89, std::string(126, 'x')); }},
  };
  uint64_t ended = 0;
  for (const auto& [name, code, misdeed] : misdeeds) {
    RawMqtt device = connect();
    WebSocketLayer* const frames = open(device);
    ASSERT_NE(frames, nullptr);
    ASSERT_TRUE(accepted(device, login)) << name;
    misdeed(*frames);
    EXPECT_TRUE(device.ends()) << name;
    EXPECT_EQ(frames->close_code, code) << name;
    ++ended;
    EXPECT_TRUE(eventually([&](const HubCounts& counts) { return counts.disconnects_protocol == ended; })) << name;
  }
  EXPECT_TRUE(watching->alive());
}

TEST_P(WebSocketHub, ACloseFrameIsAnsweredAndEndsTheSession) {
  RawMqtt device = connect();
  WebSocketLayer* const frames = open(device);
  ASSERT_NE(frames, nullptr);
  ASSERT_TRUE(accepted(device, create("dev1")));
  frames->write_frame(0x88, "\x03\xe8");
  EXPECT_TRUE(device.ends());
  EXPECT_EQ(frames->close_code, 1000);
  EXPECT_TRUE(eventually([](const HubCounts& counts) { return counts.disconnects_client == 1; }));
}

TEST_P(WebSocketHub, ARefusedConnectIsToldInsideTheFraming) {
  RawMqtt device = connect();
  WebSocketLayer* const frames = open(device);
  ASSERT_NE(frames, nullptr);
  DeviceLogin login = create("dev1");
  login.key = protocol::base64_encode("0123456789abcdef0123456789abcdef");
  const auto connack = device.login(login);
  ASSERT_TRUE(connack);
  EXPECT_EQ(connack->code, mqtt::ConnackCode::not_authorized);
  EXPECT_TRUE(device.ends());
  EXPECT_EQ(frames->close_code, 1000);
}

}  // namespace
}  // namespace twinstorm::hub::testing
