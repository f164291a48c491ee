#include "interrupt.h"

#include <csignal>

namespace nestling {
namespace {

std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

void on_signal(int signal_number) {
  if (!g_interrupted.exchange(true)) return;
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_signal;  // no SA_RESTART: a read from the terminal ends
  sigemptyset(&action.sa_mask);
  for (const int signal_number : {SIGINT, SIGTERM}) sigaction(signal_number, &action, nullptr);
}

const std::atomic<bool>* interrupt_flag() { return &g_interrupted; }
bool interrupted() { return g_interrupted; }
void interrupt() { g_interrupted = true; }
void clear_interrupt() { g_interrupted = false; }

}  // namespace nestling
