// All configurations of a hub: create, update, delete under the ETag rules of service.md 3.2 and 9. Sans-I/O; belongs
// to the first shard's thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/hub/configurations/configuration.hpp"
#include "sim/hub/configurations/targeting.hpp"

namespace twinstorm::hub {

class ConfigurationCatalog {
 public:
  /// No `if_match`, or one without quotes: create only. `*` (bare or quoted) updates whatever is there, a quoted ETag
  /// only that. An update keeps content and creation time. Errors: 409 ConfigurationAlreadyExists, 404
  /// ConfigurationNotFound, 412 PreconditionFailed, 403 ConfigurationCountLimitExceeded beyond `limit`.
  ServiceResult<const Configuration*> put(std::string_view id, std::optional<std::string_view> if_match,
                                          ConfigurationRequest request, WallTime now, size_t limit);
  ServiceResult<const Configuration*> get(std::string_view id) const;
  /// No `if_match` or `*` = unconditional. Errors: 404, 412.
  ServiceResult<void> remove(std::string_view id, std::optional<std::string_view> if_match);

  /// By id.
  const std::map<std::string, Configuration, std::less<>>& all() const { return configurations_; }
  bool empty() const { return configurations_.empty(); }

  /// What an evaluation has to do now: every configuration, and the deleted ones whose entries are still in twins.
  std::shared_ptr<const TargetSet> targets() const;
  /// An evaluation of `set` has visited every twin; `counts` in the order of its targets.
  void evaluated(const TargetSet& set, const std::vector<TargetCounts>& counts);
  /// Keeps a metric's figure unless the metric was changed since it was asked for.
  void set_metric(std::string_view id, std::string_view name, std::string_view text, uint64_t result);

 private:
  std::map<std::string, Configuration, std::less<>> configurations_;
  std::vector<Retired> retired_;
  uint64_t created_ = 0;
};

}  // namespace twinstorm::hub
