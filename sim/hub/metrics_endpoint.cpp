#include "sim/hub/metrics_endpoint.hpp"

#include <exception>

#include <fmt/format.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

namespace twinstorm::hub {
namespace {

class CountsCollector final : public prometheus::Collectable {
 public:
  explicit CountsCollector(std::function<HubCounts()> counts) : counts_{std::move(counts)} {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const HubCounts counts = counts_();
    std::vector<prometheus::MetricFamily> families;
    families.reserve(hub_count_fields().size());
    for (const HubCountField& field : hub_count_fields()) {
      prometheus::ClientMetric metric;
      const auto value = static_cast<double>(counts.*field.member);
      (field.gauge ? metric.gauge.value : metric.counter.value) = value;
      families.push_back({field.metric_name,
                          field.help,
                          field.gauge ? prometheus::MetricType::Gauge : prometheus::MetricType::Counter,
                          {metric}});
    }
    return families;
  }

 private:
  std::function<HubCounts()> counts_;
};

}  // namespace

struct MetricsEndpoint::Impl {
  Impl(const std::string& address, std::function<HubCounts()> counts)
      : collector{std::make_shared<CountsCollector>(std::move(counts))}, exposer{address, 1} {
    exposer.RegisterCollectable(collector);
  }
  std::shared_ptr<CountsCollector> collector;
  prometheus::Exposer exposer;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
MetricsEndpoint::~MetricsEndpoint() = default;

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::start(const std::string& address,
                                                                std::function<HubCounts()> counts) {
  try {
    return std::unique_ptr<MetricsEndpoint>{new MetricsEndpoint{std::make_unique<Impl>(address, std::move(counts))}};
  } catch (const std::exception& error) {  // civetweb says no more than that
    return make_error(
        ErrorCode::unavailable,
        fmt::format("cannot serve metrics on '{}' ({}); give ADDR:PORT of this machine with a free port, or "
                    "port 0 for any",
                    address, error.what()));
  }
}

uint16_t MetricsEndpoint::port() const {
  const auto ports = impl_->exposer.GetListeningPorts();
  return ports.empty() ? uint16_t{0} : static_cast<uint16_t>(ports.front());
}

}  // namespace twinstorm::hub
