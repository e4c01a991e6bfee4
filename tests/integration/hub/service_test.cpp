// The service surface over loopback: credentials, identities, modules, bulk modes, error bodies. One shard and several.
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "hub_fixture.hpp"
#include "sim/hub/policy/entra.hpp"

namespace twinstorm::hub::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

class ServiceTest : public ShardedHub {
 protected:
  void SetUp() override {
    HubConfig config;
    config.data_folder = folder;
    start(std::move(config));
  }
  void TearDown() override {
    hub.reset();
    std::filesystem::remove_all(folder);
  }

  std::string bearer(const std::string& role) const {
    const Nanos valid = std::chrono::hours{1};
    return "Bearer " + *issue_dev_token({folder, {role}, hub->config().entra_audience, valid}, SteadyClock{}.wall());
  }
  HttpReply as_role(const std::string& role, std::string_view method, std::string_view target,
                    std::string_view body = {}, std::string_view headers = {}) const {
    RawHttp http{hub->ports().http, ""};
    http.token = bearer(role);
    return http.request(method, target, body, headers);
  }
  /// Status and error name of a request by a policy or, when there is none of that name, by a role.
  std::string outcome(const std::string& who, std::string_view method, std::string_view target,
                      std::string_view body = {}, std::string_view headers = {}) const {
    const bool role = hub->policy_connection_string(who).empty();
    const HttpReply reply =
        role ? as_role(who, method, target, body, headers) : service(who).request(method, target, body, headers);
    return fmt::format("{} {}", reply.status, reply.header("iothub-errorcode"));
  }

  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("service-test-{}-{}", getpid(), GetParam());
};

INSTANTIATE_TEST_SUITE_P(Shards, ServiceTest, ::testing::Values(1U, 3U),
                         [](const auto& shards) { return std::to_string(shards.param); });

TEST_P(ServiceTest, EveryRequestNamesAnApiVersionThatIsKnown) {
  service().request("PUT", "/devices/d", R"({"deviceId":"d"})");
  for (const char* version : {"2021-04-12", "2018-06-30", "2020-05-31-preview", "2020-09-30", "2024-03-31"}) {
    EXPECT_EQ(service().request("GET", fmt::format("/twins/d?api-version={}", version)).status, 200) << version;
  }
  for (const char* version : {"2021-04-11", "latest", "", "2021-04-12x"}) {
    const HttpReply refused = service().request("GET", fmt::format("/twins/d?api-version={}", version));
    EXPECT_EQ(refused.status, 400) << version;
    EXPECT_EQ(refused.header("iothub-errorcode"), "InvalidProtocolVersion");
    EXPECT_THAT(refused.json()["Message"].get<std::string>(),
                StartsWith("ErrorCode:InvalidProtocolVersion;BadRequest"));
  }
  RawHttp http = service();
  http.send("GET /twins/d HTTP/1.1\r\nHost: x\r\nAuthorization: " + http.token + "\r\n\r\n");
  const HttpReply missing = http.read();
  EXPECT_EQ(missing.status, 400);
  EXPECT_THAT(missing.body, HasSubstr("api-version is missing"));
}

