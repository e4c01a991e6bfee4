// A JSON value for twins: 16 bytes a node, member order kept, number literals kept.
//
// Why not nlohmann::json: a 1.4 KB twin is 9.4 KB there, members are reordered and `1.0` comes back as `1` or `1.0`
// depending on the path it took; the live service returns numbers as they were written. Here numbers are their text;
// texts of at most 14 bytes (most keys, numbers and short strings) live inside the node, everything else in exactly one
// block. Copies are deep, moves are a few instructions. A value belongs to one thread at a time; reading is
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "sim/base/result.hpp"

namespace twinstorm::twin {

struct Member;

class Value {
 public:
  enum class Kind : uint8_t { null, boolean, number, string, array, object };

  Value() noexcept : small_{} {}
  ~Value() {
    if (owns_block()) release();
  }
  Value(const Value& other);
  Value& operator=(const Value& other);
  Value(Value&& other) noexcept { steal(other); }
  Value& operator=(Value&& other) noexcept;

  static Value boolean(bool value);
  /// Decimal text of `value`.
  static Value number(int64_t value);
  /// `literal` must be a JSON number (RFC 8259 section 6); it is kept as it is.
  static Value number_literal(std::string_view literal);
  /// UTF-8 without escapes.
  static Value string(std::string_view text);
  static Value array();
  static Value object();
  static Value array(std::initializer_list<Value> elements);
  static Value object(std::initializer_list<std::pair<std::string_view, Value>> members);

  Kind kind() const noexcept { return small_.kind; }
  bool is_null() const noexcept { return kind() == Kind::null; }
  bool is_boolean() const noexcept { return kind() == Kind::boolean; }
  bool is_number() const noexcept { return kind() == Kind::number; }
  bool is_string() const noexcept { return kind() == Kind::string; }
  bool is_array() const noexcept { return kind() == Kind::array; }
  bool is_object() const noexcept { return kind() == Kind::object; }

  /// True only for the boolean true.
  bool is_true() const noexcept { return is_boolean() && small_.text[0] != 0; }
  /// The text of a string or the literal of a number; valid until the value changes or moves. Asserts on other kinds.
  std::string_view text() const;
  /// The number, when it is written as an integer (no fraction, no exponent) and fits; nullopt otherwise.
  std::optional<int64_t> as_int() const;
  /// The nearest double; nullopt when this is not a number.
  std::optional<double> as_double() const;

  /// Elements of an array, members of an object, 0 for anything else.
  size_t size() const noexcept { return is_array() || is_object() ? large_.size : 0; }
  bool empty() const noexcept { return size() == 0; }

  /// Elements of an array; empty for any other kind. Valid until the array changes.
  std::span<const Value> elements() const;
  std::span<Value> elements();
  void push_back(Value element);

  /// Members of an object in insertion order; empty for any other kind. Valid until the object changes.
  std::span<const Member> members() const;
  std::span<Member> members();
  static constexpr size_t kNone = static_cast<size_t>(-1);
  /// Position of the member called `key` or kNone. Linear: twin objects are small.
  size_t index_of(std::string_view key) const;
  /// The member called `key`, nullptr when absent or when this is not an object.
  const Value* find(std::string_view key) const;
  Value* find(std::string_view key);
  /// Follows a dotted path (`climate.hvac.systemControl`) through objects; nullptr when any step is missing.
  const Value* find_path(std::string_view dotted) const;
  /// Sets or appends a member and returns it. Asserts that this is an object.
  Value& set(std::string_view key, Value value);
  /// Appends without looking for an equal key: the caller knows there is none.
  Value& append(std::string_view key, Value value);
  /// Removes a member, keeping the order of the others; false when absent.
  bool erase(std::string_view key);
  void erase_at(size_t index) { erase_many({&index, 1}); }
  /// Removes the members at these places, given in ascending order, in one pass.
  void erase_many(std::span<const size_t> places);
  /// Makes room for `count` elements or members in one step.
  void reserve(size_t count);

  /// Numbers equal by literal (`1` is not `1.0`), objects whatever the order of members.
  friend bool operator==(const Value& a, const Value& b);

  /// Asks the processor for the beginning of this value's block: for scans over many values.
  void prefetch() const noexcept {
    if (!owns_block()) return;
    for (size_t line = 0; line < 3; ++line) __builtin_prefetch(static_cast<const char*>(large_.block) + 64 * line);
  }

  /// Heap bytes reachable from this node, without the node itself: for memory budgets.
  size_t heap_bytes() const;

 private:
  static constexpr size_t kInlineText = 14;
  static constexpr uint8_t kLong = 255;
  // Both start with the same two bytes, so `kind` and `length` may be read through either.
  struct Small {
    Kind kind;
    uint8_t length;  // of the inline text, or kLong when `large_` is the live one
    char text[kInlineText];
  };
  struct Large {
    Kind kind;
    uint8_t length;
    uint16_t unused;
    uint32_t size;  // bytes of text, elements or members
    void* block;    // nullptr for an empty container
  };

  bool owns_block() const noexcept { return small_.length == kLong; }
  void steal(Value& other) noexcept {
    std::memcpy(static_cast<void*>(this), &other, sizeof(Value));
    other.small_.kind = Kind::null;
    other.small_.length = 0;
  }
  void release() noexcept;
  void copy_from(const Value& other);
  static Value make_text(Kind kind, std::string_view text);
  static Value make_container(Kind kind);
  template <class Item>
  Item* items() const;
  template <class Item>
  void grow(size_t capacity);
  template <class Item>
  Item& emplace(Item&& item);

  union {
    Small small_;
    Large large_;
  };
};

static_assert(sizeof(Value) == 16);

/// One member of an object. The key is a string value, so that a short key needs no block of its own.
struct Member {
  Value key;
  Value value;
  std::string_view name() const { return key.text(); }
};

/// Equality with numbers compared by magnitude: `1`, `1.0` and `1e0` are the same.
bool equal_by_value(const Value& a, const Value& b);

/// Containers nested deeper than this are refused by parse_value unless the caller says otherwise: ten levels below a
/// section (device.md 7.3), the sections' own wrapping, and room for arrays.
inline constexpr size_t kMaxParseDepth = 64;

/// Parses one JSON text (RFC 8259, UTF-8). Equal keys: the last value wins, at the first one's place. Errors
/// (`invalid_argument`) say what was wrong and at which byte. Never recurses, whatever the nesting of the input.
Result<Value> parse_value(std::string_view json, size_t max_depth = kMaxParseDepth);

/// Appends the compact JSON text.
void write(const Value& value, std::string& out);
std::string write(const Value& value);
/// Appends `text` as a JSON string with its quotes.
void write_string(std::string_view text, std::string& out);

}  // namespace twinstorm::twin
