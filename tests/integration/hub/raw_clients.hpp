// Blocking loopback clients without any of the fleet's own networking: what the tests send is what the hub gets.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "sim/hub/hub.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm::hub::testing {

constexpr int kPatienceMs = 5000;

/// What may lie between a RawSocket and its descriptor: TLS, WebSocket framing (secure_layers.hpp). Blocking.
class ByteLayer {
 public:
  virtual ~ByteLayer() = default;
  /// As send(2) and recv(2); a negative number of `read` other than -1 means: nothing yet, wait again.
  virtual ssize_t write(std::string_view bytes) = 0;
  virtual ssize_t read(char* into, size_t size) = 0;
  /// Bytes are here that no readiness of the descriptor announces.
  virtual bool holds_bytes() const { return false; }
};

class RawSocket {
 public:
  explicit RawSocket(uint16_t port) : fd_{socket(AF_INET, SOCK_STREAM, 0)} {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ADD_FAILURE() << "cannot connect to port " << port;
    }
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~RawSocket() { shut(); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent =
          layer != nullptr ? layer->write(bytes) : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the hub closed: the test looks at what it answered
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  /// Appends what arrives; false on end of stream, reset or silence.
  bool receive(int patience_ms = kPatienceMs) {
    pollfd waiting{fd_, POLLIN, 0};
    if ((layer == nullptr || !layer->holds_bytes()) && poll(&waiting, 1, patience_ms) <= 0) return false;
    char buffer[65536];
    const ssize_t size = layer != nullptr ? layer->read(buffer, sizeof buffer) : recv(fd_, buffer, sizeof buffer, 0);
    if (size < -1) return true;
    if (size <= 0) {
      ended_ = true;
      return false;
    }
    received.append(buffer, static_cast<size_t>(size));
    return true;
  }
  /// True when the hub ends the connection, whatever it still sends before.
  bool ends() {
    while (receive()) {
    }
    return ended_;
  }
  void shut() {
    layer.reset();
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  /// A small receive window, so that a reader that stops reading is noticed early.
  void shrink_receive_buffer() {
    const int size = 4096;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    // The reset of a hub that has enough may not get past the full window, so sending must not wait for ever.
    const timeval patience{0, 200'000};
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }

  int descriptor() const { return fd_; }

  std::string received;
  std::unique_ptr<ByteLayer> layer;

 private:
  int fd_;
  bool ended_ = false;
};

struct MqttMessage {
  mqtt::PacketType type;
  uint8_t flags;
  std::string body;
};

struct MqttPublish {
  std::string topic;
  std::string payload;
};

struct DeviceLogin {
  std::string device_id;
  std::string key;
  std::string host = "hub.localhost";
  std::string user_suffix = "/?api-version=2021-04-12&DeviceClientType=raw";
  uint16_t keep_alive = 60;
  bool clean_session = false;
};

class RawMqtt : public RawSocket {
 public:
  using RawSocket::RawSocket;

  static std::string connect_packet(const DeviceLogin& login) {
    const std::string user = login.host + "/" + login.device_id + login.user_suffix;
    const std::string password = protocol::make_sas_token(login.host + "/devices/" + login.device_id,
                                                          *protocol::base64_decode(login.key), 4'000'000'000);
    mqtt::Connect connect;
    connect.client_id = login.device_id;
    connect.keep_alive_seconds = login.keep_alive;
    connect.clean_session = login.clean_session;
    connect.user_name = user;
    connect.password = password;
    std::string out;
    mqtt::encode_connect(out, connect);
    return out;
  }

  /// The CONNACK, or nothing.
  std::optional<mqtt::Connack> login(const DeviceLogin& login) {
    send(connect_packet(login));
    return connack();
  }
  std::optional<mqtt::Connack> connack() {
    const auto message = next();
    if (!message || message->type != mqtt::PacketType::connack) return std::nullopt;
    return *mqtt::decode_connack(message->body);
  }

  std::optional<MqttMessage> next(int patience_ms = kPatienceMs) {
    while (true) {
      const auto frame = mqtt::next_frame(received);
      if (frame.status == mqtt::FrameStatus::complete) {
        MqttMessage message{frame.type, frame.flags, std::string{frame.body}};
        received.erase(0, frame.size);
        return message;
      }
      if (!receive(patience_ms)) return std::nullopt;
    }
  }
  std::optional<MqttPublish> next_publish(int patience_ms = kPatienceMs) {
    const auto message = next(patience_ms);
    if (!message || message->type != mqtt::PacketType::publish) return std::nullopt;
    const auto publish = mqtt::decode_publish(message->flags, message->body);
    if (!publish) return std::nullopt;
    return MqttPublish{std::string{publish->topic}, std::string{publish->payload}};
  }
  /// True when the SUBACK grants QoS 0 or 1.
  bool subscribe(std::string_view filter, mqtt::Qos qos = mqtt::Qos::at_most_once) {
    std::string out;
    const mqtt::Subscription wanted{filter, qos};
    mqtt::encode_subscribe(out, ++packet_id_, {&wanted, 1});
    send(out);
    const auto message = next();
    return message && message->type == mqtt::PacketType::suback && static_cast<uint8_t>(message->body.back()) < 2;
  }
  void publish(std::string_view topic, std::string_view payload, mqtt::Qos qos = mqtt::Qos::at_most_once) {
    std::string out;
    mqtt::encode_publish(out, topic, payload, qos, qos == mqtt::Qos::at_most_once ? uint16_t{0} : ++packet_id_);
    send(out);
  }
  /// Publishes a twin request and returns its answer.
  std::optional<MqttPublish> ask(std::string_view topic, std::string_view payload) {
    publish(topic, payload);
    return next_publish();
  }
  /// A PINGREQ is answered: everything before it has been handled.
  bool alive() {
    std::string out;
    mqtt::encode_pingreq(out);
    send(out);
    const auto message = next();
    return message && message->type == mqtt::PacketType::pingresp;
  }

 private:
  uint16_t packet_id_ = 100;
};

struct HttpReply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  nlohmann::json json() const { return nlohmann::json::parse(body, nullptr, false); }
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string{} : found->second;
  }
};

class RawHttp : public RawSocket {
 public:
  RawHttp(uint16_t port, std::string connection_string) : RawSocket{port} {
    const auto parsed = protocol::parse_connection_string(connection_string);
    if (!parsed) return;
    token = protocol::make_sas_token(parsed->host_name, *protocol::base64_decode(parsed->shared_access_key),
                                     4'000'000'000, parsed->shared_access_key_name);
  }

  HttpReply request(std::string_view method, std::string_view target, std::string_view body = {},
                    std::string_view more_headers = {}) {
    write(method, target, body, more_headers);
    return read();
  }
  void write(std::string_view method, std::string_view target, std::string_view body = {},
             std::string_view more_headers = {}) {
    std::string out = std::string{method} + " " + std::string{target};
    if (target.find("api-version=") == std::string_view::npos && !target.starts_with("/twinstorm/")) {
      out += target.find('?') == std::string_view::npos ? "?" : "&";
      out += "api-version=2021-04-12";
    }
    out += " HTTP/1.1\r\nHost: hub.localhost\r\n";
    if (!token.empty()) out += "Authorization: " + token + "\r\n";
    if (!body.empty()) out += "Content-Type: application/json; charset=utf-8\r\n";
    out += "Content-Length: " + std::to_string(body.size()) + "\r\n" + std::string{more_headers} + "\r\n";
    out += body;
    send(out);
  }
  HttpReply read() {
    HttpReply reply;
    size_t end;
    while ((end = received.find("\r\n\r\n")) == std::string::npos) {
      if (!receive()) return reply;
    }
    const std::string head = received.substr(0, end + 2);
    received.erase(0, end + 4);
    reply.status = std::stoi(head.substr(9, 3));
    for (size_t line = head.find("\r\n") + 2; line < head.size();) {
      const size_t stop = head.find("\r\n", line);
      const size_t colon = head.find(':', line);
      std::string name = head.substr(line, colon - line);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      reply.headers[name] = head.substr(colon + 2, stop - colon - 2);
      line = stop + 2;
    }
    const std::string length = reply.header("content-length");
    const size_t size = length.empty() ? 0 : std::stoul(length);
    while (received.size() < size) {
      if (!receive()) return reply;
    }
    reply.body = received.substr(0, size);
    received.erase(0, size);
    return reply;
  }

  std::string token;
};

}  // namespace twinstorm::hub::testing
