// What is wrong with a scenario, where, and what to do about it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace twinstorm::scenario {

struct Diagnostic {
  std::string file;     ///< as given to the loader; for an override, the option as typed: `--set seed=x`
  uint32_t line = 0;    ///< from 1; 0 when there is no place in a file
  uint32_t column = 0;  ///< from 1
  std::string path;     ///< `phases[2].load.rollout`; empty for mistakes of the whole file
  std::string value;    ///< the offending text, shortened; may be empty
  std::string message;  ///< a complete line of text, value included
  std::string hint;     ///< what to do: `try 50/s`, `did you mean "duration"?`; may be empty
};

/// `scenarios/x.yaml:12:7: phases[2].load.rollout: "50/ss" is not a rate (try 50/s)`.
std::string to_string(const Diagnostic& diagnostic);
/// One line each, with a final newline.
std::string to_string(const std::vector<Diagnostic>& diagnostics);

}  // namespace twinstorm::scenario
