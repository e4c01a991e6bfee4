#include "sim/scenario/detail/text.hpp"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace twinstorm::scenario::detail {

std::string exact_rate(Rate rate) {
  // Fixed notation, because the reader takes no exponent.
  auto text = fmt::format("{}", rate.per_second);
  if (text.find('e') != std::string::npos) text = fmt::format("{:.18f}", rate.per_second);
  return text + "/s";
}

std::string exact_share(double share) {
  auto percent = fmt::format("{:.10g}%", share * 100);
  if (percent.find('e') == std::string::npos) {
    const auto back = parse_share(percent);
    if (back && *back == share) return percent;
  }
  auto text = fmt::format("{}", share);
  if (text.find('e') != std::string::npos) text = fmt::format("{:.20f}", share);
  return text;
}

std::string exact_size(ByteCount size) {
  if (size >= 1024 && size % 1024 == 0) return fmt::format("{}KiB", size / 1024);
  return fmt::format("{}B", size);
}

void append_quoted(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        } else {
          out.push_back(c);
        }
    }
  }
  out.push_back('"');
}

std::string quoted(std::string_view text) {
  std::string out;
  append_quoted(out, text);
  return out;
}

std::string shortened(std::string_view text, size_t limit) {
  // Whatever is shown may be a connection string in the wrong place.
  if (const auto secret = text.find("SharedAccess"); secret != std::string_view::npos) {
    return shortened(text.substr(0, secret), limit) + "...";
  }
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    const bool starts_character = (c & 0xC0) != 0x80;
    if (starts_character && out.size() >= limit) return out + "...";
    out.push_back(c < 0x20 || c == 0x7f ? ' ' : text[at]);
  }
  return out;
}

}  // namespace twinstorm::scenario::detail
