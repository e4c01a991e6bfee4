// Our device link over Paho MQTT C++ (`engine: paho`) against our hub and against mosquitto.
#include "sim/transport/paho/paho_transport.hpp"

#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <gtest/gtest.h>

#include "sim/hub/hub.hpp"
#include "sim/net/shard_io.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/sas.hpp"
#include "tests/integration/hub/raw_clients.hpp"
#include "tests/support/process.hpp"

namespace twinstorm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::ConnectRefusal;
using transport::DisconnectReason;
using transport::LocalDevice;
using transport::PahoLink;
using transport::PahoTransport;
using transport::Sent;
using transport::Subscriptions;

/// What the link tells, and who the device is.
class Seen final : public transport::TransportEvents {
 public:
  transport::Identity identity;
  std::optional<ConnectRefusal> refused;
  std::optional<DisconnectReason> disconnected;
  std::optional<bool> granted;
  bool connected = false, session_present = false;
  int status = 0, events = 0;
  uint32_t request = 0;
  std::optional<int64_t> reported_version;
  int64_t version = 0;
  std::string body, refusal_text, method, method_rid;
  uint16_t acknowledged = 0;
  std::thread::id thread;

  void identify(LocalDevice, transport::Identity& to) override { to = identity; }
  void on_connected(LocalDevice, bool present) override { note(), connected = true, session_present = present; }
  void on_connect_refused(LocalDevice, ConnectRefusal refusal) override {
    note(), refused = refusal;
    if (link != nullptr) refusal_text = link->refusal_text();
  }
  void on_subscribed(LocalDevice, bool ok) override { note(), granted = ok; }
  void on_twin_response(LocalDevice, const transport::TwinResponse& response) override {
    note(), status = response.status, request = response.request, reported_version = response.version;
    body = response.body;
  }
  void on_desired(LocalDevice, int64_t at, std::string_view patch) override { note(), version = at, body = patch; }
  void on_telemetry_acknowledged(LocalDevice, uint16_t id) override { note(), acknowledged = id; }
  void on_method(LocalDevice, std::string_view name, std::string_view rid, std::string_view) override {
    note(), method = name, method_rid = rid;
  }
  void on_disconnected(LocalDevice, DisconnectReason reason) override { note(), disconnected = reason; }

  transport::DeviceTransport* link = nullptr;

 private:
  void note() { ++events, thread = std::this_thread::get_id(); }
};

/// Turns the loop until the condition holds; false after some seconds.
template <class Condition>
bool turn_until(net::ShardIo& io, const Condition& condition) {
  const auto work = boost::asio::make_work_guard(io.context);  // what Paho does is no work of the loop
  io.context.restart();
  for (int i = 0; i < 1000 && !condition(); ++i) io.context.run_for(milliseconds{10});
  return condition();
}

struct Way {
  bool tls;
};

