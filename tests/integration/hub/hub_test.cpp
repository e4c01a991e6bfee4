// The hub over loopback, byte by byte, with one shard and with several: a hop between shards must not be visible.
#include "sim/hub/hub.hpp"

#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hub_fixture.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class HubTest : public ShardedHub {
 protected:
  void SetUp() override { start(); }

  /// A connected device with both twin subscriptions.
  std::unique_ptr<RawMqtt> device(const DeviceLogin& login) const {
    auto mqtt = ShardedHub::device(login);
    EXPECT_TRUE(mqtt->subscribe("$iothub/twin/res/#"));
    EXPECT_TRUE(mqtt->subscribe("$iothub/twin/PATCH/properties/desired/#"));
    return mqtt;
  }
};

INSTANTIATE_TEST_SUITE_P(Shards, HubTest, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

TEST_P(HubTest, ADeviceGetsItsTwinAndReportsProperties) {
  auto dev = device(create("dev1"));
  const auto got = dev->ask("$iothub/twin/GET/?$rid=abc", " ");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->topic, "$iothub/twin/res/200/?$rid=abc");
  EXPECT_EQ(got->payload, R"({"desired":{"$version":1},"reported":{"$version":1}})");

  const auto reported = dev->ask("$iothub/twin/PATCH/properties/reported/?$rid=2", R"({"fw":"1.0","n":1.0})");
  ASSERT_TRUE(reported);
  EXPECT_EQ(reported->topic, "$iothub/twin/res/204/?$rid=2&$version=2");
  EXPECT_EQ(reported->payload, "");

  const HttpReply twin = service().request("GET", "/twins/dev1?api-version=2021-04-12");
  EXPECT_EQ(twin.status, 200);
  EXPECT_EQ(twin.json()["connectionState"], "Connected");
  EXPECT_EQ(twin.json()["properties"]["reported"]["fw"], "1.0");
  EXPECT_THAT(twin.body, HasSubstr(R"("n":1.0)"));  // the literal is kept
  EXPECT_EQ(twin.header("content-type"), "application/json; charset=utf-8");
  EXPECT_FALSE(twin.header("x-ms-request-id").empty());
}

TEST_P(HubTest, DesiredPatchesReachTheDeviceInVersionOrder) {
  auto dev = device(create("dev1"));
  RawHttp back_end = service();
  for (int i = 0; i < 50; ++i) {
    const HttpReply reply = back_end.request(
        "PATCH", "/twins/dev1?api-version=2021-04-12",
        fmt::format(R"({{"properties":{{"desired":{{"climate":{{"target":{}}}}}}}}})", i), "If-Match: \"*\"\r\n");
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.json()["properties"]["desired"]["$version"], i + 2);
  }
  for (int i = 0; i < 50; ++i) {
    const auto notification = dev->next_publish();
    ASSERT_TRUE(notification);
    EXPECT_EQ(notification->topic, fmt::format("$iothub/twin/PATCH/properties/desired/?$version={}", i + 2));
    const auto body = nlohmann::json::parse(notification->payload);
    EXPECT_EQ(body["climate"]["target"], i);
    EXPECT_EQ(body["$version"], i + 2);
  }
  EXPECT_EQ(hub->counts().desired_patches, 50u);
  EXPECT_EQ(hub->counts().desired_notifications_sent, 50u);
}

TEST_P(HubTest, TagsAloneAreNotTold) {
  auto dev = device(create("dev1"));
  const HttpReply reply = service().request("PATCH", "/twins/dev1", R"({"tags":{"plant":"Redmond43"}})");
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(dev->alive());  // the answer to the ping comes first, so nothing was sent before it
  EXPECT_EQ(hub->counts().tags_patches, 1u);
  EXPECT_EQ(hub->counts().desired_notifications_sent, 0u);
}

TEST_P(HubTest, SubscriptionsSurviveAReconnectButNotACleanSession) {
  DeviceLogin login = create("dev1");
  device(login)->shut();
  RawMqtt again{hub->ports().mqtt};
  const auto connack = again.login(login);
  ASSERT_TRUE(connack);
  EXPECT_TRUE(connack->session_present);
  service().request("PATCH", "/twins/dev1", R"({"properties":{"desired":{"a":1}}})");
  const auto notification = again.next_publish();
  ASSERT_TRUE(notification);
  EXPECT_EQ(notification->payload, R"({"a":1,"$version":2})");

  login.clean_session = true;
  RawMqtt clean{hub->ports().mqtt};
  const auto fresh = clean.login(login);
  ASSERT_TRUE(fresh);
  EXPECT_FALSE(fresh->session_present);
  service().request("PATCH", "/twins/dev1", R"({"properties":{"desired":{"a":2}}})");
  EXPECT_TRUE(clean.alive());
}

