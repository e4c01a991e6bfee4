#include "sim/protocol/http/http_codec.hpp"

#include <array>
#include <cstddef>
#include <memory_resource>
#include <optional>
#include <tuple>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "sim/base/assert.hpp"
#include "sim/protocol/byte_writer.hpp"
#include "sim/protocol/text.hpp"

namespace twinstorm::http {
namespace {

namespace beast_http = boost::beast::http;
using beast_http::field;
using protocol::equal_ignoring_case;

// A chunked body ends with at least `0 CR LF CR LF`. Beast asserts that it is given so much once it has seen a last
// chunk without its end, so fewer bytes are held back.
constexpr size_t kChunkedEndBytes = 5;
// A body buffer is kept for the next message up to this size: a page of query results, not a bulk import.
constexpr size_t kKeptBodyBytes = 64 * 1024;

// Header fields of a message that takes no more than this are kept without asking the heap.
constexpr size_t kFieldBytes = 1024;
/// A polymorphic allocator that can be assigned, as Beast wants it.
template <class T>
class ArenaAllocator {
 public:
  using value_type = T;
  ArenaAllocator() = default;
  explicit ArenaAllocator(std::pmr::memory_resource* arena) : arena_{arena} {}
  template <class U>
  ArenaAllocator(const ArenaAllocator<U>& other) : arena_{other.arena()} {}

  T* allocate(size_t count) { return static_cast<T*>(arena_->allocate(count * sizeof(T), alignof(T))); }
  void deallocate(T* block, size_t count) { arena_->deallocate(block, count * sizeof(T), alignof(T)); }
  std::pmr::memory_resource* arena() const { return arena_; }
  friend bool operator==(const ArenaAllocator& a, const ArenaAllocator& b) { return a.arena_ == b.arena_; }

 private:
  std::pmr::memory_resource* arena_ = std::pmr::new_delete_resource();
};
using FieldAllocator = ArenaAllocator<char>;
using Fields = beast_http::basic_fields<FieldAllocator>;

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

Error protocol_error(std::string what) { return make_error(ErrorCode::protocol, "HTTP: " + std::move(what)); }

struct Failure {
  int status;
  std::string what;
};

Failure describe(const boost::beast::error_code& ec, const Limits& limits) {
  using beast_http::error;
  if (ec == error::header_limit) {
    return {431, "header is longer than " + std::to_string(limits.header_bytes_max) + " bytes"};
  }
  if (ec == error::body_limit) return {413, "body is longer than " + std::to_string(limits.body_bytes_max) + " bytes"};
  if (ec == error::bad_version) return {505, "version is neither HTTP/1.1 nor HTTP/1.0"};
  return {400, ec.message()};
}

/// What Beast lets pass although two readers of the same bytes could disagree about where the message ends.
template <bool kIsRequest>
std::optional<Failure> check_header(const beast_http::header<kIsRequest, Fields>& header) {
  if (header.count(field::content_length) > 1 ||
      view(header[field::content_length]).find(',') != std::string_view::npos) {
    return Failure{400, "repeated Content-Length (RFC 9112 section 6.3)"};
  }
  const auto codings = header.count(field::transfer_encoding);
  if (codings != 0) {
    if (header.count(field::content_length) != 0) {
      return Failure{400, "Transfer-Encoding together with Content-Length (RFC 9112 section 6.1)"};
    }
    if (header.version() < 11) return Failure{400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)"};
    if (codings > 1 || !equal_ignoring_case(view(header[field::transfer_encoding]), "chunked")) {
      return Failure{501, "Transfer-Encoding other than chunked"};
    }
  }
  if constexpr (kIsRequest) {
    if (header.version() == 11 && header.count(field::host) != 1) {
      return Failure{400, "an HTTP/1.1 request has exactly one Host (RFC 9112 section 3.2)"};
    }
  }
  return std::nullopt;
}

/// One message at a time. Bytes of a header or chunk line that is not complete yet wait in `carry_`, because Beast
/// wants to see such a line in one piece.
template <bool kIsRequest>
class MessageParser {
 public:
  explicit MessageParser(Limits limits) : limits_{limits} { start({}); }

  FeedResult feed(std::string_view bytes) {
    FeedResult result{0, status_};
    while (status_ == ParseStatus::need_more && result.consumed < bytes.size()) {
      result.consumed += take(bytes.substr(result.consumed));
    }
    result.status = status_;
    return result;
  }

  ParseStatus feed_eof() {
    if (status_ != ParseStatus::need_more) return status_;
    boost::beast::error_code ec;
    if (at_message_start()) {
      fail({400, "connection closed before a message"});
    } else if (parser_->put_eof(ec); ec || !parser_->is_done()) {
      fail({400, "connection closed inside a message"});
    } else {
      status_ = ParseStatus::complete;
    }
    return status_;
  }

