#include <thread>

#include <gtest/gtest.h>
#include <mqtt/client.h>
#include <nlohmann/json.hpp>

#include "sim/hub/hub.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"
#include "sim/transport/mqtt/request_id.hpp"
#include "tests/integration/hub/raw_clients.hpp"
#include "tests/support/process.hpp"
#include "tests/support/tls_pair.hpp"

namespace twinstorm {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

// --- Paho MQTT C++ as a device of our hub
// -----------------------------------------------------------------------------

class PahoDevice : public ::testing::Test {
 protected:
  PahoDevice() {
    auto started = hub::Hub::start({.mqtt_port = 0, .http_port = 0, .threads = 2});
    hub_ = std::move(started.value());
    const auto owner = protocol::parse_connection_string(hub_->owner_connection_string()).value();
    host_ = owner.host_name;
    service_token_ = protocol::make_sas_token(host_, protocol::base64_decode(owner.shared_access_key).value(),
                                              4'000'000'000, owner.shared_access_key_name);
    const auto created = service("PUT", "/devices/dev1", R"({"deviceId":"dev1","status":"enabled"})");
    key_ = created["authentication"]["symmetricKey"]["primaryKey"].get<std::string>();
  }

  json service(const std::string& method, const std::string& path, const std::string& body,
               const std::string& if_match = {}) {
    hub::testing::RawSocket socket{hub_->ports().http};
    std::string request = method + " " + path + "?api-version=2021-04-12 HTTP/1.1\r\nHost: " + host_ +
                          "\r\nAuthorization: " + service_token_ +
                          "\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: " +
                          std::to_string(body.size()) + "\r\n";
    if (!if_match.empty()) request += "If-Match: " + if_match + "\r\n";
    socket.send(request + "\r\n" + body);
    socket.ends();
    const auto at = socket.received.find("\r\n\r\n");
    return at == std::string::npos ? json{} : json::parse(socket.received.substr(at + 4), nullptr, false);
  }

  ::mqtt::connect_options options(const std::string& key) const {
    const auto token =
        protocol::make_sas_token(host_ + "/devices/dev1", protocol::base64_decode(key).value(), 4'000'000'000);
    return ::mqtt::connect_options_builder()
        .user_name(host_ + "/dev1/?api-version=2021-04-12&DeviceClientType=paho")
        .password(token)
        .clean_session(false)
        .keep_alive_interval(seconds{30})
        .mqtt_version(MQTTVERSION_3_1_1)
        .finalize();
  }
  std::string address() const { return "tcp://127.0.0.1:" + std::to_string(hub_->ports().mqtt); }

  std::unique_ptr<hub::Hub> hub_;
  std::string host_, service_token_, key_;
};

TEST_F(PahoDevice, DoesTheWholeTwinRound) {
  ::mqtt::client client{address(), "dev1"};
  client.start_consuming();
  client.connect(options(key_));
  const auto next = [&]() -> ::mqtt::const_message_ptr {
    ::mqtt::const_message_ptr message;
    client.try_consume_message_for(&message, seconds{5});
    return message;
  };
  client.subscribe("$iothub/twin/res/#", 0);
  client.subscribe("$iothub/twin/PATCH/properties/desired/#", 0);

  client.publish("$iothub/twin/GET/?$rid=1", " ", 1, 0, false);
  auto message = next();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->get_topic(), "$iothub/twin/res/200/?$rid=1");
  EXPECT_EQ(json::parse(message->to_string()), json::parse(R"({"desired":{"$version":1},"reported":{"$version":1}})"));

  const std::string reported = R"({"connectivity":{"type":"cellular"}})";
  client.publish("$iothub/twin/PATCH/properties/reported/?$rid=2", reported.data(), reported.size(), 0, false);
  message = next();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->get_topic(), "$iothub/twin/res/204/?$rid=2&$version=2");
  EXPECT_TRUE(message->to_string().empty());

  const auto twin =
      service("PATCH", "/twins/dev1", R"({"properties":{"desired":{"climate":{"minTemperature":68}}}})", "\"*\"");
  EXPECT_EQ(twin["properties"]["reported"]["connectivity"]["type"], "cellular");
  message = next();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->get_topic(), "$iothub/twin/PATCH/properties/desired/?$version=2");
  EXPECT_EQ(json::parse(message->to_string()), json::parse(R"({"climate":{"minTemperature":68},"$version":2})"));

  client.publish("devices/dev1/messages/events/", "hello", 5, 1, false);  // returns after PUBACK
  client.disconnect();
  const auto counts = hub_->counts();
  EXPECT_EQ(counts.telemetry_messages, 1u);
  EXPECT_EQ(counts.reported_patches, 1u);
  EXPECT_EQ(counts.twin_gets, 1u);
  EXPECT_EQ(counts.desired_notifications_sent, 1u);
}

