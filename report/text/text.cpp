#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "metrics/op.hpp"
#include "metrics/run_record.hpp"
#include "report/report.hpp"
#include "report/text/table.hpp"
#include "report/wording.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::report {

namespace {

using metrics::OperationRecord;
using metrics::RunRecord;

enum class Tone { good, bad, unsure, soft };

class TextReport {
 public:
  TextReport(const RunRecord& record, const TextOptions& options)
      : record_{record}, options_{options}, width_{std::max<size_t>(options.width, 60)} {}

  std::string render() {
    verdict();
    objectives();
    invariants();
    operations();
    convergence();
    queries();
    etags();
    throttling();
    undelivered();
    errors();
    books();
    files();
    return std::move(out_);
  }

 private:
  std::string toned(std::string text, Tone tone) const {
    if (!options_.color) return text;
    constexpr std::array<std::string_view, 4> kStart{"\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[2m"};
    return fmt::format("{}{}\x1b[0m", kStart[static_cast<size_t>(tone)], text);
  }

  std::string status(std::string_view word) const {
    const Tone tone = word == "passed" || word == "held"       ? Tone::good
                      : word == "failed" || word == "violated" ? Tone::bad
                                                               : Tone::unsure;
    return toned(std::string{word == "notChecked" ? "not checked" : word}, tone);
  }

  void title(std::string_view text) { out_ += fmt::format("\n{}\n", text); }

  void verdict() {
    using metrics::VerdictStatus;
    const auto& v = record_.verdict;
    const auto [word, tone] = [&]() -> std::pair<std::string, Tone> {
      switch (v.status) {
        case VerdictStatus::passed:
          return {"PASSED", Tone::good};
        case VerdictStatus::failed:
          return {"FAILED", Tone::bad};
        case VerdictStatus::invalid:
          return {"INVALID", Tone::unsure};
        case VerdictStatus::aborted:
          break;
      }
      return {"ABORTED", Tone::bad};
    }();
    out_ += fmt::format("\n{}  {} {}\n", toned(word, tone), printable(record_.run.scenario, 80),
                        toned(fmt::format("(exit code {})", v.exit_code), Tone::soft));
    out_ += wrapped(printable(reading(record_), 2000), width_, "  ");
    if (v.reasons.empty()) return;
    title("Why");
    constexpr size_t kReasonsMax = 20;
    for (size_t i = 0; i < std::min(v.reasons.size(), kReasonsMax); ++i) {
      auto lines = wrapped(printable(v.reasons[i]), width_, "    ");
      lines[2] = '-';
      out_ += lines;
    }
    if (v.reasons.size() > kReasonsMax) out_ += fmt::format("  - and {} more\n", v.reasons.size() - kReasonsMax);
  }

  void objectives() {
    if (record_.slos.empty()) return;
    title("Objectives");
    TextTable table{{{"verdict", Align::left},
                     {"objective", Align::left},
                     {"target"},
                     {"actual"},
                     {"samples"},
                     {"judged over", Align::left}}};
    for (const auto& slo : record_.slos) {
      table.add({status(slo.status), printable(slo.slo, 80), target_text(slo), actual_text(slo),
                 format_count(slo.samples), printable(judged_over(slo), 60)});
    }
    table.append_to(out_);
  }

  void invariants() {
    if (record_.invariants.empty()) return;
    title("Invariants");
    TextTable table{{{"verdict", Align::left}, {"invariant", Align::left}, {"what was found", Align::left}}};
    for (const auto& invariant : record_.invariants) {
      table.add({status(to_string(invariant.status)), printable(invariant.name, 60), printable(invariant.detail, 200)});
    }
    table.append_to(out_);
    for (const auto& invariant : record_.invariants) {
      for (const auto& example : invariant.examples) out_ += fmt::format("    {}\n", printable(example, 160));
    }
  }

  /// Kinds in the order of an operation's life, which is the order of the enum.
  template <class Fn>
  void for_each_operation(Fn&& fn) const {
    for (size_t i = 0; i < metrics::kOpKindCount; ++i) {
      const std::string kind{to_string(static_cast<metrics::OpKind>(i))};
      if (const auto found = record_.operations.find(kind); found != record_.operations.end()) fn(kind, found->second);
    }
  }

