// Typed reading of a YAML tree: every accessor checks, complains with place, path and hint, and lets the caller go on,
// so that one pass finds every mistake.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/base/units.hpp"
#include "sim/scenario/detail/yaml_tree.hpp"
#include "sim/scenario/diagnostic.hpp"

namespace twinstorm::scenario::detail {

/// The keys of one kind of mapping. `pattern` is its path with `[]` for a list and `*` for a free name.
struct KeySet {
  std::string pattern;
  std::vector<std::string> keys;
  std::map<std::string_view, std::string_view> elsewhere{};  ///< keys that people write here, and what to write instead
};
/// The one table of everything a scenario may say (key_table.cpp).
const std::vector<KeySet>& key_table();

/// Collects diagnostics and puts them in document order.
class Complaints {
 public:
  /// `sources[0]` is the file; the others are overrides as typed.
  explicit Complaints(std::vector<std::string> sources) : sources_{std::move(sources)} {}
  void add(const YamlPlace& place, std::string path, std::string value, std::string message, std::string hint);
  /// Splits `text (try ...)`, the form of errors from the base library, into message and hint.
  void add_error(const YamlPlace& place, std::string path, std::string value, std::string text);
  bool empty() const { return items_.empty(); }
  std::vector<Diagnostic> take();

 private:
  std::vector<std::string> sources_;
  std::vector<std::pair<YamlPlace, Diagnostic>> items_;
};

/// A mapping being read. Opening it reports unknown and repeated keys.
class Section {
 public:
  /// `pattern` must be in the key table. A node that is not a mapping is reported and reads as empty.
  Section(Complaints& complaints, const YamlNode& node, std::string path, std::string_view pattern);

  bool valid() const { return valid_; }
  const YamlNode& node() const { return *node_; }
  const std::string& path() const { return path_; }
  std::string path_of(std::string_view key) const;
  bool has(std::string_view key) const { return valid_ && node_->find(key) != nullptr; }
  const YamlNode* find(std::string_view key) const { return valid_ ? node_->find(key) : nullptr; }
  /// Where to point for `key`: its value, or the mapping if it is not there.
  YamlPlace place_of(std::string_view key) const;
  YamlPlace key_place_of(std::string_view key) const;
  Complaints& complaints() const { return *complaints_; }

  /// Complains about `key` with its value shown.
  void complain(std::string_view key, std::string message, std::string hint) const;
  /// Complains when `key` is missing.
  bool require(std::string_view key, std::string hint) const;
  /// `key` is there and `why` it must not be.
  void refuse(std::string_view key, std::string why, std::string hint) const;

  std::optional<std::string> text(std::string_view key) const;
  /// Letters, digits, `-` and `_`, starting with a letter or digit, at most 64.
  std::optional<std::string> name(std::string_view key) const;
  std::optional<uint64_t> integer(std::string_view key, uint64_t low, uint64_t high) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<Nanos> duration(std::string_view key, bool allow_zero) const;
  std::optional<double> share(std::string_view key) const;
  std::optional<ByteCount> size(std::string_view key) const;
  /// The position of the word in `words`.
  std::optional<size_t> word(std::string_view key, const std::vector<std::string>& words) const;

 private:
  Complaints* complaints_;
  const YamlNode* node_;
  std::string path_;
  bool valid_ = true;
};

/// Readers of single nodes, for values that stand in lists.
std::optional<Nanos> read_duration(Complaints& complaints, const YamlNode& node, const std::string& path,
                                   bool allow_zero);
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);
std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");
bool is_name(std::string_view text);
/// The decimal number a text starts with, as written: `50` of `50/ss`; empty if none.
std::string_view leading_number(std::string_view text);

}  // namespace twinstorm::scenario::detail
