#include <ostream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::cli {
namespace {

/// JSON for people, or as it came for programs. What is no JSON is shown as it is.
std::string shown(const std::string& body, bool compact) {
  const auto json = nlohmann::ordered_json::parse(body, nullptr, false);
  if (json.is_discarded()) return body;
  return compact ? json.dump() : json.dump(2);
}

std::string name_of(const TwinCommand& command) {
  return command.module_id.empty()
             ? fmt::format("the twin of \"{}\"", command.device_id)
             : fmt::format("the twin of module \"{}\" of \"{}\"", command.module_id, command.device_id);
}

int end_with(Environment& environment, const Error& error) {
  if (environment.control.signals > 0) return 128 + environment.control.last_signal;
  return fail(environment, exit_code_of(error), error.message);
}

int query(const TwinCommand& command, RestClient& hub, Environment& environment) {
  RestRequest request{.method = "POST",
                      .target = protocol::service_target::query(),
                      .body = nlohmann::json{{"query", command.sql}}.dump(),
                      .if_match = {},
                      .continuation = {},
                      .page_size = command.page_size};
  for (;;) {
    const auto page = hub.must("cannot query", request);
    if (!page) return end_with(environment, page.error());
    const auto rows = nlohmann::ordered_json::parse(page->body, nullptr, false);
    if (!rows.is_array()) {
      return fail(environment, exit_code::kSetup, "the hub's answer to the query is not a JSON array");
    }
    for (const auto& row : rows) environment.out << row.dump() << '\n';
    environment.out << std::flush;
    if (page->continuation.empty()) return exit_code::kPassed;
    if (!command.all) {
      environment.err << "twinstorm: there are more results after these " << rows.size()
                      << "; --all fetches every page\n";
      return exit_code::kPassed;
    }
    request.continuation = page->continuation;
  }
}

}  // namespace

int twin_command(const TwinCommand& command, Environment& environment) {
  std::string body;
  if (command.verb == TwinCommand::Verb::patch || command.verb == TwinCommand::Verb::replace) {
    auto json = read_json_object("JSON", command.json, environment);
    if (!json) return end_with(environment, json.error());
    // The service ignores other members, as SDKs send whole twins back: a slip would look like a success.
    if (!protocol::find_member(*json, "tags") && !protocol::find_path(*json, "properties.desired")) {
      return fail(
          environment, exit_code::kUsage,
          R"(JSON: has neither "tags" nor "properties.desired", so nothing would change: give an object such as )"
          R"({"properties":{"desired":{"interval":30}}})");
    }
    body = std::move(*json);
  }
  std::string text;
  if (!command.hub.ready_file.empty() && command.hub.connection_string.empty()) {
    const auto address = read_hub(command.hub);
    if (!address) return end_with(environment, address.error());
    text = (*address)->service_connection_string;
  } else {
    auto found = read_connection_string(command.hub, {"TWINSTORM_CONNECTION_STRING", "IOTHUB_CONNECTION_STRING"});
    if (!found) return end_with(environment, found.error());
    text = std::move(*found);
  }
  auto hub = RestClient::connect(command.hub, text, command.http_port, command.https_port, environment);
  if (!hub) return end_with(environment, hub.error());
  if (command.verb == TwinCommand::Verb::query) return query(command, *hub, environment);

  const char* const methods[] = {"GET", "PATCH", "PUT"};
  const char* const doings[] = {"get", "patch", "replace"};
  const auto verb = static_cast<size_t>(command.verb);
  std::string if_match = command.if_match;
  if (if_match.empty() && command.verb != TwinCommand::Verb::get) if_match = "*";
  const auto answer = hub->must(fmt::format("cannot {} {}", doings[verb], name_of(command)),
                                {.method = methods[verb],
                                 .target = protocol::service_target::twin(command.device_id, command.module_id),
                                 .body = body,
                                 .if_match = if_match,
                                 .continuation = {},
                                 .page_size = 0});
  if (!answer) return end_with(environment, answer.error());
  environment.out << shown(answer->body, command.compact) << std::endl;
  return exit_code::kPassed;
}

}  // namespace twinstorm::cli
