#include "sim/scenario/loader.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "metrics/abort_watch.hpp"
#include "sim/scenario/detail/backend_reader.hpp"
#include "sim/scenario/detail/overrides.hpp"
#include "sim/scenario/detail/reader.hpp"
#include "sim/scenario/detail/text.hpp"
#include "sim/scenario/detail/value_reader.hpp"
#include "sim/scenario/detail/yaml_tree.hpp"
#include "sim/scenario/source_addresses.hpp"

namespace twinstorm::scenario {
namespace {

using detail::Complaints;
using detail::describe;
using detail::did_you_mean;
using detail::Section;
using detail::shortened;
using detail::YamlNode;
using detail::YamlPlace;
using metrics::OpKind;

constexpr uint64_t kMaxDevices = 1'000'000;
constexpr uint64_t kMaxGroups = 64;  // fleets, back ends: each is a row in every table of the report
constexpr uint64_t kMaxPhases = 256;
constexpr double kMaxRate = 1e6;  // far beyond what one machine sends; keeps arrival numbers in range
constexpr size_t kMaxSteps = 10'000;
constexpr size_t kMaxEvents = 16;
constexpr double kMaxScale = 1e6;
constexpr uint64_t kMaxPahoDevices = 500;  // Paho runs all clients of a process on one thread behind one lock
constexpr Nanos kMinTokenLifetime = std::chrono::seconds{5};  // expiry counts whole seconds
constexpr Nanos kMinRenewBefore = std::chrono::seconds{1};

/// The first `most` bytes at most.
Result<std::string> read_whole_file(const std::string& path, size_t most) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return make_error(ErrorCode::io, std::strerror(errno));
  std::string text;
  std::array<char, 64 * 1024> block;
  while (text.size() < most && file.read(block.data(), block.size()).gcount() > 0) {
    text.append(block.data(), std::min(static_cast<size_t>(file.gcount()), most - text.size()));
  }
  if (file.bad() || (file.fail() && !file.eof())) return make_error(ErrorCode::io, "it is not a regular file");
  return text;
}

/// Reads a whole document into a scenario. Every `read_*` reports what is wrong and goes on; the result counts only if
/// nothing was reported.
class Loader {
 public:
  Loader(Complaints& complaints, std::string default_name, std::string folder)
      : complaints_{complaints}, default_name_{std::move(default_name)}, folder_{std::move(folder)} {}

  Scenario read(const YamlNode& root) {
    Section top{complaints_, root, {}, ""};
    if (!top.valid()) return {};
    read_schema(top);
    s_.name = default_name_;
    if (auto name = top.text("name")) {
      const bool fits =
          name->size() <= 100 && !name->starts_with('.') && std::all_of(name->begin(), name->end(), [](char c) {
            return c == '.' || detail::is_name(std::string{'a', c});
          });
      if (!fits) {
        top.complain("name", fmt::format("\"{}\" cannot name a run folder", shortened(*name)),
                     "letters, digits, -, _ and dots, at most 100");
      }
      s_.name = std::move(*name);
    }
    if (auto text = top.text("description")) s_.description = std::move(*text);
    if (auto seed = top.integer("seed", 0, std::numeric_limits<int64_t>::max())) s_.seed = *seed;
    if (const auto* target = top.find("target")) read_target(top, *target);
    if (const auto* hub = top.find("hub")) read_hub(top, *hub);
    if (const auto canary = top.boolean("canary")) s_.canary = *canary;
    read_limits(top);
    // Names first: a reference may point forwards in the file.
    read_list(top, "fleets", true, kMaxGroups,
              [&](const YamlNode& node, const std::string& path) { read_fleet(node, path); });
    check_device_ids(top);
    read_backends(top);
    check_stream_names(top);
    streams_ = s_.streams();
    read_list(top, "phases", true, kMaxPhases,
              [&](const YamlNode& node, const std::string& path) { read_phase(node, path); });
    check_convergence(top);
    read_slos(top);
    read_invariants(top);
    return std::move(s_);
  }

 private:
  // --- top level
  // ------------------------------------------------------------------------------------------------------

  void read_schema(const Section& top) {
    const auto fix = fmt::format("write schema: {}", kSchemaId);
    if (!top.require("schema", fix)) return;
    const auto schema = top.text("schema");
    if (schema && *schema != kSchemaId) {
      top.complain("schema", fmt::format("\"{}\" is not a format this version reads", shortened(*schema)), fix);
    }
  }

  template <class Read>
  void read_list(const Section& section, std::string_view key, bool required, size_t most, Read read_item) {
    const auto* list = section.find(key);
    if (list == nullptr) {
      if (required) section.require(key, fmt::format("a scenario needs {}", key));
      return;
    }
    if (!list->is_sequence() || (required && list->items.empty())) {
      section.complain(key, fmt::format("{} is not a list of {}", describe(*list), key),
                       "write one item per line, each starting with -");
      return;
    }
    if (list->items.size() > most) {
      section.complain(key, fmt::format("{} items are too many", list->items.size()), fmt::format("at most {}", most));
      return;
    }
    for (size_t i = 0; i < list->items.size(); ++i) read_item(list->items[i], fmt::format("{}[{}]", key, i));
  }

  void read_target(const Section& top, const YamlNode& node) {
    auto& target = s_.target;
    if (node.is_scalar()) {
      if (node.text != "embedded") {
        // Perhaps a connection string: the text is not shown.
        complaints_.add(node.place, "target", {}, "the target is neither embedded nor a mapping",
                        "try embedded, {connectionString: env:NAME} or {readyFile: hub.json}");
      }
      return;
    }
    Section section{complaints_, node, "target", "target"};
    if (!section.valid()) return;
    static const std::vector<std::string> kKinds{"embedded", "connectionString", "readyFile"};
    const auto given = std::count_if(kKinds.begin(), kKinds.end(), [&](const auto& kind) { return section.has(kind); });
    if (given != 1) {
      top.complain("target", given == 0 ? "the target names no hub" : "the target names more than one hub",
                   "give one of embedded, connectionString and readyFile");
    }
    if (section.has("embedded")) {
      Section hub{complaints_, *section.find("embedded"), "target.embedded", "target.embedded"};
      if (const auto threads = hub.integer("threads", 1, 256)) target.hub.threads = static_cast<uint32_t>(*threads);
      if (const auto n = hub.integer("processes", 1, 64)) target.hub.processes = static_cast<uint32_t>(*n);
    }
    if (const auto file = section.text("readyFile")) {
      target.kind = Target::Kind::ready_file;
      target.ready_file = *file;
    }
    if (const auto text = section.text("connectionString")) {
      target.kind = Target::Kind::connection_string;
      target.connection_string = *text;
      // The text itself is a secret: nothing of it is shown.
      const bool from_environment = text->starts_with("env:") && text->size() > 4;
      if (!from_environment &&
          (text->find("HostName=") == std::string::npos || text->find("SharedAccessKey") == std::string::npos)) {
        complaints_.add(
            section.place_of("connectionString"), "target.connectionString", {},
            "not a connection string of a shared access policy",
            "try env:IOTHUB_CONNECTION_STRING, or HostName=...;SharedAccessKeyName=...;SharedAccessKey=...");
      }
    }
    const std::pair<const char*, uint16_t*> ports[] = {{"mqttPort", &target.mqtt_port},
                                                       {"mqttsPort", &target.mqtts_port},
                                                       {"httpPort", &target.http_port},
                                                       {"httpsPort", &target.https_port}};
    for (const auto& [key, to] : ports) {
      if (const auto port = section.integer(key, 1, 65535)) *to = static_cast<uint16_t>(*port);
      if (section.has("connectionString")) continue;
      section.refuse(key, fmt::format("\"{}\" goes with connectionString only", key),
                     "leave it out: the hub tells its ports");
    }
    if (auto file = section.text("caFile")) target.ca_file = std::move(*file);
    if (!section.has("connectionString")) {
      section.refuse("caFile", "\"caFile\" goes with connectionString only", "leave it out: the hub tells its CA");
    }
    if (const auto* sources = section.find("sourceAddresses")) read_source_addresses(section, *sources);
    if (const auto* authority = section.find("deviceCa")) {
      const Section files{complaints_, *authority, "target.deviceCa", "target.deviceCa"};
      if (files.valid()) {
        files.require("certificate", "PEM file of the CA certificate that the hub trusts");
        files.require("key", "PEM file of its private key");
        target.device_ca_certificate = files.text("certificate").value_or("");
        target.device_ca_key = files.text("key").value_or("");
      }
      if (section.has("embedded")) {
        section.refuse("deviceCa", "the embedded hub trusts a CA that the run makes", "leave it out");
      }
    }
  }

