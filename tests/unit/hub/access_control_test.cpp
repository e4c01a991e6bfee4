#include "sim/hub/policy/access_control.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

using ::testing::HasSubstr;

const std::string kDeviceKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const WallTime kNow{std::chrono::seconds{1'700'000'000}};

class AccessControlTest : public ::testing::Test {
 protected:
  AccessControlTest() {
    config.host_name = "labhub.azure-devices.net";
    config.policies = with_keys(default_policies());
    access.emplace(*AccessControl::make(config));
  }
  std::string policy_token(std::string_view policy, std::string_view resource, int64_t expiry = 1'700'003'600) const {
    for (const Policy& known : config.policies) {
      if (known.name == policy) {
        return protocol::make_sas_token(resource, *protocol::base64_decode(known.primary_key), expiry, policy);
      }
    }
    return {};
  }
  std::string device_error(std::string_view token, std::string_view device_id = "dev1",
                           std::string_view module_id = {}) {
    const auto checked = access->check_device({.token = token,
                                               .device_id = device_id,
                                               .module_id = module_id,
                                               .primary_key = kDeviceKey,
                                               .secondary_key = kDeviceKey},
                                              kNow);
    return checked ? "" : checked.error().message;
  }

  HubConfig config;
  std::optional<AccessControl> access;
};

TEST_F(AccessControlTest, AcceptsTheWorkedVectorsOfTheProtocolSheet) {
  const std::string token =
      "SharedAccessSignature "
      "sr=labhub.azure-devices.net%2Fdevices%2Fdev1&sig=MMyJvlIB85Zpc2ZnnZG76YQ5FZxX9%2F7D0ZLUNsGbI5U%3D"
      "&se=1700003600";
  EXPECT_EQ(device_error(token), "");
  EXPECT_EQ(device_error(token, "dev1", "modA"), "");  // a device's resource covers its modules
  EXPECT_THAT(device_error(token, "dev2"), HasSubstr("does not cover '/devices/dev2'"));
  const std::string module_token =
      "SharedAccessSignature sr=labhub.azure-devices.net%2Fdevices%2Fdev1%2Fmodules%2FmodA"
      "&sig=goQ5sqNrxCa7nDLcgwh%2FOun8NmjYWHOrLv5XejiEAfg%3D&se=1700003600";
  EXPECT_EQ(device_error(module_token, "dev1", "modA"), "");
  EXPECT_NE(device_error(module_token), "");
}

TEST_F(AccessControlTest, ChecksTheTokenAsItIsSpelt) {
  const std::string key = *protocol::base64_decode(kDeviceKey);
  for (const char* sr : {"localhost%3A18883%2Fdevices%2FDev%281%29%2a%27%21", "localhost%3a18883%2fdevices%2fDev(1)*'!",
                         "LABHUB.azure-devices.net/devices/Dev(1)*'!"}) {
    const std::string mac = protocol::base64_encode(protocol::hmac_sha256(key, std::string{sr} + "\n1700003600"));
    const std::string token =
        "SharedAccessSignature se=1700003600&sr=" + std::string{sr} + "&sig=" + protocol::percent_encode(mac);
    EXPECT_EQ(device_error(token, "Dev(1)*'!"), "") << sr;
  }
}

TEST_F(AccessControlTest, SaysWhyADeviceIsRefused) {
  const std::string key = *protocol::base64_decode(kDeviceKey);
  const std::string resource = "labhub.azure-devices.net/devices/dev1";
  EXPECT_THAT(device_error(protocol::make_sas_token(resource, key, 1'699'999'999)), HasSubstr("expired"));
  EXPECT_EQ(device_error(protocol::make_sas_token(resource, key, 1'700'000'000)), "");
  EXPECT_THAT(device_error(protocol::make_sas_token(resource, "other key", 1'700'003'600)), HasSubstr("signature"));
  EXPECT_THAT(device_error(protocol::make_sas_token("other.example/devices/dev1", key, 1'700'003'600)),
              HasSubstr("'other.example'"));
  EXPECT_THAT(device_error(""), HasSubstr("password"));
  EXPECT_NE(device_error("SharedAccessSignature sr=x"), "");
  EXPECT_NE(device_error("Bearer abc"), "");
  EXPECT_EQ(device_error(policy_token("device", "labhub.azure-devices.net")), "");
  EXPECT_THAT(device_error(policy_token("service", "labhub.azure-devices.net")), HasSubstr("'service'"));
}

TEST_F(AccessControlTest, GrantsServicesTheirPolicysPermissions) {
  const auto grant = access->check_service(policy_token("service", "labhub.azure-devices.net"), "/twins/dev1", kNow);
  ASSERT_TRUE(grant);
  EXPECT_EQ(grant->permissions, kServiceConnect);
  EXPECT_TRUE(grant->whole_hub);
  const auto narrow =
      access->check_service(policy_token("iothubowner", "localhost:443/twins/dev1"), "/twins/dev1", kNow);
  ASSERT_TRUE(narrow);
  EXPECT_FALSE(narrow->whole_hub);
  EXPECT_FALSE(access->check_service(policy_token("iothubowner", "localhost:443/twins/dev1"), "/twins/dev11", kNow));
  EXPECT_FALSE(access->check_service("", "/twins/dev1", kNow));
  EXPECT_FALSE(access->check_service(policy_token("service", "labhub.azure-devices.net", 1), "/twins/dev1", kNow));
  const std::string unknown = protocol::make_sas_token("localhost", "key", 1'700'003'600, "nobody");
  EXPECT_THAT(access->check_service(unknown, "/twins/dev1", kNow).error().message, HasSubstr("no policy 'nobody'"));
}

TEST_F(AccessControlTest, KnowsItsHostsWithAnyPort) {
  EXPECT_TRUE(access->knows_host("LabHub.Azure-Devices.net"));
  EXPECT_TRUE(access->knows_host("localhost:18883"));
  EXPECT_TRUE(access->knows_host("127.0.0.1:1"));
  EXPECT_FALSE(access->knows_host("azure-devices.net"));
  EXPECT_FALSE(access->knows_host(""));
}

TEST_F(AccessControlTest, RefusesAPolicyWithABrokenKey) {
  config.policies[1].primary_key = "not base64!";
  const auto broken = AccessControl::make(config);
  ASSERT_FALSE(broken);
  EXPECT_THAT(broken.error().message, HasSubstr("'service'"));
}

}  // namespace
}  // namespace twinstorm::hub
