#include "sim/net/socket_stream.hpp"

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>

#include "sim/net/tail.hpp"

namespace twinstorm::net {
namespace {

constexpr int kReadsPerTurn = 4;  // then the other connections of the shard get their turn

/// The port is chosen when the connection is made: then it has to be free only for that destination (ip(7)).
void bind_source(TcpSocket& socket, const Address& source, boost::system::error_code& error) {
  using LatePort = boost::asio::detail::socket_option::boolean<IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT>;
  boost::system::error_code ignored;  // without it each address has fewer connections, and works
  socket.set_option(LatePort(true), ignored);
  socket.bind({source, 0}, error);
}

std::string_view connect_error_text(int error) {
  // What "cannot assign requested address" means here.
  if (error == EADDRNOTAVAIL) return "no local port or address left to connect from (see twinstorm doctor)";
  return std::strerror(error);
}

}  // namespace

// --- Wires -----------------------------------------------------------------------------------------------------------

Result<void> TcpWire::prepare(int, const StreamTarget&) { return {}; }

TlsStatus TcpWire::read(int descriptor, std::span<char> into, size_t& got) {
  ssize_t size = 0;
  do {
    size = ::recv(descriptor, into.data(), into.size(), MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  got = size > 0 ? static_cast<size_t>(size) : 0;
  if (size > 0) return TlsStatus::ok;
  if (size == 0) return TlsStatus::closed;
  return errno == EAGAIN || errno == EWOULDBLOCK ? TlsStatus::want_read : TlsStatus::failed;
}

TlsStatus TcpWire::write(int descriptor, std::string_view bytes, size_t& put) {
  ssize_t size = 0;
  do {
    size = ::send(descriptor, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (size < 0 && errno == EINTR);
  put = size > 0 ? static_cast<size_t>(size) : 0;
  if (size >= 0) return put == bytes.size() ? TlsStatus::ok : TlsStatus::want_write;
  return errno == EAGAIN || errno == EWOULDBLOCK ? TlsStatus::want_write : TlsStatus::failed;
}

int TcpWire::error_number() const { return errno; }

std::string TcpWire::error() const { return std::strerror(errno); }

Result<void> TlsWire::prepare(int descriptor, const StreamTarget& target) {
  if (target.tls == nullptr) return make_error(ErrorCode::internal, "a TLS connection needs a TLS context");
  auto session = TlsSession::client(*target.tls, descriptor, target.server_name, target.certificate, &ticket_);
  if (!session) return session.error();
  session_ = std::move(*session);
  return {};
}

TlsStatus TlsWire::read(int, std::span<char> into, size_t& got) { return session_.read(into, got); }

TlsStatus TlsWire::write(int, std::string_view bytes, size_t& put) {
  put = 0;
  while (put < bytes.size()) {
    size_t taken = 0;
    const auto status = session_.write(bytes.substr(put), taken);
    if (status != TlsStatus::ok) return status;
    put += taken;
  }
  return TlsStatus::ok;
}

void TlsWire::close(bool politely) {
  if (politely) session_.shutdown();
  session_ = TlsSession{};
}

StreamEnd TlsWire::end_of(bool connected) {
  if (connected) {
    return session_.socket_error() != 0 ? StreamEnd::io_error : StreamEnd::protocol_error;
  }
  ticket_.clear();  // in case the server stumbled over it
  if (session_.untrusted()) return StreamEnd::untrusted;
  return StreamEnd::handshake_failed;
}

// --- Stream ----------------------------------------------------------------------------------------------------------

template <class Wire>
void SocketStream<Wire>::connect(const StreamTarget& target, StreamEvents& events) {
  close();
  events_ = &events;
  io_->error_text.clear();
  boost::system::error_code error;
  socket_.open(target.endpoint.protocol(), error);
  if (!error) socket_.non_blocking(true, error);
  if (!error) socket_.set_option(boost::asio::ip::tcp::no_delay(true), error);
  if (!error && !target.source.is_unspecified()) bind_source(socket_, target.source, error);
  const uint32_t generation = generation_;
  Result<void> prepared = {};
  if (!error) prepared = wire_.prepare(socket_.native_handle(), target);
  if (error || !prepared) {
    boost::asio::post(io_->context, [this, generation, error = error.value(),
                                     why = prepared ? std::string{} : prepared.error().message] {
      if (generation != generation_) return;
      if (error != 0) {
        end(StreamEnd::connect_failed, error, connect_error_text(error));
      } else {
        end(StreamEnd::handshake_failed, 0, why);
      }
    });
    return;
  }
  state_ = State::connecting;
  socket_.async_connect(target.endpoint, [this, generation](const boost::system::error_code& result) {
    if (generation != generation_) return;
    if (result) {
      end(StreamEnd::connect_failed, result.value(), connect_error_text(result.value()));
      return;
    }
    state_ = State::shaking_hands;
    shake_hands();
  });
}

template <class Wire>
void SocketStream<Wire>::shake_hands() {
  switch (const auto status = wire_.handshake()) {
    case TlsStatus::want_read:
      return wait_readable();
    case TlsStatus::want_write:
      return wait_writable();
    case TlsStatus::ok: {
      state_ = State::open;
      const uint32_t generation = generation_;
      events_->on_stream_connected();
      if (generation != generation_) return;
      // Behind the handshake OpenSSL may hold what came with its last flight.
      return wire_.drained(0, 1) ? wait_readable() : read_available();
    }
    case TlsStatus::closed:
    case TlsStatus::failed:
      return fail(status);
  }
}

template <class Wire>
void SocketStream<Wire>::wait_readable() {
  if (waiting_readable_) return;
  waiting_readable_ = true;
  socket_.async_wait(TcpSocket::wait_read, [this, generation = generation_](const boost::system::error_code& error) {
    if (generation != generation_) return;
    waiting_readable_ = false;
    if (error) {
      end(StreamEnd::io_error, error.value(), error.message());
    } else if (state_ == State::shaking_hands) {
      shake_hands();
    } else {
      read_available();
    }
  });
}

template <class Wire>
void SocketStream<Wire>::read_available() {
  const uint32_t generation = generation_;
  auto& buffer = io_->read_buffer;
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    size_t got = 0;
    const auto status = wire_.read(socket_.native_handle(), buffer, got);
    if (status == TlsStatus::closed || status == TlsStatus::failed) return fail(status);
    if (status == TlsStatus::want_write) return wait_writable();
    if (status == TlsStatus::want_read) return wait_readable();
    io_->bytes_received += got;
    const auto alive = [&] { return generation == generation_; };
    const auto consume = [&](std::string_view bytes) { return events_->on_stream_bytes(bytes); };
    if (!feed_with_tail(io_->blocks, tail_, {buffer.data(), got}, consume, alive)) return;
    if (wire_.drained(got, buffer.size())) return wait_readable();
  }
  if (wire_.drained(0, 1)) return wait_readable();
  // Bytes that no readiness will announce; after the others of the shard.
  boost::asio::post(io_->context, [this, generation] {
    if (generation == generation_) read_available();
  });
}

template <class Wire>
SendResult SocketStream<Wire>::send(std::string_view bytes) {
  if (state_ != State::open) return SendResult::closed;
  if (unsent_ != nullptr) return SendResult::would_block;
  size_t put = 0;
  const auto status = wire_.write(socket_.native_handle(), bytes, put);
  io_->bytes_sent += put;
  // A broken connection shows itself to the reader too, which reports it once; the bytes count as taken and lost.
  if (status == TlsStatus::failed || status == TlsStatus::closed || put == bytes.size()) return SendResult::sent;
  unsent_ = io_->blocks.take();
  unsent_->assign(bytes.substr(put));
  wait_writable();
  return SendResult::sent;
}

template <class Wire>
bool SocketStream<Wire>::write_unsent() {
  size_t put = 0;
  const auto status = wire_.write(socket_.native_handle(), *unsent_, put);
  io_->bytes_sent += put;
  unsent_->erase(0, put);
  if (!unsent_->empty() && status != TlsStatus::failed && status != TlsStatus::closed) return false;
  io_->blocks.give_back(std::move(unsent_));
  unsent_ = nullptr;
  return true;
}

template <class Wire>
void SocketStream<Wire>::wait_writable() {
  if (waiting_writable_) return;
  waiting_writable_ = true;
  socket_.async_wait(TcpSocket::wait_write, [this, generation = generation_](const boost::system::error_code& error) {
    if (generation != generation_) return;
    waiting_writable_ = false;
    if (!error) on_writable();
  });
}

template <class Wire>
void SocketStream<Wire>::on_writable() {
  if (state_ == State::shaking_hands) return shake_hands();
  if (unsent_ != nullptr && !write_unsent()) wait_writable();
  if (!waiting_readable_) read_available();  // it was reading that had to write first
}

template <class Wire>
void SocketStream<Wire>::close(bool reset) {
  ++generation_;
  events_ = nullptr;
  wire_.close(state_ == State::open && !reset && unsent_ == nullptr);
  state_ = State::closed;
  waiting_readable_ = waiting_writable_ = false;
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

template <class Wire>
void SocketStream<Wire>::fail(TlsStatus status) {
  if (status == TlsStatus::closed && state_ == State::open) {
    end(StreamEnd::peer_closed, 0, "the peer closed the connection");
  } else {
    const int error = wire_.error_number();
    end(wire_.end_of(state_ == State::open), error, wire_.error());
  }
}

template <class Wire>
void SocketStream<Wire>::end(StreamEnd reason, int error, std::string_view text) {
  last_errno_ = static_cast<int16_t>(error);
  io_->error_text = text;
  StreamEvents* const events = events_;
  if (reason != StreamEnd::peer_closed) state_ = State::closed;  // no goodbye on a broken connection
  close();
  events->on_stream_ended(reason);
}

template class SocketStream<TcpWire>;
template class SocketStream<TlsWire>;

}  // namespace twinstorm::net
