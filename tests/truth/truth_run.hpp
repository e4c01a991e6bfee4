// Runs against the scripted hub, and what the hub itself knows about them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {

namespace fs = std::filesystem;
using nlohmann::json;

/// One operation as the hub saw it; times in nanoseconds of CLOCK_MONOTONIC.
struct Stamps {
  std::string kind;
  uint64_t n = 0;
  int64_t received = 0, due = 0, sent = 0;
  std::string device;
};

/// The scripted hub as a process; `log` stops it.
class ScriptedHub {
 public:
  explicit ScriptedHub(std::vector<std::string> flags = {}) : process_{words(std::move(flags))} {
    for (int i = 0; i < 500 && !fs::exists(ready()); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  std::string ready() const { return (folder_.path() / "hub.json").string(); }
  json address() const { return json::parse(read_file(ready())); }
  json counts() const { return json::parse(http_get(address()["httpPort"], "/twinstorm/counts")); }

  /// Operations of one kind by devices whose id begins with `prefix` (the canary has a device of its own), in the order
  /// they came.
  std::vector<Stamps> log(const std::string& kind, const std::string& prefix) {
    process_.signal(SIGTERM);
    EXPECT_EQ(process_.wait(), 0) << process_.err();
    std::istringstream lines{read_file(folder_.path() / "log")};
    std::vector<Stamps> all;
    for (Stamps s; lines >> s.kind >> s.n >> s.received >> s.due >> s.sent >> s.device;) {
      if (s.kind == kind && s.device.starts_with(prefix)) all.push_back(s);
    }
    return all;
  }

 private:
  std::vector<std::string> words(std::vector<std::string> flags) const {
    std::vector<std::string> all{SCRIPTED_HUB_BINARY, "--ready-file", ready(), "--log",
                                 (folder_.path() / "log").string()};
    all.insert(all.end(), flags.begin(), flags.end());
    return all;
  }

  TemporaryFolder folder_;
  Process process_;
};

/// What a run said, and its record.
struct RunResult {
  int code = -1;
  std::string out, err;
  json record;
};

/// Runs a scenario against `ready_file`; `body` is everything but name and target.
inline RunResult run_scenario(const std::string& ready_file, const std::string& body,
                              const std::vector<std::string>& flags = {}, const fs::path& keep = {},
                              const std::function<void(Process&)>& meanwhile = {}) {
  TemporaryFolder folder;
  const auto file = folder.path() / "scenario.yaml";
  const auto out = keep.empty() ? folder.path() / "run" : keep;
  write_file(file, "schema: twinstorm/scenario/1\nname: truth\ntarget: " +
                       (ready_file.empty() ? std::string{"embedded"} : "{readyFile: '" + ready_file + "'}") + "\n" +
                       body);
  std::vector<std::string> words{TWINSTORM_BINARY, "run", file.string(), "--out", out.string(), "--quiet"};
  words.insert(words.end(), flags.begin(), flags.end());
  Process run{words};
  if (meanwhile) meanwhile(run);
  RunResult result;
  result.code = run.wait(std::chrono::seconds{120});
  result.out = run.out();
  result.err = run.err();
  if (fs::exists(out / "summary.json")) result.record = json::parse(read_file(out / "summary.json"));
  return result;
}

/// The smallest value that at least the share `p` of the values does not exceed.
inline int64_t percentile(const std::vector<int64_t>& sorted, double p) {
  const auto rank = static_cast<size_t>(std::ceil(p * static_cast<double>(sorted.size()) - 1e-9));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

}  // namespace twinstorm::testing
