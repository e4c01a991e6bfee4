// HdrHistogram's interval log, version 1.3: text lines `Tag=<tag>,<start>,<length>,<max>,<payload>`, the payload being
// a V2 histogram (ZigZag LEB128 counts), zlib-compressed, in base64 (it begins `HISTFAAA`). Values are microseconds, so
// readers that ask for a unit ratio want 1000 for milliseconds. Sources: HdrHistogram's HistogramLogWriter.java,
// AbstractHistogram.encodeIntoCompressedByteBuffer, ZigZagLEB128Codec.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "metrics/histogram.hpp"
#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::metrics {

struct HdrLogLine {
  std::string tag;           ///< series: `rollout.intended`, `convergence.total`; no comma, blank or line break
  double start_seconds = 0;  ///< since the log's start time
  double length_seconds = 0;
  HistogramSnapshot histogram;
};

struct HdrLog {
  WallTime start{};
  std::vector<HdrLogLine> lines;
};

/// The whole log as text, header included. Empty histograms are left out.
std::string write_hdr_log(const HdrLog& log);
/// Reads what `write_hdr_log` writes, and any log of the same layout. Errors (`corrupt`) name the line and the problem.
Result<HdrLog> read_hdr_log(std::string_view text);

/// One payload: `HISTFAAA...`.
std::string encode_hdr_payload(const HistogramSnapshot& histogram);
Result<HistogramSnapshot> decode_hdr_payload(std::string_view base64);

}  // namespace twinstorm::metrics
