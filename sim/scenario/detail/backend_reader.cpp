#include "sim/scenario/detail/backend_reader.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "sim/scenario/detail/text.hpp"
#include "sim/scenario/detail/value_reader.hpp"

namespace twinstorm::scenario::detail {
namespace {

using metrics::OpKind;
using std::chrono::seconds;

constexpr Nanos kMinEvery = std::chrono::milliseconds{10};  // of polls and probes: below, they are a load of their own
constexpr size_t kMaxPayloadBytes = 128 * 1024;             // service.md 7
constexpr Nanos kLongestMethod = seconds{300};
constexpr size_t kMaxConditionBytes = 8192;  // of a query

/// What a scenario calls an operation, and the keys it has besides those that all have.
struct Operation {
  std::string word;
  OpKind op;
  std::vector<std::string_view> keys;
};
const std::vector<Operation>& operations() {
  static const std::vector<Operation> kAll{
      {"patchDesired", OpKind::patch_desired, {"select", "patch", "tags", "ifMatch", "retries", "staleness"}},
      {"patchTags", OpKind::patch_tags, {"select", "tags", "ifMatch", "retries", "staleness"}},
      {"replaceTwin", OpKind::replace_twin, {"select", "patch", "tags", "ifMatch", "retries", "staleness"}},
      {"query", OpKind::query, {"sql", "pageSize", "pages"}},
      {"getTwin", OpKind::backend_get_twin, {"select"}},
      {"method", OpKind::method, {"select", "methodName", "payload", "responseTimeout", "connectTimeout"}},
      {"createDevice", OpKind::create_device, {"deviceId", "keep"}},
      {"deleteDevice", OpKind::delete_device, {"of"}},
      {"bulk", OpKind::bulk, {"mode", "size", "deviceId", "tags", "keep", "of"}},
      {"job",
       OpKind::job,
       {"patch", "tags", "methodName", "payload", "responseTimeout", "connectTimeout", "condition", "poll",
        "maxExecutionTime"}},
  };
  return kAll;
}

/// The words of the operations that have the key: for people who put it at the wrong one.
std::string owners_of(std::string_view key) {
  std::vector<std::string> words;
  for (const auto& each : operations()) {
    if (std::find(each.keys.begin(), each.keys.end(), key) != each.keys.end()) words.push_back(each.word);
  }
  return join(words);
}

void refuse_foreign_keys(const Section& section, const Operation& operation) {
  static constexpr std::string_view kCommon[] = {"name", "do", "tls", "timeout", "connections"};
  for (const auto& member : section.node().members) {
    const std::string_view key = member.key;
    const auto within = [&](const auto& keys) {
      return std::find(std::begin(keys), std::end(keys), key) != std::end(keys);
    };
    if (within(kCommon) || within(operation.keys)) continue;
    if (operation.op == OpKind::query && key == "select") {
      section.refuse(key, "a query selects by its text", "say it in the WHERE of sql");
      continue;
    }
    const auto owners = owners_of(key);
    if (owners.empty()) continue;  // unknown altogether: said already
    section.refuse(key, fmt::format("{} has no \"{}\"", operation.word, key),
                   fmt::format("remove it; it goes with {}", owners));
  }
}

bool is_whole_query(std::string_view condition) {
  static constexpr std::string_view kSelect = "select ";
  return condition.size() > kSelect.size() &&
         std::equal(kSelect.begin(), kSelect.end(), condition.begin(),
                    [](char wanted, char c) { return wanted == (c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c); });
}

bool overlap(const TextPattern& a, const TextPattern& b) {
  for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{10}, uint64_t{12345}, uint64_t{1234567}}) {
    if (a.match(b.format(index)) || b.match(a.format(index))) return true;
  }
  return false;
}

}  // namespace

std::string_view do_word(OpKind op) {
  for (const auto& each : operations()) {
    if (each.op == op) return each.word;
  }
  return "patchDesired";
}

