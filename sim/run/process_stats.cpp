#include "sim/run/process_stats.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

namespace twinstorm::run {

namespace {

/// Of a `stat` file of a process or a thread.
ProcessStats read_stat(const std::string& path) {
  std::ifstream file{path};
  std::string line;
  if (!std::getline(file, line)) return {};
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  // Behind the name: state is field 3; utime 14, stime 15, rss 24 (pages).
  std::istringstream fields{line.substr(name_end + 2)};
  std::string field;
  ProcessStats stats;
  for (int number = 3; fields >> field; ++number) {
    if (number == 14 || number == 15) {
      stats.cpu_seconds += std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
    if (number == 24) {
      stats.resident_bytes = std::stoull(field) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
      break;
    }
  }
  return stats;
}

}  // namespace

ProcessStats process_stats(pid_t pid) { return read_stat(fmt::format("/proc/{}/stat", pid)); }

double thread_cpu_seconds(std::initializer_list<std::string_view> names) {
  double seconds = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator{"/proc/self/task", error}) {
    std::ifstream file{task.path() / "comm"};
    std::string name;
    std::getline(file, name);
    const bool counts = std::any_of(names.begin(), names.end(), [&](auto prefix) { return name.starts_with(prefix); });
    if (counts) seconds += read_stat(task.path() / "stat").cpu_seconds;
  }
  return seconds;
}

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("was killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  }
  return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

uint64_t heap_in_use() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

}  // namespace twinstorm::run
