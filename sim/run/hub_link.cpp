#include "sim/run/hub_link.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <tuple>

#include <fmt/format.h>

#include "sim/net/resolve.hpp"
#include "sim/net/ws_stream.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/run/source_addresses.hpp"

namespace twinstorm::run {
namespace {

using scenario::Target;
using scenario::Tls;
using scenario::TransportKind;

constexpr Nanos kProbeTimeout = std::chrono::seconds{5};

net::TlsVersion version_of(Tls::Version version) {
  switch (version) {
    case Tls::Version::any:
      return net::TlsVersion::any;
    case Tls::Version::v1_2:
      return net::TlsVersion::tls12;
    case Tls::Version::v1_3:
      return net::TlsVersion::tls13;
  }
  return net::TlsVersion::any;
}

Result<std::string> read_authorities(const std::string& path) {
  std::ifstream file{path};
  if (!file) {
    return make_error(ErrorCode::not_found,
                      fmt::format("cannot read the CA file {} of the hub: {}", path, std::strerror(errno)));
  }
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Of devices, to one of the run's hubs if it has several.
uint64_t connections_to_a_hub(const scenario::Scenario& scenario) {
  const auto hubs = scenario.target.hub.processes;
  return (uint64_t{scenario.device_count()} + hubs - 1) / hubs;
}

/// One connection, up to where MQTT would begin.
template <class Stream>
class Probe final : private net::StreamEvents {
 public:
  Result<void> run(const net::StreamTarget& target) {
    stream_.connect(target, *this);
    io_.context.run_for(kProbeTimeout);
    stream_.close();
    if (connected_) return {};
    return make_error(ErrorCode::unavailable, problem_.empty() ? "no answer in time" : problem_);
  }

 private:
  void on_stream_connected() override {
    connected_ = true;
    io_.context.stop();
  }
  size_t on_stream_bytes(std::string_view bytes) override { return bytes.size(); }
  void on_stream_ended(net::StreamEnd) override {
    problem_ = stream_.error_text();
    if (problem_.empty()) problem_ = std::strerror(stream_.last_errno());
    io_.context.stop();
  }

  net::ShardIo io_;
  Stream stream_{io_};
  std::string problem_;
  bool connected_ = false;
};

}  // namespace

Result<HubAddress> find_target(const Target& target) {
  if (target.kind == Target::Kind::ready_file) return read_ready_file(target.ready_file);
  std::string text = target.connection_string;
  if (text.starts_with("env:")) {
    const auto name = text.substr(4);
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == 0) {
      return make_error(
          ErrorCode::invalid_argument,
          fmt::format("target.connectionString names the environment variable {}, which is not set", name));
    }
    text = value;
  }
  const auto parsed = protocol::parse_connection_string(text);
  if (!parsed) return parsed.error();
  const auto host = protocol::split_host_port(parsed->host_name, 0);
  if (!host) return host.error();
  HubAddress address;
  address.host = host->host;
  address.host_name = parsed->host_name;
  address.mqtt_port = target.mqtt_port;
  address.mqtts_port = target.mqtts_port;
  address.http_port = target.http_port;
  address.https_port = target.https_port;
  address.prefers_https = target.http_uses_tls();
  address.ca_file = target.ca_file;
  address.service_connection_string = text;
  return address;
}

NeededPorts needed_ports(const scenario::Scenario& scenario) {
  NeededPorts needed;
  for (const auto& fleet : scenario.fleets) {
    if (fleet.tls.on()) (fleet.transport == TransportKind::mqtt ? needed.mqtts : needed.https) = true;
  }
  for (const auto& backend : scenario.backends) needed.https = needed.https || backend.tls.value_or(false);
  return needed;
}

Result<HubLink> make_hub_link(const HubAddress& address, std::function<bool()> cancelled) {
  auto access = backend::ServiceAccess::from_connection_string(address.service_connection_string);
  if (!access) return access.error();
  HubLink hub{.host = address.host,
              .host_name = address.host_name,
              .mqtt = {},
              .http = {},
              .access = std::move(*access),
              .cancelled = std::move(cancelled)};
  const std::pair<uint16_t, net::Endpoint*> ports[] = {{address.mqtt_port, &hub.mqtt},
                                                       {address.mqtts_port, &hub.mqtts},
                                                       {address.http_port, &hub.http},
                                                       {address.https_port, &hub.https}};
  for (const auto& [port, to] : ports) {
    if (port == 0) continue;
    const auto found = net::resolve(address.host, port);
    if (!found) return found.error();
    *to = found->front();
  }
  if (!address.ca_file.empty()) {
    auto authorities = read_authorities(address.ca_file);
    if (!authorities) return authorities.error();
    hub.ca_file = address.ca_file;
    hub.authorities_pem = std::move(*authorities);
  }
  if (hub.https.port() != 0) {
    auto context = net::TlsContext::client({.authorities_pem = hub.authorities_pem});
    if (!context) {
      return make_error(context.error().code,
                        hub.ca_file.empty() ? context.error().message
                                            : fmt::format("CA file {}: {}", hub.ca_file, context.error().message));
    }
    hub.tls.emplace(std::move(*context));
  }
  hub.control_over_tls = hub.http.port() == 0 || (address.prefers_https && hub.https.port() != 0);
  return hub;
}

Result<FleetLinks> make_fleet_links(const HubLink& hub, const scenario::Scenario& scenario) {
  FleetLinks links;
  for (const auto& fleet : scenario.fleets) {
    const bool socket = fleet.transport == TransportKind::mqtt, tls = fleet.tls.on();
    const auto& endpoint = socket ? (tls ? hub.mqtts : hub.mqtt) : (tls ? hub.https : hub.http);
    if (endpoint.port() == 0) {
      return make_error(
          ErrorCode::unavailable,
          fmt::format("fleet \"{}\" connects by {} {} TLS, and the hub at {} has no {} port: start the hub "
                      "with --{}-port, or set tls: {} for the fleet",
                      fleet.name, to_string(fleet.transport), tls ? "over" : "without", hub.host,
                      socket ? (tls ? "MQTTS" : "MQTT") : (tls ? "HTTPS" : "HTTP"),
                      socket ? (tls ? "mqtts" : "mqtt") : (tls ? "https" : "http"), !tls));
    }
    auto& target = links.targets.emplace_back();
    auto& context = links.contexts.emplace_back();
    target.endpoint = endpoint;
    target.host_name = hub.host_name;
    target.server_name = hub.host;
    auto sources = source_addresses(scenario.target, endpoint, connections_to_a_hub(scenario));
    if (!sources) return sources.error();
    target.sources = std::move(*sources);
    if (!tls) continue;
    auto made = net::TlsContext::client({.authorities_pem = hub.authorities_pem,
                                         .version = version_of(fleet.tls.version),
                                         .session_resumption = fleet.tls.resumption});
    if (!made) return made.error();
    context = std::make_unique<net::TlsContext>(std::move(*made));
    target.tls = context.get();
  }
  for (const auto& backend : scenario.backends) {
    const bool tls = backend.tls.value_or(false);
    if ((tls ? hub.https : hub.http).port() != 0) continue;
    return make_error(ErrorCode::unavailable,
                      fmt::format("back end \"{}\" asks {} TLS, and the hub at {} has no {} port: start the hub with "
                                  "--{}-port, or set tls: {} for the back end",
                                  backend.name, tls ? "over" : "without", hub.host, tls ? "HTTPS" : "HTTP",
                                  tls ? "https" : "http", !tls));
  }
  return links;
}

transport::PahoLink paho_link(const HubLink& hub, const scenario::Fleet& fleet) {
  return {.tls = fleet.tls.on(),
          .trust_store = hub.ca_file,
          .version = fleet.tls.version == scenario::Tls::Version::v1_2 ? net::TlsVersion::tls12 : net::TlsVersion::any};
}

Result<void> check_fleet_links(const HubLink& hub, const scenario::Scenario& scenario, const FleetLinks& links) {
  std::set<std::tuple<TransportKind, bool, Tls::Version>> seen;
  for (size_t i = 0; i < scenario.fleets.size(); ++i) {
    const auto& fleet = scenario.fleets[i];
    if (!seen.insert({fleet.transport, fleet.tls.on(), fleet.tls.version}).second) continue;
    const auto& link = links.targets[i];
    const net::StreamTarget target{.endpoint = link.endpoint,
                                   .tls = link.tls,
                                   .server_name = link.verified_name(),
                                   .websocket_host = link.websocket_host.empty() ? link.host_name : link.websocket_host,
                                   .websocket_path = link.websocket_path,
                                   .source = link.sources.empty() ? net::Address{} : link.sources.front()};
    const bool socket = fleet.transport == TransportKind::mqtt, tls = fleet.tls.on();
    const auto result = socket ? (tls ? Probe<net::TlsStream>{}.run(target) : Probe<net::TcpStream>{}.run(target))
                               : (tls ? Probe<net::WsStream<net::TlsStream>>{}.run(target)
                                      : Probe<net::WsStream<net::TcpStream>>{}.run(target));
    if (result) continue;
    const auto* port = socket ? (tls ? "MQTT port (TLS)" : "MQTT port") : (tls ? "HTTPS port" : "HTTP port");
    return make_error(ErrorCode::unavailable,
                      fmt::format("cannot reach the hub's {} at {}:{} with {}: {}", port, hub.host,
                                  link.endpoint.port(), to_string(fleet.transport), result.error().message));
  }
  return {};
}

}  // namespace twinstorm::run
