#include "sim/base/time.hpp"

#include <fmt/format.h>

#include <array>
#include <cctype>

namespace twinstorm {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::hh_mm_ss;
using std::chrono::sys_days;
using std::chrono::year_month_day;

// What 64 bits of nanoseconds since 1970 can hold, in whole years.
constexpr int kFirstYear = 1678;
constexpr int kLastYear = 2261;

struct Fields {
  year_month_day date;
  hh_mm_ss<Nanos> time;
};

Fields split(WallTime t) {
  const auto day = floor<days>(t);
  return {year_month_day{day}, hh_mm_ss<Nanos>{t - day}};
}

/// Reads exactly `digits` decimal digits; -1 when they are not there.
int take_number(std::string_view& text, size_t digits) {
  if (text.size() < digits) return -1;
  int value = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take_char(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::string format_iso8601(WallTime t) {
  const auto [date, time] = split(t);
  auto text = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                          static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), time.hours().count(),
                          time.minutes().count(), time.seconds().count());
  auto fraction = fmt::format("{:07}", time.subseconds().count() / 100);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (!fraction.empty()) text += '.' + fraction;
  return text + 'Z';
}

std::string format_compact_utc(WallTime t) {
  const auto [date, time] = split(t);
  return fmt::format("{:04}{:02}{:02}T{:02}{:02}{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), time.hours().count(),
                     time.minutes().count(), time.seconds().count());
}

Result<WallTime> parse_iso8601(std::string_view text) {
  const std::string_view whole = text;
  const auto fail = [&] {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("\"{}\" is not an ISO 8601 UTC time (try 2026-03-01T08:00:00Z)", whole));
  };
  const int year = take_number(text, 4);
  if (year < 0 || !take_char(text, '-')) return fail();
  const int month = take_number(text, 2);
  if (month < 0 || !take_char(text, '-')) return fail();
  const int day = take_number(text, 2);
  const year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                            std::chrono::day{static_cast<unsigned>(day)}};
  if (day < 0 || !date.ok()) return fail();
  if (year < kFirstYear || year > kLastYear) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("\"{}\" is not a time of the years {} to {}", whole, kFirstYear, kLastYear));
  }
  WallTime result{sys_days{date}};
  if (text.empty()) return result;
  if (!take_char(text, 'T')) return fail();
  const int hour = take_number(text, 2);
  if (hour < 0 || hour > 23 || !take_char(text, ':')) return fail();
  const int minute = take_number(text, 2);
  if (minute < 0 || minute > 59 || !take_char(text, ':')) return fail();
  const int second = take_number(text, 2);
  if (second < 0 || second > 59) return fail();
  result += std::chrono::hours{hour} + std::chrono::minutes{minute} + std::chrono::seconds{second};
  if (take_char(text, '.')) {
    int64_t scale = 100'000'000;
    if (text.empty() || !std::isdigit(static_cast<unsigned char>(text.front()))) return fail();
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      result += Nanos{(text.front() - '0') * scale};
      scale /= 10;
      text.remove_prefix(1);
    }
  }
  take_char(text, 'Z');
  if (!text.empty()) return fail();
  return result;
}

}  // namespace twinstorm
