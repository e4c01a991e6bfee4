// HTTP resources of devices and of messages, without sockets: calls in, answers out.
#include "sim/hub/frontends/http/message_api.hpp"

#include <nlohmann/json.hpp>

#include "mqtt_fixture.hpp"
#include "sim/hub/frontends/http/device_api.hpp"
#include "sim/protocol/sas.hpp"

namespace twinstorm::hub {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

std::string header(const ServiceAnswer& answer, std::string_view name) {
  for (const auto& [key, value] : answer.headers) {
    if (key == name) return value;
  }
  return "absent";
}

class MessageApiTest : public MqttSessionTest {
 protected:
  ServiceAnswer device(const char* method, const std::string& target, std::string body = {},
                       std::string content_type = {}, protocol::MessageProperties properties = {}) {
    auto route = protocol::parse_device_route(method, target);
    EXPECT_TRUE(route) << target;
    DeviceCall call;
    call.route = std::move(*route);
    call.body = std::move(body);
    call.content_type = std::move(content_type);
    call.properties = std::move(properties);
    call.if_match = if_match;
    call.authorization = authorization;
    return serve_device_api(call, shard());
  }
  ServiceAnswer extension(const char* method, const std::string& target, std::string body = {},
                          protocol::MessageProperties properties = {}) {
    auto route = protocol::parse_extension_route(method, target);
    EXPECT_TRUE(route) << target;
    return serve_extension({std::move(*route), std::move(properties), std::move(body)}, shard());
  }
  ServiceAnswer service(const char* method, const std::string& target, std::string body = {}) {
    auto route = protocol::parse_service_route(method, target);
    EXPECT_TRUE(route) << target;
    ServiceCall call;
    call.route = std::move(*route);
    call.body = std::move(body);
    EXPECT_TRUE(concerns_messages(call.route.operation));
    std::optional<ServiceAnswer> answer;
    serve_messages(std::move(call), shard(), [&](ServiceAnswer done) { answer = std::move(done); });
    EXPECT_FALSE(answer) << "not before a turn of the loop";
    for (int turns = 0; !answer && turns < 4; ++turns) {
      shard().io().restart();
      shard().io().poll();
    }
    EXPECT_TRUE(answer);
    return answer.value_or(ServiceAnswer{});
  }
  protocol::MessageProperties properties(std::initializer_list<protocol::Property> application,
                                         std::string message_id = {}) {
    protocol::MessageProperties out;
    out.message_id = std::move(message_id);
    out.application = application;
    return out;
  }
  std::string receive() {
    const ServiceAnswer answer = device("GET", protocol::device_target::messages("dev1"));
    EXPECT_EQ(answer.status, 200);
    EXPECT_GT(answer.etag.size(), 2u);
    return answer.etag.substr(1, answer.etag.size() - 2);
  }

  std::optional<std::string> if_match;
  std::string authorization;
};

// --- Telemetry -----------------------------------------------------------------------------------------------------

TEST_F(MessageApiTest, ASingleMessageIsTakenWithItsHeaders) {
  watched();
  const auto answer =
      device("POST", protocol::device_target::events("dev1"), "hello", {}, properties({{"colour", "red"}}, "m1"));
  EXPECT_EQ(answer.status, 204);
  EXPECT_EQ(answer.body, "");
  EXPECT_THAT(watched(),
              HasSubstr(R"("systemProperties":{"messageId":"m1"},"properties":{"colour":"red"},"bodySize":5)"));
  EXPECT_EQ(counts().telemetry_http, 1u);
  EXPECT_EQ(counts().telemetry_messages, 1u);
  EXPECT_EQ(counts().telemetry_bytes, 5u);
  EXPECT_EQ(counts().telemetry_property_bytes, 2u + 9u);
}

TEST_F(MessageApiTest, ABatchIsTakenWholeOrNotAtAll) {
  const std::string target = protocol::device_target::events("dev1");
  const std::string type{protocol::kEventBatchType};
  watched();
  EXPECT_EQ(device("POST", target,
                   R"([{"body": "b25l", "properties":{"iothub-app-k":"v","dt-subject":"comp"}},{"body": "dHdv"},
                       {"body":"plain","base64Encoded":false,"properties":{"other":"1"}}])",
                   type + "; charset=utf-8")
                .status,
            204);
  const auto seen = nlohmann::json::parse(watched());
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0]["body"], "b25l");
  EXPECT_EQ(seen[0]["properties"]["k"], "v");
  EXPECT_EQ(seen[0]["systemProperties"]["subject"], "comp");
  EXPECT_EQ(seen[2]["bodySize"], 5);
  EXPECT_EQ(seen[2]["properties"]["other"], "1");
  EXPECT_EQ(counts().telemetry_http, 3u);

  const auto refused = [&](std::string body) {
    const auto answer = device("POST", target, std::move(body), type);
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(answer.error_name, "ArgumentInvalid");
    return answer.body;
  };
  EXPECT_THAT(refused("{}"), HasSubstr("1 to 500 messages"));
  EXPECT_THAT(refused("[]"), HasSubstr("1 to 500 messages"));
  EXPECT_THAT(refused("[1]"), HasSubstr("message 0 of the batch: it is not an object"));
  EXPECT_THAT(refused(R"([{"body":"b25l"},{"body":"?"}])"), HasSubstr("message 1 of the batch: 'body' is not base64"));
  EXPECT_THAT(refused(R"([{"body":"b25l","properties":{"k":1}}])"), HasSubstr("property 'k' must be a string"));
  EXPECT_EQ(counts().telemetry_http, 3u);
  EXPECT_EQ(counts().telemetry_refused, 5u);
}