TEST_P(ServiceTest, RefusalsHaveTheDocumentedForm) {
  const HttpReply refused = RawHttp{hub->ports().http, ""}.request("GET", "/devices/d");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.header("iothub-errorcode"), "IotHubUnauthorizedAccess");
  EXPECT_EQ(refused.header("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(refused.header("x-ms-request-id").size(), 36u);
  EXPECT_EQ(refused.json()["Message"], "ErrorCode:IotHubUnauthorizedAccess;the Authorization header is missing");
  EXPECT_THAT(refused.json()["ExceptionMessage"].get<std::string>(),
              MatchesRegex("Tracking ID:[0-9a-f]{32}-G:0-TimeStamp:../../.... ..:..:.."));
  EXPECT_EQ(outcome("iothubowner", "GET", "/devices/ghost"), "404 DeviceNotFound");
  EXPECT_EQ(outcome("iothubowner", "GET", "/twins/ghost"), "404 DeviceNotFound");
  EXPECT_EQ(service().request("GET", "/twins/ghost").json()["Message"], "ErrorCode:DeviceNotFound;ghost");
  EXPECT_EQ(outcome("iothubowner", "GET", "/nothing"), "404 ResourceNotFound");
  EXPECT_EQ(outcome("iothubowner", "GET", "/digitaltwins/d"), "501 NotImplemented");
  EXPECT_EQ(outcome("iothubowner", "POST", "/jobs/create", "{}"), "501 NotImplemented");
}

TEST_P(ServiceTest, RolesOpenWhatTheyCover) {
  EXPECT_EQ(outcome("IoT Hub Data Contributor", "PUT", "/devices/d", R"({"deviceId":"d"})"), "200 ");
  EXPECT_EQ(outcome("IoT Hub Data Reader", "GET", "/twins/d"), "200 ");
  EXPECT_EQ(outcome("IoT Hub Data Reader", "GET", "/statistics/devices"), "200 ");
  EXPECT_EQ(outcome("IoT Hub Data Reader", "POST", "/devices/query", R"({"query":"SELECT * FROM devices"})"), "200 ");
  EXPECT_EQ(outcome("IoT Hub Data Reader", "PATCH", "/twins/d", "{}"), "401 IotHubUnauthorized");
  EXPECT_EQ(outcome("IoT Hub Data Reader", "DELETE", "/devices/d", {}, "If-Match: *\r\n"), "401 IotHubUnauthorized");
  EXPECT_EQ(outcome("IoT Hub Twin Contributor", "PATCH", "/twins/d", "{}"), "200 ");
  EXPECT_EQ(outcome("IoT Hub Twin Contributor", "GET", "/devices/d"), "401 IotHubUnauthorized");
  EXPECT_EQ(outcome("IoT Hub Registry Contributor", "GET", "/devices/d"), "200 ");
  EXPECT_EQ(outcome("IoT Hub Registry Contributor", "GET", "/twins/d"), "401 IotHubUnauthorized");
  const HttpReply refused = as_role("IoT Hub Data Reader", "PATCH", "/twins/d", "{}");
  EXPECT_EQ(refused.json()["Message"],
            "ErrorCode:IotHubUnauthorized;Principal twinstorm-dev is not authorized for PATCH on /twins/d due to no "
            "assigned permissions");
  RawHttp forged{hub->ports().http, ""};
  forged.token = bearer("IoT Hub Data Reader");
  forged.token.back() = forged.token.back() == 'A' ? 'B' : 'A';
  forged.token[forged.token.size() - 20] = forged.token[forged.token.size() - 20] == 'A' ? 'B' : 'A';
  const HttpReply no = forged.request("GET", "/twins/d");
  EXPECT_EQ(no.status, 401);
  EXPECT_EQ(no.header("iothub-errorcode"), "IotHubUnauthorizedAccess");
  EXPECT_THAT(no.body, Not(HasSubstr(forged.token.substr(forged.token.size() - 10))));
}

TEST_P(ServiceTest, AnX509IdentityKeepsItsThumbprintsAndNoKeys) {
  const std::string thumbprint(40, 'a');
  const HttpReply created = service().request(
      "PUT", "/devices/d",
      R"({"deviceId":"d","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":")" + thumbprint +
          R"(","secondaryThumbprint":null}}})");
  ASSERT_EQ(created.status, 200) << created.body;
  const auto authentication = created.json()["authentication"];
  EXPECT_EQ(authentication["type"], "selfSigned");
  EXPECT_EQ(authentication["x509Thumbprint"]["primaryThumbprint"], thumbprint);
  EXPECT_TRUE(authentication["x509Thumbprint"]["secondaryThumbprint"].is_null());
  EXPECT_TRUE(authentication["symmetricKey"]["primaryKey"].is_null());
  EXPECT_EQ(service().request("GET", "/twins/d").json()["authenticationType"], "selfSigned");
  EXPECT_EQ(service()
                .request("PUT", "/devices/ca", R"({"deviceId":"ca","authentication":{"type":"certificateAuthority"}})")
                .json()["authentication"]["type"],
            "certificateAuthority");
  EXPECT_THAT(service()
                  .request("PUT", "/devices/x",
                           R"({"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"a:b"}}})")
                  .body,
              HasSubstr("StringIsNotThumbprint"));
}

