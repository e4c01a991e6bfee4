#include "report/wording.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <iterator>
#include <vector>

#include <fmt/format.h>

#include "metrics/op.hpp"
#include "metrics/slo.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::report {

namespace {

using metrics::OperationRecord;
using metrics::RunRecord;

struct Decoded {
  uint32_t code_point = 0;
  size_t length = 1;
  bool valid = false;
};

/// One UTF-8 character (RFC 3629: no overlong forms, no surrogates). Invalid: one byte.
Decoded decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return {lead, 1, false};
  uint32_t code_point = lead & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {lead, 1, false};
    code_point = (code_point << 6) | (byte(i) & 0x3FU);
  }
  constexpr std::array<uint32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  if (code_point < kSmallest[length] || code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
    return {lead, 1, false};
  }
  return {code_point, length, true};
}

bool is_hidden(uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x2069) || c == 0xFEFF;
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

uint64_t errors_of(const OperationRecord& op, metrics::ErrorClass error) {
  const auto found = op.errors.find(std::string{to_string(error)});
  return found == op.errors.end() ? 0 : found->second;
}

void add_counts(OperationRecord& to, const OperationRecord& from) {
  to.asked += from.asked;
  to.sent += from.sent;
  to.acknowledged += from.acknowledged;
  to.failed += from.failed;
  to.timed_out += from.timed_out;
  to.dropped += from.dropped;
  to.in_flight += from.in_flight;
  to.not_started += from.not_started;
  to.conflicts += from.conflicts;
  to.retries += from.retries;
  for (const auto& [error, count] : from.errors) to.errors[error] += count;
}

template <class Range, class Predicate>
size_t count_of(const Range& range, Predicate predicate) {
  return static_cast<size_t>(std::count_if(range.begin(), range.end(), predicate));
}

/// `2 of 4 objectives failed, 1 is undecided`, or `all 4 objectives held`; empty if there are none.
std::string judged(size_t all, size_t broken, size_t undecided, std::string_view singular, std::string_view plural,
                   std::string_view broken_word) {
  if (all == 0) return {};
  if (broken + undecided == 0) {
    return all == 1 ? fmt::format("the one {} held", singular) : fmt::format("all {} {} held", all, plural);
  }
  std::string text;
  if (broken > 0) text = fmt::format("{} of {} {}", broken, counted(all, singular, plural), broken_word);
  if (undecided > 0) {
    text += broken > 0 ? fmt::format(" and {}", undecided)
                       : fmt::format("{} of {}", undecided, counted(all, singular, plural));
    text += undecided == 1 ? " is undecided" : " are undecided";
  }
  return text;
}

