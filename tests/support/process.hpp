// Starting the real binary, as a user would, with everything it prints kept.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

namespace twinstorm::testing {

/// A folder of its own below the system's temporary folder, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A child process; killed with the object if it still runs.
class Process {
 public:
  /// `words[0]` is the executable (found through PATH); the child's working folder is the source tree.
  explicit Process(std::vector<std::string> words);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Exit code, or 1000 + signal. A child that is still there after `patience` is killed and gives -1.
  int wait(std::chrono::seconds patience = std::chrono::seconds{60});
  std::string out() const;  ///< stdout so far
  std::string err() const;  ///< stderr so far
  /// Waits until stderr or stdout holds `text`; false when it does not come.
  bool saw(const std::string& text, std::chrono::seconds patience = std::chrono::seconds{30}) const;
  /// Direct children now.
  std::vector<pid_t> children() const;

 private:
  TemporaryFolder folder_;
  pid_t pid_ = -1;
  bool ended_ = false;
  int code_ = 0;
};

std::string read_file(const std::filesystem::path& file);
void write_file(const std::filesystem::path& file, const std::string& content);
/// The body of the answer to one request to 127.0.0.1; empty when there is none. `authorization` may be empty.
std::string http_request(uint16_t port, const std::string& method, const std::string& target,
                         const std::string& authorization = {}, const std::string& body = {});
inline std::string http_get(uint16_t port, const std::string& target) { return http_request(port, "GET", target); }

}  // namespace twinstorm::testing
