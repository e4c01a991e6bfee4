#include "sim/run/workers.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/base/assert.hpp"

namespace twinstorm::run {
namespace {

using Json = nlohmann::json;

constexpr Nanos kReadyPatience = std::chrono::minutes{10};  // models of 100,000 twins are read meanwhile
constexpr Nanos kAnswerPatience = std::chrono::seconds{5};
constexpr Nanos kComparePatience = std::chrono::minutes{2};  // between two words about the progress
constexpr int kPollMilliseconds = 100;
constexpr Nanos kQuitPatience = std::chrono::seconds{5};

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

std::string command(const char* what) { return Json{{"do", what}}.dump(); }
std::string command(const char* what, MonoTime at) {
  return Json{{"do", what}, {"at", at.time_since_epoch().count()}}.dump();
}

}  // namespace

/// Texts over one end of a socket pair, each behind its length. Owns the descriptor.
class Workers::Channel {
 public:
  explicit Channel(int fd) : fd_{fd} {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() { ::close(fd_); }

  int fd() const { return fd_; }

  /// False when nobody is there any more.
  bool send(std::string_view text) {
    const auto length = static_cast<uint32_t>(text.size());
    std::string frame(sizeof(length), '\0');
    std::memcpy(frame.data(), &length, sizeof(length));
    frame += text;
    for (size_t sent = 0; sent < frame.size();) {
      const auto n = ::send(fd_, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }
  /// Waits for bytes and takes them in; false at the end.
  bool fill() {
    std::array<char, 65536> bytes;
    while (true) {
      const auto n = ::recv(fd_, bytes.data(), bytes.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      buffer_.append(bytes.data(), static_cast<size_t>(n));
      return true;
    }
  }
  std::optional<std::string> next() {
    uint32_t length = 0;
    if (buffer_.size() < sizeof(length)) return std::nullopt;
    std::memcpy(&length, buffer_.data(), sizeof(length));
    if (buffer_.size() - sizeof(length) < length) return std::nullopt;
    std::string text = buffer_.substr(sizeof(length), length);
    buffer_.erase(0, sizeof(length) + length);
    return text;
  }
  /// Waits for a whole text; nothing at the end.
  std::optional<std::string> wait() {
    while (true) {
      if (auto text = next()) return text;
      if (!fill()) return std::nullopt;
    }
  }

 private:
  int fd_;
  std::string buffer_;
};

// --- Before
// --------------------------------------------------------------------------------------------------------------

Workers::Workers(Config config, const Clock& clock) : config_{std::move(config)}, clock_{clock} {
  TS_ASSERT(config_.workers >= 1 && config_.workers <= config_.group.shards);
  for (ShardId id = 0; id < config_.group.shards; ++id) {
    recorders_.push_back(std::make_unique<metrics::ShardRecorder>(config_.group.plan->layout));
  }
}

Result<std::unique_ptr<Workers>> Workers::prepare(Config config, const Clock& clock) {
  std::unique_ptr<Workers> workers{new Workers{std::move(config), clock}};
  if (workers->config_.workers > 1) {
    if (const auto forked = workers->fork_all(); !forked) return forked.error();
    return workers;
  }
  workers->local_ = std::make_unique<ShardGroup>(workers->config_.group, workers->own_of(0), clock);
  if (workers->config_.group.keep_models) {
    const auto seeded = workers->local_->seed_models(workers->config_.existing);
    if (!seeded) workers->seeding_problem_ = seeded.error().message;
  }
  return workers;
}

ShardGroup::Own Workers::own_of(size_t worker) {
  ShardGroup::Own own;
  for (auto id = static_cast<ShardId>(worker); id < recorders_.size(); id += config_.workers) {
    own.emplace_back(id, recorders_[id].get());
  }
  return own;
}

Result<void> Workers::fork_all() {
  const pid_t parent = getpid();
  const uint32_t devices = config_.group.plan->scenario.device_count();
  for (size_t index = 0; index < config_.workers; ++index) {
    std::array<int, 2> ends{};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      return make_error(ErrorCode::unavailable, fmt::format("cannot start worker processes: {}", std::strerror(errno)));
    }
    auto here = std::make_unique<Channel>(ends[0]);
    auto there = std::make_unique<Channel>(ends[1]);
    const pid_t pid = fork();
    if (pid < 0) {
      return make_error(ErrorCode::unavailable, fmt::format("cannot start worker processes: {}", std::strerror(errno)));
    }
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(127);
      // Its own process group, so that Ctrl-C reaches only the run, which then ends its workers in order.
      setpgid(0, 0);
      std::signal(SIGINT, SIG_DFL);
      std::signal(SIGTERM, SIG_DFL);
      here.reset();
      channels_.clear();
      serve(index, *there);
    }
    Process process{.name = fmt::format("worker-{}", index + 1), .pid = pid};
    for (const auto& [id, recorder] : own_of(index)) {
      process.shards.push_back(id);
      process.devices += devices / config_.group.shards + (id < devices % config_.group.shards ? 1 : 0);
    }
    processes_.push_back(std::move(process));
    channels_.push_back(std::move(here));
  }
  gather(kReadyPatience, [&](size_t, const std::string& answer) {
    const auto json = Json::parse(answer);
    if (json.contains("problem")) seeding_problem_ = json["problem"].get<std::string>();
    return true;
  });
  for (const auto& process : processes_) {
    if (!process.end) continue;
    return make_error(ErrorCode::unavailable, fmt::format("{} {} before the run began", process.name, *process.end));
  }
  return {};
}

// --- In the worker
// -------------------------------------------------------------------------------------------------------

void Workers::serve(size_t index, Channel& channel) {
  prctl(PR_SET_NAME, fmt::format("twinstorm-w{}", index + 1).c_str());
  {
    ShardGroup group{config_.group, own_of(index), clock_};
    Json ready{{"ready", true}};
    if (config_.group.keep_models) {
      if (const auto seeded = group.seed_models(config_.existing); !seeded) ready["problem"] = seeded.error().message;
    }
    channel.send(ready.dump(-1, ' ', false, Json::error_handler_t::replace));
    while (const auto text = channel.wait()) {
      const auto json = Json::parse(*text);
      const auto what = json.at("do").get<std::string>();
      const auto at = [&] { return MonoTime{Nanos{json.at("at").get<int64_t>()}}; };
      if (what == "start") {
        group.start();
      } else if (what == "phase") {
        group.begin_phase(json.at("phase").get<metrics::PhaseIndex>(), at());
      } else if (what == "finish") {
        group.finish_load(at());
      } else if (what == "heap") {
        channel.send(Json{{"heap", heap_in_use()}}.dump());
      } else if (what == "stop") {
        channel.send(to_json(group.stop()));
      } else if (what == "compare") {
        const auto progress = [&](uint64_t done, uint64_t) { channel.send(Json{{"done", done}}.dump()); };
        channel.send(to_json(group.compare_twins(progress)));
      } else if (what == "quit") {
        break;
      }
    }
  }
  _exit(0);
}

// --- In the process that leads
// -------------------------------------------------------------------------------------------

std::vector<const metrics::ShardRecorder*> Workers::recorders() const {
  std::vector<const metrics::ShardRecorder*> all;
  for (const auto& recorder : recorders_) all.push_back(recorder.get());
  return all;
}

std::vector<std::string> Workers::names_by_shard() const {
  std::vector<std::string> names(local_ ? 0 : recorders_.size());
  for (const auto& process : processes_) {
    for (const ShardId shard : process.shards) names[shard] = process.name;
  }
  return names;
}

void Workers::tell_all(const std::string& text) {
  for (size_t i = 0; i < processes_.size(); ++i) {
    if (alive(i)) channels_[i]->send(text);  // one that is gone is found by whoever looks next
  }
}

void Workers::gather(Nanos patience, const std::function<bool(size_t, const std::string&)>& take) {
  std::vector<bool> waiting(processes_.size());
  std::vector<MonoTime> heard(processes_.size(), clock_.mono());
  for (size_t i = 0; i < processes_.size(); ++i) waiting[i] = alive(i);
  while (true) {
    std::vector<pollfd> polled;
    std::vector<size_t> whose;
    for (size_t i = 0; i < processes_.size(); ++i) {
      if (!waiting[i]) continue;
      if (!alive(i)) {
        waiting[i] = false;
        continue;
      }
      polled.push_back({channels_[i]->fd(), POLLIN, 0});
      whose.push_back(i);
    }
    if (polled.empty()) return;
    ::poll(polled.data(), polled.size(), kPollMilliseconds);
    const MonoTime now = clock_.mono();
    for (size_t k = 0; k < polled.size(); ++k) {
      const size_t worker = whose[k];
      if (polled[k].revents == 0) {
        if (now - heard[worker] > patience)
          lose(worker, fmt::format("gave no answer for {}", format_duration(patience)));
        continue;
      }
      heard[worker] = now;
      if (!channels_[worker]->fill()) {
        lose(worker, "ended");
        continue;
      }
      while (waiting[worker]) {
        const auto text = channels_[worker]->next();
        if (!text) break;
        if (take(worker, *text)) waiting[worker] = false;
      }
    }
  }
}

void Workers::lose(size_t worker, std::string how) {
  auto& process = processes_[worker];
  if (process.end) return;
  int status = 0;
  rusage usage{};
  pid_t gone = 0;
  // One that closed its end is about to be gone; one that is silent has to be made to.
  for (int i = 0; i < 20 && (gone = wait4(process.pid, &status, WNOHANG, &usage)) == 0; ++i) {
    if (how != "ended") break;
    ::usleep(5000);
  }
  if (gone == 0) {
    kill(process.pid, SIGKILL);
    wait4(process.pid, &status, 0, &usage);
  } else {
    how = describe_exit(status);
  }
  process.end = std::move(how);
  process.used = {seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime), 0};
  for (const ShardId id : process.shards) {
    // Nobody writes there any more.
    const auto before = recorders_[id]->devices();
    recorders_[id]->set_devices({before.offline + before.connecting + before.online + before.waiting, 0, 0, 0});
    recorders_[id]->set_open_work(0);
  }
  lost_unseen_.push_back(worker);
}

std::vector<const Workers::Process*> Workers::newly_lost() {
  for (size_t i = 0; i < processes_.size(); ++i) {
    siginfo_t info{};
    // Looks without reaping: `lose` takes the resource usage along.
    if (alive(i) && waitid(P_PID, static_cast<id_t>(processes_[i].pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == processes_[i].pid) {
      lose(i, "ended");
    }
  }
  std::vector<const Process*> found;
  for (const size_t worker : lost_unseen_) found.push_back(&processes_[worker]);
  lost_unseen_.clear();
  return found;
}

void Workers::start() {
  if (local_) return local_->start();
  for (auto& process : processes_) process.cpu_before = process_stats(process.pid).cpu_seconds;
  tell_all(command("start"));
}

void Workers::begin_phase(metrics::PhaseIndex phase, MonoTime start) {
  if (local_) return local_->begin_phase(phase, start);
  tell_all(Json{{"do", "phase"}, {"phase", phase}, {"at", start.time_since_epoch().count()}}.dump());
}

void Workers::finish_load(MonoTime at) {
  if (local_) return local_->finish_load(at);
  tell_all(command("finish", at));
}

uint64_t Workers::open_work() const {
  uint64_t open = 0;
  for (const auto* recorder : recorders()) open += recorder->health().open_work.get();
  return open;
}

Findings Workers::stop(Nanos patience) {
  if (local_) return local_->stop();
  used();  // what a worker that does not answer has used so far
  tell_all(command("stop"));
  Findings all;
  gather(patience, [&](size_t worker, const std::string& answer) {
    auto findings = findings_from_json(answer);
    if (findings) {
      all.add(*findings);
    } else {
      lose(worker, findings.error().message);
    }
    return true;
  });
  return all;
}

TwinComparison Workers::compare_twins(const Progress& progress, const std::function<bool()>& cancelled) {
  if (local_) return local_->compare_twins(progress);
  TwinComparison all;
  uint64_t total = 0;
  for (const auto& process : processes_) {
    total += process.devices;
    if (process.end) all.unread += process.devices;
  }
  std::vector<uint64_t> done(processes_.size());
  tell_all(command("compare"));
  gather(kComparePatience, [&](size_t worker, const std::string& answer) {
    if (cancelled && cancelled()) {
      for (size_t i = 0; i < processes_.size(); ++i) lose(i, "was not waited for");
      return true;
    }
    const auto json = Json::parse(answer, nullptr, false);
    if (json.is_object() && json.contains("done")) {
      done[worker] = json["done"].get<uint64_t>();
      uint64_t sum = 0;
      for (const auto each : done) sum += each;
      if (progress) progress(sum, total);
      return false;
    }
    if (const auto comparison = comparison_from_json(answer)) {
      all.add(*comparison);
    } else {
      all.problem = comparison.error().message;
    }
    return true;
  });
  return all;
}

ProcessStats Workers::used() {
  ProcessStats all = process_stats(getpid());
  for (auto& process : processes_) {
    if (!process.end) process.used = process_stats(process.pid);
    all.cpu_seconds += process.used.cpu_seconds;
    all.resident_bytes += process.used.resident_bytes;
  }
  return all;
}

std::optional<uint64_t> Workers::heap() {
  if (local_) return heap_in_use();
  uint64_t all = 0;
  tell_all(command("heap"));
  gather(kAnswerPatience, [&](size_t, const std::string& answer) {
    all += Json::parse(answer).at("heap").get<uint64_t>();
    return true;
  });
  const bool complete = std::none_of(processes_.begin(), processes_.end(), [](const auto& each) { return each.end; });
  return complete ? std::optional{all} : std::nullopt;
}

Workers::~Workers() {
  tell_all(command("quit"));
  const MonoTime limit = clock_.mono() + kQuitPatience;
  for (auto& process : processes_) {
    if (process.end) continue;
    int status = 0;
    while (waitpid(process.pid, &status, WNOHANG) == 0) {
      if (clock_.mono() > limit) {
        kill(process.pid, SIGKILL);
        waitpid(process.pid, &status, 0);
        break;
      }
      ::usleep(2000);
    }
  }
}

}  // namespace twinstorm::run