std::string checks_sentence(const RunRecord& record) {
  using metrics::InvariantStatus;
  const auto slos = [&](std::string_view status) {
    return count_of(record.slos, [&](const auto& slo) { return slo.status == status; });
  };
  const auto invariants = [&](InvariantStatus status) {
    return count_of(record.invariants, [&](const auto& invariant) { return invariant.status == status; });
  };
  const auto objectives_text =
      judged(record.slos.size(), slos("failed"), record.slos.size() - slos("failed") - slos("passed"), "objective",
             "objectives", "failed");
  const auto violated = invariants(InvariantStatus::violated);
  const auto invariants_text = judged(record.invariants.size() - invariants(InvariantStatus::not_checked), violated,
                                      invariants(InvariantStatus::undecided), "invariant", "invariants",
                                      violated == 1 ? "is violated" : "are violated");
  if (objectives_text.empty() && invariants_text.empty()) {
    return "The scenario states no objectives and no invariants, so nothing was judged.";
  }
  const bool both = !objectives_text.empty() && !invariants_text.empty();
  std::string text = fmt::format("{}{}{}.", objectives_text, both ? "; " : "", invariants_text);
  text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

std::string events_sentence(const RunRecord& record) {
  const auto& c = record.convergence;
  if (c.started > 0) {
    const uint64_t arrived = c.applied + c.superseded;
    std::string text =
        fmt::format("{} of {} reached {} and {} reported back", format_count(arrived),
                    counted(c.started, "desired change", "desired changes"),
                    record.devices.target == 1 ? "its device" : "their devices", arrived == 1 ? "was" : "were");
    if (c.total.p50 && c.total.p99) {
      text +=
          fmt::format(": half within {}, 99\u00a0% within {}", duration_text(c.total.p50), duration_text(c.total.p99));
    } else if (c.total.max) {
      if (c.total.p50) text += fmt::format(": half within {}", duration_text(c.total.p50));
      text += fmt::format(", the slowest after {}", duration_text(c.total.max));
    }
    const uint64_t missing = c.lost + c.unconverged;
    text += missing == 0 ? ". None was lost."
                         : fmt::format(". {} lost, {} did not converge in time.", counted(c.lost, "was", "were"),
                                       format_count(c.unconverged));
    if (c.apply_failed > 0) {
      text += fmt::format(" {} delivered and failed in simulated work, as the scenario asked.",
                          counted(c.apply_failed, "was", "were"));
    }
    return text;
  }
  uint64_t asked = 0;
  uint64_t acknowledged = 0;
  for (const auto& [kind, op] : record.operations) {
    asked += op.asked;
    acknowledged += op.acknowledged;
  }
  if (asked == 0) return "No operation was asked for in the recorded phases.";
  return fmt::format("{} of {} were acknowledged.", format_count(acknowledged),
                     counted(asked, "operation", "operations"));
}

}  // namespace

std::string duration_text(std::optional<double> seconds) {
  if (!seconds) return "-";
  return format_duration(from_seconds(*seconds));
}

std::string percent_text(double share) {
  const double value = share * 100;
  if (!std::isfinite(value)) return "-";
  if (value > 0 && value < 0.001) return "< 0.001 %";
  if (value < 100 && value > 99.999) return "> 99.999 %";
  if (value < 100 && value >= 99.95) return fmt::format("{:.3f} %", value);
  return fmt::format("{:.3g} %", value);
}

