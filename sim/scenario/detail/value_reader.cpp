#include "sim/scenario/detail/value_reader.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/scenario/detail/text.hpp"

namespace twinstorm::scenario::detail {
namespace {

constexpr size_t kMaxDeviceIdBytes = 128;

/// A duration that must be there.
std::optional<Nanos> needed_duration(const Section& section, std::string_view key, bool allow_zero) {
  section.require(key, fmt::format("try {}: 20ms", key));
  return section.duration(key, allow_zero);
}

}  // namespace

ValueTemplate read_template(Complaints& complaints, const YamlNode& node, const std::string& path,
                            const TemplateRules& rules) {
  TemplateCompiler compiler{rules, [&complaints](const YamlPlace& place, const std::string& at, std::string value,
                                                 std::string message, std::string hint) {
                              if (hint.empty()) {
                                complaints.add_error(place, at, std::move(value), std::move(message));
                              } else {
                                complaints.add(place, at, std::move(value), std::move(message), std::move(hint));
                              }
                            }};
  return compiler.compile(node, path);
}

ValueTemplate read_template(const Section& section, std::string_view key, std::string_view what) {
  const auto* node = section.find(key);
  if (node == nullptr) return {};
  return read_template(
      section.complaints(), *node, section.path_of(key),
      {.twin_section = true, .section = what, .max_twin_bytes = what == "tags" ? kMaxTagBytes : kMaxPropertyBytes});
}

Distribution read_distribution(Complaints& complaints, const YamlNode& node, const std::string& path,
                               const std::string& pattern) {
  if (!node.is_mapping()) {
    if (auto value = read_duration(complaints, node, path, true)) return Distribution::constant(*value);
    return {};
  }
  Section section{complaints, node, path, pattern};
  if (node.members.size() != 1) {
    complaints.add(node.place, path, {}, "a delay has one distribution",
                   "try {lognormal: {p50: 20ms, p99: 200ms}} or {uniform: [10ms, 50ms]}");
    return {};
  }
  const auto values_of = [&](const YamlNode& values, std::string_view kind) {
    return Section{complaints, values, section.path_of(kind), fmt::format("{}.{}", pattern, kind)};
  };
  if (const auto* pair = section.find("uniform")) {
    const auto at = section.path_of("uniform");
    if (!pair->is_sequence() || pair->items.size() != 2) {
      section.complain("uniform", fmt::format("{} is not a pair of durations", describe(*pair)),
                       "try uniform: [10ms, 50ms]");
      return {};
    }
    const auto low = read_duration(complaints, pair->items[0], at + "[0]", true);
    const auto high = read_duration(complaints, pair->items[1], at + "[1]", true);
    if (low && high && *low > *high)
      section.complain("uniform", "the pair runs backwards", "put the shorter one first");
    if (low && high && *low <= *high) return Distribution::uniform(*low, *high);
  } else if (const auto* lognormal = section.find("lognormal")) {
    const auto values = values_of(*lognormal, "lognormal");
    const auto p50 = needed_duration(values, "p50", false), p99 = needed_duration(values, "p99", false);
    if (p50 && p99 && *p99 < *p50) values.complain("p99", "p99 is below p50", "swap them");
    if (p50 && p99 && *p99 >= *p50) return Distribution::lognormal(*p50, *p99);
  } else if (const auto* exponential = section.find("exponential")) {
    const auto values = values_of(*exponential, "exponential");
    if (const auto mean = needed_duration(values, "mean", false)) return Distribution::exponential(*mean);
  } else if (const auto* normal = section.find("normal")) {
    const auto values = values_of(*normal, "normal");
    const auto mean = needed_duration(values, "mean", true), stddev = needed_duration(values, "stddev", true);
    if (mean && stddev) return Distribution::normal(*mean, *stddev);
  }
  return {};
}

void read_backoff(const Section& section, Nanos& initial, Nanos& longest, Reconnect::Jitter& jitter) {
  if (auto v = section.duration("initial", false)) initial = *v;
  if (auto v = section.duration("max", false)) longest = *v;
  if (const auto at = section.word("jitter", {"full", "none"})) {
    jitter = *at == 0 ? Reconnect::Jitter::full : Reconnect::Jitter::none;
  }
  if (longest < initial) section.complain("max", "max is shorter than initial", "make max the longer one");
}

std::optional<Nanos> read_whole_seconds(const Section& section, std::string_view key, Nanos low, Nanos high,
                                        std::string_view usual) {
  const auto value = section.duration(key, low == Nanos{0});
  if (value && (*value < low || *value > high || *value % std::chrono::seconds{1} != Nanos{0})) {
    section.complain(key,
                     fmt::format("\"{}\" is not whole seconds from {}s to {}s", section.find(key)->text,
                                 std::chrono::duration_cast<std::chrono::seconds>(low).count(),
                                 std::chrono::duration_cast<std::chrono::seconds>(high).count()),
                     fmt::format("try {}", usual));
    return std::nullopt;
  }
  return value;
}

void check_device_id(const Section& section, std::string_view key, const std::string& id) {
  const auto legal = [](char c) {
    return is_name(std::string{c}) || std::string_view{"-:.+%_#*?!(),=@;$'"}.find(c) != std::string_view::npos;
  };
  if (!std::all_of(id.begin(), id.end(), legal)) {
    section.complain(key, fmt::format("\"{}\" has a character that device ids may not have", shortened(id)),
                     "letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '");
  } else if (id.empty() || id.size() > kMaxDeviceIdBytes) {
    section.complain(key, fmt::format("a device id of {} characters", id.size()), "1 to 128 characters");
  }
}

}  // namespace twinstorm::scenario::detail
