#include "metrics/slo.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "metrics/aggregator.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::metrics {
namespace {

struct StatisticName {
  SloStatistic statistic;
  std::string_view name;
};
constexpr std::array kStatistics{
    StatisticName{SloStatistic::p50, "p50"},         StatisticName{SloStatistic::p90, "p90"},
    StatisticName{SloStatistic::p95, "p95"},         StatisticName{SloStatistic::p99, "p99"},
    StatisticName{SloStatistic::p999, "p999"},       StatisticName{SloStatistic::mean, "mean"},
    StatisticName{SloStatistic::max, "max"},         StatisticName{SloStatistic::errors, "errors"},
    StatisticName{SloStatistic::rate, "rate"},       StatisticName{SloStatistic::dropped, "dropped"},
    StatisticName{SloStatistic::count, "count"},     StatisticName{SloStatistic::conflicts, "conflicts"},
    StatisticName{SloStatistic::retries, "retries"}, StatisticName{SloStatistic::throttled, "throttled"},
};
constexpr std::string_view kStatisticList =
    "p50, p90, p95, p99, p999, mean, max, errors, rate, dropped, count, conflicts, retries or throttled";
constexpr std::string_view kExample = "\"convergence p99 < 500ms during steady\"";

bool is_latency(SloStatistic s) {
  return s == SloStatistic::mean || s == SloStatistic::max || quantile_of(s).has_value();
}

/// What goes on between the sending of an operation and its end.
bool is_about_answers(SloStatistic s) {
  return s == SloStatistic::conflicts || s == SloStatistic::retries || s == SloStatistic::throttled;
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

/// Words and comparisons; a comparison is a token of its own even without blanks around it.
std::vector<std::string_view> tokens_of(std::string_view text) {
  std::vector<std::string_view> tokens;
  size_t i = 0;
  const auto comparison = [](char c) { return c == '<' || c == '>' || c == '=' || c == '!'; };
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (i < text.size()) {
    if (blank(text[i])) {
      ++i;
      continue;
    }
    const auto start = i;
    if (comparison(text[i])) {
      while (i < text.size() && comparison(text[i])) ++i;
    } else {
      while (i < text.size() && !blank(text[i]) && !comparison(text[i])) ++i;
    }
    tokens.push_back(text.substr(start, i - start));
  }
  return tokens;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    auto diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const auto substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

/// ` (did you mean "x"?)` for the nearest candidate, or nothing if none is near.
template <class Names>
std::string did_you_mean(std::string_view word, const Names& names) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const auto& name : names) {
    const auto distance = edit_distance(word, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best.empty() ? std::string{} : fmt::format(" (did you mean \"{}\"?)", best);
}

std::optional<double> plain_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// `50 ms` written with a blank arrives as two words: the unit is glued back on.
Result<double> parse_threshold(const SloSpec& spec, std::string_view value) {
  const auto error = [&](std::string_view hint) {
    return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\": {}", spec.text, hint));
  };
  const auto name = to_string(spec.statistic);
  if (is_latency(spec.statistic)) {
    if (plain_number(value) && value != "0") {
      return error(
          fmt::format("\"{}\" has no unit; {} is a duration (try \"{}ms\" or \"{}s\")", value, name, value, value));
    }
    const auto duration = parse_duration(value);
    if (!duration) return error(fmt::format("\"{}\" is not a duration; {} needs one such as 500ms", value, name));
    return to_seconds(*duration);
  }
  switch (spec.statistic) {
    case SloStatistic::errors:
    case SloStatistic::dropped:
    case SloStatistic::conflicts:
    case SloStatistic::throttled: {
      if (plain_number(value) && value != "0") {
        return error(fmt::format("\"{}\" has no unit; {} is a share (try \"{}%\")", value, name, value));
      }
      if (value == "0") return 0.0;
      const auto share = parse_share(value);
      if (!share || value.back() != '%') {
        return error(fmt::format("\"{}\" is not a share; {} needs one from 0% to 100%, such as 0.1%", value, name));
      }
      return *share;
    }
    case SloStatistic::retries: {
      const auto number = plain_number(value);
      if (!number || *number < 0) {
        return error(fmt::format("\"{}\" is not a number; retries are counted per success (try 0.5)", value));
      }
      return *number;
    }
    case SloStatistic::rate: {
      if (plain_number(value)) {
        return error(fmt::format("\"{}\" has no unit; rate is per time (try \"{}/s\")", value, value));
      }
      const auto rate = parse_rate(value);
      if (!rate) return error(fmt::format("\"{}\" is not a rate (try 50/s)", value));
      return rate->per_second;
    }
    default: {
      const auto number = plain_number(value);
      if (!number || *number < 0 || *number != std::floor(*number)) {
        return error(fmt::format("\"{}\" is not a whole number; count needs one such as 1000", value));
      }
      return *number;
    }
  }
}

std::string metric_name(const SloSpec& spec) {
  switch (spec.metric) {
    case SloMetric::operation:
      return std::string(to_string(*spec.operation));
    case SloMetric::stream:
      return spec.stream;
    case SloMetric::convergence:
      return "convergence";
    case SloMetric::convergence_system:
      return "convergenceSystem";
    case SloMetric::query_staleness:
      return "queryStaleness";
    case SloMetric::schedule_lag:
      return "scheduleLag";
    case SloMetric::all_streams:
      return "operations";
  }
  return {};
}

std::string percent(double share) {
  const auto text = fmt::format("{:.4g}", share * 100);
  return text + " %";
}

bool holds(SloComparison comparison, double actual, double threshold) {
  switch (comparison) {
    case SloComparison::less:
      return actual < threshold;
    case SloComparison::less_equal:
      return actual <= threshold;
    case SloComparison::greater:
      return actual > threshold;
    case SloComparison::greater_equal:
      return actual >= threshold;
  }
  return false;
}

/// What one objective is computed from, whatever its metric.
struct Measured {
  HistogramSnapshot latency;
  uint64_t attempted = 0;  ///< denominator of errors
  uint64_t unsuccessful = 0;
  uint64_t asked = 0;
  uint64_t dropped = 0;
  uint64_t succeeded = 0;
  uint64_t conflicts = 0, retries = 0, throttled = 0;
};

Measured measured_of(const SloSpec& spec, const Totals& totals, std::optional<PhaseIndex> phase, StreamIndex stream) {
  Measured m;
  const auto from_operations = [&](OpTotals&& op) {
    m.attempted = op.sent;
    m.unsuccessful = op.failed + op.timed_out;
    m.asked = op.asked;
    m.dropped = op.dropped;
    m.succeeded = op.acknowledged;
    m.conflicts = op.conflicts;
    m.retries = op.retries;
    m.throttled = op.errors[static_cast<size_t>(ErrorClass::throttled)].count;
    m.latency = std::move(spec.service ? op.service : op.intended);
  };
  switch (spec.metric) {
    case SloMetric::operation:
      from_operations(totals.kind(*spec.operation, phase));
      break;
    case SloMetric::stream:
      from_operations(totals.stream(stream, phase));
      break;
    case SloMetric::convergence:
    case SloMetric::convergence_system: {
      auto c = totals.convergence(phase);
      m.attempted = c.started;
      m.unsuccessful = c.lost + c.unconverged + c.failed;
      m.succeeded = c.applied;
      m.latency = std::move(spec.metric == SloMetric::convergence ? c.total : c.system);
      break;
    }
    case SloMetric::all_streams:
      from_operations(totals.all_streams(phase));
      break;
    case SloMetric::query_staleness: {
      auto s = totals.staleness(phase);
      m.attempted = s.visible + s.not_visible;
      m.unsuccessful = s.not_visible;
      m.succeeded = s.visible;
      m.latency = std::move(s.since_acknowledged);
      break;
    }
    case SloMetric::schedule_lag:
      m.latency = totals.schedule_lag(phase);
      m.succeeded = m.latency.count();
      break;
  }
  return m;
}

}  // namespace

