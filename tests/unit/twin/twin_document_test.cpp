#include "sim/twin/twin_document.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twinstorm::twin {
namespace {

using testing::HasSubstr;

Value parsed(std::string_view json) { return parse_value(json).value(); }

WallTime at(int second) { return WallTime{std::chrono::seconds{1'700'000'000 + second}}; }

std::string service_json(const TwinDocument& twin) {
  std::string out;
  write_service_twin(twin, out);
  return out;
}

std::string device_json(const TwinDocument& twin) {
  std::string out;
  write_device_twin(twin, out);
  return out;
}

TwinDocument twin_with_desired(std::string_view desired) {
  TwinDocument twin = TwinDocument::fresh("d1", "", at(0));
  apply_service_patch(twin, parsed(R"({"properties":{"desired":)" + std::string{desired} + "}}"), at(1)).value();
  return twin;
}

std::string notification_of(TwinDocument& twin, std::string_view desired) {
  return apply_service_patch(twin, parsed(R"({"properties":{"desired":)" + std::string{desired} + "}}"), at(2))
      .value()
      .notification;
}

TEST(TwinDocument, AFreshTwinReadsAsTheServiceSendsIt) {
  TwinDocument twin = TwinDocument::fresh("d1", "", at(0));
  twin.device_etag = "NDAzODk4OTIx";
  EXPECT_EQ(service_json(twin),
            R"({"deviceId":"d1","etag":"AAAAAAAAAAE=","deviceEtag":"NDAzODk4OTIx","status":"enabled",)"
            R"("statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Disconnected",)"
            R"("lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas",)"
            R"("x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"modelId":"","version":2,)"
            R"("properties":{"desired":{"$metadata":{"$lastUpdated":"2023-11-14T22:13:20Z"},"$version":1},)"
            R"("reported":{"$metadata":{"$lastUpdated":"2023-11-14T22:13:20Z"},"$version":1}},)"
            R"("capabilities":{"iotEdge":false}})");
  EXPECT_EQ(device_json(twin), R"({"desired":{"$version":1},"reported":{"$version":1}})");
}

TEST(TwinDocument, ADesiredWriteStampsEveryEntryWithTimeAndVersion) {
  TwinDocument twin = twin_with_desired(R"({"username":"u"})");
  EXPECT_THAT(
      service_json(twin),
      HasSubstr(R"("version":3,"properties":{"desired":{"username":"u","$metadata":)"
                R"({"$lastUpdated":"2023-11-14T22:13:21Z","$lastUpdatedVersion":2,)"
                R"("username":{"$lastUpdated":"2023-11-14T22:13:21Z","$lastUpdatedVersion":2}},"$version":2})"));
  EXPECT_THAT(service_json(twin), HasSubstr(R"("etag":"AAAAAAAAAAI=")"));
}

TEST(TwinDocument, MetadataOfUntouchedSiblingsStays) {
  TwinDocument twin = twin_with_desired(R"({"a":{"x":1,"y":2},"b":3})");
  notification_of(twin, R"({"a":{"y":null}})");
  const Metadata& root = twin.desired.metadata;
  EXPECT_EQ(root.last_updated_version(), 3U);
  EXPECT_EQ(root.child(0).last_updated_version(), 3U) << "a removal shows on its parent";
  ASSERT_EQ(root.child(0).size(), 1U);
  EXPECT_EQ(root.child(0).child(0).last_updated_version(), 2U);
  EXPECT_EQ(root.child(1).last_updated_version(), 2U);
}

struct CounterCase {
  const char* what;
  bool put;
  const char* body;
  int etag, version, desired;
};

TEST(TwinDocument, CountersMoveAsTheServiceMovesThem) {
  const std::vector<CounterCase> cases{
      {"tags only", false, R"({"tags":{"a":1}})", 1, 1, 0},
      {"desired only", false, R"({"properties":{"desired":{"a":1}}})", 1, 1, 1},
      {"tags and desired", false, R"({"tags":{"a":1},"properties":{"desired":{"a":1}}})", 1, 1, 1},
      {"a value that is already there", false, R"({"properties":{"desired":{"old":1}}})", 1, 1, 1},
      {"a missing member removed", false, R"({"properties":{"desired":{"none":null}}})", 1, 1, 1},
      {"only read-only members", false, R"({"etag":"x","version":9,"properties":{"reported":{"a":1}}})", 0, 0, 0},
      {"put with both", true, R"({"tags":{},"properties":{"desired":{"b":1}}})", 1, 1, 1},
      {"put with tags wipes desired", true, R"({"tags":{"a":1}})", 1, 1, 1},
  };
  for (const CounterCase& c : cases) {
    TwinDocument twin = twin_with_desired(R"({"old":1})");
    const TwinDocument before = twin;
    const auto change = (c.put ? replace_twin : apply_service_patch)(twin, parsed(c.body), at(5), TwinLimits{});
    ASSERT_TRUE(change) << c.what;
    EXPECT_EQ(twin.etag - before.etag, static_cast<uint64_t>(c.etag)) << c.what;
    EXPECT_EQ(twin.version - before.version, c.version) << c.what;
    EXPECT_EQ(twin.desired.version - before.desired.version, c.desired) << c.what;
    EXPECT_EQ(twin.reported.version, before.reported.version) << c.what;
  }
}

TEST(TwinDocument, AReportMovesVersionAndReportedVersionOnly) {
  TwinDocument twin = TwinDocument::fresh("d1", "", at(0));
  EXPECT_EQ(apply_reported_patch(twin, parsed(R"({"fw":"1.0","a":{"b":null,"c":1}})"), at(1)).value(), 2);
  EXPECT_EQ(twin.etag, 1U);
  EXPECT_EQ(twin.version, 3);
  EXPECT_EQ(twin.desired.version, 1);
  EXPECT_EQ(device_json(twin), R"({"desired":{"$version":1},"reported":{"fw":"1.0","a":{"c":1},"$version":2}})");
  EXPECT_THAT(service_json(twin), HasSubstr(R"("fw":{"$lastUpdated":"2023-11-14T22:13:21Z"})"))
      << "reported entries have no $lastUpdatedVersion";
}

TEST(TwinDocument, NotificationsAreThePatchAsSentWithItsVersion) {
  TwinDocument twin = twin_with_desired(R"({"a":1,"b":2})");
  EXPECT_EQ(notification_of(twin, R"({"a":1,"b":2})"), R"({"a":1,"b":2,"$version":3})")
      << "equal values are not filtered";
  EXPECT_EQ(notification_of(twin, R"({"tele":{"freq":9},"a":null})"), R"({"tele":{"freq":9},"a":null,"$version":4})");
  EXPECT_EQ(notification_of(twin, R"({"x":1.0,"$version":99,"$metadata":{"x":{}}})"), R"({"x":1.0,"$version":5})");
  EXPECT_EQ(notification_of(twin, R"({"empty":{}})"), R"({"empty":{},"$version":6})");
}

TEST(TwinDocument, NothingIsSentWhenOnlyMissingMembersAreRemoved) {
  TwinDocument twin = twin_with_desired(R"({"a":{"x":1}})");
  EXPECT_EQ(notification_of(twin, R"({"b":null,"a":{"y":null}})"), "");
  EXPECT_EQ(notification_of(twin, "{}"), "");
  EXPECT_EQ(notification_of(twin, R"({"b":{"c":null}})"), R"({"b":{"c":null},"$version":5})")
      << "this one makes an empty object";
}

TEST(TwinDocument, NothingIsSentForTags) {
  TwinDocument twin = twin_with_desired(R"({"a":1})");
  const ServiceChange change = apply_service_patch(twin, parsed(R"({"tags":{"plant":"Redmond43"}})"), at(2)).value();
  EXPECT_TRUE(change.tags_written);
  EXPECT_FALSE(change.desired_written);
  EXPECT_EQ(change.notification, "");
}

TEST(TwinDocument, AReplacementTellsWhatVanished) {
  TwinDocument twin = twin_with_desired(R"({"a":1,"b":2})");
  const auto change = replace_twin(twin, parsed(R"({"properties":{"desired":{"a":1,"c":100}}})"), at(2)).value();
  EXPECT_EQ(change.notification, R"({"a":1,"b":null,"c":100,"$version":3})");
  EXPECT_EQ(write(twin.desired.values), R"({"a":1,"c":100})");

  twin = twin_with_desired(R"({"o":{"x":1,"y":{"z":2}},"p":{"q":1}})");
  EXPECT_EQ(
      replace_twin(twin, parsed(R"({"properties":{"desired":{"o":{"y":{}},"p":5}}})"), at(2)).value().notification,
      R"({"o":{"x":null,"y":{"z":null}},"p":5,"$version":3})");
}

TEST(TwinDocument, APatchWithANullSectionEmptiesIt) {
  TwinDocument twin = twin_with_desired(R"({"a":1})");
  apply_service_patch(twin, parsed(R"({"tags":{"x":1}})"), at(2)).value();
  const auto change =
      apply_service_patch(twin, parsed(R"({"tags":null,"properties":{"desired":null}})"), at(3)).value();
  EXPECT_EQ(change.notification, R"({"a":null,"$version":3})");
  EXPECT_TRUE(twin.tags.empty());
  EXPECT_TRUE(twin.desired.values.empty());
  EXPECT_EQ(twin.desired.counted_bytes, 0U);
}

TEST(TwinDocument, ARefusedWriteLeavesTheTwinUntouched) {
  TwinDocument twin = twin_with_desired(R"({"a":1})");
  const std::string before = service_json(twin);
  for (const char* body :
       {R"({"tags":{"ok":1},"properties":{"desired":{"a.b":1}}})", R"({"tags":5})", R"([])", R"({"properties":null})",
        R"({"properties":{"desired":[1]}})", R"({"tags":{"$x":1},"properties":{"desired":{"b":1}}})"}) {
    const auto patched = apply_service_patch(twin, parsed(body), at(9));
    ASSERT_FALSE(patched) << body;
    EXPECT_EQ(patched.error().status, 400);
    EXPECT_FALSE(replace_twin(twin, parsed(body), at(9))) << body;
    EXPECT_EQ(service_json(twin), before) << body;
  }
  EXPECT_FALSE(replace_twin(twin, parsed(R"({"properties":{"desired":{"a":null}}})"), at(9)));
  EXPECT_EQ(service_json(twin), before);
}

TEST(TwinDocument, AReportWithVersionOrMetadataIsRefused) {
  TwinDocument twin = TwinDocument::fresh("d1", "", at(0));
  for (const char* body : {R"({"a":1,"$version":3})", R"({"$metadata":{}})"}) {
    const auto result = apply_reported_patch(twin, parsed(body), at(1));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().status, 400);
    EXPECT_EQ(result.error().error_code, 400'004);
  }
  EXPECT_EQ(twin.reported.version, 1);
}

TEST(TwinDocument, GrowthStopsAtTheSizeLimitAndShrinkingGoesOn) {
  TwinDocument twin = TwinDocument::fresh("d1", "", at(0));
  const std::string chunk(4000, 'x');
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(apply_reported_patch(twin, parsed("{\"k" + std::to_string(i) + "\":\"" + chunk + "\"}"), at(1)));
  }
  EXPECT_EQ(twin.reported.counted_bytes, 8U * 4002);
  const auto refused = apply_reported_patch(twin, parsed(R"({"k8":")" + chunk + "\"}"), at(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, 403);
  EXPECT_EQ(refused.error().error_code, 403'100);
  EXPECT_TRUE(apply_reported_patch(twin, parsed(R"({"k8":")" + chunk + R"(","k1":null})"), at(1))) << "same size";
  EXPECT_TRUE(apply_reported_patch(twin, parsed(R"({"k2":null})"), at(1)));
}

TEST(TwinDocument, ETagsAreBase64OfABigEndianCounter) {
  EXPECT_EQ(format_etag(1), "AAAAAAAAAAE=");
  EXPECT_EQ(format_etag(2), "AAAAAAAAAAI=");
  EXPECT_EQ(format_etag(0xffffffffffffffff), "//////////8=");
  for (const uint64_t counter : {0ULL, 1ULL, 63ULL, 64ULL, 255ULL, 256ULL, 0x123456789abcdef0ULL, ~0ULL}) {
    EXPECT_EQ(parse_etag(format_etag(counter)).value(), counter);
  }
  for (const char* text : {"", "*", "AAAAAAAAAAE", "AAAAAAAAAAF=", "AAAA AAAAAE=", "AAAAAAAAAAAA"}) {
    EXPECT_FALSE(parse_etag(text)) << text;
  }
}

TEST(TwinDocument, IfMatchAcceptsEveryFormClientsSend) {
  TwinDocument twin = TwinDocument::fresh("d1", "", at(0));
  for (const char* allowed : {"", "*", "\"*\"", "AAAAAAAAAAE=", "\"AAAAAAAAAAE=\""}) {
    EXPECT_TRUE(if_match_allows(twin, allowed)) << allowed;
  }
  for (const char* stale : {"AAAAAAAAAAI=", "\"AAAAAAAAAAI=\"", "\"", "x", "\"*"}) {
    EXPECT_FALSE(if_match_allows(twin, stale)) << stale;
  }
}

TEST(TwinDocument, AModuleTwinCarriesBothIds) {
  const TwinDocument twin = TwinDocument::fresh("gw-01", "$edgeHub", at(0));
  EXPECT_THAT(service_json(twin), testing::StartsWith(R"({"deviceId":"gw-01","moduleId":"$edgeHub","etag")"));
}

TEST(TwinDocument, EveryMemberSurvivesExportAndImport) {
  TwinDocument twin = twin_with_desired(R"({"a":{"b":[1,{"c":"d"}]},"n":1.0})");
  apply_reported_patch(twin, parsed(R"({"r":{"s":true}})"), at(4)).value();
  apply_service_patch(twin, parsed(R"({"tags":{"plant":"Redmond43"}})"), at(5)).value();
  twin.module_id = "m";
  twin.device_etag = "NDAz";
  twin.status = DeviceStatus::disabled;
  twin.status_reason = "maintenance";
  twin.status_update_time = at(6);
  twin.connection_state = ConnectionState::connected;
  twin.last_activity_time = at(7) + std::chrono::nanoseconds{123'456'700};
  twin.cloud_to_device_message_count = 3;
  twin.authentication_type = AuthenticationType::self_signed;
  twin.x509_primary = "2DB2";
  twin.model_id = "dtmi:com:ex;1";
  twin.configurations = parsed(R"({"fw-stable":{"status":"Applied"}})");
  twin.iot_edge = true;
  twin.device_scope = "ms-azure-iot-edge://gw-01-1";
  twin.parent_scopes = parsed(R"(["ms-azure-iot-edge://up-1"])");
  const std::string json = service_json(twin);
  EXPECT_EQ(service_json(TwinDocument::from_json(parsed(json)).value()), json);
}

TEST(TwinDocument, ImportErrorsNameTheMember) {
  const std::vector<std::pair<const char*, const char*>> wrong{
      {R"([])", "twin: not an object"},
      {R"({})", "deviceId: missing"},
      {R"({"deviceId":5})", "deviceId: not a string"},
      {R"({"deviceId":"d","etag":"x"})", "etag: etag: 'x' is not the base64 text of 8 bytes, such as AAAAAAAAAAE="},
      {R"({"deviceId":"d","status":"broken"})", "status: 'broken' is not known"},
      {R"({"deviceId":"d","version":-1})", "version: not an integer of 0 or more"},
      {R"({"deviceId":"d","tags":[]})", "tags: not an object"},
      {R"({"deviceId":"d","parentScopes":{}})", "parentScopes: not an array"},
      {R"({"deviceId":"d","properties":{"desired":5}})", "properties.desired: not an object"},
      {R"({"deviceId":"d","properties":{"desired":{"$version":"1"}}})", "properties.desired.$version: not an integer"},
  };
  for (const auto& [json, message] : wrong) {
    const auto twin = TwinDocument::from_json(parsed(json));
    ASSERT_FALSE(twin) << json;
    EXPECT_EQ(twin.error().message, message);
  }
  EXPECT_THAT(TwinDocument::from_json(parsed(R"({"deviceId":"d","lastActivityTime":"yesterday"})")).error().message,
              HasSubstr("lastActivityTime: \"yesterday\" is not"));
}

TEST(TwinDocument, BodiesThatAreNotObjectsAreRefused) {
  EXPECT_THAT(parse_body("{\"a\":").error().message, HasSubstr("The body is not JSON at byte"));
  EXPECT_EQ(parse_body("[1]").error().message, "The body is not a JSON object.");
  EXPECT_EQ(parse_body("{").error().error_code, 400'004);
  EXPECT_EQ(parse_body("{\"a;\":").error().message.find(';'), std::string::npos) << "SDKs cut a message there";
}

TEST(TwinDocument, DeviceErrorsHaveTheMembersSdksLookFor) {
  std::string out;
  write_device_error(argument_invalid("say \"why\""), "0123456789abcdef0123456789abcdef", at(0), out);
  EXPECT_EQ(out, R"({"errorCode":400004,"trackingId":"0123456789abcdef0123456789abcdef","message":"say \"why\"",)"
                 R"("timestampUtc":"2023-11-14T22:13:20Z"})");
}

TEST(TwinTime, PrintsAsTheServiceDoes) {
  EXPECT_EQ(TwinTimeText{kNever}.view(), "0001-01-01T00:00:00Z");
  for (const int64_t nanos : {0LL, 100LL, 1'700'000'000'123'456'700LL, 1'709'164'800'500'000'000LL,
                              951'782'400'000'000'000LL, -1'000'000'000LL, -50LL}) {
    const WallTime time{Nanos{nanos}};
    EXPECT_EQ(TwinTimeText{time}.view(), format_iso8601(time));
  }
  EXPECT_EQ(parse_twin_time("0001-01-01T00:00:00").value(), kNever);
  EXPECT_EQ(parse_twin_time("0001-01-01T00:00:00Z").value(), kNever);
  for (const char* text : {"0003-01-01T00:00:00Z", "2262-01-01", "9999-12-31T23:59:59Z"}) {
    EXPECT_THAT(parse_twin_time(text).error().message, HasSubstr("is not a time of the years 1678 to 2261"));
  }
}

}  // namespace
}  // namespace twinstorm::twin
