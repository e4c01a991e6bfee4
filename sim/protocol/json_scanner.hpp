// Finding values in JSON text without building it: no allocation, one pass, any input.
//
// What a device does with a desired-property notification is "which version, and what is climate.hvac now?"; a DOM
// costs more than the whole MQTT message. The scanner skips what it does not need and never reads outside the view,
// whatever the bytes. It is lenient inside skipped values (it balances brackets and strings); `is_complete_json` is the
// strict one.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace twinstorm::protocol {

/// Containers deeper than this are treated as garbage.
inline constexpr int kJsonDepthMax = 64;

/// The value text (without surrounding blanks, strings with their quotes) of `key` in the top-level object; nullopt
/// when `json` is no object, has no such key, or is broken before it. The first of repeated keys wins.
std::optional<std::string_view> find_member(std::string_view json, std::string_view key);

/// `find_member` applied along `a.b.c`; an empty path is the whole value. Keys that contain `.` cannot be named (twin
/// keys cannot contain it).
std::optional<std::string_view> find_path(std::string_view json, std::string_view path);

/// The integer at `path`; nullopt when it is missing, not a number, has a fraction or exponent, or exceeds int64.
std::optional<int64_t> find_integer(std::string_view json, std::string_view path);

/// The inside of a string value that needs no unescaping; nullopt when missing, not a string, or with escapes.
std::optional<std::string_view> find_plain_string(std::string_view json, std::string_view path);

/// True when `json` is one well-formed JSON value (RFC 8259) and nothing else, not deeper than `kJsonDepthMax`. UTF-8
/// inside strings is not checked.
bool is_complete_json(std::string_view json);

/// Step-by-step reader of the members of one object; the engine of `for_each_member`.
class JsonMembers {
 public:
  explicit JsonMembers(std::string_view object);
  /// Advances to the next member; false at the end or at the first broken byte (see `broken`).
  bool next();
  std::string_view raw_key() const { return key_; }  ///< between the quotes, escapes untouched
  std::string_view value() const { return value_; }  ///< trimmed value text
  bool key_equals(std::string_view key) const;       ///< compares after unescaping
  bool broken() const { return broken_; }            ///< not an object, or ended by garbage

 private:
  const char* at_;
  const char* end_;
  std::string_view key_;
  std::string_view value_;
  bool first_ = true;
  bool done_ = false;
  bool broken_ = false;
};

/// Calls `fn(raw_key, value)` for each member of the top-level object, in order. False when the text was broken
/// (members before the break have been delivered).
template <class Fn>
bool for_each_member(std::string_view json, Fn&& fn) {
  JsonMembers members{json};
  while (members.next()) fn(members.raw_key(), members.value());
  return !members.broken();
}

}  // namespace twinstorm::protocol
