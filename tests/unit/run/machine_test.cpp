// What a machine can hold: facts read from a made-up /proc and /sys, and each rule with its texts.
#include "sim/run/machine.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/scenario/loader.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::run {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;
using twinstorm::testing::TemporaryFolder;
using twinstorm::testing::write_file;
using Severity = MachineFinding::Severity;
namespace fs = std::filesystem;

constexpr uint64_t kGiB = 1024ull * 1024 * 1024;

/// With room for everything.
MachineFacts roomy() {
  MachineFacts facts;
  facts.files_soft = 1024;
  facts.files_hard = 1'048'576;
  facts.nr_open = 1'048'576;
  facts.files_max = 10'000'000;
  facts.files_open = 1000;
  facts.somaxconn = 4096;
  facts.syn_backlog = 4096;
  facts.tcp_memory = 2 * kGiB;
  facts.memory_total = 24 * kGiB;
  facts.memory_available = 23 * kGiB;
  facts.cpus = 8;
  facts.clock_source = "tsc";
  facts.cpu_governor = "performance";
  facts.folder = "/runs";
  facts.disk_free = 100 * kGiB;
  return facts;
}

scenario::PlannedCost needs(const std::string& fleet, const std::string& target = "embedded", ShardId shards = 1,
                            unsigned workers = 1) {
  const auto loaded = scenario::load_scenario("schema: twinstorm/scenario/1\ntarget: " + target +
                                                  "\ncanary: false\nfleets: [{name: a, " + fleet +
                                                  "}]\nphases: [{name: p, connect: 500/s}]\n",
                                              "x.yaml");
  EXPECT_EQ(scenario::to_string(loaded.diagnostics), "");
  if (!loaded.ok()) return {};
  return scenario::make_plan(*loaded.scenario, shards, workers).cost;
}

MachineFinding found(const std::vector<MachineFinding>& findings, const std::string& check) {
  for (const auto& each : findings) {
    if (each.check == check) return each;
  }
  return {.check = "none"};
}

constexpr const char* kRemote =
    "{connectionString: 'HostName=h;SharedAccessKeyName=n;SharedAccessKey=a2V5', mqttPort: 1883}";

TEST(Machine, WithRoomForEverythingHasNothingToSay) {
  const auto findings = check_machine(roomy(), needs("count: 18000"));
  EXPECT_TRUE(fits(findings));
  for (const auto& each : findings) {
    EXPECT_EQ(each.severity, Severity::ok) << each.check << ' ' << each.arithmetic;
    EXPECT_EQ(each.change, "") << each.check;
  }
  EXPECT_THAT(failure_texts(findings), IsEmpty());
}

TEST(Descriptors, AreOneForEachDeviceAndAFewMore) {
  auto facts = roomy();
  facts.files_hard = 20'000;
  auto finding = found(check_machine(facts, needs("count: 18000")), "descriptors");
  EXPECT_EQ(finding.severity, Severity::ok);
  EXPECT_EQ(finding.what, "open files of the generator");
  EXPECT_EQ(finding.have, "20,000");
  EXPECT_EQ(finding.need, "18,064");
  EXPECT_EQ(finding.arithmetic,
            "18,000 devices with a connection each + 64 for back ends, the hub's control and files = 18,064");

  finding = found(check_machine(facts, needs("count: 50000")), "descriptors");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.change,
            "--workers 3, or ulimit -n 50064 as root in the shell that starts it (a service: LimitNOFILE=50064; a "
            "container: --ulimit nofile=50064)");
  facts.nr_open = 30'000;
  finding = found(check_machine(facts, needs("count: 50000")), "descriptors");
  EXPECT_THAT(finding.change, HasSubstr("sysctl -w fs.nr_open=50064, then ulimit -n 50064"));
}

TEST(Descriptors, OfWorkersAreThoseOfTheFullestOne) {
  auto facts = roomy();
  facts.files_hard = 20'000;
  auto finding = found(check_machine(facts, needs("count: 50000", kRemote, 3, 3)), "descriptors");
  EXPECT_EQ(finding.severity, Severity::ok);
  EXPECT_EQ(finding.what, "open files of each of 3 workers");
  EXPECT_EQ(finding.need, "16,731");
  // Four shards on three workers: one has two of them.
  finding = found(check_machine(facts, needs("count: 50000", kRemote, 4, 3)), "descriptors");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.need, "25,064");
}

