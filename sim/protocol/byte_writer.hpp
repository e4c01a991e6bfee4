// Where every encoder of this module writes: a fixed buffer (`ByteWriter`) on the hot path, a `std::string` elsewhere.
//
// Encoders are templates over `ByteSink`, so both get the same code and neither pays for the other.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace twinstorm::protocol {

/// Something bytes are appended to. `std::string` and `ByteWriter` are the two models in use.
template <class T>
concept ByteSink = requires(T& out, std::string_view text, char byte) {
  out.append(text);
  out.push_back(byte);
};

/// Appends to a buffer it does not own. An append that does not fit writes nothing and sets `overflowed()`; from then
/// on every append is ignored until `rewind`, so a caller checks once, behind the last append.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<char> buffer) : begin_{buffer.data()}, capacity_{buffer.size()} {}

  void append(std::string_view bytes) {
    if (overflowed_ || bytes.size() > capacity_ - size_) {
      overflowed_ = true;
      return;
    }
    if (!bytes.empty()) std::memcpy(begin_ + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  void push_back(char byte) {
    if (overflowed_ || size_ == capacity_) {
      overflowed_ = true;
      return;
    }
    begin_[size_++] = byte;
  }

  size_t size() const { return size_; }
  size_t remaining() const { return capacity_ - size_; }
  bool overflowed() const { return overflowed_; }
  /// What was written so far; valid as long as the buffer and until the next append or `rewind`.
  std::string_view view() const { return {begin_, size_}; }
  /// Access to written bytes for patching a length in place; the same lifetime as `view`.
  char* data() { return begin_; }
  /// Forgets everything behind `size` and clears the overflow flag. `size` is at most `size()`.
  void rewind(size_t size) {
    size_ = size;
    overflowed_ = false;
  }

 private:
  char* begin_;
  size_t capacity_;
  size_t size_ = 0;
  bool overflowed_ = false;
};

/// Decimal digits without a temporary string.
template <ByteSink Out>
void append_decimal(Out& out, std::integral auto value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(std::string_view{digits, static_cast<size_t>(end - digits)});
}

/// Number of characters `append_decimal` writes for a non-negative value.
constexpr size_t decimal_size(uint64_t value) {
  size_t digits = 1;
  while (value >= 10) value /= 10, ++digits;
  return digits;
}

}  // namespace twinstorm::protocol
