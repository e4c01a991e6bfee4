#include "sim/run/machine.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sim/run/hub_link.hpp"
#include "sim/run/source_addresses.hpp"

namespace twinstorm::run {

namespace fs = std::filesystem;
using Severity = MachineFinding::Severity;

namespace {

constexpr ByteCount kMiB = 1024 * 1024;
constexpr ByteCount kDiskNeeded = 16 * kMiB;
constexpr ByteCount kDiskWanted = 256 * kMiB;
constexpr uint64_t kHubBacklog = 4096;       // what the hub asks of listen(2)
constexpr double kMemoryComfort = 0.8;       // of what is available; beyond it the page cache of others goes
constexpr uint64_t kPageBytes = 4096;        // of a socket's buffer, when bytes wait in it
constexpr uint64_t kNoLimitV1 = 1ull << 60;  // what cgroup v1 says for "no limit", and above
constexpr uint64_t kMostDevices = 1'000'000;
constexpr uint64_t kMostLoopback = 65'000;

// --- Reading
// ----------------------------------------------------------------------------------------------------------

std::optional<uint64_t> number(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return std::nullopt;
  text.remove_prefix(begin);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::string first_line(const fs::path& path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in{line};
  std::vector<std::string> all;
  for (std::string word; in >> word;) all.push_back(word);
  return all;
}

std::vector<uint64_t> numbers(const fs::path& path) {
  std::vector<uint64_t> all;
  for (const auto& word : words(first_line(path))) {
    const auto value = number(word);
    if (!value) break;
    all.push_back(*value);
  }
  return all;
}

std::optional<uint64_t> one_number(const fs::path& path) { return number(first_line(path)); }

/// What stands behind `key` on the line that begins with it.
std::optional<std::string> value_of(const fs::path& path, std::string_view key) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return line.substr(key.size());
  }
  return std::nullopt;
}

/// `0-3,8,10-11`: how many, of these within `low` .. `high`.
uint64_t count_list(const std::string& text, uint64_t low = 0, uint64_t high = UINT64_MAX) {
  uint64_t count = 0;
  std::istringstream in{text};
  for (std::string part; std::getline(in, part, ',');) {
    const auto dash = part.find('-');
    const auto first = number(part), last = dash == std::string::npos ? first : number(part.substr(dash + 1));
    if (!first || !last) continue;
    const uint64_t from = std::max(*first, low), to = std::min(*last, high);
    if (from <= to) count += to - from + 1;
  }
  return count;
}

/// A group and all above it, up to the mount.
std::vector<fs::path> groups_of(const fs::path& mount, const std::string& group) {
  std::vector<fs::path> all;
  for (fs::path at{group}; at.has_relative_path(); at = at.parent_path()) all.push_back(mount / at.relative_path());
  all.push_back(mount);
  return all;
}

/// Page cache that the kernel gives back under pressure is not "used".
uint64_t without_cache(std::optional<uint64_t> used, const fs::path& group, std::string_view key) {
  const auto cache = value_of(group / "memory.stat", key);
  const uint64_t reclaimable = cache ? number(*cache).value_or(0) : 0;
  return used.value_or(0) > reclaimable ? *used - reclaimable : 0;
}

void read_cgroups(const fs::path& root, MachineFacts& facts) {
  std::ifstream file{root / "proc/self/cgroup"};
  const fs::path base = root / "sys/fs/cgroup";
  const auto memory = [&](std::optional<uint64_t> limit, uint64_t used) {
    if (!limit || *limit >= kNoLimitV1) return;
    const auto left = [](uint64_t all, uint64_t taken) { return all > taken ? all - taken : 0; };
    if (facts.cgroup_memory && left(*facts.cgroup_memory, *facts.cgroup_memory_used) <= left(*limit, used)) return;
    facts.cgroup_memory = *limit;
    facts.cgroup_memory_used = used;
  };
  const auto cpu = [&](std::optional<uint64_t> quota, std::optional<uint64_t> period) {
    if (!quota || !period || *period == 0) return;
    const double cpus = static_cast<double>(*quota) / static_cast<double>(*period);
    facts.cgroup_cpus = std::min(facts.cgroup_cpus.value_or(cpus), cpus);
  };
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const auto group = line.substr(second + 1);
    if (controllers == ",,") {
      for (const auto& at : groups_of(base, group)) {
        memory(one_number(at / "memory.max"), without_cache(one_number(at / "memory.current"), at, "inactive_file "));
        const auto limit = words(first_line(at / "cpu.max"));
        if (limit.size() == 2) cpu(number(limit[0]), number(limit[1]));
      }
    }
    if (controllers.find(",memory,") != std::string::npos) {
      for (const auto& at : groups_of(base / "memory", group)) {
        memory(one_number(at / "memory.limit_in_bytes"),
               without_cache(one_number(at / "memory.usage_in_bytes"), at, "total_inactive_file "));
      }
    }
    if (controllers.find(",cpu,") != std::string::npos) {
      for (const auto& at : groups_of(base / "cpu", group)) {
        cpu(one_number(at / "cpu.cfs_quota_us"), one_number(at / "cpu.cfs_period_us"));  // -1 is no number: no limit
      }
    }
  }
}

