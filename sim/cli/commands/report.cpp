#include "report/report.hpp"

#include <filesystem>
#include <ostream>

#include "metrics/run_record.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"

namespace twinstorm::cli {

int report_command(const ReportCommand& command, Environment& environment) {
  const auto run = metrics::load_run(command.run);
  if (!run) return fail(environment, exit_code::kUsage, run.error().message);
  std::string text;
  std::filesystem::path file = command.output;
  if (command.format == "html") {
    auto html = report::render_html(*run);
    if (!html) return fail(environment, exit_code::kInternal, html.error().message);
    text = std::move(*html);
    if (file.empty()) file = run->folder / "report.html";
  } else if (command.format == "junit") {
    text = report::render_junit(*run);
  } else if (command.format == "json") {
    text = report::render_json(*run);
  } else {
    report::TextOptions options;
    options.color = file.empty() && environment.out_is_terminal && !environment.no_color && !command.no_color;
    text = report::render_text(*run, options);
  }
  if (file.empty()) {
    environment.out << text;
    return exit_code::kPassed;
  }
  if (const auto written = metrics::write_file_atomically(file, text); !written) {
    return fail(environment, exit_code::kInternal, written.error().message);
  }
  environment.out << file.string() << '\n';
  return exit_code::kPassed;
}

}  // namespace twinstorm::cli
