#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "metrics/run_record.hpp"
#include "report/report.hpp"
#include "report/wording.hpp"

namespace twinstorm::report {

namespace {

/// `printable` has already removed what XML 1.0 forbids.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text, 2000)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

struct Case {
  enum class Outcome { passed, failed, skipped };
  std::string name;
  Outcome outcome = Outcome::passed;
  std::string type;  ///< of the failure
  std::string message;
  std::vector<std::string> lines;  ///< further text of the failure
};

struct Suite {
  std::string name;
  std::vector<Case> cases;
  size_t count(Case::Outcome outcome) const {
    size_t n = 0;
    for (const auto& c : cases) n += c.outcome == outcome ? 1 : 0;
    return n;
  }
};

Suite validity_suite(const metrics::RunRecord& record) {
  Case only{
      .name = "the run is valid", .outcome = Case::Outcome::passed, .type = "invalid", .message = {}, .lines = {}};
  if (record.verdict.status == metrics::VerdictStatus::invalid) {
    only.outcome = Case::Outcome::failed;
    only.message = record.validity.empty() ? "the run is INVALID" : record.validity.front().text;
    for (const auto& finding : record.validity) only.lines.push_back(fmt::format("{}: {}", finding.code, finding.text));
  } else if (record.verdict.status == metrics::VerdictStatus::aborted) {
    only.outcome = Case::Outcome::failed;
    only.type = "aborted";
    only.message = record.verdict.reasons.empty() ? "the run ended early" : record.verdict.reasons.front();
    only.lines = record.verdict.reasons;
  }
  return {"validity", {std::move(only)}};
}

/// What passed by its number in an INVALID run proves nothing.
void skip_if_invalid(const metrics::RunRecord& record, Case& c) {
  if (record.verdict.status != metrics::VerdictStatus::invalid || c.outcome != Case::Outcome::passed) return;
  c.outcome = Case::Outcome::skipped;
  c.message = "the run is INVALID, so the value proves nothing";
}

Suite slo_suite(const metrics::RunRecord& record) {
  Suite suite{"slos", {}};
  for (const auto& slo : record.slos) {
    Case c{.name = slo.slo, .outcome = Case::Outcome::passed, .type = slo.status, .message = {}, .lines = {}};
    if (slo.status != "passed") {
      c.outcome = Case::Outcome::failed;
      c.message = slo.status == "undecided" ? fmt::format("undecided: {}", slo.detail)
                                            : fmt::format("{} instead of {}", actual_text(slo), target_text(slo));
      c.lines = {fmt::format("objective: {}", slo.description.empty() ? slo.slo : slo.description),
                 fmt::format("target:    {}", target_text(slo)), fmt::format("actual:    {}", actual_text(slo)),
                 fmt::format("samples:   {}", slo.samples), fmt::format("judged:    {}", judged_over(slo))};
    }
    skip_if_invalid(record, c);
    suite.cases.push_back(std::move(c));
  }
  return suite;
}

Suite invariant_suite(const metrics::RunRecord& record) {
  using metrics::InvariantStatus;
  Suite suite{"invariants", {}};
  for (const auto& invariant : record.invariants) {
    Case c{.name = invariant.name,
           .outcome = Case::Outcome::passed,
           .type = std::string{to_string(invariant.status)},
           .message = invariant.detail,
           .lines = invariant.examples};
    if (invariant.status == InvariantStatus::not_checked) {
      c.outcome = Case::Outcome::skipped;
      if (c.message.empty()) c.message = "not checked in this run";
    } else if (invariant.status != InvariantStatus::held) {
      c.outcome = Case::Outcome::failed;
    }
    skip_if_invalid(record, c);
    suite.cases.push_back(std::move(c));
  }
  return suite;
}

void append(std::string& out, const Suite& suite, const metrics::RunRecord& record) {
  out += fmt::format(
      "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3f}\" "
      "timestamp=\"{}\">\n",
      suite.name, suite.cases.size(), suite.count(Case::Outcome::failed), suite.count(Case::Outcome::skipped),
      record.run.duration_seconds, escaped(record.run.started_at));
  for (const auto& c : suite.cases) {
    const auto head = fmt::format("    <testcase classname=\"twinstorm.{}.{}\" name=\"{}\" time=\"0\"",
                                  escaped(record.run.scenario), suite.name, escaped(c.name));
    switch (c.outcome) {
      case Case::Outcome::passed:
        out += head + "/>\n";
        break;
      case Case::Outcome::skipped:
        out += fmt::format("{}>\n      <skipped message=\"{}\"/>\n    </testcase>\n", head, escaped(c.message));
        break;
      case Case::Outcome::failed:
        out +=
            fmt::format("{}>\n      <failure type=\"{}\" message=\"{}\">", head, escaped(c.type), escaped(c.message));
        for (const auto& line : c.lines) out += "\n" + escaped(line);
        out += "</failure>\n    </testcase>\n";
        break;
    }
  }
  out += "  </testsuite>\n";
}

}  // namespace

std::string render_junit(const metrics::LoadedRun& run) {
  const auto& record = run.record;
  const std::vector<Suite> suites{validity_suite(record), slo_suite(record), invariant_suite(record)};
  size_t tests = 0;
  size_t failures = 0;
  size_t skipped = 0;
  for (const auto& suite : suites) {
    tests += suite.cases.size();
    failures += suite.count(Case::Outcome::failed);
    skipped += suite.count(Case::Outcome::skipped);
  }
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  out += fmt::format(
      "<testsuites name=\"twinstorm {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3f}\">\n",
      escaped(record.run.scenario), tests, failures, skipped, record.run.duration_seconds);
  for (const auto& suite : suites) append(out, suite, record);
  out += "</testsuites>\n";
  return out;
}

}  // namespace twinstorm::report
