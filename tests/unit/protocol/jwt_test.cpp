#include "sim/protocol/jwt.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/protocol/encoding.hpp"

namespace twinstorm::protocol {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const WallTime kNow{std::chrono::seconds{1'700'000'000}};
constexpr const char* kAudience = "https://iothubs.azure.net";

// RFC 7515 appendix A.2 and A.3: keys and signatures that others made.
constexpr const char* kRfcKeys = R"({"keys":[
  {"kty":"oct","kid":"a secret","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"},
  {"kty":"EC","crv":"P-256","kid":"for encryption","use":"enc","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
   "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
  {"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},
  {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
   "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})";
const std::string kRfcClaims =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const std::string kRfcRs256 = "eyJhbGciOiJSUzI1NiJ9." + kRfcClaims +
                              ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_"
                              "lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_"
                              "nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--"
                              "xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLI"
                              "hWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const std::string kRfcEs256 = "eyJhbGciOiJFUzI1NiJ9." + kRfcClaims +
                              ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-"
                              "Kg6NU1Q";

std::string error_of(const Result<JwtClaims>& checked) { return checked ? "" : checked.error().message; }

TEST(Jwt, ChecksTheSignaturesOfTheStandardsExamples) {
  const auto keys = JsonWebKeySet::parse(kRfcKeys);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_EQ(keys->size(), 2u);  // neither the secret nor the key for encryption
  const JwtRules rules{.issuer = "joe", .audience = kAudience};
  const WallTime then{std::chrono::seconds{1'300'819'000}};
  for (const std::string& token : {kRfcRs256, kRfcEs256}) {
    // The examples have no audience: that this is what is missed means that the signature was good.
    EXPECT_THAT(error_of(verify_jwt(token, *keys, rules, then)), HasSubstr("(aud)")) << token.substr(0, 20);
    for (const size_t place : {token.size() - 30, token.find('.') + 20}) {
      std::string changed = token;
      changed[place] = changed[place] == 'A' ? 'B' : 'A';
      EXPECT_THAT(error_of(verify_jwt(changed, *keys, rules, then)), HasSubstr("signature does not match"));
    }
  }
}

class OwnKeyTest : public ::testing::Test {
 protected:
  std::string error(const std::string& claims) const {
    return error_of(verify_jwt(*sign_jwt(claims, pem, "k1"), keys, rules, kNow));
  }
  /// A token with any header and a signature of the right length.
  std::string with_header(const std::string& header, const std::string& claims) const {
    return base64url_encode(header) + "." + base64url_encode(claims) + "." + base64url_encode(std::string(64, 'x'));
  }

  std::string pem = make_signing_key();
  JsonWebKeySet keys = *JsonWebKeySet::parse(*make_jwks(pem, "k1"));
  JwtRules rules{.issuer = "https://sts.windows.net/t/", .audience = kAudience};
  std::string good = R"({"iss":"https://sts.windows.net/t/","aud":"https://iothubs.azure.net/","exp":1700003600,
                         "nbf":1700000000,"oid":"me","sub":"other","roles":["A","B"]})";
};

TEST_F(OwnKeyTest, TakesWhatItSigned) {
  const auto claims = verify_jwt(*sign_jwt(good, pem, "k1"), keys, rules, kNow);
  ASSERT_TRUE(claims) << claims.error().message;
  EXPECT_EQ(claims->subject, "me");
  EXPECT_EQ(claims->issuer, "https://sts.windows.net/t/");
  EXPECT_THAT(claims->roles, ElementsAre("A", "B"));
  EXPECT_EQ(claims->expires, WallTime{std::chrono::seconds{1'700'003'600 + 300}});
  EXPECT_EQ(error(R"({"iss":"https://sts.windows.net/t","aud":["x","https://iothubs.azure.net"],"exp":1700003600.5})"),
            "");
}

TEST_F(OwnKeyTest, SaysWhichClaimIsWrong) {
  EXPECT_THAT(error(R"({"iss":"https://evil/","aud":"https://iothubs.azure.net","exp":1700003600})"),
              HasSubstr("(iss)"));
  EXPECT_THAT(error(R"({"aud":"https://iothubs.azure.net","exp":1700003600})"), HasSubstr("(iss)"));
  EXPECT_THAT(error(R"({"iss":"https://sts.windows.net/t/","aud":"https://vault","exp":1700003600})"),
              HasSubstr("(aud)"));
  EXPECT_THAT(error(R"({"iss":"https://sts.windows.net/t/","aud":7,"exp":1700003600})"), HasSubstr("(aud)"));
  const std::string rest = R"(,"iss":"https://sts.windows.net/t/","aud":"https://iothubs.azure.net"})";
  EXPECT_THAT(error(R"({"sub":"me")" + rest), HasSubstr("no expiry"));
  EXPECT_THAT(error(R"({"exp":"1700003600")" + rest), HasSubstr("no expiry"));
  EXPECT_EQ(error(R"({"exp":1699999701)" + rest), "");  // 299 s ago: within the clock skew
  EXPECT_THAT(error(R"({"exp":1699999700)" + rest), HasSubstr("expired"));
  EXPECT_EQ(error(R"({"exp":1700003600,"nbf":1700000300)" + rest), "");
  EXPECT_THAT(error(R"({"exp":1700003600,"nbf":1700000301)" + rest), HasSubstr("not valid yet"));
  EXPECT_THAT(error(R"({"exp":1700003600,"nbf":"soon")" + rest), HasSubstr("not valid yet"));
  EXPECT_THAT(error("[]"), HasSubstr("claims"));
}

TEST_F(OwnKeyTest, LetsTheTokenChooseNeitherAlgorithmNorKey) {
  const auto with = [&](const std::string& header) {
    return error_of(verify_jwt(with_header(header, good), keys, rules, kNow));
  };
  EXPECT_THAT(with(R"({"alg":"none"})"), HasSubstr("neither RS256 nor ES256"));
  EXPECT_THAT(with(R"({"alg":"None"})"), HasSubstr("neither RS256 nor ES256"));
  EXPECT_THAT(with(R"({"alg":"HS256","kid":"k1"})"), HasSubstr("neither RS256 nor ES256"));
  EXPECT_THAT(with(R"({"kid":"k1"})"), HasSubstr("neither RS256 nor ES256"));
  EXPECT_THAT(with(R"({"alg":"RS256","kid":"k1"})"), HasSubstr("no key"));  // the key is an EC key
  EXPECT_THAT(with(R"({"alg":"ES256","kid":"k2"})"), HasSubstr("no key"));
  EXPECT_THAT(with(R"({"alg":"ES256","kid":"k1"})"), HasSubstr("does not match"));
  EXPECT_THAT(with(R"({"alg":"ES256","crit":["b64"],"b64":false})"), HasSubstr("crit"));
  // A key in the header is not a key of the issuer.
  const std::string other = make_signing_key();
  EXPECT_THAT(error_of(verify_jwt(*sign_jwt(good, other, "k1"), keys, rules, kNow)), HasSubstr("does not match"));
}

TEST_F(OwnKeyTest, LeavesATokenThatNoKeyIsNamedForToOtherIssuers) {
  const auto code = [&](const std::string& key, const char* token_kid, const char* set_kid) {
    const auto set = *JsonWebKeySet::parse(*make_jwks(pem, set_kid));
    const auto verdict = verify_jwt(*sign_jwt(good, key, token_kid), set, rules, kNow);
    return verdict ? std::optional<ErrorCode>{} : verdict.error().code;
  };
  const std::string other = make_signing_key();
  for (const auto& [token_kid, set_kid] : {std::pair{"", ""}, {"k1", ""}, {"", "k1"}}) {
    EXPECT_EQ(code(pem, token_kid, set_kid), std::nullopt);
    EXPECT_EQ(code(other, token_kid, set_kid), ErrorCode::not_found) << token_kid << '|' << set_kid;
  }
  EXPECT_EQ(code(other, "k1", "k1"), ErrorCode::unauthorized);
  EXPECT_EQ(code(pem, "k2", "k1"), ErrorCode::not_found);
}

TEST_F(OwnKeyTest, RefusesWhatIsNoToken) {
  const std::string token = *sign_jwt(good, pem, "k1");
  for (const std::string& text : {std::string{}, std::string{"a.b"}, std::string{"..."}, std::string{".."}, token + ".",
                                  token + "=", "x" + token, token.substr(0, token.size() - 2), token + "AAAA"}) {
    const std::string message = error_of(verify_jwt(text, keys, rules, kNow));
    EXPECT_THAT(message, HasSubstr("bearer token: ")) << text;
    if (text.size() > 20) {
      EXPECT_THAT(message, Not(HasSubstr(text.substr(text.size() - 20))));
    }
  }
  EXPECT_THAT(error_of(verify_jwt(std::string(20'000, 'a'), keys, rules, kNow)), HasSubstr("longer than"));
  // Zero is not a valid half of a signature, however it is encoded.
  const size_t dot = token.rfind('.');
  EXPECT_THAT(
      error_of(verify_jwt(token.substr(0, dot + 1) + base64url_encode(std::string(64, '\0')), keys, rules, kNow)),
      HasSubstr("does not match"));
}

TEST(JsonWebKeys, NamesTheKeyThatIsBroken) {
  const auto message = [](const std::string& json) {
    const auto parsed = JsonWebKeySet::parse(json);
    return parsed ? std::string{} : parsed.error().message;
  };
  EXPECT_THAT(message("{"), HasSubstr("not JSON"));
  EXPECT_THAT(message("[]"), HasSubstr("\"keys\""));
  EXPECT_THAT(message(R"({"keys":[]})"), HasSubstr("no key for"));
  EXPECT_THAT(message(R"({"keys":[{"kty":"RSA","kid":"short","n":"AQAB","e":"AQAB"}]})"), HasSubstr("'short'"));
  EXPECT_THAT(message(R"({"keys":[{"kty":"RSA","kid":"bad","n":"a+b=","e":"AQAB"}]})"), HasSubstr("base64url"));
  const std::string coordinate = base64url_encode(std::string(32, '\x01'));
  EXPECT_THAT(message(R"({"keys":[{"kty":"EC","crv":"P-256","kid":"off","x":")" + coordinate + R"(","y":")" +
                      coordinate + R"("}]})"),
              HasSubstr("'off' of the set: x and y are not a point"));
  EXPECT_EQ(message(*make_jwks(make_signing_key(), "quoted \"kid\"")), "");
  EXPECT_FALSE(make_jwks("no key", "k"));
  EXPECT_FALSE(sign_jwt("{}", "no key", "k"));
}

TEST(Base64Url, IsStrict) {
  EXPECT_EQ(base64url_encode("\xfb\xff\xfe?"), "-__-Pw");
  EXPECT_EQ(*base64url_decode("-__-Pw"), "\xfb\xff\xfe?");
  EXPECT_EQ(*base64url_decode(""), "");
  for (const char* text : {"Pw==", "+/8", "a", "a b_", "abc\n"}) EXPECT_FALSE(base64url_decode(text)) << text;
}

}  // namespace
}  // namespace twinstorm::protocol