std::optional<double> quantile_of(SloStatistic statistic) {
  switch (statistic) {
    case SloStatistic::p50:
      return 0.5;
    case SloStatistic::p90:
      return 0.9;
    case SloStatistic::p95:
      return 0.95;
    case SloStatistic::p99:
      return 0.99;
    case SloStatistic::p999:
      return 0.999;
    default:
      return std::nullopt;
  }
}

std::string_view to_string(SloStatistic statistic) {
  for (const auto& entry : kStatistics) {
    if (entry.statistic == statistic) return entry.name;
  }
  return "unknown";
}

std::string_view to_string(SloComparison comparison) {
  switch (comparison) {
    case SloComparison::less:
      return "<";
    case SloComparison::less_equal:
      return "<=";
    case SloComparison::greater:
      return ">";
    case SloComparison::greater_equal:
      return ">=";
  }
  return "?";
}

std::string_view to_string(SloStatus status) {
  switch (status) {
    case SloStatus::passed:
      return "passed";
    case SloStatus::failed:
      return "failed";
    case SloStatus::undecided:
      return "undecided";
  }
  return "undecided";
}

Result<SloSpec> parse_slo(std::string_view whole) {
  SloSpec spec;
  spec.text = std::string(trim(whole));
  const auto error = [&](std::string hint) {
    return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\": {}", spec.text, hint));
  };
  const auto tokens = tokens_of(spec.text);
  if (tokens.empty()) return error(fmt::format("an objective is empty (try {})", kExample));
  size_t at = 0;
  const auto next = [&]() -> std::string_view { return at < tokens.size() ? tokens[at++] : std::string_view{}; };

  const auto metric = next();
  if (!is_name(metric)) {
    return error(
        fmt::format("\"{}\" is not a metric; begin with an operation, a stream, convergence, convergenceSystem, "
                    "queryStaleness or scheduleLag (try {})",
                    metric, kExample));
  }
  if (metric == "convergence") {
    spec.metric = SloMetric::convergence;
  } else if (metric == "convergenceSystem") {
    spec.metric = SloMetric::convergence_system;
  } else if (metric == "queryStaleness") {
    spec.metric = SloMetric::query_staleness;
  } else if (metric == "scheduleLag") {
    spec.metric = SloMetric::schedule_lag;
  } else if (const auto kind = parse_op_kind(metric)) {
    spec.operation = kind;
  } else {
    spec.metric = SloMetric::stream;
    spec.stream = std::string(metric);
  }

  // `conflicts < 5%`: of all streams.
  if (spec.metric == SloMetric::stream && at < tokens.size() && !is_name(tokens[at])) {
    const auto short_form = std::find_if(kStatistics.begin(), kStatistics.end(), [&](const StatisticName& entry) {
      return entry.name == metric && is_about_answers(entry.statistic);
    });
    if (short_form != kStatistics.end()) {
      spec.metric = SloMetric::all_streams;
      spec.stream.clear();
      --at;  // the word is the statistic
    }
  }

  auto statistic = next();
  const bool operation = spec.metric == SloMetric::operation || spec.metric == SloMetric::stream;
  if (statistic == "service") {
    if (!operation) return error(fmt::format("{} has no service time; leave \"service\" out", metric));
    spec.service = true;
    statistic = next();
  }
  if (statistic.empty()) return error(fmt::format("a statistic is missing after \"{}\": {}", metric, kStatisticList));
  const auto found = std::find_if(kStatistics.begin(), kStatistics.end(),
                                  [&](const StatisticName& entry) { return entry.name == statistic; });
  if (found == kStatistics.end()) {
    std::vector<std::string_view> names;
    for (const auto& entry : kStatistics) names.push_back(entry.name);
    return error(
        fmt::format("\"{}\" is not a statistic{}; use {}", statistic, did_you_mean(statistic, names), kStatisticList));
  }
  spec.statistic = found->statistic;
  if (spec.service && !is_latency(spec.statistic)) {
    return error(fmt::format("\"service\" goes with a latency, not with {}", statistic));
  }
  if (spec.metric == SloMetric::schedule_lag && !is_latency(spec.statistic) && spec.statistic != SloStatistic::count) {
    return error(fmt::format("scheduleLag is a latency and has no {} (try scheduleLag p99 < 50ms)", statistic));
  }
  if (spec.metric == SloMetric::convergence_system && !is_latency(spec.statistic)) {
    return error(fmt::format("convergenceSystem is a latency; use \"convergence {}\" instead", statistic));
  }
  if (spec.metric == SloMetric::query_staleness &&
      (spec.statistic == SloStatistic::dropped || spec.statistic == SloStatistic::rate)) {
    return error(
        fmt::format("queryStaleness has no {} (try queryStaleness p99 < 5s, or queryStaleness errors < 1% for "
                    "writes that no query showed in time)",
                    statistic));
  }
  if (is_about_answers(spec.statistic) && spec.metric != SloMetric::all_streams && !operation) {
    return error(fmt::format(
        "{} to an operation or a stream, not to {} (try patchTags {} < {})",
        spec.statistic == SloStatistic::throttled ? "throttled belongs" : fmt::format("{} belong", statistic), metric,
        statistic, spec.statistic == SloStatistic::retries ? "0.5" : "5%"));
  }
  if (spec.metric == SloMetric::convergence && spec.statistic == SloStatistic::dropped) {
    return error("an update is never dropped, its patch is (try patchDesired dropped < 1%)");
  }

  const auto comparison = next();
  if (comparison == "<") {
    spec.comparison = SloComparison::less;
  } else if (comparison == "<=") {
    spec.comparison = SloComparison::less_equal;
  } else if (comparison == ">") {
    spec.comparison = SloComparison::greater;
  } else if (comparison == ">=") {
    spec.comparison = SloComparison::greater_equal;
  } else if (comparison.empty()) {
    return error(fmt::format("a comparison is missing after \"{}\": <, <=, > or >=", statistic));
  } else {
    return error(fmt::format("\"{}\" is not a comparison; use <, <=, > or >=", comparison));
  }

  auto value = std::string(next());
  if (value.empty()) return error(fmt::format("a value is missing after \"{}\"", comparison));
  if (at < tokens.size() && tokens[at] != "during" && plain_number(value)) value += next();
  auto threshold = parse_threshold(spec, value);
  if (!threshold) return threshold.error();
  spec.threshold = *threshold;

  if (at == tokens.size()) return spec;
  const auto during = next();
  if (during != "during") {
    return error(fmt::format("\"{}\" is too much; only \"during <phase>\" may follow the value", during));
  }
  const auto phase = next();
  if (phase.empty()) return error("the name of a phase is missing after \"during\"");
  if (!is_name(phase)) return error(fmt::format("\"{}\" is not the name of a phase", phase));
  spec.phase = std::string(phase);
  if (at != tokens.size()) return error(fmt::format("\"{}\" is too much after the phase", tokens[at]));
  return spec;
}