TEST(Descriptors, OfTheHubAreItsOwn) {
  auto facts = roomy();
  facts.files_hard = 20'000;
  auto finding = found(check_machine(facts, needs("count: 50000", "embedded", 3, 3)), "hubDescriptors");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.what, "open files of the hub");
  EXPECT_EQ(finding.arithmetic, "50,000 devices + 64 for back ends, listeners and files = 50,064");
  EXPECT_THAT(finding.change, StartsWith("target: {embedded: {processes: 3}} in the scenario, or ulimit -n 50064"));
  finding = found(check_machine(facts, needs("count: 50000", "{embedded: {processes: 3}}", 3, 3)), "hubDescriptors");
  EXPECT_EQ(finding.severity, Severity::ok);
  EXPECT_EQ(finding.what, "open files of each of 3 hubs");
  EXPECT_EQ(found(check_machine(facts, needs("count: 50000", kRemote, 3, 3)), "hubDescriptors").check, "none");
}

TEST(Descriptors, OfTheWholeMachineCountBothEnds) {
  auto facts = roomy();
  facts.files_max = 40'000;
  facts.files_open = 10'000;
  const auto finding = found(check_machine(facts, needs("count: 18000")), "systemFiles");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.have, "30,000 left");
  EXPECT_EQ(finding.arithmetic, "18,000 connections with both ends here; 10,000 of 40,000 are open now");
  EXPECT_EQ(finding.change, "sysctl -w fs.file-max=49600");
  EXPECT_EQ(found(check_machine(facts, needs("count: 18000", kRemote)), "systemFiles").check, "none");
}

TEST(Ports, OfOneAddressBoundTheConnectionsToAnotherMachine) {
  auto finding = found(check_machine(roomy(), needs("count: 28000", kRemote)), "ports");
  EXPECT_EQ(finding.severity, Severity::ok);
  EXPECT_EQ(finding.what, "local ports for connections to one MQTT port");
  finding = found(check_machine(roomy(), needs("count: 40000", kRemote)), "ports");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.have, "28,232");
  EXPECT_EQ(finding.arithmetic,
            "40,000 connections to one address and port; 1 source address x 28,232 ports (ip_local_port_range 32768 to "
            "60999) = 28,232");
  EXPECT_EQ(finding.change,
            "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or target: {sourceAddresses: [...]} with at least 2 "
            "addresses of this machine");
  finding = found(check_machine(roomy(), needs("count: 100000", kRemote)), "ports");
  EXPECT_EQ(finding.change, "target: {sourceAddresses: [...]} with at least 4 addresses of this machine");
}

TEST(Ports, MultiplyWithTheAddressesOfTheScenario) {
  const auto target = std::string{kRemote}.insert(1, "sourceAddresses: [10.0.0.1-10.0.0.2], ");
  const auto finding = found(check_machine(roomy(), needs("count: 40000", target)), "ports");
  EXPECT_EQ(finding.severity, Severity::ok);
  EXPECT_EQ(finding.have, "56,464");
  EXPECT_THAT(finding.arithmetic, HasSubstr("2 source addresses x 28,232 ports"));
}

TEST(Ports, OnLoopbackAreOfAsManyAddressesAsItTakes) {
  auto facts = roomy();
  facts.port_first = 40'000;
  facts.port_last = 40'099;
  facts.ports_reserved = 20;
  EXPECT_EQ(facts.ports(), 80u);
  EXPECT_EQ(loopback_addresses(facts, 1), 1u);
  EXPECT_EQ(loopback_addresses(facts, 40), 1u);
  EXPECT_EQ(loopback_addresses(facts, 41), 2u);
  const auto finding = found(check_machine(facts, needs("count: 18000")), "ports");
  EXPECT_EQ(finding.severity, Severity::ok);
  EXPECT_THAT(finding.arithmetic, HasSubstr("450 source addresses x 80 ports (ip_local_port_range 40000 to 40099 less "
                                            "20 reserved) = 36,000"));
}

TEST(Ports, OfManyRecentConnectionsAreMissedForAMinute) {
  auto facts = roomy();
  facts.tcp_waiting = 20'000;
  const auto finding = found(check_machine(facts, needs("count: 1000", kRemote)), "timeWait");
  EXPECT_EQ(finding.severity, Severity::warning);
  EXPECT_EQ(finding.change, "wait a minute, or sysctl -w net.ipv4.tcp_tw_reuse=1");
  EXPECT_EQ(found(check_machine(facts, needs("count: 1000")), "timeWait").check, "none");
}

