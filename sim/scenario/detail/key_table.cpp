#include "sim/scenario/detail/reader.hpp"

namespace twinstorm::scenario::detail {

const std::vector<KeySet>& key_table() {
  static const std::vector<std::string> kShape{"shape", "rate", "from", "to",   "over",      "steps",  "base",
                                               "peak",  "at",   "for",  "mean", "amplitude", "period", "poisson"};
  static const auto kWith = [](std::vector<std::string> keys, std::string_view more) {
    keys.emplace_back(more);
    return keys;
  };
  static const std::vector<KeySet> kTable{
      {"",
       {"schema", "name", "description", "seed", "target", "canary", "fleets", "backends", "phases", "slos",
        "invariants", "limits"}},
      {"target",
       {"embedded", "connectionString", "readyFile", "mqttPort", "mqttsPort", "httpPort", "httpsPort", "caFile",
        "deviceCa"}},
      {"target.deviceCa", {"certificate", "key"}},
      {"target.embedded", {"threads"}},
      {"fleets[]", {"name",     "count",         "deviceId",    "connectionStrings", "transport", "engine", "tls",
                    "auth",     "tokenLifetime", "renewBefore", "renewJitter",       "methods",   "c2d",    "tags",
                    "reported", "onDesired",     "telemetry",   "reconnect",         "keepAlive", "timeout"}},
      {"fleets[].tls", {"version", "resumption"}},
      {"fleets[].onDesired[]", {"path", "apply", "report"}},
      {"fleets[].onDesired[].apply", {"delay", "failure"}},
      {"fleets[].onDesired[].apply.delay", {"uniform", "lognormal", "exponential", "normal"}},
      {"fleets[].onDesired[].apply.delay.lognormal", {"p50", "p99"}},
      {"fleets[].onDesired[].apply.delay.exponential", {"mean"}},
      {"fleets[].onDesired[].apply.delay.normal", {"mean", "stddev"}},
      {"fleets[].telemetry", {"every", "jitter", "size"}},
      {"fleets[].reconnect", {"enabled", "backoff"}},
      {"fleets[].reconnect.backoff", {"initial", "max", "jitter"}},
      {"backends[]",
       {"name", "do", "select", "patch", "tags", "sql", "pageSize", "pages", "ifMatch", "tls", "timeout",
        "connections"}},
      {"phases[]", {"name", "duration", "until", "timeout", "record", "connect", "load", "disconnect"}},
      {"phases[].until", {"converged", "devicesConnected"}},
      {"phases[].connect", kWith(kShape, "fleets")},
      {"phases[].connect.steps[]", {"rate", "for"}},
      {"phases[].load.*", kWith(kShape, "concurrency")},
      {"phases[].load.*.steps[]", {"rate", "for"}},
      {"phases[].disconnect", {"share", "after", "over", "fleets"}},
      {"limits",
       {"operationTimeout", "convergenceTimeout", "drainTimeout", "backlogMax", "scheduleLag", "dropped", "busy"}},
  };
  return kTable;
}

}  // namespace twinstorm::scenario::detail
