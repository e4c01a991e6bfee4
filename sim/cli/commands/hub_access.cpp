#include "sim/cli/commands/hub_access.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <istream>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/backend/http_client.hpp"
#include "sim/backend/service_access.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/net/resolve.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/json_scanner.hpp"

namespace twinstorm::cli {
namespace {

constexpr Nanos kTimeout = std::chrono::seconds{60};
constexpr auto kTurn = std::chrono::milliseconds{20};

Error usage(std::string message) { return make_error(ErrorCode::invalid_argument, std::move(message)); }

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string variable(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

bool listens_everywhere(const std::string& address) { return address == "0.0.0.0" || address == "::"; }

std::string quoted(const std::string& etag) {
  return etag.starts_with('"') || etag.starts_with("W/") ? etag : '"' + etag + '"';
}

}  // namespace

Result<std::string> read_text_file(const std::string& what, const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return usage(fmt::format("{}: cannot read \"{}\": {}", what, path, std::strerror(errno)));
  return std::string{std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
}

Result<std::string> read_secret(const std::string& what, const std::string& text) {
  if (text.starts_with("env:")) {
    const auto value = variable(text.substr(4));
    if (value.empty()) {
      return usage(fmt::format("{}: the environment variable {} is not set", what, text.substr(4)));
    }
    return value;
  }
  if (!text.starts_with('@')) return text;
  auto content = read_text_file(what, text.substr(1));
  if (!content) return content;
  return trimmed(*content);
}

Result<std::string> read_connection_string(const HubAccessOptions& options, const std::vector<std::string>& variables) {
  if (!options.connection_string.empty()) return read_secret("--connection-string", options.connection_string);
  std::string names;
  for (const auto& name : variables) {
    if (auto value = variable(name); !value.empty()) return value;
    names += (names.empty() ? "" : " or ") + name;
  }
  return usage(
      fmt::format("there is no connection string: set {}, or give --connection-string env:NAME, @FILE or the "
                  "text itself (others on this machine can see it then)",
                  names));
}

Result<std::string> read_json_object(const std::string& what, const std::string& text, Environment& environment) {
  std::string source = text;
  if (text == "-") {
    if (environment.in == nullptr) return usage(what + ": there is no standard input to read");
    source.assign(std::istreambuf_iterator<char>{*environment.in}, std::istreambuf_iterator<char>{});
  } else if (text.starts_with('@')) {
    auto content = read_text_file(what, text.substr(1));
    if (!content) return content;
    source = std::move(*content);
  }
  try {
    const auto json = nlohmann::json::parse(source);
    if (!json.is_object()) return usage(fmt::format("{}: this is JSON, but not an object: give {{...}}", what));
    return json.dump();
  } catch (const nlohmann::json::parse_error& error) {
    return usage(
        fmt::format("{}: not JSON (at byte {}): give an object such as {}", what, error.byte, R"({"temperature":21})"));
  }
}

Result<std::optional<run::HubAddress>> read_hub(const HubAccessOptions& options) {
  if (options.ready_file.empty()) return std::optional<run::HubAddress>{};
  auto address = run::read_ready_file(options.ready_file);
  if (!address) return address.error();
  if (listens_everywhere(address->host)) address->host = "127.0.0.1";
  return std::optional{std::move(*address)};
}

std::string Dial::where() const { return fmt::format("{}:{}", host, endpoint.port()); }

Result<Dial> make_dial(const HubAccessOptions& options, const std::optional<run::HubAddress>& hub,
                       const std::string& host, uint16_t port, DialPorts ports) {
  bool tls = !options.no_tls;
  if (hub && port == 0) {
    if (tls && ports.tls == 0) tls = false;
    if ((tls ? ports.tls : ports.plain) == 0) {
      return usage(fmt::format("the hub of {} has no {} port{}: start it with one", options.ready_file, ports.name,
                               options.no_tls ? " without TLS" : ""));
    }
  }
  Dial dial;
  dial.host = hub ? hub->host : host;
  const auto found = net::resolve(dial.host, port != 0 ? port : tls ? ports.tls : ports.plain);
  if (!found) return found.error();
  dial.endpoint = found->front();
  if (!tls) return dial;
  const std::string file = !options.ca_file.empty() ? options.ca_file : hub ? hub->ca_file : std::string{};
  const char* const named = options.ca_file.empty() ? "caFile of the ready file" : "--ca-file";
  net::TlsClientConfig config{.authorities_setting = "with --ca-file"};
  if (!file.empty()) {
    auto authorities = read_text_file(named, file);
    if (!authorities) return authorities.error();
    // Without any the system's store would be trusted instead.
    if (authorities->empty()) return usage(fmt::format("{}: \"{}\" is empty: give a CA in PEM form", named, file));
    config.authorities_pem = std::move(*authorities);
  }
  auto context = net::TlsContext::client(config);
  if (!context && !file.empty()) return usage(fmt::format("{}: \"{}\": {}", named, file, context.error().message));
  if (!context) return context.error();
  dial.tls = std::move(*context);
  return dial;
}

// --- Service API -----------------------------------------------------------------------------------------------------

struct RestClient::Impl final : backend::HttpEvents {
  Impl(Dial where, backend::ServiceAccess rights, Environment& around)
      : dial{std::move(where)}, access{std::move(rights)}, environment{around}, http{config(), io,    wheel,
                                                                                     0,        clock, *this} {}

  backend::HttpClient::Config config() const {
    return {.endpoint = dial.endpoint,
            .host = access.host_name(),
            .connections = 1,
            .requests_max = 1,
            .tls = dial.tls ? &*dial.tls : nullptr,
            .server_name = dial.host};
  }
  void on_http_sent(uint64_t, MonoTime) override {}
  void on_http_answer(uint64_t, const backend::HttpAnswer& got) override {
    const auto header = [&](std::string_view name) { return std::string{got.header(name).value_or("")}; };
    answer = {got.status, std::string{got.body}, header("ETag"), header("x-ms-continuation")};
    done = true;
  }
  void on_http_failed(uint64_t, backend::HttpFailure why) override {
    static constexpr const char* kReasons[] = {"the connection was refused", "the connection ended before the answer",
                                               "the answer was not HTTP",    "no answer in time",
                                               "no answer in time",          "TLS failed"};
    problem =
        http.error_text().empty() ? std::string{kReasons[static_cast<size_t>(why)]} : std::string{http.error_text()};
    done = true;
  }

  Dial dial;
  backend::ServiceAccess access;
  Environment& environment;
  SteadyClock clock;
  net::ShardIo io;
  TimerWheel wheel{4, clock.mono()};
  backend::HttpClient http;
  RestAnswer answer;
  std::string problem;
  bool done = false;
};

RestClient::RestClient(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
RestClient::RestClient(RestClient&&) noexcept = default;
RestClient::~RestClient() = default;

Result<RestClient> RestClient::connect(const HubAccessOptions& options, const std::string& connection_string,
                                       uint16_t http_port, uint16_t https_port, Environment& environment) {
  auto access = backend::ServiceAccess::from_connection_string(connection_string);
  if (!access) return access.error();
  const auto host = protocol::split_host_port(access->host_name(), 0);
  if (!host) return host.error();
  const auto hub = read_hub(options);
  if (!hub) return hub.error();
  const DialPorts ports = *hub ? DialPorts{"HTTP", (*hub)->http_port, (*hub)->https_port} : DialPorts{"HTTP", 80, 443};
  auto dial = make_dial(options, *hub, std::string{host->host}, options.no_tls ? http_port : https_port, ports);
  if (!dial) return dial.error();
  return RestClient{std::make_unique<Impl>(std::move(*dial), std::move(*access), environment)};
}

const std::string& RestClient::host_name() const { return impl_->access.host_name(); }

Result<RestAnswer> RestClient::call(const RestRequest& request) {
  auto& it = *impl_;
  std::vector<http::Header> headers{{"Authorization", it.access.authorization(it.clock.wall())}};
  const std::string if_match = request.if_match.empty() ? "" : quoted(request.if_match);
  const std::string page_size = std::to_string(request.page_size);
  if (!request.body.empty()) headers.push_back({"Content-Type", "application/json; charset=utf-8"});
  if (!if_match.empty()) headers.push_back({"If-Match", if_match});
  if (request.page_size > 0) headers.push_back({"x-ms-max-item-count", page_size});
  if (!request.continuation.empty()) headers.push_back({"x-ms-continuation", request.continuation});
  it.done = false;
  it.problem.clear();
  it.http.submit(0, it.clock.mono() + kTimeout, request.method, request.target, headers, request.body);
  while (!it.done && it.environment.control.signals == 0) {
    it.wheel.advance(it.clock.mono(), [&](TimerWheel::TimerId id) { it.http.on_timer(id); });
    it.io.context.restart();
    it.io.context.run_one_for(kTurn);
  }
  if (!it.done) return make_error(ErrorCode::unavailable, "interrupted");
  if (it.problem.empty()) return std::move(it.answer);
  return make_error(ErrorCode::unavailable,
                    fmt::format("cannot reach the hub's REST API at {}: {}", it.dial.where(), it.problem));
}

Result<RestAnswer> RestClient::must(const std::string& what, const RestRequest& request) {
  auto answer = call(request);
  if (!answer || answer->status < 300) return answer;
  const auto message = protocol::find_plain_string(answer->body, "Message");
  std::string said = protocol::redact_connection_string(message ? std::string{*message} : answer->body);
  if (said.size() > 300) said = said.substr(0, 297) + "...";
  return make_error(
      answer->status == 401 ? ErrorCode::unauthorized : ErrorCode::protocol,
      fmt::format("{}: the hub answered HTTP {}{}{}", what, answer->status, said.empty() ? "" : ": ", said));
}

int exit_code_of(const Error& error) {
  return error.code == ErrorCode::invalid_argument ? exit_code::kUsage : exit_code::kSetup;
}

}  // namespace twinstorm::cli
