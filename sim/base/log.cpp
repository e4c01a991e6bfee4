#include "sim/base/log.hpp"

#include <atomic>
#include <cstdio>
#include <mutex>

namespace twinstorm::log {
namespace {

std::atomic<Level> threshold{Level::info};
std::mutex output;

}  // namespace

void set_level(Level level) { threshold = level; }

void write(Level level, std::string_view text) noexcept {
  if (level < threshold.load()) return;
  const char* prefix = "";
  if (level == Level::warning) prefix = "warning: ";
  if (level == Level::error) prefix = "error: ";
  const std::scoped_lock lock{output};
  std::fprintf(stderr, "twinstorm: %s%.*s\n", prefix, static_cast<int>(text.size()), text.data());
}

}  // namespace twinstorm::log
