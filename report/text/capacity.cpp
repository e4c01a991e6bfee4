#include "metrics/capacity.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "report/report.hpp"
#include "report/text/table.hpp"
#include "report/wording.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::report {

std::string render_capacity_text(const metrics::CapacityRecord& record) {
  std::string out = fmt::format("\nCAPACITY of {}\n", printable(record.run.scenario));
  out += wrapped(printable(capacity_reading(record), 2000), 100, "  ");
  // The latencies that the objectives are about, or the convergence: a terminal has no room for all.
  const auto latency_of = [](const metrics::CapacityProbe& probe, auto member) {
    const auto found = probe.latencies.find("convergence");
    const auto chosen = found != probe.latencies.end() ? found : probe.latencies.begin();
    return chosen == probe.latencies.end() ? std::string{"-"} : duration_text(chosen->second.*member);
  };
  TextTable table{
      {{"run", Align::left}, {"asked"}, {"delivered"}, {"", Align::left}, {"p50"}, {"p99"}, {"busiest shard"}}};
  auto probes = record.probes;
  std::stable_sort(probes.begin(), probes.end(),
                   [](const auto& a, const auto& b) { return a.asked_per_second < b.asked_per_second; });
  for (const auto& probe : probes) {
    table.add({probe.run, format_rate(Rate{probe.asked_per_second}), format_rate(Rate{probe.delivered_per_second}),
               std::string{to_string(probe.verdict)}, latency_of(probe, &metrics::LatencyRecord::p50),
               latency_of(probe, &metrics::LatencyRecord::p99),
               probe.busy_share ? percent_text(*probe.busy_share) : "-"});
  }
  out += '\n';
  table.append_to(out);
  const bool converges = std::any_of(record.probes.begin(), record.probes.end(),
                                     [](const auto& probe) { return probe.latencies.contains("convergence"); });
  if (!record.probes.empty() && !record.probes.front().latencies.empty()) {
    out += fmt::format("  p50 and p99 of {}, from when each was due.\n",
                       converges ? "convergence" : record.probes.front().latencies.begin()->first);
  }
  return out + '\n';
}

}  // namespace twinstorm::report
