#include "sim/hub/hub.hpp"

#include <algorithm>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <sys/resource.h>

#include "sim/base/log.hpp"
#include "sim/base/units.hpp"
#include "sim/hub/dev_certificates.hpp"
#include "sim/hub/frontends/http/http_connection.hpp"
#include "sim/hub/frontends/mqtt/mqtt_connection.hpp"
#include "sim/hub/listener.hpp"
#include "sim/hub/metrics_endpoint.hpp"
#include "sim/hub/query/page.hpp"
#include "sim/hub/shard.hpp"
#include "sim/hub/store/import_file.hpp"
#include "sim/protocol/connection_string.hpp"

namespace twinstorm::hub {
namespace {

void adopt_mqtt(Shard& shard, net::TcpSocket socket, bool) {
  shard.adopt(std::make_unique<MqttConnection>(shard, Channel{std::move(socket)}));
}

void adopt_http(Shard& shard, net::TcpSocket socket, bool loopback) {
  shard.adopt(std::make_unique<HttpConnection>(shard, Channel{std::move(socket)}, loopback));
}

/// Nothing when OpenSSL has no memory for another session; the socket is closed then.
std::optional<Channel> secure(Shard& shard, net::TcpSocket socket) {
  auto tls = net::TlsSession::server(*shard.shared().tls, socket.native_handle());
  if (!tls) {
    log::warning("cannot serve a TLS connection: {}", tls.error().message);
    return std::nullopt;
  }
  return Channel{std::move(socket), std::move(*tls)};
}

void adopt_mqtts(Shard& shard, net::TcpSocket socket, bool) {
  if (auto channel = secure(shard, std::move(socket))) {
    shard.adopt(std::make_unique<MqttConnection>(shard, std::move(*channel)));
  }
}

void adopt_https(Shard& shard, net::TcpSocket socket, bool loopback) {
  if (auto channel = secure(shard, std::move(socket))) {
    shard.adopt(std::make_unique<HttpConnection>(shard, std::move(*channel), loopback));
  }
}

unsigned default_threads() { return std::max(1U, std::thread::hardware_concurrency() / 2); }

/// One descriptor a device: the usual soft limit of 1,024 would end a fleet early.
void raise_descriptor_limit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == files.rlim_max) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

Result<void> check(const HubConfig& config) {
  constexpr unsigned kThreadsMax = 256;
  if (config.threads > kThreadsMax) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("{} hub threads are more than {}", config.threads, kThreadsMax));
  }
  if (config.query_page_max < 1 || config.query_page_max > query::kMaxPageSize) {
    return make_error(ErrorCode::invalid_argument, fmt::format("the maximum query page size, {}, must be 1 to {}",
                                                               config.query_page_max, query::kMaxPageSize));
  }
  if (config.query_page_default < 1 || config.query_page_default > config.query_page_max) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("the default query page size, {}, must be 1 to the maximum, {}",
                                  config.query_page_default, config.query_page_max));
  }
  if (config.configuration_interval <= Nanos::zero()) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("the time between two evaluations of configurations, {}, must be more than 0s",
                                  exact_duration(config.configuration_interval)));
  }
  if (config.tier) {
    if (auto valid = check_units(*config.tier, config.units); !valid) return valid.error();
  }
  if (config.server_certificate_file.empty() != config.server_key_file.empty()) {
    return make_error(ErrorCode::invalid_argument,
                      "an own server certificate needs both: --tls-cert FILE and --tls-key FILE");
  }
  return {};
}

}  // namespace

struct Hub::Impl {
  HubConfig config;
  SteadyClock machine_clock;
  std::optional<AccessControl> access;
  HubShared shared;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::unique_ptr<MetricsEndpoint> metrics;
  HubPorts ports;
  std::string authority_file;
  size_t next_shard = 0;
  std::mutex stop_mutex;
  bool stopped = false;

  Result<void> prepare();
  Result<void> prepare_tls();
  Result<void> listen();
  Result<void> import_devices();
  void run();
  void stop();
};

