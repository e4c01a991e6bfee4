// Time as a parameter: two clocks, their points, and their text forms.
//
// `MonoTime` measures and schedules (never steps, comparable only inside one machine since boot); `WallTime` labels and
// dates (may step). Leaf code takes a point or a `Clock&`; nothing below `sim/run` and `sim/hub` asks the system itself.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm {

using Nanos = std::chrono::nanoseconds;
using MonoTime = std::chrono::time_point<std::chrono::steady_clock, Nanos>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Nanos>;

/// A source of both times. Implementations are safe to call from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonoTime mono() const = 0;
  virtual WallTime wall() const = 0;
};

/// The machine's clocks (CLOCK_MONOTONIC and CLOCK_REALTIME).
class SteadyClock final : public Clock {
 public:
  MonoTime mono() const override { return std::chrono::steady_clock::now(); }
  WallTime wall() const override { return std::chrono::system_clock::now(); }
};

/// A clock that stands still until told to move: for tests. Moving is not synchronised with readers of other threads
/// beyond the value itself.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(WallTime wall = WallTime{std::chrono::seconds{1'700'000'000}}) : wall_start_{wall} {}
  MonoTime mono() const override { return MonoTime{Nanos{elapsed_.load()}}; }
  WallTime wall() const override { return wall_start_ + Nanos{elapsed_.load()}; }
  void advance(Nanos by) { elapsed_ += by.count(); }

 private:
  WallTime wall_start_;
  std::atomic<int64_t> elapsed_{0};
};

inline double to_seconds(Nanos d) { return static_cast<double>(d.count()) * 1e-9; }
inline Nanos from_seconds(double s) { return Nanos{static_cast<int64_t>(s * 1e9 + (s < 0 ? -0.5 : 0.5))}; }
inline int64_t unix_seconds(WallTime t) {
  return std::chrono::duration_cast<std::chrono::seconds>(t.time_since_epoch()).count();
}

/// `2026-03-01T08:00:00.1234567Z`: UTC, at most 7 fraction digits with trailing zeros trimmed, the form the service
/// prints (IoT Hub twin `$lastUpdated`).
std::string format_iso8601(WallTime t);
/// `20260301T080000Z`: sortable and legal in file names.
std::string format_compact_utc(WallTime t);
/// Parses `YYYY-MM-DD[THH:MM:SS[.fraction][Z]]`, UTC, of the years 1678 to 2261; fails with `ErrorCode::invalid_argument`.
Result<WallTime> parse_iso8601(std::string_view text);

}  // namespace twinstorm
