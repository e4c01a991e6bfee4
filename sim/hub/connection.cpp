#include "sim/hub/connection.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

#include "sim/base/assert.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {
namespace {

using boost::system::error_code;

constexpr Nanos kLingerTime = std::chrono::seconds{1};
constexpr int kReadsPerTurn = 4;  // full buffers taken from one socket before the others get a turn

}  // namespace

Connection::Connection(Shard& shard, net::TcpSocket socket, Counters counters)
    : shard_{shard}, counters_{counters}, socket_{std::move(socket)} {}

const net::PeerCertificate* Connection::peer_certificate() const { return nullptr; }

void Connection::start(ConnectionId id) {
  id_ = id;
  error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(boost::asio::ip::tcp::no_delay{true}, ignored);
  on_start();
  if (!closed_ && !paused_) wait_readable();
}

void Connection::wait_readable() {
  if (waiting_readable_ || closed_) return;
  waiting_readable_ = true;
  ++handlers_;
  socket_.async_wait(net::TcpSocket::wait_read, [this](const error_code& error) {
    --handlers_;
    waiting_readable_ = false;
    if (!closed_ && !error) read();
    handler_ended();
  });
}

void Connection::wait_writable() {
  ++handlers_;
  socket_.async_wait(net::TcpSocket::wait_write, [this](const error_code& error) {
    --handlers_;
    if (!closed_ && !error) flush();
    handler_ended();
  });
}

void Connection::handler_ended() {
  if (closed_ && handlers_ == 0) shard_.retire(id_);
}

void Connection::read() {
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const auto buffer = shard_.read_buffer();
    error_code error;
    const size_t size = socket_.read_some(boost::asio::buffer(buffer.data(), buffer.size()), error);
    if (error == boost::asio::error::would_block || error == boost::asio::error::try_again) break;
    if (error) {
      if (!lingering_) on_peer_gone();
      close();
      return;
    }
    shard_.counts().add(counters_.bytes_in, size);
    if (!lingering_ && !close_when_sent_) deliver({buffer.data(), size});
    if (closed_ || paused_) return;
    if (size < buffer.size()) break;
  }
  wait_readable();
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
  if (!closed_ && !paused_) wait_readable();
}

void Connection::send(std::string_view bytes) {
  if (closed_ || close_when_sent_ || bytes.empty()) return;
  if (backlog_ == nullptr) {
    error_code error;
    const size_t sent = socket_.write_some(boost::asio::buffer(bytes.data(), bytes.size()), error);
    if (!error) {
      shard_.counts().add(counters_.bytes_out, sent);
      bytes.remove_prefix(sent);
      if (bytes.empty()) return;
    } else if (error != boost::asio::error::would_block && error != boost::asio::error::try_again) {
      // The reading side reports the loss; closing here would pull the object away from under a caller in on_bytes.
      return;
    }
    backlog_ = std::make_unique<std::string>(bytes);
    wait_writable();
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
  error_code error;
  const size_t sent = socket_.write_some(boost::asio::buffer(*backlog_), error);
  if (error == boost::asio::error::would_block || error == boost::asio::error::try_again) {
    wait_writable();
    return;
  }
  if (error) {
    if (!close_when_sent_) on_peer_gone();
    close();
    return;
  }
  shard_.counts().add(counters_.bytes_out, sent);
  if (sent < backlog_->size()) {
    backlog_->erase(0, sent);
    wait_writable();
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
  close_when_sent_ = true;
  set_deadline(shard_.mono_now() + kLingerTime);
  if (backlog_ == nullptr) linger();
}

void Connection::linger() {
  lingering_ = true;
  paused_ = false;
  error_code ignored;
  socket_.shutdown(net::TcpSocket::shutdown_send, ignored);
  wait_readable();
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  error_code ignored;
  socket_.close(ignored);
  tail_.reset();
  backlog_.reset();
  if (handlers_ == 0) shard_.retire(id_);
}

net::TcpSocket::native_handle_type Connection::release() {
  TS_ASSERT(handlers_ == 0 && backlog_ == nullptr && !closed_);
  error_code error;
  const auto handle = socket_.release(error);
  TS_ASSERT(!error);
  closed_ = true;
  shard_.retire(id_);
  return handle;
}

void Connection::set_deadline(MonoTime at) {
  deadline_ = at;
  if (at < watched_) {
    watched_ = at;
    shard_.watch(id_, at);
  }
}

MonoTime Connection::deadline_passed(MonoTime now) {
  if (close_when_sent_) {
    close();
    return MonoTime::max();
  }
  return on_deadline(now);
}

}  // namespace twinstorm::hub
