// What this machine can hold, and whether a scenario fits: the rules of `twinstorm doctor` and of the check before a
// run.
//
// Reading (`read_machine`) and judging (`check_machine`) are separate, so that every rule is tested with made-up
// machines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/units.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::run {

/// As this process sees it. Absent: not known here, or without a limit.
struct MachineFacts {
  // Descriptors.
  std::optional<uint64_t> files_soft, files_hard;  ///< RLIMIT_NOFILE
  std::optional<uint64_t> nr_open;                 ///< fs.nr_open: nothing raises RLIMIT_NOFILE above it
  std::optional<uint64_t> files_max, files_open;   ///< fs.file-max, and of these in use: the whole machine
  // TCP.
  uint64_t port_first = 32768, port_last = 60999;          ///< net.ipv4.ip_local_port_range
  uint64_t ports_reserved = 0;                             ///< of these, in ip_local_reserved_ports
  std::optional<uint64_t> somaxconn, syn_backlog;          ///< net.core.somaxconn, net.ipv4.tcp_max_syn_backlog
  std::optional<uint64_t> tcp_memory;                      ///< bytes: the high mark of tcp_mem
  std::optional<uint64_t> tcp_in_use, tcp_waiting;         ///< TCP sockets, and those in TIME_WAIT
  std::optional<uint64_t> conntrack_max, conntrack_count;  ///< absent: connections are not tracked
  // Memory.
  std::optional<ByteCount> memory_total, memory_available;
  std::optional<ByteCount> cgroup_memory, cgroup_memory_used;  ///< the tightest limit, and what is used below it
  // CPU and clock.
  unsigned cpus = 1;                  ///< that this process may use
  std::optional<double> cgroup_cpus;  ///< CPU seconds a second
  std::string clock_source;           ///< empty: not known
  std::string cpu_governor;           ///< empty: the machine has none (virtual machines)
  // Where the record goes.
  std::string folder;  ///< of the output, or its nearest parent that exists
  std::optional<ByteCount> disk_free;

  /// Ports of one address for connections to one destination.
  uint64_t ports() const;
  /// What a process may open: the hard limit, to which the soft one is raised.
  std::optional<uint64_t> files() const { return files_hard ? files_hard : files_soft; }
};

/// Reads everything below `root`: /proc, /sys. `output`: the folder that the run will write; need not exist. Never
/// fails: what cannot be read is absent.
MachineFacts read_machine(const std::filesystem::path& root = "/", const std::filesystem::path& output = ".");

/// How many addresses of 127.0.0.0/8 a run on loopback connects from, so that `connections` to one destination fill no
/// more than half of each one's ports: the kernel looks long for the last free ones.
uint64_t loopback_addresses(const MachineFacts& facts, uint64_t connections);

struct MachineFinding {
  enum class Severity : uint8_t {
    ok,
    warning,  ///< it can work; numbers or patience may suffer
    failure,  ///< it cannot work: a run is refused
  };
  Severity severity = Severity::ok;
  std::string check;       ///< stable name, lowerCamel: `descriptors`, `ports`, `memory` ...
  std::string what;        ///< for people: `open files of a worker`
  std::string have, need;  ///< values with units; `need` may be empty
  std::string arithmetic;  ///< how the need came about, one sentence; empty where there is nothing to add up
  std::string change;      ///< the exact command or key; empty when there is nothing to do
};
const char* to_string(MachineFinding::Severity severity);  ///< `ok`, `warning`, `failure`

/// Every check, in a fixed order.
std::vector<MachineFinding> check_machine(const MachineFacts& facts, const scenario::PlannedCost& needs);
/// What there is to say without a scenario: the clock, the CPU, the listen queue.
std::vector<MachineFinding> check_machine(const MachineFacts& facts);
bool fits(const std::vector<MachineFinding>& findings);
/// The failures, one sentence each with its arithmetic and its cure; for error messages and the record of a forced run.
std::vector<std::string> failure_texts(const std::vector<MachineFinding>& findings);

/// How many devices of one kind fit, each idle with one connection.
struct MachineCapacity {
  std::string transport;       ///< `mqtt`, `mqtt, TLS 1.2`, `mqttws` ...
  uint64_t embedded = 0;       ///< with the hub on this machine
  std::string embedded_limit;  ///< `what` of the first check that fails beyond it
  uint64_t remote = 0;         ///< with the hub elsewhere, from one address
  std::string remote_limit;
};
std::vector<MachineCapacity> machine_capacity(const MachineFacts& facts, unsigned workers = 1,
                                              uint32_t hub_processes = 1);

/// What a run needs: the plan's cost, and whether its hub is on loopback (a ready file and the environment are read).
scenario::PlannedCost machine_needs(const scenario::Plan& plan);

/// The check before a run; raises the soft descriptor limit to the hard one. Returns what the run is forced beyond,
/// `failure_texts`; empty when it fits. Without `force` that is an `io` error with the same sentences.
Result<std::vector<std::string>> check_before_run(const scenario::Plan& plan, const std::filesystem::path& output,
                                                  bool force);

}  // namespace twinstorm::run
