// The Asio types the fleet uses, with the concrete executor: a socket is 40 bytes instead of 88 (docs/decisions.md).
#pragma once

#include <chrono>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace twinstorm::net {

using IoContext = boost::asio::io_context;
using TcpSocket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, IoContext::executor_type>;
using SteadyTimer =
    boost::asio::basic_waitable_timer<std::chrono::steady_clock, boost::asio::wait_traits<std::chrono::steady_clock>,
                                      IoContext::executor_type>;
using Endpoint = boost::asio::ip::tcp::endpoint;
using Address = boost::asio::ip::address;

}  // namespace twinstorm::net
