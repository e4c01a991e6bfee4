// The embedded hub as a process of its own: its CPU must not be in the generator's numbers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::run {

/// Where a hub listens and how to get in: the content of a `hub --ready-file`.
struct HubAddress {
  std::string host;  ///< address to dial
  std::string host_name;
  uint16_t mqtt_port = 0, mqtts_port = 0, http_port = 0, https_port = 0;  ///< 0 = off
  bool prefers_https = false;                                             ///< where it has both
  std::string ca_file;                    ///< PEM of the CAs to trust; empty: the system's
  std::string service_connection_string;  ///< policy with registry and service rights; never printed
};

/// Reads the ready file of a hub (JSON, members of the command-line contract). Fails naming file and member.
Result<HubAddress> read_ready_file(const std::string& path);

/// Starts `twinstorm hub` on free loopback ports and ends it again. The child dies with this process, even when that is
/// killed. Not thread-safe.
class HubProcess {
 public:
  struct Options {
    std::string binary;                 ///< path of the twinstorm executable
    std::string folder;                 ///< existing folder for the ready file and the log
    std::string name = "hub";           ///< of these two files; another for each hub in the folder
    unsigned threads = 1;               ///< hub shards
    bool mqtts = false, https = false;  ///< also listens with TLS, with certificates made for this process
    scenario::Target::Hub behavior;     ///< tier, units, queries, faults; its `threads` are not used
    std::string device_authority_pem;   ///< CA whose signature lets X.509 devices in; empty: none
    Nanos ready_timeout = std::chrono::seconds{30};
  };

  static Result<HubProcess> start(const Options& options);
  HubProcess(HubProcess&& other) noexcept;
  HubProcess& operator=(HubProcess&&) = delete;
  ~HubProcess();

  const HubAddress& address() const { return address_; }
  pid_t pid() const { return pid_; }
  /// `ended with exit code 1` or `was killed by signal 9 (Killed)` when it is gone; never blocks.
  std::optional<std::string> ended();
  /// SIGTERM, up to 5 s of patience, then SIGKILL. Idempotent.
  void stop();
  /// User and system CPU seconds so far, from /proc; 0 when gone.
  double cpu_seconds() const;
  uint64_t resident_bytes() const;

 private:
  explicit HubProcess(pid_t pid) : pid_{pid} {}
  void remove_data();

  pid_t pid_ = -1;
  HubAddress address_;
  std::string data_;  // its own folder, gone with the process; empty: none
  std::optional<std::string> end_;
};

}  // namespace twinstorm::run
