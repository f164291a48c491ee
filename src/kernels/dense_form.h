// Where the codes of X lie in the memory of DenseInput: rows in tiles of the set's number of rows, the last one narrower,
// each as DenseTile. Private to kernels.
#pragma once

#include "kernels/dense.h"
#include "kernels/kernel_table.h"
#include "tensor/layout.h"

namespace nestling {

// Codes, sum, zero and scale, with room for a kernel that loads 4 words where only the last one is meant.
constexpr uint64_t dense_row_bytes(int64_t words) { return static_cast<uint64_t>(round_up(4 * words + 20, kLineBytes)); }

// The tile that begins at row `first` and has `rows` rows of `words` words.
inline DenseTile dense_tile(const DenseInput& x, int64_t words, int64_t first, int64_t rows) {
  std::byte* base = x.memory().data() + first * dense_row_bytes(words);
  auto* codes = reinterpret_cast<int32_t*>(base);
  int32_t* sums = codes + rows * words;
  return {codes, sums, sums + rows, reinterpret_cast<float*>(sums + 2 * rows)};
}

}  // namespace nestling
