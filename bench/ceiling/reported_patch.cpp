// Reported-patch round trips over MQTT/TCP that the generator makes per CPU second, next to the floor: bare epoll that
// sends and receives one small message each over as many sockets and knows no protocol. The bytes of both are printed.
//
//   reported_patch [--devices 1000,18000] [--seconds 3] [--rounds 5] [--verdict on|off]
//
// Every device has one round trip open and starts the next when it is answered. Each measurement runs in a process of
// its own against a peer in another one (a fork that keeps nothing and answers at once); only the CPU time of the
// measuring process counts, so a loaded machine matters little. Client and floor take turns and the medians are
// compared. Exit code 1 when the client makes less than 75 % of the floor's round trips per CPU second or when a round
// trip costs over 15 % more with the most devices than with the fewest, 2 when a measurement did not work.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/device/device_pool.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm {
namespace {

using namespace std::chrono_literals;

constexpr double kShareOfFloorMin = 0.75;
constexpr double kGrowthMax = 1.15;
constexpr uint32_t kConnectAtOnce = 100;
constexpr Nanos kWarmUp = 500ms;
constexpr int kEventsPerWait = 512;

[[noreturn]] void give_up(std::string_view what) {
  fmt::print(stderr, "reported_patch: {}\n", what);
  std::_Exit(2);
}

/// User and system time of this process.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

void no_delay(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

// --- The peer --------------------------------------------------------------------------------------------------------

/// What came in on one socket to what goes out; packets are small and arrive whole.
using Answer = void (*)(std::string_view in, std::string& out);

void answer_mqtt(std::string_view in, std::string& out) {
  using mqtt::PacketType;
  static std::string topic;
  for (auto frame = mqtt::next_frame(in); frame.status == mqtt::FrameStatus::complete; frame = mqtt::next_frame(in)) {
    in.remove_prefix(frame.size);
    if (frame.type == PacketType::connect) {
      mqtt::encode_connack(out, {});
    } else if (frame.type == PacketType::pingreq) {
      mqtt::encode_pingresp(out);
    } else if (frame.type == PacketType::subscribe) {
      const auto subscribe = mqtt::decode_subscribe(frame.body);
      const uint8_t granted[] = {0};
      if (subscribe) mqtt::encode_suback(out, subscribe->packet_id, granted);
    } else if (frame.type == PacketType::publish) {
      const auto publish = mqtt::decode_publish(frame.flags, frame.body);
      const auto parsed = publish ? protocol::parse_device_topic(publish->topic) : std::nullopt;
      if (!parsed) continue;
      topic.clear();
      if (parsed->kind == protocol::DeviceTopic::Kind::twin_get) {
        protocol::append_twin_response(topic, 200, parsed->rid);
        mqtt::encode_publish(out, topic, R"({"desired":{"$version":1},"reported":{"$version":1}})");
      } else {
        protocol::append_twin_response(topic, 204, parsed->rid, 2);
        mqtt::encode_publish(out, topic, "");
      }
    }
  }
}

/// As many bytes as an acknowledgement has.
void answer_floor(std::string_view, std::string& out) {
  protocol::append_twin_response(out, 204, "1000", 2);
  out.append(4, '.');
}

[[noreturn]] void serve(int listener, Answer answer) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int epoll = epoll_create1(0);
  watch(epoll, listener);
  std::array<epoll_event, kEventsPerWait> events;
  std::array<char, 65536> buffer;
  std::string out;
  for (;;) {
    const int ready = epoll_wait(epoll, events.data(), kEventsPerWait, -1);
    for (int i = 0; i < ready; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == listener) {
        for (int s = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK); s >= 0;
             s = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) {
          no_delay(s);
          watch(epoll, s);
        }
        continue;
      }
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) {
        close(fd);
        continue;
      }
      out.clear();
      answer({buffer.data(), static_cast<size_t>(got)}, out);
      if (!out.empty()) send(fd, out.data(), out.size(), MSG_NOSIGNAL);
    }
  }
}