TEST_P(HubTest, ANewerConnectionTakesOver) {
  const DeviceLogin login = create("dev1");
  auto older = device(login);
  auto newer = device(login);
  EXPECT_TRUE(older->ends());
  EXPECT_TRUE(newer->alive());
  const HubCounts counts = hub->counts();
  EXPECT_EQ(counts.connects_accepted, 2u);
  EXPECT_EQ(counts.disconnects_take_over, 1u);
  EXPECT_EQ(counts.connected_devices, 1u);
  EXPECT_EQ(service().request("GET", "/twins/dev1").json()["connectionState"], "Connected");
}

TEST_P(HubTest, ASilentDeviceIsDroppedAfterOneAndAHalfKeepAlives) {
  DeviceLogin login = create("dev1");
  login.keep_alive = 1;
  auto dev = device(login);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_TRUE(dev->ends());
  const auto silence = std::chrono::steady_clock::now() - before;
  EXPECT_GE(silence, std::chrono::milliseconds{1400});
  EXPECT_LE(silence, std::chrono::milliseconds{4000});
  EXPECT_EQ(hub->counts().disconnects_keep_alive, 1u);
  EXPECT_EQ(service().request("GET", "/twins/dev1").json()["connectionState"], "Disconnected");
}

TEST_P(HubTest, WrongCredentialsAreRefusedWithFive) {
  const DeviceLogin good = create("dev1");
  const auto code = [&](const DeviceLogin& login) {
    RawMqtt dev{hub->ports().mqtt};
    const auto connack = dev.login(login);
    EXPECT_TRUE(dev.ends());
    return connack ? static_cast<int>(connack->code) : -1;
  };
  DeviceLogin wrong_key = good;
  wrong_key.key = protocol::base64_encode("0123456789abcdef0123456789abcdef");
  EXPECT_EQ(code(wrong_key), 5);
  DeviceLogin unknown = good;
  unknown.device_id = "nobody";
  EXPECT_EQ(code(unknown), 5);
  DeviceLogin other_hub = good;
  other_hub.host = "other.example";
  EXPECT_EQ(code(other_hub), 5);
  DeviceLogin with_port = good;
  with_port.host = fmt::format("localhost:{}", hub->ports().mqtt);
  RawMqtt dev{hub->ports().mqtt};
  const auto connack = dev.login(with_port);
  ASSERT_TRUE(connack);
  EXPECT_EQ(connack->code, mqtt::ConnackCode::accepted);
  EXPECT_EQ(hub->counts().connects_refused, 3u);
}

TEST_P(HubTest, AnotherProtocolLevelIsRefusedWithOne) {
  RawMqtt dev{hub->ports().mqtt};
  dev.send(
      std::string{"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03"
                  "abc",
                  17});
  const auto connack = dev.connack();
  ASSERT_TRUE(connack);
  EXPECT_EQ(connack->code, mqtt::ConnackCode::unacceptable_protocol_version);
  EXPECT_TRUE(dev.ends());
}

