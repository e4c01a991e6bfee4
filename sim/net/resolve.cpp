#include "sim/net/resolve.hpp"

#include <boost/asio/ip/address_v4.hpp>
#include <boost/asio/ip/address_v6.hpp>
#include <fmt/format.h>

#include "sim/protocol/text.hpp"

namespace twinstorm::net {

bool is_loopback_name(std::string_view host) {
  constexpr std::string_view kName = "localhost";
  if (host.ends_with('.')) host.remove_suffix(1);
  if (host.size() < kName.size()) return false;
  const size_t above = host.size() - kName.size();
  if (!protocol::equal_ignoring_case(host.substr(above), kName)) return false;
  return above == 0 || (above > 1 && host[above - 1] == '.');
}

Result<std::vector<Endpoint>> resolve(const std::string& host, uint16_t port) {
  // A minimal machine may not know the name, and a name server must not be asked for it.
  if (is_loopback_name(host)) {
    return std::vector<Endpoint>{{boost::asio::ip::address_v4::loopback(), port},
                                 {boost::asio::ip::address_v6::loopback(), port}};
  }
  IoContext context;
  boost::asio::ip::tcp::resolver resolver{context};
  boost::system::error_code error;
  const auto results =
      resolver.resolve(host, std::to_string(port), boost::asio::ip::tcp::resolver::numeric_service, error);
  if (error || results.empty()) {
    return make_error(ErrorCode::unavailable, fmt::format("cannot resolve host \"{}\" (port {}): {}", host, port,
                                                          error ? error.message() : "no address"));
  }
  std::vector<Endpoint> endpoints;
  for (const auto& result : results) endpoints.push_back(result.endpoint());
  return endpoints;
}

}  // namespace twinstorm::net
