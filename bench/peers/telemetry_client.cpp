// Publishes QoS 1 telemetry over a number of connections, each with one message open, and says what it cost:
//
//   telemetry_client native|paho PORT CLIENTS SECONDS      ->      {"acknowledged": N, "cpuSeconds": S, "seconds": S}
//
// CPU is user and system time of this process, every thread, after all are connected and half a second of warm-up. Run by
// telemetry.mjs.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <fmt/format.h>
#include <sys/resource.h>

#include "sim/net/shard_io.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"
#include "sim/transport/paho/paho_transport.hpp"

namespace twinstorm {
namespace {

using namespace std::chrono_literals;
using transport::LocalDevice;

constexpr uint32_t kConnectAtOnce = 50;

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

[[noreturn]] void give_up(std::string_view what) {
  fmt::print(stderr, "telemetry_client: {}\n", what);
  std::_Exit(2);
}

class Publishers final : public transport::TransportEvents {
 public:
  Publishers(bool paho, uint16_t port, uint32_t count) : payload_(256, 'x') {
    target_.endpoint = {boost::asio::ip::address_v4::loopback(), port};
    target_.host_name = "localhost";
    for (uint32_t i = 0; i < count; ++i) {
      if (paho) {
        links_.push_back(std::make_unique<transport::PahoTransport>(io_, *this, i, transport::PahoLink{}));
      } else {
        links_.push_back(
            transport::make_mqtt_transport(transport::carrier(false, false), io_, clock_, *this, i));
      }
    }
  }

  void connect_all() {
    for (uint32_t first = 0; first < links_.size(); first += kConnectAtOnce) {
      const auto last = std::min<uint32_t>(first + kConnectAtOnce, static_cast<uint32_t>(links_.size()));
      for (uint32_t i = first; i < last; ++i) links_[i]->connect(target_, 10s);
      for (const MonoTime end = clock_.mono() + 20s; connected_ < last;) {
        turn();
        if (clock_.mono() > end) give_up(fmt::format("only {} of {} are connected", connected_, links_.size()));
      }
    }
    for (LocalDevice i = 0; i < links_.size(); ++i) publish(i);
  }
  void turn_for(Nanos length) {
    for (const MonoTime end = clock_.mono() + length; clock_.mono() < end;) turn();
  }
  uint64_t acknowledged() const { return acknowledged_; }

 private:
  void turn() {
    io_.context.run_one_for(1ms);
    for (int i = 0; i < 256 && io_.context.poll_one() > 0; ++i) {
    }
  }
  void publish(LocalDevice device) {
    uint16_t message = 0;
    const auto id = fmt::format_to_n(id_.data(), id_.size(), "client-{:05}", device);
    const std::string_view name{id_.data(), id.size};
    if (links_[device]->send_telemetry({{name}, payload_}, message) != transport::Sent::ok) give_up("cannot publish");
  }

  void identify(LocalDevice device, transport::Identity& identity) override {
    identity.client_id = fmt::format("client-{:05}", device);
    identity.user_name = "bench";
  }
  void on_connected(LocalDevice, bool) override { ++connected_; }
  void on_connect_refused(LocalDevice, transport::ConnectRefusal) override { give_up("a connection was refused"); }
  void on_subscribed(LocalDevice, bool) override {}
  void on_twin_response(LocalDevice, const transport::TwinResponse&) override {}
  void on_desired(LocalDevice, int64_t, std::string_view) override {}
  void on_telemetry_acknowledged(LocalDevice device, uint16_t) override {
    ++acknowledged_;
    publish(device);
  }
  void on_disconnected(LocalDevice, transport::DisconnectReason) override { give_up("a connection was lost"); }

  SteadyClock clock_;
  net::ShardIo io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.context.get_executor()};
  transport::LinkTarget target_;
  std::vector<std::unique_ptr<transport::DeviceTransport>> links_;
  std::string payload_;
  std::array<char, 32> id_{};
  uint32_t connected_ = 0;
  uint64_t acknowledged_ = 0;
};

int run(int argc, char** argv) {
  if (argc != 5) give_up("usage: telemetry_client native|paho PORT CLIENTS SECONDS");
  const bool paho = std::string_view{argv[1]} == "paho";
  const auto number = [&](int i) { return std::strtoul(argv[i], nullptr, 10); };
  Publishers publishers{paho, static_cast<uint16_t>(number(2)), static_cast<uint32_t>(number(3))};
  publishers.connect_all();
  publishers.turn_for(500ms);
  const SteadyClock clock;
  const double cpu = cpu_seconds();
  const uint64_t before = publishers.acknowledged();
  const MonoTime start = clock.mono();
  publishers.turn_for(std::chrono::seconds{number(4)});
  fmt::print("{{\"acknowledged\": {}, \"cpuSeconds\": {:.6f}, \"seconds\": {:.6f}}}\n",
             publishers.acknowledged() - before, cpu_seconds() - cpu, to_seconds(clock.mono() - start));
  std::fflush(stdout);
  std::_Exit(0);  // connections end with the process
}

}  // namespace
}  // namespace twinstorm

int main(int argc, char** argv) { return twinstorm::run(argc, argv); }
