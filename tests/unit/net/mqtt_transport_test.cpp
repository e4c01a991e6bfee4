// The device link against a hand-written hub on loopback: what it makes of every kind of answer.
#include "sim/transport/mqtt/mqtt_transport.hpp"

#include <array>
#include <functional>
#include <string>
#include <vector>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/transport/mqtt/request_id.hpp"
#include "tests/support/event_loop.hpp"

namespace twinstorm::transport {
namespace {

using mqtt::PacketType;
using namespace std::chrono_literals;

using Lines = std::vector<std::string>;

std::string rid_of(uint32_t request) { return std::string{format_request_id(request, 1).view()}; }

class MqttTransportTest : public ::testing::Test, protected testing::EventLoop, protected TransportEvents {
 protected:
  MqttTransportTest() : acceptor{io.context, net::Endpoint{boost::asio::ip::address_v4::loopback(), 0}} { accept(); }
  ~MqttTransportTest() override { link.abort(); }

  void accept() {
    acceptor.async_accept([this](const boost::system::error_code& error, net::TcpSocket socket) {
      if (error) return;
      hub.emplace(std::move(socket));
      read();
    });
  }
  void read() {
    hub->async_read_some(boost::asio::buffer(buffer), [this](const boost::system::error_code& error, size_t size) {
      hub_ended = static_cast<bool>(error);
      if (error) return;
      received.append(buffer.data(), size);
      for (auto frame = mqtt::next_frame(received); frame.status == mqtt::FrameStatus::complete;
           frame = mqtt::next_frame(received)) {
        packets.push_back({frame.type, std::string{frame.body}, frame.flags});
        received.erase(0, frame.size);
      }
      read();
    });
  }
  void settle() {
    io.context.restart();
    while (io.context.run_one_for(5ms) > 0) {
    }
  }
  void dial() {
    link.connect({acceptor.local_endpoint(), "hub.localhost"}, 10s);
    until([&] { return packets.size() == 1; });
  }
  void send(const std::string& bytes) { boost::asio::write(*hub, boost::asio::buffer(bytes)); }
  static std::string connack(mqtt::ConnackCode code) {
    std::string out;
    mqtt::encode_connack(out, {false, code});
    return out;
  }
  static std::string publish(std::string_view topic, std::string_view payload, mqtt::Qos qos = mqtt::Qos::at_most_once,
                             uint16_t id = 0) {
    std::string out;
    mqtt::encode_publish(out, topic, payload, qos, id);
    return out;
  }
  void come_online() {
    dial();
    send(connack(mqtt::ConnackCode::accepted));
    until([&] { return !heard.empty(); });
    packets.clear();
    heard.clear();
  }
  mqtt::Publish published(size_t packet) {
    EXPECT_EQ(packets.at(packet).type, PacketType::publish);
    return mqtt::decode_publish(packets.at(packet).flags, packets.at(packet).body).value();
  }

  void identify(LocalDevice, Identity& identity) override {
    identity.client_id = "dev-1";
    identity.user_name = "user";
    identity.password = "token";
    identity.keep_alive_seconds = 60;
  }
  void on_connected(LocalDevice, bool session_present) override {
    heard.push_back(session_present ? "connected, session present" : "connected");
  }
  void on_method(LocalDevice, std::string_view name, std::string_view rid, std::string_view payload) override {
    heard.push_back("method " + std::string{name} + " rid " + std::string{rid} + ' ' + std::string{payload});
  }
  void on_message(LocalDevice, std::string_view bag, std::string_view payload) override {
    heard.push_back("message " + std::string{bag} + ' ' + std::string{payload});
  }
  void on_connect_refused(LocalDevice, ConnectRefusal refusal) override {
    heard.push_back("refused " + std::to_string(static_cast<int>(refusal)));
  }
  void on_subscribed(LocalDevice, bool granted) override { heard.push_back(granted ? "subscribed" : "not granted"); }
  void on_twin_response(LocalDevice, const TwinResponse& response) override {
    heard.push_back("response " + std::to_string(response.status) + " to " + std::to_string(response.request) + " v" +
                    std::to_string(response.version.value_or(-1)) + ' ' + std::string{response.body});
  }
  void on_desired(LocalDevice, int64_t version, std::string_view patch) override {
    heard.push_back("desired v" + std::to_string(version) + ' ' + std::string{patch});
    if (abort_on_desired) link.abort();
  }
  void on_telemetry_acknowledged(LocalDevice, uint16_t message) override {
    heard.push_back("acknowledged " + std::to_string(message));
  }
  void on_disconnected(LocalDevice, DisconnectReason reason) override {
    heard.push_back("disconnected " + std::to_string(static_cast<int>(reason)));
  }
  static std::string refused(ConnectRefusal refusal) { return "refused " + std::to_string(static_cast<int>(refusal)); }
  static std::string disconnected(DisconnectReason reason) {
    return "disconnected " + std::to_string(static_cast<int>(reason));
  }

