// A small run with something of everything: fixed values, so that what is made from it can be compared byte by byte.
#pragma once

#include "metrics/run_record.hpp"

namespace twinstorm::report::testing {

/// 75 s, 5,000 devices; one objective failed, one undecided, one invariant violated, throttling in the middle.
metrics::LoadedRun failed_run();
/// The same without anything wrong.
metrics::LoadedRun passed_run();
/// An hour of one-second intervals and 20 streams.
metrics::LoadedRun long_run();

}  // namespace twinstorm::report::testing
