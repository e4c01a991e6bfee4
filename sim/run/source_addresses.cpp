#include "sim/run/source_addresses.hpp"

#include <fmt/format.h>

#include "sim/net/resolve.hpp"
#include "sim/run/machine.hpp"
#include "sim/scenario/source_addresses.hpp"

namespace twinstorm::run {

bool is_loopback_host(const std::string& host) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(host, error);
  return error ? net::is_loopback_name(host) : address.is_loopback();
}

Result<std::vector<net::Address>> source_addresses(const scenario::Target& target, const net::Endpoint& hub,
                                                   uint64_t connections) {
  std::vector<net::Address> addresses;
  if (target.source_addresses.empty()) {
    if (!hub.address().is_v4() || !hub.address().is_loopback()) return addresses;
    const auto count = loopback_addresses(read_machine(), connections);
    if (count == 1) return addresses;
    const auto first = boost::asio::ip::address_v4::loopback().to_uint();
    for (uint32_t i = 0; i < count; ++i) addresses.emplace_back(boost::asio::ip::address_v4{first + i});
    return addresses;
  }
  const auto given = scenario::expand_source_addresses(target.source_addresses);
  if (!given) return given.error();
  net::IoContext context;
  for (const auto& text : *given) {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(text, error);
    if (error) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("target.sourceAddresses: {} is no IP address ({})", text, error.message()));
    }
    if (address.is_v4() != hub.address().is_v4()) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("target.sourceAddresses: {} is an {} address, and the hub is at {}", text,
                                    address.is_v4() ? "IPv4" : "IPv6", hub.address().to_string()));
    }
    net::TcpSocket socket{context.get_executor()};
    socket.open(hub.protocol(), error);
    if (!error) socket.bind({address, 0}, error);
    if (error) {
      return make_error(
          ErrorCode::invalid_argument,
          fmt::format("target.sourceAddresses: {} is not an address of this machine ({}): leave it out, or "
                      "add it (ip addr add {}/32 dev lo)",
                      text, error.message(), text));
    }
    addresses.push_back(address);
  }
  return addresses;
}

}  // namespace twinstorm::run
