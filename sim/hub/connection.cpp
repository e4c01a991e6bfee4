#include "sim/hub/connection.hpp"

#include <algorithm>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sim/base/assert.hpp"
#include "sim/base/log.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {
namespace {

using boost::system::error_code;

constexpr Nanos kLingerTime = std::chrono::seconds{1};
constexpr int kReadsPerTurn = 4;  // full buffers taken from one socket before the others get a turn

}  // namespace

Channel Channel::Parked::revive(net::IoContext& io) && {
  Channel channel{net::TcpSocket{io.get_executor()}, std::move(tls), std::move(websocket)};
  channel.socket.assign(protocol, descriptor.get());
  descriptor.release();
  return channel;
}

Channel::Descriptor::~Descriptor() {
  if (handle_ >= 0) ::close(handle_);
}

Connection::Connection(Shard& shard, Channel channel, Counters counters)
    : shard_{shard},
      counters_{counters},
      socket_{std::move(channel.socket)},
      tls_{std::move(channel.tls)},
      websocket_{std::move(channel.websocket)} {}

const net::PeerCertificate* Connection::peer_certificate() const {
  if (!tls_ || handshaking_) return nullptr;
  if (peer_certificate_ == nullptr) {
    if (auto shown = tls_.peer_certificate()) {
      peer_certificate_ = std::make_unique<const net::PeerCertificate>(std::move(*shown));
    }
  }
  return peer_certificate_.get();
}

void Connection::start(ConnectionId id) {
  id_ = id;
  error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(boost::asio::ip::tcp::no_delay{true}, ignored);
  if (!tls_ || tls_.established()) {
    begin();
    return;
  }
  handshaking_ = true;
  set_deadline(shard_.mono_now() + shard_.config().connect_timeout);
  shard_.queue_handshake(id_);
}

void Connection::begin() {
  on_start();
  if (!closed_ && websocket_ != nullptr && !websocket_->pending.empty()) unwrap({});
  if (!closed_ && !paused_) wait_to_read();
}

void Connection::continue_handshake() {
  switch (tls_.handshake()) {
    case net::TlsStatus::ok:
      handshaking_ = false;
      deadline_ = MonoTime::max();
      shard_.counts().add(&HubCounts::tls_handshakes);
      if (tls_.resumed()) shard_.counts().add(&HubCounts::tls_sessions_resumed);
      begin();
      return;
    case net::TlsStatus::want_read:
      wait_to_read();
      return;
    case net::TlsStatus::want_write:
      wait_to_read(net::TcpSocket::wait_write);
      return;
    case net::TlsStatus::closed:
      fail_handshake("the peer closed the connection");
      close();
      return;
    case net::TlsStatus::failed:
      fail_handshake(tls_.error());
      close_after_sending();  // the alert has left already
      return;
  }
}

void Connection::fail_handshake(std::string_view reason) {
  log::debug("TLS handshake failed: {}", reason);
  shard_.counts().add(&HubCounts::tls_handshakes_failed);
  on_peer_gone();
}

void Connection::wait_to_read(Readiness readiness) {
  if (waiting_to_read_ || closed_) return;
  waiting_to_read_ = true;
  ++handlers_;
  const auto ready = [this](const error_code& error) {
    --handlers_;
    waiting_to_read_ = false;
    if (!closed_ && !error) {
      if (handshaking_ && !lingering_) {
        shard_.queue_handshake(id_);
      } else {
        read();
      }
    }
    handler_ended();
  };
  const bool held_back = tls_ && !handshaking_ && !lingering_ && !tls_drained_;
  if (held_back && readiness == net::TcpSocket::wait_read) {
    boost::asio::post(socket_.get_executor(), [ready] { ready({}); });
  } else {
    socket_.async_wait(readiness, ready);
  }
}

void Connection::wait_to_write(Readiness readiness) {
  ++handlers_;
  socket_.async_wait(readiness, [this](const error_code& error) {
    --handlers_;
    if (!closed_ && !error) flush();
    handler_ended();
  });
}

void Connection::handler_ended() {
  if (closed_ && handlers_ == 0) shard_.retire(id_);
}

Connection::Io Connection::read_plain(std::span<char> into, size_t& got) {
  error_code error;
  got = socket_.read_some(boost::asio::buffer(into.data(), into.size()), error);
  if (error == boost::asio::error::would_block || error == boost::asio::error::try_again) return Io::want_read;
  if (error) return Io::ended;
  return got < into.size() ? Io::want_read : Io::done;
}

