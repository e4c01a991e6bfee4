#include "sim/hub/listener.hpp"

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

#include "sim/base/log.hpp"

namespace twinstorm::hub {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

// The kernel cuts it to net.core.somaxconn. A short queue loses SYNs in a storm, and each loss costs the client a
// second.
constexpr int kBacklog = 4096;
constexpr int kAcceptsPerTurn = 64;
constexpr Nanos kPauseAfterFailure = std::chrono::milliseconds{100};

}  // namespace

Listener::Listener(Shard& shard, Choose choose, Adopt adopt)
    : shard_{shard},
      choose_{std::move(choose)},
      adopt_{adopt},
      acceptor_{shard.io().get_executor()},
      pause_{shard.io().get_executor()} {}

Result<void> Listener::open(const std::string& address, uint16_t port, const char* purpose, const char* flag) {
  error_code error;
  const auto ip = boost::asio::ip::make_address(address, error);
  if (error) {
    return make_error(
        ErrorCode::invalid_argument,
        fmt::format("listen address '{}' is not an IPv4 or IPv6 address (try 127.0.0.1 or 0.0.0.0)", address));
  }
  const tcp::endpoint endpoint{ip, port};
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address{true}, error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(kBacklog, error);
  if (!error) acceptor_.non_blocking(true, error);
  if (!error) return {};
  std::string fix;
  if (error == boost::asio::error::address_in_use) {
    fix = fmt::format("; another program listens there: stop it, or choose another port with {} (0 = any free one)",
                      flag);
  } else if (error == boost::asio::error::access_denied) {
    fix = fmt::format("; ports below 1024 need privileges: choose another with {}", flag);
  } else {
    fix = "; is it an address of this machine?";
  }
  return make_error(ErrorCode::unavailable, fmt::format("cannot listen for {} on {} port {}: {}{}", purpose, address,
                                                        port, error.message(), fix));
}

uint16_t Listener::port() const {
  error_code ignored;
  return acceptor_.local_endpoint(ignored).port();
}

void Listener::close() {
  error_code ignored;
  acceptor_.close(ignored);
}

void Listener::wait() {
  acceptor_.async_wait(tcp::acceptor::wait_read, [this](const error_code& error) {
    if (!error) accept_burst();
  });
}

void Listener::accept_burst() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    Shard& target = choose_();
    error_code error;
    tcp::endpoint peer;
    net::TcpSocket socket{target.io().get_executor()};
    acceptor_.accept(socket, peer, error);
    if (error == boost::asio::error::would_block || error == boost::asio::error::try_again) break;
    if (error == boost::asio::error::connection_aborted) continue;  // that peer has gone already
    if (error) {
      // No descriptor or no memory: the queue keeps those who wait, and without the pause this would spin.
      log::warning("cannot accept more connections: {} (is `ulimit -n` large enough?)", error.message());
      pause_.expires_after(kPauseAfterFailure);
      pause_.async_wait([this](const error_code& stopped) {
        if (!stopped) wait();
      });
      return;
    }
    const bool loopback = peer.address().is_loopback();
    if (&target == &shard_) {
      adopt_(target, std::move(socket), loopback);
    } else {
      target.post([&target, adopt = adopt_, socket = std::move(socket), loopback]() mutable {
        adopt(target, std::move(socket), loopback);
      });
    }
  }
  wait();
}

}  // namespace twinstorm::hub