/// In a process of its own until this object ends.
class Peer {
 public:
  explicit Peer(Answer answer) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address_;
    if (bind(listener, reinterpret_cast<sockaddr*>(&address_), size) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, reinterpret_cast<sockaddr*>(&address_), &size) != 0 || (child_ = fork()) < 0) {
      give_up(fmt::format("no peer: {}", std::strerror(errno)));
    }
    if (child_ == 0) serve(listener, answer);
    close(listener);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  const sockaddr_in& address() const { return address_; }

 private:
  sockaddr_in address_{};
  pid_t child_ = -1;
};

// --- The two that are measured ---------------------------------------------------------------------------------------

struct Measured {
  double round_trips = 0;
  double cpu = 0;    ///< seconds
  double wall = 0;   ///< seconds
  double bytes = 0;  ///< of one round trip, both directions
  double per_cpu_second() const { return cpu > 0 ? round_trips / cpu : 0; }
};

/// `step` until the warm-up is over and then for `length`; `count` tells round trips so far.
template <class Step, class Count>
Measured timed(Nanos length, Step&& step, Count&& count) {
  const SteadyClock clock;
  for (const MonoTime end = clock.mono() + kWarmUp; clock.mono() < end;) step();
  Measured measured;
  const double cpu = cpu_seconds();
  const auto before = count();
  const MonoTime start = clock.mono();
  while (clock.mono() < start + length) step();
  measured.wall = std::chrono::duration<double>(clock.mono() - start).count();
  measured.cpu = cpu_seconds() - cpu;
  measured.round_trips = static_cast<double>(count() - before);
  return measured;
}

constexpr std::string_view kPatch = R"({"climate":{"minTemperature":64.5}})";

Measured measure_floor(uint32_t devices, Nanos length) {
  const Peer peer{answer_floor};
  const int epoll = epoll_create1(0);
  std::vector<int> sockets;
  for (uint32_t i = 0; i < devices; ++i) {
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || connect(s, reinterpret_cast<const sockaddr*>(&peer.address()), sizeof(sockaddr_in)) != 0) {
      give_up(fmt::format("floor: connection {}: {}", i, std::strerror(errno)));
    }
    no_delay(s);
    watch(epoll, s);
    sockets.push_back(s);
  }
  std::string request;
  mqtt::encode_publish(request, "$iothub/twin/PATCH/properties/reported/?$rid=1000", kPatch);
  std::array<char, 4096> buffer;
  std::array<epoll_event, kEventsPerWait> events;
  uint64_t done = 0, received = 0;
  const auto ask = [&](int s) {
    if (send(s, request.data(), request.size(), MSG_NOSIGNAL) < 0) give_up("floor: the peer is gone");
  };
  for (const int s : sockets) ask(s);
  auto measured = timed(
      length,
      [&] {
        const int ready = epoll_wait(epoll, events.data(), kEventsPerWait, 100);
        for (int i = 0; i < ready; ++i) {
          const int s = events[static_cast<size_t>(i)].data.fd;
          const ssize_t got = recv(s, buffer.data(), buffer.size(), MSG_DONTWAIT);
          if (got <= 0) continue;
          received += static_cast<uint64_t>(got);
          ++done;
          ask(s);
        }
      },
      [&] { return done; });
  measured.bytes = static_cast<double>(request.size()) + static_cast<double>(received) / static_cast<double>(done);
  return measured;
}

/// Devices whose patch was acknowledged, for the next one.
class Answered final : public device::FleetObserver {
 public:
  std::vector<device::LocalDevice> devices;
  uint64_t count = 0;
  void on_notified(device::LocalDevice, int64_t, MonoTime) override {}
  void on_report_sent(device::LocalDevice, int64_t, MonoTime) override {}
  void on_converged(device::LocalDevice, int64_t, MonoTime) override {}
  void on_apply_failed(device::LocalDevice, int64_t, bool) override {}
  void on_fetched(device::LocalDevice, int64_t, bool) override {}
  void on_synced(device::LocalDevice, int64_t, MonoTime) override {}
  void on_reported(device::LocalDevice device, std::string_view, int64_t) override {
    ++count;
    devices.push_back(device);
  }
  void on_report_unknown(device::LocalDevice, std::string_view) override {}
};