Connection::Io Connection::read_tls(std::span<char> into, size_t& got) {
  while (got < into.size()) {
    size_t size = 0;
    const net::TlsStatus status = tls_.read(into.subspan(got), size);
    got += size;
    if (status == net::TlsStatus::ok) continue;
    tls_drained_ = status == net::TlsStatus::want_read;
    if (status == net::TlsStatus::want_read) return Io::want_read;
    return status == net::TlsStatus::want_write ? Io::want_write : Io::ended;
  }
  tls_drained_ = false;
  return Io::done;
}

void Connection::read() {
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const auto buffer = shard_.read_buffer();
    size_t size = 0;
    const Io outcome = tls_ && !lingering_ ? read_tls(buffer, size) : read_plain(buffer, size);
    if (size > 0) {
      shard_.counts().add(counters_.bytes_in, size);
      if (!lingering_ && !close_when_sent_) take(buffer.first(size));
      if (closed_ || paused_) return;
    }
    if (outcome == Io::ended) {
      // Perhaps the peer ended its sending side only and reads on; if it is gone, sending finds out.
      if (close_when_sent_ && backlog_ != nullptr) return;
      if (!lingering_) on_peer_gone();
      close();
      return;
    }
    if (outcome == Io::want_write) {
      wait_to_read(net::TcpSocket::wait_write);
      return;
    }
    if (outcome == Io::want_read) break;
  }
  wait_to_read();
}

void Connection::take(std::span<char> bytes) {
  if (websocket_ == nullptr) {
    deliver({bytes.data(), bytes.size()});
  } else {
    unwrap(bytes);
  }
}

