#include "sim/hub/configurations/configuration_catalog.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "sim/hub/store/device_record.hpp"

namespace twinstorm::hub {
namespace {

constexpr int64_t kTicksFromYearOneTo1970 = 621'355'968'000'000'000;  // of 100 ns

bool is_quoted(std::string_view text) { return text.size() >= 2 && text.front() == '"' && text.back() == '"'; }
std::string_view unquoted(std::string_view text) { return is_quoted(text) ? text.substr(1, text.size() - 2) : text; }

ServiceError not_found(std::string_view id) {
  return {404, 404'000, "ConfigurationNotFound", fmt::format("there is no configuration '{}'", id)};
}
ServiceError precondition_failed(std::string_view id) {
  return {412, 412'001, "PreconditionFailed", fmt::format("ETag mismatch for configuration '{}'", id)};
}

}  // namespace

ServiceResult<const Configuration*> ConfigurationCatalog::put(std::string_view id,
                                                              std::optional<std::string_view> if_match,
                                                              ConfigurationRequest request, WallTime now,
                                                              size_t limit) {
  const auto found = configurations_.find(id);
  const bool any = if_match && unquoted(*if_match) == "*";
  // A bare ETag is not seen as one: the live service answers it as if there were none (service.md 3.2).
  const bool exact = if_match && !any && is_quoted(*if_match) && if_match->size() > 2;
  if (!any && !exact) {
    if (found != configurations_.end()) {
      return ServiceError{409, 409'000, "ConfigurationAlreadyExists",
                          fmt::format("a configuration '{}' exists, send its quoted ETag or \"*\" as If-Match to "
                                      "update it",
                                      id)};
    }
    if (configurations_.size() >= limit) {
      return ServiceError{403, 403'000, "ConfigurationCountLimitExceeded",
                          fmt::format("this hub takes {} configurations, delete one first", limit)};
    }
    Configuration created;
    created.id = id;
    created.content = std::move(request.content);
    created.settings = std::move(request.settings);
    created.created = created.last_updated = now;
    created.created_order = ++created_;
    return &configurations_.emplace(created.id, std::move(created)).first->second;
  }
  if (found == configurations_.end()) return not_found(id);
  Configuration& configuration = found->second;
  if (exact && unquoted(*if_match) != format_identity_etag(configuration.etag)) return precondition_failed(id);
  const ConfigurationKind kind = configuration.content->kind;
  if (request.content->kind != kind) {  // the condition was checked for the content that is not taken over
    auto condition = parse_target_condition(request.settings.condition.text, kind);
    if (!condition) return condition.error();
    request.settings.condition = std::move(*condition);
  }
  for (ConfigurationMetric& metric : request.settings.metrics) {
    for (const ConfigurationMetric& before : configuration.settings.metrics) {
      if (before.name == metric.name && before.text == metric.text) metric.result = before.result;
    }
  }
  configuration.settings = std::move(request.settings);
  configuration.last_updated = now;
  ++configuration.etag;
  return &configuration;
}

ServiceResult<const Configuration*> ConfigurationCatalog::get(std::string_view id) const {
  const auto found = configurations_.find(id);
  if (found == configurations_.end()) return not_found(id);
  return &found->second;
}

ServiceResult<void> ConfigurationCatalog::remove(std::string_view id, std::optional<std::string_view> if_match) {
  const auto found = configurations_.find(id);
  if (found == configurations_.end()) return not_found(id);
  const std::string_view wanted = if_match ? unquoted(*if_match) : "*";
  if (!wanted.empty() && wanted != "*" && wanted != format_identity_etag(found->second.etag)) {
    return precondition_failed(id);
  }
  std::erase_if(retired_, [id](const Retired& each) { return each.id == id; });
  retired_.push_back({found->first, found->second.created_order});
  configurations_.erase(found);
  return {};
}

std::shared_ptr<const TargetSet> ConfigurationCatalog::targets() const {
  std::vector<const Configuration*> order;
  for (const auto& [id, configuration] : configurations_) order.push_back(&configuration);
  std::sort(order.begin(), order.end(), [](const Configuration* a, const Configuration* b) {
    if (a->settings.priority != b->settings.priority) return a->settings.priority > b->settings.priority;
    return a->created_order > b->created_order;
  });
  auto set = std::make_shared<TargetSet>();
  for (const Configuration* each : order) {
    const int64_t digest = each->created.time_since_epoch().count() / 100 + kTicksFromYearOneTo1970;
    auto author = std::make_shared<const twin::PropertyAuthor>(twin::PropertyAuthor{each->id, std::to_string(digest)});
    set->targets.push_back({each->id, each->content, each->settings.condition.query, std::move(author)});
    (each->content->kind == ConfigurationKind::module ? set->concerns_modules : set->concerns_devices) = true;
  }
  set->retired = retired_;
  if (!retired_.empty()) set->concerns_devices = set->concerns_modules = true;
  return set;
}

void ConfigurationCatalog::evaluated(const TargetSet& set, const std::vector<TargetCounts>& counts) {
  for (size_t i = 0; i < set.targets.size(); ++i) {
    const auto found = configurations_.find(set.targets[i].id);
    // Another configuration may have the id by now; its figures come with the next evaluation.
    if (found != configurations_.end() && found->second.content == set.targets[i].content) {
      found->second.results = counts[i];
    }
  }
  std::erase_if(retired_, [&set](const Retired& each) {
    return std::any_of(set.retired.begin(), set.retired.end(), [&each](const Retired& done) {
      return done.id == each.id && done.created_order == each.created_order;
    });
  });
}

void ConfigurationCatalog::set_metric(std::string_view id, std::string_view name, std::string_view text,
                                      uint64_t result) {
  const auto found = configurations_.find(id);
  if (found == configurations_.end()) return;
  for (ConfigurationMetric& metric : found->second.settings.metrics) {
    if (metric.name == name && metric.text == text) metric.result = result;
  }
}

}  // namespace twinstorm::hub
