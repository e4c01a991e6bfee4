// What one idle device costs in user-space memory on each transport, and whether steady traffic costs any more.
//
//   footprint [devices over TCP] [seconds of traffic]      default 4000 and 3; over TLS a quarter of the devices
//
// The peer is another process (a fork that answers like a hub and keeps no twins), and each transport is measured in a
// process of its own, so that only its devices are counted: rows, links, timer nodes, Asio's and OpenSSL's own state,
// as a difference of `mallinfo2` divided by the number of devices. Then desired patches come in and every device
// reports, and the heap must not grow. Exit code 1 above a limit of docs/architecture.md, 2 when a measurement did not
// work.
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
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
#include "sim/net/certificates.hpp"
#include "sim/net/tls.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/protocol/ws/framer.hpp"
#include "sim/protocol/ws/upgrade.hpp"
#include "sim/transport/mqtt/mqtt_transport.hpp"

namespace twinstorm {
namespace {

using namespace std::chrono_literals;

constexpr double kPlainMax = 1024;
constexpr double kTls12Max = 24 * 1024;
constexpr double kTls13Max = 40 * 1024;
constexpr double kWebSocketExtraMax = 2048;  // over the same without WebSocket
constexpr size_t kGrowthMax = 16 * 1024;     // over the whole pool: a recycled block here or there
constexpr int kRoundsMax = 3;                 // of traffic, until one stays below it
constexpr uint32_t kRequestsMax = 256;
constexpr int kConnectAtOnce = 100;
constexpr int kNotificationsPerTurn = 2;

/// One row of the table.
struct Row {
  const char* name;
  bool websocket;
  std::optional<net::TlsVersion> tls;
};
constexpr Row kRows[] = {
    {"mqtt", false, std::nullopt},
    {"mqtt + TLS 1.2", false, net::TlsVersion::tls12},
    {"mqtt + TLS 1.3", false, net::TlsVersion::tls13},
    {"mqttws", true, std::nullopt},
    {"mqttws + TLS 1.2", true, net::TlsVersion::tls12},
    {"mqttws + TLS 1.3", true, net::TlsVersion::tls13},
};

// --- The peer --------------------------------------------------------------------------------------------------------

/// Answers CONNECT, SUBSCRIBE, twin requests, telemetry and pings of any number of devices; between the commands `g`
/// and `s` it sends desired patches round the devices.
class Responder {
 public:
  /// Listening when this returns; the port is free to be dialled. `tls`: null = plain.
  Responder(bool websocket, const net::TlsContext* tls)
      : websocket_{websocket}, tls_{tls}, listener_{socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)} {
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
      auto& peer = peers_[fd];
      peer = {};
      peer.upgraded = !websocket_;
      if (tls_ != nullptr) peer.session = net::TlsSession::server(*tls_, fd).value();
    }
  }
  void notify_next() {
    if (devices_.empty()) return;
    const int fd = devices_[next_++ % devices_.size()];
    if (!peers_[fd].upgraded) return;
    if (next_ % devices_.size() == 0 || version_ == 1) ++version_;
    topic_.clear();
    protocol::append_desired_notification(topic_, version_);
    const auto payload =
        fmt::format(R"({{"climate":{{"minTemperature":{:04}}},"$version":{}}})", version_ % 10'000, version_);
    out_.clear();
    mqtt::encode_publish(out_, topic_, payload);
    send_packets(fd);
  }
  /// `out_`, framed and encrypted as this connection wants it.
  void send_packets(int fd) {
    if (out_.empty()) return;
    if (websocket_) {
      std::string frame;
      ws::append_frame(frame, ws::Opcode::binary, out_, std::nullopt);
      out_.swap(frame);
    }
    send_bytes(fd);
  }
  void send_bytes(int fd) {
    if (tls_ == nullptr) {
      send(fd, out_.data(), out_.size(), MSG_NOSIGNAL);
    } else {
      size_t put = 0;
      peers_[fd].session.write(out_, put);
    }
  }
  void receive(int fd) {
    std::array<char, 65536> buffer;
    auto& peer = peers_[fd];
    size_t size = 0;
    if (tls_ == nullptr) {
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got == 0) close_device(fd);
      if (got <= 0) return;
      size = static_cast<size_t>(got);
    } else {
      if (!peer.session.established() && peer.session.handshake() != net::TlsStatus::ok) return;
      for (;;) {
        size_t got = 0;
        const auto status = peer.session.read(std::span{buffer}.subspan(size), got);
        size += got;
        if (status == net::TlsStatus::want_read) break;
        if (status != net::TlsStatus::ok) return close_device(fd);
      }
    }
    // Devices send small packets one at a time on loopback: they arrive whole.
    std::span<char> bytes{buffer.data(), size};
    out_.clear();
    if (!peer.upgraded) return upgrade(fd, {bytes.data(), bytes.size()});
    if (!websocket_) {
      answer_all({bytes.data(), bytes.size()});
    } else {
      for (auto step = peer.framer.next(bytes); step.kind != ws::Step::Kind::need_more && !bytes.empty();
           step = peer.framer.next(bytes)) {
        bytes = bytes.subspan(step.consumed);
        if (step.kind == ws::Step::Kind::data) answer_all(step.payload);
      }
    }
    send_packets(fd);
  }
  void close_device(int fd) {
    peers_[fd].session = net::TlsSession{};
    close(fd);
  }
  void upgrade(int fd, std::string_view request) {
    constexpr std::string_view kKey = "Sec-WebSocket-Key: ";
    const size_t at = request.find(kKey);
    if (at == std::string_view::npos) return;
    ws::append_upgrade_response(out_, ws::accept_for(request.substr(at + kKey.size(), 24)));
    send_bytes(fd);
    peers_[fd].upgraded = true;
  }
  void answer_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto frame = mqtt::next_frame(bytes);
      if (frame.status != mqtt::FrameStatus::complete) break;
      answer(frame);
      bytes.remove_prefix(frame.size);
    }
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

  struct Device {
    bool upgraded = true;
    net::TlsSession session;
    ws::Framer framer{ws::Role::server};
  };

  bool websocket_;
  const net::TlsContext* tls_;
  int listener_ = -1, epoll_ = -1;
  std::map<int, Device> peers_;
  uint16_t port_ = 0;
  std::vector<int> devices_;
  std::string out_, topic_;
  size_t next_ = 0;
  int64_t version_ = 1;
};

