// An HTTP server inside the test's own loop that answers what the test says, when it says so.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/write.hpp>

#include "sim/net/asio.hpp"
#include "sim/protocol/http/http_codec.hpp"

namespace twinstorm::testing {

class LoopbackServer {
 public:
  struct Request {
    size_t connection = 0;  ///< number of the connection it came on, in the order of accepting
    std::string method, target, body;
    std::map<std::string, std::string> headers;  ///< of the names in `watched`
  };

  explicit LoopbackServer(net::IoContext& context)
      : context_{context}, acceptor_{context, net::Endpoint{boost::asio::ip::address_v4::loopback(), 0}} {
    accept();
  }

  net::Endpoint endpoint() const { return acceptor_.local_endpoint(); }
  /// An address where nobody listens.
  static net::Endpoint dead_endpoint(net::IoContext& context) { return LoopbackServer{context}.endpoint(); }

  std::vector<std::string> watched;
  std::vector<Request> requests;  ///< in the order of arrival
  /// When set, called for each request; a non-empty result is sent back as it is.
  std::function<std::string(const Request&)> reply;
  size_t connections() const { return connections_.size(); }

  void send(size_t connection, std::string_view bytes) {
    boost::system::error_code ignored;
    boost::asio::write(connections_[connection]->socket, boost::asio::buffer(bytes), ignored);
  }
  void close(size_t connection) {
    boost::system::error_code ignored;
    connections_[connection]->socket.close(ignored);
  }
  static std::string response(int status, std::string_view body, std::vector<http::Header> headers = {}) {
    std::string out;
    http::append_response(out, status, headers, body);
    return out;
  }

 private:
  struct Connection {
    explicit Connection(net::TcpSocket accepted) : socket{std::move(accepted)} {}
    net::TcpSocket socket;
    http::RequestParser parser;
    std::array<char, 16384> buffer{};
    std::string pending;
  };

  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, net::TcpSocket socket) {
      if (error) return;
      connections_.push_back(std::make_unique<Connection>(std::move(socket)));
      read(connections_.size() - 1);
      accept();
    });
  }
  void read(size_t number) {
    auto& connection = *connections_[number];
    connection.socket.async_read_some(boost::asio::buffer(connection.buffer),
                                      [this, number](const boost::system::error_code& error, size_t size) {
                                        if (error) return;
                                        auto& from = *connections_[number];
                                        from.pending.append(from.buffer.data(), size);
                                        while (!from.pending.empty()) {
                                          const auto fed = from.parser.feed(from.pending);
                                          from.pending.erase(0, fed.consumed);
                                          if (fed.status == http::ParseStatus::error) {
                                            send(number, response(413, "{}"));
                                            return;  // and reads no further
                                          }
                                          if (fed.status != http::ParseStatus::complete) break;
                                          Request request{number,
                                                          std::string{from.parser.method()},
                                                          std::string{from.parser.target()},
                                                          std::string{from.parser.body()},
                                                          {}};
                                          for (const auto& name : watched) {
                                            if (const auto value = from.parser.header(name))
                                              request.headers[name] = *value;
                                          }
                                          from.parser.next();
                                          requests.push_back(std::move(request));
                                          if (reply) {
                                            if (const auto bytes = reply(requests.back()); !bytes.empty())
                                              send(number, bytes);
                                          }
                                        }
                                        if (from.socket.is_open()) read(number);
                                      });
  }

  net::IoContext& context_;
  boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, net::IoContext::executor_type> acceptor_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace twinstorm::testing
