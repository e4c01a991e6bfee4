// Automatic device management: what one configuration is, and what a request may say about it (service.md 9).
//
// No sockets, no clock: the REST resource and the evaluation over the twins are elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/query/query.hpp"
#include "sim/hub/service_error.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {

/// Whose desired properties the content sets: devices (`deviceContent`), modules (`moduleContent`), or the modules of
/// edge devices (`modulesContent`, a deployment). A twin takes at most one configuration of each kind.
enum class ConfigurationKind : uint8_t { device, module, edge };
/// The member of `content`: `deviceContent`, `moduleContent`, `modulesContent`.
const char* to_string(ConfigurationKind kind);

/// What a deployment does to one module of an edge device.
struct ModuleContent {
  std::string module_id;
  twin::Value patch;      ///< a twin body, `{"properties":{"desired":{...}}}`
  bool replaces = false;  ///< true: the content names `properties.desired` whole, which replaces what is there
};

/// Immutable once the configuration exists.
struct ConfigurationContent {
  ConfigurationKind kind = ConfigurationKind::device;
  twin::Value json;                    ///< as it was sent
  twin::Value patch;                   ///< device, module: the twin body that is merged into each target
  std::vector<ModuleContent> modules;  ///< edge
};

/// Exactly one of the three members, each key `properties.desired` or `properties.desired.<path>`; `modulesContent`
/// needs `$edgeAgent`. Values follow the limits of desired properties. nullptr = the member was absent.
/// Errors: 400 InvalidConfigurationContent naming the key.
ServiceResult<ConfigurationContent> parse_configuration_content(const twin::Value* content);

/// Which twins a configuration is for.
struct TargetCondition {
  std::string text;  ///< as it was sent; `*` = all, empty = none
  /// Empty when `text` is empty. A condition on modules begins with `FROM devices.modules WHERE`.
  std::optional<query::Query> query;
};
/// Errors: 400 InvalidConfigurationTargetCondition: no condition of the query language, refers to other things than
/// `deviceId`, `moduleId`, `tags` and `properties.reported`, or is about devices where modules are meant (or the
/// other way round).
ServiceResult<TargetCondition> parse_target_condition(std::string_view text, ConfigurationKind kind);

/// A query whose number of rows is a figure of the configuration.
struct ConfigurationMetric {
  std::string name;
  std::string text;
  query::Query query;
  std::optional<uint64_t> result;  ///< of the last evaluation
};

/// What a PUT may change.
struct ConfigurationSettings {
  std::string schema_version = "1.0";
  twin::Value labels = twin::Value::object();
  TargetCondition condition;
  int64_t priority = 0;
  std::vector<ConfigurationMetric> metrics;
};

/// The body of PUT /configurations/{id}, checked.
struct ConfigurationRequest {
  std::shared_ptr<const ConfigurationContent> content;
  ConfigurationSettings settings;
};
/// `id` is that of the path: 1 to 128 of `a-z 0-9 - + % _ * ! '`. Members the service owns (`systemMetrics`, times,
/// `etag`, results) may be present and are ignored: SDKs echo whole configurations. Errors: 400 naming the member.
ServiceResult<ConfigurationRequest> parse_configuration(std::string_view id, const twin::Value& body);

/// Number of twins that an evaluation found.
struct TargetCounts {
  uint64_t targeted = 0;  ///< the condition holds
  uint64_t applied = 0;   ///< and no configuration of the same kind with higher precedence claims the twin
  TargetCounts& operator+=(const TargetCounts& other) {
    targeted += other.targeted;
    applied += other.applied;
    return *this;
  }
  friend bool operator==(const TargetCounts&, const TargetCounts&) = default;
};

struct Configuration {
  std::string id;
  std::shared_ptr<const ConfigurationContent> content;
  ConfigurationSettings settings;
  WallTime created;
  WallTime last_updated;
  uint64_t created_order = 0;  ///< grows with every creation: decides between equal priorities
  uint64_t etag = 1;           ///< printed as base64 of its decimal text
  TargetCounts results;        ///< of the last evaluation
};

/// The queries the service itself shows as `systemMetrics`.
std::string targeted_query(const Configuration& configuration);
std::string applied_query(const Configuration& configuration);

/// Appends the configuration as the service prints it.
void write_configuration(const Configuration& configuration, std::string& out);

/// POST /configurations/testQueries: `{"targetCondition":...,"customMetricQueries":{name: text}}`. The answer is 200
/// with what is wrong: `{"targetConditionError":"..." or null,"customMetricQueryErrors":{name: error}}`; `*` counts as
/// wrong, as on the live service. Error: 400 when the body has another shape.
ServiceResult<std::string> test_configuration_queries(const twin::Value& body);

}  // namespace twinstorm::hub
