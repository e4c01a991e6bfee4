#include "sim/hub/policy/access_control.hpp"

#include <algorithm>
#include <cctype>
#include <limits>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/hub/policy/device_admission.hpp"
#include "sim/protocol/encoding.hpp"

namespace twinstorm::hub {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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

TEST_F(AccessControlTest, SaysWhatAServicesTokenLacks) {
  const auto needed = [&](std::string_view policy, protocol::ServiceOperation operation) {
    const auto grant = access->check_service(policy_token(policy, "localhost"), "/x", kNow);
    const auto allowed = grant->check(requirement_of(operation), "GET", "/x");
    return allowed ? std::string{} : allowed.error().message;
  };
  using Op = protocol::ServiceOperation;
  for (const char* policy : {"iothubowner", "service"}) {
    for (const Op operation : {Op::get_twin, Op::patch_twin, Op::replace_twin, Op::query_devices, Op::invoke_method,
                               Op::purge_commands, Op::receive_feedback, Op::create_job, Op::get_digital_twin}) {
      EXPECT_EQ(needed(policy, operation), "") << policy << " " << to_string(operation);
    }
  }
  for (const char* policy : {"iothubowner", "registryRead", "registryReadWrite"}) {
    for (const Op operation : {Op::get_device, Op::list_devices, Op::get_module, Op::list_modules,
                               Op::device_statistics, Op::service_statistics}) {
      EXPECT_EQ(needed(policy, operation), "") << policy << " " << to_string(operation);
    }
  }
  for (const Op operation : {Op::create_or_update_device, Op::delete_device, Op::bulk_devices,
                             Op::create_or_update_module, Op::delete_module, Op::create_import_export_job}) {
    EXPECT_EQ(needed("registryReadWrite", operation), "") << to_string(operation);
    EXPECT_THAT(needed("registryRead", operation), HasSubstr("lacks the permission RegistryWrite"));
    EXPECT_THAT(needed("service", operation), HasSubstr("policy 'service'"));
    EXPECT_NE(needed("device", operation), "");
  }
  EXPECT_EQ(needed("registryReadWrite", Op::get_twin),
            "policy 'registryReadWrite' lacks the permission ServiceConnect, which GET /x needs");
  EXPECT_NE(needed("service", Op::get_device), "");
  EXPECT_NE(needed("device", Op::get_twin), "");
}

TEST_F(AccessControlTest, AServiceTokenEndsWithItsExpiry) {
  const auto at = [&](int64_t expiry) {
    return access->check_service(policy_token("service", "localhost", expiry), "/x", kNow);
  };
  EXPECT_TRUE(at(1'700'000'001));
  EXPECT_EQ(at(1'700'000'001)->expires, WallTime{std::chrono::seconds{1'700'000'001}});
  EXPECT_THAT(at(1'700'000'000).error().message, HasSubstr("expired"));
  EXPECT_EQ(at(1'700'000'000).error().status, 401);
  EXPECT_TRUE(at(std::numeric_limits<int64_t>::max()));
}

TEST_F(AccessControlTest, ADevicesGrantEndsWithItsToken) {
  const std::string key = *protocol::base64_decode(kDeviceKey);
  DeviceCredentials credentials{.device_id = "dev1", .primary_key = kDeviceKey};
  const std::string token = protocol::make_sas_token("localhost/devices/dev1", key, 1'700'000'060);
  credentials.token = token;
  EXPECT_EQ(access->check_device(credentials, kNow)->expires, WallTime{std::chrono::seconds{1'700'000'060}});
  const std::string by_policy = policy_token("device", "localhost", 1'700'000'061);
  credentials.token = by_policy;
  EXPECT_EQ(access->check_device(credentials, kNow)->expires, WallTime{std::chrono::seconds{1'700'000'061}});
}

TEST_F(AccessControlTest, NoRefusalRepeatsASecret) {
  const std::string token = policy_token("service", "localhost");
  const std::string signature = token.substr(token.find("sig=") + 4, 20);
  for (const std::string& message : {device_error(token), device_error(token + "&sig=x"), device_error(token, "dev 2"),
                                     access->check_service(token + "x", "/x", kNow).error().message,
                                     access->check_service("Bearer " + token, "/x", kNow).error().message}) {
    EXPECT_NE(message, "");
    EXPECT_THAT(message, Not(HasSubstr(signature)));
  }
}

class CertificateTest : public AccessControlTest {
 protected:
  CertificateTest() {
    config.device_authorities_pem = authority.certificate_pem;
    access.emplace(*AccessControl::make(config));
  }
  static net::Validity validity() { return {kNow - std::chrono::hours{1}, kNow + std::chrono::hours{1}}; }
  /// As the TLS layer hands it over.
  static net::PeerCertificate shown(const net::CertifiedKey& certificate, std::string common_name) {
    net::PeerCertificate peer;
    peer.common_name = std::move(common_name);
    peer.sha1 = *net::sha1_thumbprint(certificate.certificate_pem);
    peer.sha256 = *net::sha256_thumbprint(certificate.certificate_pem);
    const std::string& pem = certificate.certificate_pem;
    for (size_t begin = pem.find("-----BEGIN"); begin != std::string::npos; begin = pem.find("-----BEGIN", begin + 1)) {
      const size_t text = pem.find('\n', begin) + 1;
      std::string base64 = pem.substr(text, pem.find("-----END", begin) - text);
      std::erase(base64, '\n');
      peer.chain_der.push_back(*protocol::base64_decode(base64));
    }
    peer.validity = validity();
    return peer;
  }
  std::string error(DeviceCredentials credentials, WallTime now = kNow) const {
    if (credentials.device_id.empty()) credentials.device_id = "dev1";
    const auto checked = access->check_device(credentials, now);
    return checked ? "" : checked.error().message;
  }

  net::CertifiedKey authority = *net::make_authority("Device CA", validity());
};

TEST_F(CertificateTest, KnowsASelfSignedDeviceByThumbprint) {
  const auto certificate = *net::make_self_signed("whatever", validity());
  const net::PeerCertificate peer = shown(certificate, "whatever");
  DeviceCredentials credentials{.certificate = &peer, .authentication_type = twin::AuthenticationType::self_signed};
  EXPECT_THAT(error(credentials), HasSubstr(peer.sha1));
  std::string lower = peer.sha256;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string& thumbprint : {peer.sha1, peer.sha256, lower}) {
    credentials.primary_thumbprint = thumbprint;
    credentials.secondary_thumbprint = {};
    EXPECT_EQ(error(credentials), "") << thumbprint;
    std::swap(credentials.primary_thumbprint, credentials.secondary_thumbprint);
    EXPECT_EQ(error(credentials), "") << thumbprint;
    EXPECT_EQ(access->check_device(credentials, kNow)->expires, WallTime::max());
  }
  const std::string other(40, 'A');
  credentials.primary_thumbprint = credentials.secondary_thumbprint = other;
  EXPECT_NE(error(credentials), "");
}

TEST_F(CertificateTest, KnowsACaSignedDeviceByNameAndChain) {
  const auto certificate = *net::issue_client_certificate(authority, "dev1", validity());
  const net::PeerCertificate peer = shown(certificate, "dev1");
  DeviceCredentials credentials{.certificate = &peer,
                                .authentication_type = twin::AuthenticationType::certificate_authority};
  EXPECT_EQ(error(credentials), "");
  EXPECT_THAT(error(credentials, kNow + std::chrono::hours{2}), HasSubstr("not trusted"));
  credentials.device_id = "dev2";
  EXPECT_THAT(error(credentials), HasSubstr("is for 'dev1', not for 'dev2'"));
  credentials.device_id = "dev1";
  credentials.module_id = "m";
  EXPECT_THAT(error(credentials), HasSubstr("not for 'dev1/m'"));

  const auto module_certificate = *net::issue_client_certificate(authority, "dev1/m", validity());
  const net::PeerCertificate module_peer = shown(module_certificate, "dev1/m");
  credentials.certificate = &module_peer;
  EXPECT_EQ(error(credentials), "");

  const auto stranger = *net::make_authority("Device CA", validity());  // the same name, another key
  const auto forged = *net::issue_client_certificate(stranger, "dev1", validity());
  const net::PeerCertificate forged_peer = shown(forged, "dev1");
  credentials.module_id = {};
  credentials.certificate = &forged_peer;
  EXPECT_THAT(error(credentials), HasSubstr("not trusted"));

  config.device_authorities_pem.clear();
  access.emplace(*AccessControl::make(config));
  credentials.certificate = &peer;
  EXPECT_THAT(error(credentials), HasSubstr("no device authority"));
}

TEST_F(CertificateTest, TokensAndCertificatesDoNotReplaceEachOther) {
  const auto certificate = *net::make_self_signed("dev1", validity());
  const net::PeerCertificate peer = shown(certificate, "dev1");
  const std::string token =
      protocol::make_sas_token("localhost/devices/dev1", *protocol::base64_decode(kDeviceKey), 1'700'003'600);
  DeviceCredentials by_key{.device_id = "dev1", .primary_key = kDeviceKey, .certificate = &peer};
  EXPECT_THAT(error(by_key), HasSubstr("a certificate does not replace them"));
  by_key.token = token;
  EXPECT_EQ(error(by_key), "");
  for (const auto type : {twin::AuthenticationType::self_signed, twin::AuthenticationType::certificate_authority}) {
    DeviceCredentials by_certificate{
        .device_id = "dev1", .primary_key = kDeviceKey, .authentication_type = type, .primary_thumbprint = peer.sha1};
    EXPECT_THAT(error(by_certificate), HasSubstr("none was shown"));
    by_certificate.token = token;
    EXPECT_THAT(error(by_certificate), HasSubstr("not a token"));
    by_certificate.certificate = &peer;
    EXPECT_THAT(error(by_certificate), HasSubstr("not a token"));
  }
}

TEST_F(AccessControlTest, AdmitsRegisteredAndEnabledIdentitiesOnly) {
  DeviceStore store;
  store.devices.insert(make_record("dev1", {}, {}, kNow));
  store.modules.insert(make_record("dev1", "m", {}, kNow));
  DeviceRecord& device = *store.find("dev1", {});
  DeviceRecord& module = *store.find("dev1", "m");
  const auto admission = [&](std::string_view id, std::string_view module_id, const DeviceRecord& signer) {
    const std::string path = module_id.empty() ? fmt::format("localhost/devices/{}", id)
                                               : fmt::format("localhost/devices/{}/modules/{}", id, module_id);
    const std::string token =
        protocol::make_sas_token(path, *protocol::base64_decode(signer.secondary_key), 1'700'003'600);
    return admit_device(store, *access, id, module_id, token, nullptr, kNow);
  };
  EXPECT_EQ(admission("dev1", {}, device)->record, &device);
  EXPECT_EQ(admission("dev1", "m", module)->record, &module);
  EXPECT_EQ(admission("dev1", "m", module)->expires, WallTime{std::chrono::seconds{1'700'003'600}});
  EXPECT_THAT(admission("dev1", "m", device).error().message, HasSubstr("signature"));  // a module has its own keys
  EXPECT_THAT(admission("dev1", {}, module).error().message, HasSubstr("signature"));
  EXPECT_THAT(admission("dev2", {}, device).error().message, HasSubstr("'dev2' is not registered"));
  EXPECT_THAT(admission("dev1", "n", module).error().message, HasSubstr("'dev1/n' is not registered"));
  EXPECT_EQ(admission("dev2", {}, device).error().status, 401);
  IdentityRequest disabled;
  disabled.status = twin::DeviceStatus::disabled;
  disabled.primary_key = disabled.secondary_key = kDeviceKey;
  replace_identity(device, disabled, kNow);
  EXPECT_THAT(admission("dev1", {}, device).error().message, HasSubstr("'dev1' is disabled"));
  EXPECT_THAT(admission("dev1", "m", module).error().message, HasSubstr("'dev1' is disabled"));
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