TEST_P(HubTest, WhatADeviceMustNotSendEndsItsConnectionOnly) {
  auto bystander = device(create("bystander"));
  const std::vector<std::pair<const char*, std::function<void(RawMqtt&)>>> misdeeds = {
      {"reserved packet type",
       [](RawMqtt& dev) {
         dev.send(std::string_view{"\xf0\x00", 2});
       }},
      {"remaining length of five bytes", [](RawMqtt& dev) { dev.send("\x30\xff\xff\xff\xff\x01"); }},
      {"second CONNECT",
       [](RawMqtt& dev) {
         dev.send(RawMqtt::connect_packet({"dev1", "AAAA"}));
       }},
      {"QoS 2", [](RawMqtt& dev) { dev.publish("devices/dev1/messages/events/", "x", mqtt::Qos::exactly_once); }},
      {"telemetry of another device", [](RawMqtt& dev) { dev.publish("devices/bystander/messages/events/", "x"); }},
      {"unsupported topic", [](RawMqtt& dev) { dev.publish("some/topic", "x"); }},
      {"too large", [](RawMqtt& dev) { dev.publish("devices/dev1/messages/events/", std::string(262145, 'x')); }},
      {"broken bag", [](RawMqtt& dev) { dev.publish("devices/dev1/messages/events/a=%zz", "x"); }},
      {"foreign filter", [](RawMqtt& dev) { EXPECT_FALSE(dev.subscribe("devices/bystander/messages/devicebound/#")); }},
      {"wildcard filter", [](RawMqtt& dev) { EXPECT_FALSE(dev.subscribe("$iothub/#")); }},
  };
  const DeviceLogin login = create("dev1");
  for (const auto& [name, commit] : misdeeds) {
    auto dev = device(login);
    commit(*dev);
    EXPECT_TRUE(dev->ends()) << name;
  }
  EXPECT_TRUE(bystander->alive());
  EXPECT_EQ(hub->counts().disconnects_protocol, misdeeds.size());
  EXPECT_EQ(hub->counts().disconnects, misdeeds.size());
}

TEST_P(HubTest, BytesBeforeAConnectAreRefused) {
  RawMqtt dev{hub->ports().mqtt};
  dev.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(dev.ends());
  EXPECT_EQ(hub->counts().connects_refused, 1u);
}

TEST_P(HubTest, PacketsMayArriveInPieces) {
  const DeviceLogin login = create("dev1");
  RawMqtt dev{hub->ports().mqtt};
  std::string bytes = RawMqtt::connect_packet(login);
  const mqtt::Subscription wanted{"$iothub/twin/res/#", mqtt::Qos::at_most_once};
  mqtt::encode_subscribe(bytes, 1, {&wanted, 1});
  mqtt::encode_publish(bytes, "$iothub/twin/GET/?$rid=1", " ");
  mqtt::encode_publish(bytes, "$iothub/twin/GET/?$rid=2", " ");
  for (const char byte : bytes) dev.send({&byte, 1});
  ASSERT_TRUE(dev.connack());
  ASSERT_EQ(dev.next()->type, mqtt::PacketType::suback);
  EXPECT_EQ(dev.next_publish()->topic, "$iothub/twin/res/200/?$rid=1");
  EXPECT_EQ(dev.next_publish()->topic, "$iothub/twin/res/200/?$rid=2");
}

TEST_P(HubTest, TelemetryIsAcknowledgedAndCounted) {
  auto dev = device(create("dev1"));
  dev->publish("devices/dev1/messages/events/", "12345");
  dev->publish("devices/dev1/messages/events/%24.ct=application%2Fjson&k%201=v", "{}", mqtt::Qos::at_least_once);
  const auto puback = dev->next();
  ASSERT_TRUE(puback);
  EXPECT_EQ(puback->type, mqtt::PacketType::puback);
  dev->publish("devices/dev1/messages/events/", std::string(262144, 'x'), mqtt::Qos::at_least_once);
  EXPECT_EQ(dev->next()->type, mqtt::PacketType::puback);
  EXPECT_EQ(hub->counts().telemetry_messages, 3u);
  EXPECT_EQ(hub->counts().telemetry_bytes, 5u + 2u + 262144u);
}

TEST_P(HubTest, AFailedTwinRequestIsAnsweredWithAnErrorCode) {
  auto dev = device(create("dev1"));
  const auto not_json = dev->ask("$iothub/twin/PATCH/properties/reported/?$rid=1", "{nope");
  ASSERT_TRUE(not_json);
  EXPECT_EQ(not_json->topic, "$iothub/twin/res/400/?$rid=1");
  EXPECT_EQ(nlohmann::json::parse(not_json->payload)["errorCode"], 400004);

  const auto stale = dev->ask("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=7", R"({"a":1})");
  ASSERT_TRUE(stale);
  EXPECT_EQ(stale->topic, "$iothub/twin/res/412/?$rid=2");
  const auto current = dev->ask("$iothub/twin/PATCH/properties/reported/?$rid=3&$version=1", R"({"a":1})");
  ASSERT_TRUE(current);
  EXPECT_EQ(current->topic, "$iothub/twin/res/204/?$rid=3&$version=2");

  std::string large = "{";
  for (int i = 0; i < 10; ++i) large += fmt::format(R"({}"k{}":"{}")", i ? "," : "", i, std::string(4000, 'x'));
  const auto too_large = dev->ask("$iothub/twin/PATCH/properties/reported/?$rid=4", large + "}");
  ASSERT_TRUE(too_large);
  EXPECT_EQ(too_large->topic, "$iothub/twin/res/403/?$rid=4");
  EXPECT_EQ(nlohmann::json::parse(too_large->payload)["errorCode"], 403100);
  EXPECT_EQ(hub->counts().reported_patches_refused, 3u);
  EXPECT_EQ(hub->counts().reported_patches, 1u);
}

