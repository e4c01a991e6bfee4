#include "sim/run/hub_process.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/run/process_stats.hpp"

namespace twinstorm::run {
namespace {

std::string last_lines(const std::string& path) {
  std::ifstream file{path};
  std::string line, text;
  while (std::getline(file, line)) text += "\n  " + line;
  return text.size() > 2000 ? text.substr(text.size() - 2000) : text;
}

void append_behavior(std::vector<std::string>& words, const scenario::Target::Hub& hub) {
  if (!hub.tier.empty()) {
    words.insert(words.end(), {"--tier", hub.tier, "--units", std::to_string(hub.units), "--tier-on-request"});
  }
  if (!hub.query_staleness.is_zero()) words.insert(words.end(), {"--query-staleness", hub.query_staleness.to_yaml()});
  if (!hub.plant.empty()) words.insert(words.end(), {"--plant", hub.plant});
  if (hub.query_page_max > 0) words.insert(words.end(), {"--query-page-max", std::to_string(hub.query_page_max)});
}

}  // namespace

Result<HubAddress> read_ready_file(const std::string& path) {
  std::ifstream file{path};
  if (!file)
    return make_error(ErrorCode::io,
                      fmt::format("cannot read the hub's ready file {}: {}", path, std::strerror(errno)));
  const auto json = nlohmann::json::parse(file, nullptr, false);
  const auto fail = [&](std::string_view what) {
    return make_error(ErrorCode::corrupt, fmt::format("{}: {}", path, what));
  };
  if (!json.is_object()) return fail("is not a JSON object written by `twinstorm hub --ready-file`");
  HubAddress address;
  const auto text = [&](const char* member, const std::string& fallback) {
    const auto it = json.find(member);
    return it != json.end() && it->is_string() ? it->get<std::string>() : fallback;
  };
  address.host = text("listen", "127.0.0.1");
  address.host_name = text("hostName", address.host);
  const auto port = [&](const char* member) -> uint16_t {
    const auto it = json.find(member);
    return it != json.end() && it->is_number_unsigned() && it->get<uint64_t>() < 65536 ? it->get<uint16_t>() : 0;
  };
  address.mqtt_port = port("mqttPort");
  address.mqtts_port = port("mqttsPort");
  address.http_port = port("httpPort");
  address.https_port = port("httpsPort");
  address.ca_file = text("caFile", {});
  if (address.http_port == 0 && address.https_port == 0) {
    return fail("has neither httpPort nor httpsPort: the hub must listen for HTTP");
  }
  const auto owner = json.find("ownerConnectionString");
  if (owner == json.end() || !owner->is_string()) return fail("has no ownerConnectionString");
  address.service_connection_string = owner->get<std::string>();
  return address;
}

Result<HubProcess> HubProcess::start(const Options& options) {
  const std::string ready = fmt::format("{}/{}-ready.json", options.folder, options.name);
  const std::string log = fmt::format("{}/{}.log", options.folder, options.name);
  ::unlink(ready.c_str());
  const int log_fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (log_fd < 0) return make_error(ErrorCode::io, fmt::format("cannot write {}: {}", log, std::strerror(errno)));

  std::vector<std::string> words{options.binary, "hub",
                                 "--listen",     "127.0.0.1",
                                 "--mqtt-port",  "0",
                                 "--http-port",  "0",
                                 "--mqtts-port", options.mqtts ? "0" : "off",
                                 "--https-port", options.https ? "0" : "off",
                                 "--threads",    std::to_string(options.threads),
                                 "--ready-file", ready};
  append_behavior(words, options.behavior);
  // Certificates and keys of one run; not in the run folder, which people publish.
  std::string data;
  const auto discard = [&data] {
    std::error_code ignored;
    if (!data.empty()) std::filesystem::remove_all(data, ignored);
  };
  if (options.mqtts || options.https || !options.device_authority_pem.empty()) {
    data = (std::filesystem::temp_directory_path() / "twinstorm-hub-XXXXXX").string();
    if (::mkdtemp(data.data()) == nullptr) {
      ::close(log_fd);
      return make_error(ErrorCode::io, fmt::format("cannot make a folder {}: {}", data, std::strerror(errno)));
    }
    words.insert(words.end(), {"--data", data});
    if (!options.device_authority_pem.empty()) {
      const std::string file = data + "/device-ca.pem";
      std::ofstream{file} << options.device_authority_pem;
      words.insert(words.end(), {"--device-ca", file});
    }
  }
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    ::close(log_fd);
    discard();
    return make_error(ErrorCode::io, fmt::format("cannot start a process: {}", std::strerror(errno)));
  }
  if (pid == 0) {
    // Its own process group, so that Ctrl-C reaches only the run, which then ends the hub in order.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    const int null_fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ::close(log_fd);
  HubProcess hub{pid};
  hub.data_ = std::move(data);
  const auto deadline = std::chrono::steady_clock::now() + options.ready_timeout;
  while (::access(ready.c_str(), R_OK) != 0) {
    if (const auto end = hub.ended()) {
      return make_error(ErrorCode::unavailable,
                        fmt::format("the embedded hub {} before it was ready:{}", *end, last_lines(log)));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return make_error(ErrorCode::unavailable, fmt::format("the embedded hub was not ready after {} s:{}",
                                                            to_seconds(options.ready_timeout), last_lines(log)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  auto address = read_ready_file(ready);
  ::unlink(ready.c_str());  // it holds keys
  if (!address) return address.error();
  hub.address_ = std::move(*address);
  return hub;
}

HubProcess::HubProcess(HubProcess&& other) noexcept
    : pid_{other.pid_},
      address_{std::move(other.address_)},
      data_{std::exchange(other.data_, {})},
      end_{std::move(other.end_)} {
  other.pid_ = -1;
}

HubProcess::~HubProcess() {
  stop();
  remove_data();
}

void HubProcess::remove_data() {
  std::error_code ignored;
  if (!data_.empty()) std::filesystem::remove_all(data_, ignored);
  data_.clear();
}

std::optional<std::string> HubProcess::ended() {
  if (end_ || pid_ < 0) return end_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) end_ = describe_exit(status);
  return end_;
}

void HubProcess::stop() {
  if (pid_ < 0 || ended()) return;
  kill(pid_, SIGTERM);
  for (int i = 0; i < 500 && !ended(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{10});
  if (!ended()) {
    kill(pid_, SIGKILL);
    int status = 0;
    waitpid(pid_, &status, 0);
    end_ = describe_exit(status);
  }
}

double HubProcess::cpu_seconds() const { return end_ || pid_ < 0 ? 0 : process_stats(pid_).cpu_seconds; }
uint64_t HubProcess::resident_bytes() const { return end_ || pid_ < 0 ? 0 : process_stats(pid_).resident_bytes; }

}  // namespace twinstorm::run
