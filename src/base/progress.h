// A progress line on stderr for long work; silent when stderr is not a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace nestling {

class Progress {
 public:
  // `what`: "importing E2B"; `total` in bytes.
  Progress(std::string what, uint64_t total);
  ~Progress();
  void advance(uint64_t bytes);

 private:
  void draw();
  std::string what_;
  uint64_t total_;
  uint64_t done_ = 0;
  bool enabled_;
  std::chrono::steady_clock::time_point started_, drawn_;
};

}  // namespace nestling
