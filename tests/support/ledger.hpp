// What a recorder holds about one stream, as plain numbers that tests compare and print.
#pragma once

#include <cstdint>
#include <ostream>

#include <gtest/gtest.h>

#include "metrics/shard_recorder.hpp"

namespace twinstorm::testing {

struct Ledger {
  uint64_t asked = 0, sent = 0, acknowledged = 0, failed = 0, timed_out = 0, dropped = 0;

  uint64_t in_flight() const { return sent - acknowledged - failed - timed_out; }
  friend bool operator==(const Ledger&, const Ledger&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Ledger& l) {
    return out << "asked " << l.asked << ", sent " << l.sent << ", acknowledged " << l.acknowledged << ", failed "
               << l.failed << ", timed out " << l.timed_out << ", dropped " << l.dropped;
  }
};

/// Over all phases.
inline Ledger ledger_of(const metrics::ShardRecorder& recorder, metrics::StreamIndex stream) {
  Ledger sum;
  for (metrics::PhaseIndex phase = 0; phase < recorder.layout().phases.size(); ++phase) {
    const auto& cell = recorder.cell(stream, phase);
    sum.asked += cell.asked.get();
    sum.sent += cell.sent.get();
    sum.acknowledged += cell.acknowledged.get();
    sum.failed += cell.failed.get();
    sum.timed_out += cell.timed_out.get();
    sum.dropped += cell.dropped.get();
  }
  return sum;
}

/// asked = sent + dropped, and sent = acknowledged + failed + timed out + `open`, summed over all streams (`open` is
/// the whole pool's). Nothing may be waiting to be started.
inline void expect_ledger_adds_up(const metrics::ShardRecorder& recorder, uint64_t open) {
  uint64_t in_flight = 0;
  for (metrics::StreamIndex stream = 0; stream < recorder.layout().streams.size(); ++stream) {
    const Ledger sums = ledger_of(recorder, stream);
    const auto& name = recorder.layout().streams[stream].name;
    EXPECT_EQ(sums.asked, sums.sent + sums.dropped) << name << ": " << sums;
    EXPECT_GE(sums.sent, sums.acknowledged + sums.failed + sums.timed_out) << name << ": " << sums;
    in_flight += sums.in_flight();
  }
  EXPECT_EQ(in_flight, open);
}

inline uint64_t errors_of(const metrics::ShardRecorder& recorder, metrics::StreamIndex stream,
                          metrics::ErrorClass error) {
  uint64_t sum = 0;
  for (metrics::PhaseIndex phase = 0; phase < recorder.layout().phases.size(); ++phase) {
    sum += recorder.cell(stream, phase).errors[static_cast<size_t>(error)].count.get();
  }
  return sum;
}

}  // namespace twinstorm::testing