// --- Judging
// ----------------------------------------------------------------------------------------------------------

std::string n_of(uint64_t n, std::string_view what) {
  return fmt::format("{} {}{}", format_count(n), what, n == 1 ? "" : "s");
}

uint64_t divided(uint64_t whole, uint64_t by) { return by == 0 ? 0 : (whole + by - 1) / by; }

/// A command that lets a process open `needed` files.
std::string raise_files(const MachineFacts& facts, uint64_t needed) {
  std::string command = fmt::format(
      "ulimit -n {} as root in the shell that starts it (a service: LimitNOFILE={}; a "
      "container: --ulimit nofile={})",
      needed, needed, needed);
  if (facts.nr_open && *facts.nr_open < needed)
    command = fmt::format("sysctl -w fs.nr_open={}, then {}", needed, command);
  return command;
}

void check_descriptors(const MachineFacts& facts, const scenario::PlannedCost& needs,
                       std::vector<MachineFinding>& findings) {
  const auto files = facts.files();
  if (!files) return;
  const auto whose = [](uint64_t processes, std::string_view name) {
    return processes > 1 ? fmt::format("each of {} {}s", processes, name) : fmt::format("the {}", name);
  };
  // What a process opens beside its devices stays the same however they are spread.
  const auto spread = [&](uint64_t devices, uint64_t rest) -> uint64_t {
    return *files > rest ? divided(devices, *files - rest) : 0;
  };
  {
    const uint64_t rest = needs.descriptors - needs.worker_devices;
    MachineFinding finding{
        .check = "descriptors",
        .what = "open files of " + (needs.workers > 1 ? whose(needs.workers, "worker") : whose(1, "generator")),
        .have = format_count(*files),
        .need = format_count(needs.descriptors)};
    finding.arithmetic =
        fmt::format("{} with a connection each + {} for back ends, the hub's control and files = {}",
                    n_of(needs.worker_devices, "device"), format_count(rest), format_count(needs.descriptors));
    if (needs.descriptors > *files) {
      finding.severity = Severity::failure;
      finding.change = raise_files(facts, needs.descriptors);
      if (const auto workers = spread(needs.mqtt_connections, rest); workers > 0 && workers <= 64) {
        finding.change = fmt::format("--workers {}, or {}", workers, finding.change);
      }
    }
    findings.push_back(std::move(finding));
  }
  if (needs.hub_processes > 0) {
    const uint64_t devices = divided(needs.mqtt_connections, needs.hub_processes);
    const uint64_t rest = needs.hub_descriptors - devices;
    MachineFinding finding{.check = "hubDescriptors",
                           .what = "open files of " + whose(needs.hub_processes, "hub"),
                           .have = format_count(*files),
                           .need = format_count(needs.hub_descriptors)};
    finding.arithmetic = fmt::format("{} + {} for back ends, listeners and files = {}", n_of(devices, "device"),
                                     format_count(rest), format_count(needs.hub_descriptors));
    if (needs.hub_descriptors > *files) {
      finding.severity = Severity::failure;
      finding.change = raise_files(facts, needs.hub_descriptors);
      if (const auto hubs = spread(needs.mqtt_connections, rest); hubs > 0 && hubs <= 64) {
        finding.change =
            fmt::format("target: {{embedded: {{processes: {}}}}} in the scenario, or {}", hubs, finding.change);
      }
    }
    findings.push_back(std::move(finding));
  }
  if (facts.files_max && facts.files_open) {
    const uint64_t all = needs.mqtt_connections + needs.http_connections;
    const uint64_t need = all * (needs.hub_processes > 0 ? 2 : 1);
    const uint64_t free = *facts.files_max > *facts.files_open ? *facts.files_max - *facts.files_open : 0;
    if (need > free) {
      findings.push_back({.severity = Severity::failure,
                          .check = "systemFiles",
                          .what = "open files of the whole machine",
                          .have = format_count(free) + " left",
                          .need = format_count(need),
                          .arithmetic = fmt::format("{}{}; {} of {} are open now", n_of(all, "connection"),
                                                    needs.hub_processes > 0 ? " with both ends here" : "",
                                                    format_count(*facts.files_open), format_count(*facts.files_max)),
                          .change = fmt::format("sysctl -w fs.file-max={}", *facts.files_open + need + need / 10)});
    }
  }
}