/// The responder in a process of its own, ended with this object.
class Peer {
 public:
  Peer(bool websocket, const net::TlsContext* tls) {
    Responder responder{websocket, tls};
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
  void on_apply_failed(device::LocalDevice, int64_t, bool) override {}
  void on_fetched(device::LocalDevice, int64_t, bool) override {}
  void on_synced(device::LocalDevice, int64_t, MonoTime) override {}
  void on_reported(device::LocalDevice, std::string_view, int64_t) override {}
  void on_report_unknown(device::LocalDevice, std::string_view) override {}
};

device::FleetBehavior thermostats(uint32_t count, bool websocket) {
  device::FleetBehavior fleet;
  fleet.name = "thermostats";
  fleet.count = count;
  fleet.append_device_id = [](std::string& out, uint32_t index) { out += fmt::format("therm-{:05}", index); };
  fleet.listeners.push_back({});
  fleet.websocket = websocket;
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

void line(std::string_view piece, double bytes, std::string_view note) {
  fmt::print("{:<34}{:>10.0f}  {}\n", piece, bytes, note);
}

struct Measured {
  double per_device = 0;
  int64_t growth = 0;
  uint64_t updates = 0;
  bool valid = false;
};

/// The link's own size, and what it is made of.
std::pair<double, std::string> link_of(const Row& row) {
  const auto session = sizeof(mqtt::ClientSession);
  if (row.websocket && row.tls) {
    return {sizeof(transport::MqttWssTransport),
            fmt::format("WsStream over TLS {}; ClientSession {}", sizeof(net::WsStream<net::TlsStream>), session)};
  }
  if (row.websocket) {
    return {sizeof(transport::MqttWsTransport),
            fmt::format("WsStream over TCP {}; ClientSession {}", sizeof(net::WsStream<net::TcpStream>), session)};
  }
  if (row.tls) {
    return {sizeof(transport::MqttTlsTransport),
            fmt::format("TlsStream {}; ClientSession {}", sizeof(net::TlsStream), session)};
  }
  return {sizeof(transport::MqttTransport), fmt::format("TcpStream {}, of it socket {}; ClientSession {}",
                                                        sizeof(net::TcpStream), sizeof(net::TcpSocket), session)};
}

Measured measure(const Row& row, uint32_t devices, Nanos traffic) {
  const SteadyClock clock;
  const net::Validity validity{clock.wall() - 1h, clock.wall() + 24h};
  const auto version = row.tls.value_or(net::TlsVersion::any);
  const auto ca = net::make_authority("footprint CA", validity).value();
  const auto identity = net::issue_server_certificate(ca, {"hub.localhost"}, validity).value();
  const auto server_tls = net::TlsContext::server({.identity = identity, .version = version}).value();
  const auto client_tls = net::TlsContext::client({.authorities_pem = ca.certificate_pem, .version = version}).value();
  const Peer peer{row.websocket, row.tls ? &server_tls : nullptr};
  const device::FleetBehavior fleet = thermostats(devices, row.websocket);
  const device::Authority authority{"hub.localhost", "group secret"};
  metrics::ShardRecorder recorder{layout()};
  Nobody observer;
  net::ShardIo io;

  device::DevicePool::Config config;
  config.fleets = {&fleet};
  config.requests_max = kRequestsMax;
  config.tasks_max = kRequestsMax;
  config.targets.push_back({.endpoint = {boost::asio::ip::address_v4::loopback(), peer.port()},
                            .host_name = "hub.localhost",
                            .tls = row.tls ? &client_tls : nullptr});
  config.authority = &authority;

  const size_t before = heap_bytes();
  for (uint32_t i = 0; i < devices; ++i) config.devices.push_back(i);
  config.fleet_of.assign(devices, 0);
  const uint32_t timers = device::DevicePool::timers_needed(config);
  TimerWheel wheel{timers, clock.mono()};
  device::DevicePool pool{std::move(config), io, wheel, 0, clock, recorder, observer};
  Loop loop{io, wheel, pool, clock};

  for (uint32_t first = 0; first < devices; first += kConnectAtOnce) {
    const uint32_t last = std::min(devices, first + kConnectAtOnce);
    for (uint32_t i = first; i < last; ++i) {
      recorder.asked(0, 0);
      pool.connect(i, 0, clock.mono());
    }
    if (!loop.until(60s, [&] { return pool.counts().online == last; })) {
      fmt::print(stderr, "footprint: {}: only {} of {} devices came online\n", row.name, pool.counts().online, devices);
      return {};
    }
  }
  loop.until(200ms, [] { return false; });
  Measured measured;
  measured.per_device = static_cast<double>(heap_bytes() - before) / devices;

  constexpr double kRow = 64;  // pinned by a static_assert of DevicePool
  constexpr double kIndex = sizeof(DeviceIndex) + sizeof(uint16_t);
  const double timer_nodes = 16.0 * timers / devices;
  const auto [link, parts] = link_of(row);
  fmt::print("{}: {} idle devices\n{:<34}{:>10}\n", row.name, devices, "", "bytes");
  line("row", kRow, "state, timers' owner, indices");
  line("timer nodes", timer_nodes, fmt::format("{} deadlines", timers / devices));
  line("index and fleet", kIndex, "");
  line("link", link, parts);
  line(row.tls ? "Asio, OpenSSL, allocator" : "Asio, allocator, fixed parts",
       measured.per_device - kRow - timer_nodes - kIndex - link, "the rest");

  // Traffic: once to reach the steady state, once more to see whether it is one.
  const auto run_traffic = [&](Nanos length) {
    peer.command('g');
    loop.until(length, [] { return false; });
    peer.command('s');
    return loop.until(20s, [&] { return pool.requests_open() == 0 && pool.tasks_open() == 0; }) &&
           !loop.until(300ms, [] { return false; });
  };
  if (!run_traffic(traffic / 2 + 500ms)) return {};
  // A pool that reaches its high-water mark late grows in one round, a leak in every one.
  for (int round = 0; round < kRoundsMax; ++round) {
    const size_t steady = heap_bytes();
    const uint64_t converged_before = observer.converged;
    if (!run_traffic(traffic)) return {};
    measured.updates = observer.converged - converged_before;
    measured.growth = static_cast<int64_t>(heap_bytes()) - static_cast<int64_t>(steady);
    if (measured.growth <= static_cast<int64_t>(kGrowthMax)) break;
  }
  line("heap growth under traffic", static_cast<double>(measured.growth),
       fmt::format("whole pool, {} updates reported; limit {}\n", measured.updates, kGrowthMax));
  measured.valid = measured.updates > 0 && pool.counts().online == devices;
  if (!measured.valid) {
    fmt::print(stderr, "footprint: {}: {} updates, {} of {} devices online: nothing was measured\n", row.name,
               measured.updates, pool.counts().online, devices);
  }
  pool.disconnect_all();
  return measured;
}

/// `measure` in a process of its own, with an allocator that nobody used before.
Measured measure_apart(const Row& row, uint32_t devices, Nanos traffic) {
  std::fflush(nullptr);
  std::array<int, 2> pipe_ends{};
  pid_t child = -1;
  if (pipe(pipe_ends.data()) != 0 || (child = fork()) < 0) {
    std::perror("footprint: cannot start a measurement");
    std::exit(2);
  }
  if (child == 0) {
    const Measured measured = measure(row, devices, traffic);
    std::fflush(nullptr);
    std::_Exit(write(pipe_ends[1], &measured, sizeof measured) == sizeof measured ? 0 : 2);
  }
  close(pipe_ends[1]);
  Measured measured;
  if (read(pipe_ends[0], &measured, sizeof measured) != sizeof measured) measured = {};
  close(pipe_ends[0]);
  waitpid(child, nullptr, 0);
  return measured;
}

struct Verdict {
  const Row* row;
  Measured measured;
  double limit;
};

double limit_of(const Row& row, const std::vector<Verdict>& so_far) {
  if (!row.websocket) return !row.tls ? kPlainMax : row.tls == net::TlsVersion::tls12 ? kTls12Max : kTls13Max;
  for (const auto& other : so_far) {
    if (!other.row->websocket && other.row->tls == row.tls) return other.measured.per_device + kWebSocketExtraMax;
  }
  return kWebSocketExtraMax;
}

int measure_all(uint32_t devices, Nanos traffic) {
  raise_file_limit();
  std::vector<Verdict> verdicts;
  for (const auto& row : kRows) {
    const auto measured = measure_apart(row, row.tls ? std::max(1u, devices / 4) : devices, traffic);
    verdicts.push_back({&row, measured, limit_of(row, verdicts)});
  }
  int result = 0;
  fmt::print("{:<20}{:>18}{:>10}{:>20}\n", "transport", "bytes/idle device", "limit", "growth under load");
  for (const auto& [row, measured, limit] : verdicts) {
    const bool over = measured.per_device > limit, grown = measured.growth > static_cast<int64_t>(kGrowthMax);
    fmt::print("{:<20}{:>18.0f}{:>10.0f}{:>20}  {}\n", row->name, measured.per_device, limit, measured.growth,
               !measured.valid ? "NOT MEASURED"
               : over          ? "OVER THE LIMIT"
               : grown         ? "GROWS"
                               : "ok");
    if (over || grown) result = std::max(result, 1);
    if (!measured.valid) result = 2;
  }
  return result;
}

}  // namespace
}  // namespace twinstorm

int main(int argc, char** argv) {
  const auto devices = argc > 1 ? static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 4000u;
  const auto seconds = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 3;
  if (devices == 0 || seconds <= 0) {
    fmt::print(stderr, "usage: footprint [devices over TCP] [seconds of traffic]\n");
    return 2;
  }
  return twinstorm::measure_all(devices, std::chrono::seconds{seconds});
}
