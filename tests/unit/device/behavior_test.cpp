#include "sim/device/behavior.hpp"

#include <gtest/gtest.h>

#include "sim/protocol/encoding.hpp"

namespace twinstorm::device {
namespace {

using namespace std::chrono_literals;

TEST(RetryPolicy, DoublesUpToTheMaximum) {
  const RetryPolicy policy{.initial = 1s, .max = 30s, .full_jitter = false};
  Rng rng{1};
  const Nanos expected[] = {1s, 2s, 4s, 8s, 16s, 30s, 30s};
  for (uint32_t attempt = 0; attempt < 7; ++attempt) EXPECT_EQ(policy.delay(attempt, rng), expected[attempt]);
  EXPECT_EQ(policy.delay(255, rng), 30s);  // no overflow after days of trying
}

TEST(RetryPolicy, FullJitterIsUniformBelowTheBackoff) {
  const RetryPolicy policy{.initial = 1s, .max = 30s, .full_jitter = true};
  Rng rng{1};
  double sum = 0;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    const Nanos wait = policy.delay(3, rng);
    ASSERT_GE(wait, 0s);
    ASSERT_LT(wait, 8s);
    sum += to_seconds(wait);
  }
  EXPECT_NEAR(sum / kDraws, 4, 0.1);
}

TEST(Authority, DeviceKeysAreTheGroupKeysHmacOfTheId) {
  const Authority authority{"hub.localhost", "group secret"};
  const auto key = protocol::hmac_sha256("group secret", "dev-1");
  EXPECT_EQ(authority.device_key("dev-1"), protocol::base64_encode(key));
  EXPECT_NE(authority.device_key("dev-1"), authority.device_key("dev-2"));
}

TEST(Authority, TokensVerifyWithTheRegisteredKeyAndNoOther) {
  const Authority authority{"hub.localhost", "group secret", 1h};
  std::string token;
  authority.append_token(token, "dev-1", WallTime{1'700'000'000s});
  const auto parsed = protocol::parse_sas_token(token);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->se, 1'700'003'600);
  EXPECT_TRUE(parsed->skn.empty());
  const auto key = protocol::base64_decode(authority.device_key("dev-1"));
  const auto other = protocol::base64_decode(authority.device_key("dev-2"));
  EXPECT_TRUE(protocol::signature_matches(*parsed, *key));
  EXPECT_FALSE(protocol::signature_matches(*parsed, *other));
}

TEST(Authority, TokensCoverTheirDeviceOnly) {
  const Authority authority{"hub.localhost", "group secret"};
  std::string token;
  authority.append_token(token, "dev-1", WallTime{1'700'000'000s});
  const auto parsed = protocol::parse_sas_token(token);
  ASSERT_TRUE(parsed);
  const auto resource = protocol::percent_decode(parsed->sr);
  ASSERT_TRUE(resource);
  EXPECT_EQ(*resource, "hub.localhost/devices/dev-1");
  EXPECT_TRUE(protocol::covers(*resource, "HUB.localhost/devices/dev-1"));
  EXPECT_FALSE(protocol::covers(*resource, "hub.localhost/devices/dev-10"));
}

}  // namespace
}  // namespace twinstorm::device
