// `--set path=value`: edits of the document before anything is checked.
#pragma once

#include <string>
#include <string_view>

#include "sim/scenario/detail/reader.hpp"
#include "sim/scenario/detail/yaml_tree.hpp"

namespace twinstorm::scenario::detail {

/// Applies `override_text` to `root`; mistakes in the path or the value are complaints with place {source}.
void apply_override(YamlNode& root, std::string_view override_text, uint16_t source, Complaints& complaints);

}  // namespace twinstorm::scenario::detail