TEST_F(PahoDevice, IsRefusedWithCode5ForAWrongKey) {
  ::mqtt::client client{address(), "dev1"};
  try {
    client.connect(options(protocol::base64_encode("wrong")));
    FAIL() << "connected with a wrong key";
  } catch (const ::mqtt::exception& error) {
    EXPECT_EQ(error.get_return_code(), 5) << error.what();
  }
}

TEST_F(PahoDevice, IsTakenOverByANewerConnectionOfTheSameDevice) {
  ::mqtt::client first{address(), "dev1"};
  first.connect(options(key_));
  ::mqtt::client second{address(), "dev1"};
  second.connect(options(key_));
  for (int i = 0; i < 100 && first.is_connected(); ++i) std::this_thread::sleep_for(milliseconds{20});
  EXPECT_FALSE(first.is_connected());
  EXPECT_TRUE(second.is_connected());
  second.disconnect();
}

// --- Our device link on somebody else's broker
// ------------------------------------------------------------------------

/// A broker on loopback, for one of the carriers of our link.
struct Mosquitto {
  testing::TemporaryFolder folder;
  uint16_t port = 0;
  std::string authority_pem;
  std::unique_ptr<testing::Process> process;

  explicit Mosquitto(transport::MqttCarrier carrier) {
    using transport::MqttCarrier;
    std::string settings = "allow_anonymous true\npersistence false\nuser root\n";
    const bool websocket = carrier == MqttCarrier::ws || carrier == MqttCarrier::wss;
    if (websocket) settings += "protocol websockets\n";
    if (carrier == MqttCarrier::tls || carrier == MqttCarrier::wss) settings += make_certificates();
    for (uint16_t candidate = 21883; candidate < 21983 && port == 0; ++candidate) {
      const auto config = folder.path() / "mosquitto.conf";
      // Mosquitto 2.0.11 does not start with WebSocket listeners alone: a plain one stands beside.
      const std::string beside =
          websocket ? "listener " + std::to_string(candidate + 100) + " 127.0.0.1\nallow_anonymous true\n" : "";
      testing::write_file(config, beside + "listener " + std::to_string(candidate) + " 127.0.0.1\n" + settings);
      process =
          std::make_unique<testing::Process>(std::vector<std::string>{"/usr/sbin/mosquitto", "-c", config.string()});
      for (int i = 0; i < 100 && port == 0 && process->err().find("Error") == std::string::npos; ++i) {
        if (process->err().find("running") != std::string::npos || process->out().find("running") != std::string::npos)
          port = candidate;
        std::this_thread::sleep_for(milliseconds{20});
      }
    }
  }

 private:
  std::string make_certificates() {
    const auto validity = testing::valid_today();
    const auto authority = net::make_authority("interop CA", validity).value();
    const auto server = net::issue_server_certificate(authority, {"localhost", "127.0.0.1"}, validity).value();
    authority_pem = authority.certificate_pem;
    testing::write_file(folder.path() / "ca.pem", authority.certificate_pem);
    testing::write_file(folder.path() / "server.pem", server.certificate_pem);
    testing::write_file(folder.path() / "server.key", server.key_pem);
    const auto file = [&](const char* name) { return (folder.path() / name).string(); };
    return "cafile " + file("ca.pem") + "\ncertfile " + file("server.pem") + "\nkeyfile " + file("server.key") + "\n";
  }
};

class Recorder final : public transport::TransportEvents {
 public:
  void identify(transport::LocalDevice, transport::Identity& identity) override {
    identity.client_id = "dev1";
    identity.user_name = "anybody";
    identity.password = "anything";
    identity.keep_alive_seconds = 1;
  }
  void on_connected(transport::LocalDevice, bool) override { connected = true; }
  void on_connect_refused(transport::LocalDevice, transport::ConnectRefusal) override { refused = true; }
  void on_subscribed(transport::LocalDevice, bool ok) override { subscribed = true, granted = ok; }
  void on_twin_response(transport::LocalDevice, const transport::TwinResponse& response) override {
    status = response.status;
    request = response.request;
  }
  void on_desired(transport::LocalDevice, int64_t at, std::string_view patch) override {
    version = at;
    body = patch;
  }
  void on_telemetry_acknowledged(transport::LocalDevice, uint16_t id) override { acknowledged = id; }
  void on_disconnected(transport::LocalDevice, transport::DisconnectReason) override { disconnected = true; }

  bool connected = false, refused = false, subscribed = false, granted = false, disconnected = false;
  int status = 0;
  uint32_t request = 0;
  int64_t version = 0;
  std::string body;
  uint16_t acknowledged = 0;
};

