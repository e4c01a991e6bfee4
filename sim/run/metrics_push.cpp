#include "sim/run/metrics_push.hpp"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace twinstorm::run {
namespace {

constexpr Nanos kPatience = std::chrono::seconds{10};

}  // namespace

struct MetricsPush::State {
  enum class Task { none, push, remove, quit };

  State(metrics::PushGateway to, Nanos interval) : gateway{std::move(to)}, every{interval} {}

  metrics::PushGateway gateway;
  const Nanos every;

  std::mutex mutex;
  std::condition_variable changed;
  Task asked = Task::none;
  bool periodic = true;
  bool transferring = false;
  uint64_t ended = 0;  // tasks that were asked for and have ended
  uint64_t pushes = 0, failures = 0;
  Result<void> last;  // of the last transfer
  std::string last_failure;

  void work() {
    std::unique_lock lock{mutex};
    while (true) {
      if (!changed.wait_for(lock, every, [this] { return asked != Task::none; }) && !periodic) continue;
      const Task task = std::exchange(asked, Task::none);
      if (task == Task::quit) return;
      transferring = true;
      lock.unlock();
      const auto result = task == Task::remove ? gateway.remove() : gateway.push();
      lock.lock();
      transferring = false;
      last = result;
      if (task != Task::remove) ++pushes;
      if (!result) {
        if (task != Task::remove) ++failures;
        last_failure = result.error().message;
      }
      if (task != Task::none) ++ended;
      changed.notify_all();
    }
  }
  /// One transfer; an error of its own when it does not end in time.
  Result<void> run(Task task, bool periodic_then) {
    std::unique_lock lock{mutex};
    periodic = periodic_then;
    const auto before = ended;
    asked = task;
    changed.notify_all();
    if (changed.wait_for(lock, kPatience, [&] { return ended > before; })) return last;
    if (task == Task::push) ++pushes, ++failures;
    last_failure = "it did not answer in time";
    return make_error(ErrorCode::unavailable, last_failure);
  }
};

MetricsPush::MetricsPush(std::shared_ptr<State> state)
    : state_{std::move(state)}, thread_{[state = state_] { state->work(); }} {}

MetricsPush::~MetricsPush() {
  if (!state_) return;
  std::unique_lock lock{state_->mutex};
  state_->periodic = false;
  state_->asked = State::Task::quit;
  state_->changed.notify_all();
  const bool idle = state_->changed.wait_for(lock, kPatience, [this] { return !state_->transferring; });
  lock.unlock();
  if (idle) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

Result<MetricsPush> MetricsPush::start(metrics::PushGateway gateway, Nanos every) {
  MetricsPush pushing{std::make_shared<State>(std::move(gateway), every)};
  const auto pushed = pushing.state_->run(State::Task::push, true);
  if (pushed) return pushing;
  return make_error(ErrorCode::unavailable,
                    fmt::format("cannot push metrics to {}: {} (is a Pushgateway running there?)",
                                pushing.state_->gateway.url(), pushed.error().message));
}

Result<void> MetricsPush::finish() {
  const auto pushed = state_->run(State::Task::push, false);
  const std::lock_guard lock{state_->mutex};
  if (state_->failures == 0) return {};
  return make_error(
      ErrorCode::unavailable,
      fmt::format("{} of {} pushes to {} failed, {}: {}", state_->failures, state_->pushes, state_->gateway.url(),
                  pushed ? "not the last one, so it has the final figures" : "the last one too", state_->last_failure));
}

Result<void> MetricsPush::remove() {
  const auto removed = state_->run(State::Task::remove, false);
  if (removed) return {};
  return make_error(ErrorCode::unavailable, fmt::format("the metrics of this run are still at {}: {}",
                                                        state_->gateway.url(), removed.error().message));
}

}  // namespace twinstorm::run
