// A listening socket on the first shard. Takes what has queued up in bursts, so that a connect storm costs few turns.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <boost/asio/basic_socket_acceptor.hpp>

#include "sim/base/result.hpp"
#include "sim/hub/shard.hpp"

namespace twinstorm::hub {

class Listener {
 public:
  /// Where the next connection goes, and what becomes of it there.
  using Choose = std::function<Shard&()>;
  using Adopt = void (*)(Shard& shard, net::TcpSocket socket, bool loopback);

  Listener(Shard& shard, Choose choose, Adopt adopt);

  /// Binds and listens with a backlog for connect storms. `purpose` (`MQTT`, `HTTP`) and `flag` (`--mqtt-port`) go into
  /// the error: `unavailable`, `invalid_argument` for an address that is no IP literal.
  Result<void> open(const std::string& address, uint16_t port, const char* purpose, const char* flag);
  /// Begins accepting; on the shard's thread or before it runs.
  void start() { wait(); }
  uint16_t port() const;
  void close();

 private:
  void wait();
  void accept_burst();

  Shard& shard_;
  Choose choose_;
  Adopt adopt_;
  boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, net::IoContext::executor_type> acceptor_;
  net::SteadyTimer pause_;
};

}  // namespace twinstorm::hub
