// Text with an index in it: `therm-{index:05}`, `{fleet}-{index}`. Device ids are made from one pattern and an index
// instead of being stored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm::scenario {

/// Literal text around at most one `{index}`, optionally zero-padded: `{index:05}`. `{{` and `}}` stand for braces.
class TextPattern {
 public:
  TextPattern() = default;
  /// `fleet` replaces `{fleet}`, which is unknown without one. Errors name the placeholder that is unknown or not
  /// closed.
  static Result<TextPattern> parse(std::string_view text, std::optional<std::string_view> fleet = std::nullopt);

  void append(std::string& out, uint64_t index) const;
  std::string format(uint64_t index) const;
  /// The index that gives `text`, if there is one.
  std::optional<uint64_t> match(std::string_view text) const;
  bool has_index() const { return has_index_; }
  size_t max_bytes() const {
    return prefix_.size() + suffix_.size() + (has_index_ ? (width_ > 20 ? width_ : 20u) : 0u);
  }
  const std::string& prefix() const { return prefix_; }
  const std::string& suffix() const { return suffix_; }
  friend bool operator==(const TextPattern&, const TextPattern&) = default;

 private:
  std::string prefix_, suffix_;
  uint8_t width_ = 0;
  bool has_index_ = false;
};

}  // namespace twinstorm::scenario