TEST_P(ServiceTest, PutCreatesWithoutIfMatchAndUpdatesWithIt) {
  RawHttp http = service();
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d", "{}", "If-Match: *\r\n"), "404 DeviceNotFound");
  const HttpReply created = http.request("PUT", "/devices/d", R"({"deviceId":"d"})", "If-Match: \"\"\r\n");
  EXPECT_EQ(created.status, 200);
  EXPECT_EQ(created.header("etag"), fmt::format("\"{}\"", created.json()["etag"].get<std::string>()));
  EXPECT_EQ(created.json()["statusUpdatedTime"], "0001-01-01T00:00:00");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d", "{}"), "409 DeviceAlreadyExists");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d", "{}", "If-None-Match: *\r\n"), "409 DeviceAlreadyExists");
  const HttpReply updated = http.request("PUT", "/devices/d", "{}", "If-Match: " + created.header("etag") + "\r\n");
  EXPECT_EQ(updated.status, 200);
  EXPECT_NE(updated.json()["authentication"], created.json()["authentication"]);  // left out: new keys
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d", "{}", "If-Match: " + created.header("etag") + "\r\n"),
            "412 PreconditionFailed");
  EXPECT_EQ(
      http.request("PUT", "/devices/d", "{}", "If-Match: " + updated.json()["etag"].get<std::string>() + "\r\n").status,
      200);
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d", R"({"deviceId":"e"})", "If-Match: *\r\n"),
            "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/e", R"([])"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/e"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/a%20b", "{}"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/a%zzb", "{}"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "DELETE", "/devices/d"), "412 PreconditionFailed");
  EXPECT_EQ(outcome("iothubowner", "DELETE", "/devices/d", {}, "If-Match: \"no\"\r\n"), "412 PreconditionFailed");
  EXPECT_EQ(outcome("iothubowner", "DELETE", "/devices/d", {}, "If-Match: \"*\"\r\n"), "204 ");
  EXPECT_EQ(outcome("iothubowner", "DELETE", "/devices/d", {}, "If-Match: *\r\n"), "404 DeviceNotFound");
}

