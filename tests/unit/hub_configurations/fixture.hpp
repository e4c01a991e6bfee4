// What the tests of configurations share: requests and twins from short JSON.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/hub/configurations/configuration_catalog.hpp"

namespace twinstorm::hub::testing {

inline twin::Value json(std::string_view text) {
  auto value = twin::parse_value(text);
  EXPECT_TRUE(value) << text << ": " << (value ? "" : value.error().message);
  return value ? std::move(*value) : twin::Value{};
}

inline std::string body(std::string_view content, std::string_view condition = "*", int64_t priority = 0,
                        std::string_view more = "") {
  return fmt::format(R"({{"content":{},"targetCondition":"{}","priority":{}{}}})", content, condition, priority, more);
}
inline std::string device_body(std::string_view values, std::string_view condition = "*", int64_t priority = 0) {
  return body(fmt::format(R"({{"deviceContent":{{"properties.desired.fw":{}}}}})", values), condition, priority);
}

inline ServiceResult<ConfigurationRequest> request(std::string_view id, std::string_view text) {
  return parse_configuration(id, json(text));
}

/// `InvalidConfigurationContent: <text>`; empty when the request is fine.
inline std::string refusal(std::string_view id, std::string_view text) {
  const auto parsed = request(id, text);
  if (parsed) return {};
  EXPECT_EQ(parsed.error().status, 400);
  EXPECT_EQ(parsed.error().message.find(';'), std::string::npos) << "SDKs cut the message there";
  return fmt::format("{}: {}", parsed.error().name, parsed.error().message);
}

inline constexpr WallTime kNow{std::chrono::seconds{1'780'000'000}};

inline twin::TwinDocument device(std::string_view id, std::string_view tags = "{}", bool edge = false) {
  twin::TwinDocument twin = twin::TwinDocument::fresh(id, "", kNow);
  twin::set_tags(twin, json(tags));
  twin.iot_edge = edge;
  return twin;
}
inline twin::TwinDocument module_twin(std::string_view device_id, std::string_view id, std::string_view tags = "{}") {
  twin::TwinDocument twin = twin::TwinDocument::fresh(device_id, id, kNow);
  twin::set_tags(twin, json(tags));
  return twin;
}

}  // namespace twinstorm::hub::testing
