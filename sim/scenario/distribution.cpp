#include "sim/scenario/distribution.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "sim/scenario/detail/text.hpp"

namespace twinstorm::scenario {
namespace {

constexpr double kZ99 = 2.3263478740408408;  // the 99th percentile of the standard normal distribution

double sigma_of(Nanos p50, Nanos p99) { return std::log(to_seconds(p99) / to_seconds(p50)) / kZ99; }

}  // namespace

Nanos Distribution::sample(Rng& rng) const {
  const auto scaled = [](Nanos unit, double factor) {
    return Nanos{static_cast<int64_t>(std::clamp(static_cast<double>(unit.count()) * factor, 0.0, 9.0e18))};
  };
  switch (kind_) {
    case Kind::constant:
      return a_;
    case Kind::uniform:
      return a_ + Nanos{static_cast<int64_t>(rng.below(static_cast<uint64_t>((b_ - a_).count()) + 1))};
    case Kind::lognormal:
      return scaled(a_, std::exp(sigma_of(a_, b_) * rng.normal()));
    case Kind::exponential:
      return scaled(a_, rng.exponential());
    case Kind::normal:
      return std::max(Nanos{0}, a_ + Nanos{static_cast<int64_t>(static_cast<double>(b_.count()) * rng.normal())});
  }
  return a_;
}

Nanos Distribution::mean() const {
  switch (kind_) {
    case Kind::uniform:
      return (a_ + b_) / 2;
    case Kind::lognormal: {
      const double sigma = sigma_of(a_, b_);
      return Nanos{static_cast<int64_t>(static_cast<double>(a_.count()) * std::exp(sigma * sigma / 2))};
    }
    case Kind::constant:
    case Kind::exponential:
    case Kind::normal:
      break;
  }
  return a_;
}

std::string Distribution::to_yaml() const {
  const auto a = detail::exact_duration(a_), b = detail::exact_duration(b_);
  switch (kind_) {
    case Kind::constant:
      return a;
    case Kind::uniform:
      return fmt::format("{{uniform: [{}, {}]}}", a, b);
    case Kind::lognormal:
      return fmt::format("{{lognormal: {{p50: {}, p99: {}}}}}", a, b);
    case Kind::exponential:
      return fmt::format("{{exponential: {{mean: {}}}}}", a);
    case Kind::normal:
      return fmt::format("{{normal: {{mean: {}, stddev: {}}}}}", a, b);
  }
  return a;
}

}  // namespace twinstorm::scenario
