// What a query costs: its text parsed into a plan, WHERE over one twin, rows written, and a scan of a fleet as large as
// a hub's, where memory counts for more than evaluation.
#include <memory>
#include <string>
#include <string_view>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "sim/hub/query/aggregation.hpp"
#include "sim/hub/query/query.hpp"
#include "sim/hub/store/device_store.hpp"

namespace twinstorm::hub {
namespace {

using query::Query;

constexpr std::string_view kPoint = "SELECT * FROM devices WHERE tags.location.plant = 'Redmond43'";
constexpr std::string_view kRange = "properties.reported.battery.level < 20 AND tags.location.region = 'US'";

twin::TwinDocument sample(int index) {
  twin::TwinDocument document = twin::TwinDocument::fresh(fmt::format("dev-{:06}", index), "", WallTime{});
  const std::string body = fmt::format(
      R"({{"tags":{{"location":{{"region":"{}","plant":"Redmond{}","building":"B{}"}},"ring":{},"customer":"contoso"}},)"
      R"("properties":{{"desired":{{"telemetryConfig":{{"sendFrequencyInSecs":300,"batchSize":20}},"firmware":)"
      R"({{"version":"1.4.2","package":"https://updates.example.com/fw/1.4.2.bin"}},"logLevel":"info"}}}}}})",
      index % 2 == 0 ? "US" : "EU", 40 + index % 10, index % 97, index % 8);
  twin::apply_service_patch(document, twin::parse_value(body).value(), WallTime{}).value();
  const std::string reported = fmt::format(
      R"({{"telemetryConfig":{{"status":"Success"}},"firmware":{{"version":"1.4.2"}},"battery":{{"level":{}}},)"
      R"("connectivity":{{"type":"cellular","signal":-71}},"climate":{{"temperature":21.5,"humidity":44}}}})",
      index % 100);
  twin::apply_reported_patch(document, twin::parse_value(reported).value(), WallTime{}).value();
  return document;
}

std::string where(std::string_view condition) { return fmt::format("SELECT * FROM devices WHERE {}", condition); }

// --- Parse and plan --------------------------------------------------------------------------------------------------

void QueryParsePoint(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Query::parse(kPoint));
}
BENCHMARK(QueryParsePoint);

void QueryParseProjection(benchmark::State& state) {
  constexpr std::string_view kText =
      "SELECT TOP 10 deviceId, properties.reported.firmware.version AS firmware, tags.location.plant FROM devices "
      "WHERE (tags.ring IN [1, 2, 3] OR STARTSWITH(tags.customer, 'con')) AND NOT properties.desired.logLevel = 'off'";
  for (auto _ : state) benchmark::DoNotOptimize(Query::parse(kText));
}
BENCHMARK(QueryParseProjection);

/// As long as a query may be; the time must grow with the text, not faster.
void QueryParseManyOrs(benchmark::State& state) {
  std::string text = where("tags.ring = 0");
  for (int i = 1; i < state.range(0); ++i) text += fmt::format(" OR tags.ring = {}", i);
  for (auto _ : state) benchmark::DoNotOptimize(Query::parse(text));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(QueryParseManyOrs)->Arg(40)->Arg(160)->Arg(380);

// --- Evaluate one twin -----------------------------------------------------------------------------------------------

void evaluate(benchmark::State& state, std::string_view condition) {
  const Query query = Query::parse(where(condition)).value();
  const twin::TwinDocument document = sample(43);
  for (auto _ : state) benchmark::DoNotOptimize(query.matches(document));
}
void QueryEvaluateTag(benchmark::State& state) { evaluate(state, "tags.location.plant = 'Redmond43'"); }
BENCHMARK(QueryEvaluateTag);
void QueryEvaluateRange(benchmark::State& state) { evaluate(state, kRange); }
BENCHMARK(QueryEvaluateRange);
void QueryEvaluateMetadata(benchmark::State& state) {
  evaluate(state, "properties.reported.$metadata.battery.level.$lastUpdated > '2026-01-01'");
}
BENCHMARK(QueryEvaluateMetadata);
void QueryEvaluateFunctions(benchmark::State& state) {
  evaluate(state,
           "STARTSWITH(tags.customer, 'con') AND IS_DEFINED(properties.desired.firmware) AND tags.ring IN [3, 5]");
}
BENCHMARK(QueryEvaluateFunctions);

void QueryWriteTwin(benchmark::State& state) {
  const Query query = Query::parse(kPoint).value();
  const twin::TwinDocument document = sample(3);
  std::string out;
  for (auto _ : state) {
    out.clear();
    query.write_row(document, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(out.size()));
}
BENCHMARK(QueryWriteTwin);

// --- Scan a fleet ----------------------------------------------------------------------------------------------------

const DeviceStore& fleet(int devices) {
  static std::unique_ptr<DeviceStore> store;
  if (store == nullptr || static_cast<int>(store->devices.size()) != devices) {
    store = std::make_unique<DeviceStore>();
    for (int i = 0; i < devices; ++i) {
      DeviceRecord record;
      record.twin = sample(i);
      store->devices.insert(std::move(record));
    }
  }
  return *store;
}

void count_fleet(benchmark::State& state, std::string_view sql) {
  const DeviceStore& store = fleet(static_cast<int>(state.range(0)));
  const Query query = Query::parse(sql).value();
  for (auto _ : state) {
    query::Aggregation total{query};
    store.devices.visit_queried({}, [&total](const twin::TwinDocument& twin) {
      total.add(twin);
      return true;
    });
    benchmark::DoNotOptimize(total.rows());
  }
  state.counters["ns/twin"] =
      benchmark::Counter(static_cast<double>(state.range(0)) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
void QueryCountFleet(benchmark::State& state) {
  count_fleet(state, fmt::format("SELECT COUNT() AS total FROM devices WHERE {}", kRange));
}
BENCHMARK(QueryCountFleet)->Arg(10'000)->Arg(30'000)->Arg(100'000)->Unit(benchmark::kMillisecond);
void QueryGroupFleet(benchmark::State& state) {
  count_fleet(state, "SELECT tags.location.plant, COUNT() AS total FROM devices GROUP BY tags.location.plant");
}
BENCHMARK(QueryGroupFleet)->Arg(100'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace twinstorm::hub
