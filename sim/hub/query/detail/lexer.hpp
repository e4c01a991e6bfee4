// Tokens of the query language. Private to sim/hub/query.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/twin/limits.hpp"

namespace twinstorm::hub::query {

struct Token {
  enum class Kind : uint8_t { end, name, number, string, symbol };
  Kind kind = Kind::end;
  size_t at = 0;          // byte offset in the query
  std::string_view text;  // as written; a symbol is one of ( ) [ ] , . * + - / % = != <> < > <= >=
  std::string value;      // of a string: without quotes and escapes
  double number = 0;      // of a number
};

bool equal_ignoring_case(std::string_view a, std::string_view b);

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_{text} {}

  /// Errors: 400 ArgumentInvalid for characters, numbers and strings that are none of the language.
  twin::TwinResult<Token> next();
  /// After the first `[` of `[[`: the raw text up to `]]`, which is consumed.
  twin::TwinResult<std::string> take_quoted();
  /// True when the next character is `[`, without any space before it.
  bool at_bracket() const { return at_ < text_.size() && text_[at_] == '['; }
  /// `query: <problem> at character 17`.
  twin::TwinError error(std::string_view problem, size_t at) const;

 private:
  twin::TwinResult<Token> number(size_t start);
  twin::TwinResult<Token> string(size_t start);

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace twinstorm::hub::query
