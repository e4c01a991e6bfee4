// A shard in steady state allocates nothing for an operation: memory that a run needs is there before its load begins,
// so it cannot grow with the length of the run, and no operation waits for the allocator.
#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "sim/hub/hub.hpp"
#include "sim/run/certificates.hpp"
#include "sim/run/hub_link.hpp"
#include "sim/run/shard.hpp"
#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"
#include "tests/support/ledger.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TWINSTORM_COUNTS_ALLOCATIONS 0
#else
#define TWINSTORM_COUNTS_ALLOCATIONS 1
#endif

namespace {

thread_local bool counted = false;  // only the shard's thread: hub and test run in this process, too
std::atomic<bool> counting{false};
std::atomic<uint64_t> allocations{0};

void count() {
  if (counted && counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

#if TWINSTORM_COUNTS_ALLOCATIONS
// In front of the C library's: operator new ends here, too.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);

void* malloc(size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(size_t number, size_t size) {
  count();
  return __libc_calloc(number, size);
}
void* realloc(void* block, size_t size) {
  count();
  return __libc_realloc(block, size);
}
}
#endif

namespace twinstorm::run {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kHead = R"(
schema: twinstorm/scenario/1
name: allocations
target: embedded
seed: 5
fleets:
  - name: a
    count: 100
    reported: {battery: {uniform: [5, 100]}}
    onDesired: {report: echo}
    telemetry: {size: 256B}
backends:
  - {name: rollout, do: patchDesired, select: a, patch: {climate: {min: {uniform: [60, 70]}}}}
phases:
  - {name: connect, connect: {rate: 1000/s}, duration: 500ms}
  - {name: steady, duration: 60s, load: {LOAD}}
limits: {operationTimeout: 5s, convergenceTimeout: 10s}
)";

struct Measured {
  uint64_t operations = 0, allocations = 0;
  double each() const { return static_cast<double>(allocations) / static_cast<double>(operations); }
};

uint64_t acknowledged(const Shard& shard) {
  uint64_t sum = 0;
  for (metrics::StreamIndex s = 0; s < shard.recorder().layout().streams.size(); ++s) {
    sum += twinstorm::testing::ledger_of(shard.recorder(), s).acknowledged;
  }
  return sum;
}

/// What one shard allocates between two moments of a steady load.
Measured measure(std::string_view load) {
  SteadyClock clock;
  std::string text{kHead};
  text.replace(text.find("LOAD"), 4, load);
  const auto loaded = scenario::load_scenario(text, "allocations.yaml");
  for (const auto& each : loaded.diagnostics) ADD_FAILURE() << each.path << ": " << each.message;
  if (!loaded.ok()) return {};
  const auto resolved = scenario::resolve(*loaded.scenario, 1);
  const auto plan = make_fleet_plan(resolved, {}, {});
  auto hub = hub::Hub::start({}).value();
  HubAddress address;
  address.host = "127.0.0.1";
  address.host_name = hub->config().host_name;
  address.mqtt_port = hub->ports().mqtt;
  address.http_port = hub->ports().http;
  address.service_connection_string = hub->owner_connection_string();
  const auto link = make_hub_link(address, {}).value();
  const auto links = make_fleet_links(link, resolved).value();
  const device::Authority authority{link.host_name, "group secret"};
  EXPECT_TRUE(provision(link, *plan, authority, {}));

  metrics::ShardRecorder recorder{plan->layout};
  Shard shard{{.id = 0,
               .shards = 1,
               .plan = plan.get(),
               .targets = links.targets,
               .hub = &link,
               .authority = &authority,
               .keep_model = false},
              recorder,
              clock};
  std::thread thread{[&shard] {
    counted = true;
    shard.run();
  }};
  const auto wait_for = [&](uint64_t operations) {
    for (int i = 0; i < 6'000 && acknowledged(shard) < operations; ++i) std::this_thread::sleep_for(5ms);
  };
  shard.begin_phase(0, clock.mono());
  for (int i = 0; i < 2'000 && shard.recorder().devices().online < 100; ++i) std::this_thread::sleep_for(5ms);
  shard.begin_phase(1, clock.mono());
  wait_for(acknowledged(shard) + 3'000);  // buffers and pools have reached their sizes
  const uint64_t before = acknowledged(shard);
  allocations = 0;
  counting = true;
  wait_for(before + 2'000);
  counting = false;
  const Measured measured{acknowledged(shard) - before, allocations};
  shard.finish_load(clock.mono());
  shard.stop();
  thread.join();
  hub->stop();
  EXPECT_GE(measured.operations, 2'000u);
  return measured;
}

// A buffer that reaches a new size late costs one allocation, whatever the number of operations: one in a hundred is
// room for that and no room for one an operation.
constexpr double kAllowed = 0.01;

class Allocations : public ::testing::Test {
 protected:
  void SetUp() override {
    if (TWINSTORM_COUNTS_ALLOCATIONS == 0) GTEST_SKIP() << "a sanitizer brings its own allocator";
  }
};

TEST_F(Allocations, AReportAllocatesNothing) {
  const auto measured = measure("a.report: 800/s");
  EXPECT_LE(measured.each(), kAllowed) << measured.allocations << " for " << measured.operations << " operations";
}

TEST_F(Allocations, AMessageOfTelemetryAllocatesNothing) {
  const auto measured = measure("a.telemetry: 800/s");
  EXPECT_LE(measured.each(), kAllowed) << measured.allocations << " for " << measured.operations << " operations";
}

TEST_F(Allocations, AReadOfItsTwinAllocatesNothing) {
  const auto measured = measure("a.getTwin: 800/s");
  EXPECT_LE(measured.each(), kAllowed) << measured.allocations << " for " << measured.operations << " operations";
}

// Each is two operations: the patch, and the report of the device.
TEST_F(Allocations, ADesiredPatchWithItsReportAllocatesNothing) {
  const auto measured = measure("rollout: 400/s");
  EXPECT_LE(measured.each(), kAllowed) << measured.allocations << " for " << measured.operations << " operations";
}

}  // namespace
}  // namespace twinstorm::run
