#include "report/html/curve.hpp"

#include <algorithm>
#include <cmath>

#include "sim/base/assert.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::report {

DistributionCurve distribution_curve(const metrics::HistogramSnapshot& histogram) {
  DistributionCurve curve;
  if (histogram.empty()) return curve;
  const auto add = [&](double quantile) {
    curve.quantile.push_back(quantile);
    curve.seconds.push_back(to_seconds(histogram.percentile(quantile)));
  };
  constexpr int kSteps = 50;  // of 2 %
  const auto count = static_cast<double>(histogram.count());
  for (int i = 0; i < kSteps; ++i) add(static_cast<double>(i) / kSteps);
  for (int step = 1;; ++step) {
    const double remaining = std::pow(10, -step / 20.0) / kSteps;
    if (remaining * count < 1) break;
    add(1 - remaining);
  }
  curve.quantile.push_back(1);
  curve.seconds.push_back(to_seconds(histogram.max()));
  return curve;
}

std::vector<std::optional<double>> thin(size_t count, size_t per_point, Thinning thinning,
                                        const std::function<std::optional<double>(size_t)>& value_at) {
  TS_ASSERT(per_point > 0);
  std::vector<std::optional<double>> points;
  points.reserve(count / per_point + 1);
  for (size_t begin = 0; begin < count; begin += per_point) {
    std::optional<double> point;
    size_t present = 0;
    for (size_t i = begin; i < std::min(count, begin + per_point); ++i) {
      const auto value = value_at(i);
      if (!value) continue;
      ++present;
      if (!point) {
        point = *value;
      } else if (thinning == Thinning::mean) {
        *point += *value;
      } else {
        *point = thinning == Thinning::largest ? std::max(*point, *value) : std::min(*point, *value);
      }
    }
    if (thinning == Thinning::mean && point) *point /= static_cast<double>(present);
    points.push_back(point);
  }
  return points;
}

size_t values_per_point(size_t count, size_t points_max) {
  return std::max<size_t>(1, (count + points_max - 1) / points_max);
}

double round_significant(double value, int digits) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int shift = digits - 1 - static_cast<int>(std::floor(std::log10(std::abs(value))));
  // Dividing by a whole power of ten gives the double nearest to the short decimal; multiplying by 0.001 does not.
  const double power = std::pow(10.0, std::abs(shift));
  return shift >= 0 ? std::round(value * power) / power : std::round(value / power) * power;
}

}  // namespace twinstorm::report