TEST_P(HubTest, WithoutApiVersionTwinRequestsFail) {
  DeviceLogin login = create("dev1");
  login.user_suffix = "/";
  auto dev = device(login);
  const auto answer = dev->ask("$iothub/twin/GET/?$rid=1", " ");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->topic, "$iothub/twin/res/400/?$rid=1");
}

TEST_P(HubTest, ADeviceThatDoesNotReadIsClosedAndCounted) {
  HubConfig config;
  config.max_pending_bytes = 64 * 1024;
  start(std::move(config));
  const DeviceLogin login = create("dev1");
  auto dev = device(login);
  dev->shrink_receive_buffer();
  RawHttp back_end = service();
  const std::string patch = fmt::format(R"({{"properties":{{"desired":{{"text":"{}"}}}}}})", std::string(4000, 'x'));
  for (int i = 0; i < 5000 && hub->counts().disconnects == 0; ++i) back_end.request("PATCH", "/twins/dev1", patch);
  EXPECT_EQ(hub->counts().disconnects_slow_reader, 1u);
}

TEST_P(HubTest, DisablingOrDeletingAnIdentityEndsItsConnection) {
  auto first = device(create("dev1"));
  EXPECT_EQ(
      service().request("PUT", "/devices/dev1", R"({"deviceId":"dev1","status":"disabled"})", "If-Match: *\r\n").status,
      200);
  EXPECT_TRUE(first->ends());
  auto second = device(create("dev2"));
  EXPECT_EQ(service().request("DELETE", "/devices/dev2", {}, "If-Match: *\r\n").status, 204);
  EXPECT_TRUE(second->ends());
  EXPECT_EQ(hub->counts().disconnects_hub, 2u);
  EXPECT_EQ(hub->counts().connected_devices, 0u);
}

TEST_P(HubTest, IfMatchGuardsTwinWrites) {
  create("dev1");
  RawHttp back_end = service();
  const std::string etag = back_end.request("GET", "/twins/dev1").json()["etag"];
  const auto patch = [&](const std::string& if_match) {
    return back_end.request("PATCH", "/twins/dev1", R"({"tags":{"a":1}})", "If-Match: " + if_match + "\r\n");
  };
  EXPECT_EQ(patch("\"" + etag + "\"").status, 200);
  const HttpReply stale = patch("\"" + etag + "\"");
  EXPECT_EQ(stale.status, 412);
  EXPECT_EQ(stale.header("iothub-errorcode"), "PreconditionFailed");
  EXPECT_THAT(stale.json()["Message"].get<std::string>(), StartsWith("ErrorCode:PreconditionFailed;"));
  EXPECT_THAT(stale.json()["ExceptionMessage"].get<std::string>(), StartsWith("Tracking ID:"));
  EXPECT_EQ(patch("\"*\"").status, 200);
  EXPECT_EQ(patch("*").status, 200);
  EXPECT_EQ(hub->counts().precondition_failed, 1u);
}

TEST_P(HubTest, IdentityWritesFollowTheETagTable) {
  RawHttp back_end = service();
  const auto put = [&](const std::string& headers) {
    return back_end.request("PUT", "/devices/dev1", R"({"deviceId":"dev1"})", headers);
  };
  EXPECT_EQ(put("If-Match: *\r\n").status, 404);
  const HttpReply created = put("");
  EXPECT_EQ(created.status, 200);
  EXPECT_EQ(created.header("etag"), "\"" + created.json()["etag"].get<std::string>() + "\"");
  EXPECT_EQ(put("").status, 409);
  EXPECT_EQ(put("If-Match: \"stale\"\r\n").status, 412);
  EXPECT_EQ(put("If-Match: " + created.header("etag") + "\r\n").status, 200);
  EXPECT_EQ(put("If-Match: \"*\"\r\n").status, 200);
  EXPECT_EQ(back_end.request("DELETE", "/devices/dev1").status, 412);
  EXPECT_EQ(back_end.request("DELETE", "/devices/dev1", {}, "If-Match: \"*\"\r\n").status, 204);
  EXPECT_EQ(back_end.request("GET", "/devices/dev1").status, 404);
}

