// Preloaded into a run: its wall clock jumps ahead by five seconds, three seconds after the first look at any clock.
#include <ctime>

#include <sys/syscall.h>
#include <unistd.h>

extern "C" int clock_gettime(clockid_t id, timespec* time) noexcept {
  static timespec first{};
  const long result = ::syscall(SYS_clock_gettime, id, time);
  if (result != 0) return static_cast<int>(result);
  timespec now{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  if (first.tv_sec == 0) first = now;
  if (id == CLOCK_REALTIME && now.tv_sec >= first.tv_sec + 3) time->tv_sec += 5;
  return 0;
}
