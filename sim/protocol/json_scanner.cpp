#include "sim/protocol/json_scanner.hpp"

#include <cstring>

#include "sim/protocol/text.hpp"

namespace twinstorm::protocol {
namespace {

using Cursor = const char*;

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

Cursor skip_blanks(Cursor at, Cursor end) {
  while (at != end && is_blank(*at)) ++at;
  return at;
}

/// `at` is the opening quote. Behind the closing quote, or nullptr when there is none.
Cursor skip_string(Cursor at, Cursor end) {
  const Cursor inside = at + 1;
  for (Cursor from = inside; from != end;) {
    const auto* quote = static_cast<Cursor>(std::memchr(from, '"', static_cast<size_t>(end - from)));
    if (quote == nullptr) return nullptr;
    // An odd number of backslashes in front of the quote escapes it.
    Cursor backslash = quote;
    while (backslash != inside && backslash[-1] == '\\') --backslash;
    if ((quote - backslash) % 2 == 0) return quote + 1;
    from = quote + 1;
  }
  return nullptr;
}

/// `at` is `{` or `[`. Behind the matching bracket, or nullptr when brackets do not balance or nest too deep.
Cursor skip_container(Cursor at, Cursor end) {
  uint64_t kinds = 0;  // bit 0 is the innermost container: 1 = object
  int depth = 0;
  while (at != end) {
    switch (*at) {
      case '"':
        at = skip_string(at, end);
        if (at == nullptr) return nullptr;
        continue;
      case '{':
      case '[':
        if (++depth > kJsonDepthMax) return nullptr;
        kinds = kinds << 1 | (*at == '{' ? 1U : 0U);
        break;
      case '}':
      case ']':
        if ((kinds & 1) != (*at == '}' ? 1U : 0U)) return nullptr;
        kinds >>= 1;
        if (--depth == 0) return at + 1;
        break;
      default:
        break;
    }
    ++at;
  }
  return nullptr;
}

Cursor skip_value(Cursor at, Cursor end) {
  if (at == end) return nullptr;
  if (*at == '"') return skip_string(at, end);
  if (*at == '{' || *at == '[') return skip_container(at, end);
  const Cursor begin = at;
  while (at != end && !is_blank(*at) && *at != ',' && *at != '}' && *at != ']' && *at != '"' && *at != ':' &&
         *at != '{' && *at != '[') {
    ++at;
  }
  return at == begin ? nullptr : at;
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = ascii_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// Four hex digits at the front of `text`, or -1.
int take_hex4(std::string_view& text) {
  if (text.size() < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_value(text[static_cast<size_t>(i)]);
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  text.remove_prefix(4);
  return value;
}

/// One character of an escaped string as UTF-8; 0 bytes for a broken escape.
size_t unescape_one(std::string_view& text, char (&out)[4]) {
  if (text.front() != '\\') {
    out[0] = text.front();
    text.remove_prefix(1);
    return 1;
  }
  if (text.size() < 2) return 0;
  const char kind = text[1];
  text.remove_prefix(2);
  switch (kind) {
    case '"':
    case '\\':
    case '/':
      out[0] = kind;
      return 1;
    case 'b':
      out[0] = '\b';
      return 1;
    case 'f':
      out[0] = '\f';
      return 1;
    case 'n':
      out[0] = '\n';
      return 1;
    case 'r':
      out[0] = '\r';
      return 1;
    case 't':
      out[0] = '\t';
      return 1;
    case 'u':
      break;
    default:
      return 0;
  }
  int point = take_hex4(text);
  if (point < 0) return 0;
  if (point >= 0xd800 && point < 0xdc00 && text.substr(0, 2) == "\\u") {
    text.remove_prefix(2);
    const int low = take_hex4(text);
    if (low < 0xdc00 || low > 0xdfff) return 0;
    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
  }
  if (point < 0x80) {
    out[0] = static_cast<char>(point);
    return 1;
  }
  const auto tail = [](int bits) { return static_cast<char>(0x80 | (bits & 0x3f)); };
  if (point < 0x800) {
    out[0] = static_cast<char>(0xc0 | point >> 6);
    out[1] = tail(point);
    return 2;
  }
  if (point < 0x10000) {
    out[0] = static_cast<char>(0xe0 | point >> 12);
    out[1] = tail(point >> 6);
    out[2] = tail(point);
    return 3;
  }
  out[0] = static_cast<char>(0xf0 | point >> 18);
  out[1] = tail(point >> 12);
  out[2] = tail(point >> 6);
  out[3] = tail(point);
  return 4;
}

/// RFC 8259 section 6. Behind the number, or nullptr.
Cursor strict_number(Cursor at, Cursor end) {
  if (at != end && *at == '-') ++at;
  if (at == end || !is_digit(*at)) return nullptr;
  if (*at == '0') {
    ++at;
  } else {
    while (at != end && is_digit(*at)) ++at;
  }
  if (at != end && *at == '.') {
    if (++at == end || !is_digit(*at)) return nullptr;
    while (at != end && is_digit(*at)) ++at;
  }
  if (at != end && (*at == 'e' || *at == 'E')) {
    ++at;
    if (at != end && (*at == '+' || *at == '-')) ++at;
    if (at == end || !is_digit(*at)) return nullptr;
    while (at != end && is_digit(*at)) ++at;
  }
  return at;
}

/// RFC 8259 section 7. `at` is the opening quote.
Cursor strict_string(Cursor at, Cursor end) {
  for (++at; at != end;) {
    const char c = *at++;
    if (c == '"') return at;
    if (static_cast<uint8_t>(c) < 0x20) return nullptr;
    if (c != '\\') continue;
    if (at == end) return nullptr;
    const char kind = *at++;
    if (kind == 'u') {
      for (int i = 0; i < 4; ++i, ++at) {
        if (at == end || hex_value(*at) < 0) return nullptr;
      }
    } else if (std::memchr("\"\\/bfnrt", kind, 8) == nullptr) {
      return nullptr;
    }
  }
  return nullptr;
}

Cursor strict_scalar(Cursor at, Cursor end) {
  const std::string_view rest{at, static_cast<size_t>(end - at)};
  if (*at == '"') return strict_string(at, end);
  for (const std::string_view word : {"true", "false", "null"}) {
    if (rest.substr(0, word.size()) == word) return at + word.size();
  }
  return strict_number(at, end);
}

}  // namespace

JsonMembers::JsonMembers(std::string_view object) : at_{object.data()}, end_{object.data() + object.size()} {
  at_ = skip_blanks(at_, end_);
  if (at_ == end_ || *at_ != '{') {
    done_ = broken_ = true;
  } else {
    ++at_;
  }
}

bool JsonMembers::next() {
  if (done_) return false;
  const auto fail = [this] {
    done_ = broken_ = true;
    return false;
  };
  at_ = skip_blanks(at_, end_);
  if (at_ == end_) return fail();
  if (*at_ == '}') {
    done_ = true;
    return false;
  }
  if (!first_) {
    if (*at_ != ',') return fail();
    at_ = skip_blanks(at_ + 1, end_);
    if (at_ == end_) return fail();
  }
  first_ = false;
  if (*at_ != '"') return fail();
  const Cursor key_end = skip_string(at_, end_);
  if (key_end == nullptr) return fail();
  key_ = {at_ + 1, static_cast<size_t>(key_end - at_ - 2)};
  at_ = skip_blanks(key_end, end_);
  if (at_ == end_ || *at_ != ':') return fail();
  at_ = skip_blanks(at_ + 1, end_);
  const Cursor value_end = skip_value(at_, end_);
  if (value_end == nullptr) return fail();
  value_ = {at_, static_cast<size_t>(value_end - at_)};
  at_ = value_end;
  return true;
}

bool JsonMembers::key_equals(std::string_view key) const {
  if (std::memchr(key_.data(), '\\', key_.size()) == nullptr) return key_ == key;
  auto escaped = key_;
  char bytes[4];
  while (!escaped.empty()) {
    const size_t size = unescape_one(escaped, bytes);
    if (size == 0 || key.substr(0, size) != std::string_view{bytes, size}) return false;
    key.remove_prefix(size);
  }
  return key.empty();
}

std::optional<std::string_view> find_member(std::string_view json, std::string_view key) {
  JsonMembers members{json};
  while (members.next()) {
    if (members.key_equals(key)) return members.value();
  }
  return std::nullopt;
}

std::optional<std::string_view> find_path(std::string_view json, std::string_view path) {
  std::string_view value = json;
  if (path.empty()) {
    while (!value.empty() && is_blank(value.front())) value.remove_prefix(1);
    while (!value.empty() && is_blank(value.back())) value.remove_suffix(1);
    return value;
  }
  for (TextSplitter keys{path, '.'}; keys.next();) {
    const auto found = find_member(value, keys.part());
    if (!found) return std::nullopt;
    value = *found;
  }
  return value;
}

std::optional<int64_t> find_integer(std::string_view json, std::string_view path) {
  const auto text = find_path(json, path);
  return text ? parse_decimal<int64_t>(*text) : std::nullopt;
}

std::optional<std::string_view> find_plain_string(std::string_view json, std::string_view path) {
  const auto text = find_path(json, path);
  if (!text || text->size() < 2 || text->front() != '"' || text->back() != '"') return std::nullopt;
  const auto inside = text->substr(1, text->size() - 2);
  if (inside.find_first_of("\\\"") != std::string_view::npos) return std::nullopt;
  return inside;
}

bool is_complete_json(std::string_view json) {
  Cursor at = json.data();
  const Cursor end = at + json.size();
  uint64_t kinds = 0;  // as in skip_container
  int depth = 0;
  const auto in_object = [&] { return (kinds & 1) != 0; };
  // `"key" :` in front of a member's value.
  const auto take_key = [&]() -> bool {
    at = skip_blanks(at, end);
    if (at == end || *at != '"') return false;
    at = strict_string(at, end);
    if (at == nullptr) return false;
    at = skip_blanks(at, end);
    if (at == end || *at != ':') return false;
    ++at;
    return true;
  };
  while (true) {
    at = skip_blanks(at, end);
    if (at == end) return false;
    if (*at == '{' || *at == '[') {
      const char close = *at == '{' ? '}' : ']';
      if (++depth > kJsonDepthMax) return false;
      kinds = kinds << 1 | (*at == '{' ? 1U : 0U);
      at = skip_blanks(at + 1, end);
      if (at == end) return false;
      if (*at != close) {
        if (in_object() && !take_key()) return false;
        continue;
      }
    } else {
      at = strict_scalar(at, end);
      if (at == nullptr) return false;
    }
    // Behind a value (or at the bracket of an empty container): close what ends here, or go on to the next value.
    while (true) {
      at = skip_blanks(at, end);
      if (depth == 0) return at == end;
      if (at == end) return false;
      if (*at == (in_object() ? '}' : ']')) {
        ++at;
        kinds >>= 1;
        --depth;
        continue;
      }
      if (*at != ',') return false;
      ++at;
      if (in_object() && !take_key()) return false;
      break;
    }
  }
}

}  // namespace twinstorm::protocol
