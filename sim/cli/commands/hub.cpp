#include "sim/hub/hub.hpp"

#include <charconv>
#include <ostream>

#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/hub/hub_files.hpp"

namespace twinstorm::cli {
namespace {

/// A port number, or nothing for `off`.
Result<std::optional<uint16_t>> parse_port(const std::string& flag, const std::string& text) {
  if (text == "off") return std::optional<uint16_t>{};
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return make_error(ErrorCode::invalid_argument, flag + ": \"" + text + "\" is not a port: give 0 to 65535, or off");
  }
  return std::optional<uint16_t>{port};
}

}  // namespace

int hub_command(const HubCommand& command, Environment& environment) {
  hub::HubConfig config;
  config.listen = command.listen;
  config.host_name = command.host_name;
  const struct {
    const char* flag;
    const std::string& text;
    std::optional<uint16_t>& port;
  } ports[] = {{"--mqtt-port", command.mqtt_port, config.mqtt_port},
               {"--mqtts-port", command.mqtts_port, config.mqtts_port},
               {"--http-port", command.http_port, config.http_port},
               {"--https-port", command.https_port, config.https_port}};
  for (const auto& [flag, text, port] : ports) {
    const auto parsed = parse_port(flag, text);
    if (!parsed) return fail(environment, exit_code::kUsage, parsed.error().message);
    port = *parsed;
  }
  config.metrics_listen = command.metrics_listen;
  config.import_file = command.import_file;
  config.threads = command.threads;
  auto hub = hub::Hub::start(std::move(config));
  if (!hub) {
    const bool usage = hub.error().code == ErrorCode::invalid_argument;
    return fail(environment, usage ? exit_code::kUsage : exit_code::kSetup, hub.error().message);
  }
  if (!command.quiet) {
    // Programs read the ready file, which only its owner can open; what goes into a log shows no keys.
    if (command.ready_file.empty() || environment.out_is_terminal) {
      environment.out << hub::describe_for_people(**hub) << std::flush;
    }
    if (command.listen != "127.0.0.1" && command.listen != "::1" && command.listen != "localhost") {
      environment.err << "twinstorm: warning: listening on " << command.listen
                      << " without TLS: keys and twins can be read on the way\n";
    }
  }
  if (!command.ready_file.empty()) {
    if (const auto written = hub::write_ready_file(command.ready_file, **hub); !written) {
      return fail(environment, exit_code::kSetup, written.error().message);
    }
  }
  environment.wait_for_signal();
  (*hub)->stop();
  return exit_code::kPassed;
}

}  // namespace twinstorm::cli
