#include "sim/protocol/sas.hpp"

#include <gtest/gtest.h>

#include "tests/unit/protocol/vectors.hpp"

namespace twinstorm::protocol {
namespace {

using test::load_vectors;

std::string text(const nlohmann::json& one, const char* name) { return one[name].get<std::string>(); }

TEST(Sas, MakesTheTokensOfTheReferenceSdk) {
  for (const auto& one : load_vectors("sas.json")["tokens"]) {
    SCOPED_TRACE(text(one, "name"));
    const auto key = base64_decode(text(one, "key")).value();
    EXPECT_EQ(sas_resource(text(one, "resource")), text(one, "sr"));
    EXPECT_EQ(make_sas_token(text(one, "resource"), key, one["expiry"], text(one, "policy")), text(one, "token"));

    SasSigner signer{key};
    for (int repetition = 0; repetition < 3; ++repetition) {
      std::string token = "Authorization: ";
      signer.append_token(token, text(one, "sr"), one["expiry"], text(one, "policy"));
      EXPECT_EQ(token, "Authorization: " + text(one, "token"));
    }
  }
}

TEST(Sas, ReadsAndVerifiesThem) {
  for (const auto& one : load_vectors("sas.json")["tokens"]) {
    SCOPED_TRACE(text(one, "name"));
    const auto key = base64_decode(text(one, "key")).value();
    const auto token = parse_sas_token(text(one, "token")).value();
    EXPECT_EQ(token.sr, text(one, "sr"));
    EXPECT_EQ(token.skn, text(one, "policy"));
    EXPECT_EQ(token.se, one["expiry"]);
    EXPECT_EQ(hex_encode(base64_decode(token.sig).value()), text(one, "hmac"));
    if (one.contains("signedHex")) {
      EXPECT_EQ(hex_encode(token.signed_text), text(one, "signedHex"));
    }
    EXPECT_TRUE(signature_matches(token, key));
    EXPECT_FALSE(signature_matches(token, key + "x"));
    auto tampered = token;
    tampered.signed_text.back() = '1';
    EXPECT_FALSE(signature_matches(tampered, key));
  }
}

TEST(Sas, SignsTheResourceAsItStandsWhateverItsEncoding) {
  const std::string key = "secret";
  for (const std::string sr : {"hub/devices/d", "hub%2fdevices%2fd", "hub%2Fdevices%2Fd"}) {
    const auto signature = percent_encode(base64_encode(hmac_sha256(key, sr + "\n99")));
    const auto token = parse_sas_token("SharedAccessSignature se=99&sr=" + sr + "&sig=" + signature).value();
    EXPECT_TRUE(signature_matches(token, key)) << sr;
    EXPECT_TRUE(covers(percent_decode(token.sr).value(), "hub/devices/d")) << sr;
  }
}

TEST(Sas, TakesARawPlusAndEitherCaseOfHexInTheSignature) {
  EXPECT_EQ(parse_sas_token("SharedAccessSignature sr=a&sig=x+y%3d%3D&se=1").value().sig, "x+y==");
}

TEST(Sas, SaysWhatIsWrongWithAToken) {
  for (const auto& one : load_vectors("sas.json")["malformed"]) {
    const auto token = parse_sas_token(text(one, "text"));
    ASSERT_FALSE(token) << text(one, "name");
    EXPECT_EQ(token.error().message, text(one, "error"));
    EXPECT_EQ(token.error().code, ErrorCode::unauthorized);
  }
}

TEST(Sas, CoversWholeSegmentsOnly) {
  for (const auto& one : load_vectors("sas.json")["covers"]) {
    EXPECT_EQ(covers(text(one, "sr"), text(one, "resource")), one["covers"].get<bool>()) << one;
  }
}

TEST(Sas, DerivesDeviceKeysFromAGroupKey) {
  // RFC 4231 test case 2, read as group key and device id.
  const auto key = derive_device_key("Jefe", "what do ya want for nothing?");
  EXPECT_EQ(hex_encode({reinterpret_cast<const char*>(key.data()), key.size()}),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(Encoding, Base64GoesBothWays) {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
      {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {std::string{"\xff\xfe\x00", 3}, "//4A"},
  };
  for (const auto& [bytes, encoded] : cases) {
    EXPECT_EQ(base64_encode(bytes), encoded);
    EXPECT_EQ(base64_decode(encoded).value(), bytes);
  }
}

TEST(Encoding, RefusesWhatIsNotBase64WithoutRepeatingIt) {
  for (const std::string_view secret : {"abc", "ab=c", "a===", "ab c", "ab-_", "abcd\n", "====", "Zm8=Zm8="}) {
    const auto decoded = base64_decode(secret);
    ASSERT_FALSE(decoded) << secret;
    EXPECT_EQ(decoded.error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(decoded.error().message.find(secret), std::string::npos);
  }
}

TEST(Encoding, PercentEncodesEverythingButTheUnreserved) {
  EXPECT_EQ(percent_encode("AZaz09-_.~"), "AZaz09-_.~");
  EXPECT_EQ(percent_encode("a b/ü+%"), "a%20b%2F%C3%BC%2B%25");
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  EXPECT_EQ(percent_decode(percent_encode(all)).value(), all);
}

TEST(Encoding, PercentDecodesEitherCaseAndKeepsPlus) {
  EXPECT_EQ(percent_decode("a%2fb%2Fc+d").value(), "a/b/c+d");
  for (const auto* broken : {"%", "%4", "abc%zz", "%4g", "100%"}) EXPECT_FALSE(percent_decode(broken)) << broken;
  EXPECT_EQ(percent_decode("ab%4").error().message, "broken percent-encoding at character 2: % wants two hex digits");
}

TEST(Encoding, HashesLikeThePublishedVectors) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const auto mac = hmac_sha256("", "");
  EXPECT_EQ(hex_encode({reinterpret_cast<const char*>(mac.data()), mac.size()}),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  EXPECT_TRUE(equal_constant_time("ab", "ab"));
  EXPECT_FALSE(equal_constant_time("ab", "ac"));
  EXPECT_FALSE(equal_constant_time("ab", "abc"));
}

}  // namespace
}  // namespace twinstorm::protocol
