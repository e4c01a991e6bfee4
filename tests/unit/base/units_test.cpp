#include "sim/base/units.hpp"

#include <gtest/gtest.h>

namespace twinstorm {
namespace {

using namespace std::chrono_literals;

/// The message of a refused text, with its code checked; "accepted" otherwise.
template <class T>
std::string refusal(const Result<T>& result) {
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  return result.error().message;
}

TEST(Duration, ReadsEveryUnitAndSums) {
  EXPECT_EQ(parse_duration("7ns").value(), 7ns);
  EXPECT_EQ(parse_duration("250us").value(), 250us);
  EXPECT_EQ(parse_duration("250µs").value(), 250us);
  EXPECT_EQ(parse_duration("20ms").value(), 20ms);
  EXPECT_EQ(parse_duration("1.5s").value(), 1500ms);
  EXPECT_EQ(parse_duration("2m").value(), 2min);
  EXPECT_EQ(parse_duration("2min").value(), 2min);
  EXPECT_EQ(parse_duration("1h30m").value(), 90min);
  EXPECT_EQ(parse_duration("1d").value(), 24h);
  EXPECT_EQ(parse_duration(" 1 h 30 m ").value(), 90min);
  EXPECT_EQ(parse_duration("0").value(), 0ns);
  EXPECT_EQ(parse_duration("0s").value(), 0ns);
}

TEST(Duration, RefusesNumbersWithoutUnitAndOtherMistakes) {
  EXPECT_EQ(refusal(parse_duration("30")), "\"30\" is not a duration (try 30s, 250ms or 1h30m)");
  for (const auto* text : {"", " ", "s", "-1s", "1x", "1s2", "1.2.3s", "infs", "nans", "1e3s", "1hour", "00"}) {
    EXPECT_EQ(refusal(parse_duration(text)),
              '"' + std::string{text} + "\" is not a duration (try 30s, 250ms or 1h30m)");
  }
}

TEST(Duration, RefusesWhatDoesNotFitInNanoseconds) {
  EXPECT_EQ(refusal(parse_duration("200000d")), "\"200000d\" is not a duration below 292 years (try 30s)");
  EXPECT_EQ(parse_duration("100000d").value(), 2'400'000h);
}

TEST(Rate, ReadsPerSecondMinuteAndHour) {
  EXPECT_DOUBLE_EQ(parse_rate("50/s").value().per_second, 50);
  EXPECT_DOUBLE_EQ(parse_rate("50 / sec").value().per_second, 50);
  EXPECT_DOUBLE_EQ(parse_rate("3000/min").value().per_second, 50);
  EXPECT_DOUBLE_EQ(parse_rate("3000/m").value().per_second, 50);
  EXPECT_DOUBLE_EQ(parse_rate("1800/h").value().per_second, 0.5);
  EXPECT_DOUBLE_EQ(parse_rate("0.25/s").value().per_second, 0.25);
  EXPECT_DOUBLE_EQ(parse_rate("0/s").value().per_second, 0);
}

TEST(Rate, RefusesNegativeUnitlessAndUnknown) {
  for (const auto* text : {"", "50", "/s", "-5/s", "50/", "50/d", "50/s/device", "inf/s", "50s"}) {
    EXPECT_EQ(refusal(parse_rate(text)), '"' + std::string{text} + "\" is not a rate (try 50/s or 3000/min)");
  }
}

TEST(Size, UnitsArePowersOf1024) {
  EXPECT_EQ(parse_size("256B").value(), 256u);
  EXPECT_EQ(parse_size("4KB").value(), 4096u);
  EXPECT_EQ(parse_size("4 KiB").value(), 4096u);
  EXPECT_EQ(parse_size("1MB").value(), 1u << 20);
  EXPECT_EQ(parse_size("1.5MiB").value(), 3u << 19);
  EXPECT_EQ(parse_size("2GiB").value(), 2ull << 30);
}

TEST(Size, RefusesUnitlessNegativeAndHuge) {
  for (const auto* text : {"", "256", "B", "-1B", "1kb", "1TB", "99999999GB"}) {
    EXPECT_EQ(refusal(parse_size(text)), '"' + std::string{text} + "\" is not a size (try 256B, 4KB or 1MB)");
  }
}

TEST(Share, IsAPercentageOrAFraction) {
  EXPECT_DOUBLE_EQ(parse_share("30%").value(), 0.3);
  EXPECT_DOUBLE_EQ(parse_share("0.1 %").value(), 0.001);
  EXPECT_DOUBLE_EQ(parse_share("0.3").value(), 0.3);
  EXPECT_DOUBLE_EQ(parse_share("100%").value(), 1);
  EXPECT_DOUBLE_EQ(parse_share("1").value(), 1);
}

TEST(Share, RefusesWhatIsOutsideZeroToOne) {
  for (const auto* text : {"", "%", "101%", "1.1", "-1%", "30%%", "many"}) {
    EXPECT_EQ(refusal(parse_share(text)), '"' + std::string{text} + "\" is not a share between 0% and 100% (try 30%)");
  }
}

TEST(FormatDuration, HasThreeSignificantDigits) {
  EXPECT_EQ(format_duration(0ns), "0 s");
  EXPECT_EQ(format_duration(17ns), "17 ns");
  EXPECT_EQ(format_duration(250us), "250 us");
  EXPECT_EQ(format_duration(1234us), "1.23 ms");
  EXPECT_EQ(format_duration(20ms), "20 ms");
  EXPECT_EQ(format_duration(1500ms), "1.5 s");
  EXPECT_EQ(format_duration(119s), "119 s");
  EXPECT_EQ(format_duration(2min), "2 min");
  EXPECT_EQ(format_duration(3h), "3 h");
  EXPECT_EQ(format_duration(-20ms), "-20 ms");
}

TEST(FormatDuration, GoesToTheNextUnitRatherThanToAThousand) {
  EXPECT_EQ(format_duration(999'400ns), "999 us");
  EXPECT_EQ(format_duration(999'600ns), "1 ms");
  EXPECT_EQ(format_duration(999'999'999ns), "1 s");
}

TEST(FormatOthers, ReadWellAtEverySize) {
  EXPECT_EQ(format_rate({0.3333}), "0.33/s");
  EXPECT_EQ(format_rate({50}), "50/s");
  EXPECT_EQ(format_rate({999.4}), "999/s");
  EXPECT_EQ(format_rate({999.7}), "1,000/s");
  EXPECT_EQ(format_rate({1234567}), "1,234,567/s");
  EXPECT_EQ(format_size(512), "512 B");
  EXPECT_EQ(format_size(4096), "4.0 KiB");
  EXPECT_EQ(format_size(1258291), "1.2 MiB");
  EXPECT_EQ(format_size(5ull << 30), "5.0 GiB");
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(1234567), "1,234,567");
}

}  // namespace
}  // namespace twinstorm