  struct Packet {
    PacketType type;
    std::string body;
    uint8_t flags;
  };
  ManualClock clock;
  boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, net::IoContext::executor_type> acceptor;
  std::optional<net::TcpSocket> hub;
  std::array<char, 65536> buffer{};
  std::string received;
  std::vector<Packet> packets;
  bool hub_ended = false, abort_on_desired = false;
  Lines heard;
  TransportEvents& events_ = *this;
  MqttTransport link{io, clock, events_, 1};
};

TEST_F(MqttTransportTest, IntroducesItselfAsTheIdentitySays) {
  dial();
  ASSERT_EQ(packets[0].type, PacketType::connect);
  const auto connect = mqtt::decode_connect(packets[0].body);
  ASSERT_TRUE(connect);
  EXPECT_EQ(connect->client_id, "dev-1");
  EXPECT_EQ(connect->user_name, "user");
  EXPECT_EQ(connect->password, "token");
  EXPECT_EQ(connect->keep_alive_seconds, 60);
  EXPECT_FALSE(connect->clean_session);
}

TEST_F(MqttTransportTest, EveryRefusalHasItsReason) {
  const std::pair<mqtt::ConnackCode, ConnectRefusal> expected[] = {
      {mqtt::ConnackCode::server_unavailable, ConnectRefusal::unavailable},
      {mqtt::ConnackCode::bad_user_name_or_password, ConnectRefusal::unauthorized},
      {mqtt::ConnackCode::not_authorized, ConnectRefusal::unauthorized},
      {mqtt::ConnackCode::identifier_rejected, ConnectRefusal::rejected}};
  for (const auto& [code, refusal] : expected) {
    packets.clear();
    heard.clear();
    dial();
    send(connack(code));
    until([&] { return !heard.empty(); });
    settle();
    EXPECT_EQ(heard, (Lines{refused(refusal)}));
    EXPECT_TRUE(hub_ended);
    accept();
  }
}

TEST_F(MqttTransportTest, BytesThatAreNotMqttBeforeTheAnswerRefuseTheConnect) {
  dial();
  send("HTTP/1.1 400 Bad Request\r\n\r\n");
  until([&] { return !heard.empty(); });
  settle();
  EXPECT_EQ(heard, (Lines{refused(ConnectRefusal::protocol)}));
}

TEST_F(MqttTransportTest, AnEndBeforeTheAnswerRefusesTheConnect) {
  dial();
  hub->close();
  until([&] { return !heard.empty(); });
  EXPECT_EQ(heard, (Lines{refused(ConnectRefusal::closed)}));
}

TEST_F(MqttTransportTest, NonsenseBehindConnackEndsAConnectionThatWasMade) {
  dial();
  send(connack(mqtt::ConnackCode::accepted) + "\xff\xff\xff\xff\xff");
  until([&] { return heard.size() == 2; });
  settle();
  EXPECT_EQ(heard, (Lines{"connected", disconnected(DisconnectReason::protocol)}));
}

TEST_F(MqttTransportTest, SubscribesInTwoPacketsAndWaitsForBoth) {
  come_online();
  EXPECT_EQ(link.subscribe(Subscriptions::twin, {"dev-1"}), Sent::ok);
  until([&] { return packets.size() == 2; });
  const auto first = mqtt::decode_subscribe(packets[0].body);
  const auto second = mqtt::decode_subscribe(packets[1].body);
  ASSERT_TRUE(first && second);
  std::string answer;
  const uint8_t granted[] = {0};
  const uint8_t failure[] = {mqtt::kSubackFailure};
  mqtt::encode_suback(answer, first->packet_id, granted);
  send(answer);
  settle();
  EXPECT_TRUE(heard.empty());
  answer.clear();
  mqtt::encode_suback(answer, second->packet_id, failure);
  send(answer);
  until([&] { return !heard.empty(); });
  EXPECT_EQ(heard, (Lines{"not granted"}));
}

TEST_F(MqttTransportTest, RequestsGoToTheDocumentedTopics) {
  come_online();
  uint16_t message = 0;
  EXPECT_EQ(link.get_twin(17), Sent::ok);
  EXPECT_EQ(link.report(18, R"({"a":1})"), Sent::ok);
  EXPECT_EQ(link.send_telemetry({.from = {"dev-1"}, .payload = "payload"}, message), Sent::ok);
  until([&] { return packets.size() == 3; });
  EXPECT_EQ(published(0).topic, "$iothub/twin/GET/?$rid=" + rid_of(17));
  EXPECT_EQ(published(0).payload, " ");
  EXPECT_EQ(published(1).topic, "$iothub/twin/PATCH/properties/reported/?$rid=" + rid_of(18));
  EXPECT_EQ(published(1).payload, R"({"a":1})");
  EXPECT_EQ(published(2).topic, "devices/dev-1/messages/events/");
  EXPECT_EQ(published(2).qos, mqtt::Qos::at_least_once);
  EXPECT_EQ(published(2).packet_id, message);
  std::string answer;
  mqtt::encode_puback(answer, message);
  send(answer);
  until([&] { return !heard.empty(); });
  EXPECT_EQ(heard, (Lines{"acknowledged " + std::to_string(message)}));
}

TEST_F(MqttTransportTest, AnswersAndNotificationsAreToldAndTheRestIgnored) {
  come_online();
  send(publish("$iothub/twin/res/200/?$rid=" + rid_of(17), R"({"desired":{}})") +
       publish("$iothub/twin/res/204/?$rid=" + rid_of(18) + "&$version=5", "") +
       publish("$iothub/twin/res/204/?$rid=abc", "") +
       publish("$iothub/twin/PATCH/properties/desired/?$version=9", R"({"a":1})") + publish("some/other/topic", "x") +
       publish("$iothub/twin/res/429/?$rid=" + rid_of(19), "{}"));
  until([&] { return heard.size() == 4; });
  settle();
  EXPECT_EQ(heard, (Lines{R"(response 200 to 17 v-1 {"desired":{}})", "response 204 to 18 v5 ", R"(desired v9 {"a":1})",
                          "response 429 to 19 v-1 {}"}));
}

TEST_F(MqttTransportTest, QosOneMessagesAreAcknowledged) {
  come_online();
  send(publish("devices/dev-1/messages/devicebound/x=1", "hi", mqtt::Qos::at_least_once, 77));
  until([&] { return !packets.empty(); });
  EXPECT_EQ(packets[0].type, PacketType::puback);
  EXPECT_EQ(mqtt::decode_puback(packets[0].body).value(), 77);
}

TEST_F(MqttTransportTest, ToldWhetherTheHubKeptTheSession) {
  dial();
  send(std::string{"\x20\x02\x01\x00", 4});
  until([&] { return !heard.empty(); });
  EXPECT_EQ(heard, (Lines{"connected, session present"}));
}

TEST_F(MqttTransportTest, EverySubscriptionHasItsFilterAndPacket) {
  come_online();
  const auto everything = Subscriptions::twin | Subscriptions::methods | Subscriptions::devicebound;
  EXPECT_EQ(link.subscribe(everything, {"dev-1"}), Sent::ok);
  until([&] { return packets.size() == 4; });
  Lines filters;
  std::string answer;
  for (const auto& packet : packets) {
    const auto subscribe = mqtt::decode_subscribe(packet.body).value();
    for (const auto& filter : subscribe.filters) {
      filters.push_back(std::string{filter.filter} + ' ' + std::to_string(static_cast<int>(filter.qos)));
    }
    const uint8_t granted[] = {0};
    mqtt::encode_suback(answer, subscribe.packet_id, granted);
  }
  EXPECT_EQ(filters, (Lines{"$iothub/twin/res/# 0", "$iothub/twin/PATCH/properties/desired/# 0",
                            "$iothub/methods/POST/# 0", "devices/dev-1/messages/devicebound/# 1"}));
  send(answer);
  until([&] { return !heard.empty(); });
  EXPECT_EQ(heard, (Lines{"subscribed"}));
  packets.clear();
  EXPECT_EQ(link.unsubscribe(Subscriptions::devicebound, {"dev-1"}), Sent::ok);
  until([&] { return packets.size() == 1; });
  EXPECT_EQ(packets[0].type, PacketType::unsubscribe);
  EXPECT_NE(packets[0].body.find("devices/dev-1/messages/devicebound/#"), std::string::npos);
}

TEST_F(MqttTransportTest, MethodsAndMessagesComeInAndAnswersGoOut) {
  come_online();
  send(publish("$iothub/methods/POST/reboot/?$rid=4a", R"({"delay":3})") +
       publish("devices/dev-1/messages/devicebound/%24.mid=1&p=x", "hello", mqtt::Qos::at_least_once, 7));
  until([&] { return heard.size() == 2; });
  EXPECT_EQ(heard, (Lines{R"(method reboot rid 4a {"delay":3})", "message %24.mid=1&p=x hello"}));
  until([&] { return packets.size() == 1; });
  packets.clear();
  EXPECT_EQ(link.send_method_response("4a", 200, R"({"ok":1})"), Sent::ok);
  until([&] { return packets.size() == 1; });
  EXPECT_EQ(published(0).topic, "$iothub/methods/res/200/?$rid=4a");
  EXPECT_EQ(published(0).payload, R"({"ok":1})");
  EXPECT_EQ(published(0).qos, mqtt::Qos::at_most_once);
}

TEST_F(MqttTransportTest, TelemetryOfAModuleAndItsProperties) {
  come_online();
  uint16_t message = 0;
  EXPECT_EQ(link.send_telemetry({.from = {"dev-1", "mod"}, .payload = "x", .bag = "%24.ct=a"}, message), Sent::ok);
  until([&] { return packets.size() == 1; });
  EXPECT_EQ(published(0).topic, "devices/dev-1/modules/mod/messages/events/%24.ct=a");
}

TEST_F(MqttTransportTest, NothingIsToldAfterAnAbortInTheMiddleOfABurst) {
  abort_on_desired = true;
  come_online();
  const auto one = publish("$iothub/twin/PATCH/properties/desired/?$version=9", "{}");
  send(one + one + one + "\xff\xff\xff");
  until([&] { return !heard.empty(); });
  settle();
  EXPECT_EQ(heard, (Lines{"desired v9 {}"}));
}

TEST_F(MqttTransportTest, WithoutConnectionNothingIsSent) {
  uint16_t message = 0;
  EXPECT_EQ(link.get_twin(1), Sent::offline);
  EXPECT_EQ(link.report(1, "{}"), Sent::offline);
  EXPECT_EQ(link.send_telemetry({.from = {"dev-1"}, .payload = "x"}, message), Sent::offline);
  dial();  // dialled, not yet accepted
  EXPECT_EQ(link.get_twin(1), Sent::offline);
}

TEST_F(MqttTransportTest, PingsEachPeriodAndGivesUpWithoutAnswer) {
  come_online();
  EXPECT_EQ(link.next_deadline(), clock.mono() + 60s);
  clock.advance(60s);
  link.on_time(clock.mono());
  until([&] { return packets.size() == 1; });
  EXPECT_EQ(packets[0].type, PacketType::pingreq);
  std::string pong;
  mqtt::encode_pingresp(pong);
  send(pong);
  settle();
  clock.advance(60s);
  link.on_time(clock.mono());
  until([&] { return packets.size() == 2; });
  clock.advance(60s);
  link.on_time(clock.mono());  // no PINGRESP since the last
  EXPECT_EQ(heard, (Lines{disconnected(DisconnectReason::keep_alive)}));
}

TEST_F(MqttTransportTest, SaysGoodbyeOnDisconnect) {
  come_online();
  link.disconnect();
  until([&] { return hub_ended; });
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].type, PacketType::disconnect);
  EXPECT_TRUE(heard.empty());
  EXPECT_EQ(link.next_deadline(), MonoTime::max());
}

}  // namespace
}  // namespace twinstorm::transport