device::FleetBehavior thermostats(uint32_t count) {
  device::FleetBehavior fleet;
  fleet.name = "thermostats";
  fleet.count = count;
  fleet.append_device_id = [](std::string& out, uint32_t index) { out += fmt::format("therm-{:05}", index); };
  fleet.reported = [](Rng&, uint64_t, std::string& out) { out += kPatch; };
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
          {{"ceiling", true}}};
}

Measured measure_client(uint32_t devices, Nanos length) {
  const Peer peer{answer_mqtt};
  const SteadyClock clock;
  const device::FleetBehavior fleet = thermostats(devices);
  const device::Authority authority{"hub.localhost", "group secret"};
  metrics::ShardRecorder recorder{layout()};
  Answered answered;
  net::ShardIo io;
  device::DevicePool::Config config;
  config.fleets = {&fleet};
  config.requests_max = 2 * devices;
  config.tasks_max = 1;
  config.targets.push_back({.endpoint = {boost::asio::ip::address_v4::loopback(), ntohs(peer.address().sin_port)},
                            .host_name = "hub.localhost",
                            .tls = nullptr});
  config.authority = &authority;
  for (uint32_t i = 0; i < devices; ++i) config.devices.push_back(i);
  config.fleet_of.assign(devices, 0);
  TimerWheel wheel{device::DevicePool::timers_needed(config), clock.mono()};
  device::DevicePool pool{std::move(config), io, wheel, 0, clock, recorder, answered};
  const auto turn = [&] {
    wheel.advance(clock.mono(), [&](TimerWheel::TimerId id) { pool.on_timer(id); });
    io.context.run_one_for(1ms);
    // A bounded number, as a shard does it.
    for (int i = 0; i < 256 && io.context.poll_one() > 0; ++i) {
    }
  };
  for (uint32_t first = 0; first < devices; first += kConnectAtOnce) {
    const uint32_t last = std::min(devices, first + kConnectAtOnce);
    for (uint32_t i = first; i < last; ++i) {
      recorder.asked(0, 0);
      pool.connect(i, 0, clock.mono());
    }
    for (const MonoTime end = clock.mono() + 30s; pool.counts().online < last;) {
      turn();
      if (clock.mono() > end) give_up(fmt::format("only {} of {} devices came online", pool.counts().online, devices));
    }
  }
  for (const MonoTime end = clock.mono() + 30s; pool.requests_open() > 0 && clock.mono() < end;) turn();
  uint64_t number = 0;
  answered.devices.clear();
  for (uint32_t i = 0; i < devices; ++i) answered.devices.push_back(i);
  answered.count = 0;
  const uint64_t bytes = io.bytes_received + io.bytes_sent;
  std::vector<device::LocalDevice> next;
  auto measured = timed(
      length,
      [&] {
        next.swap(answered.devices);
        const MonoTime now = clock.mono();
        for (const auto device : next) {
          recorder.asked(2, 0);
          pool.report(device, 0, now, ++number);
        }
        next.clear();
        turn();
      },
      [&] { return answered.count; });
  measured.bytes = static_cast<double>(io.bytes_received + io.bytes_sent - bytes) /
                   static_cast<double>(std::max<uint64_t>(1, answered.count));
  if (pool.counts().online != devices) give_up("devices lost their connections");
  return measured;
}

/// `measure` in a process of its own.
Measured apart(Measured (*measure)(uint32_t, Nanos), uint32_t devices, Nanos length) {
  std::fflush(nullptr);
  std::array<int, 2> ends{};
  pid_t child = -1;
  if (pipe(ends.data()) != 0 || (child = fork()) < 0) give_up("cannot start a measurement");
  if (child == 0) {
    const Measured measured = measure(devices, length);
    std::_Exit(write(ends[1], &measured, sizeof measured) == sizeof measured ? 0 : 2);
  }
  close(ends[1]);
  Measured measured;
  const bool whole = read(ends[0], &measured, sizeof measured) == sizeof measured;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!whole || measured.round_trips == 0) give_up("a measurement did not work");
  return measured;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

