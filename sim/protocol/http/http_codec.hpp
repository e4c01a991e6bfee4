// HTTP/1.1 messages, both directions, without sockets. Boost.Beast parses; none of it shows here.
//
// A parser takes bytes as they come and stops exactly behind its message, so pipelined messages survive. It is reused
// for the next message with its buffers kept. Trailer fields of a chunked message are read and dropped (RFC 9110
// section 6.5.1). One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"

namespace twinstorm::http {

struct Limits {
  size_t header_bytes_max = 16 * 1024;
  size_t body_bytes_max = 1024 * 1024;
};
inline constexpr Limits kRequestLimits{};
inline constexpr Limits kResponseLimits{16 * 1024, 16 * 1024 * 1024};

enum class ParseStatus : uint8_t { need_more, complete, error };

struct FeedResult {
  size_t consumed = 0;  ///< bytes taken; what is behind belongs to the next message
  ParseStatus status = ParseStatus::need_more;
};

struct Header {
  std::string_view name;
  std::string_view value;
};

/// Server side. Refuses what proxies and servers could read differently: Transfer-Encoding together with
/// Content-Length, repeated Content-Length, an HTTP/1.1 request without exactly one Host (RFC 9112
/// sections 3.2, 6.1, 6.3).
class RequestParser {
 public:
  explicit RequestParser(Limits limits = kRequestLimits);
  ~RequestParser();
  RequestParser(RequestParser&&) noexcept;
  RequestParser& operator=(RequestParser&&) noexcept;

  /// Takes what belongs to the current message. After `complete` or `error` it takes nothing until `next()`; after an
  /// error the connection has to be closed, because the message's end is unknown.
  FeedResult feed(std::string_view bytes);
  /// True once the header has been read; a request with `Expect: 100-continue` then wants `append_continue`.
  bool header_complete() const;
  bool expects_continue() const;
  /// True when nothing of a message has been taken since construction or `next()`: a peer may close here.
  bool at_message_start() const;

  // Valid once complete, until `next()`.
  std::string_view method() const;
  std::string_view target() const;
  std::optional<std::string_view> header(std::string_view name) const;  ///< name without case, first of repeated ones
  std::vector<Header> headers() const;                                  ///< all, in order
  std::string_view body() const;
  bool keep_alive() const;

  /// After an error: the status to answer (400, 413, 431, 501 or 505) and the reason in words.
  int error_status() const;
  const Error& error() const;

  /// Ready for the next message.
  void next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Client side. Interim responses (1xx) are skipped.
class ResponseParser {
 public:
  explicit ResponseParser(Limits limits = kResponseLimits);
  ~ResponseParser();
  ResponseParser(ResponseParser&&) noexcept;
  ResponseParser& operator=(ResponseParser&&) noexcept;

  FeedResult feed(std::string_view bytes);
  /// The peer closed: completes a body that ends with the connection, otherwise `error`.
  ParseStatus feed_eof();
  bool at_message_start() const;

  // Valid once complete, until `next()`.
  int status() const;
  std::optional<std::string_view> header(std::string_view name) const;
  std::string_view body() const;
  bool keep_alive() const;
  const Error& error() const;

  /// Ready for the next message; `head_request`: its response has no body whatever its header says.
  void next(bool head_request = false);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// `GET /x HTTP/1.1`, Host, the given headers, Content-Length when there is a body or the method usually has one.
void append_request(std::string& out, std::string_view method, std::string_view target, std::string_view host,
                    std::span<const Header> headers, std::string_view body = {});
/// Status line, the given headers, Content-Length (but for 1xx, 204 and 304), body.
void append_response(std::string& out, int status, std::span<const Header> headers, std::string_view body = {});
/// `HTTP/1.1 100 Continue`.
void append_continue(std::string& out);
/// `OK`, `Not Found`, ...; `Unknown` for numbers without a registered phrase.
const char* reason_phrase(int status);

}  // namespace twinstorm::http
