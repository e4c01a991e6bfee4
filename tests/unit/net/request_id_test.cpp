#include "sim/transport/mqtt/request_id.hpp"

#include <string>

#include <gtest/gtest.h>

namespace twinstorm::transport {
namespace {

TEST(RequestIdTest, LooksLikeAVersionFourUuid) {
  for (uint32_t i = 0; i < 1000; ++i) {
    const auto id = format_request_id(i * 2654435761u, i);
    const std::string text{id.view()};
    ASSERT_EQ(text.size(), 36u);
    for (size_t at = 0; at < text.size(); ++at) {
      if (at == 8 || at == 13 || at == 18 || at == 23) {
        EXPECT_EQ(text[at], '-') << text;
      } else {
        EXPECT_NE(std::string{"0123456789abcdef"}.find(text[at]), std::string::npos) << text;
      }
    }
    EXPECT_EQ(text[14], '4') << text;
    EXPECT_NE(std::string{"89ab"}.find(text[19]), std::string::npos) << text;
  }
}

TEST(RequestIdTest, LeadsBackToItsNumberAndNoOtherTextDoes) {
  for (const uint32_t request : {0u, 1u, 17u, 0x00100001u, 0x7fffffffu, 0xffffffffu}) {
    const auto id = format_request_id(request, 5);
    EXPECT_EQ(parse_request_id(id.view(), 5), request);
    EXPECT_EQ(parse_request_id(id.view(), 6), std::nullopt) << "the id of another device";
    auto upper = id;
    upper.text[9] = 'X';
    EXPECT_EQ(parse_request_id(upper.view(), 5), std::nullopt);
    EXPECT_EQ(parse_request_id(id.view().substr(1), 5), std::nullopt);
  }
  EXPECT_EQ(parse_request_id("", 5), std::nullopt);
  EXPECT_EQ(parse_request_id("17", 5), std::nullopt);
  EXPECT_EQ(parse_request_id("zzzzzzzz-0000-4000-8000-000000000000", 5), std::nullopt);
}

TEST(RequestIdTest, DevicesDoNotShareIds) {
  EXPECT_NE(format_request_id(1, 1).view(), format_request_id(1, 2).view());
  EXPECT_NE(format_request_id(1, 1).view(), format_request_id(2, 1).view());
}

}  // namespace
}  // namespace twinstorm::transport
