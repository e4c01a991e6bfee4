// YAML in; a scenario or every mistake in it out.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/scenario/diagnostic.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::scenario {

inline constexpr size_t kMaxScenarioBytes = 1024 * 1024;
inline constexpr size_t kMaxScenarioNodes = 100'000;  ///< after expanding aliases
inline constexpr size_t kMaxScenarioDepth = 64;

/// Either a scenario and no diagnostics, or no scenario and at least one.
struct LoadResult {
  std::optional<Scenario> scenario;     ///< as written, checked, not yet resolved
  std::vector<Diagnostic> diagnostics;  ///< in document order, then those of overrides
  bool ok() const { return scenario.has_value(); }
};

/// `file_name` is for messages only. `overrides` are `path=value` texts, applied to the document before it is checked:
/// `seed=7`, `fleets[0].count=100`, `fleets[thermostats].count=100`, `phases[steady].duration=5s`; the value is YAML.
/// Trace files are looked for in `folder`; when it is empty, a scenario that names one is refused. Reads no other file
/// and no environment; never throws; time and memory are bounded whatever the text.
LoadResult load_scenario(std::string_view text, std::string_view file_name,
                         const std::vector<std::string>& overrides = {}, std::string_view folder = {});

/// Reads the file and loads it. A file that cannot be read is a diagnostic too.
LoadResult load_scenario_file(const std::string& path, const std::vector<std::string>& overrides = {});

/// Every key the loader knows, as `path` patterns with `[]` for a list and `*` for a free name: `fleets[].count`,
/// `phases[].load.*`. Sorted. For the test that compares the loader with the JSON Schema.
std::vector<std::string> known_keys();

}  // namespace twinstorm::scenario