  void next(bool head_request = false) {
    auto& body = parser_->get().body();
    std::string kept = body.capacity() <= kKeptBodyBytes ? std::move(body) : std::string{};
    kept.clear();
    start(std::move(kept));
    parser_->skip(head_request);
    head_request_ = head_request;
  }

  bool at_message_start() const { return carry_.empty() && !parser_->got_some(); }
  bool header_complete() const { return parser_->is_header_done(); }
  const auto& message() const { return parser_->get(); }
  bool keep_alive() const { return keep_alive_; }
  std::optional<std::string_view> header(std::string_view name) const {
    const auto found = message().find(boost::beast::string_view{name.data(), name.size()});
    if (found == message().end()) return std::nullopt;
    return view(found->value());
  }
  int error_status() const { return error_status_; }
  const Error& error() const { return error_; }

 private:
  using Parser = beast_http::parser<kIsRequest, beast_http::string_body, FieldAllocator>;

  void start(std::string body) {
    parser_.reset();
    header_.reset();
    arena_.release();  // the fields of the last message are gone
    parser_.emplace(std::piecewise_construct, std::make_tuple(), std::make_tuple(FieldAllocator{&arena_}));
    parser_->eager(false);  // stops behind the header, see `begin_body`
    parser_->header_limit(static_cast<std::uint32_t>(limits_.header_bytes_max));
    parser_->body_limit(limits_.body_bytes_max);
    parser_->get().body() = std::move(body);
    carry_.clear();
    keep_alive_ = false;
    status_ = ParseStatus::need_more;
  }

  /// The header is read, nothing of the body yet. Beast takes the trailer fields of a chunked message for header
  /// fields; they may neither change what was decided nor be heard (RFC 9110 section 6.5.1), so what the header said
  /// is kept.
  bool begin_body() {
    parser_->eager(true);
    if (auto failure = check_header<kIsRequest>(parser_->get().base())) {
      fail(std::move(*failure));
      return false;
    }
    keep_alive_ = parser_->keep_alive();
    if (parser_->chunked()) header_.emplace(parser_->get().base());
    return true;
  }

  void fail(Failure failure) {
    status_ = ParseStatus::error;
    error_status_ = failure.status;
    error_ = protocol_error(std::move(failure.what));
  }

  /// Returns how many of `bytes` belong to this message. They are not empty.
  size_t take(std::string_view bytes) {
    const size_t carried = carry_.size();
    std::string_view input = bytes;
    if (carried != 0) {
      carry_.append(bytes);
      input = carry_;
    }
    if (parser_->is_header_done() && parser_->chunked() && input.size() < kChunkedEndBytes) {
      if (carried == 0) carry_.assign(input);
      return bytes.size();
    }
    boost::beast::error_code ec;
    size_t used = 0;
    while (used < input.size() && !parser_->is_done()) {
      used += parser_->put(boost::asio::const_buffer{input.data() + used, input.size() - used}, ec);
      if (!parser_->eager() && parser_->is_header_done() && !begin_body()) return bytes.size();
      if (ec) break;
    }
    if (ec == beast_http::error::need_more) ec = {};
    if (ec) {
      fail(describe(ec, limits_));
      return bytes.size();
    }
    if (!parser_->is_done()) {
      if (input.size() - used > limits_.header_bytes_max) {
        fail({431, "a header or chunk line is longer than " + std::to_string(limits_.header_bytes_max) + " bytes"});
      } else if (carried != 0) {
        carry_.erase(0, used);
      } else {
        carry_.assign(input.substr(used));
      }
      return bytes.size();
    }
    const size_t consumed = used > carried ? used - carried : 0;
    carry_.clear();
    if constexpr (!kIsRequest) {
      const auto status = parser_->get().result_int();
      if (status / 100 == 1 && status != 101) {
        next(head_request_);
        return consumed;
      }
    }
    if (header_) parser_->get().base() = std::move(*header_);
    status_ = ParseStatus::complete;
    return consumed;
  }

