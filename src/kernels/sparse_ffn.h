// The two products of a sparse feed-forward layer, reading only the weights of the neurons that the gate kept (exact:
// the others multiply by zero). text.md 8; files.md 9.2.
#pragma once

#include <cstdint>

#include "kernels/matmul.h"

namespace nestling {

// The kept neurons of each row, compressed: row t keeps neurons[offsets[t] .. offsets[t+1]), in ascending order.
struct SparseSelection {
  int64_t rows = 0;
  const int64_t* offsets = nullptr;   // rows + 1
  const int32_t* neurons = nullptr;   // offsets[rows]
};

// values[i] = dot(up row neurons[i], x row t) for every kept (t, i). up: Layout::kLaneRows, [F, D].
void sparse_up(const Kernels& kernels, ThreadPool& pool, const Activations& x, const WeightMatrix& up,
               const SparseSelection& kept, float* values);

// y[t] = sum over kept neurons of values[i] * down[:, neurons[i]]. down: Layout::kInputMajor, [D, F]. The rule of
// matmul.h: for quantised weights the values of a block of 32 neurons are coded as int8 with one scale, the dot of a
// block is exact, and blocks are added in order, so the result equals the dense product bit for bit.
// `scratch`: sparse_down_scratch_bytes() bytes, 64-byte aligned.
uint64_t sparse_down_scratch_bytes(int64_t max_rows, int64_t model_width, int64_t ffn_width, int threads);
void sparse_down(const Kernels& kernels, ThreadPool& pool, const SparseSelection& kept, const float* values,
                 const WeightMatrix& down, float* y, int64_t y_stride, std::byte* scratch);

}  // namespace nestling
