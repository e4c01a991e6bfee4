// HTTP/1.1 to one host from one shard: a few kept connections, a bounded queue, a deadline for every request.
//
// HTTP/1.1 holds one request per connection, so `connections x (1 / latency)` is the most it can carry; requests beyond
// wait in the queue, and that wait is part of their latency. Slots and their buffers are made once and reused.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/slab.hpp"
#include "sim/base/time.hpp"
#include "sim/base/timer_wheel.hpp"
#include "sim/net/shard_io.hpp"
#include "sim/net/stream.hpp"
#include "sim/protocol/http/http_codec.hpp"

namespace twinstorm::backend {

/// An answer; views are valid during the call.
struct HttpAnswer {
  int status = 0;
  std::string_view body;
  const http::ResponseParser* parser = nullptr;
  std::optional<std::string_view> header(std::string_view name) const { return parser->header(name); }
};

/// Why a request got no answer.
enum class HttpFailure : uint8_t {
  refused,       ///< no connection could be made; the request was not sent
  disconnected,  ///< the connection ended before the answer: the hub may have acted on the request
  protocol,      ///< the answer was not HTTP; likewise
  timed_out,     ///< no answer in time; likewise
  not_sent,      ///< waited for a free connection until its deadline
  tls,           ///< the handshake failed or the certificate is not trusted; the request was not sent
};

class HttpEvents {
 public:
  /// The request's bytes went to the kernel.
  virtual void on_http_sent(uint64_t tag, MonoTime at) = 0;
  virtual void on_http_answer(uint64_t tag, const HttpAnswer& answer) = 0;
  virtual void on_http_failed(uint64_t tag, HttpFailure failure) = 0;

 protected:
  ~HttpEvents() = default;
};

class HttpClient {
 public:
  struct Config {
    net::Endpoint endpoint;
    std::string host;                      ///< `Host` header
    uint32_t connections = 1;              ///< at most; opened when needed
    uint32_t requests_max = 1;             ///< waiting and in flight together
    const net::TlsContext* tls = nullptr;  ///< set: HTTPS; outlives the client
    std::string server_name{};             ///< with `tls`: that the certificate must carry
  };
  static uint32_t timers_needed(const Config& config) { return config.requests_max; }

  HttpClient(Config config, net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer, const Clock& clock,
             HttpEvents& events);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  /// Starts or queues a request; false when `requests_max` are open (nothing happened). Exactly one of answer and
  /// failure follows, possibly inside this call for `refused`. `deadline` covers waiting and answering.
  bool submit(uint64_t tag, MonoTime deadline, std::string_view method, std::string_view target,
              std::span<const http::Header> headers, std::string_view body);
  void on_timer(uint32_t timer);
  /// Closes every connection; open requests are forgotten without events.
  void close();

  /// A sentence for people about the failure `on_http_failed` is telling; may be empty.
  std::string_view error_text() const { return error_text_; }
  uint32_t open() const { return slots_.used(); }
  uint32_t waiting() const { return static_cast<uint32_t>(queue_.size()); }

 private:
  struct Connection;
  template <class Stream>
  struct ConnectionOn;
  struct Slot {};
  static constexpr uint32_t kNone = Slab<Slot>::kNone;

  void pump();
  void assign(Connection& connection, uint32_t slot);
  void finish(uint32_t slot);

  Config config_;
  net::ShardIo& io_;
  TimerWheel& wheel_;
  const uint32_t first_timer_;
  const Clock& clock_;
  HttpEvents& events_;
  std::vector<std::unique_ptr<Connection>> connections_;
  Slab<Slot> slots_;  // which slots are taken; their content lives beside, so that buffers keep their capacity
  std::vector<std::string> wires_;  // encoded requests
  std::vector<uint64_t> tags_;
  std::vector<Connection*> owners_;  // null while waiting
  std::deque<uint32_t> queue_;
  std::string error_text_;
};

}  // namespace twinstorm::backend