  Limits limits_;
  std::array<std::byte, kFieldBytes> field_bytes_;
  std::pmr::monotonic_buffer_resource arena_{field_bytes_.data(), field_bytes_.size()};
  std::optional<Parser> parser_;
  std::string carry_;
  std::optional<beast_http::header<kIsRequest, Fields>> header_;  // of a chunked message
  bool keep_alive_ = false;
  bool head_request_ = false;
  ParseStatus status_ = ParseStatus::need_more;
  int error_status_ = 0;
  Error error_;
};

bool has_usual_body(std::string_view method) { return method == "POST" || method == "PUT" || method == "PATCH"; }

bool is_one_line(std::string_view text) { return text.find_first_of("\r\n") == std::string_view::npos; }

void append_headers(std::string& out, std::span<const Header> headers) {
  for (const auto& header : headers) {
    TS_ASSERT(is_one_line(header.name) && is_one_line(header.value));
    out.append(header.name).append(": ").append(header.value).append("\r\n");
  }
}

void append_length(std::string& out, size_t size) {
  out.append("Content-Length: ");
  protocol::append_decimal(out, size);
  out.append("\r\n");
}

}  // namespace

struct RequestParser::Impl : MessageParser<true> {
  using MessageParser::MessageParser;
};

RequestParser::RequestParser(Limits limits) : impl_{std::make_unique<Impl>(limits)} {}
RequestParser::~RequestParser() = default;
RequestParser::RequestParser(RequestParser&&) noexcept = default;
RequestParser& RequestParser::operator=(RequestParser&&) noexcept = default;

FeedResult RequestParser::feed(std::string_view bytes) { return impl_->feed(bytes); }
bool RequestParser::header_complete() const { return impl_->header_complete(); }
bool RequestParser::expects_continue() const {
  if (!impl_->header_complete() || impl_->message().version() < 11) return false;
  const auto expect = impl_->header("Expect");
  return expect && equal_ignoring_case(*expect, "100-continue");
}
bool RequestParser::at_message_start() const { return impl_->at_message_start(); }
std::string_view RequestParser::method() const { return view(impl_->message().method_string()); }
std::string_view RequestParser::target() const { return view(impl_->message().target()); }
std::optional<std::string_view> RequestParser::header(std::string_view name) const { return impl_->header(name); }
std::vector<Header> RequestParser::headers() const {
  std::vector<Header> out;
  for (const auto& field : impl_->message()) out.push_back({view(field.name_string()), view(field.value())});
  return out;
}
std::string_view RequestParser::body() const { return impl_->message().body(); }
bool RequestParser::keep_alive() const { return impl_->keep_alive(); }
int RequestParser::error_status() const { return impl_->error_status(); }
const Error& RequestParser::error() const { return impl_->error(); }
void RequestParser::next() { impl_->next(); }

struct ResponseParser::Impl : MessageParser<false> {
  using MessageParser::MessageParser;
};

ResponseParser::ResponseParser(Limits limits) : impl_{std::make_unique<Impl>(limits)} {}
ResponseParser::~ResponseParser() = default;
ResponseParser::ResponseParser(ResponseParser&&) noexcept = default;
ResponseParser& ResponseParser::operator=(ResponseParser&&) noexcept = default;

FeedResult ResponseParser::feed(std::string_view bytes) { return impl_->feed(bytes); }
ParseStatus ResponseParser::feed_eof() { return impl_->feed_eof(); }
bool ResponseParser::at_message_start() const { return impl_->at_message_start(); }
int ResponseParser::status() const { return static_cast<int>(impl_->message().result_int()); }
std::optional<std::string_view> ResponseParser::header(std::string_view name) const { return impl_->header(name); }
std::string_view ResponseParser::body() const { return impl_->message().body(); }
bool ResponseParser::keep_alive() const { return impl_->keep_alive(); }
const Error& ResponseParser::error() const { return impl_->error(); }
void ResponseParser::next(bool head_request) { impl_->next(head_request); }

void append_request(std::string& out, std::string_view method, std::string_view target, std::string_view host,
                    std::span<const Header> headers, std::string_view body) {
  TS_ASSERT(is_one_line(target) && target.find(' ') == std::string_view::npos && is_one_line(host));
  out.append(method).append(" ").append(target).append(" HTTP/1.1\r\nHost: ").append(host).append("\r\n");
  append_headers(out, headers);
  if (!body.empty() || has_usual_body(method)) append_length(out, body.size());
  out.append("\r\n").append(body);
}

void append_response(std::string& out, int status, std::span<const Header> headers, std::string_view body) {
  out.append("HTTP/1.1 ");
  protocol::append_decimal(out, status);
  out.append(" ").append(reason_phrase(status)).append("\r\n");
  append_headers(out, headers);
  const bool without_body = status / 100 == 1 || status == 204 || status == 304;
  TS_ASSERT(!without_body || body.empty());
  if (!without_body) append_length(out, body.size());
  out.append("\r\n").append(body);
}

void append_continue(std::string& out) { out.append("HTTP/1.1 100 Continue\r\n\r\n"); }

const char* reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 426:
      return "Upgrade Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

}  // namespace twinstorm::http
