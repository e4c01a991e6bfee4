#include "metrics/export/push_gateway.hpp"

#include <charconv>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

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

}  // namespace

/// Shared with the thread, which may have to be left behind.
struct PushGateway::State {
  enum class Task { none, push, remove, quit };

  Config config;
  std::string url;
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables;
  std::unique_ptr<prometheus::Gateway> gateway;

  std::mutex mutex;
  std::condition_variable changed;
  Task asked = Task::push;  // at once; afterwards every `config.every`
  bool periodic = true;
  uint64_t ended = 0;  // tasks that were asked for and have ended
  uint64_t pushes = 0, failures = 0;
  std::string last_failure;
  bool last_failed = false;
  bool transferring = false;

  void work() {
    std::unique_lock lock{mutex};
    while (true) {
      if (!changed.wait_for(lock, config.every, [this] { return asked != Task::none; }) && !periodic) continue;
      const Task task = std::exchange(asked, Task::none);
      if (task == Task::quit) return;
      transferring = true;
      lock.unlock();
      // 200, 202; anything below 0 is the transfer's own error.
      const int status = task == Task::remove ? gateway->DeleteForInstance() : gateway->Push();
      lock.lock();
      transferring = false;
      changed.notify_all();
      ++pushes;
      last_failed = status < 200 || status >= 300;
      if (last_failed) {
        ++failures;
        last_failure = status < 0 ? "it cannot be reached" : fmt::format("it answered HTTP {}", status);
      }
      if (task != Task::none) {
        ++ended;
        changed.notify_all();
      }
    }
  }
  /// One task; nothing when it did not end in time.
  std::optional<bool> run(Task task, bool periodic_then) {
    std::unique_lock lock{mutex};
    periodic = periodic_then;
    const auto before = ended;
    asked = task;
    changed.notify_all();
    if (!changed.wait_for(lock, config.timeout, [&] { return ended > before; })) return std::nullopt;
    return !last_failed;
  }
};

PushGateway::PushGateway(std::shared_ptr<State> state) : state_{std::move(state)} {
  thread_ = std::thread{[state = state_] { state->work(); }};
}
PushGateway::PushGateway(PushGateway&&) noexcept = default;
PushGateway::~PushGateway() {
  if (!state_) return;
  std::unique_lock lock{state_->mutex};
  state_->periodic = false;
  state_->asked = State::Task::quit;
  state_->changed.notify_all();
  const bool idle = state_->changed.wait_for(lock, state_->config.timeout, [this] { return !state_->transferring; });
  lock.unlock();
  if (idle) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

const std::string& PushGateway::url() const { return state_->url; }

Result<PushGateway> PushGateway::start(Config config,
                                       std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  const auto address = parse(config.address);
  if (!address) return address.error();
  auto state = std::make_shared<State>();
  state->config = std::move(config);
  state->url = fmt::format("http://{}:{}", address->host, address->port);
  state->collectables = std::move(collectables);
  state->gateway = std::make_unique<prometheus::Gateway>(address->host, address->port, kJob,
                                                         prometheus::Labels{{"instance", state->config.run}});
  for (const auto& each : state->collectables) state->gateway->RegisterCollectable(each);
  PushGateway pushing{state};
  const auto pushed = state->run(State::Task::push, true);
  if (pushed && *pushed) return pushing;
  const std::lock_guard lock{state->mutex};
  return make_error(ErrorCode::unavailable,
                    fmt::format("cannot push metrics to {}: {} (is a Pushgateway running there?)", state->url,
                                pushed ? state->last_failure : "it did not answer in time"));
}

Result<void> PushGateway::finish() {
  const auto pushed = state_->run(State::Task::push, false);
  const std::lock_guard lock{state_->mutex};
  if (pushed && *pushed && state_->failures == 0) return {};
  return make_error(
      ErrorCode::unavailable,
      fmt::format("{} of {} pushes to {} failed, {}: {}", state_->failures + (pushed ? 0 : 1),
                  state_->pushes + (pushed ? 0 : 1), state_->url,
                  pushed && *pushed ? "not the last one, so it has the final figures" : "the last one too",
                  pushed ? state_->last_failure : "it did not answer in time"));
}

Result<void> PushGateway::remove() {
  const auto removed = state_->run(State::Task::remove, false);
  if (removed && *removed) return {};
  return make_error(ErrorCode::unavailable,
                    fmt::format("the metrics of this run are still at {}: deleting them failed", state_->url));
}

}  // namespace twinstorm::metrics
