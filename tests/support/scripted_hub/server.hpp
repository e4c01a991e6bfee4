// A hub for tests that knows only what a load generator needs of one, and whose time is known exactly: every answer is
// written after a scripted delay and stamped. Without delays it is the null hub: the cheapest counterpart the generator
// can have, for ceilings of its throughput.
//
// Keeps versions, no documents: a twin reads as empty sections with their `$version`. Shares no code with sim/hub.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/scripted_hub/script.hpp"

namespace twinstorm::scripted_hub {

struct Config {
  unsigned threads = 1;
  Delay delay;
  Stall stall;
  bool log = false;  ///< keep a record of every scripted operation
};

/// The operations that follow the script.
enum class Kind : uint8_t { reported, telemetry, desired };
const char* to_string(Kind kind);

/// One operation, in nanoseconds of CLOCK_MONOTONIC.
struct Record {
  Kind kind;
  uint64_t n;            ///< in order of arrival, over all kinds
  int64_t received = 0;  ///< read from the socket
  int64_t due = 0;       ///< when the script wants the answer to leave
  int64_t sent = 0;      ///< just before it was written
  std::string device{};  ///< whose twin or message
};

class Worker;
struct Shared;

/// Listens on loopback; each thread accepts for itself (SO_REUSEPORT) and keeps its connections.
class Server {
 public:
  explicit Server(const Config& config);
  ~Server();
  uint16_t mqtt_port() const { return mqtt_port_; }
  uint16_t http_port() const { return http_port_; }
  /// Serves until `stop`; the calling thread is the first worker.
  void run();
  /// Safe in a signal handler.
  void stop();
  /// After `run`: by order of arrival.
  std::vector<Record> records() const;

 private:
  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  uint16_t mqtt_port_ = 0, http_port_ = 0;
};

}  // namespace twinstorm::scripted_hub
