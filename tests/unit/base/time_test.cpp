#include "sim/base/time.hpp"

#include <gtest/gtest.h>

namespace twinstorm {
namespace {

using namespace std::chrono_literals;

WallTime at(int64_t seconds, int64_t nanos = 0) { return WallTime{std::chrono::seconds{seconds} + Nanos{nanos}}; }

std::string error_of(std::string_view text) {
  const auto result = parse_iso8601(text);
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  return result.error().message;
}

TEST(Iso8601, PrintsAtMostSevenFractionDigitsWithoutTrailingZeros) {
  EXPECT_EQ(format_iso8601(at(0)), "1970-01-01T00:00:00Z");
  EXPECT_EQ(format_iso8601(at(1'772'352'000, 123'456'789)), "2026-03-01T08:00:00.1234567Z");
  EXPECT_EQ(format_iso8601(at(1'772'352'000, 120'000'000)), "2026-03-01T08:00:00.12Z");
  EXPECT_EQ(format_iso8601(at(1'772'352'000, 99)), "2026-03-01T08:00:00Z");  // below 100 ns
}

TEST(Iso8601, PrintsTimesBefore1970WithAPositiveFraction) {
  EXPECT_EQ(format_iso8601(at(-1, 500'000'000)), "1969-12-31T23:59:59.5Z");
}

TEST(Iso8601, CompactFormSortsAndIsAFileName) {
  EXPECT_EQ(format_compact_utc(at(1'772'352'000, 999'999'999)), "20260301T080000Z");
}

TEST(Iso8601, ReadsDatesTimesAndFractions) {
  EXPECT_EQ(parse_iso8601("2026-03-01").value(), at(1'772'323'200));
  EXPECT_EQ(parse_iso8601("2026-03-01T08:00:00Z").value(), at(1'772'352'000));
  EXPECT_EQ(parse_iso8601("2026-03-01T08:00:00").value(), at(1'772'352'000));
  EXPECT_EQ(parse_iso8601("2026-03-01T08:00:00.1234567Z").value(), at(1'772'352'000, 123'456'700));
  EXPECT_EQ(parse_iso8601("2026-03-01T08:00:00.1234567891234Z").value(), at(1'772'352'000, 123'456'789));
  EXPECT_EQ(parse_iso8601("2024-02-29").value(), at(1'709'164'800));
}

TEST(Iso8601, ReadsBackWhatItPrints) {
  for (const int64_t seconds : {-9'000'000'000LL, -1LL, 0LL, 951'782'399LL, 951'782'400LL, 9'000'000'000LL}) {
    const WallTime time = at(seconds, 7'654'300);
    EXPECT_EQ(parse_iso8601(format_iso8601(time)).value(), time) << format_iso8601(time);
  }
}

TEST(Iso8601, RefusesWhatIsNoTimeAndSaysWhatOneLooksLike) {
  EXPECT_EQ(error_of("yesterday"), "\"yesterday\" is not an ISO 8601 UTC time (try 2026-03-01T08:00:00Z)");
  for (const auto* text : {"", "2026", "2026-3-01", "2026-13-01", "2026-02-29", "2026-03-01T", "2026-03-01T24:00:00Z",
                           "2026-03-01T08:60:00Z", "2026-03-01T08:00:60Z", "2026-03-01T08:00Z", "2026-03-01T08:00:00.Z",
                           "2026-03-01T08:00:00+01:00", "2026-03-01T08:00:00Zz", " 2026-03-01"}) {
    EXPECT_NE(error_of(text).find("is not an ISO 8601 UTC time"), std::string::npos) << text;
  }
}

TEST(Iso8601, RefusesYearsThatNanosecondsCannotHold) {
  EXPECT_EQ(error_of("0001-01-01T00:00:00Z"), "\"0001-01-01T00:00:00Z\" is not a time of the years 1678 to 2261");
  EXPECT_EQ(error_of("2262-01-01"), "\"2262-01-01\" is not a time of the years 1678 to 2261");
  EXPECT_EQ(format_iso8601(parse_iso8601("1678-01-01T00:00:00Z").value()), "1678-01-01T00:00:00Z");
  EXPECT_EQ(format_iso8601(parse_iso8601("2261-12-31T23:59:59Z").value()), "2261-12-31T23:59:59Z");
}

TEST(Seconds, RoundToTheNearestNanosecond) {
  EXPECT_EQ(from_seconds(1.5), 1500ms);
  EXPECT_EQ(from_seconds(1e-9), 1ns);
  EXPECT_EQ(from_seconds(-0.25), -250ms);
  EXPECT_EQ(from_seconds(0.1 + 0.2), 300ms);
  EXPECT_DOUBLE_EQ(to_seconds(250ms), 0.25);
}

TEST(ManualClock, MovesBothTimesTogetherAndOnlyWhenTold) {
  ManualClock clock;
  const MonoTime mono = clock.mono();
  const WallTime wall = clock.wall();
  EXPECT_EQ(clock.mono(), mono);
  clock.advance(3s);
  EXPECT_EQ(clock.mono() - mono, 3s);
  EXPECT_EQ(clock.wall() - wall, 3s);
  EXPECT_EQ(unix_seconds(clock.wall()), 1'700'000'003);
}

}  // namespace
}  // namespace twinstorm
