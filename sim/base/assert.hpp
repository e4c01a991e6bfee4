// TS_ASSERT: for what cannot happen. On in every build type, because a load tool with a broken invariant must not go on
// printing numbers.
#pragma once

namespace twinstorm {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
}

#define TS_ASSERT(expression) \
  (static_cast<bool>(expression) ? void(0) : ::twinstorm::assertion_failed(#expression, __FILE__, __LINE__))
