#include "sim/net/resolve.hpp"

#include <fmt/format.h>

namespace twinstorm::net {

Result<std::vector<Endpoint>> resolve(const std::string& host, uint16_t port) {
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