TEST(Memory, IsThatOfDevicesSocketsHubAndProcesses) {
  auto facts = roomy();
  facts.memory_available = 100ull * 1024 * 1024;
  const auto need = needs("count: 18000");
  auto finding = found(check_machine(facts, need), "memory");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.what, "available memory");
  EXPECT_EQ(finding.arithmetic,
            fmt::format("{} heap of devices + {} sockets in the kernel + {} hub + {} processes = {}",
                        format_size(need.device_heap), format_size(need.socket_kernel), format_size(need.hub_heap),
                        format_size(need.processes), format_size(need.total)));
  EXPECT_EQ(need.total, need.device_heap + need.socket_kernel + need.hub_heap + need.processes);
  EXPECT_THAT(finding.change, HasSubstr("use fewer devices"));
  facts.memory_available = need.total * 10 / 9;
  finding = found(check_machine(facts, need), "memory");
  EXPECT_EQ(finding.severity, Severity::warning);
  // TLS is what costs memory.
  EXPECT_GT(needs("count: 18000, tls: {version: '1.2'}").total, 3 * need.total);
  // A hub elsewhere keeps its end to itself.
  EXPECT_LT(needs("count: 18000", kRemote).total, need.total / 2);
}

TEST(Memory, OfAControlGroupCountsWhenItIsTheTighterOne) {
  auto facts = roomy();
  facts.cgroup_memory = kGiB;
  facts.cgroup_memory_used = kGiB - 1024 * 1024;
  const auto finding = found(check_machine(facts, needs("count: 1000")), "memory");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.what, "memory below the limit of the control group");
  EXPECT_EQ(finding.have, "1.0 MiB");
  EXPECT_THAT(finding.change, HasSubstr("raise the group's limit of 1.0 GiB (a container: --memory"));
}

TEST(Memory, OfTcpIsAWarning) {
  auto facts = roomy();
  facts.tcp_memory = 64ull * 1024 * 1024;
  const auto finding = found(check_machine(facts, needs("count: 18000")), "tcpMemory");
  EXPECT_EQ(finding.severity, Severity::warning);
  EXPECT_EQ(finding.arithmetic, "36,000 sockets with one page of 4.0 KiB each, when all are written to at once");
  EXPECT_EQ(finding.change, "sysctl -w net.ipv4.tcp_mem='36000 54000 72000'");
}

TEST(ConnectionTracking, HasToHaveRoomWhereItIsUsed) {
  auto facts = roomy();
  EXPECT_EQ(found(check_machine(facts, needs("count: 18000")), "conntrack").check, "none");
  facts.conntrack_max = 16'384;
  facts.conntrack_count = 84;
  const auto finding = found(check_machine(facts, needs("count: 18000")), "conntrack");
  EXPECT_EQ(finding.severity, Severity::failure);
  EXPECT_EQ(finding.arithmetic,
            "18,000 connections; the firewall follows 84 of at most 16,384 now and drops packets of more");
  EXPECT_EQ(finding.change, "sysctl -w net.netfilter.nf_conntrack_max=19884");
}

TEST(ListenBacklog, ShouldHoldASecondOfConnects) {
  auto facts = roomy();
  facts.somaxconn = 128;
  facts.syn_backlog = 256;
  auto finding = found(check_machine(facts, needs("count: 18000")), "listenBacklog");
  EXPECT_EQ(finding.severity, Severity::warning);
  EXPECT_EQ(finding.have, "128");
  EXPECT_EQ(finding.arithmetic, "connects at 500/s, and a hub that is busy for a second");
  EXPECT_EQ(finding.change, "sysctl -w net.core.somaxconn=4096 and sysctl -w net.ipv4.tcp_max_syn_backlog=4096");
  EXPECT_EQ(found(check_machine(facts, needs("count: 18000", kRemote)), "listenBacklog").check, "none");
}

TEST(Cpus, TooFewForTheBusyThreadsAreAWarning) {
  auto facts = roomy();
  facts.cpus = 2;
  EXPECT_EQ(found(check_machine(facts, needs("count: 10")), "cpus").severity, Severity::ok);
  auto finding = found(check_machine(facts, needs("count: 10", "embedded", 2)), "cpus");
  EXPECT_EQ(finding.severity, Severity::warning);
  EXPECT_EQ(finding.need, "3");
  facts.cgroup_cpus = 0.5;
  finding = found(check_machine(facts, needs("count: 10")), "cpus");
  EXPECT_EQ(finding.have, "0.5");
  EXPECT_EQ(finding.what, "CPUs for busy threads (limit of the control group)");
}

TEST(Clock, ThatIsSlowToReadAndCpusThatSlowDownAreWarnings) {
  auto facts = roomy();
  facts.clock_source = "hpet";
  facts.cpu_governor = "powersave";
  const auto findings = check_machine(facts);
  EXPECT_EQ(found(findings, "clockSource").severity, Severity::warning);
  EXPECT_THAT(found(findings, "clockSource").change, HasSubstr("echo tsc > /sys/devices/system/clocksource"));
  EXPECT_EQ(found(findings, "cpuGovernor").change, "cpupower frequency-set -g performance");
  EXPECT_TRUE(fits(findings));
}