  void read_source_addresses(const Section& target, const YamlNode& list) {
    auto& given = s_.target.source_addresses;
    static constexpr const char* kFix = "try sourceAddresses: [10.0.0.5, 10.0.0.16-10.0.0.31, 10.0.1.0/28]";
    if (!list.is_sequence() || list.items.empty() || list.items.size() > kMaxSourceAddresses) {
      target.complain("sourceAddresses", fmt::format("{} is not a list of addresses", describe(list)), kFix);
      return;
    }
    for (size_t i = 0; i < list.items.size(); ++i) {
      const auto& item = list.items[i];
      const auto path = fmt::format("target.sourceAddresses[{}]", i);
      if (!item.is_scalar()) {
        complaints_.add(item.place, path, {}, fmt::format("{} is not an address", describe(item)), kFix);
        continue;
      }
      if (const auto some = expand_source_addresses(item.text); !some) {
        complaints_.add_error(item.place, path, shortened(item.text), some.error().message);
        continue;
      }
      given.push_back(item.text);
      if (const auto all = expand_source_addresses(given); !all) {
        complaints_.add_error(item.place, path, shortened(item.text), all.error().message);
        given.pop_back();
      }
    }
  }

  /// How the hub of the run's own behaves.
  void read_hub(const Section& top, const YamlNode& node) {
    if (s_.target.kind != Target::Kind::embedded) {
      top.refuse("hub", "\"hub\" describes the hub that a run starts, and this target is there already",
                 "remove it, or use target: embedded");
      return;
    }
    const Section section{complaints_, node, "hub", "hub"};
    auto& hub = s_.target.hub;
    static const std::vector<std::string> kTiers{"F1", "B1", "B2", "B3", "S1", "S2", "S3"};
    if (const auto at = section.word("tier", kTiers)) hub.tier = kTiers[*at];
    const uint64_t most = hub.tier == "F1" ? 1 : hub.tier.ends_with('3') ? 10 : 200;
    if (!hub.tier.empty() && hub.processes > 1) {
      section.refuse("tier",
                     fmt::format("the quotas of a tier are those of one hub, and the run starts {}", hub.processes),
                     "leave out target.embedded.processes");
    }
    if (const auto units = section.integer("units", 1, most)) hub.units = static_cast<uint32_t>(*units);
    if (!section.has("tier")) section.refuse("units", "units are units of a tier", "add tier: S1");
    if (const auto* query = section.find("query")) {
      const Section q{complaints_, *query, "hub.query", "hub.query"};
      if (const auto* staleness = q.find("staleness")) {
        hub.query_staleness =
            detail::read_distribution(complaints_, *staleness, "hub.query.staleness", "hub.query.staleness");
      }
      if (const auto most_rows = q.integer("pageMax", 1, 10'000)) {
        hub.query_page_max = static_cast<uint32_t>(*most_rows);
      }
    }
    if (const auto* plant = section.find("plant")) {
      const Section p{complaints_, *plant, "hub.plant", "hub.plant"};
      for (const char* fault :
           {"dropNotification", "swapNotifications", "duplicateNotification", "loseReported", "forgetDesired"}) {
        const auto every = p.integer(fault, 1, 1'000'000'000);
        if (every) hub.plant += fmt::format("{}{}:{}", hub.plant.empty() ? "" : ",", fault, *every);
      }
    }
  }

  void read_limits(const Section& top) {
    const auto* node = top.find("limits");
    if (node == nullptr) return;
    Section section{complaints_, *node, "limits", "limits"};
    auto& limits = s_.limits;
    if (auto v = section.duration("operationTimeout", false)) limits.operation_timeout = *v;
    if (auto v = section.duration("convergenceTimeout", false)) limits.convergence_timeout = *v;
    if (auto v = section.duration("drainTimeout", true)) limits.drain_timeout = *v;
    if (auto v = section.integer("backlogMax", 1, 1'000'000)) limits.backlog_max = static_cast<uint32_t>(*v);
    if (auto v = section.duration("scheduleLag", false)) limits.schedule_lag = *v;
    if (auto v = section.share("dropped")) limits.dropped = *v;
    if (auto v = section.share("busy")) limits.busy = *v;
  }

  // --- fleets
  // ---------------------------------------------------------------------------------------------------------

  void read_fleet(const YamlNode& node, const std::string& path) {
    Section section{complaints_, node, path, "fleets[]"};
    if (!section.valid()) {
      names_complete_ = false;
      return;
    }
    Fleet fleet;
    section.require("name", "give the fleet a name, such as thermostats");
    if (auto name = section.name("name")) {
      fleet.name = *name;
      for (const auto& other : s_.fleets) {
        if (other.name == *name)
          section.complain("name", fmt::format("two fleets are named \"{}\"", *name), "rename one");
      }
    } else {
      names_complete_ = false;
    }
    section.require("count", "how many devices, such as count: 100");
    if (const auto count = section.integer("count", 1, kMaxDevices)) fleet.count = static_cast<uint32_t>(*count);

    fleet.device_id_pattern = section.text("deviceId").value_or(fleet.device_id_pattern);
    read_device_id(section, fleet);
    read_connection_strings(section, fleet);
    read_connection(section, fleet);
    read_tls(section, fleet);
    read_auth(section, fleet);
    if (auto v = section.boolean("methods")) fleet.methods = *v;
    if (auto v = section.boolean("c2d")) fleet.c2d = *v;
    fleet.tags = detail::read_template(section, "tags", "tags");
    fleet.reported = detail::read_template(section, "reported", "reported properties");
    if (section.has("reported")) reporting_fleets_.insert(fleet.name);
    if (const auto* on_desired = section.find("onDesired"))
      read_listeners(*on_desired, section.path_of("onDesired"), fleet);
    if (const auto* telemetry = section.find("telemetry")) {
      Section t{complaints_, *telemetry, section.path_of("telemetry"), "fleets[].telemetry"};
      if (auto v = t.duration("every", false)) fleet.telemetry.every = *v;
      if (auto v = t.share("jitter")) fleet.telemetry.jitter = *v;
      if (auto v = t.size("size")) {
        fleet.telemetry.size = *v;
        if (*v < 2 || *v > 256 * 1024) t.complain("size", "a telemetry message has 2 B to 256 KB", "try 256B");
      }
    }
    if (const auto* reconnect = section.find("reconnect"))
      read_reconnect(*reconnect, section.path_of("reconnect"), fleet.reconnect);
    // The keep-alive of MQTT 3.1.1 counts whole seconds in 16 bits; IoT Hub accepts up to 1,177 s.
    if (auto v = detail::read_whole_seconds(section, "keepAlive", std::chrono::seconds{1}, std::chrono::seconds{1177},
                                            "180s")) {
      fleet.keep_alive = *v;
    }
    if (auto v = section.duration("timeout", false)) fleet.timeout = *v;
    fleet.first = s_.device_count();
    fleet_sections_.push_back(path);
    fleet_places_.push_back(section.place_of("deviceId"));
    s_.fleets.push_back(std::move(fleet));
  }

  void read_device_id(const Section& section, Fleet& fleet) {
    const auto pattern = TextPattern::parse(fleet.device_id_pattern, fleet.name);
    if (!pattern) {
      complaints_.add_error(section.place_of("deviceId"), section.path_of("deviceId"),
                            shortened(fleet.device_id_pattern), pattern.error().message);
      return;
    }
    fleet.device_id = *pattern;
    if (!pattern->has_index() && fleet.count > 1) {
      section.complain("deviceId",
                       fmt::format("\"{}\" names {} devices alike", shortened(fleet.device_id_pattern), fleet.count),
                       "add {index} or {index:05}");
    }
    detail::check_device_id(section, "deviceId", pattern->format(fleet.count > 0 ? fleet.count - 1 : 0));
  }

  /// Devices that exist already bring their identities along.
  void read_connection_strings(const Section& section, Fleet& fleet) {
    const auto text = section.text("connectionStrings");
    if (!text) return;
    fleet.connection_strings = *text;
    if (text->find("SharedAccess") != std::string::npos) {
      section.complain("connectionStrings", "a key does not belong in a scenario",
                       "name a file with one connection string a line, or env:NAME");
    }
    if (section.has("deviceId")) {
      section.complain("deviceId", "the connection strings name the devices", "leave deviceId out");
    }
    if (section.has("tags")) {
      section.complain("tags", "tags are given when a device is registered, and these devices are", "leave tags out");
    }
    if (s_.target.kind == Target::Kind::embedded) {
      section.complain("connectionStrings", "the embedded hub starts without devices",
                       "use target: {readyFile: ...} or {connectionString: ...}");
    }
  }

  void read_connection(const Section& section, Fleet& fleet) {
    static const std::vector<std::string> kTransports{"mqtt", "mqttws", "amqp", "amqpws", "http"};
    if (const auto at = section.word("transport", kTransports)) {
      if (*at > 1) {
        section.complain("transport", fmt::format("this build has no transport \"{}\"", kTransports[*at]),
                         "use mqtt or mqttws");
      } else {
        fleet.transport = *at == 0 ? TransportKind::mqtt : TransportKind::mqttws;
      }
    }
    if (const auto at = section.word("engine", {"native", "paho"}); at && *at == 1) {
      fleet.engine = Engine::paho;
      if (fleet.transport != TransportKind::mqtt) {
        section.complain("engine", "engine paho speaks MQTT over TCP and TLS, not over WebSocket",
                         "use transport: mqtt, or engine: native");
      }
      if (fleet.count > kMaxPahoDevices) {
        section.complain("engine",
                         fmt::format("{} devices are too many for Paho, which serves all clients of a process on one "
                                     "thread and would measure itself",
                                     format_count(fleet.count)),
                         fmt::format("at most {}, or engine: native", kMaxPahoDevices));
      }
    }
  }

  void read_tls(const Section& section, Fleet& fleet) {
    const auto* node = section.find("tls");
    if (node == nullptr) return;
    if (!node->is_mapping()) {
      if (const auto on = section.boolean("tls")) fleet.tls.enabled = *on;
      return;
    }
    const Section tls{complaints_, *node, section.path_of("tls"), "fleets[].tls"};
    fleet.tls.enabled = true;
    if (const auto at = tls.word("version", {"any", "1.2", "1.3"})) {
      static constexpr Tls::Version kVersions[] = {Tls::Version::any, Tls::Version::v1_2, Tls::Version::v1_3};
      fleet.tls.version = kVersions[*at];
    }
    if (const auto resumption = tls.boolean("resumption")) fleet.tls.resumption = *resumption;
  }

  void read_auth(const Section& section, Fleet& fleet) {
    static const std::vector<std::string> kWords{"sas", "x509-selfsigned", "x509-ca"};
    static constexpr AuthKind kKinds[] = {AuthKind::sas, AuthKind::x509_selfsigned, AuthKind::x509_ca};
    const auto word = section.word("auth", kWords);
    if (word) fleet.auth = kKinds[*word];
    if (fleet.auth == AuthKind::sas) return read_tokens(section, fleet.tokens);
    for (const auto* key : {"tokenLifetime", "renewBefore", "renewJitter"}) {
      section.refuse(key, fmt::format("auth {} uses certificates, not tokens", kWords[*word]), "remove it");
    }
    const bool tls = fleet.tls.enabled.value_or(fleet.transport == TransportKind::mqtt ? s_.target.mqtt_uses_tls()
                                                                                       : s_.target.http_uses_tls());
    if (!tls) {
      section.complain(
          "auth",
          fmt::format("auth {} shows a certificate in the TLS handshake, and this fleet has no TLS", kWords[*word]),
          "add tls: true");
    }
    if (fleet.engine == Engine::paho) {
      section.complain("auth", "engine paho has symmetric keys only", "use auth: sas, or engine: native");
    }
    if (section.has("connectionStrings")) {
      section.complain("auth", "connection strings bring symmetric keys", "use auth: sas, or leave them out");
    }
    if (fleet.auth == AuthKind::x509_ca && s_.target.kind != Target::Kind::embedded &&
        s_.target.device_ca_certificate.empty()) {
      section.complain("auth", "the run needs the CA that this hub trusts, to sign the devices' certificates with it",
                       "give target deviceCa: {certificate: ca.pem, key: ca.key}");
    }
  }

  void read_tokens(const Section& section, Tokens& tokens) {
    if (auto v = section.duration("tokenLifetime", false)) {
      tokens.lifetime = *v;
      if (*v < kMinTokenLifetime) {
        section.complain("tokenLifetime", "a token lives for whole seconds, and its renewal needs some", "at least 5s");
      }
    }
    if (auto v = section.duration("renewBefore", false)) {
      tokens.renew_before = *v;
      if (*v < kMinRenewBefore || *v >= tokens.lifetime) {
        section.complain("renewBefore",
                         fmt::format("a token of {} is not renewed {} before its end", format_duration(tokens.lifetime),
                                     format_duration(*v)),
                         "at least 1s, and shorter than tokenLifetime");
      }
    }
    if (auto v = section.share("renewJitter")) tokens.jitter = *v;
  }

  void read_reconnect(const YamlNode& node, const std::string& path, Reconnect& reconnect) {
    Section section{complaints_, node, path, "fleets[].reconnect"};
    if (const auto enabled = section.boolean("enabled")) reconnect.enabled = *enabled;
    const auto* backoff = section.find("backoff");
    if (backoff == nullptr) return;
    const Section b{complaints_, *backoff, section.path_of("backoff"), "fleets[].reconnect.backoff"};
    detail::read_backoff(b, reconnect.initial, reconnect.max, reconnect.jitter);
  }

  void read_listeners(const YamlNode& node, const std::string& path, Fleet& fleet) {
    if (!node.is_sequence()) {
      fleet.on_desired.push_back(read_listener(node, path));
      return;
    }
    std::map<std::string, size_t> seen;
    for (size_t i = 0; i < node.items.size(); ++i) {
      const auto at = fmt::format("{}[{}]", path, i);
      auto listener = read_listener(node.items[i], at);
      if (const auto [first, fresh] = seen.emplace(listener.path, i); !fresh) {
        complaints_.add(
            node.items[i].place, at, listener.path,
            fmt::format("two listeners for {}", listener.path.empty() ? "every patch" : "\"" + listener.path + "\""),
            "keep one");
      }
      fleet.on_desired.push_back(std::move(listener));
    }
  }

  DesiredListener read_listener(const YamlNode& node, const std::string& path) {
    Section section{complaints_, node, path, "fleets[].onDesired[]"};
    DesiredListener listener;
    if (auto text = section.text("path")) {
      std::string_view rest = *text;
      if (rest == "properties.desired") rest = {};
      if (rest.starts_with("properties.desired.")) rest.remove_prefix(19);
      listener.path = rest;
      const bool hollow = rest.starts_with('.') || rest.ends_with('.') || rest.find("..") != std::string_view::npos;
      if (hollow || rest.find_first_of("$# ") != std::string_view::npos || rest.starts_with("properties.")) {
        section.complain("path", fmt::format("\"{}\" is not a path in the desired properties", shortened(*text)),
                         "try climate or properties.desired.climate.hvac.systemControl");
      }
    }
    if (const auto* apply = section.find("apply")) {
      Section a{complaints_, *apply, section.path_of("apply"), "fleets[].onDesired[].apply"};
      if (const auto* delay = a.find("delay")) {
        listener.delay =
            detail::read_distribution(complaints_, *delay, a.path_of("delay"), "fleets[].onDesired[].apply.delay");
      }
      if (const auto failure = a.share("failure")) listener.failure = *failure;
    }
    if (const auto* report = section.find("report")) {
      if (report->is_mapping()) {
        listener.report = DesiredListener::Report::values;
        listener.values = detail::read_template(section, "report", "reported properties");
      } else if (const auto at = section.word("report", {"echo", "none"})) {
        listener.report = *at == 0 ? DesiredListener::Report::echo : DesiredListener::Report::none;
      }
    }
    return listener;
  }

  void check_device_ids(const Section& top) {
    uint64_t total = 0;
    for (const auto& fleet : s_.fleets) total += fleet.count;
    if (total > kMaxDevices) {
      top.complain("fleets", fmt::format("{} devices are too many for one run", format_count(total)),
                   fmt::format("at most {}", format_count(kMaxDevices)));
      return;
    }
    for (size_t second = 1; second < s_.fleets.size(); ++second) {
      for (size_t first = 0; first < second; ++first) {
        const auto clash = shared_device_id(s_.fleets[first], s_.fleets[second]);
        if (!clash) continue;
        complaints_.add(fleet_places_[second], fleet_sections_[second] + ".deviceId",
                        s_.fleets[second].device_id_pattern,
                        fmt::format("fleets \"{}\" and \"{}\" both have a device \"{}\"", s_.fleets[first].name,
                                    s_.fleets[second].name, *clash),
                        "put {fleet} into deviceId");
        break;
      }
    }
  }

  static std::optional<std::string> shared_device_id(const Fleet& a, const Fleet& b) {
    const auto either_starts = [](const std::string& x, const std::string& y) {
      return x.starts_with(y) || y.starts_with(x);
    };
    const auto either_ends = [](const std::string& x, const std::string& y) {
      return x.ends_with(y) || y.ends_with(x);
    };
    if (!either_starts(a.device_id.prefix(), b.device_id.prefix()) ||
        !either_ends(a.device_id.suffix(), b.device_id.suffix())) {
      return std::nullopt;
    }
    std::string id;
    for (uint32_t i = 0; i < a.count; ++i) {
      id.clear();
      a.append_device_id(id, i);
      const auto index = b.device_id.match(id);
      if (index && *index < b.count) return id;
    }
    return std::nullopt;
  }

  // --- back ends
  // ------------------------------------------------------------------------------------------------------

  void read_backends(const Section& top) {
    detail::BackendReader reader{complaints_, s_, names_complete_};
    read_list(top, "backends", false, kMaxGroups,
              [&](const YamlNode& node, const std::string& path) { reader.read(node, path); });
    reader.check_references();
  }

  void check_stream_names(const Section& top) {
    // The report and SLOs speak of phases, fleets and back ends by name; a fleet and a back end of one name are
    // confusing.
    for (size_t i = 0; i < s_.backends.size(); ++i) {
      for (const auto& fleet : s_.fleets) {
        if (fleet.name.empty() || fleet.name != s_.backends[i].name) continue;
        const auto& node = top.find("backends")->items;
        const auto* name = i < node.size() ? node[i].find("name") : nullptr;
        complaints_.add(name != nullptr ? name->place : top.place_of("backends"), fmt::format("backends[{}].name", i),
                        fleet.name, fmt::format("a fleet is named \"{}\" too", fleet.name), "rename one");
        break;
      }
    }
  }

  // --- phases
  // ---------------------------------------------------------------------------------------------------------

  void read_phase(const YamlNode& node, const std::string& path) {
    Section section{complaints_, node, path, "phases[]"};
    if (!section.valid()) {
      names_complete_ = false;
      return;
    }
    Phase phase;
    section.require("name", "give the phase a name, such as steady");
    if (auto name = section.name("name")) {
      phase.name = *name;
      for (const auto& other : s_.phases) {
        if (other.name == *name)
          section.complain("name", fmt::format("two phases are named \"{}\"", *name), "rename one");
      }
    } else {
      names_complete_ = false;
    }
    if (auto v = section.duration("duration", false)) phase.duration = *v;
    if (const auto* until = section.find("until")) phase.until = read_until(*until, section.path_of("until"));
    if (auto v = section.duration("timeout", false)) phase.timeout = *v;
    if (auto v = section.boolean("record")) phase.record = *v;
    if (section.has("duration") && section.has("until")) {
      section.refuse("until", "a phase has a duration or an until, not both", "split it into two phases");
    } else if (!section.has("duration") && !section.has("until") && !section.has("connect")) {
      section.complain("duration", "the phase never ends", "give duration: 30s, or until: {converged: 100%}");
    }
    if (section.has("timeout") && section.has("duration")) {
      section.refuse("timeout", "a phase with a duration needs no timeout", "remove it");
    }
    if (const auto* connect = section.find("connect")) read_connect(*connect, section.path_of("connect"), phase);
    if (const auto* load = section.find("load")) read_load(*load, section.path_of("load"), phase);
    if (const auto* disconnect = section.find("disconnect"))
      read_disconnect(*disconnect, section.path_of("disconnect"), phase);
    if (const auto* events = section.find("events")) read_events(*events, section.path_of("events"), phase);
    phase_nodes_.push_back(&node);
    s_.phases.push_back(std::move(phase));
  }

  Until read_until(const YamlNode& node, const std::string& path) {
    Section section{complaints_, node, path, "phases[].until"};
    Until until;
    if (section.valid() && node.members.size() != 1) {
      complaints_.add(node.place, path, {}, "a phase waits for one thing", "try until: {converged: 100%}");
    }
    if (const auto share = section.share("converged")) until = {Until::Kind::converged, *share};
    if (const auto share = section.share("devicesConnected")) until = {Until::Kind::devices_connected, *share};
    if (section.has("operations")) {
      until = {.kind = Until::Kind::operations,
               .count = section.integer("operations", 1, 1'000'000'000'000).value_or(1)};
    }
    if (section.has("quiet")) {
      until = {.kind = Until::Kind::quiet, .quiet = section.duration("quiet", false).value_or(Nanos{1})};
    }
    return until;
  }

  std::vector<uint32_t> read_fleets(const Section& section) {
    std::vector<uint32_t> indices;
    const auto* list = section.find("fleets");
    if (list == nullptr) return indices;
    if (!list->is_sequence() || list->items.empty()) {
      section.complain("fleets", fmt::format("{} is not a list of fleets", describe(*list)),
                       "try fleets: [thermostats]");
      return indices;
    }
    std::vector<std::string> names;
    for (const auto& fleet : s_.fleets) names.push_back(fleet.name);
    for (size_t i = 0; i < list->items.size(); ++i) {
      const auto& item = list->items[i];
      const auto at = std::find(names.begin(), names.end(), item.text);
      const auto index = static_cast<uint32_t>(at - names.begin());
      const auto item_path = fmt::format("{}[{}]", section.path_of("fleets"), i);
      if (at == names.end() || !item.is_scalar()) {
        if (names_complete_) {
          complaints_.add(item.place, item_path, shortened(item.text),
                          fmt::format("there is no fleet {}", describe(item)), did_you_mean(item.text, names));
        }
      } else if (std::find(indices.begin(), indices.end(), index) != indices.end()) {
        complaints_.add(item.place, item_path, item.text, fmt::format("\"{}\" appears twice", item.text), "keep one");
      } else {
        indices.push_back(index);
      }
    }
    return indices;
  }

  void read_connect(const YamlNode& node, const std::string& path, Phase& phase) {
    ConnectSpec connect;
    if (node.is_scalar()) {
      read_rate(node, path, connect.spec.rate, connect.spec.per_device);
    } else {
      Section section{complaints_, node, path, "phases[].connect"};
      if (!section.valid()) return;
      connect.fleets = read_fleets(section);
      read_shape(section, "phases[].connect", phase.duration, connect.spec);
    }
    if (connect.spec.per_device) {
      complaints_.add(node.place, path, {}, "a connect rate per device means nothing: each connects once",
                      "try connect: 500/s");
    }
    phase.connect = std::move(connect);
  }

  void read_disconnect(const YamlNode& node, const std::string& path, Phase& phase) {
    Section section{complaints_, node, path, "phases[].disconnect"};
    EventSpec event;
    read_share_of_devices(section, phase, event);
    phase.disconnect = DisconnectSpec{event.share, event.after, event.over, std::move(event.fleets)};
  }

  /// What `disconnect` and the items of `events` have in common.
  void read_share_of_devices(const Section& section, const Phase& phase, EventSpec& event) {
    section.require("share", "how many of the devices, such as share: 30%");
    if (const auto share = section.share("share")) {
      event.share = *share;
      if (*share <= 0) section.complain("share", "a share of nothing is no device", "try 30%");
    }
    if (auto v = section.duration("after", true)) event.after = *v;
    if (auto v = section.duration("over", true)) event.over = *v;
    event.fleets = read_fleets(section);
    if (phase.duration && event.after + event.over > *phase.duration) {
      section.complain("over",
                       fmt::format("the event ends after the phase, which lasts {}", format_duration(*phase.duration)),
                       "shorten after and over, or lengthen the phase");
    }
  }

  void read_events(const YamlNode& node, const std::string& path, Phase& phase) {
    static const std::vector<std::string> kKinds{"disconnect", "report", "getTwin", "telemetry", "renewToken"};
    if (!node.is_sequence() || node.items.size() > kMaxEvents) {
      complaints_.add(node.place, path, {},
                      fmt::format("{} is not a list of at most {} events", describe(node), kMaxEvents),
                      "try events: [{do: report, share: 30%, over: 2s}]");
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const Section section{complaints_, node.items[i], fmt::format("{}[{}]", path, i), "phases[].events[]"};
      if (!section.valid()) continue;
      EventSpec event;
      section.require("do", "one of " + detail::join(kKinds));
      const auto kind = section.word("do", kKinds);
      if (kind) event.kind = static_cast<EventSpec::Kind>(*kind);
      read_share_of_devices(section, phase, event);
      if (!kind) continue;
      check_event(section, phase, event);
      phase.events.push_back(std::move(event));
    }
  }

  /// Whether every fleet it is for can do it.
  void check_event(const Section& section, const Phase& phase, const EventSpec& event) {
    for (uint32_t i = 0; i < s_.fleets.size(); ++i) {
      const auto& fleet = s_.fleets[i];
      if (!event.fleets.empty() && std::find(event.fleets.begin(), event.fleets.end(), i) == event.fleets.end())
        continue;
      if (event.kind == EventSpec::Kind::report && !reporting_fleets_.contains(fleet.name)) {
        section.complain("do", fmt::format("fleet \"{}\" has nothing to report", fleet.name),
                         "give the fleet reported: {...}, or name others in fleets");
      }
      if (event.kind == EventSpec::Kind::renew_token && (fleet.auth != AuthKind::sas || fleet.engine == Engine::paho)) {
        section.complain("do", fmt::format("fleet \"{}\" has no tokens to renew before their time", fleet.name),
                         "name the fleets with auth: sas and engine: native in fleets");
      }
      const auto closed = [&](OpKind kind) {
        return std::any_of(phase.load.begin(), phase.load.end(), [&](const LoadEntry& entry) {
          return entry.closed() && entry.stream == s_.fleet_stream(i, kind);
        });
      };
      if ((event.kind == EventSpec::Kind::report && closed(OpKind::report)) ||
          (event.kind == EventSpec::Kind::get_twin && closed(OpKind::get_twin)) ||
          (event.kind == EventSpec::Kind::telemetry && closed(OpKind::telemetry))) {
        section.complain("do", "a closed load of the phase does the same and would take these operations for its own",
                         "give that load a rate, or put the event into another phase");
      }
    }
  }

  void read_load(const YamlNode& node, const std::string& path, Phase& phase) {
    if (!node.is_mapping()) {
      complaints_.add(node.place, path, shortened(node.text),
                      fmt::format("{} is not a mapping of streams to loads", describe(node)),
                      "try load: {rollout: 50/s}");
      return;
    }
    std::set<std::string_view> seen;
    for (const auto& member : node.members) {
      const auto at = fmt::format("{}.{}", path, shortened(member.key));
      if (!seen.insert(member.key).second) {
        complaints_.add(member.place, at, shortened(member.key),
                        fmt::format("\"{}\" appears twice", shortened(member.key)), "keep one");
        continue;
      }
      LoadEntry entry;
      const auto stream = find_stream(member, at);
      if (stream) entry.stream = *stream;
      read_load_entry(member.value, at, phase.duration, entry);
      if (!stream) continue;
      const bool no_device =
          s_.is_backend_stream(*stream) && !s_.backends[s_.backend_of_stream(*stream)].works_on_devices();
      if (entry.spec.per_device && no_device) {
        complaints_.add(member.value.place, at, shortened(member.value.text),
                        fmt::format("a {} belongs to no device", metrics::to_string(streams_[*stream].kind)),
                        "give its total rate: 2/s");
      }
      const double devices = s_.fleets.empty() ? 0 : s_.fleets[s_.fleet_of_stream(*stream)].count;
      if (entry.spec.per_device && !no_device && highest_rate(entry.spec) * devices > kMaxRate) {
        complaints_.add(member.value.place, at, shortened(member.value.text),
                        fmt::format("over {} devices this is more than a run can ask",
                                    format_count(static_cast<uint64_t>(devices))),
                        fmt::format("at most {} in all", format_rate({kMaxRate})));
      }
      phase.load.push_back(std::move(entry));
    }
  }

  static double highest_rate(const ShapeSpec& spec) {
    double highest = std::max({spec.rate.per_second, spec.from.per_second, spec.to.per_second, spec.peak.per_second});
    for (const auto& step : spec.steps) highest = std::max(highest, step.rate.per_second);
    return spec.kind == ShapeSpec::Kind::sine ? spec.rate.per_second + spec.peak.per_second : highest;
  }

  std::optional<uint32_t> find_stream(const detail::YamlMember& member, const std::string& path) {
    std::vector<std::string> names;
    for (uint32_t i = 0; i < streams_.size(); ++i) {
      const auto& stream = streams_[i];
      const bool device_side = !s_.is_backend_stream(i);
      if (device_side && stream.kind == OpKind::connect) {
        if (stream.name != member.key) continue;
        complaints_.add(member.place, path, member.key, "devices are connected by the phase, not by a load",
                        fmt::format("write connect: {{rate: 500/s, fleets: [{}]}} in the phase", stream.owner));
        return std::nullopt;
      }
      if (stream.name == member.key) {
        check_stream_use(i, member, path);
        return i;
      }
      names.push_back(stream.name);
    }
    if (!names_complete_) return std::nullopt;
    const auto dot = member.key.find('.');
    const auto owner = member.key.substr(0, dot);
    for (const auto& fleet : s_.fleets) {
      if (fleet.name != owner) continue;
      const std::vector<std::string> loads{"getTwin", "report", "telemetry"};
      const bool bare = dot == std::string::npos;
      complaints_.add(member.place, path, shortened(member.key),
                      bare ? fmt::format("\"{}\" is a fleet; a load names one of its operations", owner)
                           : fmt::format("\"{}\" is no operation of a device", shortened(member.key.substr(dot + 1))),
                      bare ? fmt::format("try {}.report", owner) : did_you_mean(member.key.substr(dot + 1), loads));
      return std::nullopt;
    }
    complaints_.add(member.place, path, shortened(member.key),
                    fmt::format("there is no back end or device operation \"{}\"", shortened(member.key)),
                    did_you_mean(member.key, names));
    return std::nullopt;
  }

  void check_stream_use(uint32_t stream, const detail::YamlMember& member, const std::string& path) {
    if (s_.is_backend_stream(stream)) return;
    const auto& fleet = s_.fleets[s_.fleet_of_stream(stream)];
    if (streams_[stream].kind == OpKind::report && !reporting_fleets_.contains(fleet.name)) {
      complaints_.add(member.place, path, member.key, fmt::format("fleet \"{}\" has nothing to report", fleet.name),
                      "give the fleet reported: {...}");
    }
    if (streams_[stream].kind == OpKind::telemetry && fleet.telemetry.every > Nanos{0}) {
      complaints_.add(member.place, path, member.key,
                      fmt::format("fleet \"{}\" sends telemetry by itself already", fleet.name),
                      "remove telemetry.every of the fleet, or this load");
    }
  }

  void read_load_entry(const YamlNode& node, const std::string& path, std::optional<Nanos> duration, LoadEntry& entry) {
    if (!node.is_mapping()) {
      read_rate(node, path, entry.spec.rate, entry.spec.per_device);
      return;
    }
    Section section{complaints_, node, path, "phases[].load.*"};
    if (!section.has("concurrency")) {
      section.refuse("think", "an open load does not wait for answers, so nobody thinks about them",
                     "add concurrency, or remove think");
      read_shape(section, "phases[].load.*", duration, entry.spec);
      return;
    }
    for (const auto& member : node.members) {
      if (member.key == "concurrency" || member.key == "think") continue;
      section.refuse(member.key, fmt::format("a closed load (concurrency) has no \"{}\"", member.key),
                     "remove one of them");
    }
    if (const auto n = section.integer("concurrency", 1, 1'000'000)) entry.concurrency = static_cast<uint32_t>(*n);
    if (const auto* think = section.find("think")) {
      entry.think = detail::read_distribution(complaints_, *think, section.path_of("think"), "phases[].load.*.think");
    }
  }

  bool read_rate(const YamlNode& node, const std::string& path, Rate& rate, bool& per_device) {
    std::string_view text = node.text;
    const bool device = text.ends_with("/device");
    if (device) text.remove_suffix(7);
    const auto parsed = node.is_scalar() ? parse_rate(text) : Result<Rate>{make_error(ErrorCode::invalid_argument, {})};
    const auto shown = shortened(node.text);
    if (!parsed) {
      const auto number = detail::leading_number(node.text);
      complaints_.add(node.place, path, shown, fmt::format("{} is not a rate", describe(node)),
                      number.empty() ? "try 50/s, or 0.1/s/device" : fmt::format("try {}/s", number));
      return false;
    }
    if (parsed->per_second > kMaxRate) {
      complaints_.add(node.place, path, shown, fmt::format("\"{}\" is more than a run can ask", shown),
                      "at most " + format_rate({kMaxRate}));
      return false;
    }
    rate = *parsed;
    per_device = device;
    return true;
  }

  /// Reads the rates of one shape, which must all be totals or all per device.
  class ShapeRates {
   public:
    ShapeRates(Loader& loader, const Section& section, ShapeSpec& spec)
        : loader_{loader}, section_{section}, spec_{spec} {}
    void read(std::string_view key, Rate& rate) {
      section_.require(key, fmt::format("such as {}: 50/s", key));
      if (const auto* node = section_.find(key)) read(*node, section_.path_of(key), rate);
    }
    void read(const YamlNode& node, const std::string& path, Rate& rate) {
      bool per_device = false;
      if (!loader_.read_rate(node, path, rate, per_device)) return;
      if (seen_ && per_device != spec_.per_device) {
        loader_.complaints_.add(node.place, path, shortened(node.text),
                                "some rates of this load are per device and some are totals",
                                "write all with /device or all without");
      }
      seen_ = true;
      spec_.per_device = per_device;
    }

   private:
    Loader& loader_;
    const Section& section_;
    ShapeSpec& spec_;
    bool seen_ = false;
  };

  void read_shape(const Section& section, std::string_view pattern, std::optional<Nanos> duration, ShapeSpec& spec) {
    struct Form {
      std::string name;
      ShapeSpec::Kind kind;
      std::vector<std::string_view> keys;
    };
    static const std::vector<Form> kForms{{"constant", ShapeSpec::Kind::constant, {"rate"}},
                                          {"ramp", ShapeSpec::Kind::ramp, {"from", "to", "over"}},
                                          {"steps", ShapeSpec::Kind::steps, {"steps"}},
                                          {"spike", ShapeSpec::Kind::spike, {"base", "peak", "at", "for"}},
                                          {"sine", ShapeSpec::Kind::sine, {"mean", "amplitude", "period"}},
                                          {"trace", ShapeSpec::Kind::trace, {"file", "scale", "digest"}}};
    if (!section.valid()) return;
    std::vector<std::string> names;
    for (const auto& form : kForms) names.push_back(form.name);
    size_t chosen = 0;
    if (section.has("shape")) {
      const auto at = section.word("shape", names);
      if (!at) return;
      chosen = *at;
    }
    const auto& form = kForms[chosen];
    spec.kind = form.kind;
    bool other_shape = false;
    for (const auto& other : kForms) {
      for (const auto key : other.keys) {
        const bool wanted = std::find(form.keys.begin(), form.keys.end(), key) != form.keys.end();
        if (wanted || other.kind == form.kind) continue;
        other_shape = other_shape || section.has(key);
        section.refuse(key, fmt::format("\"{}\" belongs to shape {}", key, other.name),
                       section.has("shape") ? "remove it" : fmt::format("add shape: {}", other.name));
      }
    }
    if (const auto poisson = section.boolean("poisson")) spec.poisson = *poisson;
    const auto misfit = [&](std::string_view key, Nanos end) {
      if (!duration || end <= *duration) return;
      section.complain(key,
                       fmt::format("the shape ends at {}, after the phase, which lasts {}", format_duration(end),
                                   format_duration(*duration)),
                       "lengthen the phase or shorten the shape");
    };
    ShapeRates rates{*this, section, spec};
    switch (form.kind) {
      case ShapeSpec::Kind::constant:
        // With keys of another shape, `shape` is what is missing.
        if (section.has("rate") || !other_shape) rates.read("rate", spec.rate);
        break;
      case ShapeSpec::Kind::ramp:
        rates.read("from", spec.from);
        rates.read("to", spec.to);
        if (auto v = section.duration("over", false)) {
          spec.over = *v;
          misfit("over", *v);
        } else if (!duration && !section.has("over")) {
          section.complain("over", "a ramp in a phase without a duration needs an end", "try over: 30s");
        }
        break;
      case ShapeSpec::Kind::steps:
        read_steps(section, pattern, rates, duration, spec);
        break;
      case ShapeSpec::Kind::spike:
        rates.read("base", spec.rate);
        rates.read("peak", spec.peak);
        section.require("at", "when the spike starts, such as at: 10s");
        section.require("for", "how long it lasts, such as for: 5s");
        if (auto v = section.duration("at", true)) spec.at = *v;
        if (auto v = section.duration("for", false)) spec.hold = *v;
        misfit("for", spec.at + spec.hold);
        break;
      case ShapeSpec::Kind::sine:
        rates.read("mean", spec.rate);
        rates.read("amplitude", spec.peak);
        section.require("period", "such as period: 60s");
        if (auto v = section.duration("period", false)) spec.period = *v;
        if (spec.peak.per_second > spec.rate.per_second) {
          section.complain("amplitude", "the amplitude is above the mean, so the rate would be negative", "lower it");
        }
        break;
      case ShapeSpec::Kind::trace:
        read_trace(section, misfit, spec);
        break;
    }
  }

  /// Anything that cannot be written with the other shapes.
  template <class Misfit>
  void read_trace(const Section& section, const Misfit& misfit, ShapeSpec& spec) {
    section.require("file", "a CSV file of seconds,rate or of seconds, such as file: traffic.csv");
    if (const auto factor = section.text("scale")) {
      const auto number = detail::is_json_number(*factor) ? std::strtod(factor->c_str(), nullptr) : 0;
      spec.scale = number;
      if (number <= 0 || number > kMaxScale) {
        section.complain("scale", fmt::format("\"{}\" is not a factor", shortened(*factor)),
                         "try 2 for twice the load, or 0.1 for a tenth");
        spec.scale = 1;
      }
    }
    const auto file = section.text("file");
    if (!file) return;
    const auto trace = read_trace_file(*file, spec.trace_file);
    if (!trace) {
      section.complain("file", trace.error().message,
                       "paths count from the scenario's folder; lines are seconds,rate or seconds");
      return;
    }
    spec.trace = *trace;
    if (const auto digest = section.text("digest"); digest && *digest != trace->digest()) {
      section.complain("digest",
                       fmt::format("{} holds another trace now, of digest \"{}\"", shortened(*file), trace->digest()),
                       "restore the file, or remove the digest to use what it holds");
    }
    if (trace->lists_arrivals()) {
      section.refuse("poisson", "the trace says when each arrival is due", "remove it");
    } else if (spec.trace.shape(spec.scale, LoadShape::kForever).peak_rate().per_second > kMaxRate) {
      section.complain("scale", "this is more than a run can ask", "at most " + format_rate({kMaxRate}));
    }
    misfit("file", trace->end());
  }

  /// Each file is read once, whoever names it. `full` becomes the path that works from anywhere.
  Result<Trace> read_trace_file(const std::string& file, std::string& full) {
    if (folder_.empty()) {
      return make_error(ErrorCode::invalid_argument, "a trace lies beside a scenario file, and this one is no file");
    }
    full = (std::filesystem::path{folder_} / file).lexically_normal().string();
    const auto [known, fresh] = traces_.try_emplace(full, Trace{});
    if (!fresh && !known->second.empty()) return known->second;
    const auto text = read_whole_file(full, kMaxTraceBytes + 1);
    if (!text) {
      return make_error(ErrorCode::io, fmt::format("cannot read {}: {}", shortened(file), text.error().message));
    }
    auto trace = Trace::parse(*text, file);
    if (trace) known->second = *trace;
    return trace;
  }

  void read_steps(const Section& section, std::string_view pattern, ShapeRates& rates, std::optional<Nanos> duration,
                  ShapeSpec& spec) {
    const std::string key = "steps";
    if (!section.require(key, "such as steps: [{rate: 50/s, for: 10s}, {rate: 100/s}]")) return;
    const auto& list = *section.find(key);
    if (!list.is_sequence() || list.items.empty() || list.items.size() > kMaxSteps) {
      section.complain(key, fmt::format("{} is not a list of steps", describe(list)),
                       "try [{rate: 50/s, for: 10s}, {rate: 100/s}]");
      return;
    }
    Nanos end{0};
    for (size_t i = 0; i < list.items.size(); ++i) {
      const Section item{complaints_, list.items[i], fmt::format("{}[{}]", section.path_of(key), i),
                         fmt::format("{}.steps[]", pattern)};
      RateStep step;
      item.require("rate", "such as rate: 50/s");
      if (const auto* rate = item.find("rate")) rates.read(*rate, item.path_of("rate"), step.rate);
      if (i + 1 < list.items.size()) item.require("for", "only the last step may leave it out");
      if (auto v = item.duration("for", false)) step.length = *v;
      end += std::min(step.length, Nanos::max() - end);
      spec.steps.push_back(step);
    }
    if (duration && end > *duration) {
      section.complain(key,
                       fmt::format("the steps end at {}, after the phase, which lasts {}", format_duration(end),
                                   format_duration(*duration)),
                       "lengthen the phase or shorten the steps");
    }
  }

  // --- judgement
  // ------------------------------------------------------------------------------------------------------

  /// `until: {converged: ...}` can only hold if somebody patches and somebody reports.
  void check_convergence(const Section& top) {
    const auto reports = [&](const Fleet& fleet) {
      return std::any_of(fleet.on_desired.begin(), fleet.on_desired.end(),
                         [](const auto& l) { return l.report != DesiredListener::Report::none; });
    };
    for (size_t i = 0; i < s_.phases.size(); ++i) {
      if (!s_.phases[i].until || s_.phases[i].until->kind != Until::Kind::converged) continue;
      const bool patched = std::any_of(s_.backends.begin(), s_.backends.end(), [&](const BackendGroup& group) {
        const bool writes = group.op == OpKind::patch_desired || group.op == OpKind::replace_twin;
        return writes && group.fleet < s_.fleets.size() && reports(s_.fleets[group.fleet]);
      });
      if (patched || !names_complete_) continue;
      const auto* until = phase_nodes_[i]->find("until");
      complaints_.add(until != nullptr ? until->place : top.place_of("phases"),
                      fmt::format("phases[{}].until.converged", i), {},
                      "nothing can converge: no back end patches desired properties of a fleet that reports them",
                      "add a back end with do: patchDesired, and onDesired: {report: echo} to the fleet");
    }
  }

  void read_slos(const Section& top) {
    const auto* list = top.find("slos");
    if (list == nullptr) return;
    if (!list->is_sequence()) {
      top.complain("slos", fmt::format("{} is not a list of SLOs", describe(*list)), "try - convergence p99 < 500ms");
      return;
    }
    const auto layout = s_.recorder_layout();
    for (size_t i = 0; i < list->items.size(); ++i) {
      const auto& item = list->items[i];
      const auto path = fmt::format("slos[{}]", i);
      if (item.is_mapping()) {
        const Section section{complaints_, item, path, "slos[]"};
        section.require("slo", "the objective, such as slo: report errors < 5%");
        const auto* line = section.find("slo");
        const auto rule = read_abort(section);
        if (line != nullptr && line->is_scalar()) read_slo(*line, section.path_of("slo"), rule, layout);
        if (line != nullptr && !line->is_scalar()) section.text("slo");
      } else if (item.is_scalar()) {
        read_slo(item, path, {}, layout);
      } else {
        complaints_.add(item.place, path, {}, fmt::format("{} is not an SLO", describe(item)),
                        "try convergence p99 < 500ms");
      }
    }
  }

  /// `abort: true`, or `{after, over, samples}`.
  std::optional<metrics::AbortRule> read_abort(const Section& slo) {
    const auto* node = slo.find("abort");
    if (node == nullptr) return std::nullopt;
    metrics::AbortRule rule;
    if (!node->is_mapping()) {
      const auto on = slo.boolean("abort");
      return on && *on ? std::optional{rule} : std::nullopt;
    }
    const Section section{complaints_, *node, slo.path_of("abort"), "slos[].abort"};
    if (const auto v = section.duration("after", true)) rule.after = *v;
    if (const auto v = section.duration("over", false)) {
      rule.over = *v;
      if (*v < std::chrono::seconds{1}) section.complain("over", "a run is looked at once a second", "at least 1s");
    }
    if (const auto n = section.integer("samples", 1, 1'000'000'000)) rule.samples = *n;
    return rule;
  }

  void read_slo(const YamlNode& line, const std::string& path, const std::optional<metrics::AbortRule>& rule,
                const metrics::RecorderLayout& layout) {
    auto slo = metrics::parse_slo(line.text);
    if (!slo) {
      complaints_.add_error(line.place, path, shortened(line.text), slo.error().message);
      return;
    }
    slo->abort = rule;
    const auto check = [&](const Result<void>& fits) {
      if (!fits) complaints_.add_error(line.place, path, shortened(line.text), fits.error().message);
    };
    if (names_complete_) check(metrics::check_slo(*slo, layout));
    if (rule) check(metrics::check_abort(*slo));
    s_.slos.push_back(std::move(*slo));
  }

  void read_invariants(const Section& top) {
    const auto* list = top.find("invariants");
    if (list == nullptr) return;
    static const std::vector<std::string> kNames{"noLostUpdates", "versionsMonotonic", "finalStateMatches",
                                                 "noDuplicates"};
    if (!list->is_sequence()) {
      top.complain("invariants", fmt::format("{} is not a list", describe(*list)),
                   "try [" + detail::join(kNames) + "]");
      return;
    }
    for (size_t i = 0; i < list->items.size(); ++i) {
      const auto& item = list->items[i];
      const auto path = fmt::format("invariants[{}]", i);
      const auto at = std::find(kNames.begin(), kNames.end(), item.text);
      if (!item.is_scalar() || at == kNames.end()) {
        complaints_.add(item.place, path, shortened(item.text), fmt::format("{} is not an invariant", describe(item)),
                        did_you_mean(item.text, kNames));
        continue;
      }
      const auto invariant = static_cast<Invariant>(at - kNames.begin());
      if (s_.checks(invariant)) {
        complaints_.add(item.place, path, item.text, fmt::format("\"{}\" appears twice", item.text), "keep one");
        continue;
      }
      const auto writes_desired = [](const BackendGroup& group) {
        return group.op == OpKind::job && !group.patch.empty();
      };
      if (invariant == Invariant::final_state_matches &&
          std::any_of(s_.backends.begin(), s_.backends.end(), writes_desired)) {
        complaints_.add(item.place, path, item.text,
                        "a job writes desired properties at a moment the run does not know, so it has no model of them",
                        "remove the invariant, or let the job write tags");
      }
      s_.invariants.push_back(invariant);
    }
  }

  Complaints& complaints_;
  std::string default_name_;
  std::string folder_;  // of trace files; empty: none may be read
  Scenario s_;
  std::map<std::string, Trace> traces_;
  std::vector<metrics::StreamSpec> streams_;
  std::vector<std::string> fleet_sections_;
  std::vector<YamlPlace> fleet_places_;
  std::vector<const YamlNode*> phase_nodes_;
  std::set<std::string> reporting_fleets_;  // those with `reported`, right or wrong
  /// False once a fleet, back end or phase has no usable name: then references are not checked, because the cure of
  /// that mistake may be the cure of theirs.
  bool names_complete_ = true;
};

std::string stem_of(std::string_view file_name) {
  const auto slash = file_name.rfind('/');
  if (slash != std::string_view::npos) file_name.remove_prefix(slash + 1);
  const auto dot = file_name.find('.');
  std::string stem{file_name.substr(0, dot)};
  for (auto& c : stem) {
    if (!detail::is_name(std::string{'a', c})) c = '-';
  }
  return stem.empty() ? "scenario" : stem;
}

}  // namespace

std::string to_string(const Diagnostic& d) {
  std::string out = d.file;
  if (d.line > 0) out += fmt::format(":{}:{}", d.line, d.column);
  if (!d.path.empty()) out += ": " + d.path;
  out += ": " + d.message;
  if (!d.hint.empty()) out += " (" + d.hint + ")";
  return out;
}

std::string to_string(const std::vector<Diagnostic>& diagnostics) {
  std::string out;
  for (const auto& diagnostic : diagnostics) out += to_string(diagnostic) + "\n";
  return out;
}

LoadResult load_scenario(std::string_view text, std::string_view file_name, const std::vector<std::string>& overrides,
                         std::string_view folder) {
  LoadResult result;
  auto document = detail::read_yaml(text, file_name);
  if (!document.diagnostics.empty()) {
    result.diagnostics = std::move(document.diagnostics);
    return result;
  }
  std::vector<std::string> sources{std::string{file_name}};
  for (const auto& override_text : overrides) sources.push_back("--set " + shortened(override_text, 80));
  Complaints complaints{std::move(sources)};
  for (size_t i = 0; i < overrides.size(); ++i) {
    detail::apply_override(document.root, overrides[i], static_cast<uint16_t>(i + 1), complaints);
  }
  auto scenario = Loader{complaints, stem_of(file_name), std::string{folder}}.read(document.root);
  if (complaints.empty()) {
    result.scenario = std::move(scenario);
  } else {
    result.diagnostics = complaints.take();
  }
  return result;
}

LoadResult load_scenario_file(const std::string& path, const std::vector<std::string>& overrides) {
  // A byte more than is allowed, so that `load_scenario` says so.
  const auto text = read_whole_file(path, kMaxScenarioBytes + 1);
  if (!text) {
    return {std::nullopt,
            {{path, 0, 0, {}, {}, "cannot read the scenario: " + text.error().message, "check the path"}}};
  }
  std::error_code error;
  const auto folder = std::filesystem::absolute(path, error).parent_path().string();
  return load_scenario(*text, path, overrides, folder);
}

std::vector<std::string> known_keys() {
  std::vector<std::string> out;
  for (const auto& set : detail::key_table()) {
    for (const auto& key : set.keys) out.push_back(set.pattern.empty() ? key : fmt::format("{}.{}", set.pattern, key));
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace twinstorm::scenario
