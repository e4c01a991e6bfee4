#include "metrics/hdr_log.hpp"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include <fmt/format.h>
#include <zlib.h>

namespace twinstorm::metrics {
namespace {

constexpr uint32_t kV2Cookie = 0x1c849303 | 0x10;
constexpr uint32_t kV2CompressedCookie = 0x1c849304 | 0x10;
constexpr size_t kHeaderBytes = 40;
// A payload of the widest histogram, each count in the longest form: nothing legitimate is larger.
constexpr size_t kPlainBytesMax = kHeaderBytes + layout::kCountsLength * 9;

void put_u32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}
void put_u64(std::string& out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}
uint32_t get_u32(std::string_view in) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(in[i]);
  return value;
}
uint64_t get_u64(std::string_view in) { return uint64_t{get_u32(in)} << 32 | get_u32(in.substr(4)); }

/// ZigZag LEB128 as HdrHistogram has it: at most 9 bytes, the ninth carrying 8 bits.
void put_varint(std::string& out, int64_t value) {
  auto bits = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
  for (int i = 0; i < 8; ++i) {
    if (bits < 0x80) {
      out.push_back(static_cast<char>(bits));
      return;
    }
    out.push_back(static_cast<char>(bits | 0x80));
    bits >>= 7;
  }
  out.push_back(static_cast<char>(bits));
}

std::optional<int64_t> take_varint(std::string_view& in) {
  uint64_t bits = 0;
  for (int i = 0; i < 9; ++i) {
    if (in.empty()) return std::nullopt;
    const auto byte = static_cast<uint8_t>(in.front());
    in.remove_prefix(1);
    if (i == 8) {
      bits |= uint64_t{byte} << 56;
      break;
    }
    bits |= uint64_t{byte & 0x7fu} << (7 * i);
    if ((byte & 0x80) == 0) break;
  }
  return static_cast<int64_t>(bits >> 1) ^ -static_cast<int64_t>(bits & 1);
}

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string base64(std::string_view in) {
  std::string out;
  out.reserve((in.size() + 2) / 3 * 4);
  for (size_t i = 0; i < in.size(); i += 3) {
    const auto left = std::min<size_t>(3, in.size() - i);
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j) word = word << 8 | (j < left ? static_cast<uint8_t>(in[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) out.push_back(j <= left ? kBase64[word >> (18 - 6 * j) & 63] : '=');
  }
  return out;
}

std::optional<std::string> unbase64(std::string_view in) {
  static constexpr auto kValues = [] {
    std::array<int8_t, 256> values{};
    for (auto& value : values) value = -1;
    for (size_t i = 0; i < kBase64.size(); ++i) values[static_cast<uint8_t>(kBase64[i])] = static_cast<int8_t>(i);
    return values;
  }();
  if (in.size() % 4 != 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && padding < in.size() && in[in.size() - 1 - padding] == '=') ++padding;
  std::string out;
  out.reserve(in.size() / 4 * 3);
  for (size_t i = 0; i < in.size(); i += 4) {
    uint32_t word = 0;
    for (size_t j = 0; j < 4; ++j) {
      const bool padded = i + j >= in.size() - padding;
      const auto value = padded ? 0 : kValues[static_cast<uint8_t>(in[i + j])];
      if (value < 0) return std::nullopt;
      word = word << 6 | static_cast<uint32_t>(value);
    }
    for (int shift = 16; shift >= 0; shift -= 8) out.push_back(static_cast<char>(word >> shift));
  }
  out.resize(out.size() - padding);
  return out;
}

Error corrupt(std::string message) { return make_error(ErrorCode::corrupt, std::move(message)); }

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

std::string encode_hdr_payload(const HistogramSnapshot& histogram) {
  std::string counts;
  size_t next = 0;
  histogram.for_each_bucket([&](uint64_t low, uint64_t, uint64_t n) {
    const auto index = layout::index_of(low);
    if (const auto zeros = index - next; zeros == 1) {
      put_varint(counts, 0);
    } else if (zeros > 1) {
      put_varint(counts, -static_cast<int64_t>(zeros));
    }
    put_varint(counts, static_cast<int64_t>(n));
    next = index + 1;
  });

  std::string plain;
  plain.reserve(kHeaderBytes + counts.size());
  put_u32(plain, kV2Cookie);
  put_u32(plain, static_cast<uint32_t>(counts.size()));
  put_u32(plain, 0);  // normalizing index offset
  put_u32(plain, layout::kSignificantDigits);
  put_u64(plain, layout::kLowestMicros);
  put_u64(plain, layout::kHighestMicros);
  put_u64(plain, std::bit_cast<uint64_t>(1.0));  // integer-to-double conversion ratio
  plain += counts;

  auto packed_size = compressBound(plain.size());
  std::string packed(packed_size, '\0');
  if (compress2(reinterpret_cast<Bytef*>(packed.data()), &packed_size, reinterpret_cast<const Bytef*>(plain.data()),
                plain.size(), Z_DEFAULT_COMPRESSION) != Z_OK) {
    throw std::bad_alloc{};  // the only way compress2 fails with a buffer of compressBound bytes
  }
  packed.resize(packed_size);

  std::string out;
  put_u32(out, kV2CompressedCookie);
  put_u32(out, static_cast<uint32_t>(packed.size()));
  out += packed;
  return base64(out);
}

Result<HistogramSnapshot> decode_hdr_payload(std::string_view text) {
  const auto bytes = unbase64(text);
  if (!bytes) return corrupt("the payload is not base64");
  if (bytes->size() < 8 || get_u32(*bytes) != kV2CompressedCookie) {
    return corrupt("the payload is not a compressed V2 histogram (it should begin with HISTFAAA)");
  }
  const auto packed = std::string_view{*bytes}.substr(8);
  if (get_u32(std::string_view{*bytes}.substr(4)) != packed.size()) return corrupt("the payload is cut short");

  std::string plain(kPlainBytesMax, '\0');
  auto plain_size = static_cast<uLongf>(plain.size());
  if (uncompress(reinterpret_cast<Bytef*>(plain.data()), &plain_size, reinterpret_cast<const Bytef*>(packed.data()),
                 packed.size()) != Z_OK) {
    return corrupt("the payload does not decompress");
  }
  plain.resize(plain_size);
  if (plain.size() < kHeaderBytes || get_u32(plain) != kV2Cookie) {
    return corrupt("the payload is not a V2 histogram");
  }
  const auto header = std::string_view{plain};
  if (get_u32(header.substr(4)) != plain.size() - kHeaderBytes || get_u32(header.substr(8)) != 0 ||
      get_u32(header.substr(12)) != static_cast<uint32_t>(layout::kSignificantDigits) ||
      get_u64(header.substr(16)) != layout::kLowestMicros || get_u64(header.substr(24)) != layout::kHighestMicros) {
    return corrupt("the histogram has another layout than 1 us to 3600 s with 3 digits");
  }

  HistogramSnapshot histogram;
  auto counts = header.substr(kHeaderBytes);
  size_t index = 0;
  while (!counts.empty()) {
    const auto value = take_varint(counts);
    if (!value) return corrupt("the counts are cut short");
    if (*value < 0) {
      const auto zeros = static_cast<uint64_t>(-(*value + 1)) + 1;
      if (zeros > layout::kCountsLength - index) return corrupt("the counts run past the last bucket");
      index += zeros;
      continue;
    }
    if (index >= layout::kCountsLength) return corrupt("the counts run past the last bucket");
    histogram.add_to_bucket(index++, static_cast<uint64_t>(*value));
  }
  return histogram;
}

std::string write_hdr_log(const HdrLog& log) {
  const auto start =
      static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(log.start.time_since_epoch()).count()) /
      1000;
  auto out = fmt::format(
      "#[Histogram log format version 1.3]\n"
      "#[StartTime: {:.3f} (seconds since epoch), {}]\n"
      "#[BaseTime: {:.3f} (seconds since epoch)]\n"
      "#[Values are microseconds; Interval_Max is milliseconds]\n"
      "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
      start, format_iso8601(log.start), start);
  for (const auto& line : log.lines) {
    if (line.histogram.empty()) continue;
    out += fmt::format("Tag={},{:.3f},{:.3f},{:.3f},{}\n", line.tag, line.start_seconds, line.length_seconds,
                       to_seconds(line.histogram.max()) * 1e3, encode_hdr_payload(line.histogram));
  }
  return out;
}

