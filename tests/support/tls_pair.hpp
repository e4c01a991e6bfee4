// Two ends of a TLS connection in one thread, over a socket pair, and certificates to try them with.
#pragma once

#include <string>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

#include "sim/net/tls.hpp"

namespace twinstorm::testing {

/// A fixed moment for certificates that are judged at a given time.
inline constexpr WallTime kNow{std::chrono::seconds{1'795'435'200}};  // 2026-11-23T12:00:00Z
inline constexpr net::Validity kValid{kNow - std::chrono::hours{24}, kNow + std::chrono::hours{24 * 365}};

/// Valid now, whatever the machine's clock says: TLS handshakes look at it.
inline net::Validity valid_today() {
  const WallTime now = SteadyClock{}.wall();
  return {std::chrono::time_point_cast<std::chrono::seconds>(now) - std::chrono::hours{1}, now + std::chrono::hours{1}};
}

/// Both ends connected, non-blocking, closed with the object.
class SocketPair {
 public:
  explicit SocketPair(int buffer_size = 0) {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_) != 0) std::abort();
    if (buffer_size > 0) {
      for (const int end : ends_) ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof buffer_size);
    }
  }
  SocketPair(const SocketPair&) = delete;
  SocketPair& operator=(const SocketPair&) = delete;
  ~SocketPair() {
    close_end(0);
    close_end(1);
  }
  int client() const { return ends_[0]; }
  int server() const { return ends_[1]; }
  void close_end(int which) {
    if (ends_[which] >= 0) ::close(ends_[which]);
    ends_[which] = -1;
  }

 private:
  int ends_[2]{-1, -1};
};

/// Drives both handshakes until neither moves any more.
inline std::pair<net::TlsStatus, net::TlsStatus> shake_hands(net::TlsSession& client, net::TlsSession& server) {
  auto of_client = net::TlsStatus::want_read, of_server = net::TlsStatus::want_read;
  const auto waits = [](net::TlsStatus status) {
    return status == net::TlsStatus::want_read || status == net::TlsStatus::want_write;
  };
  for (int i = 0; i < 20; ++i) {
    if (waits(of_client)) of_client = client.handshake();
    if (waits(of_server)) of_server = server.handshake();
  }
  return {of_client, of_server};
}

/// What a server sees of a client that shows `identity`.
inline net::PeerCertificate peer_of(const net::CertifiedKey& identity) {
  static const auto authority = net::make_authority("server CA", valid_today()).value();
  static const auto server_context =
      net::TlsContext::server(
          {.identity = net::issue_server_certificate(authority, {"localhost"}, valid_today()).value()})
          .value();
  static const auto client_context = net::TlsContext::client({.authorities_pem = authority.certificate_pem}).value();
  const SocketPair sockets;
  auto client = net::TlsSession::client(client_context, sockets.client(), "localhost", &identity).value();
  auto server = net::TlsSession::server(server_context, sockets.server()).value();
  shake_hands(client, server);
  return server.peer_certificate().value_or(net::PeerCertificate{});
}

}  // namespace twinstorm::testing
