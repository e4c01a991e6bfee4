// RunRecord, IntervalSnapshot and RunEvent as JSON and back.
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "metrics/capacity.hpp"
#include "metrics/run_record.hpp"

namespace twinstorm::metrics {
namespace {

// --- reading ---------------------------------------------------------------------------------------------

/// What is wrong with a document, and where. Never leaves this file.
struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A JSON value that knows its path, so that a mistake can be named.
class Node {
 public:
  Node(const Json& json, std::string path) : json_{&json}, path_{std::move(path)} {}

  [[noreturn]] void fail(std::string_view expected) const {
    throw Mismatch(fmt::format("{} is {}, expected {}", path_.empty() ? "the document" : "\"" + path_ + "\"",
                               json_->type_name(), expected));
  }
  bool is_null() const { return json_->is_null(); }

  bool has(std::string_view key) const { return json_->is_object() && json_->contains(key); }
  Node at(std::string_view key) const {
    if (!json_->is_object()) fail("an object");
    auto path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
    const auto it = json_->find(key);
    if (it == json_->end()) throw Mismatch(fmt::format("member \"{}\" is missing", path));
    return Node(*it, std::move(path));
  }
  template <class Fn>
  void each_item(Fn&& fn) const {
    if (!json_->is_array()) fail("an array");
    size_t i = 0;
    for (const auto& item : *json_) fn(Node(item, fmt::format("{}[{}]", path_, i++)));
  }
  template <class Fn>
  void each_member(Fn&& fn) const {
    if (!json_->is_object()) fail("an object");
    for (const auto& [key, value] : json_->items()) fn(key, Node(value, fmt::format("{}.{}", path_, key)));
  }

  std::string text() const {
    if (!json_->is_string()) fail("a string");
    return json_->get<std::string>();
  }
  bool boolean() const {
    if (!json_->is_boolean()) fail("true or false");
    return json_->get<bool>();
  }
  double number() const {
    if (!json_->is_number()) fail("a number");
    return json_->get<double>();
  }
  uint64_t count() const {
    if (!json_->is_number_integer() || (!json_->is_number_unsigned() && json_->get<int64_t>() < 0)) {
      fail("a whole number from 0");
    }
    return json_->get<uint64_t>();
  }
  std::optional<double> number_or_null() const { return is_null() ? std::nullopt : std::optional{number()}; }
  std::optional<uint64_t> count_or_null() const { return is_null() ? std::nullopt : std::optional{count()}; }

  void schema(std::string_view expected) const {
    const auto found = at("schema").text();
    if (found != expected) throw Mismatch(fmt::format("schema is \"{}\", expected \"{}\"", found, expected));
  }