TEST_P(HubTest, ReplacingATwinTellsTheDeviceWhatVanished) {
  auto dev = device(create("dev1"));
  RawHttp back_end = service();
  back_end.request("PATCH", "/twins/dev1", R"({"properties":{"desired":{"a":1,"b":2}}})");
  ASSERT_TRUE(dev->next_publish());
  EXPECT_EQ(back_end.request("PUT", "/twins/dev1", R"({"properties":{"desired":{"a":1,"c":100}}})").status, 200);
  const auto notification = dev->next_publish();
  ASSERT_TRUE(notification);
  const auto told = nlohmann::json::parse(notification->payload);
  EXPECT_EQ(told, (nlohmann::json{{"a", 1}, {"b", nullptr}, {"c", 100}, {"$version", 3}}));
  EXPECT_EQ(hub->counts().twin_replaces, 1u);
}

TEST_P(HubTest, BulkRequestsCreateUpdateAndDelete) {
  RawHttp back_end = service();
  std::string create_all = "[";
  for (int i = 0; i < 20; ++i) {
    create_all += fmt::format(
        R"({}{{"id":"d{}","importMode":"create","tags":{{"n":{}}},"properties":{{"desired":{{"x":{}}},"reported":{{"y":1}}}}}})",
        i ? "," : "", i, i, i);
  }
  const HttpReply created = back_end.request("POST", "/devices", create_all + "]");
  EXPECT_EQ(created.status, 200) << created.body;
  EXPECT_EQ(created.json()["isSuccessful"], true);
  EXPECT_EQ(hub->counts().registered_devices, 20u);
  EXPECT_EQ(hub->counts().registry_writes, 20u);

  const nlohmann::json twin = back_end.request("GET", "/twins/d7").json();
  EXPECT_EQ(twin["version"], 2);
  EXPECT_EQ(twin["tags"]["n"], 7);
  EXPECT_EQ(twin["properties"]["desired"]["$version"], 1);
  EXPECT_EQ(twin["properties"]["desired"]["$metadata"]["x"]["$lastUpdatedVersion"], 1);
  EXPECT_EQ(twin["properties"]["reported"]["y"], 1);

  const HttpReply again = back_end.request("POST", "/devices", R"([{"id":"d1","importMode":"create"},{"id":"new"}])");
  EXPECT_EQ(again.status, 400);
  ASSERT_EQ(again.json()["errors"].size(), 1u);
  EXPECT_EQ(again.json()["errors"][0]["errorCode"], "DeviceAlreadyExists");
  EXPECT_EQ(back_end.request("GET", "/devices/new").status, 200);

  EXPECT_EQ(
      back_end.request("POST", "/devices", R"([{"id":"d1","importMode":"updateTwin","tags":{"n":null,"m":1}}])").status,
      200);
  EXPECT_EQ(back_end.request("GET", "/twins/d1").json()["tags"], (nlohmann::json{{"m", 1}}));
  EXPECT_EQ(back_end.request("POST", "/devices", R"([{"id":"d1","importMode":"Delete"}])").status, 200);
  EXPECT_EQ(back_end.request("GET", "/devices/d1").status, 404);
  EXPECT_EQ(back_end.request("POST", "/devices", R"([{"id":"a"},{"id":"a"}])").header("iothub-errorcode"),
            "DeviceDefinedMultipleTimes");

  const HttpReply list = back_end.request("GET", "/devices/?api-version=2021-04-12");
  EXPECT_EQ(list.json().size(), 20u);
  EXPECT_EQ(back_end.request("GET", "/devices?top=3").json().size(), 3u);
  EXPECT_EQ(back_end.request("GET", "/statistics/devices").json()["totalDeviceCount"], 20);
}

TEST_P(HubTest, PoliciesAllowWhatTheyName) {
  create("dev1");
  EXPECT_EQ(service("service").request("GET", "/twins/dev1").status, 200);
  EXPECT_EQ(service("service").request("GET", "/devices/dev1").status, 401);
  EXPECT_EQ(service("registryRead").request("GET", "/devices/dev1").status, 200);
  EXPECT_EQ(service("registryReadWrite").request("GET", "/twins/dev1").status, 401);
  EXPECT_EQ(service("device").request("GET", "/twins/dev1").status, 401);
  RawHttp nobody{hub->ports().http, ""};
  const HttpReply refused = nobody.request("GET", "/twins/dev1");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.header("iothub-errorcode"), "IotHubUnauthorizedAccess");
  EXPECT_EQ(hub->counts().unauthorized, 4u);
}