std::string counted(uint64_t n, std::string_view singular, std::string_view plural) {
  return fmt::format("{} {}", format_count(n), n == 1 ? singular : plural);
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  size_t characters = 0;
  while (!text.empty()) {
    if (characters++ == limit) return out + "…";
    const auto [code_point, length, valid] = decode(text);
    if (!valid) {
      fmt::format_to(std::back_inserter(out), "\\x{{{:02X}}}", code_point);
    } else if (code_point == '\n' || code_point == '\t') {
      out += ' ';
    } else if (is_hidden(code_point)) {
      fmt::format_to(std::back_inserter(out), "\\u{{{:04X}}}", code_point);
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

namespace {

std::string value_text(const metrics::SloRecord& slo, double value) {
  if (const auto spec = metrics::parse_slo(slo.slo)) return metrics::format_slo_value(spec->statistic, value);
  if (slo.unit == "seconds") return duration_text(value);
  if (slo.unit == "share") return percent_text(value);
  if (slo.unit == "perSecond") return format_rate(Rate{value});
  return fmt::format("{:.4g}", value);
}

}  // namespace

std::string target_text(const metrics::SloRecord& slo) {
  const auto spec = metrics::parse_slo(slo.slo);
  const auto value = value_text(slo, slo.target);
  return spec ? fmt::format("{} {}", to_string(spec->comparison), value) : value;
}

std::string actual_text(const metrics::SloRecord& slo) { return slo.actual ? value_text(slo, *slo.actual) : "-"; }

std::string judged_over(const metrics::SloRecord& slo) {
  return slo.phase.empty() ? "all recorded phases" : fmt::format("phase \"{}\"", slo.phase);
}

OperationRecord over_all_phases(const RunRecord& record, const std::string& kind, const std::string& stream) {
  OperationRecord sum;
  for (const auto& phase : record.phases) {
    const auto op = phase.operations.find(kind);
    if (op == phase.operations.end()) continue;
    if (stream.empty()) {
      add_counts(sum, op->second);
    } else if (const auto found = op->second.streams.find(stream); found != op->second.streams.end()) {
      add_counts(sum, found->second);
    }
  }
  return sum;
}

std::string delivery_note(const OperationRecord& stream) {
  using metrics::ErrorClass;
  if (stream.asked == 0) return {};
  if (delivered(stream)) {
    return fmt::format("Delivered as asked: {} of {} acknowledged.", format_count(stream.acknowledged),
                       format_count(stream.asked));
  }
  const uint64_t backlog = errors_of(stream, ErrorClass::backlog_full);
  const uint64_t offline = errors_of(stream, ErrorClass::device_offline);
  const uint64_t late = errors_of(stream, ErrorClass::deadline_passed);
  const uint64_t cut = errors_of(stream, ErrorClass::disconnected);
  const uint64_t throttled = errors_of(stream, ErrorClass::throttled);
  const uint64_t unreachable = errors_of(stream, ErrorClass::refused);
  const uint64_t answered = stream.failed - std::min(stream.failed, cut + throttled + unreachable);

  struct Cause {
    uint64_t count;
    std::string_view blame;  ///< said once, for the largest cause
    std::string what;
  };
  std::array<Cause, 10> causes{{
      {stream.timed_out, "The hub was slow", "got no answer in time"},
      {backlog, "The hub was slow", "were dropped because too many operations were waiting for an answer"},
      {throttled, "The hub throttled", "were refused as too many (throttled)"},
      {answered, "The hub refused", "were answered with an error"},
      {unreachable, "The hub let nobody in", "were refused a connection"},
      {cut, "Connections broke", "lost their connection before the answer"},
      {offline, "Devices were away", "were dropped because the device was not connected when they were due"},
      {late, "The generator was late", "were not started before their deadline"},
      {stream.in_flight, "Time ran out", "were unanswered when counting ended"},
      {stream.not_started, "Time ran out", "were not started when the run ended"},
  }};
  std::stable_sort(causes.begin(), causes.end(), [](const Cause& a, const Cause& b) { return a.count > b.count; });
  std::vector<std::string> parts;
  for (const auto& cause : causes) {
    if (cause.count > 0) parts.push_back(fmt::format("{} {}", format_count(cause.count), cause.what));
  }
  const double share = static_cast<double>(stream.acknowledged) / static_cast<double>(stream.asked);
  std::string text =
      fmt::format("{} of {} delivered.", percent_text(share), counted(stream.asked, "operation", "operations"));
  if (!parts.empty()) text += fmt::format(" {}: {}.", causes.front().blame, join(parts));
  return text;
}

bool met_conflicts(const RunRecord& record) {
  return std::any_of(record.operations.begin(), record.operations.end(),
                     [](const auto& entry) { return entry.second.conflicts + entry.second.retries > 0; });
}

uint64_t throttled_count(const OperationRecord& op) { return errors_of(op, metrics::ErrorClass::throttled); }

bool was_throttled(const RunRecord& record) {
  if (record.throttling) return true;
  for (const auto& phase : record.phases) {
    for (const auto& [kind, op] : phase.operations) {
      if (throttled_count(op) > 0) return true;
    }
  }
  return false;
}

std::string ratio_text(std::optional<double> value) {
  if (!value) return "-";
  return *value >= 1000 ? format_count(static_cast<uint64_t>(std::llround(*value))) : fmt::format("{:.3g}", *value);
}

namespace {

std::string sentence(std::string text) {
  if (!text.empty() && text.back() != '.') text += '.';
  return text;
}

}  // namespace

std::string reading(const RunRecord& record) {
  std::string text;
  switch (record.verdict.status) {
    case metrics::VerdictStatus::invalid:
      text = "The figures of this run can't be trusted and say nothing about the system under test: ";
      text += record.validity.empty() ? "the reasons are listed below." : sentence(record.validity.front().text);
      break;
    case metrics::VerdictStatus::aborted:
      text = fmt::format("The run ended early, after {}; the figures cover what ran until then. ",
                         duration_text(record.run.duration_seconds));
      // An interrupted run is aborted whatever else is wrong with it.
      if (!record.validity.empty()) {
        text += fmt::format("They can't be trusted: {} ", sentence(record.validity.front().text));
      }
      text += checks_sentence(record);
      break;
    case metrics::VerdictStatus::passed:
    case metrics::VerdictStatus::failed:
      text = checks_sentence(record);
      break;
  }
  text += " " + events_sentence(record);
  const bool doubted = canary_disagrees(record);
  if (record.validity.empty() && record.verdict.status != metrics::VerdictStatus::invalid &&
      record.generator.schedule_lag.p99) {
    text += fmt::format(" The generator kept its schedule (99\u00a0% of operations started within {} of their time){}",
                        duration_text(record.generator.schedule_lag.p99),
                        doubted ? "." : ", so the figures can be trusted.");
  }
  if (doubted) text += " Beware: an independent client measured other latencies; see \"Canary\".";
  if (!record.run.forced.empty()) {
    text += " It was forced beyond the limits of its machine (--force): ";
    for (size_t i = 0; i < record.run.forced.size(); ++i) text += (i > 0 ? "; " : "") + record.run.forced[i];
    text += ".";
  }
  return text;
}

std::string capacity_reading(const metrics::CapacityRecord& record) {
  const auto rate = [](std::optional<double> per_second) { return per_second ? format_rate(Rate{*per_second}) : "-"; };
  const auto because = [&](metrics::ProbeVerdict verdict) -> std::string {
    // The last run above the limit says what broke.
    for (auto probe = record.probes.rbegin(); probe != record.probes.rend(); ++probe) {
      if (probe->verdict == verdict && !probe->reasons.empty()) return sentence(probe->reasons.front());
    }
    return {};
  };
  std::string held;
  if (record.lower_per_second) {
    held = fmt::format("{} held in {} of {}", rate(record.lower_per_second), record.held,
                       counted(static_cast<uint64_t>(record.runs), "run", "runs"));
  }
  if (record.interrupted) {
    return held.empty() ? "The search was interrupted before any rate had held."
                        : fmt::format("The search was interrupted. By then {}.", held);
  }
  if (record.limit == "objective") {
    return fmt::format("{}, {} did not hold: {}", held, rate(record.upper_per_second),
                       because(metrics::ProbeVerdict::breaks));
  }
  if (record.limit == "generator" && record.lower_per_second) {
    return fmt::format(
        "{}. The capacity is at least that: above it the generator could not produce the load, so the "
        "limit of the hub was not reached. {}",
        held, because(metrics::ProbeVerdict::generator));
  }
  if (record.limit == "generator") {
    return fmt::format("The generator could not produce even {}: nothing can be said about the hub. {}",
                       rate(record.upper_per_second), because(metrics::ProbeVerdict::generator));
  }
  if (record.limit == "range") return fmt::format("{}, the highest rate that was to be tried.", held);
  if (record.limit == "nothing") {
    return fmt::format("Even {} did not hold: {}", rate(record.upper_per_second),
                       because(metrics::ProbeVerdict::breaks));
  }
  return fmt::format("The search ended without an answer{}. {}", held.empty() ? "" : "; so far " + held,
                     because(metrics::ProbeVerdict::unusable));
}

bool canary_disagrees(const RunRecord& record) {
  return record.canary && record.canary->verdict == metrics::CanaryVerdict::disagree;
}

}  // namespace twinstorm::report
