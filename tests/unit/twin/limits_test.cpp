#include "sim/twin/limits.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twinstorm::twin {
namespace {

using testing::HasSubstr;

Value parsed(std::string_view json) { return parse_value(json).value(); }

TwinResult<void> check(std::string_view json, Nulls nulls = Nulls::remove) {
  return check_members(parsed(json), Section::desired, nulls);
}

std::string nested(int levels, const std::string& innermost) {
  std::string json;
  for (int i = 0; i < levels; ++i) json += "{\"k\":";
  return json + innermost + std::string(static_cast<size_t>(levels), '}');
}

struct Refusal {
  std::string json;
  std::string message;
};

TEST(TwinLimits, RefuseWithThePlaceAndTheReason) {
  const std::vector<Refusal> refusals{
      {R"([1])", "'Properties.Desired' is not a JSON object."},
      {R"({"a":{"b.c":1}})", "'Properties.Desired.a.b.c' has a key with '.', which keys cannot hold."},
      {R"({"$x":1})", "'Properties.Desired.$x' has a key with '$', which keys cannot hold."},
      {R"({"a":{"$version":1}})", "'Properties.Desired.a.$version' has a key with '$', which keys cannot hold."},
      {R"({"#x":1})", "'Properties.Desired.#x' has a key with '#', which keys cannot hold."},
      {R"({"a b":1})", "'Properties.Desired.a b' has a key with ' ', which keys cannot hold."},
      {R"({"a\u0001":1})", "'Properties.Desired.a?' has a key with a control character, which keys cannot hold."},
      {R"({"":1})", "'Properties.Desired.' has an empty key."},
      {R"({"a":4503599627370496})",
       "'Properties.Desired.a' is the integer 4503599627370496, outside -4503599627370496 .. 4503599627370495."},
      {R"({"a":-4503599627370497})",
       "'Properties.Desired.a' is the integer -4503599627370497, outside -4503599627370496 .. 4503599627370495."},
      {R"({"a":99999999999999999999})",
       "'Properties.Desired.a' is the integer 99999999999999999999, outside -4503599627370496 .. 4503599627370495."},
      {R"({"a":[1,null]})", "'Properties.Desired.a' is null inside an array, which twins cannot hold."},
      {R"({"a":[{"b":null}]})", "'Properties.Desired.a.b' is null inside an array, which twins cannot hold."},
      {R"({"a":[{"b c":1}]})", "'Properties.Desired.a.b c' has a key with ' ', which keys cannot hold."},
      {"{\"a\":\"" + std::string(4097, 'x') + "\"}",
       "'Properties.Desired.a' is a string of 4097 bytes, longer than 4096."},
      {"{\"a\":{\"" + std::string(1025, 'k') + "\":1}}",
       "'Properties.Desired.a." + std::string(61, 'k') + "...' has a key of 1025 bytes, longer than 1024."},
      {nested(12, "1"), "'Properties.Desired.k.k.k.k.k.k.k.k.k.k.k' is nested deeper than 10 levels of objects."},
      {R"({"a;b":{"$":1}})", "'Properties.Desired.a?b.$' has a key with '$', which keys cannot hold."},
  };
  for (const Refusal& refusal : refusals) {
    const auto result = check(refusal.json);
    ASSERT_FALSE(result) << refusal.json;
    EXPECT_EQ(result.error().message, refusal.message);
    EXPECT_EQ(result.error().status, 400);
    EXPECT_EQ(result.error().error_code, 400'004);
    EXPECT_EQ(result.error().name, "ArgumentInvalid");
  }
}

TEST(TwinLimits, AllowWhatIsJustInside) {
  for (const std::string& json : std::vector<std::string>{
           "{}", R"({"a":4503599627370495,"b":-4503599627370496})", R"({"a":1e300,"b":9007199254740993.0})",
           R"({"a":[1,[2,{"b":[]}]]})", R"({"a":null,"b":{"c":null}})", R"({"_-/\u00e9:@":1})", nested(11, "1"),
           "{\"a\":\"" + std::string(4096, 'x') + "\"}", "{\"" + std::string(1024, 'k') + "\":1}"}) {
    const auto result = check(json);
    EXPECT_TRUE(result) << json << ": " << (result ? "" : result.error().message);
  }
}

TEST(TwinLimits, NullInAReplacementNamesTheMember) {
  EXPECT_EQ(check(R"({"a":{"b":null}})", Nulls::refused).error().message,
            "Value of Property or Tag cannot be null. Error in Property/Tag b");
}

TEST(TwinLimits, CountKeysAndValuesAsDocumented) {
  EXPECT_EQ(counted_size(parsed("{}")), 0U);
  EXPECT_EQ(counted_size(parsed(R"({"ab":1})")), 2U + 8);
  EXPECT_EQ(counted_size(parsed(R"({"ab":123456.789})")), 2U + 8);
  EXPECT_EQ(counted_size(parsed(R"({"a":true,"b":false})")), 2U * (1 + 4));
  EXPECT_EQ(counted_size(parsed(R"({"a":"xyz"})")), 1U + 3);
  EXPECT_EQ(counted_size(parsed(R"({"a":"x\ny\u0085z"})")), 1U + 3) << "control characters do not count";
  EXPECT_EQ(counted_size(parsed(R"({"a":"é"})")), 1U + 2) << "UTF-8 bytes";
  EXPECT_EQ(counted_size(parsed(R"({"a":{"b":{"c":"d"}}})")), 4U);
  EXPECT_EQ(counted_size(parsed(R"({"a":[1,"xy",[true]]})")), 1U + 8 + 2 + 4);
}

TEST(TwinLimits, RefuseOnlyGrowthBeyondTheLimit) {
  EXPECT_TRUE(check_growth(Section::reported, 0, 32768));
  EXPECT_FALSE(check_growth(Section::reported, 0, 32769));
  EXPECT_TRUE(check_growth(Section::reported, 40000, 40000)) << "already over it, not growing";
  EXPECT_TRUE(check_growth(Section::reported, 40000, 39999));
  EXPECT_FALSE(check_growth(Section::reported, 40000, 40001));
  EXPECT_TRUE(check_growth(Section::tags, 0, 8192));
  EXPECT_FALSE(check_growth(Section::tags, 0, 8193));
}

TEST(TwinLimits, OversizeIs403ForTheDeviceAnd400ForTheService) {
  const TwinError device = check_growth(Section::reported, 0, 32769).error();
  EXPECT_EQ(device.status, 403);
  EXPECT_EQ(device.error_code, 403'100);
  EXPECT_EQ(device.message, "'Properties.Reported' size should be less than 32768 bytes.");
  const TwinError service = check_growth(Section::tags, 0, 8193).error();
  EXPECT_EQ(service.status, 400);
  EXPECT_EQ(service.error_code, 400'004);
  EXPECT_EQ(service.name, "ArgumentInvalid");
  EXPECT_EQ(service.message, "'Tags' size should be less than 8192 bytes.");
}

TEST(TwinLimits, PreconditionErrorsAreWordedAsTheServiceDoes) {
  EXPECT_EQ(etag_mismatch("dev-1").message, "ETag mismatch for device ID 'dev-1'");
  EXPECT_EQ(etag_mismatch("dev-1").status, 412);
  EXPECT_EQ(etag_mismatch("dev-1").name, "PreconditionFailed");
  EXPECT_THAT(version_mismatch(3, 5).message, HasSubstr("at $version 5, not 3"));
}

}  // namespace
}  // namespace twinstorm::twin
