#include "sim/hub/hub_files.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"

namespace twinstorm::hub {
namespace {

constexpr uint16_t kHttpsPort = 443;
constexpr uint16_t kMqttsPort = 8883;
constexpr Nanos kTokenLifetime = std::chrono::hours{24};
constexpr const char* kWebSocketPath = "/$iothub/websocket";

/// An address every program of this machine can dial.
std::string dialable(const std::string& listen) {
  if (listen == "0.0.0.0") return "127.0.0.1";
  if (listen == "::") return "[::1]";
  return listen.find(':') == std::string::npos ? listen : fmt::format("[{}]", listen);
}

/// As one word of a POSIX shell.
std::string shell_quoted(const std::string& text) {
  if (text.find_first_of(" \t\n'\"\\$`&|;<>()*?[]#~!{}") == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return out + "'";
}

/// Empty when there is no policy `iothubowner`.
std::string owner_token(const Hub& hub, WallTime expiry) {
  const auto owner = protocol::parse_connection_string(hub.owner_connection_string());
  if (!owner) return {};
  const auto key = protocol::base64_decode(owner->shared_access_key);
  if (!key) return {};
  return protocol::make_sas_token(owner->host_name, *key, unix_seconds(expiry), owner->shared_access_key_name);
}

std::string metrics_url(const Hub& hub) {
  const std::string& where = hub.config().metrics_listen;
  return fmt::format("http://{}:{}/metrics", dialable(where.substr(0, where.rfind(':'))), hub.ports().metrics);
}

Error io_error(const std::filesystem::path& path, const char* doing) {
  return make_error(ErrorCode::io,
                    fmt::format("cannot {} the ready file '{}': {}", doing, path.string(), std::strerror(errno)));
}

}  // namespace

std::string ready_json(const Hub& hub) {
  const HubPorts ports = hub.ports();
  nlohmann::ordered_json json{{"pid", getpid()}, {"hostName", hub.config().host_name}, {"listen", hub.config().listen}};
  if (ports.mqtt != 0) json["mqttPort"] = ports.mqtt;
  if (ports.mqtts != 0) json["mqttsPort"] = ports.mqtts;
  if (ports.http != 0) json["httpPort"] = ports.http;
  if (ports.https != 0) json["httpsPort"] = ports.https;
  if (ports.metrics != 0) json["metricsUrl"] = metrics_url(hub);
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value;
  };
  add("caFile", hub.authority_file());
  add("ownerConnectionString", hub.owner_connection_string());
  add("serviceConnectionString", hub.service_connection_string());
  return json.dump(2) + "\n";
}

Result<void> write_ready_file(const std::filesystem::path& path, const Hub& hub) {
  const std::string text = ready_json(hub);
  std::filesystem::path draft = path;
  draft += fmt::format(".{}.tmp", getpid());
  const int file = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return io_error(draft, "create");
  const ssize_t written = write(file, text.data(), text.size());
  const bool complete = written == static_cast<ssize_t>(text.size());
  if (close(file) != 0 || !complete || rename(draft.c_str(), path.c_str()) != 0) {
    const Error error = io_error(path, "write");
    unlink(draft.c_str());
    return error;
  }
  return {};
}

std::string describe_for_people(const Hub& hub, WallTime now) {
  const HubPorts ports = hub.ports();
  const std::string host = dialable(hub.config().listen);
  std::string out =
      fmt::format("Hub {} with {} thread{}\n", hub.config().host_name, hub.threads(), hub.threads() == 1 ? "" : "s");
  const auto line = [&](const char* label, const std::string& text) {
    out += fmt::format("  {:<18}{}\n", label, text);
  };
  if (ports.mqtts != 0) line("MQTT over TLS", fmt::format("{}:{}", host, ports.mqtts));
  if (ports.mqtt != 0) line("MQTT", fmt::format("{}:{}", host, ports.mqtt));
  if (ports.https != 0) {
    line("HTTPS", fmt::format("https://{}:{}", host, ports.https));
    line("MQTT on WebSocket", fmt::format("wss://{}:{}{}", host, ports.https, kWebSocketPath));
  }
  if (ports.http != 0) {
    line("HTTP", fmt::format("http://{}:{}", host, ports.http));
    line("MQTT on WebSocket", fmt::format("ws://{}:{}{}", host, ports.http, kWebSocketPath));
  }
  if (ports.metrics != 0) line("metrics", metrics_url(hub));

  if (const std::string& authority = hub.authority_file(); !authority.empty()) {
    out += fmt::format("\nClients must trust the development CA {}\n", authority);
    line("Node.js", fmt::format("NODE_EXTRA_CA_CERTS={} node app.js", shell_quoted(authority)));
    line("a device client", fmt::format("client.setOptions({{ ca: '{}' }})", authority));
    if (ports.https != 0) {
      line("curl",
           fmt::format("curl --cacert {} https://{}:{}/twinstorm/health", shell_quoted(authority), host, ports.https));
    }
    if (ports.https != 0 && ports.https != kHttpsPort) {
      out += fmt::format(
          "  Azure SDKs dial port {} for HTTPS and WebSocket: use --https-port {}, or give them an agent.\n",
          kHttpsPort, kHttpsPort);
    }
  }

  out += "\nConnection strings for services\n";
  for (const Policy& policy : hub.config().policies)
    line(policy.name.c_str(), hub.policy_connection_string(policy.name));

  const std::string token = owner_token(hub, now + kTokenLifetime);
  if ((ports.http != 0 || ports.https != 0) && !token.empty()) {
    const bool secure = ports.https != 0;
    const std::string& authority = hub.authority_file();
    const std::string trust = secure && !authority.empty() ? fmt::format(" --cacert {}", shell_quoted(authority)) : "";
    const uint16_t mqtt_port = ports.mqtts != 0 ? ports.mqtts : ports.mqtt;
    out += "\nTo make a device (the token is good for a day; it goes by standard input, out of sight of ps)\n";
    out += fmt::format(
        "  curl -sS{} -X PUT '{}://{}:{}/devices/dev1?api-version=2021-04-12' -H @- -d '{{\"deviceId\":\"dev1\"}}' <<< "
        "'Authorization: {}'\n",
        trust, secure ? "https" : "http", host, secure ? ports.https : ports.http, token);
    out += fmt::format(
        "and to connect it, with the primaryKey of the answer\n  HostName={}{};DeviceId=dev1;SharedAccessKey=...\n",
        hub.config().host_name, mqtt_port == kMqttsPort || mqtt_port == 0 ? "" : fmt::format(":{}", mqtt_port));
  }
  return out;
}

}  // namespace twinstorm::hub
