// "Did you mean".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace twinstorm {

/// The candidate that `word` is most likely a slip of, or empty: a third of the letters may be wrong, case counts
/// little.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace twinstorm
