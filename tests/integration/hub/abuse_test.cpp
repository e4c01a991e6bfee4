// What broken and hostile peers send: each costs the hub one connection and bounded memory, is counted, and nobody else
// notices.
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include "secure_hub.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

size_t heap_in_use() { return mallinfo2().uordblks; }

class AbusedHub : public SecureHub {
 protected:
  void SetUp() override {
    HubConfig config;
    config.connect_timeout = std::chrono::milliseconds{300};
    config.max_pending_bytes = 64 * 1024;
    start(std::move(config));
    watching_.push_back(bystander("plain"));
    watching_.push_back(mqtts(tls()));
    ASSERT_TRUE(accepted(*watching_.back(), create("secured")));
    watching_.push_back(std::make_unique<RawMqtt>(hub->ports().https));
    ASSERT_TRUE(secure(*watching_.back(), tls()));
    ASSERT_NE(upgrade(*watching_.back()), nullptr);
    ASSERT_TRUE(accepted(*watching_.back(), create("framed")));
    before_ = hub->counts();
  }
  void TearDown() override {
    for (const auto& client : watching_) EXPECT_TRUE(client->alive());
    EXPECT_EQ(service().request("GET", "/twins/plain?api-version=2021-04-12").status, 200);
  }

  std::vector<uint16_t> all_ports() const {
    const HubPorts ports = hub->ports();
    return {ports.mqtt, ports.mqtts, ports.http, ports.https};
  }
  /// Growth of a count since the test began.
  uint64_t grown(uint64_t HubCounts::*count) const { return hub->counts().*count - before_.*count; }
  bool grows_to(uint64_t HubCounts::*count, uint64_t by) const {
    return eventually([&](const HubCounts& now) { return now.*count - before_.*count == by; });
  }

  HubCounts before_;

 private:
  std::vector<std::unique_ptr<RawMqtt>> watching_;
};

