#include "sim/scenario/trace.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/base/rng.hpp"
#include "sim/base/units.hpp"
#include "sim/scenario/detail/text.hpp"

namespace twinstorm::scenario {
namespace {

constexpr double kMaxSeconds = 30 * 24 * 3600;  // the longest duration of a scenario
constexpr double kMaxRate = 1e6;                // the highest rate of a scenario

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

struct Line {
  double seconds = 0;
  std::optional<double> rate;
};

/// One file being read, line by line.
class TraceReader {
 public:
  explicit TraceReader(std::string_view file) : file_{file} {}

  Result<void> take(std::string_view raw) {
    ++number_;
    const auto text = trimmed(raw);
    if (text.empty() || text.front() == '#') return {};
    const auto line = text.front() == '{' ? read_json(text) : read_csv(text);
    if (!line) return line.error();
    if (!*line) return {};  // names of columns
    return keep(**line);
  }

  Result<void> finish() {
    if (lines_ == 0) return make_error(ErrorCode::invalid_argument, fmt::format("{}: the trace is empty", file_));
    return {};
  }

  bool has_rates() const { return has_rates_.value_or(false); }
  size_t lines() const { return lines_; }
  std::vector<RateStep> take_steps() {
    // Times become lengths; before the first line nothing arrives.
    std::vector<RateStep> steps;
    if (starts_.front() > Nanos{0}) steps.push_back({Rate{0}, starts_.front()});
    for (size_t i = 0; i < starts_.size(); ++i) {
      steps.push_back({rates_[i], i + 1 < starts_.size() ? starts_[i + 1] - starts_[i] : Nanos{0}});
    }
    return steps;
  }
  std::vector<Nanos> take_arrivals() { return std::move(starts_); }

 private:
  Error mistake(std::string what) const {
    return make_error(ErrorCode::invalid_argument, fmt::format("{}:{}: {}", file_, number_, what));
  }

  Result<std::optional<Line>> read_csv(std::string_view text) {
    const auto comma = text.find(',');
    const auto first = trimmed(text.substr(0, comma));
    const bool has_rate = comma != std::string_view::npos;
    const auto second = has_rate ? trimmed(text.substr(comma + 1)) : std::string_view{};
    const auto seconds = number_of(first);
    const auto rate = number_of(second);
    if (lines_ == 0 && !named_ && first == "seconds" && (!has_rate || second == "rate")) {
      named_ = true;
      return std::optional<Line>{};
    }
    if (!seconds) return mistake(fmt::format("\"{}\" is not a number of seconds", detail::shortened(first)));
    if (has_rate && !rate) {
      return mistake(fmt::format("\"{}\" is not a number of arrivals a second", detail::shortened(second)));
    }
    return std::optional{Line{*seconds, has_rate ? rate : std::nullopt}};
  }

  Result<std::optional<Line>> read_json(std::string_view text) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return mistake("the line is not a JSON object, such as {\"seconds\": 10, \"rate\": 400}");
    Line line;
    bool seconds = false;
    for (const auto& [name, value] : json.items()) {
      if (name != "seconds" && name != "rate") {
        return mistake(fmt::format("\"{}\" is neither seconds nor rate", detail::shortened(name)));
      }
      if (!value.is_number()) return mistake(fmt::format("{} is not a number", name));
      if (name == "seconds") {
        line.seconds = value.get<double>();
        seconds = true;
      } else {
        line.rate = value.get<double>();
      }
    }
    if (!seconds) return mistake("the line has no \"seconds\"");
    return std::optional{line};
  }

  Result<void> keep(const Line& line) {
    if (line.seconds < 0 || line.seconds > kMaxSeconds) {
      return mistake(fmt::format("{} s is not a time of a run (0 to {:.0f})", line.seconds, kMaxSeconds));
    }
    if (line.rate && (*line.rate < 0 || *line.rate > kMaxRate)) {
      return mistake(
          fmt::format("{}/s is not a rate that a run can ask (0 to {})", *line.rate, format_rate({kMaxRate})));
    }
    if (has_rates_ && *has_rates_ != line.rate.has_value()) {
      return mistake(*has_rates_ ? "the line has no rate, and those before it have"
                                 : "the line has a rate, and those before it have none");
    }
    has_rates_ = line.rate.has_value();
    const Nanos at = from_seconds(line.seconds);
    if (lines_ > 0 && (*has_rates_ ? at <= starts_.back() : at < starts_.back())) {
      return mistake(fmt::format("{} s is {} {} s of the line before: time must {}", line.seconds,
                                 at == starts_.back() ? "the" : "before", to_seconds(starts_.back()),
                                 *has_rates_ ? "grow" : "not go back"));
    }
    const size_t most = *has_rates_ ? kMaxTraceRates : kMaxTraceArrivals;
    if (lines_ == most) {
      return mistake(fmt::format("a trace has at most {} {}", format_count(most), *has_rates_ ? "rates" : "arrivals"));
    }
    starts_.push_back(at);
    if (line.rate) rates_.push_back({*line.rate});
    ++lines_;
    return {};
  }

  std::string_view file_;
  uint64_t number_ = 0;
  bool named_ = false;
  size_t lines_ = 0;
  std::optional<bool> has_rates_;
  std::vector<Nanos> starts_;
  std::vector<Rate> rates_;
};

}  // namespace

Result<Trace> Trace::parse(std::string_view text, std::string_view file) {
  if (text.size() > kMaxTraceBytes) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("{}: a trace has at most {}", file, format_size(kMaxTraceBytes)));
  }
  TraceReader reader{file};
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    if (const auto taken = reader.take(text.substr(at, end - at)); !taken) return taken.error();
    at = end + 1;
  }
  if (const auto finished = reader.finish(); !finished) return finished.error();
  Trace trace;
  trace.digest_ = fmt::format("{:016x}", stable_hash(text));
  trace.lines_ = reader.lines();
  if (reader.has_rates()) {
    trace.steps_ = std::make_shared<const std::vector<RateStep>>(reader.take_steps());
  } else {
    trace.arrivals_ = std::make_shared<const std::vector<Nanos>>(reader.take_arrivals());
  }
  return trace;
}

LoadShape Trace::shape(double scale, Nanos length) const {
  if (arrivals_ != nullptr) return LoadShape::arrivals_at(arrivals_, scale, length);
  if (steps_ == nullptr) return {};
  auto steps = *steps_;
  for (auto& step : steps) step.rate.per_second *= scale;
  return LoadShape::steps(steps, length);
}

Nanos Trace::end() const {
  if (arrivals_ != nullptr) return arrivals_->back();
  Nanos sum{0};
  if (steps_ != nullptr) {
    for (const auto& step : *steps_) sum += step.length;
  }
  return sum;
}

std::string Trace::describe() const {
  if (empty()) return "nothing";
  return fmt::format("{} {} over {}", format_count(lines()), lists_arrivals() ? "arrivals" : "rates",
                     format_duration(end()));
}

}  // namespace twinstorm::scenario
