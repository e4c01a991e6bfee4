// What one idle device costs in user-space memory, and whether steady traffic costs any more.
//
//   footprint [devices] [seconds of traffic]      default 4000 and 3
//
// The peer is another process (a fork that answers like a hub and keeps no twins), so that only the devices are
// measured: rows, links, timer nodes and Asio's own state, as a difference of `mallinfo2` divided by the number of
// devices. Then desired patches come in and every device reports, and the heap must not grow. Exit code 1 above the
// limit of docs/architecture.md, 2 when the measurement itself did not work.
#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/device/device_pool.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"

namespace twinstorm {
namespace {

using namespace std::chrono_literals;

constexpr size_t kBytesPerDeviceMax = 1024;
constexpr size_t kGrowthMax = 16 * 1024;  // over the whole pool: a recycled block here or there
constexpr uint32_t kRequestsMax = 256;
constexpr int kConnectAtOnce = 100;
constexpr int kNotificationsPerTurn = 2;

// --- The peer --------------------------------------------------------------------------------------------------------

/// Answers CONNECT, SUBSCRIBE, twin requests, telemetry and pings of any number of devices; between the commands `g`
/// and `s` it sends desired patches round the devices.
class Responder {
 public:
  /// Listening when this returns; the port is free to be dialled.
  Responder() : listener_{socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)} {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 4096) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      std::perror("footprint: cannot listen on loopback");
      std::exit(2);
    }
    port_ = ntohs(address.sin_port);
  }
  uint16_t port() const { return port_; }
  void close_listener() const { close(listener_); }

  /// Until `commands` ends.
  void serve(int commands) {
    epoll_ = epoll_create1(0);
    watch(listener_);
    watch(commands);
    bool sending = false;
    std::array<epoll_event, 256> events;
    for (;;) {
      const int ready = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), sending ? 1 : 1000);
      for (int i = 0; i < ready; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        if (fd == listener_) {
          accept_all();
        } else if (fd == commands) {
          char command = 0;
          if (read(commands, &command, 1) <= 0) return;
          sending = command == 'g';
        } else {
          receive(fd);
        }
      }
      for (int i = 0; sending && i < kNotificationsPerTurn; ++i) notify_next();
    }
  }

 private:
  void watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  void accept_all() {
    for (int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK); fd >= 0;
         fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      watch(fd);
      devices_.push_back(fd);
    }
  }
  void notify_next() {
    if (devices_.empty()) return;
    const int fd = devices_[next_++ % devices_.size()];
    if (next_ % devices_.size() == 0 || version_ == 1) ++version_;
    topic_.clear();
    protocol::append_desired_notification(topic_, version_);
    const auto payload =
        fmt::format(R"({{"climate":{{"minTemperature":{:04}}},"$version":{}}})", version_ % 10'000, version_);
    out_.clear();
    mqtt::encode_publish(out_, topic_, payload);
    send(fd, out_.data(), out_.size(), MSG_NOSIGNAL);
  }
  void receive(int fd) {
    std::array<char, 65536> buffer;
    const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
    if (size <= 0) {
      if (size == 0) close(fd);
      return;
    }
    // Devices send small packets one at a time on loopback: they arrive whole.
    std::string_view bytes{buffer.data(), static_cast<size_t>(size)};
    out_.clear();
    while (!bytes.empty()) {
      const auto frame = mqtt::next_frame(bytes);
      if (frame.status != mqtt::FrameStatus::complete) break;
      answer(frame);
      bytes.remove_prefix(frame.size);
    }
    if (!out_.empty()) send(fd, out_.data(), out_.size(), MSG_NOSIGNAL);
  }
  void answer(const mqtt::FrameResult& frame) {
    using mqtt::PacketType;
    if (frame.type == PacketType::connect) {
      mqtt::encode_connack(out_, {});
    } else if (frame.type == PacketType::pingreq) {
      mqtt::encode_pingresp(out_);
    } else if (frame.type == PacketType::subscribe) {
      const auto subscribe = mqtt::decode_subscribe(frame.body);
      const uint8_t granted[] = {0};
      if (subscribe) mqtt::encode_suback(out_, subscribe->packet_id, granted);
    } else if (frame.type == PacketType::publish) {
      const auto publish = mqtt::decode_publish(frame.flags, frame.body);
      if (!publish) return;
      if (publish->qos == mqtt::Qos::at_least_once) mqtt::encode_puback(out_, publish->packet_id);
      const auto topic = protocol::parse_device_topic(publish->topic);
      if (!topic) return;
      topic_.clear();
      if (topic->kind == protocol::DeviceTopic::Kind::twin_get) {
        protocol::append_twin_response(topic_, 200, topic->rid);
        mqtt::encode_publish(out_, topic_, R"({"desired":{"$version":1},"reported":{"$version":1}})");
      } else if (topic->kind == protocol::DeviceTopic::Kind::reported_patch) {
        protocol::append_twin_response(topic_, 204, topic->rid, 2);
        mqtt::encode_publish(out_, topic_, "");
      }
    }
  }

  int listener_ = -1, epoll_ = -1;
  uint16_t port_ = 0;
  std::vector<int> devices_;
  std::string out_, topic_;
  size_t next_ = 0;
  int64_t version_ = 1;
};