Result<void> check_slo(const SloSpec& spec, const RecorderLayout& layout) {
  if (spec.metric == SloMetric::stream && !layout.find_stream(spec.stream)) {
    std::vector<std::string_view> names{"convergence", "convergenceSystem", "queryStaleness", "scheduleLag"};
    for (size_t i = 0; i < kOpKindCount; ++i) names.push_back(to_string(static_cast<OpKind>(i)));
    for (const auto& stream : layout.streams) names.push_back(stream.name);
    return make_error(ErrorCode::not_found,
                      fmt::format("\"{}\": \"{}\" is neither an operation nor a stream of this scenario{}", spec.text,
                                  spec.stream, did_you_mean(spec.stream, names)));
  }
  if (!spec.phase.empty() && !layout.find_phase(spec.phase)) {
    std::vector<std::string_view> names;
    for (const auto& phase : layout.phases) names.push_back(phase.name);
    return make_error(ErrorCode::not_found, fmt::format("\"{}\": there is no phase \"{}\"{}", spec.text, spec.phase,
                                                        did_you_mean(spec.phase, names)));
  }
  return {};
}

std::string describe(const SloSpec& spec) {
  const auto metric = metric_name(spec);
  std::string subject;
  switch (spec.statistic) {
    case SloStatistic::errors:
      subject = spec.metric == SloMetric::query_staleness ? "share of writes that no query showed in time"
                                                          : fmt::format("share of {} that failed or timed out", metric);
      break;
    case SloStatistic::dropped:
      subject = fmt::format("share of {} the generator dropped", metric);
      break;
    case SloStatistic::conflicts:
      subject = fmt::format("share of changes by {} answered 412", metric);
      break;
    case SloStatistic::retries:
      subject = fmt::format("retries per successful {}", metric);
      break;
    case SloStatistic::throttled:
      subject = fmt::format("share of {} ended by an answer 429", metric);
      break;
    case SloStatistic::rate:
      subject = fmt::format("rate of successful {}", metric);
      break;
    case SloStatistic::count:
      subject = fmt::format("number of successful {}", metric);
      break;
    default:
      subject = fmt::format("{} of {}{}", to_string(spec.statistic), metric, spec.service ? " (service time)" : "");
  }
  std::string_view relation;
  switch (spec.comparison) {
    case SloComparison::less:
      relation = "below";
      break;
    case SloComparison::less_equal:
      relation = "at most";
      break;
    case SloComparison::greater:
      relation = "above";
      break;
    case SloComparison::greater_equal:
      relation = "at least";
      break;
  }
  return fmt::format("{} {} {}{}", subject, relation, format_slo_value(spec.statistic, spec.threshold),
                     spec.phase.empty() ? std::string{} : fmt::format(" during \"{}\"", spec.phase));
}

