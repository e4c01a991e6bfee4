// A server for one connection at a time inside the test's own loop, plain or TLS, that does what the test says.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <sys/socket.h>

#include "sim/net/asio.hpp"
#include "sim/net/tls.hpp"

namespace twinstorm::testing {

class StreamServer {
 public:
  /// `tls`: null = plain. `receive_buffer` of the accepted socket, 0 = the system's.
  explicit StreamServer(net::IoContext& context, const net::TlsContext* tls = nullptr, int receive_buffer = 0)
      : acceptor_{context}, tls_{tls} {
    const net::Endpoint any{boost::asio::ip::address_v4::loopback(), 0};
    acceptor_.open(any.protocol());
    if (receive_buffer > 0) acceptor_.set_option(boost::asio::socket_base::receive_buffer_size(receive_buffer));
    acceptor_.bind(any);
    acceptor_.listen();
    accept();
  }

  net::Endpoint endpoint() const { return acceptor_.local_endpoint(); }
  /// Of the present connection: where it comes from.
  net::Endpoint other_end() const { return socket_->remote_endpoint(); }

  bool silent = false;       ///< accepts and then does nothing at all, not even shake hands
  bool reading = true;       ///< false: bytes stay in the socket
  int connections = 0;       ///< accepted so far
  bool established = false;  ///< the present connection's handshake is done
  bool resumed = false;      ///< it resumed an earlier session
  bool ended = false;        ///< the client closed, or the handshake failed
  std::string received;      ///< decrypted
  std::string error;         ///< of the handshake or the session
  std::optional<net::PeerCertificate> client;

  void resume_reading() {
    reading = true;
    if (established) read();
  }
  /// Whole or nothing is left out: for bytes that fit into the socket's buffer.
  void send(std::string_view bytes) {
    if (tls_ == nullptr) {
      ::send(socket_->native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      return;
    }
    while (!bytes.empty()) {
      size_t put = 0;
      if (session_.write(bytes, put) != net::TlsStatus::ok) break;
      bytes.remove_prefix(put);
    }
  }
  void close(bool reset = false) {
    if (!socket_) return;
    if (!reset && session_) session_.shutdown();
    session_ = net::TlsSession{};
    boost::system::error_code ignored;
    if (reset) socket_->set_option(boost::asio::socket_base::linger(true, 0), ignored);
    socket_->close(ignored);
  }

 private:
  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& failed, net::TcpSocket socket) {
      if (failed) return;
      session_ = net::TlsSession{};
      socket_.emplace(std::move(socket));
      socket_->non_blocking(true);
      ++connections;
      established = ended = resumed = false;
      received.clear();
      error.clear();
      client.reset();
      accept();
      if (silent) return;
      if (tls_ == nullptr) {
        established = true;
        read();
      } else {
        session_ = net::TlsSession::server(*tls_, socket_->native_handle()).value();
        shake_hands();
      }
    });
  }
  void wait(bool to_read) {
    socket_->async_wait(to_read ? net::TcpSocket::wait_read : net::TcpSocket::wait_write,
                        [this, number = connections](const boost::system::error_code& failed) {
                          if (failed || number != connections || !socket_->is_open()) return;
                          established ? read() : shake_hands();
                        });
  }
  void shake_hands() {
    switch (session_.handshake()) {
      case net::TlsStatus::ok:
        established = true;
        resumed = session_.resumed();
        client = session_.peer_certificate();
        return read();
      case net::TlsStatus::want_read:
        return wait(true);
      case net::TlsStatus::want_write:
        return wait(false);
      default:
        error = session_.error();
        ended = true;
    }
  }
  void read() {
    if (!reading) return;
    std::array<char, 65536> buffer;
    for (;;) {
      size_t got = 0;
      auto status = net::TlsStatus::ok;
      if (tls_ != nullptr) {
        status = session_.read(buffer, got);
      } else {
        const auto size = ::recv(socket_->native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        got = size > 0 ? static_cast<size_t>(size) : 0;
        status = size > 0          ? net::TlsStatus::ok
                 : size == 0       ? net::TlsStatus::closed
                 : errno == EAGAIN ? net::TlsStatus::want_read
                                   : net::TlsStatus::failed;
      }
      received.append(buffer.data(), got);
      if (status == net::TlsStatus::ok) continue;
      if (status == net::TlsStatus::want_read) return wait(true);
      if (status == net::TlsStatus::failed && tls_ != nullptr) error = session_.error();
      ended = true;
      return;
    }
  }

  boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, net::IoContext::executor_type> acceptor_;
  const net::TlsContext* tls_;
  std::optional<net::TcpSocket> socket_;
  net::TlsSession session_;
};

}  // namespace twinstorm::testing
