#include "sim/hub/store/device_record.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/hub/hub.hpp"
#include "sim/hub/store/device_store.hpp"
#include "sim/hub/store/import_file.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const WallTime kNow{std::chrono::seconds{1'700'000'000}};

std::string refusal(std::string_view body, bool is_module = false) {
  const auto parsed = parse_identity(*twin::parse_value(body), is_module);
  return parsed ? "" : parsed.error().message;
}

DeviceRecord record_of(std::string_view body, std::string_view id = "d1") {
  return make_record(id, {}, *parse_identity(*twin::parse_value(body), false), kNow);
}

TEST(DeviceIdentity, IsPrintedLikeTheServiceDoes) {
  const DeviceRecord record = record_of("{}");
  std::string created;
  write_identity(record, IdentityEcho::created, created);
  const json identity = json::parse(created);
  EXPECT_EQ(identity["deviceId"], "d1");
  EXPECT_EQ(identity["generationId"], "638355968000000000");
  EXPECT_EQ(identity["status"], "enabled");
  EXPECT_TRUE(identity["statusReason"].is_null());
  EXPECT_EQ(identity["statusUpdatedTime"], "0001-01-01T00:00:00");
  EXPECT_EQ(identity["authentication"]["type"], "sas");
  EXPECT_EQ(
      protocol::base64_decode(identity["authentication"]["symmetricKey"]["primaryKey"].get<std::string>())->size(),
      32u);
  EXPECT_EQ(identity["capabilities"]["iotEdge"], false);
  EXPECT_EQ(identity["parentScopes"], json::array());
  std::string stored;
  write_identity(record, IdentityEcho::stored, stored);
  EXPECT_EQ(json::parse(stored)["statusUpdatedTime"], "0001-01-01T00:00:00Z");
}

TEST(DeviceIdentity, ETagIsADecimalThatGrows) {
  DeviceRecord record = record_of("{}");
  const std::string before = record.twin.device_etag;
  EXPECT_EQ(format_identity_etag(403898921), "NDAzODk4OTIx");
  replace_identity(record, {}, kNow);
  EXPECT_EQ(record.twin.device_etag, format_identity_etag(std::stoull(*protocol::base64_decode(before)) + 1));
  EXPECT_TRUE(identity_etag_matches(record, "*"));
  EXPECT_TRUE(identity_etag_matches(record, "\"*\""));
  EXPECT_TRUE(identity_etag_matches(record, "\"" + record.twin.device_etag + "\""));
  EXPECT_TRUE(identity_etag_matches(record, record.twin.device_etag));
  EXPECT_FALSE(identity_etag_matches(record, before));
}

TEST(DeviceIdentity, GivenKeysAreKeptAndMissingOnesMade) {
  const std::string key = protocol::base64_encode("0123456789abcdef");
  const DeviceRecord given = record_of(R"({"authentication":{"type":"sas","symmetricKey":{"primaryKey":")" + key +
                                       R"(","secondaryKey":")" + key + R"("}}})");
  EXPECT_EQ(given.primary_key, key);
  const DeviceRecord made =
      record_of(R"({"authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}})");
  EXPECT_NE(made.primary_key, made.secondary_key);
  EXPECT_THAT(refusal(R"({"authentication":{"symmetricKey":{"primaryKey":")" + key + R"("}}})"),
              HasSubstr("both keys"));
  EXPECT_THAT(refusal(R"({"authentication":{"symmetricKey":{"primaryKey":"YQ==","secondaryKey":"YQ=="}}})"),
              HasSubstr("Invalid device key length"));
}

TEST(DeviceIdentity, RefusesWhatTheServiceRefuses) {
  EXPECT_THAT(refusal(R"({"status":"sleeping"})"), HasSubstr("'sleeping'"));
  EXPECT_THAT(refusal(R"({"authentication":{"type":"none"}})"), HasSubstr("'none'"));
  EXPECT_EQ(refusal(R"({"authentication":{"type":"none"}})", true), "");
  EXPECT_THAT(refusal(R"({"authentication":{"x509Thumbprint":{"primaryThumbprint":"xyz"}}})"),
              HasSubstr("StringIsNotThumbprint"));
  EXPECT_FALSE(check_device_id(""));
  EXPECT_FALSE(check_device_id("a b"));
  EXPECT_FALSE(check_device_id("a/b"));
  EXPECT_FALSE(check_device_id(std::string(129, 'x')));
  EXPECT_TRUE(check_device_id("a+b#c%20d@e-:._*?!(),=$'"));
}

