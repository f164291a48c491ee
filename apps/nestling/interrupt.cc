#include "interrupt.h"

#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/check.h"

namespace nestling {
namespace {

std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

// Holds a byte while g_interrupted is set. A signal that comes just before a read, or to another thread, would not end
// that read; a poll of this pipe sees it.
int g_pipe[2] = {-1, -1};

void on_signal(int signal_number) {
  if (g_interrupted.exchange(true)) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
  const int saved_errno = errno;
  [[maybe_unused]] const ssize_t written = ::write(g_pipe[1], "", 1);
  errno = saved_errno;
}

}  // namespace

void install_interrupt_handler() {
  NESTLING_CHECK_EQ(::pipe2(g_pipe, O_CLOEXEC | O_NONBLOCK), 0);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal_number : {SIGINT, SIGTERM}) sigaction(signal_number, &action, nullptr);
}

const std::atomic<bool>* interrupt_flag() { return &g_interrupted; }
bool interrupted() { return g_interrupted; }
void interrupt() { g_interrupted = true; }

void clear_interrupt() {
  char bytes[16];
  while (::read(g_pipe[0], bytes, sizeof bytes) > 0) {
  }
  g_interrupted = false;
}

bool wait_for_input() {
  pollfd files[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                    {.fd = g_pipe[0], .events = POLLIN, .revents = 0}};
  while (!interrupted() && ::poll(files, 2, -1) < 0 && errno == EINTR) {
  }
  return !interrupted();
}

}  // namespace nestling
