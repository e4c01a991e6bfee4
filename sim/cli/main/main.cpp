#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include <unistd.h>

#include "sim/cli/environment.hpp"

namespace {

twinstorm::run::RunControl control;

extern "C" void on_signal(int number) {
  control.last_signal = number;
  const int count = ++control.signals;
  // Somebody who asks a third time means it, whatever the program is doing.
  if (count >= 3) _exit(128 + number);
}

void wait_for_signal() {
  sigset_t blocked, old;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGINT);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &old);
  while (control.signals == 0) sigsuspend(&old);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);

  std::error_code ignored;
  const auto binary = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const char* no_color = std::getenv("NO_COLOR");
  twinstorm::cli::Environment environment{
      .args = {argv + 1, argv + argc},
      .binary = binary.empty() ? argv[0] : binary.string(),
      .out = std::cout,
      .err = std::cerr,
      .out_is_terminal = isatty(STDOUT_FILENO) != 0,
      .err_is_terminal = isatty(STDERR_FILENO) != 0,
      .no_color = no_color != nullptr && *no_color != 0,
      .control = control,
      .wait_for_signal = wait_for_signal,
      .in = &std::cin,
  };
  return twinstorm::cli::run_cli(environment);
}
