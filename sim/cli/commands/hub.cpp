#include "sim/hub/hub.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <ostream>

#include "sim/base/distribution.hpp"
#include "sim/base/units.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/hub/hub_files.hpp"
#include "sim/hub/policy/entra.hpp"
#include "sim/net/certificates.hpp"

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

Result<std::string> default_data_folder() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string{value == nullptr ? "" : value};
  };
  if (const std::string data = variable("XDG_DATA_HOME"); data.starts_with('/')) return data + "/twinstorm/hub";
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.local/share/twinstorm/hub";
  return make_error(ErrorCode::invalid_argument,
                    "there is no home folder (HOME) for the development certificates: say where to keep them with "
                    "--data DIR, or switch TLS off with --mqtts-port off --https-port off");
}

/// The text of all files, each of which must hold a certificate.
Result<std::string> read_authorities(const std::vector<std::string>& files) {
  std::string all;
  for (const std::string& file : files) {
    std::ifstream stream{file, std::ios::binary};
    if (!stream) {
      return make_error(ErrorCode::invalid_argument,
                        "--device-ca: cannot read \"" + file + "\": " + std::strerror(errno));
    }
    const std::string text{std::istreambuf_iterator<char>{stream}, std::istreambuf_iterator<char>{}};
    if (!net::sha256_thumbprint(text)) {
      return make_error(ErrorCode::invalid_argument,
                        "--device-ca: \"" + file + "\" holds no certificate: give a CA in PEM form");
    }
    all += text + "\n";
  }
  return all;
}

/// Prints a token and nothing else, so that a shell can put it into a header.
int issue_token(const HubCommand& command, Environment& environment) {
  const auto folder = command.data_folder.empty() ? default_data_folder() : Result<std::string>{command.data_folder};
  if (!folder) return fail(environment, exit_code::kUsage, folder.error().message);
  const auto valid = parse_duration(command.token_valid);
  if (!valid) return fail(environment, exit_code::kUsage, "--valid: " + valid.error().message);
  hub::DevTokenRequest request{
      .data_folder = *folder, .roles = command.roles, .audience = command.entra_audience, .valid = *valid};
  if (request.roles.empty()) request.roles = {"IoT Hub Data Contributor"};
  const auto token = hub::issue_dev_token(request, SteadyClock{}.wall());
  if (!token) {
    const bool usage = token.error().code == ErrorCode::invalid_argument;
    return fail(environment, usage ? exit_code::kUsage : exit_code::kSetup, token.error().message);
  }
  environment.out << *token << std::endl;
  return exit_code::kPassed;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1" || address == "localhost";
}

}  // namespace

int hub_command(const HubCommand& command, Environment& environment) {
  if (command.issue_dev_token) return issue_token(command, environment);
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
  if (std::none_of(std::begin(ports), std::end(ports), [](const auto& each) { return each.port.has_value(); })) {
    return fail(environment, exit_code::kUsage, "every port is off: nothing could connect to this hub");
  }
  config.data_folder = command.data_folder;
  if ((config.mqtts_port || config.https_port) && command.data_folder.empty() && command.tls_certificate.empty()) {
    const auto folder = default_data_folder();
    if (!folder) return fail(environment, exit_code::kUsage, folder.error().message);
    config.data_folder = *folder;
  }
  config.tls_names = command.tls_names;
  config.server_certificate_file = command.tls_certificate;
  config.server_key_file = command.tls_key;
  const auto authorities = read_authorities(command.device_authorities);
  if (!authorities) return fail(environment, exit_code::kUsage, authorities.error().message);
  config.device_authorities_pem = *authorities;
  config.jwks_file = command.jwks_file;
  config.entra_issuer = command.entra_issuer;
  config.entra_audience = command.entra_audience;
  config.metrics_listen = command.metrics_listen;
  config.import_file = command.import_file;
  config.threads = command.threads;
  if (!command.tier.empty()) {
    const auto tier = hub::parse_tier(command.tier);
    if (!tier) return fail(environment, exit_code::kUsage, "--tier: " + tier.error().message);
    if (const auto units = hub::check_units(*tier, command.units); !units) {
      return fail(environment, exit_code::kUsage, "--units: " + units.error().message);
    }
    config.tier = *tier;
    config.units = command.units;
    config.tier_on_request = command.tier_on_request;
  }
  const auto staleness = Distribution::parse(command.query_staleness);
  if (!staleness) return fail(environment, exit_code::kUsage, "--query-staleness: " + staleness.error().message);
  config.query_staleness = *staleness;
  if (!command.plant.empty()) {
    const auto faults = hub::parse_fault_plan(command.plant);
    if (!faults) return fail(environment, exit_code::kUsage, "--plant: " + faults.error().message);
    config.faults = *faults;
  }
  config.query_page_max = command.query_page_max;
  config.query_page_default = command.query_page_default != 0
                                  ? command.query_page_default
                                  : std::min(config.query_page_default, command.query_page_max);
  const auto interval = parse_duration(command.configuration_interval);
  if (!interval) {
    return fail(environment, exit_code::kUsage, "--configuration-interval: " + interval.error().message);
  }
  config.configuration_interval = *interval;
  auto hub = hub::Hub::start(std::move(config));
  if (!hub) {
    const bool usage = hub.error().code == ErrorCode::invalid_argument;
    return fail(environment, usage ? exit_code::kUsage : exit_code::kSetup, hub.error().message);
  }
  if (!command.quiet) {
    // Programs read the ready file, which only its owner can open; what goes into a log shows no keys.
    if (command.ready_file.empty() || environment.out_is_terminal) {
      environment.out << hub::describe_for_people(**hub, SteadyClock{}.wall()) << std::flush;
    }
    const hub::HubPorts bound = (*hub)->ports();
    if (!is_loopback(command.listen) && (bound.mqtt != 0 || bound.http != 0)) {
      environment.err << "twinstorm: warning: " << (bound.mqtt != 0 ? "MQTT" : "")
                      << (bound.mqtt != 0 && bound.http != 0 ? " and " : "") << (bound.http != 0 ? "HTTP" : "")
                      << " without TLS on " << command.listen
                      << ": keys and twins can be read on the way (--mqtt-port off --http-port off leaves only TLS)\n";
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