TEST_P(HubTest, OneConnectionMayBeUsedByOnePolicyAfterAnother) {
  create("dev1");
  RawHttp back_end = service("registryRead");
  EXPECT_EQ(back_end.request("GET", "/devices/dev1").status, 200);
  EXPECT_EQ(back_end.request("GET", "/twins/dev1").status, 401);
  back_end.token = service("service").token;
  EXPECT_EQ(back_end.request("GET", "/twins/dev1").status, 200);
  back_end.token.back() = back_end.token.back() == '1' ? '2' : '1';  // another expiry: the signature no longer fits
  EXPECT_EQ(back_end.request("GET", "/twins/dev1").status, 401);
}

TEST_P(HubTest, HttpMistakesAreAnsweredInForm) {
  RawHttp back_end = service();
  EXPECT_EQ(back_end.request("GET", "/nothing/here").status, 404);
  const HttpReply wrong_method = back_end.request("DELETE", "/devices/query");
  EXPECT_THAT(wrong_method.status, ::testing::AnyOf(404, 405));
  EXPECT_EQ(back_end.request("PATCH", "/twins", "{}").status, 404);
  EXPECT_EQ(back_end.request("POST", "/twins/dev1", "{}").status, 405);
  const HttpReply missing = back_end.request("GET", "/twins/nobody");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.header("iothub-errorcode"), "DeviceNotFound");
  create("dev1");
  EXPECT_EQ(back_end.request("PATCH", "/twins/dev1", "{nope").status, 400);
  EXPECT_EQ(back_end.request("PATCH", "/twins/dev1", R"({"tags":{"a.b":1}})").status, 400);

  RawHttp broken = service();
  broken.send("GET / HTTP/1.1\r\nHost : x\r\n\r\n");
  const HttpReply bad = broken.read();
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.header("connection"), "close");
  EXPECT_TRUE(broken.ends());

  RawHttp large = service();
  large.send("POST /devices HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
  EXPECT_EQ(large.read().status, 413);
  RawHttp headers = service();
  headers.send("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(20000, 'x') + "\r\n\r\n");
  EXPECT_EQ(headers.read().status, 431);
  EXPECT_EQ(back_end.request("GET", "/twins/dev1").status, 200);
}

TEST_P(HubTest, PipelinedRequestsAreAnsweredInOrder) {
  RawHttp back_end = service();
  for (int i = 0; i < 10; ++i) create(fmt::format("d{}", i));
  for (int i = 0; i < 10; ++i) back_end.write("GET", fmt::format("/twins/d{}", i));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(back_end.read().json()["deviceId"], fmt::format("d{}", i));
}

TEST_P(HubTest, ConnectionCloseIsHonoured) {
  RawHttp back_end = service();
  EXPECT_EQ(back_end.request("GET", "/twinstorm/health", {}, "Connection: close\r\n").status, 200);
  EXPECT_TRUE(back_end.ends());
}

TEST_P(HubTest, CountsAreServedOnLoopbackWithoutAToken) {
  create("dev1");
  RawHttp anyone{hub->ports().http, ""};
  const HttpReply reply = anyone.request("GET", "/twinstorm/counts");
  ASSERT_EQ(reply.status, 200);
  const auto counts = parse_hub_counts(reply.body);
  ASSERT_TRUE(counts);
  EXPECT_EQ(counts->registered_devices, 1u);
  EXPECT_EQ(counts->registry_writes, 1u);
  EXPECT_EQ(counts->http_2xx, 1u);
}

TEST_P(HubTest, QueriesPageThroughAllDevices) {
  for (int i = 0; i < 7; ++i) create(fmt::format("d{}", i));
  RawHttp back_end = service();
  std::set<std::string> seen;
  std::string token;
  std::string first_token;
  size_t pages = 0;
  do {
    const std::string headers =
        "x-ms-max-item-count: 3\r\n" + (token.empty() ? "" : "x-ms-continuation: " + token + "\r\n");
    const HttpReply page = back_end.request("POST", "/devices/query?api-version=2021-04-12",
                                            R"({"query":"SELECT * FROM devices"})", headers);
    ASSERT_EQ(page.status, 200) << page.body;
    EXPECT_EQ(page.header("x-ms-item-type"), "Twin");
    EXPECT_LE(page.json().size(), 3u);
    for (const auto& row : page.json()) EXPECT_TRUE(seen.insert(row["deviceId"]).second);
    token = page.header("x-ms-continuation");
    if (first_token.empty()) first_token = token;
    ++pages;
  } while (!token.empty() && pages < 10);
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(hub->counts().queries, pages);

  std::string tampered = first_token;
  tampered[2] = tampered[2] == 'x' ? 'y' : 'x';
  const HttpReply refused = back_end.request("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})",
                                             "x-ms-continuation: " + tampered + "\r\n");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.header("iothub-errorcode"), "ArgumentInvalid");
  EXPECT_EQ(back_end
                .request("POST", "/devices/query", R"({"query":"SELECT * FROM devices WHERE deviceId = 'd1'"})",
                         "x-ms-continuation: " + first_token + "\r\n")
                .status,
            400);
  EXPECT_EQ(back_end.request("POST", "/devices/query", R"({"query":"SELEC nonsense"})").status, 400);
  EXPECT_EQ(back_end.request("POST", "/devices/query", R"({"query":"SELECT COUNT() AS n FROM devices"})").json(),
            (nlohmann::json{{{"n", 7}}}));
}