Result<void> Hub::Impl::prepare() {
  if (auto valid = check(config); !valid) return valid.error();
  if (config.threads == 0) config.threads = default_threads();
  config.policies = with_keys(std::move(config.policies));
  auto issuers = trusted_issuers(config);
  if (!issuers) return issuers.error();
  auto made = AccessControl::make(config, std::move(*issuers));
  if (!made) return made.error();
  access = std::move(*made);
  shared.config = &config;
  shared.access = &*access;
  shared.clock = config.clock != nullptr ? config.clock.get() : &machine_clock;
  shared.token_key = generate_key();
  if (config.tier) shared.policy = std::make_unique<TierPolicy>(*config.tier, config.units, !config.tier_on_request);
  if (!config.faults.none()) shared.faults = std::make_unique<PlantedFaults>(config.faults);
  for (unsigned i = 0; i < config.threads; ++i) {
    shared.shards.push_back(std::make_unique<Shard>(static_cast<ShardId>(i), shared));
    if (!config.query_staleness.is_zero()) {
      shared.shards.back()->store().lag_queries(config.query_staleness, *shared.clock, i);
    }
  }
  return {};
}

Result<void> Hub::Impl::prepare_tls() {
  if (!config.mqtts_port && !config.https_port) return {};
  net::TlsServerConfig tls;
  if (!config.server_certificate_file.empty()) {
    auto own = read_own_certificate(config.server_certificate_file, config.server_key_file);
    if (!own) return own.error();
    tls.identity = std::move(*own);
  } else {
    if (config.data_folder.empty()) {
      return make_error(ErrorCode::invalid_argument,
                        "TLS ports need a data folder for their certificates (--data), an own certificate (--tls-cert, "
                        "--tls-key), or to be switched off (--mqtts-port off --https-port off)");
    }
    std::vector<std::string> names;
    const auto add = [&names](const std::string& name) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    };
    for (const char* local : {"localhost", "127.0.0.1", "::1"}) add(local);
    add(config.host_name);
    for (const auto* further : {&config.host_aliases, &config.tls_names}) {
      std::for_each(further->begin(), further->end(), add);
    }
    if (config.listen != "0.0.0.0" && config.listen != "::") add(config.listen);
    auto prepared = prepare_dev_certificates(config.data_folder, names, shared.clock->wall());
    if (!prepared) return prepared.error();
    authority_file = prepared->authority_file.string();
    tls.identity = std::move(prepared->server);
  }
  auto context = net::TlsContext::server(tls);
  if (!context) {
    const std::string& file = config.server_certificate_file;
    return file.empty() ? context.error()
                        : make_error(context.error().code,
                                     fmt::format("the server certificate '{}' with the key '{}' cannot be used: {}",
                                                 file, config.server_key_file, context.error().message));
  }
  shared.tls = std::move(*context);
  return {};
}

Result<void> Hub::Impl::import_devices() {
  if (config.import_file.empty()) return {};
  auto imported = read_import_file(config.import_file, shared.clock->wall());
  if (!imported) return imported.error();
  if (shared.policy != nullptr) {
    const size_t identities = imported->devices.size() + imported->modules.size();
    const TierLimits& limits = shared.policy->limits();
    if (identities > limits.identities_max) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("'{}' has {} devices and modules, tier {} allows {}: give another tier",
                                    config.import_file, identities, to_string(limits.tier), limits.identities_max));
    }
    shared.policy->add_identities(identities);
  }
  for (DeviceRecord& record : imported->devices) {
    Shard& owner = shared.owner_of(record.twin.device_id);
    owner.store().devices.insert(std::move(record));
    owner.counts().add(&HubCounts::registered_devices);
  }
  for (DeviceRecord& record : imported->modules) {
    shared.owner_of(record.twin.device_id).store().modules.insert(std::move(record));
  }
  for (const auto& shard : shared.shards) {
    shard->store().devices.settle();
    shard->store().modules.settle();
  }
  shared.shards.front()->store().device_jobs.import(std::move(imported->device_jobs));
  return {};
}

