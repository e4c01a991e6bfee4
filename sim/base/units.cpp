#include "sim/base/units.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace twinstorm {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// A finite, non-negative decimal number at the front of `text`, which is then shortened by it and blanks behind it.
std::optional<double> take_number(std::string_view& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc{} || !std::isfinite(value) || value < 0) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return value;
}

Error bad(std::string_view text, std::string_view what, std::string_view hint) {
  return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\" is not a {} (try {})", text, what, hint));
}

std::optional<double> duration_unit(std::string_view unit) {
  if (unit == "ns") return 1e-9;
  if (unit == "us" || unit == "µs") return 1e-6;
  if (unit == "ms") return 1e-3;
  if (unit == "s") return 1.0;
  if (unit == "m" || unit == "min") return 60.0;
  if (unit == "h") return 3600.0;
  if (unit == "d") return 86400.0;
  return std::nullopt;
}

std::string three_digits(double value) {
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  auto text = fmt::format("{:.{}f}", value, decimals);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text;
}

}  // namespace

Result<Nanos> parse_duration(std::string_view whole) {
  auto text = trim(whole);
  if (text == "0") return Nanos{0};
  if (text.empty()) return bad(whole, "duration", "30s, 250ms or 1h30m");
  double seconds = 0;
  while (!text.empty()) {
    const auto number = take_number(text);
    size_t length = 0;
    while (length < text.size() && text[length] != ' ' && (text[length] < '0' || text[length] > '9')) ++length;
    const auto unit = duration_unit(text.substr(0, length));
    if (!number || !unit) return bad(whole, "duration", "30s, 250ms or 1h30m");
    seconds += *number * *unit;
    text = trim(text.substr(length));
  }
  if (seconds > 9.2e9) return bad(whole, "duration below 292 years", "30s");
  return from_seconds(seconds);
}

Result<Rate> parse_rate(std::string_view whole) {
  auto text = trim(whole);
  const auto number = take_number(text);
  if (!number || text.empty() || text.front() != '/') return bad(whole, "rate", "50/s or 3000/min");
  text = trim(text.substr(1));
  if (text == "s" || text == "sec") return Rate{*number};
  if (text == "min" || text == "m") return Rate{*number / 60};
  if (text == "h") return Rate{*number / 3600};
  return bad(whole, "rate", "50/s or 3000/min");
}

Result<ByteCount> parse_size(std::string_view whole) {
  auto text = trim(whole);
  const auto number = take_number(text);
  double unit = 0;
  if (text == "B") unit = 1;
  if (text == "KB" || text == "KiB") unit = 1024;
  if (text == "MB" || text == "MiB") unit = 1024.0 * 1024;
  if (text == "GB" || text == "GiB") unit = 1024.0 * 1024 * 1024;
  if (!number || unit == 0 || *number * unit > 1e15) return bad(whole, "size", "256B, 4KB or 1MB");
  return static_cast<ByteCount>(std::llround(*number * unit));
}

Result<double> parse_share(std::string_view whole) {
  auto text = trim(whole);
  auto number = take_number(text);
  if (number && text == "%") {
    *number /= 100;
    text = {};
  }
  if (!number || !text.empty() || *number > 1) return bad(whole, "share between 0% and 100%", "30%");
  return *number;
}

std::string format_duration(Nanos value) {
  if (value < Nanos{0}) return "-" + format_duration(-value);
  const double s = to_seconds(value);
  if (s == 0) return "0 s";
  if (s < 1e-6) return three_digits(s * 1e9) + " ns";
  // The next unit takes over where three digits would round up to 1000.
  if (s < 0.9995e-3) return three_digits(s * 1e6) + " us";
  if (s < 0.9995) return three_digits(s * 1e3) + " ms";
  if (s < 120) return three_digits(s) + " s";
  if (s < 7200) return three_digits(s / 60) + " min";
  return three_digits(s / 3600) + " h";
}

std::string format_count(uint64_t n) {
  auto digits = std::to_string(n);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string exact_duration(Nanos value) {
  static constexpr std::array<std::pair<const char*, int64_t>, 5> kUnits{
      {{"h", 3'600'000'000'000}, {"m", 60'000'000'000}, {"s", 1'000'000'000}, {"ms", 1'000'000}, {"us", 1'000}}};
  if (value == Nanos{0}) return "0s";
  for (const auto& [name, unit] : kUnits) {
    if (value.count() % unit == 0) return fmt::format("{}{}", value.count() / unit, name);
  }
  return fmt::format("{}ns", value.count());
}

std::string format_rate(Rate rate) {
  if (rate.per_second >= 999.5) return format_count(static_cast<uint64_t>(std::llround(rate.per_second))) + "/s";
  return three_digits(rate.per_second) + "/s";
}

std::string format_size(ByteCount size) {
  const auto value = static_cast<double>(size);
  if (size < 1024) return fmt::format("{} B", size);
  if (size < 1024 * 1024) return fmt::format("{:.1f} KiB", value / 1024);
  if (size < 1024ULL * 1024 * 1024) return fmt::format("{:.1f} MiB", value / (1024 * 1024));
  return fmt::format("{:.1f} GiB", value / (1024.0 * 1024 * 1024));
}

}  // namespace twinstorm