/// The responder in a process of its own, ended with this object.
class Peer {
 public:
  Peer() {
    Responder responder;
    port_ = responder.port();
    std::array<int, 2> pipe_ends{};
    if (pipe(pipe_ends.data()) != 0 || (child_ = fork()) < 0) {
      std::perror("footprint: cannot start the peer");
      std::exit(2);
    }
    if (child_ == 0) {
      close(pipe_ends[1]);
      responder.serve(pipe_ends[0]);
      std::_Exit(0);
    }
    close(pipe_ends[0]);
    responder.close_listener();
    commands_ = pipe_ends[1];
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() {
    close(commands_);
    waitpid(child_, nullptr, 0);
  }
  uint16_t port() const { return port_; }
  void command(char c) const {
    if (write(commands_, &c, 1) != 1) std::perror("footprint: the peer is gone");
  }

 private:
  pid_t child_ = -1;
  int commands_ = -1;
  uint16_t port_ = 0;
};

// --- The devices -----------------------------------------------------------------------------------------------------

size_t heap_bytes() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

class Nobody final : public device::FleetObserver {
 public:
  uint64_t converged = 0;
  void on_notified(device::LocalDevice, int64_t, MonoTime) override {}
  void on_report_sent(device::LocalDevice, int64_t, MonoTime) override {}
  void on_converged(device::LocalDevice, int64_t, MonoTime) override { ++converged; }
  void on_fetched(device::LocalDevice, int64_t, bool) override {}
  void on_synced(device::LocalDevice, int64_t, MonoTime) override {}
  void on_reported(device::LocalDevice, std::string_view, int64_t) override {}
  void on_report_unknown(device::LocalDevice, std::string_view) override {}
};

device::FleetBehavior thermostats(uint32_t count) {
  device::FleetBehavior fleet;
  fleet.name = "thermostats";
  fleet.count = count;
  fleet.append_device_id = [](std::string& out, uint32_t index) { out += fmt::format("therm-{:05}", index); };
  fleet.listeners.push_back({});
  fleet.connect_stream = 0;
  fleet.get_twin_stream = 1;
  fleet.report_stream = 2;
  fleet.telemetry_stream = 3;
  return fleet;
}

metrics::RecorderLayout layout() {
  using metrics::OpKind;
  return {{{"t.connect", OpKind::connect, "t", "mqtt"},
           {"t.getTwin", OpKind::get_twin, "t", "mqtt"},
           {"t.report", OpKind::report, "t", "mqtt"},
           {"t.telemetry", OpKind::telemetry, "t", "mqtt"}},
          {{"idle", true}}};
}

/// The shard's loop, as small as it gets.
class Loop {
 public:
  Loop(net::ShardIo& io, TimerWheel& wheel, device::DevicePool& pool, const Clock& clock)
      : io_{io}, wheel_{wheel}, pool_{pool}, clock_{clock} {}
  /// False when `limit` passed first.
  template <class Done>
  bool until(Nanos limit, Done&& done) {
    const MonoTime end = clock_.mono() + limit;
    while (!done()) {
      if (clock_.mono() > end) return false;
      wheel_.advance(clock_.mono(), [this](TimerWheel::TimerId id) { pool_.on_timer(id); });
      io_.context.run_one_for(1ms);
      io_.context.poll();
    }
    return true;
  }

