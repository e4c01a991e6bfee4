// Metrics sent to a Prometheus Pushgateway, for runs too short to be scraped.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"

namespace prometheus {
class Collectable;
}

namespace twinstorm::metrics {

/// The group `job="twinstorm", instance=<run>` of a gateway. Calls block until the gateway has answered, or the system
/// ends the connection. One thread at a time.
class PushGateway {
 public:
  /// `address`: `HOST:PORT` or `http://HOST:PORT`. Nothing is sent yet. Errors: `invalid_argument`.
  static Result<PushGateway> at(std::string_view address, std::string_view run,
                                std::vector<std::shared_ptr<prometheus::Collectable>> collectables);
  PushGateway(PushGateway&&) noexcept;
  PushGateway& operator=(PushGateway&&) = delete;
  ~PushGateway();

  const std::string& url() const;  ///< `http://127.0.0.1:9091`
  /// Replaces the group by what the collectables tell now. Errors (`unavailable`) say only what happened: `it answered
  /// HTTP 400`.
  Result<void> push();
  Result<void> remove();

 private:
  struct State;
  explicit PushGateway(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace twinstorm::metrics
