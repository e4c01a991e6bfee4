#include "metrics/hdr_log.hpp"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twinstorm::metrics {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

HistogramSnapshot some(uint64_t seed, int n) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> spread(8.5, 1.1);
  HistogramSnapshot h;
  for (int i = 0; i < n; ++i) h.record(Nanos{static_cast<int64_t>(spread(random)) * 1000});
  return h;
}

void expect_same_buckets(const HistogramSnapshot& a, const HistogramSnapshot& b) {
  ASSERT_EQ(a.count(), b.count());
  for (size_t i = 0; i < layout::kCountsLength; ++i) ASSERT_EQ(a.at(i), b.at(i)) << "bucket " << i;
}

TEST(HdrPayload, BeginsTheWayReadersKnow) { EXPECT_THAT(encode_hdr_payload(some(1, 100)), StartsWith("HISTFAAA")); }

class HdrPayloadRoundTrip : public testing::TestWithParam<int> {};
TEST_P(HdrPayloadRoundTrip, KeepsEveryBucket) {
  const auto written = some(static_cast<uint64_t>(GetParam()), GetParam() * GetParam() * 37);
  const auto read = decode_hdr_payload(encode_hdr_payload(written));
  ASSERT_TRUE(read) << read.error().message;
  expect_same_buckets(*read, written);
}
INSTANTIATE_TEST_SUITE_P(Sizes, HdrPayloadRoundTrip, testing::Range(0, 15));

TEST(HdrPayload, KeepsTheFirstTheLastAndNeighbouringBucketsAndHugeCounts) {
  HistogramSnapshot written;
  written.add_to_bucket(0, 1);
  written.add_to_bucket(1, uint64_t{1} << 40);
  written.add_to_bucket(3, 127);  // after a single empty bucket
  written.add_to_bucket(6, 128);  // after two
  written.add_to_bucket(layout::kCountsLength - 1, (uint64_t{1} << 62) - 1);
  const auto read = decode_hdr_payload(encode_hdr_payload(written));
  ASSERT_TRUE(read) << read.error().message;
  expect_same_buckets(*read, written);
}

TEST(HdrPayload, RefusesGarbageWithAReason) {
  const auto good = encode_hdr_payload(some(4, 500));
  const auto refusal = [](const std::string& payload) {
    const auto read = decode_hdr_payload(payload);
    return read ? std::string("accepted") : read.error().message;
  };
  EXPECT_THAT(refusal("not base64!"), HasSubstr("not base64"));
  EXPECT_THAT(refusal(""), HasSubstr("HISTFAAA"));
  EXPECT_THAT(refusal("AAAAAAAAAAAA"), HasSubstr("HISTFAAA"));
  EXPECT_THAT(refusal(good.substr(0, good.size() / 8 * 4)), HasSubstr("cut short"));
  auto altered = good;
  altered[good.size() / 2] = altered[good.size() / 2] == 'A' ? 'B' : 'A';
  EXPECT_THAT(refusal(altered), HasSubstr("does not decompress"));
}

TEST(HdrLog, CarriesTagsTimesAndTheLargestValue) {
  HdrLog log;
  log.start = WallTime{1'700'000'000'250ms};
  log.lines.push_back({"rollout.intended", 10.0, 60.0, some(1, 1000)});
  log.lines.push_back({"rollout.service", 10.0, 60.0, some(2, 1000)});
  log.lines.push_back({"nothing", 10.0, 60.0, {}});
  const auto text = write_hdr_log(log);
  EXPECT_THAT(text,
              StartsWith("#[Histogram log format version 1.3]\n#[StartTime: 1700000000.250 (seconds since epoch)"));
  EXPECT_THAT(text, HasSubstr("\nTag=rollout.intended,10.000,60.000,"));
  EXPECT_THAT(text, testing::Not(HasSubstr("nothing")));

  const auto read = read_hdr_log(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->start, log.start);
  ASSERT_EQ(read->lines.size(), 2u);
  EXPECT_EQ(read->lines[1].tag, "rollout.service");
  EXPECT_EQ(read->lines[1].start_seconds, 10.0);
  EXPECT_EQ(read->lines[1].length_seconds, 60.0);
  expect_same_buckets(read->lines[1].histogram, log.lines[1].histogram);
}

TEST(HdrLog, NamesTheLineThatIsWrong) {
  HdrLog log;
  log.lines.push_back({"a", 0, 1, some(1, 10)});
  const auto text = write_hdr_log(log);
  const auto refusal = [](const std::string& content) {
    const auto read = read_hdr_log(content);
    return read ? std::string("accepted") : read.error().message;
  };
  EXPECT_THAT(refusal("hello\n"), HasSubstr("line 1: not an HdrHistogram log"));
  EXPECT_THAT(refusal(""), HasSubstr("no version line"));
  EXPECT_THAT(refusal(text + "Tag=b,1.0,x,1.0,HISTFAAA\n"), HasSubstr("line 7: start or length is not a number"));
  EXPECT_THAT(refusal(text + "Tag=b,1.0\n"), HasSubstr("line 7: fewer than four fields"));
  EXPECT_THAT(refusal(text + "Tag=b,1.0,1.0,1.0,HISTFAAA\n"), HasSubstr("line 7: "));
}

}  // namespace
}  // namespace twinstorm::metrics
