#include "sim/backend/http_client.hpp"

#include <algorithm>

namespace twinstorm::backend {

struct HttpClient::Connection final : net::StreamEvents {
  explicit Connection(HttpClient& owner) : client{owner}, stream{owner.io_} {}

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
    fail(end == net::StreamEnd::connect_failed ? HttpFailure::refused : HttpFailure::disconnected);
  }

  void send() {
    const uint32_t current = slot;
    client.events_.on_http_sent(client.tags_[current], client.clock_.mono());
    stream.send(client.wires_[current]);
  }
  void answered() {
    const uint32_t done = slot;
    slot = kNone;
    // An answer that came before the whole request was written leaves a connection nobody can use again.
    const bool keep = parser.keep_alive() && stream.open() && !stream.send_pending();
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
    stream.close();
  }
  bool idle() const { return slot == kNone && !answering; }

  HttpClient& client;
  net::TcpStream stream;
  http::ResponseParser parser;
  uint32_t slot = kNone;
  bool connected = false;
  bool answering = false;
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
      free = connections_.emplace_back(std::make_unique<Connection>(*this)).get();
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
    connection.stream.connect(config_.endpoint, connection);
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
