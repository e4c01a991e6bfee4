// Diagnostics for people, on stderr, one line a message. Not for measurement and never on a hot path.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace twinstorm::log {

enum class Level : uint8_t { debug, info, warning, error };

/// Messages below `level` are dropped. Thread-safe.
void set_level(Level level);
/// Writes `twinstorm: <text>` with the level in front of the text for warnings and errors. Thread-safe, never throws.
void write(Level level, std::string_view text) noexcept;

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace twinstorm::log
