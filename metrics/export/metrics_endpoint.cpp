#include "metrics/export/metrics_endpoint.hpp"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>

#include <fmt/format.h>
#include <netdb.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

namespace twinstorm::metrics {
namespace {

struct HostPort {
  std::string host;  ///< without brackets
  uint16_t port = 0;
  std::string text() const {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
  }
};

Result<HostPort> parse_address(std::string_view text) {
  const auto error = [&] {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("\"{}\" is not an address to listen on (try 127.0.0.1:9464, :9464 or :0)", text));
  };
  auto host = std::string_view{};
  auto port = text;
  if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return error();
  }
  HostPort result{host.empty() ? "127.0.0.1" : std::string(host), 0};
  if (result.host == "localhost") result.host = "127.0.0.1";
  const auto [end, failure] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  if (failure != std::errc{} || end != port.data() + port.size()) return error();
  return result;
}

/// The HTTP server only says that it failed. Asking the system the same question gets the reason; empty if it now
/// works.
std::string why_not(const HostPort& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const auto error = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
      error != 0) {
    return gai_strerror(error);
  }
  std::string reason;
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd, found->ai_addr, found->ai_addrlen) != 0 || ::listen(fd, 1) != 0) {
    reason = std::strerror(errno);
  }
  if (fd >= 0) ::close(fd);
  freeaddrinfo(found);
  return reason;
}

}  // namespace

struct MetricsEndpoint::State {
  HostPort bound;
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables;
  std::unique_ptr<prometheus::Exposer> exposer;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<State> state) : state_{std::move(state)} {}
MetricsEndpoint::MetricsEndpoint(MetricsEndpoint&&) noexcept = default;
MetricsEndpoint& MetricsEndpoint::operator=(MetricsEndpoint&&) noexcept = default;
MetricsEndpoint::~MetricsEndpoint() = default;

uint16_t MetricsEndpoint::port() const { return state_->bound.port; }
std::string MetricsEndpoint::url() const { return fmt::format("http://{}/metrics", state_->bound.text()); }

Result<MetricsEndpoint> MetricsEndpoint::start(std::string_view address,
                                               std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  const auto asked = parse_address(address);
  if (!asked) return asked.error();
  auto state = std::make_unique<State>();
  state->bound = *asked;
  state->collectables = std::move(collectables);
  try {
    state->exposer = std::make_unique<prometheus::Exposer>(asked->text(), 2);
  } catch (const std::exception& failure) {
    auto reason = why_not(*asked);
    if (reason.empty()) reason = failure.what();
    return make_error(ErrorCode::unavailable,
                      fmt::format("cannot serve metrics on {}: {} (choose another address, or port 0 for any free one)",
                                  asked->text(), reason));
  }
  const auto ports = state->exposer->GetListeningPorts();
  if (ports.empty()) {
    return make_error(ErrorCode::unavailable,
                      fmt::format("cannot serve metrics on {}: no port was bound", asked->text()));
  }
  state->bound.port = static_cast<uint16_t>(ports.front());
  for (const auto& collectable : state->collectables) state->exposer->RegisterCollectable(collectable);
  return MetricsEndpoint(std::move(state));
}

}  // namespace twinstorm::metrics
