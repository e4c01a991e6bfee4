// `GET /metrics` over HTTP, served by prometheus-cpp's own threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"

namespace prometheus {
class Collectable;
}

namespace twinstorm::metrics {

class MetricsEndpoint {
 public:
  /// `address` is `ADDR:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`; without an address it listens on 127.0.0.1, because
  /// the endpoint asks nobody who they are. Port 0 = any free port. Collectables are asked at each scrape and outlive
  /// this. Errors: `invalid_argument` for a malformed address, `unavailable` with the system's reason if it can't
  /// listen.
  static Result<MetricsEndpoint> start(std::string_view address,
                                       std::vector<std::shared_ptr<prometheus::Collectable>> collectables);
  MetricsEndpoint(MetricsEndpoint&&) noexcept;
  MetricsEndpoint& operator=(MetricsEndpoint&&) noexcept;
  ~MetricsEndpoint();  ///< stops serving; waits for scrapes under way

  uint16_t port() const;
  std::string url() const;  ///< `http://127.0.0.1:9464/metrics`

 private:
  struct State;
  explicit MetricsEndpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace twinstorm::metrics
