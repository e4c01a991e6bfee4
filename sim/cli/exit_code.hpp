// What the process tells its caller. Stable: CI jobs and scripts depend on it.
#pragma once

#include "metrics/validity.hpp"

namespace twinstorm::cli::exit_code {

using namespace metrics::exit_code;  // 0, 10 to 14, 130, 143: what a finished run can say

inline constexpr int kInternal = 1;  ///< a defect, or a record that could not be written
inline constexpr int kUsage = 2;     ///< wrong command line or scenario; nothing was started
inline constexpr int kSetup = 3;     ///< the hub could not be started, reached or entered; nothing was measured

}  // namespace twinstorm::cli::exit_code
