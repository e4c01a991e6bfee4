#include "sim/hub/query/detail/lexer.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace twinstorm::hub::query {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::optional<uint32_t> hex4(std::string_view text, size_t at) {
  if (at + 4 > text.size()) return std::nullopt;
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 4, value, 16);
  if (error != std::errc{} || end != text.data() + at + 4) return std::nullopt;
  return value;
}

void append_utf8(uint32_t code, std::string& out) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xe0 | code >> 12);
    } else {
      put(0xf0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3f));
    }
    put(0x80 | (code >> 6 & 0x3f));
  }
  put(0x80 | (code & 0x3f));
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

twin::TwinError Lexer::error(std::string_view problem, size_t at) const {
  // Characters, not bytes: people count those.
  const auto before = text_.substr(0, at);
  const auto characters = std::count_if(before.begin(), before.end(), [](char c) { return (c & 0xc0) != 0x80; });
  return twin::argument_invalid(fmt::format("query: {} at character {}", problem, characters + 1));
}

twin::TwinResult<Token> Lexer::next() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  const size_t start = at_;
  if (at_ == text_.size()) return Token{Token::Kind::end, start, {}, {}, 0};
  const char c = text_[at_];
  if (is_name_start(c)) {
    while (at_ < text_.size() && (is_name_start(text_[at_]) || is_digit(text_[at_]))) ++at_;
    return Token{Token::Kind::name, start, text_.substr(start, at_ - start), {}, 0};
  }
  if (is_digit(c)) return number(start);
  if (c == '\'' || c == '"') return string(start);
  for (const std::string_view symbol :
       {"!=", "<>", "<=", ">=", "(", ")", "[", "]", ",", ".", "*", "+", "-", "/", "%", "=", "<", ">"}) {
    if (text_.substr(at_).starts_with(symbol)) {
      at_ += symbol.size();
      return Token{Token::Kind::symbol, start, text_.substr(start, symbol.size()), {}, 0};
    }
  }
  return error("a character that is not part of the language", start);
}

twin::TwinResult<Token> Lexer::number(size_t start) {
  Token token{Token::Kind::number, start, {}, {}, 0};
  const char* const begin = text_.data() + start;
  const char* const end = text_.data() + text_.size();
  std::from_chars_result read{};
  if (text_[start] == '0' && start + 1 < text_.size() && lower(text_[start + 1]) == 'x') {
    uint64_t value = 0;
    read = std::from_chars(begin + 2, end, value, 16);
    token.number = static_cast<double>(value);
  } else {
    read = std::from_chars(begin, end, token.number);
  }
  if (read.ec != std::errc{}) return error("a number that cannot be read", start);
  at_ = static_cast<size_t>(read.ptr - text_.data());
  if (at_ < text_.size() && (is_name_start(text_[at_]) || is_digit(text_[at_]))) {
    return error("a number followed directly by a name", start);
  }
  token.text = text_.substr(start, at_ - start);
  return token;
}

twin::TwinResult<Token> Lexer::string(size_t start) {
  Token token{Token::Kind::string, start, {}, {}, 0};
  const char quote = text_[at_++];
  for (; at_ < text_.size() && text_[at_] != quote; ++at_) {
    if (text_[at_] != '\\') {
      token.value += text_[at_];
      continue;
    }
    const char escape = ++at_ < text_.size() ? text_[at_] : '\0';
    if (escape == '\'' || escape == '"' || escape == '\\') {
      token.value += escape;
      continue;
    }
    auto code = escape == 'u' ? hex4(text_, at_ + 1) : std::nullopt;
    if (!code) return error("an escape other than \\' \\\" \\\\ \\uXXXX in a string", at_ - 1);
    at_ += 4;
    if (*code >= 0xd800 && *code < 0xe000) {
      const bool pair = *code < 0xdc00 && text_.substr(at_ + 1).starts_with("\\u");
      const auto second = pair ? hex4(text_, at_ + 3) : std::nullopt;
      if (!second || *second < 0xdc00 || *second >= 0xe000) return error("half a surrogate pair in a string", at_ - 5);
      *code = 0x10000 + ((*code - 0xd800) << 10) + (*second - 0xdc00);
      at_ += 6;
    }
    append_utf8(*code, token.value);
  }
  if (at_ == text_.size()) return error("a string without its closing quote", start);
  ++at_;
  token.text = text_.substr(start, at_ - start);
  return token;
}

twin::TwinResult<std::string> Lexer::take_quoted() {
  const size_t start = at_ + 1;
  const size_t end = text_.find("]]", start);
  if (end == std::string_view::npos) return error("a [[name]] without its closing brackets", at_ - 1);
  if (end == start) return error("an empty [[name]]", at_ - 1);
  at_ = end + 2;
  return std::string{text_.substr(start, end - start)};
}

}  // namespace twinstorm::hub::query
