// Reported-property patches that a hub of one shard answers per second when it has one core for itself, asked by two
// clients that are none of the generator's: bare sockets, and Eclipse Paho MQTT C.
//
//   hub_throughput [--seconds 5] [--devices 100] [--hub-core 0] [--client-core 1]
//
// The hub is a child process pinned to one core, this process to another; the devices speak plain MQTT over loopback
// and keep a number of patches in flight each. The hub's CPU time comes from /proc, so that `per hub CPU second` is
// what a core can do even where the client, or somebody else on the machine, is the bottleneck. Exit code 1 when that
// is below 30,000, 2 when a measurement did not work.
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <MQTTAsync.h>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/hub/hub_child.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kWanted = 30'000;
constexpr std::string_view kResponses = "$iothub/twin/res/#";
constexpr std::chrono::seconds kWarmUp{1};

struct Options {
  int seconds = 5;
  int devices = 100;
  int hub_core = 0;
  int client_core = 1;
};

void pin_to(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<size_t>(core), &cores);
  if (sched_setaffinity(0, sizeof cores, &cores) != 0) give_up(fmt::format("there is no core {}", core));
}

std::string device_id(int device) { return fmt::format("bench-{:05}", device); }

/// With all devices registered.
HubChild start_hub(const Options& options) {
  const auto file = std::filesystem::temp_directory_path() / fmt::format("hub-throughput-{}.json", getpid());
  std::ofstream twins{file};
  for (int i = 0; i < options.devices; ++i) {
    twins << (i == 0 ? R"({"twins":[)" : ",") << fmt::format(R"({{"deviceId":"{}"}})", device_id(i));
  }
  twins << "]}";
  twins.close();
  auto child = start_hub_child(
      [&] {
        pin_to(options.hub_core);
        hub::HubConfig config;
        config.threads = 1;
        config.http_port = std::nullopt;
        config.import_file = file;
        return config;
      },
      [](const hub::Hub& hub) {
        return std::pair{hub.ports().mqtt, hub.policy_connection_string("device")};
      });
  std::filesystem::remove(file);
  return child;
}

// --- What the clients have in common ---------------------------------------------------------------------------------

std::string user_name(int device) { return fmt::format("{}/{}/?api-version=2021-04-12", kHubHost, device_id(device)); }
std::string patch_topic(uint64_t number) {
  return fmt::format("$iothub/twin/PATCH/properties/reported/?$rid={}", number);
}
std::string patch_body(uint64_t number) {
  return fmt::format(
      R"({{"climate":{{"minTemperature":64.5,"maxTemperature":75.25,"hvac":{{"systemControl":true}}}},"battery":{}}})",
      number % 1'000'000);
}
bool is_accepted(std::string_view topic) { return topic.starts_with("$iothub/twin/res/204/"); }

class Client {
 public:
  virtual ~Client() = default;
  /// Connects and subscribes every device and sends the first patches.
  virtual void start(const HubChild& hub, const Options& options, int in_flight) = 0;
  /// Works until `end`.
  virtual void work(Clock::time_point end) = 0;
  uint64_t accepted() const { return accepted_; }
  uint64_t refused() const { return refused_; }

 protected:
  void count(std::string_view topic) { ++(is_accepted(topic) ? accepted_ : refused_); }

 private:
  std::atomic<uint64_t> accepted_ = 0;
  std::atomic<uint64_t> refused_ = 0;
};

// --- Bare sockets ----------------------------------------------------------------------------------------------------

class RawClient final : public Client {
 public:
  ~RawClient() override {
    for (const auto& device : devices_) close(device->socket);
    close(poll_);
  }

