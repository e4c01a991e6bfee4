#include "sim/hub/hub.hpp"

#include <algorithm>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <sys/resource.h>

#include "sim/hub/frontends/http/http_connection.hpp"
#include "sim/hub/frontends/mqtt/mqtt_connection.hpp"
#include "sim/hub/listener.hpp"
#include "sim/hub/metrics_endpoint.hpp"
#include "sim/hub/shard.hpp"
#include "sim/hub/store/import_file.hpp"
#include "sim/protocol/connection_string.hpp"

namespace twinstorm::hub {
namespace {

void adopt_mqtt(Shard& shard, net::TcpSocket socket, bool) {
  shard.adopt(std::make_unique<MqttConnection>(shard, std::move(socket)));
}

void adopt_http(Shard& shard, net::TcpSocket socket, bool loopback) {
  shard.adopt(std::make_unique<HttpConnection>(shard, std::move(socket), loopback));
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
  if (config.query_page_default < 1 || config.query_page_default > config.query_page_max) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("the default query page size, {}, must be 1 to the maximum, {}",
                                  config.query_page_default, config.query_page_max));
  }
  return {};
}

}  // namespace

struct Hub::Impl {
  HubConfig config;
  SteadyClock machine_clock;
  std::optional<AccessControl> access;
  HubShared shared;
  std::optional<Listener> mqtt;
  std::optional<Listener> http;
  std::unique_ptr<MetricsEndpoint> metrics;
  HubPorts ports;
  std::string authority_file;
  size_t next_http_shard = 0;
  std::mutex stop_mutex;
  bool stopped = false;

  Result<void> prepare();
  Result<void> listen();
  Result<void> import_devices();
  void run();
  void stop();
};

Result<void> Hub::Impl::prepare() {
  if (auto valid = check(config); !valid) return valid.error();
  if (config.threads == 0) config.threads = default_threads();
  config.policies = with_keys(std::move(config.policies));
  auto made = AccessControl::make(config);
  if (!made) return made.error();
  access = std::move(*made);
  shared.config = &config;
  shared.access = &*access;
  shared.clock = config.clock != nullptr ? config.clock.get() : &machine_clock;
  shared.token_key = generate_key();
  for (unsigned i = 0; i < config.threads; ++i) {
    shared.shards.push_back(std::make_unique<Shard>(static_cast<ShardId>(i), shared));
  }
  return {};
}

Result<void> Hub::Impl::import_devices() {
  if (config.import_file.empty()) return {};
  auto imported = read_import_file(config.import_file, shared.clock->wall());
  if (!imported) return imported.error();
  for (DeviceRecord& record : imported->devices) {
    Shard& owner = shared.owner_of(record.twin.device_id);
    owner.store().devices.insert(std::move(record));
    owner.counts().add(&HubCounts::registered_devices);
  }
  for (DeviceRecord& record : imported->modules) {
    shared.owner_of(record.twin.device_id).store().modules.insert(std::move(record));
  }
  shared.shards.front()->store().device_jobs = std::move(imported->device_jobs);
  return {};
}

Result<void> Hub::Impl::listen() {
  Shard& first = *shared.shards.front();
  if (config.mqtt_port) {
    mqtt.emplace(
        first, [&first]() -> Shard& { return first; }, adopt_mqtt);
    if (auto opened = mqtt->open(config.listen, *config.mqtt_port, "MQTT", "--mqtt-port"); !opened)
      return opened.error();
    ports.mqtt = mqtt->port();
  }
  if (config.http_port) {
    const auto in_turn = [this]() -> Shard& { return *shared.shards[next_http_shard++ % shared.shards.size()]; };
    http.emplace(first, in_turn, adopt_http);
    if (auto opened = http->open(config.listen, *config.http_port, "HTTP", "--http-port"); !opened)
      return opened.error();
    ports.http = http->port();
  }
  if (!config.metrics_listen.empty()) {
    auto endpoint = MetricsEndpoint::start(config.metrics_listen, [this] { return shared.counts(); });
    if (!endpoint) return endpoint.error();
    metrics = std::move(*endpoint);
    ports.metrics = metrics->port();
  }
  return {};
}

void Hub::Impl::run() {
  if (mqtt) mqtt->start();
  if (http) http->start();
  for (const auto& shard : shared.shards) shard->start_thread();
}

void Hub::Impl::stop() {
  const std::lock_guard lock{stop_mutex};
  if (std::exchange(stopped, true)) return;
  metrics.reset();
  for (const auto& shard : shared.shards) shard->request_stop();
  for (const auto& shard : shared.shards) shard->join();
  // No thread of ours runs any more, so everything may be touched from here.
  if (mqtt) mqtt->close();
  if (http) http->close();
  for (const auto& shard : shared.shards) shard->close_all();
}

Hub::Hub(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Hub::~Hub() { stop(); }

Result<std::unique_ptr<Hub>> Hub::start(HubConfig config) {
  auto impl = std::make_unique<Impl>();
  impl->config = std::move(config);
  if (auto prepared = impl->prepare(); !prepared) return prepared.error();
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
