#include "tests/support/scripted_hub/server.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <queue>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <unordered_map>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm::scripted_hub {
namespace {

constexpr size_t kReadBytes = 256 * 1024;
constexpr int kBacklog = 4096;
constexpr size_t kDeviceShards = 64;

const SteadyClock kClock;

int64_t stamp(MonoTime time) { return time.time_since_epoch().count(); }

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

/// A loopback listener of one thread; `port` 0 picks one.
int listen_on(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, kBacklog) != 0) {
    fail("cannot listen");
  }
  return fd;
}

uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail("cannot read the port");
  return ntohs(address.sin_port);
}

bool equals_without_case(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() && std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? static_cast<char>(x + 32) : x) == y;
         });
}

struct HttpRequest {
  std::string_view method, path, body;  ///< path without query
  size_t size = 0;                      ///< bytes of the whole request; 0: more are needed
};

HttpRequest parse_http(std::string_view bytes) {
  const auto head_end = bytes.find("\r\n\r\n");
  if (head_end == std::string_view::npos) return {};
  const auto head = bytes.substr(0, head_end);
  const auto line = head.substr(0, head.find("\r\n"));
  HttpRequest request;
  const auto space = line.find(' ');
  request.method = line.substr(0, space);
  request.path = line.substr(space + 1);
  request.path = request.path.substr(0, request.path.find_first_of(" ?"));
  size_t length = 0;
  for (auto rest = head.substr(std::min(line.size() + 2, head.size())); !rest.empty();) {
    const auto end = std::min(rest.find("\r\n"), rest.size());
    const auto field = rest.substr(0, end);
    const auto colon = field.find(':');
    if (colon != std::string_view::npos && equals_without_case(field.substr(0, colon), "content-length")) {
      auto value = field.substr(colon + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      std::from_chars(value.data(), value.data() + value.size(), length);
    }
    rest.remove_prefix(std::min(end + 2, rest.size()));
  }
  if (bytes.size() < head_end + 4 + length) return {};
  request.body = bytes.substr(head_end + 4, length);
  request.size = head_end + 4 + length;
  return request;
}

void append_http(std::string& out, int status, std::string_view body) {
  fmt::format_to(std::back_inserter(out),
                 "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                 status == 200 ? "200 OK" : "404 Not Found", body.size(), body);
}

/// The section `properties.desired` of a patch's body, as text; `{}` without one. Balances braces outside strings.
std::string_view desired_of(std::string_view body) {
  const auto key = body.find("\"desired\"");
  const auto open = key == std::string_view::npos ? key : body.find('{', key);
  if (open == std::string_view::npos) return "{}";
  int depth = 0;
  bool quoted = false;
  for (size_t i = open; i < body.size(); ++i) {
    const char c = body[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return body.substr(open, i + 1 - open);
    }
  }
  return "{}";
}

/// Ids of the tests hold nothing that is percent-encoded but what this undoes.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ec == std::errc{}) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Connection {
  int fd = -1;
  bool http = false;
  bool waits_for_room = false;  ///< EPOLLOUT is on
  bool subscribed = false;      ///< to desired properties
  bool closing = false;
  bool touched = false;  ///< in the worker's list of those with something to write
  uint64_t serial = 0;
  struct Device* device = nullptr;
  std::string in, out;
};

struct Device {
  explicit Device(std::string_view id_in) : id{id_in} {}

  const std::string id;
  std::mutex mutex;
  std::atomic<int64_t> desired{1}, reported{1};
  Worker* worker = nullptr;          ///< under `mutex`: whose connection it is
  Connection* connection = nullptr;  ///< belongs to that worker's thread
};

struct Counts {
  std::atomic<uint64_t> connects{0}, twin_gets{0}, reported{0}, telemetry{0}, twin_patches{0}, notifications{0},
      twins_read{0};
};

void add_one(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

const char* to_string(Kind kind) {
  switch (kind) {
    case Kind::reported:
      return "reported";
    case Kind::telemetry:
      return "telemetry";
    case Kind::desired:
      return "desired";
  }
  return "";
}

struct Shared {
  explicit Shared(const Config& config_in) : config{config_in} {}

  const Config config;
  std::atomic<bool> stopping{false};
  std::atomic<uint64_t> operations{0};
  std::atomic<int64_t> first{0};  ///< stamp of operation 0
  std::vector<Worker*> workers;

  Device& device(std::string_view id) {
    const size_t hash = std::hash<std::string_view>{}(id);
    auto& shard = shards[hash % kDeviceShards];
    const std::lock_guard lock{shard.mutex};
    auto& found = shard.devices[std::string{id}];
    if (!found) found = std::make_unique<Device>(id);
    return *found;
  }

 private:
  struct DeviceShard {
    std::mutex mutex;
    std::unordered_map<std::string, std::unique_ptr<Device>> devices;
  };
  std::array<DeviceShard, kDeviceShards> shards;
};

class Worker {
 public:
  Worker(Shared& shared, uint16_t mqtt_port, uint16_t http_port)
      : shared_{shared}, scripted_{!shared.config.delay.none() || shared.config.stall.length > Nanos{0}} {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (epoll_ < 0 || wake_ < 0) fail("cannot make an event loop");
    mqtt_ = listen_on(mqtt_port);
    http_ = listen_on(http_port);
    for (int* const fd : {&mqtt_, &http_, &wake_}) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = fd;
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, *fd, &event) != 0) fail("cannot watch a listener");
    }
    buffer_.resize(kReadBytes);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() {
    for (auto& [serial, connection] : connections_) ::close(connection->fd);
    for (const int fd : {mqtt_, http_, wake_, epoll_}) ::close(fd);
  }

  uint16_t mqtt_port() const { return port_of(mqtt_); }
  uint16_t http_port() const { return port_of(http_); }
  const Counts& counts() const { return counts_; }
  const std::vector<Record>& records() const { return records_; }
  void wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  }

  void run() {
    std::array<epoll_event, 256> events;
    while (!shared_.stopping.load(std::memory_order_relaxed)) {
      timespec wait{};
      const timespec* patience = nullptr;
      if (!waiting_.empty()) {
        const Nanos left = std::max(Nanos{0}, waiting_.top().due - kClock.mono());
        wait = {static_cast<time_t>(left.count() / 1'000'000'000), static_cast<long>(left.count() % 1'000'000'000)};
        patience = &wait;
      }
      const int count = ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), patience, nullptr);
      if (count < 0 && errno != EINTR) fail("cannot wait");
      for (int i = 0; i < count; ++i) {
        const auto& event = events[static_cast<size_t>(i)];
        if (event.data.ptr == &mqtt_ || event.data.ptr == &http_) {
          accept_all(event.data.ptr == &http_);
        } else if (event.data.ptr == &wake_) {
          read_mail();
        } else {
          serve(*static_cast<Connection*>(event.data.ptr), event.events);
        }
      }
      send_due();
      flush_touched();
      dead_.clear();
    }
  }

  /// From any thread.
  void post(Device& device, int64_t version, std::string_view desired) {
    bool first = false;
    {
      const std::lock_guard lock{mail_mutex_};
      first = mail_.empty();
      mail_.push_back({&device, version, std::string{desired}});
    }
    if (first) wake();
  }

 private:
  struct Waiting {
    MonoTime due;
    uint64_t serial;  ///< of the connection
    std::string bytes;
    Record record;
    bool operator<(const Waiting& other) const {  // the queue has the greatest on top
      return std::tie(due, record.n) > std::tie(other.due, other.record.n);
    }
  };
  struct Mail {
    Device* device;
    int64_t version;
    std::string desired;
  };

  void accept_all(bool http) {
    for (;;) {
      const int fd = ::accept4(http ? http_ : mqtt_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      auto connection = std::make_unique<Connection>();
      connection->fd = fd;
      connection->http = http;
      connection->serial = next_serial_++;
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = connection.get();
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
        ::close(fd);
        continue;
      }
      connections_.emplace(connection->serial, std::move(connection));
    }
  }

  void serve(Connection& connection, uint32_t events) {
    if (connection.closing) return;
    if ((events & EPOLLOUT) != 0) touch(connection);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
    const ssize_t count = ::recv(connection.fd, buffer_.data(), buffer_.size(), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
      close(connection);
      return;
    }
    if (scripted_ || shared_.config.log) received_ = kClock.mono();
    std::string_view bytes{buffer_.data(), static_cast<size_t>(count)};
    if (!connection.in.empty()) {
      connection.in.append(bytes);
      bytes = connection.in;
    }
    const size_t used = connection.http ? take_http(connection, bytes) : take_mqtt(connection, bytes);
    if (connection.closing) return;
    if (!connection.in.empty()) {
      connection.in.erase(0, used);
    } else if (used < bytes.size()) {
      connection.in.assign(bytes.substr(used));
    }
    if (!connection.out.empty()) touch(connection);
  }

  size_t take_mqtt(Connection& connection, std::string_view bytes) {
    size_t used = 0;
    for (;;) {
      const auto frame = mqtt::next_frame(bytes.substr(used));
      if (frame.status == mqtt::FrameStatus::need_more) return used;
      if (frame.status == mqtt::FrameStatus::malformed || !take_packet(connection, frame)) {
        close(connection);
        return used;
      }
      used += frame.size;
    }
  }

  /// False: the connection ends.
  bool take_packet(Connection& connection, const mqtt::FrameResult& frame) {
    switch (frame.type) {
      case mqtt::PacketType::connect: {
        const auto connect = mqtt::decode_connect(frame.body);
        if (!connect) return false;
        Device& device = shared_.device(connect->client_id);
        {
          const std::lock_guard lock{device.mutex};
          device.worker = this;
          device.connection = &connection;
        }
        connection.device = &device;
        mqtt::encode_connack(connection.out, {});
        add_one(counts_.connects);
        return true;
      }
      case mqtt::PacketType::subscribe: {
        const auto subscribe = mqtt::decode_subscribe(frame.body);
        if (!subscribe || connection.device == nullptr) return false;
        std::string granted;
        for (const auto subscription : subscribe->filters) {
          granted += static_cast<char>(std::min(subscription.qos, mqtt::Qos::at_least_once));
          if (subscription.filter == protocol::kDesiredFilter) connection.subscribed = true;
        }
        const std::vector<uint8_t> codes{granted.begin(), granted.end()};
        mqtt::encode_suback(connection.out, subscribe->packet_id, codes);
        return true;
      }
      case mqtt::PacketType::unsubscribe: {
        const auto unsubscribe = mqtt::decode_unsubscribe(frame.body);
        if (!unsubscribe) return false;
        mqtt::encode_unsuback(connection.out, unsubscribe->packet_id);
        return true;
      }
      case mqtt::PacketType::publish: {
        const auto publish = mqtt::decode_publish(frame.flags, frame.body);
        return publish && connection.device != nullptr && take_publish(connection, *publish);
      }
      case mqtt::PacketType::pingreq:
        mqtt::encode_pingresp(connection.out);
        return true;
      case mqtt::PacketType::puback:
        return true;
      default:
        return false;
    }
  }

  bool take_publish(Connection& connection, const mqtt::Publish& publish) {
    const auto topic = protocol::parse_device_topic(publish.topic);
    if (!topic) return false;
    using TopicKind = protocol::DeviceTopic::Kind;
    switch (topic->kind) {
      case TopicKind::twin_get: {
        const auto& device = *connection.device;
        topic_.clear();
        protocol::append_twin_response(topic_, 200, topic->rid);
        body_.clear();
        fmt::format_to(std::back_inserter(body_), R"({{"desired":{{"$version":{}}},"reported":{{"$version":{}}}}})",
                       device.desired.load(), device.reported.load());
        mqtt::encode_publish(connection.out, topic_, body_);
        add_one(counts_.twin_gets);
        return true;
      }
      case TopicKind::reported_patch:
        topic_.clear();
        protocol::append_twin_response(topic_, 204, topic->rid, connection.device->reported.fetch_add(1) + 1);
        add_one(counts_.reported);
        answer(connection, *connection.device, Kind::reported,
               [&](std::string& out) { mqtt::encode_publish(out, topic_, {}); });
        return true;
      case TopicKind::telemetry:
        add_one(counts_.telemetry);
        if (publish.qos == mqtt::Qos::at_least_once) {
          answer(connection, *connection.device, Kind::telemetry,
                 [&](std::string& out) { mqtt::encode_puback(out, publish.packet_id); });
        }
        return true;
      case TopicKind::method_response:
        return true;
    }
    return false;
  }

  size_t take_http(Connection& connection, std::string_view bytes) {
    size_t used = 0;
    for (;;) {
      const auto request = parse_http(bytes.substr(used));
      if (request.size == 0) return used;
      take_request(connection, request);
      used += request.size;
    }
  }

  void take_request(Connection& connection, const HttpRequest& request) {
    if (request.path.starts_with("/twins/")) {
      Device& device = shared_.device(unescaped(request.path.substr(7)));
      if (request.method == "GET") {
        add_one(counts_.twins_read);
        append_twin(connection.out, device.desired.load(), device.reported.load());
        return;
      }
      add_one(counts_.twin_patches);
      const auto version = change(device, desired_of(request.body));
      answer(connection, device, Kind::desired,
             [&](std::string& out) { append_twin(out, version, device.reported.load(std::memory_order_relaxed)); });
    } else if (request.path == "/devices" && request.method == "POST") {
      append_http(connection.out, 200, R"({"isSuccessful":true,"errors":[],"warnings":[]})");
    } else if (request.path == "/devices/query") {
      append_http(connection.out, 200, "[]");
    } else if (request.path == "/twinstorm/counts") {
      append_counts(connection.out);
    } else {
      append_http(connection.out, 404, R"({"Message":"ErrorCode:NotFound;a scripted hub has no such thing"})");
    }
  }

  void append_twin(std::string& out, int64_t desired, int64_t reported) {
    body_.clear();
    fmt::format_to(
        std::back_inserter(body_),
        R"({{"etag":"{:08}","version":{},"properties":{{"desired":{{"$version":{}}},"reported":{{"$version":{}}}}}}})",
        desired, desired + reported, desired, reported);
    append_http(out, 200, body_);
  }

  void append_counts(std::string& out) {
    const auto sum = [&](std::atomic<uint64_t> Counts::*member) {
      uint64_t total = 0;
      for (const Worker* worker : shared_.workers) total += (worker->counts_.*member).load(std::memory_order_relaxed);
      return total;
    };
    append_http(
        out, 200,
        fmt::format(R"({{"connectsAccepted":{},"twinGets":{},"reportedPatches":{},"telemetryMessages":{},)"
                    R"("desiredPatches":{},"twinReads":{},"desiredNotificationsSent":{}}})",
                    sum(&Counts::connects), sum(&Counts::twin_gets), sum(&Counts::reported), sum(&Counts::telemetry),
                    sum(&Counts::twin_patches), sum(&Counts::twins_read), sum(&Counts::notifications)));
  }

  /// The next desired version; its notification goes to whoever has the device's connection.
  int64_t change(Device& device, std::string_view desired) {
    const std::lock_guard lock{device.mutex};
    const auto version = device.desired.fetch_add(1) + 1;
    if (device.worker == nullptr) return version;
    if (shared_.workers.size() == 1) {
      notify(device.connection, version, desired);
    } else {
      // By mail even to oneself: versions arrive in the order they were made.
      device.worker->post(device, version, desired);
    }
    return version;
  }

  void notify(Connection* connection, int64_t version, std::string_view desired) {
    if (connection == nullptr || !connection->subscribed || connection->closing) return;
    notification_topic_.clear();
    protocol::append_desired_notification(notification_topic_, version);
    notification_.assign(desired.substr(0, desired.size() - 1));
    fmt::format_to(std::back_inserter(notification_), R"({}"$version":{}}})", notification_.size() > 1 ? "," : "",
                   version);
    mqtt::encode_publish(connection->out, notification_topic_, notification_);
    add_one(counts_.notifications);
    touch(*connection);
  }

  void read_mail() {
    uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(wake_, &count, sizeof count);
    {
      const std::lock_guard lock{mail_mutex_};
      mail_read_.swap(mail_);
    }
    for (const auto& mail : mail_read_) {
      const std::lock_guard lock{mail.device->mutex};
      if (mail.device->worker == this) notify(mail.device->connection, mail.version, mail.desired);
    }
    mail_read_.clear();
  }

  /// Now, or when the script wants it.
  template <class Write>
  void answer(Connection& connection, const Device& device, Kind kind, const Write& write) {
    if (!scripted_ && !shared_.config.log) {
      write(connection.out);
      return;
    }
    const auto n = shared_.operations.fetch_add(1);
    if (n == 0) shared_.first.store(stamp(received_));
    const MonoTime first{Nanos{shared_.first.load()}};
    const auto due = answer_due(shared_.config.delay, shared_.config.stall, first, received_, n);
    Waiting waiting{due, connection.serial, {}, {kind, n, stamp(received_), stamp(due), 0, {}}};
    if (shared_.config.log) waiting.record.device = device.id;
    write(waiting.bytes);
    waiting_.push(std::move(waiting));
  }

  void send_due() {
    while (!waiting_.empty()) {
      const auto& next = waiting_.top();
      const MonoTime now = kClock.mono();
      if (next.due > now) return;
      if (const auto found = connections_.find(next.serial); found != connections_.end()) {
        found->second->out.append(next.bytes);
        flush(*found->second);
        if (shared_.config.log) {
          records_.push_back(next.record);
          records_.back().sent = stamp(now);
        }
      }
      waiting_.pop();
    }
  }

  void touch(Connection& connection) {
    if (connection.touched) return;
    connection.touched = true;
    touched_.push_back(&connection);
  }

  void flush_touched() {
    for (Connection* connection : touched_) {
      connection->touched = false;
      if (!connection->closing) flush(*connection);
    }
    touched_.clear();
  }

  void flush(Connection& connection) {
    size_t done = 0;
    while (done < connection.out.size()) {
      const auto count =
          ::send(connection.fd, connection.out.data() + done, connection.out.size() - done, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno != EAGAIN) {
        close(connection);
        return;
      }
      if (count < 0) break;
      done += static_cast<size_t>(count);
    }
    connection.out.erase(0, done);
    const bool wants_room = !connection.out.empty();
    if (wants_room == connection.waits_for_room) return;
    connection.waits_for_room = wants_room;
    epoll_event event{};
    event.events = wants_room ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.ptr = &connection;
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  /// The object lives until the end of the round: events and lists may still name it.
  void close(Connection& connection) {
    if (connection.closing) return;
    connection.closing = true;
    if (Device* device = connection.device) {
      const bool locked = device->mutex.try_lock();  // not when called from a notification, which holds it
      if (device->connection == &connection) device->connection = nullptr, device->worker = nullptr;
      if (locked) device->mutex.unlock();
    }
    ::close(connection.fd);
    const auto found = connections_.find(connection.serial);
    dead_.push_back(std::move(found->second));
    connections_.erase(found);
  }

  Shared& shared_;
  const bool scripted_;
  int epoll_ = -1, wake_ = -1, mqtt_ = -1, http_ = -1;
  Counts counts_;
  std::string buffer_, topic_, body_, notification_topic_, notification_;
  uint64_t next_serial_ = 1;
  MonoTime received_{};
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> dead_;
  std::vector<Connection*> touched_;
  std::priority_queue<Waiting> waiting_;
  std::vector<Record> records_;
  std::mutex mail_mutex_;
  std::vector<Mail> mail_, mail_read_;
};

Server::Server(const Config& config) : shared_{std::make_unique<Shared>(config)} {
  for (unsigned i = 0; i < std::max(config.threads, 1U); ++i) {
    workers_.push_back(std::make_unique<Worker>(*shared_, mqtt_port_, http_port_));
    mqtt_port_ = workers_.front()->mqtt_port();
    http_port_ = workers_.front()->http_port();
    shared_->workers.push_back(workers_.back().get());
  }
}

Server::~Server() = default;

void Server::run() {
  std::vector<std::thread> threads;
  for (size_t i = 1; i < workers_.size(); ++i) threads.emplace_back([worker = workers_[i].get()] { worker->run(); });
  workers_.front()->run();
  for (auto& thread : threads) thread.join();
}

void Server::stop() {
  shared_->stopping = true;
  for (const auto& worker : workers_) worker->wake();
}

std::vector<Record> Server::records() const {
  std::vector<Record> all;
  for (const auto& worker : workers_) all.insert(all.end(), worker->records().begin(), worker->records().end());
  std::sort(all.begin(), all.end(), [](const Record& a, const Record& b) { return a.n < b.n; });
  return all;
}

}  // namespace twinstorm::scripted_hub
