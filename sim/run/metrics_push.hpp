// Pushes a run's metrics to a gateway now and then, on a thread of its own: a slow gateway never disturbs the run.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "metrics/export/push_gateway.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::run {

class MetricsPush {
 public:
  /// After one push that succeeded. Errors: `unavailable` when the gateway does not take it.
  static Result<MetricsPush> start(metrics::PushGateway gateway, Nanos every);
  MetricsPush(MetricsPush&&) noexcept = default;
  MetricsPush& operator=(MetricsPush&&) = delete;
  /// A transfer that hangs is left behind with its thread.
  ~MetricsPush();

  /// Pushes what stands now, and no more after that. The error says how many pushes failed in all, and how.
  Result<void> finish();
  /// Takes the group out of the gateway; after `finish`.
  Result<void> remove();

 private:
  struct State;
  explicit MetricsPush(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // the thread's too: it may outlive this
  std::thread thread_;
};

}  // namespace twinstorm::run