Result<HdrLog> read_hdr_log(std::string_view text) {
  HdrLog log;
  bool versioned = false;
  size_t line_number = 0;
  const auto error = [&](std::string_view problem) {
    return corrupt(fmt::format("line {}: {}", line_number, problem));
  };
  while (!text.empty()) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line.front() == '"') continue;
    if (line.front() == '#') {
      if (line.starts_with("#[Histogram log format version 1.")) versioned = true;
      constexpr std::string_view kStart = "#[StartTime: ";
      if (line.starts_with(kStart)) {
        const auto seconds = number(line.substr(kStart.size(), line.find(' ', kStart.size()) - kStart.size()));
        if (!seconds) return error("the start time is not a number");
        log.start = WallTime{std::chrono::milliseconds{std::llround(*seconds * 1000)}};
      }
      continue;
    }
    if (!versioned) return error("not an HdrHistogram log (no version line)");

    HdrLogLine entry;
    if (line.starts_with("Tag=")) {
      const auto comma = line.find(',');
      if (comma == std::string_view::npos) return error("nothing follows the tag");
      entry.tag = std::string(line.substr(4, comma - 4));
      line.remove_prefix(comma + 1);
    }
    std::array<std::string_view, 4> fields;
    for (size_t i = 0; i < fields.size(); ++i) {
      const auto comma = i + 1 == fields.size() ? std::string_view::npos : line.find(',');
      if (i + 1 < fields.size() && comma == std::string_view::npos) return error("fewer than four fields");
      fields[i] = line.substr(0, comma);
      line.remove_prefix(comma == std::string_view::npos ? line.size() : comma + 1);
    }
    const auto start = number(fields[0]);
    const auto length = number(fields[1]);
    if (!start || !length) return error("start or length is not a number");
    entry.start_seconds = *start;
    entry.length_seconds = *length;
    auto histogram = decode_hdr_payload(fields[3]);
    if (!histogram) return error(histogram.error().message);
    entry.histogram = std::move(*histogram);
    log.lines.push_back(std::move(entry));
  }
  if (!versioned) return corrupt("not an HdrHistogram log (no version line)");
  return log;
}

}  // namespace twinstorm::metrics
