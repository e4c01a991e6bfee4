// Metrics sent to a Prometheus Pushgateway, for runs too short to be scraped.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace prometheus {
class Collectable;
}

namespace twinstorm::metrics {

/// Pushes on a thread of its own, so that a slow gateway never disturbs the run. The group is
/// `job="twinstorm", instance=<run>`; each push replaces it as a whole.
class PushGateway {
 public:
  struct Config {
    std::string address;  ///< `HOST:PORT` or `http://HOST:PORT`
    std::string run;      ///< id of the run
    Nanos every = std::chrono::seconds{5};
    /// A push or deletion that takes longer is given up. The thread stays behind until the system ends its connection.
    Nanos timeout = std::chrono::seconds{10};
  };

  /// After one push that succeeded. Errors: `invalid_argument` for a malformed address, `unavailable` when the gateway
  /// does not take the push.
  static Result<PushGateway> start(Config config, std::vector<std::shared_ptr<prometheus::Collectable>> collectables);
  PushGateway(PushGateway&&) noexcept;
  PushGateway& operator=(PushGateway&&) = delete;
  ~PushGateway();

  const std::string& url() const;  ///< `http://127.0.0.1:9091`
  /// Pushes what stands now, and no more after that. The error says how many pushes failed in all, and how.
  Result<void> finish();
  /// Takes the group out of the gateway; after `finish`.
  Result<void> remove();

 private:
  struct State;
  explicit PushGateway(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // the thread's too: it may outlive this
  std::thread thread_;
};

}  // namespace twinstorm::metrics