TEST(Disk, HasToHoldTheRecord) {
  auto facts = roomy();
  facts.disk_free = 100ull * 1024 * 1024;
  EXPECT_EQ(found(check_machine(facts), "disk").severity, Severity::warning);
  facts.disk_free = 1024;
  const auto findings = check_machine(facts);
  EXPECT_EQ(found(findings, "disk").severity, Severity::failure);
  EXPECT_THAT(failure_texts(findings),
              ElementsAre("disk space for the record, in /runs: 16.0 MiB needed, 1.0 KiB there: free some, or give "
                          "another folder with --out"));
}

TEST(Machine, FailuresAreSentencesWithArithmeticAndCure) {
  auto facts = roomy();
  facts.files_hard = 20'000;
  const auto texts = failure_texts(check_machine(facts, needs("count: 30000", kRemote, 2, 1)));
  ASSERT_THAT(texts, SizeIs(2));
  EXPECT_THAT(texts[0], StartsWith("open files of the generator: 30,064 needed, 20,000 there (30,000 devices with a "
                                   "connection each + 64 for back ends, the hub's control and files = 30,064): "
                                   "--workers 2, or ulimit -n 30064"));
  EXPECT_THAT(texts[1], StartsWith("local ports for connections to one MQTT port: 30,000 needed, 28,232 there ("));
}

