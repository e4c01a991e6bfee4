#include "metrics/run_record.hpp"

#include <fstream>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace twinstorm::metrics {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;

/// A small run that has something of everything.
RunContents make_sample_run() {
  const RecorderLayout layout{{{"therm.connect", OpKind::connect, "therm", "mqtt"},
                               {"rollout", OpKind::patch_desired, "rollout", "http"},
                               {"hotfix", OpKind::patch_desired, "hotfix", "http"},
                               {"dashboard", OpKind::query, "dashboard", "http"}},
                              {{"warmup", false}, {"steady", true}, {"storm", true}, {"settle", true}},
                              50ms};
  const WallTime start{1'700'000'000s};
  ShardRecorder a(layout), b(layout);
  Aggregator aggregator(layout, {&a, &b}, MonoTime{});
  std::mt19937_64 random(1);
  RunContents run;
  for (int second = 1; second <= 20; ++second) {
    const PhaseIndex phase = second <= 2 ? 0 : second <= 12 ? 1 : 2;
    for (int i = 0; i < 120; ++i) {
      auto& shard = i % 2 == 0 ? a : b;
      const StreamIndex stream = 1 + static_cast<StreamIndex>(i % 3 == 0);
      const Nanos latency{static_cast<int64_t>(random() % 20'000'000)};
      shard.turn(1'700'000'000 + second);
      shard.asked(stream, phase);
      shard.schedule_lag(phase, 100us);
      if (i == 7) {
        shard.dropped(stream, phase, ErrorClass::device_offline);
        continue;
      }
      shard.sent(stream, phase);
      if (i == 8) {
        shard.failed(stream, phase, ErrorClass::throttled, 3ms);
        continue;
      }
      shard.acknowledged(stream, phase, latency, latency / 2);
      shard.convergence_started(phase);
      if (second == 20) continue;
      shard.convergence_ended(phase, ConvergenceOutcome::applied,
                              {latency * 3, latency, latency, latency, latency / 3});
    }
    if (second > 2 && second < 16) {
      a.asked(3, phase);
      a.sent(3, phase);
      for (const uint64_t rows : {100, 100, 37}) a.page(3, phase, rows);
      a.acknowledged(3, phase, 9ms, 8ms);
      a.query_ended(3, phase, 3, 237);
      b.conflict(1, phase);
      b.retried(1, phase);
      b.staleness_started(phase);
      if (second % 5 == 0) {
        b.staleness_ended(phase, StalenessOutcome::not_visible, 0s);
      } else if (second % 5 != 1) {
        b.staleness_ended(phase, StalenessOutcome::visible, std::chrono::seconds{second});
      }
    }
    a.set_devices({0, 1, 40, 2});
    a.bytes_in(1234);
    a.busy(300ms);
    auto interval = aggregator.take(MonoTime{} + std::chrono::seconds{second});
    interval.phase = layout.phases[phase].name;
    interval.streams[1].target_rate = 80;
    interval.cpu_share = 0.25;
    interval.resident_bytes = 50'000'000;
    run.series.push_back(std::move(interval));
  }
  a.reconnected(ReconnectReason::keep_alive);

  auto totals = aggregator.totals();
  const std::vector<PhaseTiming> timings{{0, 2, ""}, {2, 10, ""}, {12, 8, "cut short"}};
  auto& record = run.record;
  fill_measurements(record, totals, timings, start);
  run.histograms = collect_histograms(totals, timings, start);
  record.run = {"run-1",
                "rollout-5k",
                "a \"quoted\" text\n",
                18'446'744'073'709'551'615u,
                "2023-11-14T22:13:20Z",
                20.0,
                record.run.recorded_seconds,
                "0.1.0",
                "embedded",
                "twinstorm run x.yaml --seed 42",
                {"open files of the generator: 300 needed, 200 there"}};
  record.devices.target = 43;
  record.devices.connected = 40;
  record.devices.connected_max = 43;
  record.slos = {to_record(judge(*parse_slo("rollout p95 < 500ms during steady"), totals)),
                 to_record(judge(*parse_slo("connect p99 < 1s"), totals))};
  record.invariants = {check_no_lost_updates(totals, {"therm-00042: version 7"})};
  record.validity = {{"tooFewSamples", "too few"}};
  record.verdict = {VerdictStatus::invalid, 13, {"invalid (tooFewSamples): too few"}};
  record.generator.cpu_seconds = 3.5;
  record.generator.resident_bytes = 52'000'000;
  record.generator.heap_bytes_per_device = 612.5;
  record.generator.busy_shares = {0.3, 0.0};
  record.hub = HubRecord{1.25, 33'000'000, {true, {{"patches", 10, 12, 3}, {"connects", 1, 2}}}};
  record.throttling = ThrottlingRecord{
      "S1",
      2,
      {{"twinReads", 100.0, 9'000, 4'000, 77, 1.5, 2.25, 3.0, 6'000.5}, {"queries", {}, 3, 0, 0, {}, {}, {}, 0}},
      12'000,
      {}};
  record.canary.emplace();
  record.canary->device = "rollout-canary";
  record.canary->client = "Paho MQTT C++ 1.2.0";
  record.canary->operations["report"] = {60, 58, 1, 1};
  record.canary->cpu_seconds = 0.12;
  record.canary->rows = {
      {"steady",
       "report",
       60,
       4000,
       {{0.5, PercentileEstimate{0.0004, 0.0003, 0.0006}, PercentileEstimate{0.0003, 0.0002, 0.0003},
         CanaryVerdict::agree},
        {0.99, std::nullopt, PercentileEstimate{0.002, 0.001, std::nullopt}, CanaryVerdict::too_few_samples}},
       CanaryVerdict::agree}};
  judge_canary(*record.canary);
  record.workers = {{"local", 43, 3.5, false}};
  run.events = {{0.0, "phase", "warmup"}, {12.5, "storm", "30 % of the devices"}};
  run.resolved_yaml = "name: rollout-5k\n";
  run.env_json = R"({"cpu": "test"})";
  return run;
}

const RunContents& sample_run() {
  static const auto run = make_sample_run();
  return run;
}

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    path = fs::path(testing::TempDir()) / ("twinstorm-" + std::to_string(::getpid()) + "-" +
                                           testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(path);
  }
  void TearDown() override { fs::remove_all(path); }
  std::string read(const std::string& name) {
    std::ifstream in(path / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& content) { std::ofstream(path / name) << content; }
  std::string refusal() {
    const auto run = load_run(path);
    return run ? "accepted" : std::string(to_string(run.error().code)) + ": " + run.error().message;
  }
  fs::path path;
};

// --- numbers ---------------------------------------------------------------------------------------------

TEST(RunRecordNumbers, AddUpOverStreamsKindsAndPhases) {
  const auto record = sample_run().record;
  const auto& patch = record.operations.at("patchDesired");
  EXPECT_EQ(patch.asked, 18u * 120) << "without the warm-up";
  EXPECT_EQ(patch.dropped, 18u);
  EXPECT_EQ(patch.failed, 18u);
  EXPECT_EQ(patch.acknowledged, 18u * 118);
  EXPECT_EQ(patch.asked, patch.sent + patch.dropped + patch.not_started);
  EXPECT_EQ(patch.sent, patch.acknowledged + patch.failed + patch.timed_out + patch.in_flight);
  EXPECT_EQ(patch.intended.count, patch.acknowledged);
  EXPECT_DOUBLE_EQ(patch.rate_per_second, 18.0 * 118 / 18);
  EXPECT_DOUBLE_EQ(*patch.error_share(), 18.0 / (18 * 119));
  EXPECT_EQ(patch.errors, (std::map<std::string, uint64_t>{{"deviceOffline", 18}, {"throttled", 18}}));
  EXPECT_EQ(patch.streams.at("rollout").asked + patch.streams.at("hotfix").asked, patch.asked);
  EXPECT_EQ(record.operations.at("connect").asked, 0u) << "kinds of the scenario are there, used or not";
  EXPECT_FALSE(record.operations.contains("telemetry"));

  EXPECT_EQ(record.ledger.asked, 20u * 120 + 13) << "with the warm-up";
  EXPECT_TRUE(record.ledger.holds);
  EXPECT_EQ(record.run.recorded_seconds, 18);
  ASSERT_EQ(record.phases.size(), 4u);
  EXPECT_EQ(record.phases[1].operations.at("patchDesired").asked, 10u * 120);
  EXPECT_DOUBLE_EQ(record.phases[1].operations.at("patchDesired").rate_per_second, 118);
  EXPECT_EQ(record.phases[2].note, "cut short");
  EXPECT_EQ(record.phases[3].note, "did not run");
  EXPECT_EQ(record.convergence.started, 18u * 118);
  EXPECT_EQ(record.convergence.open, 118u);
  EXPECT_EQ(record.convergence.backlog_max, 118u);
  EXPECT_EQ(record.devices.reconnect_reasons, (std::map<std::string, uint64_t>{{"keepAlive", 1}}));
  EXPECT_DOUBLE_EQ(record.generator.dropped_share, 18.0 / (18 * 120 + 13));

  ASSERT_EQ(record.errors.size(), 2u);
  EXPECT_EQ(record.errors[0].count, 20u);
  EXPECT_EQ(record.errors[0].first_seconds, 1);
  EXPECT_EQ(record.errors[0].last_seconds, 20);
}

TEST(RunRecordNumbers, LeaveOutPercentilesWithFewerThanTenSamplesBeyond) {
  HistogramSnapshot h;
  EXPECT_EQ(summarise(h), LatencyRecord{});
  h.record(412'351us, 150);
  const auto r = summarise(h);
  EXPECT_EQ(r.count, 150u);
  EXPECT_EQ(r.p50, 0.412351);
  EXPECT_TRUE(r.p90);
  EXPECT_FALSE(r.p95);
  EXPECT_FALSE(r.p99);
  EXPECT_FALSE(r.p999);
  EXPECT_EQ(r.max, 0.412351);
}

// --- JSON ------------------------------------------------------------------------------------------------

TEST(RunRecordJson, ComesBackTheSame) {
  const auto record = sample_run().record;
  const auto text = to_json(record).dump();
  const auto back = run_record_from_json(Json::parse(text));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, record);
  EXPECT_EQ(to_json(*back).dump(), text);
}

TEST(RunRecordJson, HasTheStableMembersOfTheContract) {
  const auto json = to_json(sample_run().record);
  EXPECT_EQ(json.begin().key(), "schema");
  EXPECT_EQ(json.at("schema"), "twinstorm/summary/1");
  EXPECT_EQ(json.at("verdict").at("status"), "invalid");
  EXPECT_EQ(json.at("verdict").at("exitCode"), 13);
  for (const auto* member : {"id", "scenario", "seed", "startedAt", "durationSeconds", "version"}) {
    EXPECT_TRUE(json.at("run").contains(member)) << member;
  }
  const auto& operation = json.at("operations").at("patchDesired");
  for (const auto* member : {"asked", "sent", "acknowledged", "failed", "timedOut", "dropped", "inFlight",
                             "ratePerSecond", "intended", "service", "errors", "streams"}) {
    EXPECT_TRUE(operation.contains(member)) << member;
  }
  for (const auto* member : {"count", "mean", "p50", "p90", "p95", "p99", "p999", "max"}) {
    EXPECT_TRUE(operation.at("intended").contains(member)) << member;
  }
  for (const auto* member : {"started", "applied", "superseded", "lost", "duplicate", "reordered", "unconverged",
                             "backlogMax", "total", "delivery", "apply", "acknowledge"}) {
    EXPECT_TRUE(json.at("convergence").contains(member)) << member;
  }
  for (const auto* member : {"target", "connected", "reconnects"}) {
    EXPECT_TRUE(json.at("devices").contains(member)) << member;
  }
  for (const auto* member : {"cpuSeconds", "residentBytes", "heapBytesPerDevice", "scheduleLag"}) {
    EXPECT_TRUE(json.at("generator").contains(member)) << member;
  }
  for (const auto* member : {"holds", "asked", "sent", "acknowledged", "failed", "timedOut", "dropped", "inFlight"}) {
    EXPECT_TRUE(json.at("ledger").contains(member)) << member;
  }
  EXPECT_EQ(json.at("hub").at("matches"), false);
  EXPECT_EQ(json.at("hub").at("rows").at(1), (Json{{"name", "connects"}, {"run", 1}, {"hub", 2}, {"unknown", 0}}));
  EXPECT_TRUE(json.at("operations").at("connect").at("intended").at("p99").is_null());
}

TEST(RunRecordJson, HasAFlatBlockForScripts) {
  const auto ci = ci_block(sample_run().record);
  for (const auto& [key, value] : ci.items()) EXPECT_TRUE(value.is_primitive()) << key;
  EXPECT_EQ(ci.at("passed"), false);
  EXPECT_EQ(ci.at("exitCode"), 13);
  EXPECT_EQ(ci.at("slosPassed"), 1);
  EXPECT_EQ(ci.at("slosUndecided"), 1);
  EXPECT_EQ(ci.at("updatesStarted"), 18 * 118);
  EXPECT_GT(ci.at("patchDesiredP99Seconds"), 0.0);
  EXPECT_EQ(ci.at("heapBytesPerDevice"), 612.5);
}

TEST(RunRecordJson, OmitsTheHubOfARunAgainstARealService) {
  auto record = sample_run().record;
  record.hub.reset();
  record.canary.reset();
  EXPECT_FALSE(to_json(record).contains("hub"));
  EXPECT_EQ(run_record_from_json(to_json(record))->hub, std::nullopt);
}

TEST(RunRecordJson, NamesTheMemberThatIsWrong) {
  const auto good = to_json(sample_run().record);
  const auto refusal = [&](const char* pointer, const Json& value) {
    auto json = good;
    json[Json::json_pointer(pointer)] = value;
    const auto record = run_record_from_json(json);
    return record ? std::string("accepted") : record.error().message;
  };
  EXPECT_EQ(refusal("/schema", "twinstorm/summary/2"),
            "schema is \"twinstorm/summary/2\", expected \"twinstorm/summary/1\"");
  EXPECT_EQ(refusal("/operations/patchDesired/asked", -1),
            "\"operations.patchDesired.asked\" is number, expected a whole number from 0");
  EXPECT_EQ(refusal("/phases/1/name", 7), "\"phases[1].name\" is number, expected a string");
  EXPECT_EQ(refusal("/verdict/status", "great"), "\"verdict.status\" is \"great\"");
  EXPECT_EQ(refusal("/convergence/total/p99", "fast"), "\"convergence.total.p99\" is string, expected a number");
  auto missing = good;
  missing["convergence"].erase("lost");
  EXPECT_EQ(run_record_from_json(missing).error().message, "member \"convergence.lost\" is missing");
  EXPECT_EQ(run_record_from_json(Json::array()).error().message, "the document is array, expected an object");
  auto newer = good;
  newer["addedLater"] = 1;
  EXPECT_TRUE(run_record_from_json(newer));
}

/// As much of JSON Schema as our schema uses; the first disagreement, or an empty text.
std::string disagreement(const Json& schema, const Json& root, const Json& value, const std::string& path) {
  if (schema.contains("$ref")) {
    const auto target = schema.at("$ref").get<std::string>().substr(1);
    return disagreement(root.at(Json::json_pointer(target)), root, value, path);
  }
  if (schema.contains("const") && value != schema.at("const")) return path + ": not the constant";
  if (schema.contains("enum")) {
    const auto& all = schema.at("enum");
    if (std::find(all.begin(), all.end(), value) == all.end()) return path + ": not in the enumeration";
  }
  if (schema.contains("type")) {
    const auto is = [&](const std::string& type) {
      return type == "integer" ? value.is_number_integer() : value.type_name() == type;
    };
    const auto& type = schema.at("type");
    const bool any = type.is_array() ? std::any_of(type.begin(), type.end(), [&](const Json& t) { return is(t); })
                                     : is(type.get<std::string>());
    if (!any) return path + ": is " + value.type_name() + ", not " + type.dump();
  }
  if (schema.contains("minimum") && value < schema.at("minimum")) return path + ": below the minimum";
  if (value.is_object()) {
    for (const auto& key : schema.value("required", Json::array())) {
      if (!value.contains(key.get<std::string>())) return path + ": " + key.get<std::string>() + " is missing";
    }
    const auto properties = schema.value("properties", Json::object());
    for (const auto& [key, member] : value.items()) {
      const auto here = path + "." + key;
      if (properties.contains(key)) {
        if (auto problem = disagreement(properties.at(key), root, member, here); !problem.empty()) return problem;
      } else if (schema.contains("additionalProperties") && schema.at("additionalProperties").is_object()) {
        if (auto problem = disagreement(schema.at("additionalProperties"), root, member, here); !problem.empty()) {
          return problem;
        }
      } else {
        return here + ": not in the schema";
      }
    }
  }
  if (value.is_array() && schema.contains("items")) {
    for (const auto& item : value) {
      if (auto problem = disagreement(schema.at("items"), root, item, path + "[]"); !problem.empty()) return problem;
    }
  }
  return {};
}

TEST(SummarySchema, DescribesEveryMemberOfASummary) {
  std::ifstream in(fs::path(TWINSTORM_SOURCE_DIR) / "metrics/schema/summary.schema.json");
  const auto schema = Json::parse(in);
  const auto good = to_json(sample_run().record);
  EXPECT_EQ(disagreement(schema, schema, good, ""), "");
  auto bad = good;
  bad["phases"][0]["operations"]["patchDesired"]["intended"]["p99"] = "x";
  EXPECT_EQ(disagreement(schema, schema, bad, ""),
            ".phases[].operations.patchDesired.intended.p99: is string, not [\"number\",\"null\"]");
}

TEST(SummaryJson, OfARunWithoutQueriesOrATierSaysNothingOfThem) {
  auto record = sample_run().record;
  record.staleness.reset();
  record.throttling.reset();
  const auto json = to_json(record);
  EXPECT_FALSE(json.contains("queryStaleness"));
  EXPECT_FALSE(json.contains("throttling"));
  EXPECT_FALSE(json.at("operations").at("connect").contains("conflicts"));
  EXPECT_FALSE(json.at("operations").at("connect").contains("pages"));
  EXPECT_FALSE(json.at("ci").contains("queryStalenessP99Seconds"));
}

/// Takes what summaries did not have before queries, ETags and tiers were measured out of `json`.
void make_older(Json& json) {
  if (json.is_object()) {
    for (const auto* member :
         {"conflicts", "conflictShare", "retries", "retriesPerSuccess", "pages", "queryStaleness", "throttling"}) {
      json.erase(member);
    }
  }
  for (auto& each : json) {
    if (each.is_structured()) make_older(each);
  }
}

TEST(SummaryJson, OfARunBeforeQueriesAndTiersWereMeasuredStillLoads) {
  auto older = to_json(sample_run().record);
  make_older(older);
  older["ci"] = Json::object();
  for (const auto* word : {"conflict", "retries", "\"pages\"", "aleness", "throttling"}) {
    EXPECT_EQ(older.dump().find(word), std::string::npos) << word;
  }
  const auto back = run_record_from_json(older);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_FALSE(back->staleness);
  EXPECT_FALSE(back->throttling);
  EXPECT_EQ(back->operations.at("patchDesired").conflicts, 0u);
  EXPECT_EQ(back->operations.at("patchDesired").acknowledged,
            sample_run().record.operations.at("patchDesired").acknowledged);
  EXPECT_FALSE(back->operations.at("query").pages);
}

TEST(SummaryJson, OfARunThatQueriedHasItsFigures) {
  const auto json = to_json(sample_run().record);
  const auto& pages = json.at("operations").at("query").at("pages");
  EXPECT_EQ(pages.at("pages"), 39);
  EXPECT_EQ(pages.at("rows"), 13 * 237);
  EXPECT_EQ(pages.at("pagesPerQuery"), 3);
  EXPECT_EQ(pages.at("rowsPerQuery"), 237);
  EXPECT_EQ(pages.at("rowsMax"), 237);
  EXPECT_EQ(json.at("operations").at("patchDesired").at("conflicts"), 13);
  EXPECT_EQ(json.at("operations").at("patchDesired").at("streams").at("rollout").at("retries"), 13);
  const auto& staleness = json.at("queryStaleness");
  EXPECT_EQ(staleness.at("started"), 13);
  EXPECT_EQ(staleness.at("visible"), 8);
  EXPECT_EQ(staleness.at("notVisible"), 3);
  EXPECT_EQ(staleness.at("open"), 2);
  EXPECT_EQ(staleness.at("resolution"), 0.05);
  EXPECT_EQ(staleness.at("sinceAcknowledged").at("max"), 14);
  EXPECT_EQ(json.at("throttling").at("classes").at(0).at("shaped"), 4'000);
  EXPECT_EQ(json.at("ci").at("throttlingRefused"), 77);
}

TEST(SeriesJson, ComesBackTheSame) {
  for (const auto& interval : sample_run().series) {
    const auto back = interval_from_json(Json::parse(to_json(interval).dump()));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, interval);
  }
}

// --- folder ----------------------------------------------------------------------------------------------

using RunFolder = Folder;

TEST_F(RunFolder, ComesBackTheSame) {
  const auto written = sample_run();
  const auto result = write_run(path, written);
  ASSERT_TRUE(result) << result.error().message;
  const auto read = load_run(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->record, written.record);
  EXPECT_EQ(read->series, written.series);
  EXPECT_EQ(read->events, written.events);
  EXPECT_EQ(read->resolved_yaml, written.resolved_yaml);
  EXPECT_EQ(read->env_json, written.env_json);
  const auto rollout = read->histogram("rollout.intended");
  const auto& recorded = written.record.operations.at("patchDesired").streams.at("rollout");
  EXPECT_EQ(rollout.count(), recorded.acknowledged);
  EXPECT_NEAR(to_seconds(rollout.percentile(0.9)), *recorded.intended.p90, *recorded.intended.p90 / 1000);
  EXPECT_EQ(read->histogram("convergence.total").count(), written.record.convergence.total.count);
  EXPECT_TRUE(read->histogram("nothing").empty());
  EXPECT_EQ(load_run(path / "summary.json")->record, written.record);
  EXPECT_EQ(*load_summary(path / "summary.json"), written.record);
}

TEST_F(RunFolder, LeavesNoTemporaryFiles) {
  ASSERT_TRUE(write_run(path, sample_run()));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre("summary.json", "series.ndjson", "events.ndjson", "operations.hlog",
                                                   "convergence.hlog", "generator.hlog", "resolved.yaml", "env.json",
                                                   "manifest.json"));
}

TEST_F(RunFolder, DoesNotMindReportsBesideIt) {
  ASSERT_TRUE(write_run(path, sample_run()));
  write("report.html", "<html>");
  write("junit.xml", "<x/>");
  EXPECT_EQ(refusal(), "accepted");
}

TEST_F(RunFolder, RefusesToWriteOverAnotherRun) {
  ASSERT_TRUE(write_run(path, sample_run()));
  const auto again = write_run(path, sample_run());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::already_exists);
  EXPECT_EQ(again.error().message, path.string() + " holds a run already; choose another folder or remove it");
}

TEST_F(RunFolder, LeavesItsSeriesBehindWhenTheRunNeverFinished) {
  const auto run = sample_run();
  {
    auto writer = RunWriter::create(path);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->append(run.series[0]));
    ASSERT_TRUE(writer->append(run.events[0]));
  }
  EXPECT_THAT(read("series.ndjson"), HasSubstr("\"phase\":\"warmup\""));
  EXPECT_EQ(refusal(), "not_found: " + path.string() + " is not a finished run: it has no manifest.json");
}

class AlteredRunFolder : public Folder, public testing::WithParamInterface<const char*> {};
TEST_P(AlteredRunFolder, IsRefusedByTheNameOfTheFile) {
  ASSERT_TRUE(write_run(path, sample_run()));
  const std::string name = GetParam();
  const auto original = read(name);
  ASSERT_FALSE(original.empty());
  const auto file = (path / name).string();

  auto altered = original;
  altered[altered.size() / 2] ^= 1;
  write(name, altered);
  EXPECT_EQ(refusal(), "corrupt: " + file + ": changed since the run: its sha256 is not the manifest's");
  write(name, original.substr(0, original.size() - 1));
  EXPECT_EQ(refusal(), "corrupt: " + file + ": changed since the run: " + std::to_string(original.size() - 1) +
                           " bytes instead of " + std::to_string(original.size()));
  fs::remove(path / name);
  EXPECT_EQ(refusal(), "corrupt: " + file + ": missing, though the manifest lists it");
  write(name, original);
  EXPECT_EQ(refusal(), "accepted");

  auto manifest = Json::parse(read("manifest.json"));
  manifest["files"].erase(name);
  write("manifest.json", manifest.dump());
  EXPECT_EQ(refusal(), "corrupt: " + (path / "manifest.json").string() + ": it does not list " + name);
}
INSTANTIATE_TEST_SUITE_P(Files, AlteredRunFolder,
                         testing::Values("summary.json", "series.ndjson", "events.ndjson", "operations.hlog",
                                         "convergence.hlog", "generator.hlog", "resolved.yaml", "env.json"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST_F(RunFolder, RefusesAManifestThatIsNone) {
  ASSERT_TRUE(write_run(path, sample_run()));
  const auto manifest = (path / "manifest.json").string();
  write("manifest.json", "{");
  EXPECT_EQ(refusal(), "corrupt: " + manifest + ": not JSON");
  write("manifest.json", "[]");
  EXPECT_EQ(refusal(), "corrupt: " + manifest + ": its schema is not \"twinstorm/manifest/1\"");
  write("manifest.json", R"({"schema": "twinstorm/manifest/1", "files": 3})");
  EXPECT_EQ(refusal(), "corrupt: " + manifest + ": it does not list summary.json");
  fs::remove(path / "manifest.json");
  EXPECT_THAT(refusal(), HasSubstr("it has no manifest.json"));
  fs::remove_all(path);
  EXPECT_EQ(refusal(), "not_found: there is no run at " + path.string());
}

TEST_F(RunFolder, SaysWhichLineOfTheSeriesIsWrongEvenIfTheManifestVouchesForIt) {
  auto run = sample_run();
  ASSERT_TRUE(RunWriter::create(path));
  write("series.ndjson", to_json(run.series[0]).dump() + "\n{\"t\": 1}\n");
  auto writer = RunWriter::create(path);
  ASSERT_TRUE(writer);
  write("series.ndjson", to_json(run.series[0]).dump() + "\n{\"t\": 1}\n");
  ASSERT_TRUE(writer->finish(run.record, run.histograms, "", "{}"));
  EXPECT_EQ(refusal(), "corrupt: " + (path / "series.ndjson").string() + ": line 2: member \"seconds\" is missing");
}

TEST_F(RunFolder, NamesThePathAndTheSystemsReasonWhenItCannotWrite) {
  fs::create_directories(path);
  write("file", "x");
  const auto below_a_file = RunWriter::create(path / "file" / "run");
  ASSERT_FALSE(below_a_file);
  EXPECT_EQ(below_a_file.error().code, ErrorCode::io);
  EXPECT_EQ(below_a_file.error().message,
            "cannot make the folder " + (path / "file" / "run").string() + ": Not a directory");

  // A full disk: /dev/full accepts to be opened and refuses each byte.
  fs::create_symlink("/dev/full", path / "summary.json.part");
  const auto full = write_file_atomically(path / "summary.json", "{}");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().message,
            "cannot write " + (path / "summary.json.part").string() + ": No space left on device");
  EXPECT_FALSE(fs::exists(path / "summary.json"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(path / "summary.json.part")));

  fs::create_directories(path / "folder");
  write("folder/x", "x");
  const auto onto_a_folder = write_file_atomically(path / "folder", "{}");
  ASSERT_FALSE(onto_a_folder);
  EXPECT_EQ(onto_a_folder.error().message, "cannot write " + (path / "folder").string() + ": Is a directory");
}

}  // namespace
}  // namespace twinstorm::metrics