void check_ports(const MachineFacts& facts, const scenario::PlannedCost& needs, std::vector<MachineFinding>& findings) {
  const scenario::PlannedDestination* most = nullptr;
  for (const auto& each : needs.destinations) {
    if (most == nullptr || each.connections > most->connections) most = &each;
  }
  if (most == nullptr) return;
  const uint64_t ports = facts.ports();
  uint64_t addresses = 1;
  if (needs.source_addresses > 0) {
    addresses = needs.source_addresses;
  } else if (needs.loopback) {
    addresses = loopback_addresses(facts, most->connections);
  }
  const uint64_t have = addresses * ports;
  MachineFinding finding{.check = "ports",
                         .what = fmt::format("local ports for connections to one {} port", most->port),
                         .have = format_count(have),
                         .need = format_count(most->connections)};
  finding.arithmetic = fmt::format(
      "{} to one address and port; {} x {} (ip_local_port_range {} to {}{}) = {}",
      n_of(most->connections, "connection"),
      fmt::format("{} source address{}", format_count(addresses), addresses == 1 ? "" : "es"), n_of(ports, "port"),
      facts.port_first, facts.port_last,
      facts.ports_reserved > 0 ? fmt::format(" less {} reserved", facts.ports_reserved) : "", format_count(have));
  if (most->connections > have) {
    finding.severity = Severity::failure;
    const uint64_t widest = 65'535 - 1024 + 1 - facts.ports_reserved;
    const auto missing = divided(most->connections, std::max<uint64_t>(ports, 1));
    if (most->connections <= addresses * widest)
      finding.change = "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or ";
    finding.change +=
        fmt::format("target: {{sourceAddresses: [...]}} with at least {} addresses of this machine", missing);
  }
  findings.push_back(std::move(finding));
  if (!needs.loopback && facts.tcp_waiting && *facts.tcp_waiting > have / 2) {
    findings.push_back({.severity = Severity::warning,
                        .check = "timeWait",
                        .what = "connections in TIME_WAIT",
                        .have = format_count(*facts.tcp_waiting),
                        .arithmetic = "their ports cannot be used for the same destination for a minute",
                        .change = "wait a minute, or sysctl -w net.ipv4.tcp_tw_reuse=1"});
  }
}

