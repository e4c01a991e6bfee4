#include "sim/net/tcp_stream.hpp"

#include <cerrno>

#include <sys/socket.h>

namespace twinstorm::net {
namespace {

constexpr int kReadsPerTurn = 4;  // then the other connections of the shard get their turn

}  // namespace

void TcpStream::connect(const Endpoint& peer, StreamEvents& events) {
  close();
  events_ = &events;
  boost::system::error_code error;
  socket_.open(peer.protocol(), error);
  if (!error) socket_.non_blocking(true, error);
  if (!error) socket_.set_option(boost::asio::ip::tcp::no_delay(true), error);
  const uint32_t generation = generation_;
  if (error) {
    last_errno_ = error.value();
    boost::asio::post(io_->context, [this, generation] {
      if (generation == generation_) end(StreamEnd::connect_failed, last_errno_);
    });
    return;
  }
  socket_.async_connect(peer, [this, generation](const boost::system::error_code& result) {
    if (generation != generation_) return;
    if (result) {
      end(StreamEnd::connect_failed, result.value());
      return;
    }
    events_->on_stream_connected();
    if (generation == generation_) wait_readable();
  });
}

void TcpStream::wait_readable() {
  socket_.async_wait(TcpSocket::wait_read, [this, generation = generation_](const boost::system::error_code& error) {
    if (generation != generation_) return;
    if (error) {
      end(StreamEnd::io_error, error.value());
      return;
    }
    read_available();
  });
}

void TcpStream::read_available() {
  const uint32_t generation = generation_;
  auto& buffer = io_->read_buffer;
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const ssize_t got = ::recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      end(StreamEnd::io_error, errno);
      return;
    }
    if (got == 0) {
      end(StreamEnd::peer_closed, 0);
      return;
    }
    io_->bytes_received += static_cast<uint64_t>(got);
    std::string_view bytes{buffer.data(), static_cast<size_t>(got)};
    if (tail_ != nullptr) {
      // The kept bytes must stand in front; the block stays ours during the call, whatever the owner does.
      auto joined = std::move(tail_);
      joined->append(bytes);
      const size_t consumed = events_->on_stream_bytes(*joined);
      if (generation != generation_) {
        io_->blocks.give_back(std::move(joined));
        return;
      }
      joined->erase(0, consumed);
      if (joined->empty()) {
        io_->blocks.give_back(std::move(joined));
      } else {
        tail_ = std::move(joined);
      }
    } else {
      const size_t consumed = events_->on_stream_bytes(bytes);
      if (generation != generation_) return;
      if (consumed < bytes.size()) {
        tail_ = io_->blocks.take();
        tail_->assign(bytes.substr(consumed));
      }
    }
    if (static_cast<size_t>(got) < buffer.size()) break;
  }
  wait_readable();
}

SendResult TcpStream::send(std::string_view bytes) {
  if (!socket_.is_open()) return SendResult::closed;
  if (unsent_ != nullptr) return SendResult::would_block;
  ssize_t put = 0;
  do {
    put = ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  if (put < 0) {
    // A broken connection shows itself to the reader too, which reports it once; the bytes count as taken and lost.
    if (errno != EAGAIN && errno != EWOULDBLOCK) return SendResult::sent;
    put = 0;
  }
  io_->bytes_sent += static_cast<uint64_t>(put);
  if (static_cast<size_t>(put) < bytes.size()) {
    unsent_ = io_->blocks.take();
    unsent_->assign(bytes.substr(static_cast<size_t>(put)));
    wait_writable();
  }
  return SendResult::sent;
}

void TcpStream::wait_writable() {
  socket_.async_wait(TcpSocket::wait_write, [this, generation = generation_](const boost::system::error_code& error) {
    if (generation != generation_ || error) return;
    const ssize_t put = ::send(socket_.native_handle(), unsent_->data(), unsent_->size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put > 0) {
      io_->bytes_sent += static_cast<uint64_t>(put);
      unsent_->erase(0, static_cast<size_t>(put));
    }
    const bool broken = put < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    if (unsent_->empty() || broken) {
      io_->blocks.give_back(std::move(unsent_));
      unsent_ = nullptr;
      return;
    }
    wait_writable();
  });
}

void TcpStream::close(bool reset) {
  ++generation_;
  events_ = nullptr;
  if (socket_.is_open()) {
    boost::system::error_code ignored;
    if (reset) socket_.set_option(boost::asio::socket_base::linger(true, 0), ignored);
    socket_.close(ignored);
  }
  io_->blocks.give_back(std::move(tail_));
  io_->blocks.give_back(std::move(unsent_));
  tail_ = nullptr;
  unsent_ = nullptr;
}

void TcpStream::end(StreamEnd reason, int error) {
  last_errno_ = error;
  StreamEvents* const events = events_;
  close();
  events->on_stream_ended(reason);
}

}  // namespace twinstorm::net