std::string format_slo_value(SloStatistic statistic, double value) {
  if (is_latency(statistic)) return format_duration(from_seconds(value));
  switch (statistic) {
    case SloStatistic::errors:
    case SloStatistic::dropped:
    case SloStatistic::conflicts:
    case SloStatistic::throttled:
      return percent(value);
    case SloStatistic::retries:
      return fmt::format("{:.3g}", value);
    case SloStatistic::rate:
      return format_rate(Rate{value});
    default:
      return format_count(static_cast<uint64_t>(std::max(value, 0.0)));
  }
}

SloResult judge(const SloSpec& spec, const Totals& totals) {
  SloResult result;
  result.spec = spec;
  const auto undecided = [&](std::string why) {
    result.status = SloStatus::undecided;
    result.detail = std::move(why);
    return result;
  };

  std::optional<PhaseIndex> phase;
  if (!spec.phase.empty()) {
    phase = totals.layout.find_phase(spec.phase);
    if (!phase) return undecided(fmt::format("there is no phase \"{}\"", spec.phase));
  }
  StreamIndex stream = 0;
  if (spec.metric == SloMetric::stream) {
    const auto found = totals.layout.find_stream(spec.stream);
    if (!found) return undecided(fmt::format("there is no stream \"{}\"", spec.stream));
    stream = *found;
  }
  if (spec.metric == SloMetric::query_staleness && totals.staleness(phase).started == 0) {
    return undecided("no write was looked for in queries (give a back end that writes \"staleness\")");
  }
  const auto m = measured_of(spec, totals, phase, stream);
  const auto name = metric_name(spec);

  switch (spec.statistic) {
    case SloStatistic::errors:
      result.samples = m.attempted;
      if (m.attempted == 0) {
        return undecided(spec.metric == SloMetric::query_staleness ? "no write was followed to an end"
                                                                   : fmt::format("no {} was sent", name));
      }
      result.actual = static_cast<double>(m.unsuccessful) / static_cast<double>(m.attempted);
      break;
    case SloStatistic::conflicts:
      result.samples = m.attempted + m.retries;
      if (result.samples == 0) return undecided(fmt::format("no {} was sent", name));
      result.actual = static_cast<double>(m.conflicts) / static_cast<double>(result.samples);
      break;
    case SloStatistic::throttled:
      result.samples = m.attempted;
      if (m.attempted == 0) return undecided(fmt::format("no {} was sent", name));
      result.actual = static_cast<double>(m.throttled) / static_cast<double>(m.attempted);
      break;
    case SloStatistic::retries:
      result.samples = m.succeeded;
      if (m.succeeded == 0) return undecided(fmt::format("no {} succeeded", name));
      result.actual = static_cast<double>(m.retries) / static_cast<double>(m.succeeded);
      break;
    case SloStatistic::dropped:
      result.samples = m.asked;
      if (m.asked == 0) return undecided(fmt::format("no {} was due", name));
      result.actual = static_cast<double>(m.dropped) / static_cast<double>(m.asked);
      break;
    case SloStatistic::rate: {
      const auto duration = totals.duration(phase);
      result.samples = m.succeeded;
      if (duration <= Nanos{0}) return undecided("the phase did not run");
      result.actual = static_cast<double>(m.succeeded) / to_seconds(duration);
      break;
    }
    case SloStatistic::count:
      result.samples = m.succeeded;
      result.actual = static_cast<double>(m.succeeded);
      break;
    default: {
      result.samples = m.latency.count();
      if (m.latency.empty()) {
        return undecided(spec.metric == SloMetric::query_staleness ? "no write became visible in a query"
                                                                   : fmt::format("no {} succeeded", name));
      }
      if (const auto q = quantile_of(spec.statistic)) {
        result.actual = to_seconds(m.latency.percentile(*q));
        if (!enough_samples(m.latency.count(), *q)) {
          const auto needed =
              static_cast<uint64_t>(std::ceil(static_cast<double>(kSamplesBeyondMin) / (1 - *q) - 1e-6));
          return undecided(fmt::format("{} samples are too few for {}: it takes {} to have {} beyond it",
                                       format_count(m.latency.count()), to_string(spec.statistic), format_count(needed),
                                       kSamplesBeyondMin));
        }
      } else {
        result.actual = to_seconds(spec.statistic == SloStatistic::mean ? m.latency.mean() : m.latency.max());
      }
    }
  }
  result.status = holds(spec.comparison, *result.actual, spec.threshold) ? SloStatus::passed : SloStatus::failed;
  result.detail = fmt::format("{}: target {} {}", format_slo_value(spec.statistic, *result.actual),
                              to_string(spec.comparison), format_slo_value(spec.statistic, spec.threshold));
  return result;
}

}  // namespace twinstorm::metrics