void check_memory(const MachineFacts& facts, const scenario::PlannedCost& needs,
                  std::vector<MachineFinding>& findings) {
  std::optional<uint64_t> left = facts.memory_available;
  bool group = false;
  if (facts.cgroup_memory) {
    const uint64_t used = facts.cgroup_memory_used.value_or(0);
    const uint64_t free = *facts.cgroup_memory > used ? *facts.cgroup_memory - used : 0;
    group = !left || free < *left;
    if (group) left = free;
  }
  if (left) {
    MachineFinding finding{.check = "memory",
                           .what = group ? "memory below the limit of the control group" : "available memory",
                           .have = format_size(*left),
                           .need = format_size(needs.total)};
    finding.arithmetic =
        fmt::format("{} heap of devices + {} sockets in the kernel{}{} processes = {}", format_size(needs.device_heap),
                    format_size(needs.socket_kernel),
                    needs.hub_processes > 0 ? fmt::format(" + {} hub + ", format_size(needs.hub_heap)) : " + ",
                    format_size(needs.processes), format_size(needs.total));
    const bool too_much = needs.total > *left;
    if (too_much || static_cast<double>(needs.total) > kMemoryComfort * static_cast<double>(*left)) {
      finding.severity = too_much ? Severity::failure : Severity::warning;
      finding.change = group ? fmt::format(
                                   "raise the group's limit of {} (a container: --memory; a service: MemoryMax=), "
                                   "or use fewer devices",
                                   format_size(*facts.cgroup_memory))
                             : "use fewer devices, or a transport without TLS, or stop what else runs here";
    }
    findings.push_back(std::move(finding));
  }
  const uint64_t sockets = (needs.mqtt_connections + needs.http_connections) * (needs.hub_processes > 0 ? 2 : 1);
  if (facts.tcp_memory && sockets * kPageBytes > *facts.tcp_memory) {
    const uint64_t pages = sockets * 2;
    findings.push_back(
        {.severity = Severity::warning,
         .check = "tcpMemory",
         .what = "memory of TCP for bytes under way",
         .have = format_size(*facts.tcp_memory),
         .need = format_size(sockets * kPageBytes),
         .arithmetic = fmt::format("{} with one page of {} each, when all are written to at once",
                                   n_of(sockets, "socket"), format_size(kPageBytes)),
         .change = fmt::format("sysctl -w net.ipv4.tcp_mem='{} {} {}'", pages / 2, pages * 3 / 4, pages)});
  }
}

void check_conntrack(const MachineFacts& facts, const scenario::PlannedCost& needs,
                     std::vector<MachineFinding>& findings) {
  if (!facts.conntrack_max) return;
  const uint64_t tracked = facts.conntrack_count.value_or(0);
  const uint64_t free = *facts.conntrack_max > tracked ? *facts.conntrack_max - tracked : 0;
  const uint64_t need = needs.mqtt_connections + needs.http_connections;
  MachineFinding finding{
      .check = "conntrack",
      .what = "entries of connection tracking",
      .have = format_count(free) + " left",
      .need = format_count(need),
      .arithmetic = fmt::format("{}; the firewall follows {} of at most {} now and drops packets of more",
                                n_of(need, "connection"), format_count(tracked), format_count(*facts.conntrack_max))};
  if (need > free) {
    finding.severity = Severity::failure;
    finding.change = fmt::format("sysctl -w net.netfilter.nf_conntrack_max={}", tracked + need + need / 10);
  }
  findings.push_back(std::move(finding));
}

void check_backlog(const MachineFacts& facts, const scenario::PlannedCost* needs,
                   std::vector<MachineFinding>& findings) {
  if (!facts.somaxconn || (needs != nullptr && needs->hub_processes == 0)) return;
  const uint64_t have = std::min({*facts.somaxconn, facts.syn_backlog.value_or(*facts.somaxconn), kHubBacklog});
  MachineFinding finding{
      .check = "listenBacklog", .what = "connects that may wait at a listener of the hub", .have = format_count(have)};
  uint64_t need = 512;
  if (needs != nullptr) {
    // Connects that come while the hub looks away for a second.
    need = std::min(static_cast<uint64_t>(std::ceil(needs->connect_rate)) / needs->hub_processes, kHubBacklog);
    finding.need = format_count(need);
    finding.arithmetic = fmt::format("connects at {}, and a hub that is busy for a second",
                                     format_rate({needs->connect_rate / needs->hub_processes}));
  }
  if (have < need) {
    finding.severity = Severity::warning;
    const bool syn = facts.syn_backlog && *facts.syn_backlog < need;
    if (*facts.somaxconn < need) finding.change = fmt::format("sysctl -w net.core.somaxconn={}", kHubBacklog);
    if (syn) {
      finding.change += fmt::format("{}sysctl -w net.ipv4.tcp_max_syn_backlog={}",
                                    finding.change.empty() ? "" : " and ", kHubBacklog);
    }
  }
  findings.push_back(std::move(finding));
}

