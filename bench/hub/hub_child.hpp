// A hub in a process of its own, for benchmarks that speak to it over sockets.
#pragma once

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/hub/hub.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"

namespace twinstorm::bench {

inline constexpr const char* kHubHost = "hub.localhost";

/// Ends the program with exit code 2: a measurement did not work.
[[noreturn]] inline void give_up(std::string_view why) {
  fmt::print(stderr, "{}: {}\n", program_invocation_short_name, why);
  std::exit(2);
}

struct HubChild {
  pid_t pid = 0;
  uint16_t port = 0;
  std::string token;  ///< of the policy that the hub was started with

  /// User and system time so far.
  double cpu_seconds() const {
    std::ifstream file{fmt::format("/proc/{}/stat", pid)};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    // proc(5): fields 14 and 15, counted behind the name in brackets, which is the second one.
    std::string_view rest = std::string_view{text}.substr(text.rfind(')') + 2);
    long ticks = 0;
    for (int field = 3; field <= 15; ++field) {
      const size_t blank = rest.find(' ');
      long value = 0;
      std::from_chars(rest.data(), rest.data() + blank, value);
      if (field >= 14) ticks += value;
      rest.remove_prefix(blank + 1);
    }
    return static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  /// A line of proc(5) status, such as `VmRSS`, in MiB.
  double memory(std::string_view name) const {
    std::ifstream file{fmt::format("/proc/{}/status", pid)};
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(name)) return std::strtod(line.c_str() + name.size() + 1, nullptr) / 1024;
    }
    give_up("the hub has ended");
  }

  void stop() {
    kill(pid, SIGTERM);
    waitpid(pid, nullptr, 0);
  }
};

/// Starts a hub that ends with this process. `configure` is called in the child and gives its HubConfig;
/// `endpoint(hub)` says, there too, which port and which policy's connection string the benchmark uses.
template <class Configure, class Endpoint>
HubChild start_hub_child(Configure configure, Endpoint endpoint) {
  int channel[2];
  if (pipe(channel) != 0) give_up("no pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    hub::HubConfig config = configure();
    config.host_name = kHubHost;
    const auto started = hub::Hub::start(std::move(config));
    if (!started) give_up(started.error().message);
    const auto [port, connection_string] = endpoint(**started);
    const std::string text = fmt::format("{} {}", port, connection_string);
    if (write(channel[1], text.data(), text.size()) < 0) give_up("no pipe");
    close(channel[1]);
    while (true) pause();
  }
  close(channel[1]);
  char text[1024];
  const ssize_t size = read(channel[0], text, sizeof text);
  close(channel[0]);
  if (size <= 0) give_up("the hub did not start");
  const std::string_view answer{text, static_cast<size_t>(size)};
  const size_t blank = answer.find(' ');
  HubChild child{pid, 0, {}};
  std::from_chars(answer.data(), answer.data() + blank, child.port);
  const auto policy = protocol::parse_connection_string(answer.substr(blank + 1));
  child.token = protocol::make_sas_token(kHubHost, *protocol::base64_decode(policy->shared_access_key), 4'000'000'000,
                                         policy->shared_access_key_name);
  return child;
}

}  // namespace twinstorm::bench
