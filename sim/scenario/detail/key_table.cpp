#include "sim/scenario/detail/reader.hpp"

namespace twinstorm::scenario::detail {
namespace {

/// Adds the forms of a random duration wherever one may stand.
std::vector<KeySet> with_distributions(std::vector<KeySet> table) {
  for (const std::string at : {"fleets[].onDesired[].apply.delay", "hub.query.staleness", "phases[].load.*.think"}) {
    table.push_back({at, {"uniform", "lognormal", "exponential", "normal"}, {}});
    table.push_back({at + ".lognormal", {"p50", "p99"}, {}});
    table.push_back({at + ".exponential", {"mean"}, {}});
    table.push_back({at + ".normal", {"mean", "stddev"}, {}});
  }
  return table;
}

}  // namespace

const std::vector<KeySet>& key_table() {
  static const std::vector<std::string> kShape{"shape",  "rate",    "from", "to",    "over",  "steps",
                                               "base",   "peak",    "at",   "for",   "mean",  "amplitude",
                                               "period", "poisson", "file", "scale", "digest"};
  static const auto kWith = [](std::vector<std::string> keys, std::string_view more) {
    keys.emplace_back(more);
    return keys;
  };
  static constexpr std::string_view kHubPlace = "write hub: {tier: S1, units: 2} at the top, beside target";
  static const std::vector<KeySet> kTable = with_distributions({
      {"",
       {"schema", "name", "description", "seed", "target", "hub", "canary", "fleets", "backends", "phases", "slos",
        "invariants", "limits"}},
      {"target",
       {"embedded", "connectionString", "readyFile", "mqttPort", "mqttsPort", "httpPort", "httpsPort", "caFile",
        "deviceCa", "sourceAddresses"},
       {{"hub", kHubPlace}}},
      {"target.deviceCa", {"certificate", "key"}},
      {"target.embedded",
       {"threads", "processes"},
       {{"hub", kHubPlace}, {"tier", kHubPlace}, {"units", kHubPlace}, {"query", kHubPlace}}},
      {"hub", {"tier", "units", "query", "plant"}, {{"threads", "write target: {embedded: {threads: 2}}"}}},
      {"hub.query", {"staleness", "pageMax"}},
      {"hub.plant",
       {"dropNotification", "swapNotifications", "duplicateNotification", "loseReported", "forgetDesired"}},
      {"fleets[]", {"name",     "count",         "deviceId",    "connectionStrings", "transport", "engine", "tls",
                    "auth",     "tokenLifetime", "renewBefore", "renewJitter",       "methods",   "c2d",    "tags",
                    "reported", "onDesired",     "telemetry",   "reconnect",         "keepAlive", "timeout"}},
      {"fleets[].tls", {"version", "resumption"}},
      {"fleets[].onDesired[]", {"path", "apply", "report"}},
      {"fleets[].onDesired[].apply", {"delay", "failure"}},
      {"fleets[].telemetry", {"every", "jitter", "size"}},
      {"fleets[].reconnect", {"enabled", "backoff"}},
      {"fleets[].reconnect.backoff", {"initial", "max", "jitter"}},
      {"backends[]",
       {"name",
        "do",
        "select",
        "patch",
        "tags",
        "sql",
        "pageSize",
        "pages",
        "ifMatch",
        "retries",
        "staleness",
        "methodName",
        "payload",
        "responseTimeout",
        "connectTimeout",
        "deviceId",
        "keep",
        "of",
        "mode",
        "size",
        "condition",
        "poll",
        "maxExecutionTime",
        "tls",
        "timeout",
        "connections"},
       {{"method", "write methodName: reboot"}, {"query", "write sql: SELECT * FROM devices"}}},
      {"backends[].retries", {"max", "backoff"}},
      {"backends[].retries.backoff", {"initial", "max", "jitter"}},
      {"backends[].staleness", {"share", "every", "timeout"}},
      {"phases[]", {"name", "duration", "until", "timeout", "record", "connect", "load", "disconnect", "events"}},
      {"phases[].until", {"converged", "devicesConnected", "operations", "quiet"}},
      {"phases[].connect", kWith(kShape, "fleets")},
      {"phases[].connect.steps[]", {"rate", "for"}},
      {"phases[].load.*", kWith(kWith(kShape, "concurrency"), "think")},
      {"phases[].load.*.steps[]", {"rate", "for"}},
      {"phases[].disconnect", {"share", "after", "over", "fleets"}},
      {"phases[].events[]", {"do", "share", "after", "over", "fleets"}},
      {"slos[]", {"slo", "abort"}},
      {"slos[].abort", {"after", "over", "samples"}},
      {"limits",
       {"operationTimeout", "convergenceTimeout", "drainTimeout", "backlogMax", "scheduleLag", "dropped", "busy"}},
  });
  return kTable;
}

}  // namespace twinstorm::scenario::detail