TEST_P(ServiceTest, ModulesAreIdentitiesOfTheirOwn) {
  RawHttp http = service();
  http.request("PUT", "/devices/d", "{}");
  const HttpReply created =
      http.request("PUT", "/devices/d/modules/m", R"({"deviceId":"d","moduleId":"m","managedBy":"me"})");
  ASSERT_EQ(created.status, 200) << created.body;
  EXPECT_EQ(created.header("etag"), "");
  EXPECT_EQ(created.json()["managedBy"], "me");
  EXPECT_EQ(created.json().contains("status"), false);
  const std::string etag = created.json()["etag"];
  EXPECT_EQ(http.request("PUT", "/devices/d/modules/m", R"({"managedBy":"you"})", "If-Match: \"" + etag + "\"\r\n")
                .json()["managedBy"],
            "you");
  const HttpReply twice = http.request("PUT", "/devices/d/modules/m", "{}");
  EXPECT_EQ(twice.status, 409);
  EXPECT_EQ(twice.header("iothub-errorcode"), "ModuleAlreadyExistsOnDevice");
  EXPECT_EQ(twice.json()["errorCode"], 409'301);
  EXPECT_TRUE(twice.json().contains("trackingId") && twice.json().contains("timestampUtc"));
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d/modules/m", "{}", "If-Match: \"" + etag + "\"\r\n"),
            "412 PreconditionFailed");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d/modules/n", R"({"moduleId":"m"})"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d/modules/n", R"({"deviceId":"e"})"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d/modules/%24own", "{}"), "400 ArgumentInvalid");
  EXPECT_EQ(outcome("iothubowner", "GET", "/devices/d/modules/n"), "404 ModuleNotFound");
  EXPECT_EQ(outcome("iothubowner", "GET", "/twins/d/modules/n"), "404 DeviceNotFound");
  EXPECT_EQ(http.request("GET", "/devices/d/modules").json().size(), 1u);
  for (const char* target : {"/devices/ghost/modules/m", "/devices/ghost/modules"}) {
    EXPECT_EQ(outcome("iothubowner", "GET", target), "401 IotHubUnauthorizedAccess");
    EXPECT_EQ(outcome("IoT Hub Data Contributor", "GET", target), "404 DeviceNotFound");
  }
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/ghost/modules/m", "{}"), "401 IotHubUnauthorizedAccess");
  http.request("PUT", "/devices/d", R"({"status":"disabled"})", "If-Match: *\r\n");
  EXPECT_EQ(outcome("iothubowner", "GET", "/devices/d/modules/m"), "401 IotHubUnauthorizedAccess");
  EXPECT_EQ(outcome("IoT Hub Data Contributor", "GET", "/devices/d/modules/m"), "200 ");
  EXPECT_EQ(outcome("service", "GET", "/twins/d/modules/m"), "200 ");
}

TEST_P(ServiceTest, ADeviceHasAtMostFiftyModules) {
  RawHttp http = service();
  http.request("PUT", "/devices/d", "{}");
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(http.request("PUT", fmt::format("/devices/d/modules/m{}", i), "{}").status, 200);
  }
  EXPECT_EQ(outcome("iothubowner", "PUT", "/devices/d/modules/m50", "{}"), "413 TooManyModulesOnDevice");
}

