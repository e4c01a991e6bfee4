// What a scripted hub does with time: how long each operation waits for its answer, and the stamps that prove it.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "sim/base/time.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::scripted_hub {

/// `none`, `constant:20ms` or `bimodal:5ms,50ms,90%` (the first for that share of the operations, evenly mixed).
struct Delay {
  Nanos common{0};
  Nanos rare{0};
  double share_common = 1;

  bool none() const { return common == Nanos{0} && (share_common >= 1 || rare == Nanos{0}); }

  /// Of the n-th operation. Multiples of the golden ratio: any n in a row hold both delays in their shares, give or
  /// take one.
  Nanos of(uint64_t n) const {
    if (share_common >= 1) return common;
    double whole = 0;
    return std::modf(static_cast<double>(n) * 0.6180339887498949, &whole) < share_common ? common : rare;
  }
};

inline Result<Delay> parse_delay(std::string_view text) {
  const auto fail = [&](std::string_view why) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("--delay {}: {}; write none, constant:20ms or bimodal:5ms,50ms,90%", text, why));
  };
  if (text == "none") return Delay{};
  if (text.starts_with("constant:")) {
    const auto value = parse_duration(text.substr(9));
    if (!value) return fail(value.error().message);
    return Delay{*value, Nanos{0}, 1};
  }
  if (!text.starts_with("bimodal:")) return fail("no such kind of delay");
  const auto rest = text.substr(8);
  const auto first = rest.find(','), second = rest.rfind(',');
  if (first == std::string_view::npos || first == second) return fail("three values are needed");
  const auto common = parse_duration(rest.substr(0, first));
  const auto rare = parse_duration(rest.substr(first + 1, second - first - 1));
  const auto share = parse_share(rest.substr(second + 1));
  if (!common || !rare || !share) return fail("a value cannot be read");
  return Delay{*common, *rare, *share};
}

/// No answer leaves between `at` and `at + length` after the first operation: those due then leave at its end.
struct Stall {
  Nanos at{0};
  Nanos length{0};
};

inline Result<Stall> parse_stall(std::string_view text) {
  const auto comma = text.find(',');
  const auto at = parse_duration(text.substr(0, comma));
  const auto length = parse_duration(comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1));
  if (!at || !length) {
    return make_error(ErrorCode::invalid_argument, fmt::format("--stall {}: write when and how long, as 2s,1s", text));
  }
  return Stall{*at, *length};
}

/// When the answer to the n-th operation leaves, by the script alone. `first` is when operation 0 came.
inline MonoTime answer_due(const Delay& delay, const Stall& stall, MonoTime first, MonoTime received, uint64_t n) {
  const MonoTime due = received + delay.of(n);
  const MonoTime from = first + stall.at, until = from + stall.length;
  return due >= from && due < until ? until : due;
}

}  // namespace twinstorm::scripted_hub
