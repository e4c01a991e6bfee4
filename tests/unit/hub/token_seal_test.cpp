#include "sim/hub/token_seal.hpp"

#include <string>

#include <gtest/gtest.h>

namespace twinstorm::hub {
namespace {

const std::string kKey = "0123456789abcdef0123456789abcdef";

TEST(TokenSeal, OpensWhatItSealed) {
  for (const std::string& text :
       {std::string{}, std::string{"therm-01"}, std::string("\0\xff\n", 3), std::string(5'000, 'x')}) {
    const std::string token = seal_token(kKey, "query", text);
    EXPECT_EQ(open_token(kKey, "query", token), text);
    EXPECT_EQ(token.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
              std::string::npos)
        << "fit for a header and a URL";
  }
}

TEST(TokenSeal, ShowsNothingOfTheText) {
  const std::string token = seal_token(kKey, "query", std::string(64, 'a'));
  EXPECT_EQ(token.find("YWFh"), std::string::npos);
  EXPECT_NE(token, seal_token(kKey, "query", std::string(64, 'a'))) << "equal texts do not give equal tokens";
}

TEST(TokenSeal, RefusesEveryChange) {
  const std::string token = seal_token(kKey, "query", "therm-01");
  for (size_t i = 0; i < token.size(); ++i) {
    for (const char other : {'A', 'B', 'w', '-', '.', ' ', '\0'}) {
      if (token[i] == other) continue;
      std::string changed = token;
      changed[i] = other;
      EXPECT_EQ(open_token(kKey, "query", changed), std::nullopt) << i;
    }
    EXPECT_EQ(open_token(kKey, "query", token.substr(0, i)), std::nullopt);
    EXPECT_EQ(open_token(kKey, "query", token.substr(i + 1)), std::nullopt);
  }
  EXPECT_EQ(open_token(kKey, "query", token + "A"), std::nullopt);
  EXPECT_EQ(open_token(kKey, "query", token + "="), std::nullopt);
  EXPECT_EQ(open_token(kKey, "query", token + token), std::nullopt);
  EXPECT_EQ(open_token(kKey, "query", std::string(100'000, 'A')), std::nullopt);
}

TEST(TokenSeal, BelongsToItsKeyAndPurpose) {
  const std::string token = seal_token(kKey, "query", "therm-01");
  EXPECT_EQ(open_token(kKey, "jobs", token), std::nullopt);
  EXPECT_EQ(open_token("another key", "query", token), std::nullopt);
}

}  // namespace
}  // namespace twinstorm::hub
