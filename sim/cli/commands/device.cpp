#include <algorithm>
#include <deque>
#include <ostream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/base/units.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/message_bag.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"

namespace twinstorm::cli {
namespace {

using Json = nlohmann::ordered_json;
using transport::Subscriptions;

constexpr Nanos kPatience = std::chrono::seconds{30};  // for each answer of the hub
constexpr Nanos kTokenLifetime = std::chrono::hours{1};
constexpr Nanos kFirstWait = std::chrono::seconds{1}, kLongestWait = std::chrono::seconds{30};
constexpr auto kTurn = std::chrono::milliseconds{20};
constexpr uint16_t kKeepAliveSeconds = 180;
constexpr uint32_t kTwinRequest = 1;  // reports are numbered behind it

/// Who the device is and how it proves that.
struct Credentials {
  std::string host_name;  ///< as the protocol names the hub; may carry a port
  std::string device_id, module_id;
  std::string key;        ///< decoded; empty: `signature` or a certificate
  std::string signature;  ///< a token made elsewhere
  std::string dial_host;  ///< host to connect to, without port
  uint16_t port = 0;      ///< in the connection string; 0 = none
};

Error usage(std::string message) { return make_error(ErrorCode::invalid_argument, std::move(message)); }

Result<Credentials> from_connection_string(const std::string& text) {
  const auto parsed = protocol::parse_connection_string(text);
  if (!parsed) return parsed.error();
  if (parsed->device_id.empty()) {
    return usage(
        "the connection string names no device: it needs DeviceId and SharedAccessKey, as the hub shows them for a "
        "device");
  }
  const auto& dialled = parsed->gateway_host_name.empty() ? parsed->host_name : parsed->gateway_host_name;
  const auto host = protocol::split_host_port(dialled, 0);
  if (!host) return host.error();
  Credentials credentials{.host_name = parsed->host_name,
                          .device_id = parsed->device_id,
                          .module_id = parsed->module_id,
                          .key = {},
                          .signature = parsed->shared_access_signature,
                          .dial_host = std::string{host->host},
                          .port = host->port};
  if (!parsed->shared_access_key.empty()) {
    auto key = protocol::base64_decode(parsed->shared_access_key);
    if (!key) return key.error();
    credentials.key = std::move(*key);
  }
  return credentials;
}

/// The device's own key, asked from the hub with the rights of its ready file.
Result<Credentials> from_ready_file(const DeviceCommand& command, const run::HubAddress& address,
                                    Environment& environment) {
  auto rest = RestClient::connect(command.hub, address.service_connection_string, 0, 0, environment);
  if (!rest) return rest.error();
  const auto target = protocol::service_target::device(command.device_id);
  const auto what = fmt::format("cannot look up the device \"{}\"", command.device_id);
  RestRequest request{
      .method = "GET", .target = target, .body = {}, .if_match = {}, .continuation = {}, .page_size = 0};
  auto answer = rest->call(request);
  if (answer && answer->status == 404) {
    if (!command.create) {
      return make_error(
          ErrorCode::not_found,
          fmt::format("the hub does not know the device \"{}\": --create registers it", command.device_id));
    }
    request.method = "PUT";
    request.body = Json{{"deviceId", command.device_id}}.dump();
  }
  answer = rest->must(what, request);
  if (!answer) return answer.error();
  const auto device = nlohmann::json::parse(answer->body, nullptr, false);
  const nlohmann::json::json_pointer at{"/authentication/symmetricKey/primaryKey"};
  auto key = protocol::base64_decode(device.is_object() && device.contains(at) && device[at].is_string()
                                         ? device[at].get<std::string>()
                                         : std::string{});
  if (!key || key->empty()) {
    return make_error(
        ErrorCode::unauthorized,
        fmt::format("the device \"{}\" has no key of its own (X.509?): give its connection string", command.device_id));
  }
  return Credentials{.host_name = address.host_name,
                     .device_id = command.device_id,
                     .module_id = {},
                     .key = std::move(*key),
                     .signature = {},
                     .dial_host = address.host,
                     .port = 0};
}

/// What happens to a device, one entry each: readable, or one JSON line.
class Journal {
 public:
  Journal(std::ostream& out, bool json, const Clock& clock) : out_{out}, json_{json}, clock_{clock} {}
  void note(const char* event, const std::string& text, Json members) {
    if (json_) {
      Json line{{"time", format_iso8601(clock_.wall())}, {"event", event}};
      line.update(members);
      out_ << line.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
    } else {
      out_ << (text.starts_with('\n') ? event + text : fmt::format("{:<13}{}", event, text)) << std::endl;
    }
  }