struct Options {
  std::vector<uint32_t> devices{1000, 18000};
  int seconds = 3;
  int rounds = 5;
  bool verdict = true;
};

int run(const Options& options) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const Nanos length = std::chrono::seconds{options.seconds};
  fmt::print("medians of {} rounds of {} s, client and floor in turns\n\n", options.rounds, options.seconds);
  fmt::print("{:>8} {:>18} {:>18} {:>8} {:>14} {:>14} {:>13}\n", "devices", "client /CPU s", "floor /CPU s", "ratio",
             "client us CPU", "floor us CPU", "bytes c/f");
  bool reached = true;
  // By number of devices, by round.
  std::vector<std::vector<double>> client(options.devices.size()), floor(options.devices.size());
  std::vector<double> client_bytes(options.devices.size()), floor_bytes(options.devices.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < options.devices.size(); ++i) {
      const auto c = apart(measure_client, options.devices[i], length);
      const auto f = apart(measure_floor, options.devices[i], length);
      client[i].push_back(c.per_cpu_second());
      floor[i].push_back(f.per_cpu_second());
      client_bytes[i] = c.bytes;
      floor_bytes[i] = f.bytes;
    }
  }
  for (size_t i = 0; i < options.devices.size(); ++i) {
    const double c = median(client[i]), f = median(floor[i]), ratio = c / f;
    fmt::print("{:>8} {:>18.0f} {:>18.0f} {:>8.3f} {:>14.2f} {:>14.2f} {:>13}\n", options.devices[i], c, f, ratio,
               1e6 / c, 1e6 / f, fmt::format("{:.0f}/{:.0f}", client_bytes[i], floor_bytes[i]));
    reached = reached && ratio >= kShareOfFloorMin;
  }
  const double client_growth = median(client.front()) / median(client.back());
  const double floor_growth = median(floor.front()) / median(floor.back());
  if (options.devices.size() > 1) {
    fmt::print("\nCPU per round trip, {} devices over {}: client {:.3f}, floor {:.3f}\n", options.devices.back(),
               options.devices.front(), client_growth, floor_growth);
    reached = reached && client_growth <= kGrowthMax;
  }
  if (!options.verdict) return 0;
  fmt::print("wanted: ratio at least {}, growth at most {}: {}\n", kShareOfFloorMin, kGrowthMax,
             reached ? "reached" : "MISSED");
  return reached ? 0 : 1;
}

[[noreturn]] void usage() {
  fmt::print(stderr,
             "usage: reported_patch [--devices N[,N...]] [--seconds 1..60] [--rounds 1..50] [--verdict on|off]\n");
  std::exit(2);
}

int number_between(const char* text, int least, int most) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) usage();
  return static_cast<int>(value);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--devices") {
      options.devices.clear();
      for (size_t at = 0; at <= value.size();) {
        const size_t comma = std::min(value.find(',', at), value.size());
        options.devices.push_back(
            static_cast<uint32_t>(number_between(value.substr(at, comma - at).c_str(), 1, 25'000)));
        at = comma + 1;
      }
    } else if (flag == "--seconds") {
      options.seconds = number_between(value.c_str(), 1, 60);
    } else if (flag == "--rounds") {
      options.rounds = number_between(value.c_str(), 1, 50);
    } else if (flag == "--verdict" && (value == "on" || value == "off")) {
      options.verdict = value == "on";
    } else {
      usage();
    }
  }
  if (argc % 2 == 0) usage();
  return options;
}

}  // namespace
}  // namespace twinstorm

int main(int argc, char** argv) { return twinstorm::run(twinstorm::parse(argc, argv)); }
