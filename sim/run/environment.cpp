#include "sim/run/environment.hpp"

#include <fstream>
#include <thread>

#include <boost/version.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace twinstorm::run {
namespace {

std::string first_line(const char* path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

/// The value behind `key :` in /proc/cpuinfo or /proc/meminfo.
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);) {
    if (!std::string_view{line}.starts_with(key)) continue;
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string{} : line.substr(begin);
  }
  return {};
}

}  // namespace

std::string describe_environment(const std::string& version) {
  utsname kernel{};
  uname(&kernel);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  nlohmann::ordered_json env;
  env["twinstorm"] = version;
  env["compiler"] = __VERSION__;
  env["boost"] = BOOST_LIB_VERSION;
  env["cores"] = std::thread::hardware_concurrency();
  env["cpu"] = proc_value("/proc/cpuinfo", "model name");
  env["memoryBytes"] = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  env["kernel"] = fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine);
  env["clockSource"] = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  env["cpuGovernor"] = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  env["openFilesLimit"] = static_cast<uint64_t>(files.rlim_cur);
  env["localPorts"] = first_line("/proc/sys/net/ipv4/ip_local_port_range");
  env["listenBacklog"] = first_line("/proc/sys/net/core/somaxconn");
  env["sanitized"] =
#ifdef TWINSTORM_SANITIZED
      true;
#else
      false;
#endif
  return env.dump(2) + "\n";
}

}  // namespace twinstorm::run