std::string other_address(transport::MqttCarrier carrier, uint16_t port) {
  static constexpr const char* kSchemes[] = {"tcp", "ssl", "ws", "wss"};
  return std::string{kSchemes[static_cast<size_t>(carrier)]} + "://localhost:" + std::to_string(port);
}
std::string rid_of(uint32_t request) { return std::string{transport::format_request_id(request, 0).view()}; }

class DeviceLink : public ::testing::TestWithParam<transport::MqttCarrier> {};

TEST_P(DeviceLink, SpeaksMqttThatMosquittoUnderstands) {
  const Mosquitto broker{GetParam()};
  ASSERT_NE(broker.port, 0) << "mosquitto did not start";
  net::ShardIo io;
  const SteadyClock clock;
  Recorder seen;
  const auto made = transport::make_mqtt_transport(GetParam(), io, clock, seen, 0);
  transport::DeviceTransport& link = *made;
  const auto until = [&](const auto& condition) {
    for (int i = 0; i < 500 && !condition(); ++i) {
      io.context.restart();
      io.context.run_for(milliseconds{10});
      if (link.next_deadline() <= clock.mono()) link.on_time(clock.mono());
    }
    return condition();
  };
  std::optional<net::TlsContext> tls;
  if (!broker.authority_pem.empty()) tls = net::TlsContext::client({.authorities_pem = broker.authority_pem}).value();
  const transport::LinkTarget target{.endpoint = {boost::asio::ip::make_address("127.0.0.1"), broker.port},
                                     .host_name = "localhost",
                                     .tls = tls ? &*tls : nullptr};
  link.connect(target, seconds{5});
  ASSERT_TRUE(until([&] { return seen.connected; }));
  link.subscribe(transport::Subscriptions::twin, {"dev1"});
  ASSERT_TRUE(until([&] { return seen.subscribed; }));
  EXPECT_TRUE(seen.granted);

  ::mqtt::client other{other_address(GetParam(), broker.port), "other"};
  other.start_consuming();
  ::mqtt::ssl_options trust;
  if (tls) trust.set_trust_store((broker.folder.path() / "ca.pem").string());
  ::mqtt::connect_options greeting;
  if (tls) greeting.set_ssl(trust);
  other.connect(greeting);
  other.subscribe("$iothub/twin/GET/#", 0);
  other.subscribe("$iothub/twin/PATCH/properties/reported/#", 0);
  const auto next = [&] {
    ::mqtt::const_message_ptr message;
    other.try_consume_message_for(&message, seconds{5});
    return message;
  };

  EXPECT_EQ(link.get_twin(41), transport::Sent::ok);
  auto message = next();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->get_topic(), "$iothub/twin/GET/?$rid=" + rid_of(41));
  EXPECT_EQ(message->to_string(), " ");
  EXPECT_EQ(link.report(42, R"({"a":1})"), transport::Sent::ok);
  message = next();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->get_topic(), "$iothub/twin/PATCH/properties/reported/?$rid=" + rid_of(42));
  EXPECT_EQ(message->to_string(), R"({"a":1})");

  other.publish("$iothub/twin/res/204/?$rid=" + rid_of(42) + "&$version=7", "", 0, 0, false);
  ASSERT_TRUE(until([&] { return seen.status != 0; }));
  EXPECT_EQ(seen.status, 204);
  EXPECT_EQ(seen.request, 42u);
  const std::string patch = R"({"a":2,"$version":9})";
  other.publish("$iothub/twin/PATCH/properties/desired/?$version=9", patch.data(), patch.size(), 0, false);
  ASSERT_TRUE(until([&] { return seen.version != 0; }));
  EXPECT_EQ(seen.version, 9);
  EXPECT_EQ(seen.body, patch);

  uint16_t id = 0;
  EXPECT_EQ(link.send_telemetry({.from = {"dev1"}, .payload = "payload"}, id), transport::Sent::ok);
  ASSERT_TRUE(until([&] { return seen.acknowledged != 0; }));
  EXPECT_EQ(seen.acknowledged, id);

  // Three keep-alive periods of one second: mosquitto would close a silent connection after one and a half.
  const auto begin = clock.mono();
  until([&] { return clock.mono() - begin > seconds{3}; });
  EXPECT_FALSE(seen.disconnected);
  link.disconnect();
  other.disconnect();
}

std::string name_of(const ::testing::TestParamInfo<transport::MqttCarrier>& instance) {
  static constexpr const char* kNames[] = {"Tcp", "Tls", "WebSocket", "WebSocketOverTls"};
  return kNames[static_cast<size_t>(instance.param)];
}
INSTANTIATE_TEST_SUITE_P(Carriers, DeviceLink,
                         ::testing::Values(transport::MqttCarrier::tcp, transport::MqttCarrier::tls,
                                           transport::MqttCarrier::ws, transport::MqttCarrier::wss),
                         name_of);

}  // namespace
}  // namespace twinstorm