void check_cpus(const MachineFacts& facts, const scenario::PlannedCost* needs, std::vector<MachineFinding>& findings) {
  const double cpus = std::min<double>(facts.cpus, facts.cgroup_cpus.value_or(facts.cpus));
  MachineFinding finding{.check = "cpus", .what = "CPUs for busy threads", .have = fmt::format("{:g}", cpus)};
  if (facts.cgroup_cpus && *facts.cgroup_cpus < facts.cpus) finding.what += " (limit of the control group)";
  if (needs != nullptr) {
    finding.need = format_count(needs->busy_threads);
    finding.arithmetic = "shards of all workers + threads of the hub";
    if (static_cast<double>(needs->busy_threads) > cpus) {
      finding.severity = Severity::warning;
      finding.change =
          "fewer --shards, or more CPUs: threads that wait for a CPU make latencies longer than the hub does";
    }
  }
  findings.push_back(std::move(finding));
}

void check_clock(const MachineFacts& facts, std::vector<MachineFinding>& findings) {
  if (!facts.clock_source.empty()) {
    // Those that are read without a system call.
    static constexpr std::string_view kFast[] = {
        "tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "timebase", "tod"};
    MachineFinding finding{.check = "clockSource", .what = "clock source", .have = facts.clock_source};
    if (std::find(std::begin(kFast), std::end(kFast), facts.clock_source) == std::end(kFast)) {
      finding.severity = Severity::warning;
      finding.arithmetic = "reading it takes about a microsecond, and every operation reads it";
      finding.change =
          "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource (where "
          "available_clocksource lists it)";
    }
    findings.push_back(std::move(finding));
  }
  if (!facts.cpu_governor.empty()) {
    MachineFinding finding{.check = "cpuGovernor", .what = "CPU frequency governor", .have = facts.cpu_governor};
    if (facts.cpu_governor != "performance") {
      finding.severity = Severity::warning;
      finding.arithmetic = "a CPU that slows down between operations makes latencies longer at low rates";
      finding.change = "cpupower frequency-set -g performance";
    }
    findings.push_back(std::move(finding));
  }
}

void check_disk(const MachineFacts& facts, std::vector<MachineFinding>& findings) {
  if (!facts.disk_free) return;
  MachineFinding finding{.check = "disk",
                         .what = fmt::format("disk space for the record, in {}", facts.folder),
                         .have = format_size(*facts.disk_free),
                         .need = format_size(kDiskNeeded)};
  if (*facts.disk_free < kDiskWanted) {
    finding.severity = *facts.disk_free < kDiskNeeded ? Severity::failure : Severity::warning;
    finding.change = "free some, or give another folder with --out";
  }
  findings.push_back(std::move(finding));
}

/// One fleet of `devices` devices and nothing else.
scenario::PlannedCost needs_of_fleet(uint64_t devices, scenario::TransportKind transport, bool tls, bool embedded,
                                     unsigned workers, uint32_t hubs) {
  scenario::Scenario s;
  s.canary = false;
  if (!embedded) s.target.kind = scenario::Target::Kind::connection_string;
  s.target.hub.processes = hubs;
  scenario::Fleet fleet;
  fleet.name = "fleet";
  fleet.count = static_cast<uint32_t>(devices);
  fleet.transport = transport;
  fleet.tls.enabled = tls;
  s.fleets.push_back(std::move(fleet));
  return scenario::make_plan(s, static_cast<ShardId>(workers), workers).cost;
}

}  // namespace

uint64_t MachineFacts::ports() const {
  const uint64_t all = port_last >= port_first ? port_last - port_first + 1 : 0;
  return all > ports_reserved ? all - ports_reserved : 0;
}

