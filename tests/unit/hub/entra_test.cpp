#include "sim/hub/policy/entra.hpp"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/hub/policy/access_control.hpp"

namespace twinstorm::hub {
namespace {

using ::testing::HasSubstr;
using Op = protocol::ServiceOperation;

const WallTime kNow{std::chrono::seconds{1'700'000'000}};

class EntraTest : public ::testing::Test {
 protected:
  EntraTest() {
    std::filesystem::remove_all(folder);
    config.host_name = "labhub.azure-devices.net";
    config.policies = with_keys(default_policies());
    config.data_folder = folder;
  }
  ~EntraTest() override { std::filesystem::remove_all(folder); }

  AccessControl access() const { return *AccessControl::make(config, *trusted_issuers(config)); }
  std::string dev_token(std::vector<std::string> roles, Nanos valid = std::chrono::hours{1}) const {
    return *issue_dev_token({folder, std::move(roles), config.entra_audience, valid}, kNow);
  }
  /// "" when a token with this role may do it, otherwise why not.
  std::string refusal(const std::string& role, Op operation) const {
    const auto grant = access().check_service("Bearer " + dev_token({role}), "/twins/d", kNow);
    if (!grant) return grant.error().message;
    const auto allowed = grant->check(requirement_of(operation), "GET", "/twins/d");
    return allowed ? "" : allowed.error().message;
  }

  std::filesystem::path folder = std::filesystem::temp_directory_path() / fmt::format("entra-test-{}", getpid());
  HubConfig config;
};

TEST_F(EntraTest, RolesAllowWhatTheirDataActionsSay) {
  for (const Op operation : {Op::get_device, Op::create_or_update_device, Op::delete_device, Op::bulk_devices,
                             Op::get_twin, Op::patch_twin, Op::query_devices, Op::invoke_method, Op::create_job,
                             Op::get_configuration, Op::purge_commands, Op::device_statistics}) {
    EXPECT_EQ(refusal("IoT Hub Data Contributor", operation), "") << to_string(operation);
  }
  for (const Op operation : {Op::get_device, Op::list_devices, Op::get_twin, Op::query_devices, Op::get_job,
                             Op::get_configuration, Op::device_statistics}) {
    EXPECT_EQ(refusal("IoT Hub Data Reader", operation), "") << to_string(operation);
  }
  for (const Op operation : {Op::create_or_update_device, Op::delete_device, Op::bulk_devices, Op::patch_twin,
                             Op::replace_twin, Op::invoke_method, Op::create_job, Op::purge_commands}) {
    EXPECT_NE(refusal("IoT Hub Data Reader", operation), "") << to_string(operation);
  }
  for (const Op operation : {Op::get_device, Op::create_or_update_device, Op::delete_device, Op::bulk_devices,
                             Op::create_or_update_module, Op::list_modules}) {
    EXPECT_EQ(refusal("IoT Hub Registry Contributor", operation), "") << to_string(operation);
    EXPECT_NE(refusal("IoT Hub Twin Contributor", operation), "") << to_string(operation);
  }
  for (const Op operation : {Op::get_twin, Op::patch_twin, Op::replace_twin, Op::query_devices}) {
    EXPECT_EQ(refusal("IoTHubTwinContributor", operation), "") << to_string(operation);
    EXPECT_NE(refusal("IoT Hub Registry Contributor", operation), "") << to_string(operation);
  }
}

TEST_F(EntraTest, APrincipalWithoutRoleIsRefusedInTheServicesWords) {
  const auto grant = access().check_service("bearer " + dev_token({}), "/twins/d", kNow);
  ASSERT_TRUE(grant) << grant.error().message;
  const auto allowed = grant->check(requirement_of(Op::get_twin), "GET", "/twins/d");
  ASSERT_FALSE(allowed);
  EXPECT_EQ(allowed.error().status, 401);
  EXPECT_STREQ(std::string{allowed.error().name}.c_str(), "IotHubUnauthorized");
  EXPECT_EQ(allowed.error().message,
            "Principal twinstorm-dev is not authorized for GET on /twins/d due to no assigned permissions");
  EXPECT_FALSE(data_actions_of_role("Owner"));
  EXPECT_FALSE(data_actions_of_role(""));
}

TEST_F(EntraTest, ATokenIssuedLaterIsTakenByARunningHub) {
  const AccessControl running = access();
  const auto grant = running.check_service("Bearer " + dev_token({"IoT Hub Data Reader"}), "/x", kNow);
  ASSERT_TRUE(grant) << grant.error().message;
  EXPECT_TRUE(grant->by_role);
  EXPECT_EQ(grant->expires, kNow + std::chrono::minutes{65});
}

TEST_F(EntraTest, TheKeyIsMadeOnceAndItsOwnersOnly) {
  const std::string first = dev_token({});
  const auto read = [](const std::filesystem::path& path) {
    std::ifstream file{path};
    return std::string{std::istreambuf_iterator<char>{file}, {}};
  };
  const std::string key = read(folder / "dev-token-key.pem");
  dev_token({});
  EXPECT_EQ(read(folder / "dev-token-key.pem"), key);
  struct stat status {};
  ASSERT_EQ(stat((folder / "dev-token-key.pem").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(read(folder / "dev-token-jwks.json").find("\"d\""), std::string::npos);
  EXPECT_TRUE(access().check_service("Bearer " + first, "/x", kNow));
}

TEST_F(EntraTest, SaysWhyATokenIsRefused) {
  const auto message = [&](const AccessControl& control, const std::string& token, WallTime now = kNow) {
    const auto grant = control.check_service("Bearer " + token, "/x", now);
    return grant ? std::string{} : grant.error().message;
  };
  const std::string token = dev_token({"IoT Hub Data Reader"}, std::chrono::minutes{1});
  EXPECT_EQ(message(access(), token, kNow + std::chrono::minutes{5}), "");  // the documented clock skew
  EXPECT_THAT(message(access(), token, kNow + std::chrono::minutes{7}), HasSubstr("expired"));
  EXPECT_THAT(message(*AccessControl::make(config), token), HasSubstr("--jwks"));
  config.entra_audience = "https://other";
  EXPECT_THAT(message(access(), token), HasSubstr("https://other"));
  config.entra_audience = "https://iothubs.azure.net";
  std::filesystem::remove_all(folder);  // another key from here on
  EXPECT_THAT(message(access(), token), HasSubstr("kid"));
}

TEST_F(EntraTest, TakesTokensOfAConfiguredIssuer) {
  const std::string pem = protocol::make_signing_key();
  std::filesystem::create_directories(folder);
  config.jwks_file = folder / "keys.json";
  std::ofstream{config.jwks_file} << *protocol::make_jwks(pem, "tenant-key");
  config.entra_issuer = "https://sts.windows.net/tenant/";
  const auto claims = [](const char* issuer) {
    return fmt::format(R"({{"iss":"{}","aud":"https://iothubs.azure.net","exp":1700003600,"oid":"app",
                            "roles":["IoT Hub Data Contributor"]}})",
                       issuer);
  };
  const AccessControl control = access();
  const auto check = [&](const char* issuer, const char* kid) {
    return control.check_service("Bearer " + *protocol::sign_jwt(claims(issuer), pem, kid), "/x", kNow);
  };
  ASSERT_TRUE(check("https://sts.windows.net/tenant/", "tenant-key"));
  EXPECT_EQ(check("https://sts.windows.net/tenant/", "tenant-key")->principal, "app");
  EXPECT_THAT(check("https://sts.windows.net/other/", "tenant-key").error().message, HasSubstr("issuer"));
  // The configured issuer cannot speak as the development key, nor the other way round.
  EXPECT_FALSE(check(kDevIssuer, "tenant-key"));
  EXPECT_TRUE(control.check_service("Bearer " + dev_token({}), "/x", kNow));
}

TEST_F(EntraTest, AKeyWithoutANameKeepsNobodyElseOut) {
  const std::string pem = protocol::make_signing_key();
  std::filesystem::create_directories(folder);
  config.jwks_file = folder / "keys.json";
  const std::string text = *protocol::make_jwks(pem, "");
  ASSERT_NE(text.find(R"("kid":"",)"), std::string::npos);
  std::ofstream{config.jwks_file} << std::string{text}.replace(text.find(R"("kid":"",)"), 9, "");
  const AccessControl control = access();
  const std::string claims =
      R"({"iss":"https://sts.windows.net/t/","aud":"https://iothubs.azure.net","exp":1700003600})";
  const auto check = [&](const std::string& key, const char* kid) {
    return control.check_service("Bearer " + *protocol::sign_jwt(claims, key, kid), "/x", kNow);
  };
  EXPECT_TRUE(check(pem, "")) << check(pem, "").error().message;
  EXPECT_TRUE(check(pem, "some name"));
  EXPECT_TRUE(control.check_service("Bearer " + dev_token({}), "/x", kNow)) << "the development key, of the same kind";
  EXPECT_FALSE(check(protocol::make_signing_key(), "some name"));
}

TEST_F(EntraTest, NamesTheFileThatCannotBeUsed) {
  config.jwks_file = folder / "missing.json";
  EXPECT_EQ(trusted_issuers(config).error().code, ErrorCode::not_found);
  EXPECT_THAT(trusted_issuers(config).error().message, HasSubstr("missing.json"));
  std::filesystem::create_directories(folder);
  std::ofstream{config.jwks_file} << "{}";
  EXPECT_THAT(trusted_issuers(config).error().message, HasSubstr("missing.json': the key set has no array"));
  config.jwks_file.clear();
  std::ofstream{folder / "dev-token-key.pem"} << "damaged";
  EXPECT_EQ(trusted_issuers(config).error().code, ErrorCode::corrupt);
  EXPECT_THAT(trusted_issuers(config).error().message, HasSubstr("delete the file"));
  EXPECT_THAT(issue_dev_token({folder, {"King"}, "a", std::chrono::hours{1}}, kNow).error().message,
              HasSubstr("role 'King' is not known, give one of 'IoT Hub Data Contributor'"));
  EXPECT_FALSE(issue_dev_token({folder, {}, "a", Nanos{1}}, kNow));
}

}  // namespace
}  // namespace twinstorm::hub
