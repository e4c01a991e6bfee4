// What one message costs the hub beyond the system calls: a session and a twin, no socket.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/frontends/mqtt/mqtt_session.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::hub {
namespace {

struct NullPort final : MqttPort {
  void write(std::string_view bytes) override { benchmark::DoNotOptimize(written += bytes.size()); }
  void end() override {}
  void wake_at(MonoTime) override {}
  void stop_reading() override {}
  size_t written = 0;
};

struct Bench {
  Bench() {
    config.check_sas = false;
    config.policies = with_keys(default_policies());
    access.emplace(*AccessControl::make(config));
    shared.config = &config;
    shared.access = &*access;
    shared.clock = &clock;
    shared.shards.push_back(std::make_unique<Shard>(ShardId{0}, shared));
    record = *register_device(shard(), "therm-00001", {}, {}, clock.wall());
    mqtt::Connect connect;
    connect.client_id = "therm-00001";
    connect.user_name = "localhost/therm-00001/?api-version=2021-04-12";
    connect.clean_session = true;
    session.emplace(shard(), port, connect, decide_connect(connect, nullptr, shard()));
    record->subscriptions = kTwinResponses | kDesired;
  }
  Shard& shard() { return *shared.shards.front(); }

  HubConfig config;
  std::optional<AccessControl> access;
  SteadyClock clock;
  HubShared shared;
  NullPort port;
  DeviceRecord* record;
  std::optional<MqttSession> session;
};

void reported_patch(benchmark::State& state) {
  Bench bench;
  std::string packet;
  mqtt::encode_publish(
      packet, "$iothub/twin/PATCH/properties/reported/?$rid=123456",
      R"({"climate":{"minTemperature":64.5,"maxTemperature":75.25,"hvac":{"systemControl":true}},"battery":87})");
  for (auto _ : state) bench.session->feed(packet);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(reported_patch);

void telemetry(benchmark::State& state) {
  Bench bench;
  std::string packet;
  mqtt::encode_publish(packet, "devices/therm-00001/messages/events/", std::string(256, 'x'), mqtt::Qos::at_least_once,
                       7);
  for (auto _ : state) bench.session->feed(packet);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(telemetry);

void desired_patch_with_notification(benchmark::State& state) {
  Bench bench;
  ServiceCall call;
  call.route = *protocol::parse_service_route("PATCH", "/twins/therm-00001?api-version=2021-04-12");
  call.body = R"({"properties":{"desired":{"climate":{"minTemperature":64.5,"hvac":{"systemControl":true}}}}})";
  for (auto _ : state) benchmark::DoNotOptimize(serve_device(call, bench.shard()));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(desired_patch_with_notification);

void service_twin_read(benchmark::State& state) {
  Bench bench;
  ServiceCall call;
  call.route = *protocol::parse_service_route("GET", "/twins/therm-00001?api-version=2021-04-12");
  for (auto _ : state) benchmark::DoNotOptimize(serve_device(call, bench.shard()));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(service_twin_read);

}  // namespace
}  // namespace twinstorm::hub