TEST_P(HubTest, AnAnswerLargerThanAnyBacklogArrivesWhole) {
  HubConfig config;
  config.max_pending_bytes = 64 * 1024;
  start(std::move(config));
  RawHttp back_end = service();
  const std::string text(3500, 'x');
  for (int i = 0; i < 300; ++i) {
    const HttpReply created = back_end.request(
        "POST", "/devices", fmt::format(R"([{{"id":"d{0}","tags":{{"a":"{1}","b":"{1}"}}}}])", i, text));
    ASSERT_EQ(created.status, 200);
  }
  for (int i = 0; i < 3; ++i) back_end.write("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})");
  back_end.write("GET", "/twinstorm/health");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(back_end.read().json().size(), 300u);
  EXPECT_EQ(back_end.read().status, 200);
}

TEST_P(HubTest, HeadIsRefusedWithoutABody) {
  RawHttp back_end = service();
  const HttpReply head = back_end.request("HEAD", "/twins/dev1");
  EXPECT_EQ(head.status, 405);
  EXPECT_EQ(back_end.request("GET", "/twinstorm/health").status, 200);
}

TEST_P(HubTest, ABodyMayBeAnnouncedAndSentInChunks) {
  create("dev1");
  RawHttp back_end = service();
  back_end.send("PATCH /twins/dev1?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: " + back_end.token +
                "\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(back_end.read().status, 100);
  back_end.send("8\r\n{\"tags\":\r\n8\r\n{\"a\":1}}\r\n0\r\n\r\n");
  const HttpReply patched = back_end.read();
  EXPECT_EQ(patched.status, 200);
  EXPECT_EQ(patched.json()["tags"]["a"], 1);
}

TEST_P(HubTest, ARequestThatNeverEndsIsTimedOut) {
  HubConfig config;
  config.connect_timeout = std::chrono::milliseconds{200};
  start(std::move(config));
  RawHttp slow = service();
  slow.send("GET /twins/dev1 HTTP/1.1\r\nHost: ");
  EXPECT_EQ(slow.read().status, 408);
  EXPECT_TRUE(slow.ends());
  RawMqtt silent{hub->ports().mqtt};
  EXPECT_TRUE(silent.ends());
  EXPECT_EQ(hub->counts().connects_refused, 1u);
}

TEST_P(HubTest, ModulesHaveIdentitiesTwinsAndConnectionsOfTheirOwn) {
  create("dev1");
  RawHttp back_end = service();
  const HttpReply created =
      back_end.request("PUT", "/devices/dev1/modules/m1", R"({"moduleId":"m1","deviceId":"dev1"})");
  ASSERT_EQ(created.status, 200) << created.body;
  const std::string key = created.json()["authentication"]["symmetricKey"]["primaryKey"];
  RawMqtt module{hub->ports().mqtt};
  mqtt::Connect connect;
  connect.client_id = "dev1/m1";
  const std::string user = "hub.localhost/dev1/m1/?api-version=2021-04-12";
  const std::string password =
      protocol::make_sas_token("hub.localhost/devices/dev1/modules/m1", *protocol::base64_decode(key), 4'000'000'000);
  connect.user_name = user;
  connect.password = password;
  std::string out;
  mqtt::encode_connect(out, connect);
  module.send(out);
  ASSERT_TRUE(module.connack());
  EXPECT_TRUE(module.subscribe("$iothub/twin/PATCH/properties/desired/#"));
  EXPECT_TRUE(module.subscribe("devices/dev1/modules/m1/inputs/#"));
  EXPECT_EQ(back_end.request("PATCH", "/twins/dev1/modules/m1", R"({"properties":{"desired":{"x":1}}})").status, 200);
  EXPECT_EQ(module.next_publish()->payload, R"({"x":1,"$version":2})");
  EXPECT_EQ(back_end.request("GET", "/devices/dev1/modules").json().size(), 1u);
  EXPECT_EQ(back_end.request("DELETE", "/devices/dev1", {}, "If-Match: *\r\n").status, 204);
  EXPECT_TRUE(module.ends());
}

TEST_P(HubTest, DamagedConversationsHarmNobodyElse) {
  auto bystander = device(create("bystander"));
  const DeviceLogin login = create("dev1");
  std::string mqtt_bytes = RawMqtt::connect_packet(login);
  const mqtt::Subscription wanted{"$iothub/twin/res/#", mqtt::Qos::at_most_once};
  mqtt::encode_subscribe(mqtt_bytes, 1, {&wanted, 1});
  mqtt::encode_publish(mqtt_bytes, "$iothub/twin/PATCH/properties/reported/?$rid=1", R"({"a":{"b":[1,2,null]}})");
  mqtt::encode_publish(mqtt_bytes, "devices/dev1/messages/events/a=b", "x", mqtt::Qos::at_least_once, 3);
  RawHttp back_end = service();
  const std::string http_bytes =
      "PATCH /twins/dev1?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nAuthorization: " + back_end.token +
      "\r\nContent-Length: 16\r\n\r\n{\"tags\":{\"a\":1}}";
  Rng rng{20260301, "damage"};
  for (int round = 0; round < 300; ++round) {
    std::string bytes = round % 2 == 0 ? mqtt_bytes : http_bytes;
    for (uint64_t damage = rng.below(6) + 1; damage > 0; --damage) {
      const auto at = static_cast<size_t>(rng.below(bytes.size()));
      switch (rng.below(3)) {
        case 0:
          bytes[at] = static_cast<char>(rng.below(256));
          break;
        case 1:
          bytes.erase(at, static_cast<size_t>(rng.below(20)));
          break;
        default:
          bytes.insert(at, static_cast<size_t>(rng.below(20)), static_cast<char>(rng.below(256)));
      }
      if (bytes.empty()) bytes = "x";
    }
    RawSocket socket{round % 2 == 0 ? hub->ports().mqtt : hub->ports().http};
    socket.send(bytes);
    socket.receive(1);
  }
  EXPECT_TRUE(bystander->alive());
  EXPECT_EQ(back_end.request("GET", "/twins/bystander").status, 200);
  hub->stop();
  const HubCounts counts = hub->counts();
  EXPECT_EQ(counts.connected_devices, 0u);
  EXPECT_EQ(counts.disconnects, counts.connects_accepted);
  EXPECT_EQ(counts.http_requests, counts.http_2xx + counts.http_3xx + counts.http_4xx + counts.http_5xx);
}

TEST_P(HubTest, StoppingEndsEveryConnectionAndMayBeRepeated) {
  auto dev = device(create("dev1"));
  hub->stop();
  EXPECT_TRUE(dev->ends());
  EXPECT_EQ(hub->counts().disconnects_hub, 1u);
  hub->stop();
}

TEST_P(HubTest, ATakenPortIsNamedWithTheWayOut) {
  HubConfig config;
  config.mqtt_port = hub->ports().mqtt;
  const auto second = Hub::start(std::move(config));
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(hub->ports().mqtt)));
  EXPECT_THAT(second.error().message, HasSubstr("--mqtt-port"));
  HubConfig http;
  http.http_port = hub->ports().http;
  EXPECT_THAT(Hub::start(std::move(http)).error().message, HasSubstr("--http-port"));
}

}  // namespace
}  // namespace twinstorm::hub::testing
