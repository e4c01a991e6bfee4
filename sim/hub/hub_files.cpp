#include "sim/hub/hub_files.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace twinstorm::hub {
namespace {

/// An address every program of this machine can dial.
std::string dialable(const std::string& listen) {
  if (listen == "0.0.0.0") return "127.0.0.1";
  if (listen == "::") return "[::1]";
  return listen.find(':') == std::string::npos ? listen : fmt::format("[{}]", listen);
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
  if (ports.http != 0) json["httpPort"] = ports.http;
  if (ports.metrics != 0) json["metricsUrl"] = metrics_url(hub);
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value;
  };
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

std::string describe_for_people(const Hub& hub) {
  const HubPorts ports = hub.ports();
  const std::string host = dialable(hub.config().listen);
  std::string out =
      fmt::format("Hub {} with {} thread{}\n", hub.config().host_name, hub.threads(), hub.threads() == 1 ? "" : "s");
  const auto line = [&](const char* label, const std::string& text) { out += fmt::format("  {:<9}{}\n", label, text); };
  if (ports.mqtt != 0) line("MQTT", fmt::format("{}:{}", host, ports.mqtt));
  if (ports.http != 0) line("HTTP", fmt::format("http://{}:{}", host, ports.http));
  if (ports.metrics != 0) line("metrics", metrics_url(hub));
  out += "Connection strings\n";
  for (const Policy& policy : hub.config().policies)
    out += fmt::format("  {}\n", hub.policy_connection_string(policy.name));
  return out;
}

}  // namespace twinstorm::hub
