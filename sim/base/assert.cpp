#include "sim/base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace twinstorm {

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "twinstorm: internal error: %s does not hold (%s:%d)\n", expression, file, line);
  std::abort();
}

}  // namespace twinstorm
