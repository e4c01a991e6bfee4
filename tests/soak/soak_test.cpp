// Memory of generator and hub stays flat however long a run is: days of a fleet's life in compressed time, with tokens
// that last seconds, devices that fall off and come back, queries, patches, telemetry.
//
//   TWINSTORM_SOAK_SECONDS=1200 ctest --test-dir build/release -L soak --output-on-failure
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/run/process_stats.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

using nlohmann::json;

/// One long phase: each phase has counters of its own, which would look like growth. All along devices are cut off, and
/// come back.
std::string scenario(int seconds) {
  std::string text = R"(schema: twinstorm/scenario/1
name: soak
canary: false
target: embedded
seed: 3
fleets:
  - {name: plain, count: 150, tokenLifetime: 8s, onDesired: {report: echo}, reported: {n: {uniform: [1, 100]}}, telemetry: {every: 500ms, size: 256B}, reconnect: {backoff: {initial: 200ms, max: 2s}}}
  - {name: secure, count: 50, tls: true, tokenLifetime: 10s, onDesired: {report: echo}, reported: {n: {uniform: [1, 100]}}, telemetry: {every: 1s, size: 256B}, reconnect: {backoff: {initial: 200ms, max: 2s}}}
backends:
  - {name: rollout, do: patchDesired, select: plain, patch: {climate: {min: {uniform: [60, 70]}}}}
  - {name: careful, do: patchDesired, select: secure, patch: {climate: {min: {uniform: [60, 70]}}}, tls: true}
  - {name: ops, do: query, sql: "SELECT * FROM devices WHERE properties.desired.climate.min > 65", pageSize: 50, pages: all}
phases:
  - {name: connect, connect: 100/s}
)";
  text += fmt::format(
      "  - {{name: days, duration: {}s, load: {{rollout: 40/s, careful: 10/s, ops: 5/s, plain.report: 50/s, "
      "plain.getTwin: 10/s}}, disconnect: {{share: 100%, after: 1s, over: {}s}}}}\n",
      seconds, seconds - 2);
  return text + R"(  - {name: settle, until: {converged: 100%}, timeout: 40s}
invariants: [noLostUpdates, versionsMonotonic, finalStateMatches, noDuplicates]
)";
}

/// Resident bytes of one process, a sample a second.
struct Memory {
  std::vector<double> samples;

  /// What the straight line through the second half (least squares) says the process grew by in that time, in bytes.
  double growth() const {
    const size_t from = samples.size() / 2, n = samples.size() - from;
    const double mean_x = (static_cast<double>(n) - 1) / 2;
    const double mean_y = std::accumulate(samples.begin() + static_cast<std::ptrdiff_t>(from), samples.end(), 0.0) /
                          static_cast<double>(n);
    double along = 0, square = 0;
    for (size_t i = 0; i < n; ++i) {
      const double x = static_cast<double>(i) - mean_x;
      along += x * (samples[from + i] - mean_y);
      square += x * x;
    }
    return square == 0 ? 0 : along / square * static_cast<double>(n);
  }
  double last() const { return samples.empty() ? 0 : samples.back(); }
  /// 2 % and a megabyte: pages that the allocator touches late, and no more in an hour than in a minute.
  double allowed() const { return 0.02 * last() + 1024 * 1024; }
  void expect_flat(const char* who) const {
    ASSERT_GT(samples.size(), 20u) << who;
    EXPECT_LT(growth(), allowed()) << who << " grew over the second half of " << samples.size() << " s";
    fmt::print(
        "{}: {:.1f} MiB at half time, {:.1f} MiB at the end, the line through the second half rises by {:.2f} "
        "MiB ({:.2f} allowed)\n",
        who, samples[samples.size() / 2] / 1048576, last() / 1048576, growth() / 1048576, allowed() / 1048576);
  }
};

TEST(Soak, MemoryOfGeneratorAndHubIsFlat) {
  const char* const asked = std::getenv("TWINSTORM_SOAK_SECONDS");
  if (asked == nullptr) GTEST_SKIP() << "set TWINSTORM_SOAK_SECONDS, such as 1200";
  const int seconds = std::atoi(asked);
  ASSERT_GE(seconds, 30) << "TWINSTORM_SOAK_SECONDS is too short to say anything";

  TemporaryFolder folder;
  const auto file = folder.path() / "soak.yaml";
  const auto out = folder.path() / "run";
  write_file(file, scenario(seconds));
  Process run{{TWINSTORM_BINARY, "run", file.string(), "--out", out.string(), "--quiet"}};
  Memory generator, hub;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 1; i < seconds; ++i) {
    std::this_thread::sleep_until(begin + std::chrono::seconds{i});
    const auto children = run.children();
    const auto own = run::process_stats(run.pid()).resident_bytes;
    const auto child = children.empty() ? 0 : run::process_stats(children.front()).resident_bytes;
    if (own == 0 || child == 0) continue;  // not there yet
    generator.samples.push_back(static_cast<double>(own));
    hub.samples.push_back(static_cast<double>(child));
  }
  ASSERT_EQ(run.wait(std::chrono::seconds{180}), 0) << run.err() << run.out();
  generator.expect_flat("generator");
  hub.expect_flat("hub");
  const auto summary = json::parse(read_file(out / "summary.json"));
  fmt::print(
      "{} operations, {} token renewals, {} devices\n", summary["ledger"]["acknowledged"].dump(),
      summary["operations"].contains("renewToken") ? summary["operations"]["renewToken"]["acknowledged"].dump() : "no",
      summary["devices"]["connected"].dump());
}

}  // namespace
}  // namespace twinstorm::testing