void Connection::unwrap(std::span<char> bytes) {
  WebSocket& websocket = *websocket_;
  std::string joined;
  if (!websocket.pending.empty()) {
    joined = std::exchange(websocket.pending, {});
    joined.append(bytes.data(), bytes.size());
    bytes = joined;
  }
  // The content moves to the front of the bytes and is delivered at once: what comes with the packet that makes the
  // connection move must move along.
  size_t size = 0;
  size_t at = 0;
  ws::Step step;
  for (bool more = true; more;) {
    step = websocket.framer.next(bytes.subspan(at));
    at += step.consumed;
    switch (step.kind) {
      case ws::Step::Kind::data:
        std::copy(step.payload.begin(), step.payload.end(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        size += step.payload.size();
        break;
      case ws::Step::Kind::ping:
        send_frame(ws::Opcode::pong, step.payload);
        if (closed_) return;
        break;
      case ws::Step::Kind::pong:
        break;
      case ws::Step::Kind::need_more:
        websocket.pending.assign(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end());
        more = false;
        break;
      case ws::Step::Kind::close:
      case ws::Step::Kind::error:
        more = false;
        break;
    }
  }
  if (size > 0) deliver({bytes.data(), size});
  if (closed_ || close_when_sent_) return;
  if (step.kind == ws::Step::Kind::close) {
    send_close(step.code, {});
    on_peer_gone();
    close_after_sending();
  } else if (step.kind == ws::Step::Kind::error) {
    log::debug("WebSocket closed: {}", step.problem);
    send_close(step.code, step.problem);
    on_broken_framing();
    close_after_sending();
  }
}

void Connection::deliver(std::string_view fresh) {
  if (tail_ != nullptr) {
    tail_->append(fresh);
    fresh = *tail_;
  }
  const size_t taken = paused_ ? 0 : on_bytes(fresh);
  TS_ASSERT(taken <= fresh.size());
  if (closed_ || close_when_sent_ || taken == fresh.size()) {
    tail_.reset();
  } else if (tail_ != nullptr) {
    tail_->erase(0, taken);
  } else {
    tail_ = std::make_unique<std::string>(fresh.substr(taken));
  }
}

void Connection::resume() {
  paused_ = false;
  if (closed_) return;
  if (tail_ != nullptr && !close_when_sent_) deliver({});
  if (!closed_ && !paused_) wait_to_read();
}

bool Connection::peer_has_left() {
  pollfd state{socket_.native_handle(), POLLRDHUP, 0};
  return poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Connection::Io Connection::write(std::string_view bytes, size_t& put) {
  put = 0;
  if (!tls_) {
    error_code error;
    put = socket_.write_some(boost::asio::buffer(bytes.data(), bytes.size()), error);
    if (error && error != boost::asio::error::would_block && error != boost::asio::error::try_again) return Io::ended;
    return put < bytes.size() ? Io::want_write : Io::done;
  }
  while (put < bytes.size()) {
    size_t size = 0;
    const net::TlsStatus status = tls_.write(bytes.substr(put), size);
    put += size;
    if (status == net::TlsStatus::ok) continue;
    if (status == net::TlsStatus::want_read) return Io::want_read;
    return status == net::TlsStatus::want_write ? Io::want_write : Io::ended;
  }
  return Io::done;
}

void Connection::send_frame(ws::Opcode opcode, std::string_view payload) {
  if (websocket_->close_sent) return;
  std::string& out = shard_.frame_scratch();
  out.clear();
  ws::append_frame(out, opcode, payload, std::nullopt);
  send_raw(out);
}

void Connection::send_close(ws::CloseCode code, std::string_view reason) {
  if (std::exchange(websocket_->close_sent, true)) return;
  std::string frame;
  ws::append_close(frame, code, reason, std::nullopt);
  send_raw(frame);
}

void Connection::send(std::string_view bytes) {
  if (closed_ || close_when_sent_ || bytes.empty()) return;
  if (websocket_ == nullptr) {
    send_raw(bytes);
  } else {
    send_frame(ws::Opcode::binary, bytes);
  }
}

void Connection::send_raw(std::string_view bytes) {
  if (closed_ || close_when_sent_) return;
  if (backlog_ == nullptr) {
    size_t sent = 0;
    const Io outcome = write(bytes, sent);
    shard_.counts().add(counters_.bytes_out, sent);
    // After a loss the reading side reports it; closing here would pull the object away from under a caller in
    // on_bytes.
    if (outcome == Io::done || outcome == Io::ended) return;
    backlog_ = std::make_unique<std::string>(bytes.substr(sent));
    wait_to_write(outcome == Io::want_read ? net::TcpSocket::wait_read : net::TcpSocket::wait_write);
  } else {
    backlog_->append(bytes);
  }
  if (backlog_->size() > backlog_limit()) {
    on_slow_reader();
    close();
  }
}

void Connection::flush() {
  if (backlog_ == nullptr) return;
  size_t sent = 0;
  const Io outcome = write(*backlog_, sent);
  shard_.counts().add(counters_.bytes_out, sent);
  if (outcome == Io::ended) {
    if (!close_when_sent_) on_peer_gone();
    close();
    return;
  }
  if (outcome != Io::done) {
    backlog_->erase(0, sent);
    unsent_seen_ = kAnyNumber;
    wait_to_write(outcome == Io::want_read ? net::TcpSocket::wait_read : net::TcpSocket::wait_write);
    return;
  }
  backlog_.reset();
  if (close_when_sent_) {
    linger();
  } else {
    on_sent();
  }
}

void Connection::close_after_sending() {
  if (closed_ || close_when_sent_) return;
  if (websocket_ != nullptr) send_close(ws::CloseCode::normal, {});
  if (closed_) return;
  close_when_sent_ = true;
  if (backlog_ == nullptr) {
    linger();
  } else {
    set_deadline(shard_.mono_now() + shard_.config().connect_timeout);
  }
}

void Connection::linger() {
  lingering_ = true;
  paused_ = false;
  set_deadline(shard_.mono_now() + kLingerTime);
  if (tls_ && !handshaking_) tls_.shutdown();
  error_code ignored;
  socket_.shutdown(net::TcpSocket::shutdown_send, ignored);
  wait_to_read();
}

void Connection::close() {
  if (closed_) return;
  if (websocket_ != nullptr && backlog_ == nullptr) send_close(ws::CloseCode::normal, {});
  closed_ = true;
  if (tls_ && !handshaking_ && !lingering_ && backlog_ == nullptr) tls_.shutdown();
  error_code ignored;
  socket_.close(ignored);
  tail_.reset();
  backlog_.reset();
  if (handlers_ == 0) shard_.retire(id_);
}

std::optional<Channel::Parked> Connection::release() {
  TS_ASSERT(!closed_);
  if (handlers_ != 0 || backlog_ != nullptr) return std::nullopt;
  error_code error;
  const auto endpoint = socket_.local_endpoint(error);
  if (error) return std::nullopt;
  const auto handle = socket_.release(error);
  TS_ASSERT(!error);
  closed_ = true;
  shard_.retire(id_);
  return Channel::Parked{Channel::Descriptor{handle}, endpoint.protocol(), std::move(tls_), std::move(websocket_)};
}

void Connection::set_deadline(MonoTime at) {
  deadline_ = at;
  if (at < watched_) {
    watched_ = at;
    shard_.watch(id_, at);
  }
}

bool Connection::peer_takes_on() {
  int unsent = 0;
  if (::ioctl(socket_.native_handle(), SIOCOUTQ, &unsent) != 0) return false;
  return unsent < std::exchange(unsent_seen_, unsent) && unsent > 0;
}

MonoTime Connection::deadline_passed(MonoTime now) {
  if (close_when_sent_) {
    if (peer_takes_on()) return now + (lingering_ ? kLingerTime : shard_.config().connect_timeout);
    close();
    return MonoTime::max();
  }
  if (handshaking_) {
    fail_handshake("not finished in time");
    close();
    return MonoTime::max();
  }
  return on_deadline(now);
}

}  // namespace twinstorm::hub
