// One thread's share of an encoder's memory, handed out piece by piece. The same code that takes the pieces measures
// them first: an arena without memory only counts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/checked.h"
#include "kernels/dense.h"

namespace nestling {

class Arena {
 public:
  Arena() = default;
  Arena(std::byte* memory, uint64_t size) : memory_(memory), size_(size) {}

  uint64_t used() const { return used_; }
  std::byte* bytes(uint64_t count) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += static_cast<uint64_t>(round_up(static_cast<int64_t>(count), 64));
    NESTLING_CHECK(memory_ == nullptr || used_ <= size_);
    return piece;
  }
  float* floats(int64_t count) { return reinterpret_cast<float*>(bytes(static_cast<uint64_t>(count) * sizeof(float))); }
  DenseInput dense_input(int64_t rows, int64_t cols) {
    const uint64_t size = DenseInput::bytes_needed(rows, cols);
    std::byte* piece = bytes(size);
    return piece == nullptr ? DenseInput() : DenseInput({piece, static_cast<size_t>(size)}, rows, cols);
  }

 private:
  std::byte* memory_ = nullptr;
  uint64_t size_ = 0, used_ = 0;
};

}  // namespace nestling