MachineFacts read_machine(const fs::path& root, const fs::path& output) {
  MachineFacts facts;
  const fs::path net = root / "proc/sys/net", fs_ = root / "proc/sys/fs";
  if (const auto files = value_of(root / "proc/self/limits", "Max open files")) {
    const auto values = words(*files);
    if (values.size() >= 2) {
      facts.files_soft = number(values[0]);
      facts.files_hard = number(values[1]);
    }
  }
  facts.nr_open = one_number(fs_ / "nr_open");
  if (const auto files = numbers(fs_ / "file-nr"); files.size() == 3) {
    facts.files_open = files[0] > files[1] ? files[0] - files[1] : 0;
    facts.files_max = files[2];
  }
  if (const auto ports = numbers(net / "ipv4/ip_local_port_range"); ports.size() == 2) {
    facts.port_first = ports[0];
    facts.port_last = ports[1];
  }
  facts.ports_reserved =
      count_list(first_line(net / "ipv4/ip_local_reserved_ports"), facts.port_first, facts.port_last);
  facts.somaxconn = one_number(net / "core/somaxconn");
  facts.syn_backlog = one_number(net / "ipv4/tcp_max_syn_backlog");
  if (const auto pages = numbers(net / "ipv4/tcp_mem"); pages.size() == 3) {
    facts.tcp_memory = pages[2] * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
  if (const auto sockets = value_of(root / "proc/net/sockstat", "TCP:")) {
    const auto values = words(*sockets);
    for (size_t i = 0; i + 1 < values.size(); i += 2) {
      if (values[i] == "inuse") facts.tcp_in_use = number(values[i + 1]);
      if (values[i] == "tw") facts.tcp_waiting = number(values[i + 1]);
    }
  }
  facts.conntrack_max = one_number(net / "netfilter/nf_conntrack_max");
  facts.conntrack_count = one_number(net / "netfilter/nf_conntrack_count");
  const auto memory = [&](std::string_view key) -> std::optional<uint64_t> {
    const auto text = value_of(root / "proc/meminfo", key);
    const auto kib = text ? number(*text) : std::nullopt;
    return kib ? std::optional{*kib * 1024} : std::nullopt;
  };
  facts.memory_total = memory("MemTotal:");
  facts.memory_available = memory("MemAvailable:");
  read_cgroups(root, facts);
  if (const auto cpus = value_of(root / "proc/self/status", "Cpus_allowed_list:")) {
    facts.cpus = std::max(1u, static_cast<unsigned>(count_list(*cpus)));
  }
  facts.clock_source = first_line(root / "sys/devices/system/clocksource/clocksource0/current_clocksource");
  facts.cpu_governor = first_line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  std::error_code ignored;
  fs::path folder = fs::absolute(output, ignored);
  while (!folder.empty() && !fs::is_directory(folder, ignored) && folder != folder.root_path()) {
    folder = folder.parent_path();
  }
  struct statvfs disk {};
  // A file system without blocks (/proc) has no free space to tell of.
  if (statvfs(folder.c_str(), &disk) == 0 && disk.f_blocks > 0) {
    facts.folder = folder.string();
    facts.disk_free = disk.f_bavail * disk.f_frsize;
  }
  return facts;
}

uint64_t loopback_addresses(const MachineFacts& facts, uint64_t connections) {
  const uint64_t comfortable = std::max<uint64_t>(facts.ports() / 2, 1);
  return std::clamp<uint64_t>(divided(connections, comfortable), 1, kMostLoopback);
}

const char* to_string(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::warning:
      return "warning";
    case Severity::failure:
      return "failure";
  }
  return "";
}

std::vector<MachineFinding> check_machine(const MachineFacts& facts, const scenario::PlannedCost& needs) {
  std::vector<MachineFinding> findings;
  check_descriptors(facts, needs, findings);
  check_ports(facts, needs, findings);
  check_memory(facts, needs, findings);
  check_conntrack(facts, needs, findings);
  check_backlog(facts, &needs, findings);
  check_cpus(facts, &needs, findings);
  check_clock(facts, findings);
  check_disk(facts, findings);
  return findings;
}

