// Distributions and series, reduced to as many points as a screen can show.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "metrics/histogram.hpp"

namespace twinstorm::report {

/// `seconds[i]` is not exceeded by the share `quantile[i]` of the samples. Both ascend; the last quantile is 1.
struct DistributionCurve {
  std::vector<double> quantile;
  std::vector<double> seconds;
};

/// At most about 230 points whatever the number of samples: every 2 % up to 98 %, then 20 for each factor of ten
/// that remains, down to the single largest sample. Empty for an empty histogram.
DistributionCurve distribution_curve(const metrics::HistogramSnapshot& histogram);

/// How several seconds become one point.
enum class Thinning { mean, largest, smallest };

/// `count` values, `per_point` at a time. A point is absent when all its values are. `mean` counts only present ones.
std::vector<std::optional<double>> thin(size_t count, size_t per_point, Thinning thinning,
                                        const std::function<std::optional<double>(size_t)>& value_at);

/// The smallest number of values per point that keeps `count` values within `points_max` points; at least 1.
size_t values_per_point(size_t count, size_t points_max);

/// Rounded to `digits` significant digits: what a chart can show, in a third of the text.
double round_significant(double value, int digits);

}  // namespace twinstorm::report