void BackendReader::read(const YamlNode& node, const std::string& path) {
  const Section section{complaints_, node, path, "backends[]"};
  if (!section.valid()) {
    names_complete_ = false;
    return;
  }
  BackendGroup group;
  read_name(section, group);
  std::vector<std::string> words;
  for (const auto& each : operations()) words.push_back(each.word);
  section.require("do", "one of " + join(words));
  const auto does = section.word("do", words);
  if (does) {
    group.op = operations()[*does].op;
    refuse_foreign_keys(section, operations()[*does]);
  }
  if (!does || group.works_on_devices()) read_selection(section, group);
  group.patch = read_template(section, "patch", "desired properties");
  group.tags = read_template(section, "tags", "tags");
  if (auto sql = section.text("sql")) group.sql = std::move(*sql);
  if (auto v = section.integer("pageSize", 1, 10'000)) group.page_size = static_cast<uint32_t>(*v);
  if (auto at = section.word("pages", {"first", "all"}))
    group.pages = *at == 0 ? BackendGroup::Pages::first : BackendGroup::Pages::all;
  if (auto v = section.boolean("tls")) group.tls = *v;
  if (auto v = section.integer("connections", 1, 10'000)) group.connections = static_cast<uint32_t>(*v);
  read_conditional_write(section, group);
  read_staleness(section, group);
  read_method(section, group);
  if (does) {
    const std::string& word = words[*does];
    if (word == "patchDesired") section.require("patch", "what to set, such as patch: {climate: {minTemperature: 68}}");
    if (word == "patchTags") section.require("tags", "what to set, such as tags: {location: {plant: Redmond43}}");
    if (word == "replaceTwin" && !section.has("patch") && !section.has("tags")) {
      section.complain("do", "replaceTwin has nothing to write", "give patch (desired properties), tags or both");
    }
    if (word == "query") section.require("sql", "such as sql: SELECT * FROM devices");
    if (word == "method") section.require("methodName", "such as methodName: reboot");
    if (word == "bulk") read_bulk(section, group);
    if (word == "job") read_job(section, group);
    if (group.creates_devices()) read_created_devices(section, group);
    if (word == "deleteDevice") section.require("of", "the back end whose devices it deletes, such as of: newcomers");
  }
  if (auto of = section.text("of")) group.of = std::move(*of);
  read_timeout(section, group);
  sections_.push_back(section);
  s_.backends.push_back(std::move(group));
}

void BackendReader::read_name(const Section& section, BackendGroup& group) {
  section.require("name", "give the back end a name; phases load it by that");
  const auto name = section.name("name");
  if (!name) {
    names_complete_ = false;
    return;
  }
  group.name = *name;
  for (const auto& other : s_.backends) {
    if (other.name == *name)
      section.complain("name", fmt::format("two back ends are named \"{}\"", *name), "rename one");
  }
  static const std::set<std::string_view> kSloWords{"convergence",    "convergenceSystem", "scheduleLag",
                                                    "queryStaleness", "service",           "during"};
  if (metrics::parse_op_kind(*name) || kSloWords.contains(*name)) {
    section.complain("name", fmt::format("\"{}\" means something else in an SLO", *name), "choose another name");
  }
}

void BackendReader::read_selection(const Section& section, BackendGroup& group) {
  std::vector<std::string> names;
  for (const auto& fleet : s_.fleets) names.push_back(fleet.name);
  const auto selected = section.text("select");
  const auto at = selected ? std::find(names.begin(), names.end(), *selected) : names.end();
  if (at != names.end()) {
    group.fleet = static_cast<uint32_t>(at - names.begin());
  } else if (selected && names_complete_) {
    section.complain("select", fmt::format("there is no fleet \"{}\"", shortened(*selected)),
                     did_you_mean(*selected, names));
    return;
  } else if (!section.has("select") && s_.fleets.size() > 1) {
    section.require("select", "one of the fleets " + join(names));
    return;
  }
  if (group.op == OpKind::method && group.fleet < s_.fleets.size() && !s_.fleets[group.fleet].methods) {
    section.complain(section.has("select") ? "select" : "do",
                     fmt::format("fleet \"{}\" does not subscribe to direct methods", s_.fleets[group.fleet].name),
                     "give the fleet methods: true");
  }
}

void BackendReader::read_conditional_write(const Section& section, BackendGroup& group) {
  const auto at = section.word("ifMatch", {"any", "lastSeen", "readModifyWrite"});
  if (at) {
    static constexpr BackendGroup::IfMatch kPolicies[] = {BackendGroup::IfMatch::any, BackendGroup::IfMatch::last_seen,
                                                          BackendGroup::IfMatch::read_modify_write};
    group.if_match = kPolicies[*at];
  }
  const auto* node = section.find("retries");
  if (node == nullptr) return;
  const Section retries{complaints_, *node, section.path_of("retries"), "backends[].retries"};
  // A misspelt policy has its own message already.
  if (group.if_match != BackendGroup::IfMatch::read_modify_write && (at || !section.has("ifMatch"))) {
    section.refuse("retries", fmt::format("with ifMatch: {} a write is not tried again", to_string(group.if_match)),
                   "write ifMatch: readModifyWrite, or remove it");
  }
  if (auto v = retries.integer("max", 0, 1000)) group.retries.max = static_cast<uint32_t>(*v);
  if (const auto* backoff = retries.find("backoff")) {
    read_backoff({complaints_, *backoff, retries.path_of("backoff"), "backends[].retries.backoff"},
                 group.retries.initial, group.retries.longest, group.retries.jitter);
  }
}

void BackendReader::read_staleness(const Section& section, BackendGroup& group) {
  const auto* node = section.find("staleness");
  if (node == nullptr) return;
  const Section probe{complaints_, *node, section.path_of("staleness"), "backends[].staleness"};
  auto& staleness = group.staleness;
  probe.require("share", "how many of the writes to follow, such as share: 5%");
  if (const auto share = probe.share("share")) {
    staleness.share = *share;
    if (*share <= 0) probe.complain("share", "a share of nothing follows no write", "try 5%");
  }
  if (auto v = probe.duration("every", false)) {
    staleness.every = *v;
    if (*v < kMinEvery) probe.complain("every", "queries this often are a load of their own", "at least 10ms");
  }
  if (auto v = probe.duration("timeout", false)) staleness.timeout = *v;
  if (staleness.timeout <= staleness.every) {
    probe.complain(probe.has("timeout") ? "timeout" : "every",
                   fmt::format("a write followed for {} is never looked for, with a query every {}",
                               format_duration(staleness.timeout), format_duration(staleness.every)),
                   "make timeout much longer than every");
  }
}

void BackendReader::read_method(const Section& section, BackendGroup& group) {
  if (auto name = section.text("methodName")) group.method_name = std::move(*name);
  if (const auto* node = section.find("payload")) {
    group.payload = read_template(complaints_, *node, section.path_of("payload"), {});
    if (group.payload.max_rendered_bytes() > kMaxPayloadBytes) {
      section.complain("payload", fmt::format("a payload of up to {}", format_size(group.payload.max_rendered_bytes())),
                       "the service takes at most 128 KB");
    }
  }
  if (auto v = read_whole_seconds(section, "responseTimeout", seconds{5}, kLongestMethod, "30s")) {
    group.response_timeout = *v;
  }
  if (auto v = read_whole_seconds(section, "connectTimeout", seconds{0}, kLongestMethod, "10s")) {
    group.connect_timeout = *v;
    if (*v > group.response_timeout) {
      section.complain("connectTimeout",
                       fmt::format("the device has {} to connect and only {} to answer", format_duration(*v),
                                   format_duration(group.response_timeout)),
                       "not longer than responseTimeout: the service refuses that");
    }
  }
}

void BackendReader::read_created_devices(const Section& section, BackendGroup& group) {
  group.device_id_pattern = section.text("deviceId").value_or(group.name + "-{index:06}");
  if (auto v = section.boolean("keep")) group.keep = *v;
  const auto pattern = TextPattern::parse(group.device_id_pattern);
  if (!pattern) {
    complaints_.add_error(section.place_of("deviceId"), section.path_of("deviceId"), shortened(group.device_id_pattern),
                          pattern.error().message);
    return;
  }
  group.device_id = *pattern;
  if (!pattern->has_index()) {
    section.complain("deviceId", fmt::format("\"{}\" names every new device alike", shortened(group.device_id_pattern)),
                     "add {index} or {index:06}");
    return;
  }
  check_device_id(section, "deviceId", pattern->format(1'000'000));
}

void BackendReader::read_bulk(const Section& section, BackendGroup& group) {
  section.require("mode", "create or delete");
  if (auto v = section.integer("size", 1, 100)) group.size = static_cast<uint32_t>(*v);
  const auto mode = section.word("mode", {"create", "delete"});
  if (!mode) return;
  group.bulk = *mode == 0 ? BackendGroup::Bulk::create : BackendGroup::Bulk::remove;
  if (group.bulk == BackendGroup::Bulk::create) {
    section.refuse("of", "a bulk of mode create makes its own devices", "remove it, or write mode: delete");
    return;
  }
  section.require("of", "the back end whose devices it deletes, such as of: newcomers");
  for (const auto* key : {"deviceId", "keep"}) {
    section.refuse(key, fmt::format("a bulk of mode delete has no \"{}\"", key), "remove it, or write mode: create");
  }
}

void BackendReader::read_job(const Section& section, BackendGroup& group) {
  const bool updates = section.has("patch") || section.has("tags"), calls = section.has("methodName");
  if (updates == calls) {
    section.complain("do", updates ? "a job updates twins or calls a method, not both" : "the job has nothing to do",
                     "give patch or tags to update twins, or methodName to call a method");
  }
  if (!calls) {
    for (const auto* key : {"payload", "responseTimeout", "connectTimeout"}) {
      section.refuse(key, fmt::format("\"{}\" belongs to a job that calls a method", key),
                     "remove it, or add methodName");
    }
  }
  if (auto text = section.text("condition")) {
    group.condition = std::move(*text);
    if (group.condition.size() > kMaxConditionBytes) {
      section.complain("condition", fmt::format("{} characters", group.condition.size()), "at most 8192");
    }
    if (is_whole_query(group.condition)) {
      section.complain("condition", "a job has the condition of a query only, not the whole query",
                       "write what stands after WHERE, or \"*\" for every device");
    }
  }
  if (auto v = section.duration("poll", false)) {
    group.poll = *v;
    if (*v < kMinEvery) section.complain("poll", "asking this often is a load of its own", "at least 10ms");
  }
  if (auto v = read_whole_seconds(section, "maxExecutionTime", seconds{1}, std::chrono::hours{168}, "1h")) {
    group.max_execution_time = *v;
  }
}

void BackendReader::read_timeout(const Section& section, BackendGroup& group) {
  const auto timeout = section.duration("timeout", false);
  if (!timeout) return;
  group.timeout = *timeout;
  const Nanos patience = group.connect_timeout + group.response_timeout;
  if (group.op == OpKind::method && *timeout <= patience) {
    section.complain(
        "timeout",
        fmt::format("the back end would give up before the hub, which gives the device {}", format_duration(patience)),
        fmt::format("longer than {}, or a shorter responseTimeout", format_duration(patience)));
  }
}

void BackendReader::check_references() {
  std::vector<std::string> creators;
  for (const auto& group : s_.backends) {
    if (group.creates_devices()) creators.push_back(group.name);
  }
  for (size_t i = 0; i < s_.backends.size(); ++i) {
    auto& group = s_.backends[i];
    if (group.creates_devices() && group.device_id.has_index()) check_device_ids(group, sections_[i]);
    if (!group.deletes_devices() || group.of.empty()) continue;
    const auto at = std::find_if(s_.backends.begin(), s_.backends.end(),
                                 [&](const BackendGroup& other) { return other.name == group.of; });
    if (at != s_.backends.end() && at->creates_devices()) {
      group.creator = static_cast<uint32_t>(at - s_.backends.begin());
    } else if (names_complete_) {
      sections_[i].complain(
          "of",
          at == s_.backends.end() ? fmt::format("there is no back end \"{}\"", shortened(group.of))
                                  : fmt::format("back end \"{}\" creates no devices", group.of),
          creators.empty() ? "add a back end with do: createDevice" : did_you_mean(group.of, creators));
    }
  }
}

void BackendReader::check_device_ids(const BackendGroup& group, const Section& section) const {
  std::string id;
  for (const auto& fleet : s_.fleets) {
    if (!fleet.connection_strings.empty()) continue;
    for (uint32_t i = 0; i < fleet.count; ++i) {
      id.clear();
      fleet.append_device_id(id, i);
      if (!group.device_id.match(id)) continue;
      section.complain("deviceId", fmt::format("fleet \"{}\" has a device \"{}\" too", fleet.name, id),
                       "give the new devices another name");
      return;
    }
  }
  for (const auto& other : s_.backends) {
    if (&other == &group) break;
    if (!other.creates_devices() || !other.device_id.has_index() || !overlap(other.device_id, group.device_id))
      continue;
    section.complain("deviceId", fmt::format("back end \"{}\" creates devices of the same names", other.name),
                     "give each its own deviceId");
    return;
  }
}

}  // namespace twinstorm::scenario::detail
