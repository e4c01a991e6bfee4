#include "sim/twin/value.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>
#include <new>
#include <string>

#include "sim/base/assert.hpp"

namespace twinstorm::twin {
namespace {

// A container's block: the capacity, then the items.
constexpr size_t kBlockHeader = 16;

size_t capacity_of(const void* block) {
  size_t capacity = 0;
  if (block != nullptr) std::memcpy(&capacity, block, sizeof(capacity));
  return capacity;
}

void* allocate_block(size_t capacity, size_t item_bytes) {
  void* block = ::operator new(kBlockHeader + capacity * item_bytes);
  std::memcpy(block, &capacity, sizeof(capacity));
  return block;
}

bool is_integer_literal(std::string_view literal) { return literal.find_first_of(".eE") == std::string_view::npos; }

}  // namespace

template <class Item>
Item* Value::items() const {
  return large_.block == nullptr
             ? nullptr
             : std::launder(reinterpret_cast<Item*>(static_cast<std::byte*>(large_.block) + kBlockHeader));
}

template <class Item>
void Value::grow(size_t capacity) {
  if (capacity <= capacity_of(large_.block)) return;
  void* block = allocate_block(capacity, sizeof(Item));
  Item* to = reinterpret_cast<Item*>(static_cast<std::byte*>(block) + kBlockHeader);
  std::uninitialized_move_n(items<Item>(), large_.size, to);
  std::destroy_n(items<Item>(), large_.size);
  ::operator delete(large_.block);
  large_.block = block;
}

template <class Item>
Item& Value::emplace(Item&& item) {
  const size_t capacity = capacity_of(large_.block);
  if (large_.size == capacity) grow<Item>(capacity == 0 ? 2 : capacity + capacity / 2 + 1);
  return *std::construct_at(items<Item>() + large_.size++, std::move(item));
}

Value::Value(const Value& other) : small_{} { copy_from(other); }

Value& Value::operator=(const Value& other) {
  if (this != &other) *this = Value{other};
  return *this;
}

Value& Value::operator=(Value&& other) noexcept {
  if (this == &other) return *this;
  // `other` may live inside this value's own block, so it is taken out before the block goes.
  Value taken{std::move(other)};
  if (owns_block()) release();
  steal(taken);
  return *this;
}

void Value::release() noexcept {
  if (is_array()) {
    std::destroy_n(items<Value>(), large_.size);
  } else if (is_object()) {
    std::destroy_n(items<Member>(), large_.size);
  }
  ::operator delete(large_.block);
  small_ = Small{};
}

void Value::copy_from(const Value& other) {
  if (!other.owns_block()) {
    small_ = other.small_;
    return;
  }
  large_ = Large{other.large_.kind, kLong, 0, 0, nullptr};
  if (other.is_array()) {
    reserve(other.large_.size);
    for (const Value& element : other.elements()) std::construct_at(items<Value>() + large_.size++, element);
  } else if (other.is_object()) {
    reserve(other.large_.size);
    for (const Member& member : other.members()) std::construct_at(items<Member>() + large_.size++, member);
  } else {
    large_.block = ::operator new(other.large_.size);
    large_.size = other.large_.size;
    std::memcpy(large_.block, other.large_.block, other.large_.size);
  }
}

Value Value::make_text(Kind kind, std::string_view text) {
  Value value;
  if (text.size() <= kInlineText) {
    value.small_.kind = kind;
    value.small_.length = static_cast<uint8_t>(text.size());
    std::memcpy(value.small_.text, text.data(), text.size());
    return value;
  }
  TS_ASSERT(text.size() <= std::numeric_limits<uint32_t>::max());
  void* block = ::operator new(text.size());
  std::memcpy(block, text.data(), text.size());
  value.large_ = Large{kind, kLong, 0, static_cast<uint32_t>(text.size()), block};
  return value;
}

Value Value::make_container(Kind kind) {
  Value value;
  value.large_ = Large{kind, kLong, 0, 0, nullptr};
  return value;
}

Value Value::boolean(bool value) {
  Value result;
  result.small_.kind = Kind::boolean;
  result.small_.text[0] = value ? 1 : 0;
  return result;
}

Value Value::number(int64_t value) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return make_text(Kind::number, {text, static_cast<size_t>(end - text)});
}

