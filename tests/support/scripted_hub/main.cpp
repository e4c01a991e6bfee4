// scripted_hub --ready-file F [--threads N] [--delay D] [--stall AT,FOR] [--log FILE]
//
// Serves until SIGTERM or SIGINT; then writes the log: one line an operation, `kind n received due sent device` in
// nanoseconds of CLOCK_MONOTONIC.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "tests/support/scripted_hub/server.hpp"

namespace {

using namespace twinstorm;

constexpr const char* kUsage =
    "usage: scripted_hub --ready-file FILE [--threads N] [--delay none|constant:20ms|bimodal:5ms,50ms,90%]\n"
    "                    [--stall AT,FOR] [--log FILE]\n";

scripted_hub::Server* server = nullptr;

void on_signal(int) { server->stop(); }

[[noreturn]] void usage(const std::string& problem) {
  fmt::print(stderr, "scripted_hub: {}\n{}", problem, kUsage);
  std::exit(2);
}

std::string ready_json(const scripted_hub::Server& hub) {
  // The key opens nothing: this hub lets everybody in.
  return fmt::format(
      R"({{"pid":{},"hostName":"scripted.hub","listen":"127.0.0.1","mqttPort":{},"httpPort":{},)"
      R"("ownerConnectionString":"HostName=scripted.hub;SharedAccessKeyName=iothubowner;SharedAccessKey=c2NyaXB0ZWQ="}})",
      ::getpid(), hub.mqtt_port(), hub.http_port());
}

}  // namespace

int main(int argc, char** argv) {
  scripted_hub::Config config;
  std::string ready_file, log_file;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--help") {
      fmt::print("{}", kUsage);
      return 0;
    }
    if (i + 1 == argc) usage(flag + " needs a value");
    const std::string value = argv[++i];
    if (flag == "--ready-file") {
      ready_file = value;
    } else if (flag == "--log") {
      log_file = value;
      config.log = true;
    } else if (flag == "--threads") {
      config.threads = static_cast<unsigned>(std::clamp(std::atoi(value.c_str()), 1, 256));
    } else if (flag == "--delay") {
      const auto delay = scripted_hub::parse_delay(value);
      if (!delay) usage(delay.error().message);
      config.delay = *delay;
    } else if (flag == "--stall") {
      const auto stall = scripted_hub::parse_stall(value);
      if (!stall) usage(stall.error().message);
      config.stall = *stall;
    } else {
      usage("unknown flag " + flag);
    }
  }
  if (ready_file.empty()) usage("--ready-file is needed");
  try {
    scripted_hub::Server hub{config};
    server = &hub;
    std::signal(SIGTERM, on_signal);
    std::signal(SIGINT, on_signal);
    const std::string draft = ready_file + ".tmp";
    std::ofstream{draft} << ready_json(hub) << '\n';
    if (std::rename(draft.c_str(), ready_file.c_str()) != 0) usage("cannot write " + ready_file);
    hub.run();
    if (!log_file.empty()) {
      std::ofstream log{log_file};
      for (const auto& r : hub.records()) {
        log << fmt::format("{} {} {} {} {} {}\n", to_string(r.kind), r.n, r.received, r.due, r.sent, r.device);
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "scripted_hub: {}\n", error.what());
    return 1;
  }
  return 0;
}
