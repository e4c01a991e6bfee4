// Which configurations are for a twin, which of them it takes, and the twin's own record of that: the member
// `configurations`, {"<id>":{"status":"Targeted" or "Applied"}} (service.md 5.1 and 9). Sans-I/O.
//
// A twin has an entry for every configuration whose condition holds. Of each kind it takes one: the highest priority,
// between equals the one created last. The one it takes is Targeted until its content is written into the twin and
// Applied from then on; the others stay Targeted. Applied content is not enforced against later writes of a back end.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sim/hub/configurations/configuration.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm::hub {

/// One configuration as an evaluation sees it.
struct Target {
  std::string id;
  std::shared_ptr<const ConfigurationContent> content;
  std::optional<query::Query> condition;               ///< empty = no twin
  std::shared_ptr<const twin::PropertyAuthor> author;  ///< what `$metadata` says about who wrote its values
};

/// A deleted configuration whose entries have to leave the twins.
struct Retired {
  std::string id;
  uint64_t created_order = 0;
};

/// What one evaluation works on: a snapshot that all shards read.
struct TargetSet {
  std::vector<Target> targets;  ///< highest precedence first
  std::vector<Retired> retired;
  /// True when no target or retired id concerns twins of this kind.
  bool concerns_devices = false;  ///< some target or retired id may have entries in device twins
  bool concerns_modules = false;  ///< likewise, in module twins
};

/// What marking a twin found.
struct Marking {
  bool changed = false;  ///< the twin's entries are others than before
  /// Places in `TargetSet::targets` of the configurations to be applied now, at most one of each kind.
  std::vector<size_t> apply;
};

/// Makes the twin's entries agree with the conditions, and adds the twin to `counts` (one element per target). A twin
/// that has taken its configuration already is not asked to take it again. `seen` is the twin as queries see it, on
/// which conditions are evaluated: the twin itself, an older version, or nullptr while queries see none.
Marking mark_targets(twin::TwinDocument& twin, const twin::TwinDocument* seen, const TargetSet& set,
                     std::span<TargetCounts> counts);

/// The twin has taken the configuration `id`.
void mark_applied(twin::TwinDocument& twin, std::string_view id);

/// `Targeted`, `Applied`, or empty when the twin has no entry.
std::string_view configuration_status(const twin::TwinDocument& twin, std::string_view id);

}  // namespace twinstorm::hub
