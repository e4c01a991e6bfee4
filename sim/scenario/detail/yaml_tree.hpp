// A YAML document as a plain tree that knows where everything stood. yaml-cpp's events fill it; its own nodes are not
// used because they lose the places of keys, keep aliases shared (so an edit would show in two places) and let a few
// lines of aliases expand without bound.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/scenario/diagnostic.hpp"

namespace twinstorm::scenario::detail {

struct YamlPlace {
  uint16_t source = 0;  ///< 0: the file; k: the k-th override
  uint32_t line = 0;    ///< from 1
  uint32_t column = 0;  ///< from 1
  friend auto operator<=>(const YamlPlace&, const YamlPlace&) = default;
};

struct YamlMember;

struct YamlNode {
  enum class Kind : uint8_t { null, scalar, sequence, mapping };
  Kind kind = Kind::null;
  bool is_quoted = false;  ///< a scalar in quotes or a block is text whatever it looks like
  YamlPlace place;
  std::string text;                 ///< scalar
  std::vector<YamlNode> items;      ///< sequence
  std::vector<YamlMember> members;  ///< mapping, in document order; keys may repeat

  bool is_mapping() const { return kind == Kind::mapping; }
  bool is_sequence() const { return kind == Kind::sequence; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_null() const { return kind == Kind::null; }
  /// The first member of that name.
  const YamlNode* find(std::string_view key) const;
  YamlNode* find(std::string_view key);
};

struct YamlMember {
  std::string key;
  YamlPlace place;  ///< of the key
  YamlNode value;
};

/// A YAML or JSON number that JSON would accept as it stands: `12`, `-0.5`, `1e3`.
bool is_json_number(std::string_view text);
bool is_json_integer(std::string_view text);
/// What a reader would call the node: `a list of 3`, `a mapping`, `nothing`, `"abc"`.
std::string describe(const YamlNode& node);

struct YamlDocument {
  YamlNode root;
  std::vector<Diagnostic> diagnostics;  ///< syntax errors and refused documents; then `root` is null
};

/// Reads one document. Aliases become copies and `<<` merges are done. Refused: more than one document, files over
/// `kMaxScenarioBytes`, expansions over `kMaxScenarioNodes`, nesting over `kMaxScenarioDepth`, keys that are not
/// scalars.
YamlDocument read_yaml(std::string_view text, std::string_view file_name, uint16_t source = 0);

}  // namespace twinstorm::scenario::detail
