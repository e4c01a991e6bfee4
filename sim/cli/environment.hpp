// The outside world of a command, in one object, so that whole commands run inside a test.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "sim/run/runner.hpp"

namespace twinstorm::cli {

struct Environment {
  std::vector<std::string> args;  ///< without the program's name
  std::string binary;             ///< path of this executable
  std::ostream& out;              ///< results
  std::ostream& err;              ///< progress and messages
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  bool no_color = false;                  ///< NO_COLOR is set
  run::RunControl& control;               ///< signals that came
  std::function<void()> wait_for_signal;  ///< returns when the process is asked to end
  std::istream* in = nullptr;             ///< standard input; null = there is none
};

/// Parses and carries out; returns the exit code (exit_code.hpp). Never throws.
int run_cli(Environment& environment);

}  // namespace twinstorm::cli