TEST(DeviceIdentity, AStatusChangeIsDated) {
  DeviceRecord record = record_of("{}");
  IdentityRequest request;
  request.status = twin::DeviceStatus::disabled;
  replace_identity(record, request, kNow);
  EXPECT_EQ(record.twin.status_update_time, kNow);
  replace_identity(record, request, kNow + std::chrono::seconds{1});
  EXPECT_EQ(record.twin.status_update_time, kNow);
}

TEST(DeviceStore, ADeviceTakesItsModulesAlong) {
  DeviceStore store;
  for (const char* device : {"d", "d1", "d!"}) {
    store.devices.insert(make_record(device, {}, {}, kNow));
    store.modules.insert(make_record(device, "m2", {}, kNow));
    store.modules.insert(make_record(device, "m1", {}, kNow));
  }
  EXPECT_EQ(store.modules_of("d").size(), 2u);
  EXPECT_EQ(store.modules_of("d").front()->twin.module_id, "m1");
  store.erase(*store.find("d", {}));
  EXPECT_EQ(store.find("d", "m1"), nullptr);
  EXPECT_NE(store.find("d1", "m1"), nullptr);
  EXPECT_EQ(store.devices.ordered().size(), 2u);
  EXPECT_EQ(store.modules.size(), 4u);
}

TEST(ImportFile, NamesTheElementThatIsWrong) {
  const auto message = [](std::string_view text) {
    const auto imported = parse_import(text, kNow);
    return imported ? std::string{} : imported.error().message;
  };
  EXPECT_EQ(message("{}"), "");
  EXPECT_NE(message("[]"), "");
  EXPECT_NE(message("{"), "");
  EXPECT_THAT(message(R"({"twins":{}})"), HasSubstr("'twins' is not an array"));
  EXPECT_THAT(message(R"({"twins":[{"deviceId":"a"},{"deviceId":"a"}]})"), HasSubstr("twins[1]: 'a'"));
  EXPECT_THAT(message(R"({"twins":[{"deviceId":"a","moduleId":"m"}]})"), HasSubstr("twins[0]"));
  EXPECT_THAT(message(R"({"modules":[{"deviceId":"a"}]})"), HasSubstr("no moduleId"));
  EXPECT_THAT(message(R"({"deviceJobs":[{"deviceId":"a"}]})"), HasSubstr("deviceJobs[0]"));
  EXPECT_EQ(read_import_file("/nonexistent/file.json", kNow).error().code, ErrorCode::not_found);
}

TEST(ImportFile, KeepsTheSystemMembers) {
  const auto imported = parse_import(
      R"({"twins":[{"deviceId":"a","etag":"AAAAAAAAAAM=","deviceEtag":"NDAzODk4OTA3","status":"disabled","connectionState":"Connected",
          "authenticationType":"selfSigned","version":7,"capabilities":{"iotEdge":true},
          "properties":{"desired":{"$version":2},"reported":{"$version":4}}}]})",
      kNow);
  ASSERT_TRUE(imported) << imported.error().message;
  const DeviceRecord& record = imported->devices.front();
  EXPECT_EQ(record.identity_etag, 403898907u);
  EXPECT_EQ(record.twin.status, twin::DeviceStatus::disabled);
  EXPECT_EQ(record.twin.connection_state, twin::ConnectionState::connected);
  EXPECT_EQ(record.twin.version, 7);
  EXPECT_TRUE(record.twin.iot_edge);
  EXPECT_TRUE(record.primary_key.empty());  // it signs with a certificate
}

TEST(HubCountsJson, ReadsBackWhatItWrites) {
  HubCounts counts;
  uint64_t next = 1;
  for (const HubCountField& field : hub_count_fields()) counts.*field.member = next++;
  EXPECT_EQ(*parse_hub_counts(to_json(counts)), counts);
  EXPECT_EQ(hub_count_fields().size() * sizeof(uint64_t), sizeof(HubCounts));
  EXPECT_EQ(parse_hub_counts(R"({"queries":3,"fromTheFuture":1})")->queries, 3u);
  EXPECT_THAT(parse_hub_counts(R"({"queries":-1})").error().message, HasSubstr("'queries'"));
  EXPECT_FALSE(parse_hub_counts("[]"));
  HubCounts twice = counts;
  twice += counts;
  EXPECT_EQ(twice.registered_devices, 2 * counts.registered_devices);
}

}  // namespace
}  // namespace twinstorm::hub