Value Value::number_literal(std::string_view literal) { return make_text(Kind::number, literal); }
Value Value::string(std::string_view text) { return make_text(Kind::string, text); }
Value Value::array() { return make_container(Kind::array); }
Value Value::object() { return make_container(Kind::object); }

Value Value::array(std::initializer_list<Value> elements) {
  Value result = array();
  result.reserve(elements.size());
  for (const Value& element : elements) result.push_back(element);
  return result;
}

Value Value::object(std::initializer_list<std::pair<std::string_view, Value>> members) {
  Value result = object();
  result.reserve(members.size());
  for (const auto& [key, value] : members) result.set(key, value);
  return result;
}

std::string_view Value::text() const {
  TS_ASSERT(is_string() || is_number());
  if (owns_block()) return {static_cast<const char*>(large_.block), large_.size};
  return {small_.text, small_.length};
}

std::optional<int64_t> Value::as_int() const {
  if (!is_number()) return std::nullopt;
  const std::string_view literal = text();
  int64_t value = 0;
  const auto [end, error] = std::from_chars(literal.data(), literal.data() + literal.size(), value);
  if (error != std::errc{} || end != literal.data() + literal.size()) return std::nullopt;
  return value;
}

std::optional<double> Value::as_double() const {
  if (!is_number()) return std::nullopt;
  const std::string_view literal = text();
  // Most numbers are short integers: exact in a double and several times cheaper to read.
  if (literal.size() <= 15 && is_integer_literal(literal)) {
    int64_t integer = 0;
    std::from_chars(literal.data(), literal.data() + literal.size(), integer);
    return integer == 0 && literal.front() == '-' ? -0.0 : static_cast<double>(integer);
  }
  double value = 0;
  const auto result = std::from_chars(literal.data(), literal.data() + literal.size(), value);
  if (result.ec == std::errc::result_out_of_range) {
    // from_chars leaves the value alone; only the size of the exponent matters now.
    const bool tiny = literal.find("e-") != std::string_view::npos || literal.find("E-") != std::string_view::npos;
    const double magnitude = tiny ? 0.0 : std::numeric_limits<double>::infinity();
    return literal.front() == '-' ? -magnitude : magnitude;
  }
  return value;
}

std::span<const Value> Value::elements() const {
  return is_array() ? std::span<const Value>{items<Value>(), large_.size} : std::span<const Value>{};
}
std::span<Value> Value::elements() {
  return is_array() ? std::span<Value>{items<Value>(), large_.size} : std::span<Value>{};
}

void Value::push_back(Value element) {
  TS_ASSERT(is_array());
  emplace<Value>(std::move(element));
}

std::span<const Member> Value::members() const {
  return is_object() ? std::span<const Member>{items<Member>(), large_.size} : std::span<const Member>{};
}
std::span<Member> Value::members() {
  return is_object() ? std::span<Member>{items<Member>(), large_.size} : std::span<Member>{};
}

size_t Value::index_of(std::string_view key) const {
  const std::span<const Member> all = members();
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].name() == key) return i;
  }
  return kNone;
}

const Value* Value::find(std::string_view key) const {
  const size_t index = index_of(key);
  return index == kNone ? nullptr : &members()[index].value;
}
Value* Value::find(std::string_view key) {
  const size_t index = index_of(key);
  return index == kNone ? nullptr : &members()[index].value;
}

const Value* Value::find_path(std::string_view dotted) const {
  const Value* at = this;
  while (at != nullptr) {
    const size_t dot = dotted.find('.');
    at = at->find(dotted.substr(0, dot));
    if (dot == std::string_view::npos) break;
    dotted.remove_prefix(dot + 1);
  }
  return at;
}

Value& Value::set(std::string_view key, Value value) {
  TS_ASSERT(is_object());
  if (Value* existing = find(key)) return *existing = std::move(value);
  return append(key, std::move(value));
}

Value& Value::append(std::string_view key, Value value) {
  TS_ASSERT(is_object());
  return emplace<Member>(Member{string(key), std::move(value)}).value;
}

bool Value::erase(std::string_view key) {
  const size_t index = index_of(key);
  if (index == kNone) return false;
  erase_at(index);
  return true;
}

