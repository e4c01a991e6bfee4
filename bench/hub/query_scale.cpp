// Queries over a whole fleet of twins, asked of a real hub over HTTP, and the twin patches it serves meanwhile.
//
//   query_scale [--twins 10000,30000,100000] [--seconds 10] [--patches 2000] [--threads 0] [--verdict on]
//
// The hub is a child process with one shard per two cores (its default), filled by bulk registration with twins whose
// tags, desired and reported properties together are 1.2 KB of compact JSON. For each size the table shows: the hub's
// resident memory, the first page of 100 rows where 1 in 10 twins match, and a COUNT with a predicate over all twins
// (both alone, median and 99th percentile); then, while COUNTs run one after another without a pause, the latency of
// twin patches that arrive at a fixed rate, counted from the moment each was due, and the COUNTs beside them. Exit code
// 1 when the largest size misses a figure that is wanted, 2 when a measurement did not work.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/hub/hub_child.hpp"

namespace twinstorm::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPlants = 10;
constexpr int kPatchConnections = 32;
constexpr int kBulk = 100;  // entries of one registration, the service's limit
constexpr std::string_view kPageQuery = "SELECT * FROM devices WHERE tags.location.plant = 'Redmond43'";
constexpr std::string_view kCountQuery =
    "SELECT COUNT() AS total FROM devices WHERE properties.reported.battery.level < 20 AND tags.location.region = 'US'";

constexpr double kMemoryMax = 1024;  // MiB
constexpr double kPageMax = 5;       // ms, median
constexpr double kCountMax = 60;     // ms, median
constexpr double kPatchMax = 20;     // ms, 99th percentile

struct Options {
  std::vector<int> twins{10'000, 30'000, 100'000};
  int seconds = 10;
  int patches = 2000;
  int threads = 0;
  bool verdict = true;
};

std::string device_id(int device) { return fmt::format("dev-{:06}", device); }

/// Tags, desired and reported properties of some 1.2 KB, compact.
std::string registration(int device) {
  return fmt::format(
      R"({{"id":"{0}","importMode":"create","tags":{{"location":{{"region":"{1}","plant":"Redmond{2}","building":"B{3}",)"
      R"("floor":{4},"line":"assembly-{5}"}},"owner":"operations-team-{5}","ring":{5},"customer":"contoso-{3:04}",)"
      R"("installed":"2024-03-{6:02}T08:15:00Z"}},"properties":{{"desired":{{"telemetryConfig":{{)"
      R"("sendFrequencyInSecs":300,"batchSize":20,"compression":"gzip","channels":["temperature","pressure"]}},)"
      R"("firmware":{{"version":"1.4.{5}","package":"https://updates.example.com/fw/1.4.{5}.bin","checksum":)"
      R"("9f86d081884c7d659a2feaa0c55ad015","window":"02:00-04:00"}},"climate":{{"minTemperature":64.5,)"
      R"("maxTemperature":75.25,"hvac":{{"systemControl":true,"mode":"auto"}}}},"logLevel":"info"}},"reported":{{)"
      R"("telemetryConfig":{{"sendFrequencyInSecs":300,"status":"Success"}},"firmware":{{"version":"1.4.{5}",)"
      R"("status":"Running","lastBoot":"2026-10-{6:02}T04:11:09Z"}},"battery":{{"level":{7},"voltage":3.71,)"
      R"("cycles":{8}}},"connectivity":{{"type":"cellular","carrier":"carrier-{5}","signal":-71,"ip":"10.{5}.{3}.17"}},)"
      R"("climate":{{"temperature":21.5,"humidity":44,"hvac":{{"systemControl":true,"mode":"auto"}}}},)"
      R"("diagnostics":{{"uptimeSeconds":{8},"freeMemory":48213,"errors":[],"lastError":"none","sensors":{{"inlet":)"
      R"({{"state":"ok","drift":0.02}},"outlet":{{"state":"ok","drift":0.05}}}}}}}}}}}})",
      device_id(device), device % 2 == 0 ? "US" : "EU", 40 + device % kPlants, device % 97, device % 5, device % 8,
      1 + device % 28, device % 100, 100 + device % 900);
}

HubChild start_hub(const Options& options) {
  return start_hub_child(
      [&] {
        hub::HubConfig config;
        config.threads = static_cast<unsigned>(options.threads);
        config.mqtt_port = std::nullopt;
        return config;
      },
      [](const hub::Hub& hub) {
        return std::pair{hub.ports().http, hub.owner_connection_string()};
      });
}

// --- A client on a bare socket, so that nothing of the generator is part of the measurement
// ---------------------------

class Connection {
 public:
  explicit Connection(const HubChild& hub) : socket_{socket(AF_INET, SOCK_STREAM, 0)}, token_{hub.token} {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(hub.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) give_up("no connection");
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int descriptor() const { return socket_; }

  void send_request(std::string_view method, std::string_view path, std::string_view body,
                    std::string_view header = {}) {
    const std::string text = fmt::format(
        "{} {}?api-version=2021-04-12 HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: "
        "application/json\r\n{}Content-Length: {}\r\n\r\n{}",
        method, path, kHubHost, token_, header, body.size(), body);
    for (std::string_view rest = text; !rest.empty();) {
      const ssize_t sent = send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent <= 0) give_up("the hub closed a connection");
      rest.remove_prefix(static_cast<size_t>(sent));
    }
    received_.clear();
  }
  /// Reads what is there, waiting for a first byte; true when the answer is complete.
  bool receive() {
    char buffer[65536];
    const ssize_t size = recv(socket_, buffer, sizeof buffer, 0);
    if (size <= 0) give_up("the hub closed a connection");
    received_.append(buffer, static_cast<size_t>(size));
    const size_t head = received_.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    const size_t length = received_.find("Content-Length: ");
    if (length == std::string::npos || length > head) return true;
    body_ = head + 4;
    return received_.size() >= body_ + std::strtoul(received_.c_str() + length + 16, nullptr, 10);
  }
  void expect_success() const {
    if (received_.compare(0, 10, "HTTP/1.1 2") != 0) give_up(fmt::format("refused: {}", received_.substr(0, 600)));
  }
  std::string_view ask(std::string_view method, std::string_view path, std::string_view body,
                       std::string_view header = {}) {
    send_request(method, path, body, header);
    while (!receive()) {
    }
    expect_success();
    return std::string_view{received_}.substr(body_);
  }