TEST_F(AbusedHub, GarbageOnEveryPort) {
  std::mt19937 random{20260301};
  const auto garbage = [&] {
    std::string bytes(random() % 3000 + 1, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    return bytes;
  };
  constexpr uint64_t kEach = 40;
  std::vector<std::unique_ptr<RawSocket>> clients;
  for (const uint16_t port : all_ports()) {
    for (uint64_t i = 0; i < kEach; ++i) {
      clients.push_back(std::make_unique<RawSocket>(port));
      clients.back()->send(garbage());
    }
  }
  for (const auto& client : clients) EXPECT_TRUE(client->ends());
  EXPECT_TRUE(grows_to(&HubCounts::connects_refused, 2 * kEach));  // MQTT and MQTTS
  EXPECT_TRUE(grows_to(&HubCounts::tls_handshakes_failed, 2 * kEach));
  EXPECT_TRUE(grows_to(&HubCounts::http_4xx, kEach));
  EXPECT_EQ(grown(&HubCounts::disconnects), 0u);
}

TEST_F(AbusedHub, GarbageInsideAnEstablishedTlsConnection) {
  auto device = mqtts(tls());
  ASSERT_TRUE(accepted(*device, create("dev1")));
  constexpr std::string_view kNoRecord = "these bytes are no TLS record";
  ASSERT_GT(::send(device->descriptor(), kNoRecord.data(), kNoRecord.size(), MSG_NOSIGNAL), 0);
  EXPECT_TRUE(device->ends());
  EXPECT_TRUE(grows_to(&HubCounts::disconnects, 1));
}

TEST_F(AbusedHub, HalfOfSomethingThenSilence) {
  const DeviceLogin login = create("dev1");
  const HubPorts ports = hub->ports();
  const std::string connect = RawMqtt::connect_packet(login);
  std::vector<std::unique_ptr<RawSocket>> clients;
  const auto silent = [&](uint16_t port, std::string_view bytes) {
    clients.push_back(std::make_unique<RawSocket>(port));
    clients.back()->send(bytes);
  };
  silent(ports.mqtt, "");
  silent(ports.mqtt, connect.substr(0, 1));
  silent(ports.mqtt, connect.substr(0, connect.size() / 2));
  silent(ports.mqtts, "");
  silent(ports.mqtts, std::string_view{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11});  // of a ClientHello
  silent(ports.https, std::string_view{"\x16\x03", 2});
  silent(ports.http, "GET /devices HTT");
  silent(ports.http, "PUT /devices/dev1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this");
  for (const std::string& after_tls : {std::string{}, connect.substr(0, 20)}) {
    silent(ports.mqtts, "");
    ASSERT_TRUE(secure(*clients.back(), tls()));
    clients.back()->send(after_tls);
  }
  for (const std::string& frame : {std::string{}, std::string{"\x82"}, std::string{"\x82\xfe\x01"}}) {
    silent(ports.http, "");
    WebSocketLayer* const frames = upgrade(*clients.back());
    ASSERT_NE(frames, nullptr);
    frames->write_raw(frame);
  }
  for (size_t i = 0; i < clients.size(); ++i) EXPECT_TRUE(clients[i]->ends()) << "client " << i;
  EXPECT_TRUE(grows_to(&HubCounts::connects_refused, 10));
  EXPECT_TRUE(grows_to(&HubCounts::tls_handshakes_failed, 3));
  EXPECT_TRUE(grows_to(&HubCounts::http_4xx, 2));
}

TEST_F(AbusedHub, HandshakesThatAreNeverFinishedDoNotKeepOthersWaiting) {
  constexpr int kHalf = 300;
  std::vector<std::unique_ptr<RawSocket>> stuck;
  for (int i = 0; i < kHalf; ++i) {
    stuck.push_back(std::make_unique<RawSocket>(hub->ports().mqtts));
    stuck.back()->send(std::string_view{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11});
  }
  auto device = mqtts(tls());
  EXPECT_TRUE(accepted(*device, create("dev1")));
  for (const auto& client : stuck) EXPECT_TRUE(client->ends());
  EXPECT_TRUE(grows_to(&HubCounts::tls_handshakes_failed, kHalf));
  EXPECT_TRUE(device->alive());
}

TEST_F(AbusedHub, PlainBytesOnTlsPortsAndTlsOnPlainOnes) {
  const DeviceLogin login = create("dev1");
  RawMqtt plain{hub->ports().mqtts};
  EXPECT_FALSE(plain.login(login));
  EXPECT_TRUE(plain.ends());
  RawSocket http{hub->ports().https};
  http.send("GET /twinstorm/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(http.ends());
  EXPECT_TRUE(grows_to(&HubCounts::tls_handshakes_failed, 2));
  EXPECT_TRUE(grows_to(&HubCounts::connects_refused, 1));
  RawSocket tls_on_mqtt{hub->ports().mqtt};
  EXPECT_FALSE(secure(tls_on_mqtt, tls()));
  RawSocket tls_on_http{hub->ports().http};
  EXPECT_FALSE(secure(tls_on_http, tls()));
  EXPECT_TRUE(grows_to(&HubCounts::connects_refused, 2));
  EXPECT_TRUE(grows_to(&HubCounts::http_4xx, 1));
  EXPECT_EQ(grown(&HubCounts::tls_handshakes), 0u);
}

TEST_F(AbusedHub, PayloadsOverTheLimitEndTheConnectionEarly) {
  const std::string payload(300 * 1024, 'x');
  for (int way = 0; way < 3; ++way) {
    const DeviceLogin login = create(fmt::format("big{}", way));
    RawMqtt device{way == 0 ? hub->ports().mqtt : way == 1 ? hub->ports().mqtts : hub->ports().https};
    if (way > 0) {
      ASSERT_TRUE(secure(device, tls()));
    }
    if (way == 2) {
      ASSERT_NE(upgrade(device), nullptr);
    }
    ASSERT_TRUE(accepted(device, login));
    device.publish("devices/" + login.device_id + "/messages/events/", payload, mqtt::Qos::at_least_once);
    EXPECT_TRUE(device.ends());
  }
  EXPECT_TRUE(grows_to(&HubCounts::disconnects_protocol, 3));
  EXPECT_EQ(grown(&HubCounts::telemetry_messages), 0u);

  // The announcement is enough: nobody waits for 256 MB.
  RawMqtt announced{hub->ports().mqtt};
  ASSERT_TRUE(accepted(announced, create("announced")));
  announced.send(std::string_view{"\x30\xff\xff\xff\x7f", 5});
  EXPECT_TRUE(announced.ends());
  RawMqtt before_connect{hub->ports().mqtt};
  before_connect.send(std::string_view{"\x10\xff\xff\xff\x7f", 5});
  EXPECT_TRUE(before_connect.ends());
  EXPECT_TRUE(grows_to(&HubCounts::disconnects_protocol, 4));

  RawHttp body = service();
  const HttpReply refused = body.request("PUT", "/devices/dev1?api-version=2021-04-12", std::string(5 << 20, ' '));
  EXPECT_EQ(refused.status, 413);
}

TEST_F(AbusedHub, TenThousandSubscriptions) {
  const std::string filter = "$iothub/twin/res/#";
  const mqtt::Subscription one{filter, mqtt::Qos::at_most_once};
  const DeviceLogin login = create("dev1");
  RawMqtt device{hub->ports().mqtt};
  ASSERT_TRUE(accepted(device, login));
  const size_t before = heap_in_use();

  std::string many;
  for (uint16_t id = 1; id <= 10'000; ++id) mqtt::encode_subscribe(many, id, {&one, 1});
  device.send(many);
  for (int i = 0; i < 10'000; ++i) {
    const auto suback = device.next();
    ASSERT_TRUE(suback) << i;
    ASSERT_EQ(suback->type, mqtt::PacketType::suback);
  }

  EXPECT_TRUE(grows_to(&HubCounts::subscribes, 10'000));
  constexpr size_t kOwnAllowance = 4 << 20;  // this test's own strings live in the same heap
  EXPECT_LT(heap_in_use(), before + kOwnAllowance);

  // All of them in one packet are more than a device may ask for: known filters and others alike.
  const std::string other = "some/other/filter";
  for (const std::string& each : {filter, other}) {
    RawMqtt greedy{hub->ports().mqtt};
    ASSERT_TRUE(accepted(greedy, create(each == filter ? "greedy1" : "greedy2")));
    const std::vector<mqtt::Subscription> all(10'000, {each, mqtt::Qos::at_least_once});
    std::string at_once;
    mqtt::encode_subscribe(at_once, 1, all);
    greedy.send(at_once);
    EXPECT_TRUE(greedy.ends());
  }
  EXPECT_TRUE(grows_to(&HubCounts::disconnects_protocol, 2));
  EXPECT_TRUE(device.alive());
}

TEST_F(AbusedHub, PeersThatDoNotReadAreClosedWhateverTheySendOver) {
  const auto flood = [&](RawMqtt& device) {
    std::string gets;
    for (int i = 0; i < 1000; ++i) {
      mqtt::encode_publish(gets, "$iothub/twin/GET/?$rid=1", " ", mqtt::Qos::at_most_once, 0);
    }
    for (int i = 0; i < 40; ++i) device.send(gets);
  };
  for (int way = 0; way < 3; ++way) {
    RawMqtt device{way == 0 ? hub->ports().mqtt : way == 1 ? hub->ports().mqtts : hub->ports().https};
    device.shrink_receive_buffer();
    if (way > 0) {
      ASSERT_TRUE(secure(device, tls()));
    }
    if (way == 2) {
      ASSERT_NE(upgrade(device), nullptr);
    }
    const DeviceLogin login = create(fmt::format("slow{}", way));
    ASSERT_TRUE(accepted(device, login));
    ASSERT_TRUE(device.subscribe("$iothub/twin/res/#"));
    ASSERT_TRUE(device.ask("$iothub/twin/PATCH/properties/reported/?$rid=0",
                           fmt::format(R"({{"a":"{}"}})", std::string(4000, 'x'))));
    flood(device);
    EXPECT_TRUE(grows_to(&HubCounts::disconnects_slow_reader, static_cast<uint64_t>(way) + 1)) << "way " << way;
  }

  // Before CONNECT a WebSocket client can make the hub answer, too.
  RawMqtt pinging{hub->ports().http};
  pinging.shrink_receive_buffer();
  WebSocketLayer* const frames = upgrade(pinging);
  ASSERT_NE(frames, nullptr);
  const std::string text(125, 'p');
  for (int i = 0; i < 100'000 && grown(&HubCounts::connects_refused) == 0; ++i) frames->write_frame(0x89, text);
  EXPECT_TRUE(grows_to(&HubCounts::connects_refused, 1));
}

TEST_F(AbusedHub, AConnectBehindUnreadAnswersCannotMoveAndIsClosed) {
  // On WebSocket pongs may wait when CONNECT arrives and the connection should change its shard.
  RawMqtt client{hub->ports().http};
  client.shrink_receive_buffer();
  WebSocketLayer* const frames = upgrade(client);
  ASSERT_NE(frames, nullptr);
  const DeviceLogin logins[] = {create("dev1"), create("dev2"), create("dev3"), create("dev4")};
  const std::string text(125, 'p');
  for (int i = 0; i < 1500; ++i) frames->write_frame(0x89, text);
  for (const DeviceLogin& login : logins) client.send(RawMqtt::connect_packet(login));
  client.shut();
  EXPECT_TRUE(eventually([&](const HubCounts& now) { return now.connected_devices == before_.connected_devices; }));
}

TEST_F(AbusedHub, ALastAnswerLeavesWholeForSlowReadersAndIsGivenUpWhenNobodyReads) {
  constexpr int kDevices = 200;  // 6 MB of twins, more than the sockets' buffers hold
  std::string desired;
  for (char name = 'a'; name < 'i'; ++name) {
    desired += fmt::format(R"({}"{}":"{}")", desired.empty() ? "" : ",", name, std::string(3900, name));
  }
  RawHttp http = service();
  for (int i = 0; i < kDevices; ++i) {
    const std::string id = fmt::format("wide{}", i);
    http.request("PUT", "/devices/" + id, fmt::format(R"({{"deviceId":"{}"}})", id));
    ASSERT_EQ(
        http.request("PATCH", "/twins/" + id, fmt::format(R"({{"properties":{{"desired":{{{}}}}}}})", desired)).status,
        200);
  }
  const auto ask = [](RawHttp& client) {
    client.write("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})",
                 "Connection: close\r\nx-ms-max-item-count: 1000\r\n");
  };
  for (const bool half_closed : {false, true}) {
    SCOPED_TRACE(half_closed ? "a client that has ended its sending side" : "a client that may send on");
    RawHttp client = service();
    ask(client);
    if (half_closed) shutdown(client.descriptor(), SHUT_WR);
    const auto began = std::chrono::steady_clock::now();
    while (client.receive()) usleep(20'000);
    EXPECT_GT(std::chrono::steady_clock::now() - began, std::chrono::milliseconds{1500}) << "not slow enough";
    const HttpReply reply = client.read();
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(std::to_string(reply.body.size()), reply.header("content-length"));
    EXPECT_TRUE(client.received.empty());
  }

  const auto descriptors = [] {
    const std::filesystem::directory_iterator open{"/proc/self/fd"};
    return std::distance(begin(open), end(open));
  };
  http.shut();
  usleep(50'000);
  const auto before = descriptors();
  RawHttp silent = service();
  ask(silent);
  ASSERT_TRUE(silent.receive());
  EXPECT_EQ(descriptors(), before + 2) << "the hub still has something to send";
  for (int waited = 0; waited < kPatienceMs && descriptors() != before + 1; waited += 10) usleep(10'000);
  EXPECT_EQ(descriptors(), before + 1) << "only the client's own is left";
}

TEST_F(AbusedHub, MemoryComesBackWhenTheyAreGone) {
  constexpr int kPeers = 60;
  std::vector<DeviceLogin> logins;
  for (int i = 0; i < kPeers; ++i) logins.push_back(create(fmt::format("held{}", i)));
  const auto round = [&] {
    std::vector<std::unique_ptr<RawMqtt>> devices;
    for (int i = 0; i < kPeers; ++i) {
      devices.push_back(i % 2 == 0 ? std::make_unique<RawMqtt>(hub->ports().mqtt) : mqtts(tls()));
      EXPECT_TRUE(accepted(*devices.back(), logins[static_cast<size_t>(i)]));
    }
    // A packet of 256 KB less a little, which lacks its end: the most that one connection can make the hub keep.
    const std::string part = std::string{"\x30\xf0\xff\x0f", 4} + std::string(200 * 1024, 'x');
    for (const auto& device : devices) device->send(part);
    usleep(100'000);
    const size_t held = heap_in_use();
    devices.clear();
    EXPECT_TRUE(eventually([&](const HubCounts& now) { return now.connected_devices == before_.connected_devices; }));
    usleep(50'000);
    return held;
  };
  round();  // what the first round leaves (tables, scratch space) stays
  const size_t before = heap_in_use();
  const size_t held = round();
  constexpr size_t kPerPeer = 600 * 1024;  // the packet, growth of its string, TLS on both sides
  EXPECT_LT(held, before + kPeers * kPerPeer);
  EXPECT_LT(heap_in_use(), before + 256 * 1024);
}

}  // namespace
}  // namespace twinstorm::hub::testing
