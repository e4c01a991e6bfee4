// Quantities that people write with a unit: rates, sizes, shares, durations. One parser and one printer for each, so a
// scenario, a flag and a report spell them the same way.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm {

/// Events per second, always the total of whatever it is the rate of. Never negative.
struct Rate {
  double per_second = 0;
  friend bool operator==(const Rate&, const Rate&) = default;
};

using ByteCount = uint64_t;

/// `250us`, `20ms`, `1.5s`, `2m`, `1h30m`, `1d`; a bare number other than 0 is refused because it has no unit.
Result<Nanos> parse_duration(std::string_view text);
/// `50/s`, `3000/min`, `12/h`; also accepts a space before the slash. Refuses negative and non-finite numbers.
Result<Rate> parse_rate(std::string_view text);
/// `256B`, `4KB`, `4KiB`, `1MB`, `1MiB` (K and M are powers of 1024, as in the service's own limits).
Result<ByteCount> parse_size(std::string_view text);
/// `30%` or `0.3`: a share in [0, 1].
Result<double> parse_share(std::string_view text);

/// Shortest form with three significant digits: `250 us`, `20 ms`, `1.5 s`, `2 min`.
std::string format_duration(Nanos value);
/// Exactly `value`, as `parse_duration` reads it: `1500ms`, `30s`, `0s`; the largest unit that needs no fraction.
std::string exact_duration(Nanos value);
std::string format_rate(Rate rate);       ///< `50/s`, `1,200/s`, `0.33/s`
std::string format_size(ByteCount size);  ///< `512 B`, `4.0 KiB`, `1.2 MiB`
std::string format_count(uint64_t n);     ///< `1,234,567`

}  // namespace twinstorm
