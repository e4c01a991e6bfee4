#include <string_view>

#include <nlohmann/json.hpp>

#include "metrics/capacity.hpp"
#include "metrics/run_record.hpp"
#include "report/html/page_data.hpp"
#include "report/report.hpp"
#include "report/wording.hpp"

// Defined in page.S.
extern "C" const char twinstorm_report_page_begin[];
extern "C" const char twinstorm_report_page_end[];

namespace twinstorm::report {

namespace {

/// JSON that may stand inside <script>: without `<` nothing can end the element or open a comment.
std::string script_safe(const std::string& json) {
  std::string out;
  out.reserve(json.size() + 64);
  for (const char c : json) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

/// The built-in page with its data.
Result<std::string> page_with(const nlohmann::ordered_json& data) {
  const std::string_view page{twinstorm_report_page_begin, twinstorm_report_page_end};
  constexpr std::string_view kPlace = "@RUN_DATA@";
  const auto at = page.find(kPlace);
  if (at == std::string_view::npos || page.find(kPlace, at + 1) != std::string_view::npos) {
    return make_error(ErrorCode::internal,
                      "the built-in report page does not have exactly one place for data; rebuild twinstorm");
  }
  // Names and messages come from anywhere: bytes that are not UTF-8 become U+FFFD instead of failing the report.
  const auto text = data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string html{page.substr(0, at)};
  html += script_safe(text);
  html += page.substr(at + kPlace.size());
  return html;
}

}  // namespace

Result<std::string> render_html(const metrics::LoadedRun& run) { return page_with(page_data(run)); }

Result<std::string> render_capacity_html(const metrics::CapacityRecord& record) {
  nlohmann::ordered_json data;
  data["capacity"] = metrics::to_json(record);
  data["capacity"]["reading"] = capacity_reading(record);
  return page_with(data);
}

}  // namespace twinstorm::report
