#include "sim/hub/metrics_endpoint.hpp"

#include <exception>

#include <fmt/format.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

namespace twinstorm::hub {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

void set(ClientMetric& metric, MetricType type, double value) {
  (type == MetricType::Gauge ? metric.gauge.value : metric.counter.value) = value;
}

MetricFamily family_of(const char* name, const char* help, MetricType type, double value) {
  MetricFamily family{name, help, type, std::vector<ClientMetric>(1)};
  set(family.metric.front(), type, value);
  return family;
}

/// One series for each class of operation that the tier has.
template <class Value>
MetricFamily by_class(const TierFigures& tier, const char* name, const char* help, MetricType type, Value value) {
  MetricFamily family{name, help, type, {}};
  for (const ThrottleFigures& each : tier.classes) {
    if (each.per_second == 0) continue;
    ClientMetric metric;
    metric.label = {{"class", to_string(each.operation)}};
    value(each, metric);
    family.metric.push_back(std::move(metric));
  }
  return family;
}

void add_tier(const TierFigures& tier, std::vector<MetricFamily>& families) {
  const auto count = [&](const char* name, const char* help, uint64_t ThrottleFigures::*member) {
    families.push_back(
        by_class(tier, name, help, MetricType::Counter, [member](const ThrottleFigures& each, ClientMetric& metric) {
          metric.counter.value = static_cast<double>(each.*member);
        }));
  };
  families.push_back(
      by_class(tier, "twinstorm_hub_throttle_limit_per_second", "What the tier allows of a class of operations.",
               MetricType::Gauge,
               [](const ThrottleFigures& each, ClientMetric& metric) { metric.gauge.value = each.per_second; }));
  count("twinstorm_hub_throttle_class_admitted_total", "Operations let through, at once or after a delay.",
        &ThrottleFigures::admitted);
  count("twinstorm_hub_throttle_class_admitted_cost_total",
        "What these counted: entries of a bulk request, messages of a batch, 4 KB steps of a method's payload.",
        &ThrottleFigures::admitted_cost);
  count("twinstorm_hub_throttle_class_refused_total", "Operations refused because too many waited.",
        &ThrottleFigures::refused);
  count("twinstorm_hub_throttle_class_abandoned_total",
        "Operations that had to wait and were not done because their client left.", &ThrottleFigures::abandoned);
  families.push_back(by_class(tier, "twinstorm_hub_throttle_delay_seconds",
                              "How long operations waited that had to, since the start of the hub.",
                              MetricType::Summary, [](const ThrottleFigures& each, ClientMetric& metric) {
                                metric.summary.sample_count = each.delay.count;
                                metric.summary.sample_sum = to_seconds(each.delay.sum);
                                metric.summary.quantile = {{0.5, to_seconds(each.delay.p50)},
                                                           {0.99, to_seconds(each.delay.p99)},
                                                           {1, to_seconds(each.delay.max)}};
                              }));
  families.push_back(family_of("twinstorm_hub_quota_messages", "Messages charged today (UTC).", MetricType::Gauge,
                               static_cast<double>(tier.quota_used)));
  families.push_back(family_of("twinstorm_hub_quota_messages_limit", "Messages the tier allows a day.",
                               MetricType::Gauge, static_cast<double>(tier.quota_limit)));
}

class CountsCollector final : public prometheus::Collectable {
 public:
  CountsCollector(std::function<HubCounts()> counts, MetricsEndpoint::ReadTier tier)
      : counts_{std::move(counts)}, tier_{std::move(tier)} {}

  std::vector<MetricFamily> Collect() const override {
    const HubCounts counts = counts_();
    std::vector<MetricFamily> families;
    families.reserve(hub_count_fields().size());
    for (const HubCountField& field : hub_count_fields()) {
      families.push_back(family_of(field.metric_name, field.help, field.gauge ? MetricType::Gauge : MetricType::Counter,
                                   static_cast<double>(counts.*field.member)));
    }
    if (tier_) add_tier(tier_(), families);
    return families;
  }

 private:
  std::function<HubCounts()> counts_;
  MetricsEndpoint::ReadTier tier_;
};

}  // namespace

struct MetricsEndpoint::Impl {
  Impl(const std::string& address, std::function<HubCounts()> counts, ReadTier tier)
      : collector{std::make_shared<CountsCollector>(std::move(counts), std::move(tier))}, exposer{address, 1} {
    exposer.RegisterCollectable(collector);
  }
  std::shared_ptr<CountsCollector> collector;
  prometheus::Exposer exposer;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
MetricsEndpoint::~MetricsEndpoint() = default;

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::start(const std::string& address,
                                                                std::function<HubCounts()> counts, ReadTier tier) {
  try {
    return std::unique_ptr<MetricsEndpoint>{
        new MetricsEndpoint{std::make_unique<Impl>(address, std::move(counts), std::move(tier))}};
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