 private:
  int socket_;
  std::string token_;
  std::string received_;
  size_t body_ = 0;
};

// --- Measuring -------------------------------------------------------------------------------------------------------

using Millis = std::vector<double>;

double since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double percentile(Millis values, double share) {
  if (values.empty()) give_up("nothing was measured");
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

std::string query_body(std::string_view sql) { return fmt::format(R"({{"query":"{}"}})", sql); }

void fill(const HubChild& hub, int twins) {
  Connection connection{hub};
  for (int first = 0; first < twins; first += kBulk) {
    std::string body = "[";
    for (int i = first; i < std::min(twins, first + kBulk); ++i) {
      if (i > first) body += ',';
      body += registration(i);
    }
    connection.ask("POST", "/devices", body += "]");
  }
}

/// Asks again and again until `end`, at least ten times.
Millis ask_queries(const HubChild& hub, std::string_view sql, std::string_view header, std::string_view expected,
                   const std::atomic<bool>* stop, Clock::time_point end) {
  Connection connection{hub};
  const std::string body = query_body(sql);
  Millis times;
  while (times.size() < 10 || (stop != nullptr ? !*stop : Clock::now() < end)) {
    const auto begin = Clock::now();
    const std::string_view answer = connection.ask("POST", "/devices/query", body, header);
    times.push_back(since(begin));
    if (answer.find(expected) == std::string_view::npos)
      give_up(fmt::format("unexpected answer: {}", answer.substr(0, 200)));
  }
  return times;
}

/// Patches that arrive at a fixed rate, whatever the hub does; latencies from the due times.
Millis patch(const HubChild& hub, const Options& options, int twins) {
  struct Channel {
    std::unique_ptr<Connection> connection;
    Clock::time_point due;
  };
  std::vector<Channel> channels;
  std::vector<size_t> idle;
  const int poll = epoll_create1(0);
  for (size_t i = 0; i < kPatchConnections; ++i) {
    channels.push_back({std::make_unique<Connection>(hub), {}});
    idle.push_back(i);
    epoll_event event{EPOLLIN, {.u64 = i}};
    epoll_ctl(poll, EPOLL_CTL_ADD, channels[i].connection->descriptor(), &event);
  }
  Millis times;
  const auto gap = std::chrono::nanoseconds{1'000'000'000 / options.patches};
  const auto begin = Clock::now();
  const auto total = static_cast<size_t>(options.seconds) * static_cast<size_t>(options.patches);
  size_t sent = 0;
  while (times.size() < total) {
    while (sent < total && !idle.empty() && Clock::now() >= begin + gap * sent) {
      Channel& channel = channels[idle.back()];
      idle.pop_back();
      channel.due = begin + gap * sent;
      const int device = static_cast<int>(sent * 7919 % static_cast<size_t>(twins));
      channel.connection->send_request(
          "PATCH", "/twins/" + device_id(device),
          fmt::format(R"({{"properties":{{"desired":{{"climate":{{"minTemperature":{}}},"seq":{}}}}}}})", sent % 100,
                      sent),
          "If-Match: \"*\"\r\n");
      ++sent;
    }
    epoll_event events[kPatchConnections];
    const bool all_busy = idle.empty() || sent == total;
    const auto wait = begin + gap * sent - Clock::now();
    const int ready = epoll_wait(poll, events, kPatchConnections,
                                 all_busy                              ? 100
                                 : wait > std::chrono::milliseconds{1} ? 1
                                                                       : 0);
    for (int i = 0; i < ready; ++i) {
      const size_t index = events[i].data.u64;
      if (!channels[index].connection->receive()) continue;
      channels[index].connection->expect_success();
      times.push_back(since(channels[index].due));
      idle.push_back(index);
    }
  }
  close(poll);
  return times;
}

struct Figures {
  double memory, page, count, patch;
};

Figures measure(const Options& options, int twins) {
  HubChild hub = start_hub(options);
  const auto filling = Clock::now();
  fill(hub, twins);
  const double filled = since(filling);
  const double memory = hub.memory("VmRSS:");
  const auto quiet = [&] { return Clock::now() + std::chrono::seconds{std::max(1, options.seconds / 4)}; };
  const Millis pages = ask_queries(hub, kPageQuery, "x-ms-max-item-count: 100\r\n", "Redmond43", nullptr, quiet());
  const std::string total = fmt::format(R"("total":{})", twins / 10);
  const Millis counts = ask_queries(hub, kCountQuery, {}, total, nullptr, quiet());

  std::atomic<bool> stop = false;
  Millis busy_counts;
  std::thread asking{[&] { busy_counts = ask_queries(hub, kCountQuery, {}, total, &stop, {}); }};
  const Millis patches = patch(hub, options, twins);
  stop = true;
  asking.join();

  fmt::print("{:>8}{:>10.0f}{:>10.0f}{:>9.2f}{:>8.2f}{:>10.1f}{:>8.1f}{:>10.1f}{:>8.1f}{:>10.2f}{:>8.2f}{:>8.1f}\n",
             twins, memory, 1000.0 * twins / filled, percentile(pages, 0.5), percentile(pages, 0.99),
             percentile(counts, 0.5), percentile(counts, 0.99), percentile(busy_counts, 0.5),
             percentile(busy_counts, 0.99), percentile(patches, 0.5), percentile(patches, 0.99),
             percentile(patches, 1));
  std::fflush(stdout);
  hub.stop();
  return {memory, percentile(pages, 0.5), percentile(counts, 0.5), percentile(patches, 0.99)};
}

Options parse_options(int count, char** values) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string_view name = values[i];
    std::string_view text = i + 1 < count ? values[i + 1] : "";
    const auto number = [&](std::string_view digits) {
      int value = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (error != std::errc{} || end != digits.data() + digits.size() || value < 0) {
        give_up(fmt::format("{} '{}' is not a number", name, digits));
      }
      return value;
    };
    if (name == "--seconds") {
      options.seconds = std::max(1, number(text));
    } else if (name == "--patches") {
      options.patches = std::max(1, number(text));
    } else if (name == "--threads") {
      options.threads = number(text);
    } else if (name == "--verdict" && (text == "on" || text == "off")) {
      options.verdict = text == "on";
    } else if (name == "--twins") {
      options.twins.clear();
      while (!text.empty()) {
        const size_t comma = std::min(text.find(','), text.size());
        options.twins.push_back(std::max(1000, number(text.substr(0, comma)) / 1000 * 1000));
        text.remove_prefix(std::min(text.size(), comma + 1));
      }
      if (options.twins.empty()) give_up("--twins is empty");
    } else {
      give_up(fmt::format("'{}' is none of --twins N,N --seconds N --patches N --threads N --verdict on|off", name));
    }
  }
  return options;
}

int run(const Options& options) {
  const std::string sample = registration(0);
  const size_t content =
      sample.size() - std::string_view{R"({"id":"dev-000000","importMode":"create","tags":,"properties":})"}.size();
  fmt::print("twins of {} bytes of tags and properties; times in ms; {} patches/s beside COUNTs\n", content,
             options.patches);
  fmt::print("{:>8}{:>10}{:>10}{:>17}{:>18}{:>18}{:>26}\n", "", "memory", "created", "page of 100", "COUNT alone",
             "COUNT beside", "patch");
  fmt::print("{:>8}{:>10}{:>10}{:>9}{:>8}{:>10}{:>8}{:>10}{:>8}{:>10}{:>8}{:>8}\n", "twins", "MiB", "per s", "p50",
             "p99", "p50", "p99", "p50", "p99", "p50", "p99", "max");
  Figures last{};
  for (const int twins : options.twins) last = measure(options, twins);
  if (!options.verdict) return 0;
  const bool met =
      last.memory <= kMemoryMax && last.page < kPageMax && last.count < kCountMax && last.patch < kPatchMax;
  fmt::print(
      "wanted of the last row: memory {:.0f} MiB, page p50 {:.0f} ms, COUNT p50 {:.0f} ms, patch p99 {:.0f} ms; {}\n",
      kMemoryMax, kPageMax, kCountMax, kPatchMax, met ? "met" : "MISSED");
  return met ? 0 : 1;
}

}  // namespace
}  // namespace twinstorm::bench

int main(int count, char** values) { return twinstorm::bench::run(twinstorm::bench::parse_options(count, values)); }