  void start(const HubChild& hub, const Options& options, int in_flight) override {
    for (int i = 0; i < options.devices; ++i) {
      auto device = std::make_unique<Device>();
      device->socket = socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(hub.port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (connect(device->socket, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) give_up("no connection");
      const int on = 1;
      setsockopt(device->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      const std::string id = device_id(i);
      const std::string user = user_name(i);
      mqtt::Connect login;
      login.client_id = id;
      login.user_name = user;
      login.password = hub.token;
      login.keep_alive_seconds = 600;
      login.clean_session = true;
      std::string out;
      mqtt::encode_connect(out, login);
      const mqtt::Subscription wanted{kResponses, mqtt::Qos::at_most_once};
      mqtt::encode_subscribe(out, 1, {&wanted, 1});
      for (int n = 0; n < in_flight; ++n) append_patch(out);
      send_all(*device, out);
      epoll_event event{EPOLLIN, {.ptr = device.get()}};
      epoll_ctl(poll_, EPOLL_CTL_ADD, device->socket, &event);
      devices_.push_back(std::move(device));
    }
  }

  void work(Clock::time_point end) override {
    epoll_event events[64];
    while (Clock::now() < end) {
      const int ready = epoll_wait(poll_, events, 64, 100);
      for (int i = 0; i < ready; ++i) serve(*static_cast<Device*>(events[i].data.ptr));
    }
  }

 private:
  struct Device {
    int socket = -1;
    std::string received;
  };

  void append_patch(std::string& out) {
    ++number_;
    mqtt::encode_publish(out, patch_topic(number_), patch_body(number_));
  }
  static void send_all(const Device& device, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(device.socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) give_up("the hub closed a connection");
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  void serve(Device& device) {
    char buffer[65536];
    const ssize_t size = recv(device.socket, buffer, sizeof buffer, 0);
    if (size <= 0) give_up("the hub closed a connection");
    device.received.append(buffer, static_cast<size_t>(size));
    out_.clear();
    size_t taken = 0;
    while (true) {
      const auto frame = mqtt::next_frame(std::string_view{device.received}.substr(taken));
      if (frame.status != mqtt::FrameStatus::complete) break;
      taken += frame.size;
      if (frame.type != mqtt::PacketType::publish) continue;
      count(mqtt::decode_publish(frame.flags, frame.body)->topic);
      append_patch(out_);
    }
    device.received.erase(0, taken);
    send_all(device, out_);
  }

  const int poll_ = epoll_create1(0);
  std::vector<std::unique_ptr<Device>> devices_;
  std::string out_;
  uint64_t number_ = 0;
};

// --- Eclipse Paho MQTT C ---------------------------------------------------------------------------------------------

class PahoClient final : public Client {
 public:
  ~PahoClient() override {
    stopping_ = true;
    for (const auto& device : devices_) {
      MQTTAsync_disconnectOptions bye = MQTTAsync_disconnectOptions_initializer;
      MQTTAsync_disconnect(device->handle, &bye);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{300});
    for (const auto& device : devices_) MQTTAsync_destroy(&device->handle);
  }

  void start(const HubChild& hub, const Options& options, int in_flight) override {
    const std::string address = fmt::format("tcp://127.0.0.1:{}", hub.port);
    for (int i = 0; i < options.devices; ++i) {
      auto device = std::make_unique<Device>(Device{this, in_flight, nullptr});
      MQTTAsync_create(&device->handle, address.c_str(), device_id(i).c_str(), MQTTCLIENT_PERSISTENCE_NONE, nullptr);
      MQTTAsync_setCallbacks(
          device->handle, device.get(), [](void*, char*) { give_up("the hub closed a connection of Paho"); }, arrived,
          nullptr);
      const std::string user = user_name(i);
      MQTTAsync_connectOptions login = MQTTAsync_connectOptions_initializer;
      login.username = user.c_str();
      login.password = hub.token.c_str();
      login.cleansession = 1;
      login.keepAliveInterval = 600;
      login.maxInflight = 1000;
      login.context = device.get();
      login.onSuccess = connected;
      login.onFailure = [](void*, MQTTAsync_failureData*) { give_up("Paho could not connect or subscribe"); };
      if (MQTTAsync_connect(device->handle, &login) != MQTTASYNC_SUCCESS) give_up("Paho could not connect");
      devices_.push_back(std::move(device));
    }
  }

  void work(Clock::time_point end) override { std::this_thread::sleep_until(end); }

 private:
  struct Device {
    PahoClient* client;
    int in_flight;
    MQTTAsync handle;
  };

  static void connected(void* context, MQTTAsync_successData*) {
    auto& device = *static_cast<Device*>(context);
    MQTTAsync_responseOptions answer = MQTTAsync_responseOptions_initializer;
    answer.context = &device;
    answer.onSuccess = [](void* subscribed, MQTTAsync_successData*) {
      auto& ready = *static_cast<Device*>(subscribed);
      for (int n = 0; n < ready.in_flight; ++n) ready.client->send_patch(ready);
    };
    answer.onFailure = [](void*, MQTTAsync_failureData*) { give_up("Paho could not subscribe"); };
    MQTTAsync_subscribe(device.handle, std::string{kResponses}.c_str(), 0, &answer);
  }
  static int arrived(void* context, char* topic, int size, MQTTAsync_message* message) {
    auto& device = *static_cast<Device*>(context);
    device.client->count(size > 0 ? std::string_view{topic, static_cast<size_t>(size)} : std::string_view{topic});
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    device.client->send_patch(device);
    return 1;
  }
  void send_patch(Device& device) {
    if (stopping_) return;
    const uint64_t number = ++number_;
    const std::string body = patch_body(number);
    MQTTAsync_send(device.handle, patch_topic(number).c_str(), static_cast<int>(body.size()), body.data(), 0, 0,
                   nullptr);
  }

  std::vector<std::unique_ptr<Device>> devices_;
  std::atomic<uint64_t> number_ = 0;
  std::atomic<bool> stopping_ = false;
};

// --- Measuring -------------------------------------------------------------------------------------------------------

/// Patches per second of the hub's CPU time.
double measure(const char* name, Client& client, const HubChild& hub, const Options& options, int in_flight) {
  client.start(hub, options, in_flight);
  client.work(Clock::now() + kWarmUp);
  const uint64_t accepted_before = client.accepted();
  const double cpu_before = hub.cpu_seconds();
  const auto begin = Clock::now();
  client.work(begin + std::chrono::seconds{options.seconds});
  const double elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
  const double cpu = hub.cpu_seconds() - cpu_before;
  const auto accepted = static_cast<double>(client.accepted() - accepted_before);
  if (accepted == 0 || cpu <= 0) give_up(fmt::format("nothing was answered to {}", name));
  if (client.refused() != 0) give_up(fmt::format("{} patches of {} were refused", client.refused(), name));
  fmt::print("{:<14}{:>8}{:>12}{:>12.0f}{:>16.1f}{:>24.0f}\n", name, options.devices, in_flight, accepted / elapsed,
             100 * cpu / elapsed, accepted / cpu);
  return accepted / cpu;
}

Options parse_options(int count, char** values) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string_view name = values[i];
    int* const option = name == "--seconds"       ? &options.seconds
                        : name == "--devices"     ? &options.devices
                        : name == "--hub-core"    ? &options.hub_core
                        : name == "--client-core" ? &options.client_core
                                                  : nullptr;
    const std::string_view text = i + 1 < count ? values[i + 1] : "";
    if (option == nullptr || std::from_chars(text.data(), text.data() + text.size(), *option).ec != std::errc{}) {
      give_up(fmt::format("'{} {}' is not an option and a number: --seconds, --devices, --hub-core, --client-core",
                          name, text));
    }
  }
  return options;
}

int run(const Options& options) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  HubChild hub = start_hub(options);
  pin_to(options.client_core);
  fmt::print("{:<14}{:>8}{:>12}{:>12}{:>16}{:>24}\n", "client", "devices", "in flight", "patches/s", "hub core %",
             "per hub CPU second");
  double worst = 1e18;
  for (const int in_flight : {1, 16}) {
    for (const bool raw : {true, false}) {
      std::unique_ptr<Client> client;
      if (raw) {
        client = std::make_unique<RawClient>();
      } else {
        client = std::make_unique<PahoClient>();
      }
      worst = std::min(worst, measure(raw ? "bare sockets" : "Paho MQTT C", *client, hub, options, in_flight));
    }
  }
  hub.stop();
  fmt::print("wanted: {:.0f} per hub CPU second with every client; {}\n", kWanted, worst >= kWanted ? "met" : "MISSED");
  return worst >= kWanted ? 0 : 1;
}

}  // namespace
}  // namespace twinstorm::bench

int main(int count, char** values) { return twinstorm::bench::run(twinstorm::bench::parse_options(count, values)); }