 private:
  net::ShardIo& io_;
  TimerWheel& wheel_;
  device::DevicePool& pool_;
  const Clock& clock_;
};

void raise_file_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void row(std::string_view piece, double bytes, std::string_view note) {
  fmt::print("{:<34}{:>10.0f}  {}\n", piece, bytes, note);
}

int measure(uint32_t devices, Nanos traffic) {
  raise_file_limit();
  const Peer peer;
  const SteadyClock clock;
  const device::FleetBehavior fleet = thermostats(devices);
  const device::Authority authority{"hub.localhost", "group secret"};
  metrics::ShardRecorder recorder{layout()};
  Nobody observer;
  net::ShardIo io;

  device::DevicePool::Config config;
  config.fleets = {&fleet};
  config.requests_max = kRequestsMax;
  config.tasks_max = kRequestsMax;
  config.target = {{boost::asio::ip::address_v4::loopback(), peer.port()}, "hub.localhost"};
  config.authority = &authority;

  const size_t before = heap_bytes();
  for (uint32_t i = 0; i < devices; ++i) config.devices.push_back(i);
  config.fleet_of.assign(devices, 0);
  TimerWheel wheel{device::DevicePool::timers_needed(config), clock.mono()};
  device::DevicePool pool{std::move(config), io, wheel, 0, clock, recorder, observer};
  Loop loop{io, wheel, pool, clock};

  for (uint32_t first = 0; first < devices; first += kConnectAtOnce) {
    const uint32_t last = std::min(devices, first + kConnectAtOnce);
    for (uint32_t i = first; i < last; ++i) {
      recorder.asked(0, 0);
      pool.connect(i, 0, clock.mono());
    }
    if (!loop.until(60s, [&] { return pool.counts().online == last; })) {
      fmt::print(stderr, "footprint: only {} of {} devices came online\n", pool.counts().online, devices);
      return 2;
    }
  }
  loop.until(200ms, [] { return false; });
  const double per_device = static_cast<double>(heap_bytes() - before) / devices;

  constexpr double kRow = 64;  // pinned by a static_assert of DevicePool
  constexpr double kTimers = 2 * 16;
  constexpr double kIndex = sizeof(DeviceIndex) + sizeof(uint16_t);
  constexpr double kLink = sizeof(transport::MqttTransport);
  fmt::print("{} idle devices, MQTT over TCP\n\n{:<34}{:>10}\n", devices, "", "bytes");
  row("row", kRow, "state, timers' owner, indices");
  row("timer nodes", kTimers, "two deadlines");
  row("index and fleet", kIndex, "");
  row("link", kLink,
      fmt::format("TcpStream {}, of it socket {}; ClientSession {}", sizeof(net::TcpStream), sizeof(net::TcpSocket),
                  sizeof(mqtt::ClientSession)));
  row("Asio, allocator, fixed parts", per_device - kRow - kTimers - kIndex - kLink, "the rest");
  row("measured, per idle device", per_device, fmt::format("limit {}", kBytesPerDeviceMax));

  // Traffic: once to reach the steady state, once more to see whether it is one.
  const auto run_traffic = [&](Nanos length) {
    peer.command('g');
    loop.until(length, [] { return false; });
    peer.command('s');
    return loop.until(20s, [&] { return pool.requests_open() == 0 && pool.tasks_open() == 0; }) &&
           !loop.until(300ms, [] { return false; });
  };
  if (!run_traffic(traffic / 2 + 500ms)) return 2;
  const size_t steady = heap_bytes();
  const uint64_t converged_before = observer.converged;
  if (!run_traffic(traffic)) return 2;
  const uint64_t updates = observer.converged - converged_before;
  const auto grown = static_cast<int64_t>(heap_bytes()) - static_cast<int64_t>(steady);
  row("heap growth under traffic", static_cast<double>(grown),
      fmt::format("whole pool, {} updates reported; limit {}", updates, kGrowthMax));

  int result = 0;
  if (per_device > kBytesPerDeviceMax) {
    fmt::print(stderr, "footprint: {:.0f} bytes per idle device, the limit is {}\n", per_device, kBytesPerDeviceMax);
    result = 1;
  }
  if (grown > static_cast<int64_t>(kGrowthMax)) {
    fmt::print(stderr, "footprint: the heap grew by {} bytes under steady traffic\n", grown);
    result = 1;
  }
  if (updates == 0 || pool.counts().online != devices) {
    fmt::print(stderr, "footprint: {} updates, {} of {} devices online: nothing was measured\n", updates,
               pool.counts().online, devices);
    result = 2;
  }
  pool.disconnect_all();
  return result;
}

}  // namespace
}  // namespace twinstorm

int main(int argc, char** argv) {
  const auto devices = argc > 1 ? static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 4000u;
  const auto seconds = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 3;
  if (devices == 0 || seconds <= 0) {
    fmt::print(stderr, "usage: footprint [devices] [seconds of traffic]\n");
    return 2;
  }
  return twinstorm::measure(devices, std::chrono::seconds{seconds});
}
