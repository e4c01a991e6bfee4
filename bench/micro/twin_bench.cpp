// What a twin costs the hub: parsing, patching, printing, and a WHERE per twin of a large scan.
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>

#include "sim/hub/query/page.hpp"
#include "sim/twin/merge.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm {
namespace {

using twin::TwinDocument;
using twin::Value;

constexpr std::string_view kTags = R"({"location":{"region":"US","plant":"Redmond43"},"floor":3,"ring":1})";
constexpr std::string_view kDesired =
    R"({"telemetryConfig":{"sendFrequencyInSecs":300,"batchSize":20},"fw":"1.2.3",)"
    R"("climate":{"minTemperature":"68","maxTemperature":"76","hvac":{"systemControl":true}}})";
constexpr std::string_view kReported =
    R"({"telemetryConfig":{"sendFrequencyInSecs":300,"status":"Success"},"fw":"1.2.3",)"
    R"("connectivity":{"type":"cellular","signal":-71},"battery":87,"temperature":21.5})";

TwinDocument sample(int index = 0) {
  TwinDocument document = TwinDocument::fresh("dev-" + std::to_string(100'000 + index), "", WallTime{});
  const std::string body =
      R"({"tags":)" + std::string{kTags} + R"(,"properties":{"desired":)" + std::string{kDesired} + "}}";
  twin::apply_service_patch(document, twin::parse_value(body).value(), WallTime{}).value();
  Value reported = twin::parse_value(kReported).value();
  reported.set("battery", Value::number(index % 100));
  twin::apply_reported_patch(document, reported, WallTime{}).value();
  return document;
}

std::string service_json(const TwinDocument& document) {
  std::string json;
  twin::write_service_twin(document, json);
  return json;
}

void TwinParse(benchmark::State& state) {
  const std::string json = service_json(sample());
  for (auto _ : state) benchmark::DoNotOptimize(twin::parse_value(json));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(json.size()));
}
BENCHMARK(TwinParse);

/// The yardstick: the same text into a general DOM.
void TwinParseGeneralDom(benchmark::State& state) {
  const std::string json = service_json(sample());
  for (auto _ : state) benchmark::DoNotOptimize(nlohmann::json::parse(json));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(json.size()));
}
BENCHMARK(TwinParseGeneralDom);

/// A whole service PATCH: parse the body, check it, merge it, make the notification.
void TwinPatchDesired(benchmark::State& state) {
  TwinDocument document = sample();
  const std::string body = R"({"properties":{"desired":{"climate":{"hvac":{"systemControl":true}},"seq":12345}}})";
  for (auto _ : state) {
    const auto value = twin::parse_body(body);
    benchmark::DoNotOptimize(twin::apply_service_patch(document, *value, WallTime{}));
  }
}
BENCHMARK(TwinPatchDesired);

void TwinReport(benchmark::State& state) {
  TwinDocument document = sample();
  const std::string body = R"({"climate":{"hvac":{"systemControl":true}},"seq":12345})";
  for (auto _ : state) {
    const auto value = twin::parse_body(body);
    benchmark::DoNotOptimize(twin::apply_reported_patch(document, *value, WallTime{}));
  }
}
BENCHMARK(TwinReport);

void TwinMergePatch(benchmark::State& state) {
  Value target = twin::parse_value(kDesired).value();
  const Value patch = twin::parse_value(R"({"climate":{"hvac":{"systemControl":false}},"seq":12345})").value();
  for (auto _ : state) twin::merge_patch(target, patch);
}
BENCHMARK(TwinMergePatch);

void TwinWriteForService(benchmark::State& state) {
  const TwinDocument document = sample();
  std::string json;
  for (auto _ : state) {
    json.clear();
    twin::write_service_twin(document, json);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(json.size()));
}
BENCHMARK(TwinWriteForService);

void TwinWriteForDevice(benchmark::State& state) {
  const TwinDocument document = sample();
  std::string json;
  for (auto _ : state) {
    json.clear();
    twin::write_device_twin(document, json);
  }
}
BENCHMARK(TwinWriteForDevice);

/// Not a time: bytes a twin of this shape holds.
void TwinFootprint(benchmark::State& state) {
  const TwinDocument document = sample();
  for (auto _ : state) benchmark::DoNotOptimize(document.heap_bytes());
  state.counters["bytes"] = static_cast<double>(sizeof(TwinDocument) + document.heap_bytes());
  state.counters["json"] = static_cast<double>(service_json(document).size());
}
BENCHMARK(TwinFootprint);

void QueryParse(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        hub::query::Query::parse("SELECT * FROM devices WHERE tags.location.plant = 'Redmond43' AND "
                                 "properties.reported.connectivity.type = 'cellular'"));
  }
}
BENCHMARK(QueryParse);

/// One shard's scan for one page: nearly every twin is looked at, few match.
void QueryScan(benchmark::State& state) {
  std::vector<TwinDocument> twins;
  for (int i = 0; i < 10'000; ++i) twins.push_back(sample(i));
  const auto query = hub::query::Query::parse(
                         "SELECT * FROM devices WHERE tags.location.plant = 'Redmond43' AND "
                         "properties.reported.connectivity.type = 'cellular' AND properties.reported.battery = 42")
                         .value();
  for (auto _ : state) {
    hub::query::PageCollector collector{query, hub::query::Cursor{}, 20};
    for (const TwinDocument& document : twins) collector.offer(document);
    benchmark::DoNotOptimize(collector.take_rows());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(twins.size()));
}
BENCHMARK(QueryScan);

void QueryGroupBy(benchmark::State& state) {
  std::vector<TwinDocument> twins;
  for (int i = 0; i < 10'000; ++i) twins.push_back(sample(i));
  const auto query = hub::query::Query::parse(
                         "SELECT properties.reported.telemetryConfig.status AS status, COUNT() AS n, "
                         "AVG(properties.reported.battery) AS battery FROM devices "
                         "GROUP BY properties.reported.telemetryConfig.status")
                         .value();
  for (auto _ : state) {
    hub::query::Aggregation total{query};
    for (const TwinDocument& document : twins) total.add(document);
    benchmark::DoNotOptimize(total.rows());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(twins.size()));
}
BENCHMARK(QueryGroupBy);

}  // namespace
}  // namespace twinstorm