class PahoLinkOnHub : public ::testing::TestWithParam<Way> {
 protected:
  PahoLinkOnHub() {
    hub::HubConfig config{.threads = 1};
    config.mqtts_port = 0;
    config.data_folder = folder_.path().string();
    auto started = hub::Hub::start(config);
    if (!started) throw std::runtime_error{started.error().message};
    hub_ = std::move(started.value());
    const auto owner = protocol::parse_connection_string(hub_->owner_connection_string()).value();
    host_ = owner.host_name;
    service_token_ = protocol::make_sas_token(host_, protocol::base64_decode(owner.shared_access_key).value(),
                                              4'000'000'000, owner.shared_access_key_name);
    const auto created = service("PUT", "/devices/dev1", R"({"deviceId":"dev1","status":"enabled"})");
    const auto key = protocol::find_plain_string(created, "authentication.symmetricKey.primaryKey");
    use_key(protocol::base64_decode(key.value_or("")).value());
  }

  std::string service(const std::string& method, const std::string& path, const std::string& body,
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
    return at == std::string::npos ? std::string{} : socket.received.substr(at + 4);
  }

  void use_key(const std::string& key) {
    seen_.identity.client_id = "dev1";
    seen_.identity.user_name = host_ + "/dev1/?api-version=2021-04-12&DeviceClientType=twinstorm";
    seen_.identity.password = protocol::make_sas_token(host_ + "/devices/dev1", key, 4'000'000'000);
    seen_.identity.keep_alive_seconds = 30;
  }

  PahoLink way(Way way) const { return {.tls = way.tls, .trust_store = hub_->authority_file(), .version = {}}; }
  transport::LinkTarget target(Way way) const {
    const auto ports = hub_->ports();
    return {{boost::asio::ip::make_address("127.0.0.1"), way.tls ? ports.mqtts : ports.mqtt}, host_};
  }

  template <class Condition>
  bool until(const Condition& condition) {
    return turn_until(io_, condition);
  }

  testing::TemporaryFolder folder_;
  std::unique_ptr<hub::Hub> hub_;
  std::string host_, service_token_;
  net::ShardIo io_;
  Seen seen_;
};

INSTANTIATE_TEST_SUITE_P(Ways, PahoLinkOnHub, ::testing::Values(Way{false}, Way{true}),
                         [](const auto& each) { return std::string{each.param.tls ? "Tls" : "Tcp"}; });

TEST_P(PahoLinkOnHub, DoesTheWholeTwinRound) {
  PahoTransport link{io_, seen_, 0, way(GetParam())};
  link.connect(target(GetParam()), seconds{5});
  ASSERT_TRUE(until([&] { return seen_.connected || seen_.refused; }));
  ASSERT_TRUE(seen_.connected);
  EXPECT_FALSE(seen_.session_present);
  EXPECT_EQ(seen_.thread, std::this_thread::get_id()) << "events belong to the thread of the loop";
  ASSERT_EQ(link.subscribe(Subscriptions::twin | Subscriptions::methods, {"dev1"}), Sent::ok);
  ASSERT_TRUE(until([&] { return seen_.granted.has_value(); }));
  EXPECT_TRUE(*seen_.granted);

  ASSERT_EQ(link.get_twin(7), Sent::ok);
  ASSERT_TRUE(until([&] { return seen_.status != 0; }));
  EXPECT_EQ(seen_.status, 200);
  EXPECT_EQ(seen_.request, 7u);
  EXPECT_EQ(seen_.body, R"({"desired":{"$version":1},"reported":{"$version":1}})");

  seen_.status = 0;
  ASSERT_EQ(link.report(8, R"({"a":1})"), Sent::ok);
  ASSERT_TRUE(until([&] { return seen_.status != 0; }));
  EXPECT_EQ(seen_.status, 204);
  EXPECT_EQ(seen_.reported_version, 2);

  service("PATCH", "/twins/dev1", R"({"properties":{"desired":{"b":2}}})", "\"*\"");
  ASSERT_TRUE(until([&] { return seen_.version != 0; }));
  EXPECT_EQ(seen_.version, 2);
  EXPECT_EQ(protocol::find_integer(seen_.body, "b"), 2);

  uint16_t message = 0;
  ASSERT_EQ(link.send_telemetry({{"dev1"}, "hello", "p=1"}, message), Sent::ok);
  ASSERT_TRUE(until([&] { return seen_.acknowledged != 0; }));
  EXPECT_EQ(seen_.acknowledged, message);

  link.disconnect();
  EXPECT_EQ(link.get_twin(9), Sent::offline);
  EXPECT_TRUE([&] {  // the hub has seen the goodbye
    for (int i = 0; i < 200 && hub_->counts().disconnects == 0; ++i) std::this_thread::sleep_for(milliseconds{20});
    return hub_->counts().disconnects > 0;
  }());
  EXPECT_FALSE(seen_.disconnected) << "a goodbye of our own is no event";
  EXPECT_EQ(hub_->counts().telemetry_messages, 1u);
  EXPECT_EQ(hub_->counts().reported_patches, 1u);
}

class PahoLinkOnTcp : public PahoLinkOnHub {};
INSTANTIATE_TEST_SUITE_P(Tcp, PahoLinkOnTcp, ::testing::Values(Way{false}));

TEST_P(PahoLinkOnTcp, AnswersADirectMethod) {
  PahoTransport link{io_, seen_, 0, way(GetParam())};
  link.connect(target(GetParam()), seconds{5});
  ASSERT_TRUE(until([&] { return seen_.connected; }));
  link.subscribe(Subscriptions::methods, {"dev1"});
  ASSERT_TRUE(until([&] { return seen_.granted.has_value(); }));
  std::string answer;
  std::thread caller{[&] {
    answer = service("POST", "/twins/dev1/methods", R"({"methodName":"reboot","responseTimeoutInSeconds":5})");
  }};
  EXPECT_TRUE(until([&] { return !seen_.method.empty(); }));
  EXPECT_EQ(seen_.method, "reboot");
  EXPECT_EQ(link.send_method_response(seen_.method_rid, 200, R"({"ok":true})"), Sent::ok);
  caller.join();
  EXPECT_EQ(protocol::find_integer(answer, "status"), 200) << answer;
}

TEST_P(PahoLinkOnTcp, TellsWhyItWasRefused) {
  use_key("wrong");
  PahoTransport link{io_, seen_, 0, way(GetParam())};
  seen_.link = &link;
  link.connect(target(GetParam()), seconds{5});
  ASSERT_TRUE(until([&] { return seen_.refused.has_value(); }));
  EXPECT_EQ(*seen_.refused, ConnectRefusal::unauthorized);
  EXPECT_FALSE(seen_.refusal_text.empty());
  EXPECT_EQ(link.refusal_text(), "") << "only during the call";
}

TEST_P(PahoLinkOnTcp, TellsThatNobodyListens) {
  PahoTransport link{io_, seen_, 0, way(GetParam())};
  auto nowhere = target(GetParam());
  nowhere.endpoint.port(1);
  link.connect(nowhere, seconds{5});
  ASSERT_TRUE(until([&] { return seen_.refused.has_value(); }));
  EXPECT_EQ(*seen_.refused, ConnectRefusal::unreachable);
}

TEST_P(PahoLinkOnTcp, DoesNotTrustACertificateOfSomebodyElse) {
  PahoLink link_of{.tls = true, .trust_store = {}, .version = {}};
  PahoTransport link{io_, seen_, 0, link_of};
  link.connect(target({true}), seconds{5});
  ASSERT_TRUE(until([&] { return seen_.refused.has_value() || seen_.connected; }));
  EXPECT_FALSE(seen_.connected);
  EXPECT_EQ(seen_.refused, ConnectRefusal::handshake);
}

TEST_P(PahoLinkOnTcp, NoticesALostConnectionAndFindsItsSessionAgain) {
  PahoTransport link{io_, seen_, 0, way(GetParam())};
  link.connect(target(GetParam()), seconds{5});
  ASSERT_TRUE(until([&] { return seen_.connected; }));
  link.subscribe(Subscriptions::twin, {"dev1"});
  ASSERT_TRUE(until([&] { return seen_.granted.has_value(); }));
  {
    // A second connection of the same device takes over.
    Seen other;
    other.identity = seen_.identity;
    PahoTransport second{io_, other, 1, way(GetParam())};
    second.connect(target(GetParam()), seconds{5});
    ASSERT_TRUE(until([&] { return other.connected && seen_.disconnected; }));
    EXPECT_EQ(*seen_.disconnected, DisconnectReason::hub_closed);
    EXPECT_EQ(link.report(1, "{}"), Sent::offline);
  }
  seen_.connected = false;
  link.connect(target(GetParam()), seconds{5});
  ASSERT_TRUE(until([&] { return seen_.connected; }));
  EXPECT_TRUE(seen_.session_present);
}

TEST_P(PahoLinkOnTcp, IsSilentAfterAbortAndDestruction) {
  {
    PahoTransport link{io_, seen_, 0, way(GetParam())};
    link.connect(target(GetParam()), seconds{5});
    link.abort();
    link.connect(target(GetParam()), seconds{5});
    ASSERT_TRUE(until([&] { return seen_.connected; }));
    EXPECT_EQ(seen_.events, 1) << "of the second connection only";
    link.subscribe(Subscriptions::twin, {"dev1"});
    ASSERT_TRUE(until([&] { return seen_.granted.has_value(); }));
    for (uint32_t request = 0; request < 20; ++request) link.get_twin(request);
    std::this_thread::sleep_for(milliseconds{50});  // answers are posted to the loop, which does not run
    seen_.events = 0;
  }
  io_.context.restart();
  io_.context.run_for(milliseconds{50});
  EXPECT_EQ(seen_.events, 0);
}

TEST(PahoUris, NameHostPortAndPath) {
  const transport::LinkTarget local{{boost::asio::ip::make_address("127.0.0.1"), 1883}, "hub.localhost"};
  EXPECT_EQ(transport::paho_uri(local, {}), "tcp://127.0.0.1:1883");
  EXPECT_EQ(transport::paho_uri(local, {.tls = true}), "ssl://127.0.0.1:1883");
  const transport::LinkTarget far{{boost::asio::ip::make_address("192.0.2.1"), 8883}, "hub.example.net"};
  EXPECT_EQ(transport::paho_uri(far, {.tls = true}), "ssl://hub.example.net:8883");
  EXPECT_EQ(transport::paho_uri(far, {}), "tcp://192.0.2.1:8883");
  const transport::LinkTarget six{{boost::asio::ip::make_address("::1"), 1883}, "hub.localhost"};
  EXPECT_EQ(transport::paho_uri(six, {}), "tcp://[::1]:1883");
}

// --- mosquitto: somebody else's broker on the other side, too --------------------------------------------------------

TEST(PahoLinkOnMosquitto, ConnectsSubscribesAndPublishes) {
  testing::TemporaryFolder folder;
  const auto config = folder.path() / "mosquitto.conf";
  constexpr uint16_t kPort = 22983;
  testing::write_file(config, "listener " + std::to_string(kPort) + " 127.0.0.1\nallow_anonymous true\n");
  testing::Process broker{{"/usr/sbin/mosquitto", "-c", config.string()}};
  for (int i = 0; i < 200 && broker.err().find("running") == std::string::npos; ++i) {
    std::this_thread::sleep_for(milliseconds{20});
  }
  net::ShardIo io;
  Seen seen;
  seen.identity.client_id = "dev1";
  seen.identity.user_name = "anybody";
  seen.identity.password = "anything";
  seen.identity.keep_alive_seconds = 30;
  const auto until = [&](const auto& condition) { return turn_until(io, condition); };
  PahoTransport link{io, seen, 0, {}};
  link.connect({{boost::asio::ip::make_address("127.0.0.1"), kPort}, "localhost"}, seconds{5});
  ASSERT_TRUE(until([&] { return seen.connected; }));
  EXPECT_EQ(link.subscribe(Subscriptions::twin, {"dev1"}), Sent::ok);
  ASSERT_TRUE(until([&] { return seen.granted.has_value(); }));
  EXPECT_TRUE(*seen.granted);
  uint16_t message = 0;
  EXPECT_EQ(link.send_telemetry({{"dev1"}, "hello"}, message), Sent::ok);
  EXPECT_TRUE(until([&] { return seen.acknowledged == message; }));
  broker.signal(15);
  EXPECT_TRUE(until([&] { return seen.disconnected.has_value(); }));
}

}  // namespace
}  // namespace twinstorm
