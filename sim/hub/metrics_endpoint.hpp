// The hub's counts for Prometheus, built from the shards' counters at scrape time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sim/base/result.hpp"
#include "sim/hub/hub.hpp"
#include "sim/hub/policy/tier_policy.hpp"

namespace twinstorm::hub {

/// Serves `GET /metrics` on threads of its own (prometheus-cpp) until it is destroyed.
class MetricsEndpoint {
 public:
  using ReadTier = std::function<TierFigures()>;
  /// `address` is `ADDR:PORT`, port 0 = any free one. `counts` and `tier` (empty: the hub has none) are called on the
  /// endpoint's threads. Error: `unavailable`.
  static Result<std::unique_ptr<MetricsEndpoint>> start(const std::string& address, std::function<HubCounts()> counts,
                                                        ReadTier tier = {});
  ~MetricsEndpoint();
  uint16_t port() const;

 private:
  struct Impl;
  explicit MetricsEndpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace twinstorm::hub