TEST(Capacity, NamesTheLimitThatComesFirst) {
  auto facts = roomy();
  facts.files_hard = 20'000;
  auto capacity = machine_capacity(facts);
  ASSERT_THAT(capacity, SizeIs(4));
  EXPECT_EQ(capacity[0].transport, "mqtt");
  EXPECT_EQ(capacity[0].embedded, 20'000u - 64);
  EXPECT_EQ(capacity[0].embedded_limit, "open files of the generator");
  EXPECT_EQ(capacity[0].remote, 20'000u - 64);
  // Three workers: the ports of one address come first, on loopback there are as many addresses as it takes.
  capacity = machine_capacity(facts, 3, 3);
  EXPECT_EQ(capacity[0].embedded, 3u * (20'000 - 64));
  EXPECT_EQ(capacity[0].remote, 28'232u);
  EXPECT_EQ(capacity[0].remote_limit, "local ports for connections to one MQTT port");
  facts = roomy();
  facts.memory_available = kGiB;
  capacity = machine_capacity(facts);
  EXPECT_EQ(capacity[1].transport, "mqtt over TLS");
  EXPECT_EQ(capacity[1].embedded_limit, "available memory");
  EXPECT_LT(capacity[1].embedded * 3, capacity[0].embedded);
  facts.memory_available = 1000 * kGiB;
  facts.files_hard = facts.nr_open = facts.files_max = 100'000'000;
  EXPECT_EQ(machine_capacity(facts)[0].embedded, 1'000'000u);
  EXPECT_EQ(machine_capacity(facts)[0].embedded_limit, "devices of a scenario");
}

// --- Reading
// ----------------------------------------------------------------------------------------------------------

void put(const fs::path& root, const std::string& path, const std::string& text) {
  fs::create_directories((root / path).parent_path());
  write_file(root / path, text);
}

TEST(ReadMachine, TakesEverythingFromProcAndSys) {
  TemporaryFolder folder;
  const auto& root = folder.path();
  put(root, "proc/self/limits",
      "Limit                     Soft Limit           Hard Limit           Units\n"
      "Max open files            1024                 20000                files\n");
  put(root, "proc/sys/fs/nr_open", "1048576\n");
  put(root, "proc/sys/fs/file-nr", "1504\t4\t9223372036854775807\n");
  put(root, "proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
  put(root, "proc/sys/net/ipv4/ip_local_reserved_ports", "8080,40000-40009\n");
  put(root, "proc/sys/net/core/somaxconn", "128\n");
  put(root, "proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n");
  put(root, "proc/sys/net/ipv4/tcp_mem", "100\t200\t300\n");
  put(root, "proc/net/sockstat", "sockets: used 9\nTCP: inuse 5 orphan 0 tw 3 alloc 7 mem 1\n");
  put(root, "proc/sys/net/netfilter/nf_conntrack_max", "65536\n");
  put(root, "proc/sys/net/netfilter/nf_conntrack_count", "17\n");
  put(root, "proc/meminfo", "MemTotal:       2000 kB\nMemFree:  1 kB\nMemAvailable:       1000 kB\n");
  put(root, "proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1,8\n");
  put(root, "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
  put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  const auto facts = read_machine(root, root / "runs/not-there-yet");
  EXPECT_EQ(facts.files_soft, 1024u);
  EXPECT_EQ(facts.files(), 20'000u);
  EXPECT_EQ(facts.nr_open, 1'048'576u);
  EXPECT_EQ(facts.files_open, 1500u);
  EXPECT_EQ(facts.files_max, 9'223'372'036'854'775'807u);
  EXPECT_EQ(facts.ports_reserved, 10u);  // 8080 is outside
  EXPECT_EQ(facts.ports(), 28'222u);
  EXPECT_EQ(facts.somaxconn, 128u);
  EXPECT_EQ(facts.syn_backlog, 512u);
  EXPECT_EQ(facts.tcp_memory, 300u * 4096);
  EXPECT_EQ(facts.tcp_in_use, 5u);
  EXPECT_EQ(facts.tcp_waiting, 3u);
  EXPECT_EQ(facts.conntrack_max, 65'536u);
  EXPECT_EQ(facts.conntrack_count, 17u);
  EXPECT_EQ(facts.memory_total, 2000u * 1024);
  EXPECT_EQ(facts.memory_available, 1000u * 1024);
  EXPECT_EQ(facts.cpus, 3u);
  EXPECT_EQ(facts.clock_source, "tsc");
  EXPECT_EQ(facts.cpu_governor, "powersave");
  EXPECT_EQ(facts.folder, root.string());
  EXPECT_TRUE(facts.disk_free.has_value());
}

TEST(ReadMachine, WhatIsNotThereIsAbsent) {
  TemporaryFolder folder;
  put(folder.path(), "proc/self/limits", "Max open files            unlimited            unlimited            files\n");
  const auto facts = read_machine(folder.path(), folder.path());
  EXPECT_FALSE(facts.files().has_value());
  EXPECT_FALSE(facts.conntrack_max.has_value());
  EXPECT_FALSE(facts.memory_available.has_value());
  EXPECT_FALSE(facts.cgroup_memory.has_value());
  EXPECT_FALSE(facts.cgroup_cpus.has_value());
  EXPECT_EQ(facts.cpus, 1u);
  EXPECT_EQ(facts.ports(), 28'232u);
  EXPECT_EQ(facts.clock_source, "");
}

TEST(ReadMachine, ControlGroupsOfVersion2AreReadUpToTheTop) {
  TemporaryFolder folder;
  const auto& root = folder.path();
  put(root, "proc/self/cgroup", "0::/system.slice/load.service\n");
  put(root, "sys/fs/cgroup/system.slice/load.service/memory.max", "max\n");
  put(root, "sys/fs/cgroup/system.slice/load.service/cpu.max", "150000 100000\n");
  put(root, "sys/fs/cgroup/system.slice/memory.max", "1000000\n");
  put(root, "sys/fs/cgroup/system.slice/memory.current", "400000\n");
  put(root, "sys/fs/cgroup/system.slice/memory.stat", "anon 1\ninactive_file 100000\n");
  put(root, "sys/fs/cgroup/cpu.max", "max 100000\n");
  const auto facts = read_machine(root, root);
  EXPECT_EQ(facts.cgroup_memory, 1'000'000u);
  EXPECT_EQ(facts.cgroup_memory_used, 300'000u);  // page cache is given back
  EXPECT_EQ(facts.cgroup_cpus, 1.5);
}

TEST(ReadMachine, ControlGroupsOfVersion1AreReadFromTheMountInAContainer) {
  TemporaryFolder folder;
  const auto& root = folder.path();
  put(root, "proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n");
  put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
  put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
  put(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  put(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  auto facts = read_machine(root, root);
  EXPECT_EQ(facts.cgroup_memory, 2'000'000u);
  EXPECT_EQ(facts.cgroup_memory_used, 500'000u);
  EXPECT_FALSE(facts.cgroup_cpus.has_value());
  put(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // what "no limit" looks like
  facts = read_machine(root, root);
  EXPECT_FALSE(facts.cgroup_memory.has_value());
  EXPECT_EQ(facts.cgroup_cpus, 0.5);
}

TEST(ReadMachine, OfTheMachineAtHandKnowsDescriptorsAndMemory) {
  const auto facts = read_machine();
  EXPECT_GT(facts.files().value_or(0), 0u);
  EXPECT_GT(facts.memory_available.value_or(0), 0u);
  EXPECT_GT(facts.ports(), 0u);
}

}  // namespace
}  // namespace twinstorm::run
