#include "sim/scenario/text_pattern.hpp"

#include <charconv>

#include <fmt/format.h>

namespace twinstorm::scenario {
namespace {

Error bad(std::string_view text, std::string_view what, std::string_view hint) {
  return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\" {} ({})", text, what, hint));
}

}  // namespace

Result<TextPattern> TextPattern::parse(std::string_view text, std::optional<std::string_view> fleet) {
  TextPattern pattern;
  const auto literal = [&]() -> std::string& { return pattern.has_index_ ? pattern.suffix_ : pattern.prefix_; };
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      literal().push_back(c);
      continue;
    }
    if (at + 1 < text.size() && text[at + 1] == c) {
      literal().push_back(c);
      ++at;
      continue;
    }
    const auto close = c == '{' ? text.find('}', at) : std::string_view::npos;
    if (close == std::string_view::npos) return bad(text, "has a single brace", "write {index}, or {{ for a brace");
    const auto name = text.substr(at + 1, close - at - 1);
    at = close;
    if (name == "fleet" && fleet) {
      literal().append(*fleet);
      continue;
    }
    if (name != "index" && !name.starts_with("index:")) {
      return bad(text, fmt::format("has an unknown placeholder {{{}}}", name),
                 fleet ? "try {index}, {index:05} or {fleet}" : "try {index} or {index:05}");
    }
    if (pattern.has_index_) return bad(text, "has two {index}", "keep one");
    pattern.has_index_ = true;
    if (name == "index") continue;
    const auto width = name.substr(6);
    unsigned digits = 0;
    const auto [end, error] = std::from_chars(width.data(), width.data() + width.size(), digits);
    if (error != std::errc{} || end != width.data() + width.size() || !width.starts_with('0') || digits == 0 ||
        digits > 20) {
      return bad(text, fmt::format("has an index format :{}", width),
                 "try {index:05}, zero-padded to at most 20 digits");
    }
    pattern.width_ = static_cast<uint8_t>(digits);
  }
  return pattern;
}

void TextPattern::append(std::string& out, uint64_t index) const {
  out += prefix_;
  if (has_index_) {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, index).ptr;
    const auto length = static_cast<size_t>(end - digits);
    if (length < width_) out.append(width_ - length, '0');
    out.append(digits, length);
  }
  out += suffix_;
}

std::string TextPattern::format(uint64_t index) const {
  std::string out;
  append(out, index);
  return out;
}

std::optional<uint64_t> TextPattern::match(std::string_view text) const {
  if (text.size() < prefix_.size() + suffix_.size() || !text.starts_with(prefix_) || !text.ends_with(suffix_)) {
    return std::nullopt;
  }
  const auto digits = text.substr(prefix_.size(), text.size() - prefix_.size() - suffix_.size());
  if (!has_index_) return digits.empty() ? std::optional<uint64_t>{0} : std::nullopt;
  uint64_t index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  if (format(index) != text) return std::nullopt;  // other padding than ours
  return index;
}

}  // namespace twinstorm::scenario
