#include "base/progress.h"

#include <algorithm>

#include <fmt/format.h>
#include <unistd.h>

namespace nestling {

using std::chrono::steady_clock;

Progress::Progress(std::string what, uint64_t total)
    : what_(std::move(what)), total_(std::max<uint64_t>(total, 1)), enabled_(::isatty(STDERR_FILENO) == 1),
      started_(steady_clock::now()), drawn_(started_) {}

Progress::~Progress() {
  if (enabled_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::advance(uint64_t bytes) {
  done_ += bytes;
  if (!enabled_ || steady_clock::now() - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = steady_clock::now();
  draw();
}

void Progress::draw() {
  const double seconds = std::chrono::duration<double>(drawn_ - started_).count();
  const double part = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const int filled = static_cast<int>(part * 30);
  fmt::print(stderr, "\r\x1b[K{} [{}{}] {:3.0f} %  {:.1f}/{:.1f} GB  {:.0f} s left", what_, std::string(filled, '#'),
             std::string(30 - filled, ' '), part * 100, done_ / 1e9, total_ / 1e9,
             part > 0 ? seconds * (1 - part) / part : 0.0);
  std::fflush(stderr);
}

}  // namespace nestling
