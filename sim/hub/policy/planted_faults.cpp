#include "sim/hub/policy/planted_faults.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/base/log.hpp"

namespace twinstorm::hub {
namespace {

constexpr std::array<const char*, kFaults> kNames{"dropNotification", "swapNotifications", "duplicateNotification",
                                                  "loseReported", "forgetDesired"};

size_t index_of(Fault fault) { return static_cast<size_t>(fault); }

}  // namespace

const char* to_string(Fault fault) { return kNames[index_of(fault)]; }

Result<FaultPlan> parse_fault_plan(std::string_view text) {
  FaultPlan plan;
  while (true) {
    const auto comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const auto colon = part.find(':');
    const auto name = std::find(kNames.begin(), kNames.end(), part.substr(0, colon));
    if (name == kNames.end()) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("\"{}\" is no fault: give {} with how often, such as dropNotification:1000", part,
                                    fmt::join(kNames, ", ")));
    }
    const std::string_view number = colon == std::string_view::npos ? std::string_view{} : part.substr(colon + 1);
    uint32_t every = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), every);
    if (error != std::errc{} || end != number.data() + number.size() || every == 0) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("\"{}\" does not say how often: {}:1000 spoils every 1000th", part, *name));
    }
    plan.every[static_cast<size_t>(name - kNames.begin())] = every;
    if (comma == std::string_view::npos) return plan;
    text.remove_prefix(comma + 1);
  }
}

bool PlantedFaults::strikes(Fault fault) {
  const uint32_t every = plan_.every[index_of(fault)];
  if (every == 0) return false;
  const std::lock_guard lock{mutex_};
  return ++seen_[index_of(fault)] % every == 0;
}

void PlantedFaults::record(Fault fault, std::string_view key, int64_t version, WallTime at) {
  log::info("planted {}: {} version {} at {}", to_string(fault), key, version, format_iso8601(at));
  const std::lock_guard lock{mutex_};
  if (planted_.size() == kKeptMax) {
    planted_.pop_front();
    ++forgotten_;
  }
  planted_.push_back({fault, std::string{key}, version, at});
}

bool PlantedFaults::hold(const std::string& key, int64_t version, std::string_view body) {
  const std::lock_guard lock{mutex_};
  if (held_.size() >= kHeldMax) return false;
  return held_.try_emplace(key, Held{version, std::string{body}}).second;
}

std::optional<PlantedFaults::Held> PlantedFaults::take_held(const std::string& key) {
  const std::lock_guard lock{mutex_};
  const auto at = held_.find(key);
  if (at == held_.end()) return std::nullopt;
  std::optional<Held> held{std::move(at->second)};
  held_.erase(at);
  return held;
}

void PlantedFaults::drop_held(const std::string& key) {
  const std::lock_guard lock{mutex_};
  held_.erase(key);
}

std::string PlantedFaults::to_json() const {
  auto planted = nlohmann::json::array();
  const std::lock_guard lock{mutex_};
  for (const Planted& each : planted_) {
    planted.push_back({{"kind", to_string(each.fault)},
                       {"deviceId", each.key},
                       {"version", each.version},
                       {"time", format_iso8601(each.at)}});
  }
  return nlohmann::json{{"planted", std::move(planted)}, {"forgotten", forgotten_}}.dump();
}

}  // namespace twinstorm::hub