void Value::erase_many(std::span<const size_t> places) {
  if (places.empty()) return;
  const std::span<Member> all = members();
  TS_ASSERT(places.back() < all.size());
  size_t kept = places.front();
  size_t next = 0;
  for (size_t at = kept; at < all.size(); ++at) {
    if (next < places.size() && places[next] == at) {
      ++next;
    } else {
      all[kept++] = std::move(all[at]);
    }
  }
  std::destroy(all.begin() + static_cast<ptrdiff_t>(kept), all.end());
  large_.size = static_cast<uint32_t>(kept);
}

void Value::reserve(size_t count) {
  if (is_array()) grow<Value>(count);
  if (is_object()) grow<Member>(count);
}

size_t Value::heap_bytes() const {
  if (!owns_block()) return 0;
  if (is_string() || is_number()) return large_.size;
  const size_t item_bytes = is_array() ? sizeof(Value) : sizeof(Member);
  size_t bytes = large_.block == nullptr ? 0 : kBlockHeader + capacity_of(large_.block) * item_bytes;
  for (const Value& element : elements()) bytes += element.heap_bytes();
  for (const Member& member : members()) bytes += member.key.heap_bytes() + member.value.heap_bytes();
  return bytes;
}

namespace {

template <class SameNumber>
bool equal(const Value& a, const Value& b, SameNumber same_number) {
  if (a.kind() != b.kind() || a.size() != b.size()) return false;
  switch (a.kind()) {
    case Value::Kind::null:
      return true;
    case Value::Kind::boolean:
      return a.is_true() == b.is_true();
    case Value::Kind::number:
      return same_number(a, b);
    case Value::Kind::string:
      return a.text() == b.text();
    case Value::Kind::array:
      return std::equal(a.elements().begin(), a.elements().end(), b.elements().begin(),
                        [&](const Value& x, const Value& y) { return equal(x, y, same_number); });
    case Value::Kind::object:
      break;
  }
  // Nearly always both sides have the same order, so the search starts where the partner should be.
  for (size_t i = 0; i < a.size(); ++i) {
    const Member& member = a.members()[i];
    const Member& opposite = b.members()[i];
    const Value* other = opposite.name() == member.name() ? &opposite.value : b.find(member.name());
    if (other == nullptr || !equal(member.value, *other, same_number)) return false;
  }
  return true;
}

}  // namespace

bool operator==(const Value& a, const Value& b) {
  return equal(a, b, [](const Value& x, const Value& y) { return x.text() == y.text(); });
}

bool equal_by_value(const Value& a, const Value& b) {
  return equal(a, b, [](const Value& x, const Value& y) {
    if (x.text() == y.text()) return true;
    const auto left = x.as_int();
    const auto right = y.as_int();
    return left && right ? *left == *right : x.as_double() == y.as_double();
  });
}

void write_string(std::string_view text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    out.append(text, start, i - start);
    start = i + 1;
    out += '\\';
    switch (byte) {
      case '"':
        out += '"';
        break;
      case '\\':
        out += '\\';
        break;
      case '\n':
        out += 'n';
        break;
      case '\r':
        out += 'r';
        break;
      case '\t':
        out += 't';
        break;
      case '\b':
        out += 'b';
        break;
      case '\f':
        out += 'f';
        break;
      default:
        out += "u00";
        out += kHex[byte >> 4];
        out += kHex[byte & 15];
    }
  }
  out.append(text, start, text.size() - start);
  out += '"';
}

void write(const Value& value, std::string& out) {
  switch (value.kind()) {
    case Value::Kind::null:
      out += "null";
      return;
    case Value::Kind::boolean:
      out += value.is_true() ? "true" : "false";
      return;
    case Value::Kind::number:
      out += value.text();
      return;
    case Value::Kind::string:
      write_string(value.text(), out);
      return;
    case Value::Kind::array: {
      char separator = '[';
      for (const Value& element : value.elements()) {
        out += separator;
        separator = ',';
        write(element, out);
      }
      out += value.empty() ? "[]" : "]";
      return;
    }
    case Value::Kind::object: {
      char separator = '{';
      for (const Member& member : value.members()) {
        out += separator;
        separator = ',';
        write_string(member.name(), out);
        out += ':';
        write(member.value, out);
      }
      out += value.empty() ? "{}" : "}";
      return;
    }
  }
}

std::string write(const Value& value) {
  std::string out;
  write(value, out);
  return out;
}

}  // namespace twinstorm::twin