 private:
  std::ostream& out_;
  bool json_;
  const Clock& clock_;
};

/// JSON as it is, anything else as a JSON string: what came in never reaches the terminal raw.
Json as_json(std::string_view bytes) {
  if (bytes.empty()) return nullptr;
  Json json = Json::parse(bytes, nullptr, false);
  return json.is_discarded() ? Json(std::string{bytes}) : json;
}
std::string one_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

const char* reason_of(transport::DisconnectReason reason) {
  switch (reason) {
    case transport::DisconnectReason::hub_closed:
      return "the hub closed the connection";
    case transport::DisconnectReason::keep_alive:
      return "the hub did not answer the keep-alive";
    case transport::DisconnectReason::protocol:
      return "the hub's bytes made no sense";
    case transport::DisconnectReason::io:
      return "the connection was lost";
  }
  return "";
}

/// One device by hand: twin, reports, then whatever the hub sends.
class DeviceClient final : private transport::TransportEvents {
 public:
  DeviceClient(const DeviceCommand& command, Credentials credentials, Dial dial, std::vector<std::string> reports,
               std::optional<net::CertifiedKey> certificate, Environment& environment)
      : credentials_{std::move(credentials)},
        dial_{std::move(dial)},
        reports_{std::move(reports)},
        certificate_{std::move(certificate)},
        watch_{command.watch || !command.length.empty()},
        environment_{environment},
        journal_{environment.out, command.json, clock_},
        link_{transport::make_mqtt_transport(transport::carrier(command.transport == "mqttws", dial_.tls.has_value()),
                                             io_, clock_, *this, 0)} {
    target_.endpoint = dial_.endpoint;
    target_.host_name = credentials_.host_name;
    target_.server_name = dial_.host;
    target_.websocket_host = credentials_.dial_host;
    target_.tls = dial_.tls ? &*dial_.tls : nullptr;
  }

  /// Until everything asked for is done, `length` has passed or a signal came; the exit code.
  int run(std::optional<Nanos> length) {
    const MonoTime end = length ? clock_.mono() + *length : MonoTime::max();
    dial();
    while (!result_) {
      const MonoTime now = clock_.mono();
      if (environment_.control.signals > 0) {
        result_ = watch_ ? exit_code::kPassed : 128 + environment_.control.last_signal;
      } else if (now >= end) {
        result_ = exit_code::kPassed;
      } else if (now >= deadline_) {
        on_deadline();
      } else {
        if (link_->next_deadline() <= now) link_->on_time(now);
        io_.context.restart();
        io_.context.run_one_for(kTurn);
      }
    }
    link_->disconnect();
    return *result_;
  }

 private:
  transport::DeviceName name() const { return {credentials_.device_id, credentials_.module_id}; }
  std::string path() const {
    return credentials_.device_id + (credentials_.module_id.empty() ? "" : "/" + credentials_.module_id);
  }
  void dial() {
    waiting_ = false;
    deadline_ = clock_.mono() + kPatience;
    link_->connect(target_, kPatience);
  }
  void on_deadline() {
    if (waiting_) return dial();
    link_->abort();
    stop(fmt::format("no answer from {} within {} s", dial_.where(), kPatience / std::chrono::seconds{1}));
  }
  void stop(const std::string& message) { result_ = fail(environment_, exit_code::kSetup, message); }
  void try_again(const std::string& message) {
    environment_.err << fmt::format("twinstorm: {}; next attempt in {} s\n", message, wait_ / std::chrono::seconds{1})
                     << std::flush;
    waiting_ = true;
    deadline_ = clock_.mono() + wait_;
    wait_ = std::min(2 * wait_, kLongestWait);
  }
  /// Sends the next report, or is done.
  void report_next() {
    if (next_report_ == reports_.size()) {
      deadline_ = MonoTime::max();
      if (!watch_) result_ = refused_ ? exit_code::kSetup : exit_code::kPassed;
      return;
    }
    deadline_ = clock_.mono() + kPatience;
    if (link_->report(kTwinRequest + 1 + static_cast<uint32_t>(next_report_), reports_[next_report_]) !=
        transport::Sent::ok) {
      stop("the report cannot be sent: the connection does not take it");
    }
  }

