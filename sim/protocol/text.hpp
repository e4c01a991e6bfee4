// Small text helpers of this module: splitting without allocation, ASCII comparison without case, decimal numbers.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>

namespace twinstorm::protocol {

/// The parts of `text` between separators, one after the other; a text without separator is one part, an empty text
/// none.
class TextSplitter {
 public:
  TextSplitter(std::string_view text, char separator) : rest_{text}, separator_{separator}, more_{!text.empty()} {}
  bool next() {
    if (!more_) return false;
    const size_t end = rest_.find(separator_);
    part_ = rest_.substr(0, end);
    more_ = end != std::string_view::npos;
    if (more_) rest_.remove_prefix(end + 1);
    return true;
  }
  std::string_view part() const { return part_; }

 private:
  std::string_view rest_;
  std::string_view part_;
  char separator_;
  bool more_;
};

constexpr char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

constexpr bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (ascii_lower(a[i]) != ascii_lower(b[i])) return false;
  }
  return true;
}

constexpr bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && equal_ignoring_case(text.substr(0, prefix.size()), prefix);
}

/// The whole text as a decimal number of the type; nullopt for anything else, a sign `+` or an overflow included.
template <std::integral T>
std::optional<T> parse_decimal(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace twinstorm::protocol