Result<void> Hub::Impl::listen() {
  Shard& first = *shared.shards.front();
  // MQTT connections move to the owner of their device at CONNECT, so the accepting shard keeps them until then. The
  // handshake of TLS and the requests of HTTP are work that every shard takes its share of.
  const Listener::Choose accepting = [&first]() -> Shard& { return first; };
  const Listener::Choose in_turn = [this]() -> Shard& { return *shared.shards[next_shard++ % shared.shards.size()]; };
  struct Endpoint {
    const char* purpose;
    const char* flag;
    std::optional<uint16_t> wanted;
    uint16_t& bound;
    const Listener::Choose& choose;
    Listener::Adopt adopt;
  };
  for (const Endpoint& endpoint :
       {Endpoint{"MQTT", "--mqtt-port", config.mqtt_port, ports.mqtt, accepting, adopt_mqtt},
        Endpoint{"MQTT over TLS", "--mqtts-port", config.mqtts_port, ports.mqtts, in_turn, adopt_mqtts},
        Endpoint{"HTTP", "--http-port", config.http_port, ports.http, in_turn, adopt_http},
        Endpoint{"HTTPS", "--https-port", config.https_port, ports.https, in_turn, adopt_https}}) {
    if (!endpoint.wanted) continue;
    auto listener = std::make_unique<Listener>(first, endpoint.choose, endpoint.adopt);
    if (auto opened = listener->open(config.listen, *endpoint.wanted, endpoint.purpose, endpoint.flag); !opened) {
      return opened.error();
    }
    endpoint.bound = listener->port();
    listeners.push_back(std::move(listener));
  }
  if (!config.metrics_listen.empty()) {
    MetricsEndpoint::ReadTier read_tier;
    if (shared.policy != nullptr) read_tier = [this] { return shared.policy->figures(shared.clock->wall()); };
    auto endpoint = MetricsEndpoint::start(
        config.metrics_listen, [this] { return shared.counts(); }, std::move(read_tier));
    if (!endpoint) return endpoint.error();
    metrics = std::move(*endpoint);
    ports.metrics = metrics->port();
  }
  return {};
}

void Hub::Impl::run() {
  for (const auto& listener : listeners) listener->start();
  for (const auto& shard : shared.shards) shard->start_thread();
}

void Hub::Impl::stop() {
  const std::lock_guard lock{stop_mutex};
  if (std::exchange(stopped, true)) return;
  shared.serving = false;
  metrics.reset();
  for (const auto& shard : shared.shards) shard->request_stop();
  for (const auto& shard : shared.shards) shard->join();
  // No thread of ours runs any more, so everything may be touched from here.
  for (const auto& listener : listeners) listener->close();
  for (const auto& shard : shared.shards) shard->close_all();
}

Hub::Hub(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Hub::~Hub() { stop(); }

Result<std::unique_ptr<Hub>> Hub::start(HubConfig config) {
  auto impl = std::make_unique<Impl>();
  impl->config = std::move(config);
  if (auto prepared = impl->prepare(); !prepared) return prepared.error();
  if (auto secured = impl->prepare_tls(); !secured) return secured.error();
  if (auto imported = impl->import_devices(); !imported) return imported.error();
  if (auto listening = impl->listen(); !listening) return listening.error();
  raise_descriptor_limit();
  impl->run();
  return std::unique_ptr<Hub>{new Hub{std::move(impl)}};
}

void Hub::stop() { impl_->stop(); }
HubPorts Hub::ports() const { return impl_->ports; }
unsigned Hub::threads() const { return impl_->config.threads; }
const HubConfig& Hub::config() const { return impl_->config; }
const std::string& Hub::authority_file() const { return impl_->authority_file; }
HubCounts Hub::counts() const { return impl_->shared.counts(); }

std::string Hub::policy_connection_string(std::string_view policy) const {
  for (const Policy& known : impl_->config.policies) {
    if (known.name != policy) continue;
    protocol::ConnectionString text;
    text.host_name = impl_->config.host_name;
    text.shared_access_key_name = known.name;
    text.shared_access_key = known.primary_key;
    return protocol::format_connection_string(text);
  }
  return {};
}

std::string Hub::owner_connection_string() const { return policy_connection_string("iothubowner"); }
std::string Hub::service_connection_string() const { return policy_connection_string("service"); }

}  // namespace twinstorm::hub