  void identify(transport::LocalDevice, transport::Identity& identity) override {
    identity.client_id = path();
    identity.user_name =
        protocol::format_mqtt_user_name({.host_name = credentials_.host_name,
                                         .device_id = credentials_.device_id,
                                         .module_id = credentials_.module_id,
                                         .api_version = std::string{protocol::kApiVersion},
                                         .model_id = {},
                                         .device_client_type = fmt::format("twinstorm/{} (device)", version())});
    identity.keep_alive_seconds = kKeepAliveSeconds;
    if (credentials_.key.empty()) {
      identity.password = credentials_.signature;
      return;
    }
    std::string resource = credentials_.host_name + "/devices/" + credentials_.device_id;
    if (!credentials_.module_id.empty()) resource += "/modules/" + credentials_.module_id;
    identity.password =
        protocol::make_sas_token(resource, credentials_.key, unix_seconds(clock_.wall() + kTokenLifetime));
  }
  const net::CertifiedKey* client_certificate(transport::LocalDevice) override {
    return certificate_ ? &*certificate_ : nullptr;
  }
  void on_connected(transport::LocalDevice, bool session_present) override {
    wait_ = kFirstWait;
    connected_before_ = true;
    deadline_ = clock_.mono() + kPatience;
    journal_.note("connected", fmt::format("to {}{} as {}", dial_.where(), dial_.tls ? " over TLS" : "", path()),
                  {{"host", dial_.where()}, {"device", path()}, {"sessionPresent", session_present}});
    auto set = Subscriptions::twin | Subscriptions::methods;
    if (credentials_.module_id.empty()) set = set | Subscriptions::devicebound;
    link_->subscribe(set, name());
  }
  void on_connect_refused(transport::LocalDevice, transport::ConnectRefusal refusal) override {
    const auto text = fmt::format("cannot connect to {} as \"{}\": {}", dial_.where(), path(), link_->refusal_text());
    const bool final =
        refusal == transport::ConnectRefusal::unauthorized || refusal == transport::ConnectRefusal::untrusted;
    connected_before_ && !final ? try_again(text) : stop(text);
  }
  void on_subscribed(transport::LocalDevice, bool granted) override {
    if (!granted) return stop("the hub refused a subscription");
    link_->get_twin(kTwinRequest);
  }
  void on_twin_response(transport::LocalDevice, const transport::TwinResponse& response) override {
    const Json body = as_json(response.body);
    if (response.request == kTwinRequest) {
      if (response.status != 200) {
        return stop(
            fmt::format("the hub answered {} to the request for the twin: {}", response.status, one_line(body)));
      }
      journal_.note("twin", "\n" + body.dump(2, ' ', false, Json::error_handler_t::replace), {{"twin", body}});
      return report_next();
    }
    if (response.status == 204 || response.status == 200) {
      journal_.note("reported", fmt::format("version {}", response.version.value_or(0)),
                    {{"version", response.version.value_or(0)}});
    } else {
      refused_ = true;
      environment_.err << fmt::format("twinstorm: the hub answered {} to report {}: {}\n", response.status,
                                      next_report_ + 1, one_line(body));
    }
    ++next_report_;
    report_next();
  }
  void on_desired(transport::LocalDevice, int64_t at, std::string_view patch) override {
    const Json body = as_json(patch);
    journal_.note("desired", fmt::format("version {}  {}", at, one_line(body)), {{"version", at}, {"patch", body}});
  }
  void on_method(transport::LocalDevice, std::string_view method, std::string_view rid,
                 std::string_view payload) override {
    const std::string echo{payload.empty() ? "null" : payload};
    link_->send_method_response(rid, 200, echo);
    const Json body = as_json(payload);
    journal_.note("method",
                  fmt::format("{} {}  answered 200 with the same", one_line(std::string{method}), one_line(body)),
                  {{"name", std::string{method}}, {"payload", body}, {"status", 200}});
  }
  void on_message(transport::LocalDevice, std::string_view bag, std::string_view payload) override {
    Json properties = Json::object();
    if (const auto parsed = protocol::decode_property_bag(bag)) {
      for (const auto& [key, value] : *parsed) properties[key] = value ? Json(*value) : Json(nullptr);
    }
    const Json body = std::string{payload};
    journal_.note("message", fmt::format("{}  {}", one_line(body), one_line(properties)),
                  {{"body", body}, {"properties", properties}});
  }
  void on_telemetry_acknowledged(transport::LocalDevice, uint16_t) override {}
  void on_disconnected(transport::LocalDevice, transport::DisconnectReason reason) override {
    journal_.note("disconnected", reason_of(reason), {{"reason", reason_of(reason)}});
    watch_ ? try_again(reason_of(reason)) : stop(reason_of(reason));
  }

