// CPU time and memory of a process, from /proc.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace twinstorm::run {

struct ProcessStats {
  double cpu_seconds = 0;  ///< user + system
  uint64_t resident_bytes = 0;
};

/// Zeros when the process is gone.
ProcessStats process_stats(pid_t pid);

/// User and system CPU seconds of those threads of this process whose name begins with one of `names`; ticks of 10 ms.
double thread_cpu_seconds(std::initializer_list<std::string_view> names);

/// `ended with exit code 1` or `was killed by signal 9 (Killed)`: a status of wait(2).
std::string describe_exit(int status);

/// Bytes this process has allocated on the heap and not freed (mallinfo2: arenas and mapped blocks).
uint64_t heap_in_use();

}  // namespace twinstorm::run
