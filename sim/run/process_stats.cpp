#include "sim/run/process_stats.hpp"

#include <fstream>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

namespace twinstorm::run {

ProcessStats process_stats(pid_t pid) {
  std::ifstream file{fmt::format("/proc/{}/stat", pid)};
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

uint64_t heap_in_use() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

}  // namespace twinstorm::run