  void operations() {
    TextTable table{{{"operation", Align::left},
                     {"asked"},
                     {"acknowledged"},
                     {"failed"},
                     {"timed out"},
                     {"dropped"},
                     {"rate"},
                     {"p50"},
                     {"p99"},
                     {"max"},
                     {"service p99"}}};
    std::string elsewhere;
    for_each_operation([&](const std::string& kind, const OperationRecord& op) {
      if (op.asked == 0) {
        const auto all = over_all_phases(record_, kind);
        if (all.asked > 0) {
          elsewhere += fmt::format("  {}: {} of {} acknowledged, outside the recorded phases\n", kind,
                                   format_count(all.acknowledged), format_count(all.asked));
        }
        return;
      }
      table.add({kind, format_count(op.asked), format_count(op.acknowledged), format_count(op.failed),
                 format_count(op.timed_out), format_count(op.dropped), format_rate(Rate{op.rate_per_second}),
                 duration_text(op.intended.p50), duration_text(op.intended.p99), duration_text(op.intended.max),
                 duration_text(op.service.p99)});
    });
    if (table.empty() && elsewhere.empty()) return;
    title("Operations (recorded phases; latency from when they were due, service from when they were sent)");
    if (!table.empty()) table.append_to(out_);
    out_ += elsewhere;
  }

  void convergence() {
    const auto& c = record_.convergence;
    if (c.started == 0) return;
    title("Convergence (desired property due -> reported and acknowledged)");
    out_ += fmt::format("  {} applied, {} superseded, {} lost, {} unconverged, {} not accepted, {} open\n",
                        format_count(c.applied), format_count(c.superseded), format_count(c.lost),
                        format_count(c.unconverged), format_count(c.failed), format_count(c.open));
    if (c.apply_failed > 0) {
      out_ += fmt::format("  {} delivered whose simulated work failed, as the scenario asked\n",
                          format_count(c.apply_failed));
    }
    if (c.duplicate + c.reordered > 0) {
      out_ += fmt::format("  notifications: {} duplicate, {} reordered\n", format_count(c.duplicate),
                          format_count(c.reordered));
    }
    TextTable table{{{"leg", Align::left}, {"samples"}, {"mean"}, {"p50"}, {"p90"}, {"p99"}, {"max"}}};
    const auto row = [&](std::string name, const metrics::LatencyRecord& l) {
      if (l.count == 0) return;
      table.add({std::move(name), format_count(l.count), duration_text(l.mean), duration_text(l.p50),
                 duration_text(l.p90), duration_text(l.p99), duration_text(l.max)});
    };
    row("total", c.total);
    row("system (without apply)", c.system);
    row("patch", c.patch);
    row("delivery", c.delivery);
    row("apply (simulated)", c.apply);
    row("acknowledge", c.acknowledge);
    if (!table.empty()) table.append_to(out_);
  }

  /// Calls `fn(stream, operation)` for each stream of the recorded phases.
  template <class Fn>
  void for_each_stream(Fn&& fn) const {
    for_each_operation([&](const std::string&, const OperationRecord& op) {
      for (const auto& [name, stream] : op.streams) fn(name, stream);
    });
  }

  void queries() {
    TextTable table{
        {{"stream", Align::left}, {"queries"}, {"pages"}, {"rows"}, {"pages/query"}, {"rows/query"}, {"most rows"}}};
    for_each_stream([&](const std::string& name, const OperationRecord& op) {
      if (!op.pages) return;
      const auto& p = *op.pages;
      table.add({printable(name, 60), format_count(op.acknowledged), format_count(p.pages), format_count(p.rows),
                 ratio_text(p.pages_per_query), ratio_text(p.rows_per_query),
                 p.pages_per_query ? format_count(p.rows_max) : "-"});
    });
    if (table.empty() && !record_.staleness) return;
    title("Queries (recorded phases)");
    if (!table.empty()) table.append_to(out_);
    if (!record_.staleness) return;
    const auto& s = *record_.staleness;
    const auto& l = s.since_acknowledged;
    out_ += fmt::format("  staleness (write acknowledged -> visible in a query): p50 {}, p99 {}, max {}{}\n",
                        duration_text(l.p50), duration_text(l.p99), duration_text(l.max),
                        s.resolution ? fmt::format("; exact to {}", duration_text(s.resolution)) : std::string{});
    out_ += fmt::format("  {} followed: {} visible, {} not visible in time, {} unknown, {} open\n",
                        counted(s.started, "write", "writes"), format_count(s.visible), format_count(s.not_visible),
                        format_count(s.unknown), format_count(s.open));
  }