  const Credentials credentials_;
  const Dial dial_;
  const std::vector<std::string> reports_;
  const std::optional<net::CertifiedKey> certificate_;
  const bool watch_;
  Environment& environment_;
  const SteadyClock clock_;
  Journal journal_;
  net::ShardIo io_;
  const std::unique_ptr<transport::DeviceTransport> link_;
  transport::LinkTarget target_;
  MonoTime deadline_ = MonoTime::max();  // of the present answer, or of the wait
  Nanos wait_ = kFirstWait;
  bool waiting_ = false, connected_before_ = false, refused_ = false;
  size_t next_report_ = 0;
  std::optional<int> result_;
};

Result<std::optional<net::CertifiedKey>> read_certificate(const DeviceCommand& command) {
  if (command.certificate.empty()) return std::optional<net::CertifiedKey>{};
  if (command.hub.no_tls) return usage("--cert needs TLS: leave --no-tls out");
  auto certificate = read_text_file("--cert", command.certificate);
  if (!certificate) return certificate.error();
  auto key = read_text_file("--key", command.key);
  if (!key) return key.error();
  return std::optional{net::CertifiedKey{std::move(*certificate), std::move(*key)}};
}

int prepare_and_run(const DeviceCommand& command, Environment& environment) {
  const auto ended = [&](const Error& error) {
    if (environment.control.signals > 0) return 128 + environment.control.last_signal;
    return fail(environment, exit_code_of(error), error.message);
  };
  std::vector<std::string> reports;
  for (const auto& text : command.reports) {
    auto report = read_json_object("--report", text, environment);
    if (!report) return ended(report.error());
    reports.push_back(std::move(*report));
  }
  std::optional<Nanos> length;
  if (!command.length.empty()) {
    const auto parsed = parse_duration(command.length);
    if (!parsed) return ended(usage("--for: " + parsed.error().message));
    length = *parsed;
  }
  auto certificate = read_certificate(command);
  if (!certificate) return ended(certificate.error());
  const auto hub = read_hub(command.hub);
  if (!hub) return ended(hub.error());

  const bool lookup = !command.device_id.empty();
  if (lookup && !*hub) return ended(usage("--device-id needs --ready-file: the key is asked from that hub"));
  auto credentials = [&]() -> Result<Credentials> {
    if (lookup) return from_ready_file(command, **hub, environment);
    const auto text =
        read_connection_string(command.hub, {"TWINSTORM_DEVICE_CONNECTION_STRING", "IOTHUB_DEVICE_CONNECTION_STRING"});
    if (!text) return text.error();
    return from_connection_string(*text);
  }();
  if (!credentials) return ended(credentials.error());
  if (credentials->key.empty() && credentials->signature.empty() && !*certificate) {
    return ended(usage("the connection string says x509=true: give the device's certificate with --cert and --key"));
  }

  const bool websocket = command.transport == "mqttws";
  DialPorts ports = websocket ? DialPorts{"HTTP", 80, 443} : DialPorts{"MQTT", 1883, 8883};
  if (*hub) {
    ports = websocket ? DialPorts{"HTTP", (*hub)->http_port, (*hub)->https_port}
                      : DialPorts{"MQTT", (*hub)->mqtt_port, (*hub)->mqtts_port};
  }
  uint16_t port = command.port;
  if (port == 0 && !*hub) port = credentials->port;
  auto dial = make_dial(command.hub, *hub, credentials->dial_host, port, ports);
  if (!dial) return ended(dial.error());
  DeviceClient client{
      command, std::move(*credentials), std::move(*dial), std::move(reports), std::move(*certificate), environment};
  return client.run(length);
}

}  // namespace

int device_command(const DeviceCommand& command, Environment& environment) {
  return prepare_and_run(command, environment);
}

}  // namespace twinstorm::cli
