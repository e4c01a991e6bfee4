#include "tests/support/process.hpp"

#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace twinstorm::testing {

using std::chrono::steady_clock;

TemporaryFolder::TemporaryFolder() {
  auto pattern = (std::filesystem::temp_directory_path() / "twinstorm-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Process::Process(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const auto out = (folder_.path() / "out").string(), err = (folder_.path() / "err").string();
  pid_ = fork();
  if (pid_ != 0) return;
  const int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err_fd = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int null_fd = open("/dev/null", O_RDONLY);
  dup2(null_fd, 0);
  dup2(out_fd, 1);
  dup2(err_fd, 2);
  if (chdir(TWINSTORM_SOURCE_DIR) != 0) _exit(126);
  execvp(argv[0], argv.data());
  _exit(127);
}

Process::~Process() {
  if (!ended_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

void Process::signal(int number) const { kill(pid_, number); }

int Process::wait(std::chrono::seconds patience) {
  const auto limit = steady_clock::now() + patience;
  while (!ended_) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      ended_ = true;
      code_ = WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (steady_clock::now() > limit) {
      kill(pid_, SIGKILL);
      waitpid(pid_, &status, 0);
      ended_ = true;
      code_ = -1;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
  }
  return code_;
}

std::string Process::out() const { return read_file(folder_.path() / "out"); }
std::string Process::err() const { return read_file(folder_.path() / "err"); }

bool Process::saw(const std::string& text, std::chrono::seconds patience) const {
  const auto limit = steady_clock::now() + patience;
  while (steady_clock::now() < limit) {
    if (err().find(text) != std::string::npos || out().find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  return false;
}

std::vector<pid_t> Process::children() const {
  std::vector<pid_t> pids;
  std::error_code ignored;
  const auto tasks = std::filesystem::path{"/proc"} / std::to_string(pid_) / "task";
  for (const auto& task : std::filesystem::directory_iterator{tasks, ignored}) {
    std::ifstream file{task.path() / "children"};
    for (pid_t pid = 0; file >> pid;) pids.push_back(pid);
  }
  return pids;
}

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& file, const std::string& content) {
  std::ofstream{file, std::ios::binary | std::ios::trunc} << content;
}

std::string http_request(uint16_t port, const std::string& method, const std::string& target,
                         const std::string& authorization, const std::string& body) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    std::string request = method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    if (!authorization.empty()) request += "Authorization: " + authorization + "\r\n";
    if (!body.empty())
      request += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
    request += "\r\n" + body;
    if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
      char buffer[65536];
      for (ssize_t got = 0; (got = recv(fd, buffer, sizeof buffer, 0)) > 0;)
        answer.append(buffer, static_cast<size_t>(got));
    }
  }
  close(fd);
  const auto end = answer.find("\r\n\r\n");
  return end == std::string::npos ? std::string{} : answer.substr(end + 4);
}

}  // namespace twinstorm::testing