  void etags() {
    if (!met_conflicts(record_)) return;
    title("ETags (recorded phases; conflict = answer 412, share of all changes sent)");
    TextTable table{{{"stream", Align::left},
                     {"acknowledged"},
                     {"conflicts"},
                     {"share"},
                     {"retries"},
                     {"retries/success"},
                     {"given up"}}};
    for_each_stream([&](const std::string& name, const OperationRecord& op) {
      if (op.conflicts + op.retries == 0) return;
      const auto given_up = op.errors.find("preconditionFailed");
      table.add({printable(name, 60), format_count(op.acknowledged), format_count(op.conflicts),
                 op.conflict_share() ? percent_text(*op.conflict_share()) : "-", format_count(op.retries),
                 ratio_text(op.retries_per_success()),
                 format_count(given_up == op.errors.end() ? 0 : given_up->second)});
    });
    table.append_to(out_);
  }

  void throttling() {
    if (!was_throttled(record_)) return;
    title("Throttling (whole run)");
    if (record_.throttling) {
      const auto& t = *record_.throttling;
      out_ += fmt::format("  the hub is {} with {}", printable(t.tier, 20), counted(t.units, "unit", "units"));
      if (t.quota_used && t.quota_limit) {
        out_ += fmt::format("; {} of {} messages of the day used", format_count(*t.quota_used),
                            format_count(*t.quota_limit));
      }
      out_ += "\n";
      TextTable table{{{"class", Align::left},
                       {"limit"},
                       {"admitted"},
                       {"of these delayed"},
                       {"delay p50"},
                       {"p99"},
                       {"max"},
                       {"refused (429)"}}};
      for (const auto& c : t.classes) {
        if (c.admitted + c.refused == 0) continue;
        table.add({printable(c.name, 40), c.limit_per_second ? format_rate(Rate{*c.limit_per_second}) : "-",
                   format_count(c.admitted), format_count(c.shaped), duration_text(c.delay_p50),
                   duration_text(c.delay_p99), duration_text(c.delay_max), format_count(c.refused)});
      }
      if (!table.empty()) table.append_to(out_);
    }
    TextTable table{{{"stream", Align::left}, {"sent"}, {"answered 429"}, {"share"}}};
    for_each_operation([&](const std::string& kind, const OperationRecord& op) {
      for (const auto& [name, unused] : op.streams) {
        const auto whole = over_all_phases(record_, kind, name);
        const auto refused = throttled_count(whole);
        if (refused == 0 || whole.sent == 0) continue;
        table.add({printable(name, 60), format_count(whole.sent), format_count(refused),
                   percent_text(static_cast<double>(refused) / static_cast<double>(whole.sent))});
      }
    });
    if (!table.empty()) table.append_to(out_);
  }

  void undelivered() {
    std::string notes;
    for_each_operation([&](const std::string& kind, const OperationRecord& op) {
      for (const auto& [stream, unused] : op.streams) {
        const auto whole = over_all_phases(record_, kind, stream);
        if (whole.asked == 0 || delivered(whole)) continue;
        notes += wrapped(fmt::format("{}: {}", printable(stream, 60), delivery_note(whole)), width_, "  ");
      }
    });
    if (notes.empty()) return;
    title("Not delivered as asked (whole run)");
    out_ += notes;
  }

