#include "metrics/export/push_gateway.hpp"

#include <charconv>

#include <fmt/format.h>
#include <prometheus/gateway.h>

namespace twinstorm::metrics {
namespace {

constexpr const char* kJob = "twinstorm";

struct HostPort {
  std::string host, port;
};

Result<HostPort> parse(std::string_view text) {
  const auto whole = text;
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with(kScheme)) text.remove_prefix(kScheme.size());
  while (text.ends_with('/')) text.remove_suffix(1);
  const auto colon = text.rfind(':');
  uint16_t port = 0;
  const auto digits = colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (colon == 0 || digits.empty() || failure != std::errc{} || end != digits.data() + digits.size() || port == 0 ||
      text.find_first_of("/ ") != std::string_view::npos) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("\"{}\" is not the address of a Pushgateway (try 127.0.0.1:9091)", whole));
  }
  return HostPort{std::string{text.substr(0, colon)}, std::string{digits}};
}

/// Of a transfer: 200 and 202 are good, what is below 0 is the transfer's own error.
Result<void> result_of(int status) {
  if (status >= 200 && status < 300) return {};
  return make_error(ErrorCode::unavailable,
                    status < 0 ? std::string{"it cannot be reached"} : fmt::format("it answered HTTP {}", status));
}

}  // namespace

struct PushGateway::State {
  std::string url;
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables;
  prometheus::Gateway gateway;
};

PushGateway::PushGateway(std::unique_ptr<State> state) : state_{std::move(state)} {}
PushGateway::PushGateway(PushGateway&&) noexcept = default;
PushGateway::~PushGateway() = default;

Result<PushGateway> PushGateway::at(std::string_view text, std::string_view run,
                                    std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  const auto address = parse(text);
  if (!address) return address.error();
  std::unique_ptr<State> state{
      new State{fmt::format("http://{}:{}", address->host, address->port), std::move(collectables),
                prometheus::Gateway{address->host, address->port, kJob, {{"instance", std::string{run}}}}}};
  for (const auto& each : state->collectables) state->gateway.RegisterCollectable(each);
  return PushGateway{std::move(state)};
}

const std::string& PushGateway::url() const { return state_->url; }
Result<void> PushGateway::push() { return result_of(state_->gateway.Push()); }
Result<void> PushGateway::remove() { return result_of(state_->gateway.DeleteForInstance()); }

}  // namespace twinstorm::metrics