 private:
  const Json* json_;
  std::string path_;
};

template <class T, class Fn>
Result<T> read_document(const Json& json, Fn&& fn) {
  try {
    return fn(Node(json, ""));
  } catch (const Mismatch& mismatch) {
    return make_error(ErrorCode::corrupt, mismatch.what());
  }
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }
Json or_null(const std::optional<uint64_t>& value) { return value ? Json(*value) : Json(nullptr); }

/// Divided, not multiplied: 412351 us then prints as 0.412351.
double seconds(Nanos value) { return static_cast<double>(value.count()) / 1e9; }

// --- summary parts ---------------------------------------------------------------------------------------

Json write(const LatencyRecord& r) {
  return {{"count", r.count},      {"mean", or_null(r.mean)}, {"min", or_null(r.min)},
          {"p50", or_null(r.p50)}, {"p90", or_null(r.p90)},   {"p95", or_null(r.p95)},
          {"p99", or_null(r.p99)}, {"p999", or_null(r.p999)}, {"max", or_null(r.max)}};
}
LatencyRecord read_latency(const Node& n) {
  LatencyRecord r;
  r.count = n.at("count").count();
  r.mean = n.at("mean").number_or_null();
  r.min = n.at("min").number_or_null();
  r.p50 = n.at("p50").number_or_null();
  r.p90 = n.at("p90").number_or_null();
  r.p95 = n.at("p95").number_or_null();
  r.p99 = n.at("p99").number_or_null();
  r.p999 = n.at("p999").number_or_null();
  r.max = n.at("max").number_or_null();
  return r;
}

Json write(const std::map<std::string, uint64_t>& counts) {
  Json out = Json::object();
  for (const auto& [key, n] : counts) out[key] = n;
  return out;
}
std::map<std::string, uint64_t> read_counts(const Node& n) {
  std::map<std::string, uint64_t> counts;
  n.each_member([&](const std::string& key, const Node& value) { counts[key] = value.count(); });
  return counts;
}

Json write(const std::map<std::string, OperationRecord>& operations);

Json write(const OperationRecord& r, bool with_streams) {
  Json out = {{"asked", r.asked},
              {"sent", r.sent},
              {"acknowledged", r.acknowledged},
              {"failed", r.failed},
              {"timedOut", r.timed_out},
              {"dropped", r.dropped},
              {"inFlight", r.in_flight},
              {"notStarted", r.not_started},
              {"ratePerSecond", r.rate_per_second},
              {"errorShare", or_null(r.error_share())},
              {"intended", write(r.intended)},
              {"service", write(r.service)},
              {"unsuccessfulMax", or_null(r.unsuccessful_max)},
              {"errors", write(r.errors)}};
  if (r.conflicts + r.retries != 0) {
    out["conflicts"] = r.conflicts;
    out["retries"] = r.retries;
    out["conflictShare"] = or_null(r.conflict_share());
    out["retriesPerSuccess"] = or_null(r.retries_per_success());
  }
  if (r.pages) {
    out["pages"] = {{"pages", r.pages->pages},
                    {"rows", r.pages->rows},
                    {"pagesPerQuery", or_null(r.pages->pages_per_query)},
                    {"rowsPerQuery", or_null(r.pages->rows_per_query)},
                    {"pagesMax", r.pages->pages_max},
                    {"rowsMax", r.pages->rows_max}};
  }
  if (with_streams) {
    Json streams = Json::object();
    for (const auto& [name, stream] : r.streams) streams[name] = write(stream, false);
    out["streams"] = std::move(streams);
  }
  return out;
}
OperationRecord read_operation(const Node& n) {
  OperationRecord r;
  r.asked = n.at("asked").count();
  r.sent = n.at("sent").count();
  r.acknowledged = n.at("acknowledged").count();
  r.failed = n.at("failed").count();
  r.timed_out = n.at("timedOut").count();
  r.dropped = n.at("dropped").count();
  r.in_flight = n.at("inFlight").count();
  r.not_started = n.at("notStarted").count();
  r.rate_per_second = n.at("ratePerSecond").number();
  r.intended = read_latency(n.at("intended"));
  r.service = read_latency(n.at("service"));
  r.unsuccessful_max = n.at("unsuccessfulMax").number_or_null();
  r.errors = read_counts(n.at("errors"));
  if (n.has("conflicts")) {
    r.conflicts = n.at("conflicts").count();
    r.retries = n.at("retries").count();
  }
  if (n.has("pages")) {
    const auto pages = n.at("pages");
    r.pages = PagesRecord{pages.at("pages").count(),
                          pages.at("rows").count(),
                          pages.at("pagesPerQuery").number_or_null(),
                          pages.at("rowsPerQuery").number_or_null(),
                          pages.at("pagesMax").count(),
                          pages.at("rowsMax").count()};
  }
  if (n.has("streams")) {
    n.at("streams").each_member(
        [&](const std::string& name, const Node& stream) { r.streams[name] = read_operation(stream); });
  }
  return r;
}

Json write(const std::map<std::string, OperationRecord>& operations) {
  Json out = Json::object();
  for (const auto& [name, operation] : operations) out[name] = write(operation, true);
  return out;
}
std::map<std::string, OperationRecord> read_operations(const Node& n) {
  std::map<std::string, OperationRecord> operations;
  n.each_member([&](const std::string& name, const Node& value) { operations[name] = read_operation(value); });
  return operations;
}

Json write(const ConvergenceRecord& r) {
  return {{"started", r.started},
          {"applied", r.applied},
          {"superseded", r.superseded},
          {"lost", r.lost},
          {"unconverged", r.unconverged},
          {"failed", r.failed},
          {"applyFailed", r.apply_failed},
          {"open", r.open},
          {"duplicate", r.duplicate},
          {"reordered", r.reordered},
          {"backlogMax", r.backlog_max},
          {"total", write(r.total)},
          {"system", write(r.system)},
          {"patch", write(r.patch)},
          {"delivery", write(r.delivery)},
          {"apply", write(r.apply)},
          {"acknowledge", write(r.acknowledge)}};
}
ConvergenceRecord read_convergence(const Node& n) {
  ConvergenceRecord r;
  r.started = n.at("started").count();
  r.applied = n.at("applied").count();
  r.superseded = n.at("superseded").count();
  r.lost = n.at("lost").count();
  r.unconverged = n.at("unconverged").count();
  r.failed = n.at("failed").count();
  if (n.has("applyFailed")) r.apply_failed = n.at("applyFailed").count();
  r.open = n.at("open").count();
  r.duplicate = n.at("duplicate").count();
  r.reordered = n.at("reordered").count();
  r.backlog_max = n.at("backlogMax").count();
  r.total = read_latency(n.at("total"));
  r.system = read_latency(n.at("system"));
  r.patch = read_latency(n.at("patch"));
  r.delivery = read_latency(n.at("delivery"));
  r.apply = read_latency(n.at("apply"));
  r.acknowledge = read_latency(n.at("acknowledge"));
  return r;
}

Json write(const StalenessRecord& r) {
  return {{"started", r.started},
          {"visible", r.visible},
          {"notVisible", r.not_visible},
          {"unknown", r.unknown},
          {"open", r.open},
          {"resolution", or_null(r.resolution)},
          {"sinceAcknowledged", write(r.since_acknowledged)}};
}
StalenessRecord read_staleness(const Node& n) {
  StalenessRecord r;
  r.started = n.at("started").count();
  r.visible = n.at("visible").count();
  r.not_visible = n.at("notVisible").count();
  r.unknown = n.at("unknown").count();
  r.open = n.at("open").count();
  r.resolution = n.at("resolution").number_or_null();
  r.since_acknowledged = read_latency(n.at("sinceAcknowledged"));
  return r;
}

Json write(const ThrottlingRecord& r) {
  Json classes = Json::array();
  for (const auto& c : r.classes) {
    classes.push_back({{"name", c.name},
                       {"limitPerSecond", or_null(c.limit_per_second)},
                       {"admitted", c.admitted},
                       {"shaped", c.shaped},
                       {"refused", c.refused},
                       {"delayP50", or_null(c.delay_p50)},
                       {"delayP99", or_null(c.delay_p99)},
                       {"delayMax", or_null(c.delay_max)},
                       {"delaySum", c.delay_sum}});
  }
  return {{"tier", r.tier},
          {"units", r.units},
          {"classes", std::move(classes)},
          {"quotaUsed", or_null(r.quota_used)},
          {"quotaLimit", or_null(r.quota_limit)}};
}
ThrottlingRecord read_throttling(const Node& n) {
  ThrottlingRecord r;
  r.tier = n.at("tier").text();
  r.units = n.at("units").count();
  n.at("classes").each_item([&](const Node& from) {
    r.classes.push_back({from.at("name").text(), from.at("limitPerSecond").number_or_null(),
                         from.at("admitted").count(), from.at("shaped").count(), from.at("refused").count(),
                         from.at("delayP50").number_or_null(), from.at("delayP99").number_or_null(),
                         from.at("delayMax").number_or_null(), from.at("delaySum").number()});
  });
  r.quota_used = n.at("quotaUsed").count_or_null();
  r.quota_limit = n.at("quotaLimit").count_or_null();
  return r;
}

Json write(const PhaseRecord& r) {
  Json out = {{"name", r.name},
              {"recorded", r.recorded},
              {"startSeconds", r.start_seconds},
              {"durationSeconds", r.duration_seconds},
              {"note", r.note},
              {"operations", write(r.operations)},
              {"convergence", write(r.convergence)},
              {"scheduleLag", write(r.schedule_lag)}};
  if (r.staleness) out["queryStaleness"] = write(*r.staleness);
  return out;
}
PhaseRecord read_phase(const Node& n) {
  PhaseRecord r;
  r.name = n.at("name").text();
  r.recorded = n.at("recorded").boolean();
  r.start_seconds = n.at("startSeconds").number();
  r.duration_seconds = n.at("durationSeconds").number();
  r.note = n.at("note").text();
  r.operations = read_operations(n.at("operations"));
  r.convergence = read_convergence(n.at("convergence"));
  if (n.has("queryStaleness")) r.staleness = read_staleness(n.at("queryStaleness"));
  r.schedule_lag = read_latency(n.at("scheduleLag"));
  return r;
}

Json write(const SloRecord& r) {
  return {{"slo", r.slo},       {"description", r.description}, {"status", r.status},   {"unit", r.unit},
          {"target", r.target}, {"actual", or_null(r.actual)},  {"samples", r.samples}, {"phase", r.phase},
          {"detail", r.detail}};
}
SloRecord read_slo(const Node& n) {
  SloRecord r;
  r.slo = n.at("slo").text();
  r.description = n.at("description").text();
  r.status = n.at("status").text();
  if (r.status != "passed" && r.status != "failed" && r.status != "undecided") {
    throw Mismatch(fmt::format("\"slos[].status\" is \"{}\", expected passed, failed or undecided", r.status));
  }
  r.unit = n.at("unit").text();
  r.target = n.at("target").number();
  r.actual = n.at("actual").number_or_null();
  r.samples = n.at("samples").count();
  r.phase = n.at("phase").text();
  r.detail = n.at("detail").text();
  return r;
}

Json write(const InvariantResult& r) {
  return {{"name", r.name}, {"status", to_string(r.status)}, {"detail", r.detail}, {"examples", r.examples}};
}
InvariantResult read_invariant(const Node& n) {
  InvariantResult r;
  r.name = n.at("name").text();
  const auto text = n.at("status").text();
  const auto status = parse_invariant_status(text);
  if (!status) throw Mismatch(fmt::format("\"invariants[].status\" is \"{}\"", text));
  r.status = *status;
  r.detail = n.at("detail").text();
  n.at("examples").each_item([&](const Node& example) { r.examples.push_back(example.text()); });
  return r;
}

Json write(const LedgerRecord& r) {
  return {
      {"holds", r.holds},           {"asked", r.asked},        {"sent", r.sent},       {"acknowledged", r.acknowledged},
      {"failed", r.failed},         {"timedOut", r.timed_out}, {"dropped", r.dropped}, {"inFlight", r.in_flight},
      {"notStarted", r.not_started}};
}
LedgerRecord read_ledger(const Node& n) {
  LedgerRecord r;
  r.holds = n.at("holds").boolean();
  r.asked = n.at("asked").count();
  r.sent = n.at("sent").count();
  r.acknowledged = n.at("acknowledged").count();
  r.failed = n.at("failed").count();
  r.timed_out = n.at("timedOut").count();
  r.dropped = n.at("dropped").count();
  r.in_flight = n.at("inFlight").count();
  r.not_started = n.at("notStarted").count();
  return r;
}

Json write(const WorkerRecord& r) {
  Json out{{"name", r.name},
           {"pid", r.pid},
           {"shards", r.shards},
           {"devices", r.devices},
           {"cpuSeconds", r.cpu_seconds},
           {"residentBytes", r.resident_bytes},
           {"busyShare", r.busy_share},
           {"scheduleLagP99", or_null(r.schedule_lag_p99)},
           {"ledger", write(r.ledger)},
           {"lost", r.lost}};
  if (r.lost) out["end"] = r.end;
  return out;
}
WorkerRecord read_worker(const Node& n) {
  WorkerRecord r;
  r.name = n.at("name").text();
  r.pid = n.at("pid").count();
  r.shards = n.at("shards").count();
  r.devices = n.at("devices").count();
  r.cpu_seconds = n.at("cpuSeconds").number();
  r.resident_bytes = n.at("residentBytes").count();
  r.busy_share = n.at("busyShare").number();
  r.schedule_lag_p99 = n.at("scheduleLagP99").number_or_null();
  r.ledger = read_ledger(n.at("ledger"));
  r.lost = n.at("lost").boolean();
  if (n.has("end")) r.end = n.at("end").text();
  return r;
}

Json write(const HubRecord& r) {
  Json rows = Json::array();
  for (const auto& row : r.comparison.rows)
    rows.push_back({{"name", row.name}, {"run", row.run}, {"hub", row.hub}, {"unknown", row.unknown}});
  return {{"cpuSeconds", or_null(r.cpu_seconds)},
          {"residentBytes", or_null(r.resident_bytes)},
          {"checked", r.comparison.checked},
          {"matches", r.comparison.matches()},
          {"rows", std::move(rows)}};
}
HubRecord read_hub(const Node& n) {
  HubRecord r;
  r.cpu_seconds = n.at("cpuSeconds").number_or_null();
  r.resident_bytes = n.at("residentBytes").count_or_null();
  r.comparison.checked = n.at("checked").boolean();
  n.at("rows").each_item([&](const Node& row) {
    r.comparison.rows.push_back(
        {row.at("name").text(), row.at("run").count(), row.at("hub").count(), row.at("unknown").count()});
  });
  return r;
}

// --- canary ----------------------------------------------------------------------------------------------

Json write(const std::optional<PercentileEstimate>& e) {
  if (!e) return nullptr;
  return {{"value", e->value}, {"low", or_null(e->low)}, {"high", or_null(e->high)}};
}
std::optional<PercentileEstimate> read_estimate(const Node& n) {
  if (n.is_null()) return std::nullopt;
  return PercentileEstimate{n.at("value").number(), n.at("low").number_or_null(), n.at("high").number_or_null()};
}
CanaryVerdict read_canary_verdict(const Node& n) {
  const auto text = n.text();
  const auto verdict = parse_canary_verdict(text);
  if (!verdict) throw Mismatch(fmt::format("a verdict of \"canary\" is \"{}\"", text));
  return *verdict;
}

Json write(const CanaryRecord& r) {
  Json rows = Json::array();
  for (const auto& row : r.rows) {
    Json percentiles = Json::array();
    for (const auto& each : row.percentiles) {
      percentiles.push_back({{"percentile", each.q},
                             {"canary", write(each.canary)},
                             {"fleet", write(each.fleet)},
                             {"verdict", to_string(each.verdict)}});
    }
    rows.push_back({{"phase", row.phase},
                    {"operation", row.operation},
                    {"canarySamples", row.canary_samples},
                    {"fleetSamples", row.fleet_samples},
                    {"verdict", to_string(row.verdict)},
                    {"percentiles", std::move(percentiles)}});
  }
  Json operations = Json::object();
  for (const auto& [name, op] : r.operations) {
    operations[name] = {
        {"sent", op.sent}, {"acknowledged", op.acknowledged}, {"failed", op.failed}, {"timedOut", op.timed_out}};
  }
  return {{"verdict", to_string(r.verdict)},
          {"detail", r.detail},
          {"device", r.device},
          {"client", r.client},
          {"state", r.state},
          {"confidence", r.confidence},
          {"allowanceSeconds", r.allowance.seconds},
          {"allowanceShare", r.allowance.share},
          {"invalidFactor", r.allowance.invalid_factor},
          {"cpuSeconds", or_null(r.cpu_seconds)},
          {"operations", std::move(operations)},
          {"rows", std::move(rows)}};
}
CanaryRecord read_canary(const Node& n) {
  CanaryRecord r;
  r.verdict = read_canary_verdict(n.at("verdict"));
  r.detail = n.at("detail").text();
  r.device = n.at("device").text();
  r.client = n.at("client").text();
  r.state = n.at("state").text();
  r.confidence = n.at("confidence").number();
  r.allowance = {n.at("allowanceSeconds").number(), n.at("allowanceShare").number(), n.at("invalidFactor").number()};
  r.cpu_seconds = n.at("cpuSeconds").number_or_null();
  n.at("operations").each_member([&](const std::string& name, const Node& op) {
    r.operations[name] = {op.at("sent").count(), op.at("acknowledged").count(), op.at("failed").count(),
                          op.at("timedOut").count()};
  });
  n.at("rows").each_item([&](const Node& from) {
    CanaryRow row{from.at("phase").text(),
                  from.at("operation").text(),
                  from.at("canarySamples").count(),
                  from.at("fleetSamples").count(),
                  {},
                  read_canary_verdict(from.at("verdict"))};
    from.at("percentiles").each_item([&](const Node& each) {
      row.percentiles.push_back({each.at("percentile").number(), read_estimate(each.at("canary")),
                                 read_estimate(each.at("fleet")), read_canary_verdict(each.at("verdict"))});
    });
    r.rows.push_back(std::move(row));
  });
  return r;
}

// --- series parts ----------------------------------------------------------------------------------------

Json write(const IntervalLatency& l) {
  return {{"count", l.count},
          {"p50", seconds(l.p50)},
          {"p90", seconds(l.p90)},
          {"p99", seconds(l.p99)},
          {"max", seconds(l.max)}};
}
IntervalLatency read_interval_latency(const Node& n) {
  return {n.at("count").count(), from_seconds(n.at("p50").number()), from_seconds(n.at("p90").number()),
          from_seconds(n.at("p99").number()), from_seconds(n.at("max").number())};
}

}  // namespace

std::optional<double> OperationRecord::error_share() const {
  if (sent == 0) return std::nullopt;
  return static_cast<double>(failed + timed_out) / static_cast<double>(sent);
}

std::optional<double> OperationRecord::conflict_share() const {
  if (sent + retries == 0) return std::nullopt;
  return static_cast<double>(conflicts) / static_cast<double>(sent + retries);
}

std::optional<double> OperationRecord::retries_per_success() const {
  if (acknowledged == 0) return std::nullopt;
  return static_cast<double>(retries) / static_cast<double>(acknowledged);
}

Json ci_block(const RunRecord& r) {
  uint64_t acknowledged = 0, failed = 0, dropped = 0;
  for (const auto& [name, op] : r.operations) {
    acknowledged += op.acknowledged;
    failed += op.failed + op.timed_out;
    dropped += op.dropped;
  }
  const auto slos = [&](std::string_view status) {
    uint64_t n = 0;
    for (const auto& slo : r.slos) n += slo.status == status ? 1 : 0;
    return n;
  };
  Json ci = {{"passed", r.verdict.status == VerdictStatus::passed},
             {"status", to_string(r.verdict.status)},
             {"exitCode", r.verdict.exit_code},
             {"durationSeconds", r.run.duration_seconds},
             {"devicesConnected", r.devices.connected},
             {"reconnects", r.devices.reconnects},
             {"operationsAcknowledged", acknowledged},
             {"operationsFailed", failed},
             {"operationsDropped", dropped},
             {"updatesStarted", r.convergence.started},
             {"updatesApplied", r.convergence.applied},
             {"updatesLost", r.convergence.lost},
             {"updatesUnconverged", r.convergence.unconverged},
             {"updatesApplyFailed", r.convergence.apply_failed},
             {"convergenceP50Seconds", or_null(r.convergence.total.p50)},
             {"convergenceP99Seconds", or_null(r.convergence.total.p99)},
             {"convergenceMaxSeconds", or_null(r.convergence.total.max)}};
  for (const auto& [name, op] : r.operations) {
    ci[name + "RatePerSecond"] = op.rate_per_second;
    ci[name + "P50Seconds"] = or_null(op.intended.p50);
    ci[name + "P99Seconds"] = or_null(op.intended.p99);
    ci[name + "ErrorShare"] = or_null(op.error_share());
  }
  if (r.staleness) {
    ci["queryStalenessP50Seconds"] = or_null(r.staleness->since_acknowledged.p50);
    ci["queryStalenessP99Seconds"] = or_null(r.staleness->since_acknowledged.p99);
    ci["queryStalenessMaxSeconds"] = or_null(r.staleness->since_acknowledged.max);
    ci["queryStalenessNotVisible"] = r.staleness->not_visible;
  }
  uint64_t conflicts = 0, retries = 0;
  for (const auto& [name, op] : r.operations) {
    conflicts += op.conflicts;
    retries += op.retries;
  }
  if (conflicts + retries != 0) {
    ci["conflicts"] = conflicts;
    ci["retries"] = retries;
  }
  if (r.throttling) {
    uint64_t shaped = 0, refused = 0;
    for (const auto& each : r.throttling->classes) {
      shaped += each.shaped;
      refused += each.refused;
    }
    ci["throttlingShaped"] = shaped;
    ci["throttlingRefused"] = refused;
  }
  ci["scheduleLagP99Seconds"] = or_null(r.generator.schedule_lag.p99);
  ci["droppedShare"] = r.generator.dropped_share;
  ci["heapBytesPerDevice"] = or_null(r.generator.heap_bytes_per_device);
  ci["slosPassed"] = slos("passed");
  ci["slosFailed"] = slos("failed");
  ci["slosUndecided"] = slos("undecided");
  if (r.canary) ci["canary"] = to_string(r.canary->verdict);
  return ci;
}

Json to_json(const RunRecord& r) {
  Json out;
  out["schema"] = kSummarySchema;
  out["verdict"] = {
      {"status", to_string(r.verdict.status)}, {"exitCode", r.verdict.exit_code}, {"reasons", r.verdict.reasons}};
  out["ci"] = ci_block(r);
  out["run"] = {{"id", r.run.id},
                {"scenario", r.run.scenario},
                {"description", r.run.description},
                {"seed", r.run.seed},
                {"startedAt", r.run.started_at},
                {"durationSeconds", r.run.duration_seconds},
                {"recordedSeconds", r.run.recorded_seconds},
                {"version", r.run.version},
                {"target", r.run.target},
                {"command", r.run.command}};
  if (!r.run.forced.empty()) out["run"]["forced"] = r.run.forced;
  out["slos"] = Json::array();
  for (const auto& slo : r.slos) out["slos"].push_back(write(slo));
  out["invariants"] = Json::array();
  for (const auto& invariant : r.invariants) out["invariants"].push_back(write(invariant));
  Json findings = Json::array();
  for (const auto& finding : r.validity) findings.push_back({{"code", finding.code}, {"text", finding.text}});
  out["validity"] = {{"valid", r.validity.empty()}, {"findings", std::move(findings)}};
  out["operations"] = write(r.operations);
  out["convergence"] = write(r.convergence);
  if (r.staleness) out["queryStaleness"] = write(*r.staleness);
  out["devices"] = {{"target", r.devices.target},
                    {"connected", r.devices.connected},
                    {"connectedMax", r.devices.connected_max},
                    {"reconnects", r.devices.reconnects},
                    {"reconnectReasons", write(r.devices.reconnect_reasons)},
                    {"methodsAnswered", r.devices.methods_answered},
                    {"messagesReceived", r.devices.messages_received}};
  out["ledger"] = write(r.ledger);
  out["errors"] = Json::array();
  for (const auto& error : r.errors) {
    out["errors"].push_back({{"operation", error.operation},
                             {"stream", error.stream},
                             {"class", error.error},
                             {"count", error.count},
                             {"firstSeconds", error.first_seconds},
                             {"lastSeconds", error.last_seconds}});
  }
  out["phases"] = Json::array();
  for (const auto& phase : r.phases) out["phases"].push_back(write(phase));
  out["generator"] = {{"cpuSeconds", r.generator.cpu_seconds},
                      {"residentBytes", r.generator.resident_bytes},
                      {"heapBytesPerDevice", or_null(r.generator.heap_bytes_per_device)},
                      {"bytesIn", r.generator.bytes_in},
                      {"bytesOut", r.generator.bytes_out},
                      {"scheduleLag", write(r.generator.schedule_lag)},
                      {"busyShares", r.generator.busy_shares},
                      {"droppedShare", r.generator.dropped_share}};
  if (r.hub) out["hub"] = write(*r.hub);
  if (r.throttling) out["throttling"] = write(*r.throttling);
  if (r.canary) out["canary"] = write(*r.canary);
  out["workers"] = Json::array();
  for (const auto& worker : r.workers) out["workers"].push_back(write(worker));
  return out;
}

Result<RunRecord> run_record_from_json(const Json& json) {
  return read_document<RunRecord>(json, [](const Node& n) {
    n.schema(kSummarySchema);
    RunRecord r;
    const auto verdict = n.at("verdict");
    const auto status_text = verdict.at("status").text();
    const auto status = parse_verdict_status(status_text);
    if (!status) throw Mismatch(fmt::format("\"verdict.status\" is \"{}\"", status_text));
    r.verdict.status = *status;
    r.verdict.exit_code = static_cast<int>(verdict.at("exitCode").count());
    verdict.at("reasons").each_item([&](const Node& reason) { r.verdict.reasons.push_back(reason.text()); });
    n.at("validity").at("findings").each_item([&](const Node& finding) {
      r.validity.push_back({finding.at("code").text(), finding.at("text").text()});
    });
    const auto run = n.at("run");
    r.run.id = run.at("id").text();
    r.run.scenario = run.at("scenario").text();
    r.run.description = run.at("description").text();
    r.run.seed = run.at("seed").count();
    r.run.started_at = run.at("startedAt").text();
    r.run.duration_seconds = run.at("durationSeconds").number();
    r.run.recorded_seconds = run.at("recordedSeconds").number();
    r.run.version = run.at("version").text();
    r.run.target = run.at("target").text();
    r.run.command = run.at("command").text();
    if (run.has("forced")) {
      run.at("forced").each_item([&](const Node& each) { r.run.forced.push_back(each.text()); });
    }
    n.at("phases").each_item([&](const Node& phase) { r.phases.push_back(read_phase(phase)); });
    r.operations = read_operations(n.at("operations"));
    r.convergence = read_convergence(n.at("convergence"));
    if (n.has("queryStaleness")) r.staleness = read_staleness(n.at("queryStaleness"));
    const auto devices = n.at("devices");
    r.devices.target = devices.at("target").count();
    r.devices.connected = devices.at("connected").count();
    r.devices.connected_max = devices.at("connectedMax").count();
    r.devices.reconnects = devices.at("reconnects").count();
    r.devices.reconnect_reasons = read_counts(devices.at("reconnectReasons"));
    if (devices.has("methodsAnswered")) r.devices.methods_answered = devices.at("methodsAnswered").count();
    if (devices.has("messagesReceived")) r.devices.messages_received = devices.at("messagesReceived").count();
    r.ledger = read_ledger(n.at("ledger"));
    n.at("errors").each_item([&](const Node& error) {
      r.errors.push_back({error.at("operation").text(), error.at("stream").text(), error.at("class").text(),
                          error.at("count").count(), error.at("firstSeconds").number(),
                          error.at("lastSeconds").number()});
    });
    n.at("slos").each_item([&](const Node& slo) { r.slos.push_back(read_slo(slo)); });
    n.at("invariants").each_item([&](const Node& invariant) { r.invariants.push_back(read_invariant(invariant)); });
    const auto generator = n.at("generator");
    r.generator.cpu_seconds = generator.at("cpuSeconds").number();
    r.generator.resident_bytes = generator.at("residentBytes").count();
    r.generator.heap_bytes_per_device = generator.at("heapBytesPerDevice").number_or_null();
    r.generator.bytes_in = generator.at("bytesIn").count();
    r.generator.bytes_out = generator.at("bytesOut").count();
    r.generator.schedule_lag = read_latency(generator.at("scheduleLag"));
    generator.at("busyShares").each_item([&](const Node& share) { r.generator.busy_shares.push_back(share.number()); });
    r.generator.dropped_share = generator.at("droppedShare").number();
    if (n.has("hub")) r.hub = read_hub(n.at("hub"));
    if (n.has("throttling")) r.throttling = read_throttling(n.at("throttling"));
    if (n.has("canary")) r.canary = read_canary(n.at("canary"));
    n.at("workers").each_item([&](const Node& worker) { r.workers.push_back(read_worker(worker)); });
    return r;
  });
}

Json to_json(const IntervalSnapshot& s) {
  Json streams = Json::object();
  for (const auto& stream : s.streams) {
    streams[stream.name] = {{"asked", stream.asked},
                            {"sent", stream.sent},
                            {"acknowledged", stream.acknowledged},
                            {"failed", stream.failed},
                            {"timedOut", stream.timed_out},
                            {"dropped", stream.dropped},
                            {"inFlight", stream.in_flight},
                            {"ratePerSecond", stream.rate_per_second},
                            {"targetPerSecond", or_null(stream.target_rate)},
                            {"intended", write(stream.intended)},
                            {"service", write(stream.service)}};
    // Only what there was: a long run has many lines.
    auto& out = streams[stream.name];
    if (stream.conflicts != 0) out["conflicts"] = stream.conflicts;
    if (stream.retries != 0) out["retries"] = stream.retries;
    if (stream.pages != 0) {
      out["pages"] = stream.pages;
      out["rows"] = stream.rows;
    }
    if (stream.throttled != 0) out["throttled"] = stream.throttled;
  }
  const auto& c = s.convergence;
  Json errors = Json::object();
  for (size_t i = 0; i < kErrorClassCount; ++i) {
    if (s.errors[i] != 0) errors[std::string(to_string(static_cast<ErrorClass>(i)))] = s.errors[i];
  }
  Json out = {{"t", s.at_seconds},
              {"seconds", s.seconds},
              {"phase", s.phase},
              {"streams", std::move(streams)},
              {"convergence",
               {{"started", c.started},
                {"applied", c.applied},
                {"superseded", c.superseded},
                {"lost", c.lost},
                {"unconverged", c.unconverged},
                {"failed", c.failed},
                {"applyFailed", c.apply_failed},
                {"duplicate", c.duplicate},
                {"reordered", c.reordered},
                {"backlog", c.backlog},
                {"total", write(c.total)},
                {"system", write(c.system)}}},
              {"devices",
               {{"offline", s.devices.offline},
                {"connecting", s.devices.connecting},
                {"online", s.devices.online},
                {"waiting", s.devices.waiting}}},
              {"reconnects", s.reconnects},
              {"errors", std::move(errors)},
              {"scheduleLag", write(s.schedule_lag)},
              {"busyShares", s.busy_shares},
              {"bytesIn", s.bytes_in},
              {"bytesOut", s.bytes_out},
              {"cpuShare", or_null(s.cpu_share)},
              {"residentBytes", or_null(s.resident_bytes)}};
  const auto& stale = s.staleness;
  if (stale != IntervalSnapshot::Staleness{}) {
    out["queryStaleness"] = {
        {"started", stale.started}, {"visible", stale.visible}, {"notVisible", stale.not_visible},
        {"unknown", stale.unknown}, {"open", stale.open},       {"sinceAcknowledged", write(stale.since_acknowledged)}};
  }
  return out;
}

Result<IntervalSnapshot> interval_from_json(const Json& json) {
  return read_document<IntervalSnapshot>(json, [](const Node& n) {
    IntervalSnapshot s;
    s.at_seconds = n.at("t").number();
    s.seconds = n.at("seconds").number();
    s.phase = n.at("phase").text();
    n.at("streams").each_member([&](const std::string& name, const Node& from) {
      auto& to = s.streams.emplace_back();
      to.name = name;
      to.asked = from.at("asked").count();
      to.sent = from.at("sent").count();
      to.acknowledged = from.at("acknowledged").count();
      to.failed = from.at("failed").count();
      to.timed_out = from.at("timedOut").count();
      to.dropped = from.at("dropped").count();
      to.in_flight = from.at("inFlight").count();
      to.rate_per_second = from.at("ratePerSecond").number();
      to.target_rate = from.at("targetPerSecond").number_or_null();
      to.intended = read_interval_latency(from.at("intended"));
      to.service = read_interval_latency(from.at("service"));
      const auto optional = [&](std::string_view key) { return from.has(key) ? from.at(key).count() : 0; };
      to.conflicts = optional("conflicts");
      to.retries = optional("retries");
      to.pages = optional("pages");
      to.rows = optional("rows");
      to.throttled = optional("throttled");
    });
    const auto from = n.at("convergence");
    auto& c = s.convergence;
    c.started = from.at("started").count();
    c.applied = from.at("applied").count();
    c.superseded = from.at("superseded").count();
    c.lost = from.at("lost").count();
    c.unconverged = from.at("unconverged").count();
    c.failed = from.at("failed").count();
    if (from.has("applyFailed")) c.apply_failed = from.at("applyFailed").count();
    c.duplicate = from.at("duplicate").count();
    c.reordered = from.at("reordered").count();
    c.backlog = from.at("backlog").count();
    c.total = read_interval_latency(from.at("total"));
    c.system = read_interval_latency(from.at("system"));
    if (n.has("queryStaleness")) {
      const auto stale = n.at("queryStaleness");
      s.staleness = {stale.at("started").count(),    stale.at("visible").count(),
                     stale.at("notVisible").count(), stale.at("unknown").count(),
                     stale.at("open").count(),       read_interval_latency(stale.at("sinceAcknowledged"))};
    }
    const auto devices = n.at("devices");
    s.devices.offline = static_cast<uint32_t>(devices.at("offline").count());
    s.devices.connecting = static_cast<uint32_t>(devices.at("connecting").count());
    s.devices.online = static_cast<uint32_t>(devices.at("online").count());
    s.devices.waiting = static_cast<uint32_t>(devices.at("waiting").count());
    s.reconnects = n.at("reconnects").count();
    n.at("errors").each_member([&](const std::string& name, const Node& value) {
      const auto error = parse_error_class(name);
      if (!error) throw Mismatch(fmt::format("\"errors.{}\" is not an error class", name));
      s.errors[static_cast<size_t>(*error)] = value.count();
    });
    s.schedule_lag = read_interval_latency(n.at("scheduleLag"));
    n.at("busyShares").each_item([&](const Node& share) { s.busy_shares.push_back(share.number()); });
    s.bytes_in = n.at("bytesIn").count();
    s.bytes_out = n.at("bytesOut").count();
    s.cpu_share = n.at("cpuShare").number_or_null();
    s.resident_bytes = n.at("residentBytes").count_or_null();
    return s;
  });
}

Json to_json(const RunEvent& event) { return {{"t", event.at_seconds}, {"kind", event.kind}, {"text", event.text}}; }

Result<RunEvent> event_from_json(const Json& json) {
  return read_document<RunEvent>(json, [](const Node& n) {
    return RunEvent{n.at("t").number(), n.at("kind").text(), n.at("text").text()};
  });
}

Json to_json(const CapacityRecord& record) {
  Json json;
  json["schema"] = kCapacitySchema;
  json["limit"] = record.limit;
  json["interrupted"] = record.interrupted;
  json["lower"] = {{"perSecond", or_null(record.lower_per_second)},
                   {"factor", or_null(record.lower_factor)},
                   {"held", record.held},
                   {"runs", record.runs}};
  json["upper"] = {{"perSecond", or_null(record.upper_per_second)}, {"factor", or_null(record.upper_factor)}};
  json["precision"] = record.precision;
  json["run"] = {{"id", record.run.id},
                 {"scenario", record.run.scenario},
                 {"description", record.run.description},
                 {"seed", record.run.seed},
                 {"startedAt", record.run.started_at},
                 {"durationSeconds", record.run.duration_seconds},
                 {"version", record.run.version},
                 {"command", record.run.command}};
  json["slos"] = Json::array();
  for (const auto& slo : record.slos) json["slos"].push_back(write(slo));
  json["probes"] = Json::array();
  for (const auto& probe : record.probes) {
    Json row;
    row["run"] = probe.run;
    row["factor"] = probe.factor;
    row["askedPerSecond"] = probe.asked_per_second;
    row["deliveredPerSecond"] = probe.delivered_per_second;
    row["verdict"] = to_string(probe.verdict);
    row["reasons"] = probe.reasons;
    row["latencies"] = Json::object();
    for (const auto& [name, latency] : probe.latencies) row["latencies"][name] = write(latency);
    row["busyShare"] = or_null(probe.busy_share);
    row["scheduleLagP99"] = or_null(probe.schedule_lag);
    json["probes"].push_back(std::move(row));
  }
  return json;
}

}  // namespace twinstorm::metrics