TEST_F(MessageApiTest, MoreThan256KiBIs413) {
  const std::string target = protocol::device_target::events("dev1");
  EXPECT_EQ(device("POST", target, std::string(262'144, 'x')).status, 204);
  const auto answer = device("POST", target, std::string(262'143, 'x'), {}, properties({{"k", "v"}}));
  EXPECT_EQ(answer.status, 413);
  EXPECT_EQ(answer.error_name, "MessageTooLarge");
  EXPECT_THAT(answer.body, HasSubstr("the request has 262145 bytes with its properties, 262144 are allowed"));
}

TEST_F(MessageApiTest, EveryRequestNeedsTheDevicesToken) {
  config.check_sas = true;
  access.emplace(*AccessControl::make(config));
  const std::string target = protocol::device_target::events("dev1");
  const auto token = [&](std::string_view resource, std::string_view key, int64_t expiry) {
    return protocol::make_sas_token(resource, *protocol::base64_decode(key), expiry);
  };
  const int64_t later = unix_seconds(clock.wall()) + 60;
  EXPECT_EQ(device("POST", target, "x").status, 401);
  authorization = token("localhost/devices/dev1", record->primary_key, later);
  EXPECT_EQ(device("POST", target, "x").status, 204);
  authorization = token("localhost/devices/dev1", record->secondary_key, later);
  EXPECT_EQ(device("POST", target, "x").status, 204);
  authorization = token("localhost/devices/dev2", record->primary_key, later);
  EXPECT_EQ(device("POST", target, "x").status, 401);
  authorization = token("localhost/devices/dev1", record->primary_key, later - 120);
  EXPECT_EQ(device("POST", target, "x").status, 401);
  authorization = token("localhost/devices/dev1", record->primary_key, later);
  EXPECT_EQ(device("POST", protocol::device_target::events("unknown"), "x").status, 401);
  record->twin.status = twin::DeviceStatus::disabled;
  const auto disabled = device("POST", target, "x");
  EXPECT_EQ(disabled.status, 401);
  EXPECT_EQ(disabled.error_name, "IotHubUnauthorizedAccess");
  EXPECT_EQ(counts().unauthorized, 5u);
  EXPECT_EQ(counts().telemetry_http, 2u);
}

// --- Polling -------------------------------------------------------------------------------------------------------

TEST_F(MessageApiTest, APolledMessageCarriesWhatTheSdkReads) {
  EXPECT_EQ(device("GET", protocol::device_target::messages("dev1")).status, 204);
  EXPECT_EQ(extension("POST", protocol::extension_target::enqueue("dev1"), "hello",
                      properties({{"k", "v"}, {"iothub-ack", "full"}}, "m1"))
                .status,
            204);
  const auto answer = device("GET", protocol::device_target::messages("dev1"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.etag.front(), '"');
  EXPECT_EQ(answer.etag.back(), '"');
  EXPECT_EQ(header(answer, "iothub-messageid"), "m1");
  EXPECT_EQ(header(answer, "iothub-to"), "/devices/dev1/messages/devicebound");
  EXPECT_EQ(header(answer, "iothub-app-k"), "v");
  EXPECT_EQ(header(answer, "iothub-ack"), "full");
  EXPECT_EQ(header(answer, "iothub-sequencenumber"), "1");
  EXPECT_EQ(header(answer, "iothub-deliverycount"), "0");
  EXPECT_EQ(header(answer, "iothub-enqueuedtime"), "2023-11-14T22:13:20Z");
  EXPECT_EQ(device("GET", protocol::device_target::messages("dev1")).status, 204);  // locked
}

TEST_F(MessageApiTest, CompleteRejectAndAbandonDoWhatTheySay) {
  for (int i = 0; i < 2; ++i) {
    extension("POST", protocol::extension_target::enqueue("dev1"), "x",
              properties({{"iothub-ack", "full"}}, "m" + std::to_string(i)));
  }
  std::string token = receive();
  if_match = token;
  EXPECT_EQ(device("POST", protocol::device_target::abandon("dev1", token)).status, 204);
  token = receive();
  if_match = "someone's";
  EXPECT_EQ(device("DELETE", protocol::device_target::complete("dev1", token)).status, 412);
  if_match = '"' + token + '"';
  EXPECT_EQ(device("DELETE", protocol::device_target::complete("dev1", token)).status, 204);
  const auto twice = device("DELETE", protocol::device_target::complete("dev1", token));
  EXPECT_EQ(twice.status, 412);
  EXPECT_EQ(twice.error_name, "DeviceMessageLockLost");
  if_match.reset();
  EXPECT_EQ(device("DELETE", protocol::device_target::reject("dev1", receive())).status, 204);
  EXPECT_EQ(counts().c2d_abandoned, 1u);
  EXPECT_EQ(counts().c2d_completed, 1u);
  EXPECT_EQ(counts().c2d_rejected, 1u);
  EXPECT_EQ(counts().precondition_failed, 2u);

  const auto feedback = service("GET", "/messages/serviceBound/feedback?api-version=2021-04-12");
  EXPECT_EQ(feedback.status, 200);
  EXPECT_EQ(feedback.content_type, "application/vnd.microsoft.iothub.feedback.json");
  const auto records = nlohmann::json::parse(feedback.body);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0]["originalMessageId"], "m0");
  EXPECT_EQ(records[0]["statusCode"], "Success");
  EXPECT_EQ(records[1]["statusCode"], "Rejected");
  EXPECT_EQ(service("GET", "/messages/serviceBound/feedback").status, 204);
  const std::string lock = feedback.etag.substr(1, feedback.etag.size() - 2);
  EXPECT_EQ(service("POST", "/messages/serviceBound/feedback/" + lock + "/abandon").status, 204);
  EXPECT_EQ(service("DELETE", "/messages/serviceBound/feedback/" + lock).status, 412);
  const auto again = service("GET", "/messages/serviceBound/feedback");
  EXPECT_EQ(service("DELETE", "/messages/serviceBound/feedback/" + again.etag.substr(1, again.etag.size() - 2)).status,
            204);
  EXPECT_EQ(service("GET", "/messages/serviceBound/feedback").status, 204);
}

TEST_F(MessageApiTest, AMessageGivenBackOverHttpGoesToTheMqttConnection) {
  extension("POST", protocol::extension_target::enqueue("dev1"), "x");
  const std::string token = receive();
  RecordedPort port;
  auto session = open(port);
  session->feed(subscribe("devices/dev1/messages/devicebound/#", mqtt::Qos::at_least_once));
  EXPECT_THAT(port.take(), ::testing::ElementsAre("CONNACK", "SUBACK"));  // locked by the poller
  device("POST", protocol::device_target::abandon("dev1", token));
  EXPECT_THAT(port.take(), ::testing::ElementsAre(HasSubstr(" x #1")));
  session->close(DeviceLink::CloseReason::client);
}

TEST_F(MessageApiTest, FileUploadIsNotImplementedAndSaysSo) {
  const auto answer = device("POST", "/devices/dev1/files?api-version=2021-04-12", R"({"blobName":"x"})");
  EXPECT_EQ(answer.status, 501);
  EXPECT_THAT(answer.body, HasSubstr("initiateFileUpload"));
}

// --- The hub's own resources -----------------------------------------------------------------------------------------

TEST_F(MessageApiTest, EnqueueingRefusesWhatTheServiceRefuses) {
  const std::string target = protocol::extension_target::enqueue("dev1");
  const auto refused = [&](int status, std::string body, protocol::MessageProperties with) {
    const auto answer = extension("POST", target, std::move(body), std::move(with));
    EXPECT_EQ(answer.status, status) << answer.body;
    return answer.error_name + " " + answer.body;
  };
  EXPECT_THAT(refused(413, std::string(65'536, 'x'), {}), HasSubstr("MessageTooLarge"));
  EXPECT_THAT(refused(400, "x", properties({{"iothub-ack", "always"}})), HasSubstr("none, positive, negative or full"));
  protocol::MessageProperties expiry;
  expiry.expiry = "tomorrow";
  EXPECT_THAT(refused(400, "x", expiry), HasSubstr("iothub-expiry"));
  expiry.expiry = "2023-11-17T22:13:20Z";
  EXPECT_THAT(refused(400, "x", expiry), HasSubstr("more than 48 hours"));
  EXPECT_THAT(refused(400, "x", properties({{"k", std::string(30'000, ' ')}})), HasSubstr("MQTT topic"));
  EXPECT_THAT(refused(400, "x", properties({}, std::string(129, 'm'))), HasSubstr("longer than 128 characters"));
  EXPECT_EQ(extension("POST", protocol::extension_target::enqueue("unknown"), "x").status, 404);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(extension("POST", target, "x").status, 204);
  EXPECT_THAT(refused(403, "x", {}), HasSubstr("DeviceMaximumQueueDepthExceeded"));
  EXPECT_EQ(counts().c2d_refused, 8u);

  const auto purged = service("DELETE", "/devices/dev1/commands?api-version=2021-04-12");
  EXPECT_EQ(purged.body, R"({"totalMessagesPurged":50,"deviceId":"dev1","moduleId":null})");
  EXPECT_EQ(service("DELETE", "/devices/dev1/commands").body,
            R"({"totalMessagesPurged":0,"deviceId":"dev1","moduleId":null})");
  EXPECT_EQ(service("DELETE", "/devices/unknown/commands").status, 404);
  EXPECT_EQ(counts().c2d_purged, 50u);
}

TEST_F(MessageApiTest, AnInputsNameHasToFitIntoATopicLevel) {
  register_device(shard(), "dev1", "mod1", {}, clock.wall());
  const auto send = [&](std::string_view name) {
    return extension("POST", protocol::extension_target::input("dev1", "mod1", name), "x").status;
  };
  EXPECT_EQ(send("in1"), 204);
  EXPECT_EQ(send("a/b"), 400);
  EXPECT_EQ(send("a+"), 400);
  EXPECT_EQ(send("a\n"), 400);
  EXPECT_EQ(send("\xff"), 400);
  EXPECT_EQ(send(std::string(129, 'a')), 400);
}

TEST_F(MessageApiTest, ExpiryInThePastIsAnExpiredMessage) {
  protocol::MessageProperties with = properties({{"iothub-ack", "negative"}}, "m1");
  with.expiry = "2020-01-01T00:00:00Z";
  EXPECT_EQ(extension("POST", protocol::extension_target::enqueue("dev1"), "x", with).status, 204);
  EXPECT_EQ(device("GET", protocol::device_target::messages("dev1")).status, 204);
  EXPECT_EQ(counts().c2d_expired, 1u);
  EXPECT_THAT(service("GET", "/messages/serviceBound/feedback").body, HasSubstr(R"("statusCode":"Expired")"));
}

TEST_F(MessageApiTest, DisconnectCutsALiveConnection) {
  const std::string target = protocol::extension_target::disconnect("dev1");
  EXPECT_EQ(extension("POST", target).status, 404);
  RecordedPort port;
  auto session = open(port);
  EXPECT_EQ(extension("POST", target).status, 204);
  EXPECT_TRUE(port.ended);
}

// --- Direct methods ------------------------------------------------------------------------------------------------

TEST_F(MessageApiTest, MethodErrorsHaveTheNestedForm) {
  const auto offline = service("POST", "/twins/dev1/methods?api-version=2021-04-12", R"({"methodName":"m"})");
  EXPECT_EQ(offline.status, 404);
  EXPECT_EQ(offline.error_name, "DeviceNotOnline");
  const auto outer = nlohmann::json::parse(offline.body);
  EXPECT_EQ(outer["ExceptionMessage"], "");
  const auto inner = nlohmann::json::parse(outer["Message"].get<std::string>());
  EXPECT_EQ(inner["errorCode"], 404'103);
  EXPECT_EQ(inner["trackingId"].get<std::string>().size(), 32u);
  EXPECT_EQ(inner["timestampUtc"], "2023-11-14T22:13:20Z");
  EXPECT_TRUE(inner["info"].is_null());
  EXPECT_THAT(inner["message"].get<std::string>(), HasSubstr("isn't online"));
}

TEST_F(MessageApiTest, OtherMethodErrorsHaveTheUsualForm) {
  const auto unknown = service("POST", "/twins/unknown/methods", R"({"methodName":"m"})");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.body, HasSubstr(R"({"Message":"ErrorCode:DeviceNotFound;unknown")"));
  EXPECT_THAT(service("POST", "/twins/dev1/modules/mx/methods", R"({"methodName":"m"})").body,
              HasSubstr("ErrorCode:ModuleNotFound;mx"));
  const auto bad = service("POST", "/twins/dev1/methods", "{}");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.error_name, "ArgumentInvalid");
  EXPECT_EQ(counts().methods_called, 3u);
  EXPECT_EQ(counts().methods_refused, 3u);
}

}  // namespace
}  // namespace twinstorm::hub
