#include "sim/backend/http_client.hpp"

#include <algorithm>

#include "sim/net/tcp_stream.hpp"
#include "sim/net/tls_stream.hpp"

namespace twinstorm::backend {

struct HttpClient::Connection : net::StreamEvents {
  explicit Connection(HttpClient& owner) : client{owner} {}
  virtual ~Connection() = default;

  // Of the stream below, with or without TLS.
  virtual void dial() = 0;
  virtual void write(std::string_view bytes) = 0;
  virtual void close() = 0;
  virtual bool reusable() const = 0;
  virtual std::string_view reason() const = 0;

  void on_stream_connected() override {
    connected = true;
    if (slot != kNone) send();
  }
  size_t on_stream_bytes(std::string_view bytes) override {
    const auto fed = parser.feed(bytes);
    if (fed.status == http::ParseStatus::error || (slot == kNone && fed.consumed > 0)) {
      fail(HttpFailure::protocol);
      return fed.consumed;
    }
    if (fed.status == http::ParseStatus::complete) answered();
    return fed.consumed;
  }
  void on_stream_ended(net::StreamEnd end) override {
    if (connected && slot != kNone && parser.feed_eof() == http::ParseStatus::complete) {
      answered();
      return;
    }
    client.error_text_ = reason();
    switch (end) {
      case net::StreamEnd::connect_failed:
        return fail(HttpFailure::refused);
      case net::StreamEnd::untrusted:
      case net::StreamEnd::handshake_failed:
        return fail(HttpFailure::tls);
      default:
        // Without a connection nothing was sent.
        return fail(connected ? HttpFailure::disconnected : HttpFailure::refused);
    }
  }

  void send() {
    const uint32_t current = slot;
    client.events_.on_http_sent(client.tags_[current], client.clock_.mono());
    write(client.wires_[current]);
  }
  void answered() {
    const uint32_t done = slot;
    slot = kNone;
    // An answer that came before the whole request was written leaves a connection nobody can use again.
    const bool keep = parser.keep_alive() && reusable();
    if (!keep) drop();
    const HttpAnswer answer{parser.status(), parser.body(), &parser};
    const uint64_t tag = client.tags_[done];
    client.finish(done);
    answering = true;  // the parser's views are in use: not ours to assign to yet
    client.events_.on_http_answer(tag, answer);
    answering = false;
    parser.next();
    client.pump();
  }
  void fail(HttpFailure failure) {
    const uint32_t failed = slot;
    slot = kNone;
    drop();
    parser.next();
    if (failed == kNone) return;
    const uint64_t tag = client.tags_[failed];
    client.finish(failed);
    client.events_.on_http_failed(tag, failure);
    client.pump();
  }
  void drop() {
    connected = false;
    close();
  }
  bool idle() const { return slot == kNone && !answering; }

  HttpClient& client;
  http::ResponseParser parser;
  uint32_t slot = kNone;
  bool connected = false;
  bool answering = false;
};

template <class Stream>
struct HttpClient::ConnectionOn final : Connection {
  explicit ConnectionOn(HttpClient& owner) : Connection{owner}, stream{owner.io_} {}

  void dial() override {
    const auto& config = client.config_;
    stream.connect({.endpoint = config.endpoint, .tls = config.tls, .server_name = config.server_name}, *this);
  }
  void write(std::string_view bytes) override { stream.send(bytes); }
  void close() override { stream.close(); }
  bool reusable() const override { return stream.open() && !stream.send_pending(); }
  std::string_view reason() const override { return stream.error_text(); }

  Stream stream;
};

HttpClient::HttpClient(Config config, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer, const Clock& clock,
                       HttpEvents& events)
    : config_{std::move(config)},
      io_{io},
      wheel_{wheel},
      first_timer_{first_timer},
      clock_{clock},
      events_{events},
      slots_{config_.requests_max},
      wires_(config_.requests_max),
      tags_(config_.requests_max),
      owners_(config_.requests_max) {}

HttpClient::~HttpClient() = default;

bool HttpClient::submit(uint64_t tag, MonoTime deadline, std::string_view method, std::string_view target,
                        std::span<const http::Header> headers, std::string_view body) {
  const uint32_t slot = slots_.take();
  if (slot == kNone) return false;
  wires_[slot].clear();
  http::append_request(wires_[slot], method, target, config_.host, headers, body);
  tags_[slot] = tag;
  owners_[slot] = nullptr;
  wheel_.arm(first_timer_ + slot, deadline);
  queue_.push_back(slot);
  pump();
  return true;
}

void HttpClient::pump() {
  while (!queue_.empty()) {
    Connection* free = nullptr;
    for (const auto& connection : connections_) {
      if (connection->idle() && (free == nullptr || (connection->connected && !free->connected)))
        free = connection.get();
    }
    if ((free == nullptr || !free->connected) && connections_.size() < config_.connections) {
      std::unique_ptr<Connection> made;
      if (config_.tls != nullptr) {
        made = std::make_unique<ConnectionOn<net::TlsStream>>(*this);
      } else {
        made = std::make_unique<ConnectionOn<net::TcpStream>>(*this);
      }
      free = connections_.emplace_back(std::move(made)).get();
    }
    if (free == nullptr) return;
    const uint32_t slot = queue_.front();
    queue_.pop_front();
    assign(*free, slot);
  }
}

void HttpClient::assign(Connection& connection, uint32_t slot) {
  owners_[slot] = &connection;
  connection.slot = slot;
  if (connection.connected) {
    connection.send();
  } else {
    connection.dial();
  }
}

void HttpClient::finish(uint32_t slot) {
  wheel_.cancel(first_timer_ + slot);
  owners_[slot] = nullptr;
  slots_.release(slot);
}

void HttpClient::on_timer(uint32_t timer) {
  const uint32_t slot = timer - first_timer_;
  if (Connection* owner = owners_[slot]) {
    owner->fail(owner->connected ? HttpFailure::timed_out : HttpFailure::refused);
    return;
  }
  queue_.erase(std::find(queue_.begin(), queue_.end(), slot));
  const uint64_t tag = tags_[slot];
  finish(slot);
  events_.on_http_failed(tag, HttpFailure::not_sent);
}

void HttpClient::close() {
  for (const auto& connection : connections_) {
    connection->drop();
    if (connection->slot != kNone) finish(connection->slot);
    connection->slot = kNone;
  }
  while (!queue_.empty()) {
    finish(queue_.front());
    queue_.pop_front();
  }
}

}  // namespace twinstorm::backend