  void errors() {
    if (record_.errors.empty()) return;
    constexpr size_t kErrorsMax = 10;
    title("Errors (whole run)");
    TextTable table{
        {{"operation", Align::left}, {"stream", Align::left}, {"class", Align::left}, {"count"}, {"first"}, {"last"}}};
    for (size_t i = 0; i < std::min(record_.errors.size(), kErrorsMax); ++i) {
      const auto& e = record_.errors[i];
      table.add({printable(e.operation, 40), printable(e.stream, 40), printable(e.error, 40), format_count(e.count),
                 fmt::format("{:.0f} s", e.first_seconds), fmt::format("{:.0f} s", e.last_seconds)});
    }
    table.append_to(out_);
    if (record_.errors.size() > kErrorsMax) {
      out_ += fmt::format("  and {} more kinds; all are in summary.json\n", record_.errors.size() - kErrorsMax);
    }
  }

  void books() {
    const auto& l = record_.ledger;
    title("Ledger and generator");
    out_ += fmt::format("  {}: {} sent = {} acknowledged + {} failed + {} timed out + {} in flight\n",
                        l.holds ? "adds up" : toned("DOES NOT ADD UP", Tone::bad), format_count(l.sent),
                        format_count(l.acknowledged), format_count(l.failed), format_count(l.timed_out),
                        format_count(l.in_flight));
    if (record_.hub && record_.hub->comparison.checked) {
      const auto& comparison = record_.hub->comparison;
      if (comparison.matches()) {
        out_ += fmt::format("  the hub counted the same ({} compared)\n",
                            counted(comparison.rows.size(), "number", "numbers"));
      }
      for (const auto& row : comparison.rows) {
        if (row.run == row.hub) continue;
        out_ += fmt::format("  {}: the run counted {}, the hub {}\n", printable(row.name, 60), format_count(row.run),
                            format_count(row.hub));
      }
    }
    const auto& g = record_.generator;
    const auto busiest = std::max_element(g.busy_shares.begin(), g.busy_shares.end());
    out_ += fmt::format(
        "  schedule lag p99 {}, CPU {}, memory {}{}\n", duration_text(g.schedule_lag.p99), duration_text(g.cpu_seconds),
        format_size(g.resident_bytes),
        busiest == g.busy_shares.end() ? std::string{} : fmt::format(", busiest loop {}", percent_text(*busiest)));
    for (const auto& worker : record_.workers) this->worker(worker);
    if (record_.canary) canary(*record_.canary);
  }

  void worker(const metrics::WorkerRecord& w) {
    out_ += fmt::format("  {}: {}, {} acknowledged, CPU {}, busiest loop {}", printable(w.name, 60),
                        counted(w.devices, "device", "devices"), format_count(w.ledger.acknowledged),
                        duration_text(w.cpu_seconds), percent_text(w.busy_share));
    if (w.schedule_lag_p99) out_ += fmt::format(", schedule lag p99 {}", duration_text(*w.schedule_lag_p99));
    if (w.lost) out_ += ", " + toned("LOST", Tone::bad) + fmt::format(": {}", printable(w.end, 200));
    out_ += "\n";
  }

  void canary(const metrics::CanaryRecord& c) {
    auto lines = wrapped(fmt::format("canary: {}", printable(c.detail, 1000)), width_, "    ");
    lines.erase(0, 2);
    if (c.verdict == metrics::CanaryVerdict::disagree) {
      lines = "  " + toned("WARNING", Tone::unsure) + lines.substr(1);
    }
    out_ += lines;
  }

  void files() {
    if (!options_.run_folder.empty()) out_ += fmt::format("\nFiles   {}\n", options_.run_folder);
    if (!options_.report_path.empty()) {
      out_ += options_.run_folder.empty() ? "\n" : "Report\n";
      out_ += options_.report_path + "\n";
    }
  }

  const RunRecord& record_;
  const TextOptions& options_;
  size_t width_;
  std::string out_;
};

}  // namespace

std::string render_text(const metrics::LoadedRun& run, const TextOptions& options) {
  return TextReport{run.record, options}.render();
}

}  // namespace twinstorm::report