std::vector<MachineFinding> check_machine(const MachineFacts& facts) {
  std::vector<MachineFinding> findings;
  if (const auto files = facts.files()) {
    findings.push_back({.check = "descriptors", .what = "open files of a process", .have = format_count(*files)});
  }
  findings.push_back({.check = "ports",
                      .what = "local ports for connections to one address and port",
                      .have = format_count(facts.ports())});
  if (facts.memory_available) {
    findings.push_back({.check = "memory", .what = "available memory", .have = format_size(*facts.memory_available)});
  }
  if (facts.conntrack_max) {
    findings.push_back(
        {.check = "conntrack", .what = "entries of connection tracking", .have = format_count(*facts.conntrack_max)});
  }
  check_backlog(facts, nullptr, findings);
  check_cpus(facts, nullptr, findings);
  check_clock(facts, findings);
  check_disk(facts, findings);
  return findings;
}

bool fits(const std::vector<MachineFinding>& findings) {
  return std::none_of(findings.begin(), findings.end(),
                      [](const auto& each) { return each.severity == Severity::failure; });
}

std::vector<std::string> failure_texts(const std::vector<MachineFinding>& findings) {
  std::vector<std::string> texts;
  for (const auto& each : findings) {
    if (each.severity != Severity::failure) continue;
    auto text = fmt::format("{}: {} needed, {} there", each.what, each.need, each.have);
    if (!each.arithmetic.empty()) text += fmt::format(" ({})", each.arithmetic);
    if (!each.change.empty()) text += ": " + each.change;
    texts.push_back(std::move(text));
  }
  return texts;
}

std::vector<MachineCapacity> machine_capacity(const MachineFacts& facts, unsigned workers, uint32_t hub_processes) {
  using scenario::TransportKind;
  // The disk is no matter of the number of devices.
  MachineFacts without_disk = facts;
  without_disk.disk_free.reset();
  struct Kind {
    const char* name;
    TransportKind transport;
    bool tls;
  };
  std::vector<MachineCapacity> all;
  for (const auto& kind :
       {Kind{"mqtt", TransportKind::mqtt, false}, Kind{"mqtt over TLS", TransportKind::mqtt, true},
        Kind{"mqttws", TransportKind::mqttws, false}, Kind{"mqttws over TLS", TransportKind::mqttws, true}}) {
    MachineCapacity capacity{.transport = kind.name};
    for (const bool embedded : {true, false}) {
      const auto findings_of = [&](uint64_t devices) {
        return check_machine(without_disk,
                             needs_of_fleet(devices, kind.transport, kind.tls, embedded, workers, hub_processes));
      };
      uint64_t good = 0, bad = kMostDevices + 1;
      while (bad - good > 1) {
        const uint64_t middle = good + (bad - good) / 2;
        (fits(findings_of(middle)) ? good : bad) = middle;
      }
      std::string limit = "devices of a scenario";
      if (good < kMostDevices) {
        for (const auto& each : findings_of(bad)) {
          if (each.severity != Severity::failure) continue;
          limit = each.what;
          break;
        }
      }
      (embedded ? capacity.embedded : capacity.remote) = good;
      (embedded ? capacity.embedded_limit : capacity.remote_limit) = limit;
    }
    all.push_back(std::move(capacity));
  }
  return all;
}

scenario::PlannedCost machine_needs(const scenario::Plan& plan) {
  auto needs = plan.cost;
  const auto& target = plan.scenario.target;
  if (target.kind != scenario::Target::Kind::embedded) {
    if (const auto address = find_target(target)) needs.loopback = is_loopback_host(address->host);
  }
  return needs;
}

Result<std::vector<std::string>> check_before_run(const scenario::Plan& plan, const fs::path& output, bool force) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  auto facts = read_machine("/", output);
  facts.disk_free.reset();  // nothing can force a record onto a full disk: `check_output_folder` sees to it
  auto failures = failure_texts(check_machine(facts, machine_needs(plan)));
  if (failures.empty() || force) return failures;
  std::string text = "this machine cannot hold the run:";
  for (const auto& each : failures) text += "\n  " + each;
  return make_error(ErrorCode::io, text +
                                       "\n  (twinstorm doctor shows every check; --force runs it all the same and "
                                       "says so in its report)");
}

}  // namespace twinstorm::run