TEST_P(ServiceTest, DisablingADeviceEndsItsModulesConnections) {
  RawHttp http = service();
  http.request("PUT", "/devices/d", "{}");
  const HttpReply module = http.request("PUT", "/devices/d/modules/m", "{}");
  DeviceLogin login;
  login.device_id = "d/m";
  login.key = module.json()["authentication"]["symmetricKey"]["primaryKey"];
  RawMqtt mqtt{hub->ports().mqtt};
  const std::string user = "hub.localhost/d/m/?api-version=2021-04-12";
  const std::string password =
      protocol::make_sas_token("hub.localhost/devices/d/modules/m", *protocol::base64_decode(login.key), 4'000'000'000);
  mqtt::Connect connect;
  connect.client_id = login.device_id;
  connect.user_name = user;
  connect.password = password;
  std::string packet;
  mqtt::encode_connect(packet, connect);
  mqtt.send(packet);
  ASSERT_EQ(mqtt.connack()->code, mqtt::ConnackCode::accepted);
  EXPECT_EQ(http.request("PUT", "/devices/d", R"({"status":"disabled"})", "If-Match: *\r\n").status, 200);
  EXPECT_TRUE(mqtt.ends());
  RawMqtt again{hub->ports().mqtt};
  again.send(packet);
  EXPECT_EQ(again.connack()->code, mqtt::ConnackCode::not_authorized);
}

TEST_P(ServiceTest, AnEdgeDeviceHasAScopeAndSystemModules) {
  RawHttp http = service();
  const HttpReply created = http.request("PUT", "/devices/gw", R"({"capabilities":{"iotEdge":true}})");
  const std::string scope = created.json()["deviceScope"];
  EXPECT_EQ(scope, fmt::format("ms-azure-iot-edge://gw-{}", created.json()["generationId"].get<std::string>()));
  const auto modules = http.request("GET", "/devices/gw/modules").json();
  ASSERT_EQ(modules.size(), 2u);
  EXPECT_EQ(modules[0]["moduleId"], "$edgeAgent");
  EXPECT_EQ(modules[1]["moduleId"], "$edgeHub");
  EXPECT_EQ(modules[0]["authentication"]["type"], "none");
  const HttpReply leaf = http.request("PUT", "/devices/leaf", fmt::format(R"({{"deviceScope":"{}"}})", scope));
  EXPECT_EQ(leaf.json()["deviceScope"], scope);
  const HttpReply child = http.request(
      "PUT", "/devices/child", fmt::format(R"({{"capabilities":{{"iotEdge":true}},"parentScopes":["{}"]}})", scope));
  EXPECT_EQ(child.json()["parentScopes"][0], scope);
  EXPECT_NE(child.json()["deviceScope"], scope);

  const HttpReply moved =
      http.request("PUT", "/devices/gw", R"({"capabilities":{"iotEdge":true},"deviceScope":"x"})", "If-Match: *\r\n");
  EXPECT_EQ(moved.status, 400);
  EXPECT_THAT(moved.body, HasSubstr("Device scope is immutable"));
  EXPECT_EQ(
      http.request("PUT", "/devices/gw",
                   fmt::format(R"({{"capabilities":{{"iotEdge":true}},"deviceScope":"{}"}})", scope), "If-Match: *\r\n")
          .json()["deviceScope"],
      scope);
  EXPECT_FALSE(http.request("PUT", "/devices/gw", "{}", "If-Match: *\r\n").json().contains("deviceScope"));
  EXPECT_TRUE(http.request("GET", "/devices/gw/modules").json().empty());
  EXPECT_EQ(http.request("GET", "/twins/child").json()["capabilities"]["iotEdge"], true);
}

TEST_P(ServiceTest, BulkModesDoWhatTheySay) {
  RawHttp http = service();
  const auto bulk = [&](const std::string& entries) { return http.request("POST", "/devices", "[" + entries + "]"); };
  const auto errors = [&](const std::string& entries) {
    std::string names;
    const HttpReply reply = bulk(entries);
    EXPECT_EQ(reply.status == 200, reply.json()["isSuccessful"].get<bool>());
    const auto answer = reply.json();
    for (const auto& error : answer["errors"]) names += error["errorCode"].get<std::string>() + " ";
    return names;
  };
  EXPECT_EQ(bulk(R"({"id":"a","importMode":"create","tags":{"t":1},"properties":{"desired":{"p":1}}},
                    {"ID":"b","ImportMode":"CREATE","Status":"disabled"},{"id":"a","moduleId":"m"})")
                .body,
            R"({"isSuccessful":true,"errors":[],"warnings":[]})");
  EXPECT_EQ(http.request("GET", "/twins/a").json()["properties"]["desired"]["$version"], 1);
  EXPECT_EQ(http.request("GET", "/devices/b").json()["status"], "disabled");
  EXPECT_EQ(http.request("GET", "/devices/a/modules").json().size(), 1u);
  EXPECT_EQ(errors(R"({"id":"a"})"), "DeviceAlreadyExists ");
  EXPECT_EQ(errors(R"({"id":"z","importMode":"update"})"), "DeviceNotFound ");
  EXPECT_EQ(errors(R"({"id":"a","importMode":"Update","status":"disabled"})"), "");
  EXPECT_EQ(http.request("GET", "/devices/a").json()["status"], "disabled");
  const std::string etag = http.request("GET", "/devices/a").json()["etag"];
  EXPECT_EQ(errors(R"({"id":"a","importMode":"UpdateIfMatchETag","etag":"stale"})"), "PreconditionFailed ");
  EXPECT_EQ(errors(R"({"id":"a","importMode":"UpdateIfMatchETag","eTag":")" + etag + R"("})"), "");
  EXPECT_EQ(errors(R"({"id":"a","importMode":"updateTwin","tags":{"t":2}})"), "");
  EXPECT_EQ(http.request("GET", "/twins/a").json()["tags"]["t"], 2);
  EXPECT_EQ(errors(R"({"id":"a","importMode":"updateTwinIfMatchETag","twinETag":"AAAAAAAAAAk=","tags":{"t":3}})"),
            "PreconditionFailed ");
  EXPECT_EQ(errors(R"({"id":"a","importMode":"DeleteIfMatchETag","etag":"stale"})"), "PreconditionFailed ");
  EXPECT_EQ(errors(R"({"id":"a","importMode":"Delete"},{"id":"b","importMode":"delete"})"), "");
  EXPECT_EQ(errors(R"({"id":"a","importMode":"explode"})"), "DeviceNotFound ");
  EXPECT_EQ(http.request("GET", "/statistics/devices").body,
            R"({"totalDeviceCount":0,"enabledDeviceCount":0,"disabledDeviceCount":0})");
  for (const char* bad : {"[]", "{}", "[1]", R"([{"importMode":"create"}])", "["}) {
    EXPECT_EQ(http.request("POST", "/devices", bad).status, 400) << bad;
  }
  EXPECT_EQ(bulk(R"({"id":"s"},{"id":"s"})").header("iothub-errorcode"), "DeviceDefinedMultipleTimes");
}

TEST_P(ServiceTest, ModuleTwinsHaveETagsToo) {
  RawHttp http = service();
  http.request("PUT", "/devices/d", "{}");
  http.request("PUT", "/devices/d/modules/m", "{}");
  const HttpReply fresh = http.request("GET", "/twins/d/modules/m");
  EXPECT_EQ(fresh.json()["moduleId"], "m");
  EXPECT_EQ(fresh.header("etag"), "");
  const std::string match = "If-Match: \"" + fresh.json()["etag"].get<std::string>() + "\"\r\n";
  EXPECT_EQ(http.request("PATCH", "/twins/d/modules/m", R"({"tags":{"a":1}})", match).status, 200);
  EXPECT_EQ(http.request("PATCH", "/twins/d/modules/m", R"({"tags":{"a":2}})", match).status, 412);
  EXPECT_EQ(http.request("PUT", "/twins/d/modules/m", R"({"tags":{"b":1}})", "If-Match: \"*\"\r\n").json()["tags"],
            (nlohmann::json{{"b", 1}}));
  EXPECT_EQ(http.request("PUT", "/twins/d/modules/m", R"({"tags":{"b":null}})").status, 400);
}

TEST_P(ServiceTest, ContinuationIsAbsentOnTheLastPage) {
  RawHttp http = service();
  for (const char* id : {"a", "b", "c"}) http.request("PUT", fmt::format("/devices/{}", id), "{}");
  const std::string query = R"({"query":"SELECT * FROM devices"})";
  const HttpReply first = http.request("POST", "/devices/query", query, "x-ms-max-item-count: 2\r\n");
  EXPECT_EQ(first.json().size(), 2u);
  EXPECT_EQ(first.header("x-ms-item-type"), "Twin");
  ASSERT_NE(first.header("x-ms-continuation"), "");
  const HttpReply last =
      http.request("POST", "/devices/query", query,
                   "x-ms-max-item-count: 2\r\nx-ms-continuation: " + first.header("x-ms-continuation") + "\r\n");
  EXPECT_EQ(last.json().size(), 1u);
  EXPECT_EQ(last.headers.count("x-ms-continuation"), 0u);
  EXPECT_EQ(http.request("POST", "/devices/query", query, "x-ms-continuation: forged\r\n").status, 400);
  EXPECT_EQ(http.request("POST", "/devices/query", query, "x-ms-max-item-count: many\r\n").status, 400);
}

}  // namespace
}  // namespace twinstorm::hub::testing
