// Products of the encoder towers: Y = X W^T for many rows of X (pixels, frames). Weights f32, bf16, i8 or i16 in kIl16.
// One activation rule per weight type, the same on every instruction set and for every number of rows or threads:
//   f32, bf16: float32 activations, sum over inputs in order, one fused multiply-add each;
//   i8:        each row of X as int8 with one scale and one zero: low = min(0, x), high = max(0, x) of the row,
//              d = (high - low) / 254, zero = round((low + high) / 2d), code = round(x / d) - zero cut to -128 .. 127, all
//              rounded half to even, so that x is about d (code + zero); exact int32 sum of w (code + zero) over all
//              inputs, then y = float(sum) * (d_weight * d_row). What SiLU and GELU give is lopsided: a symmetric code
//              would leave nearly half its values unused there, and err 1.8 times as much;
//   i16:       each row of X as int16 with one scale: d = max |x| / 1023, code = round(x / d), half to even; exact int32
//              sum over all inputs, at most 2,048: 1023 * 1023 * 2048 < 2^31. 8 times as fine as i8 on both sides, as
//              many bytes as bf16, and about as fast as i8.
// (The text model's products, kernels/matmul.h, are bound by reading weights and scale blocks of 32; these are bound by
// multiplications, and one scale per row is what lets them run at the machine's int8 peak.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "tensor/weight.h"

namespace nestling {

// X [rows, cols] prepared for dense products. Refers to the float rows; owns no memory.
class DenseInput {
 public:
  // For i8 weights; i16 needs as much as i8 with twice the inputs.
  static uint64_t bytes_needed(int64_t max_rows, int64_t max_cols);
  DenseInput() = default;
  // `memory`: at least bytes_needed(max_rows, max_cols), 64-byte aligned, kept by the caller.
  DenseInput(std::span<std::byte> memory, int64_t max_rows, int64_t max_cols);

  // Takes x [rows, cols] with `stride` floats from row to row; makes the codes that `weights` of kI8 or kI16 are
  // multiplied by. x must stay alive and unchanged while products read it. The first form works on the calling thread,
  // the second splits the rows.
  void assign(const Kernels& kernels, const float* x, int64_t rows, int64_t cols, int64_t stride, WeightType weights);
  void assign(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t rows, int64_t cols, int64_t stride,
              WeightType weights);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const float* row(int64_t i) const { return x_ + i * stride_; }
  int64_t stride() const { return stride_; }
  std::span<std::byte> memory() const { return memory_; }
  // Whether products with such weights may read it.
  bool serves(WeightType weights) const { return !is_row_coded(weights) || weights == coded_for_; }

 private:
  std::span<std::byte> memory_;
  int64_t max_rows_ = 0, max_cols_ = 0;
  const float* x_ = nullptr;
  int64_t rows_ = 0, cols_ = 0, stride_ = 0;
  WeightType coded_for_ = WeightType::kF32;
};

// y [x.rows(), w.rows], `y_stride` floats from row to row; x.cols() == w.cols. On the calling thread alone: for use
// inside a parallel region that splits rows (pixels).
void dense(const Kernels& kernels, const DenseInput& x, const WeightMatrix& w, float* y, int64_t y_stride);
// The same with the outputs split over the pool: every weight is read once.
void dense(const Kernels& kernels, ThreadPool& pool, const DenseInput& x, const WeightMatrix& w, float* y,
           int64_t y_stride);

// Packs values that were computed (keys and values of attention) as a weight matrix [rows, cols] for dense(): `values` with
// `row_stride` floats from row to row and `col_stride` from column to column (1, or the transposed case). type: kF32 or
// kI8. `out`: packed_bytes(type, Layout::kIl16, rows, cols), 64-byte aligned. Equal to pack_matrix().
WeightMatrix pack_dense(WeightType type, int64_t rows, int64_t cols, const float* values, int64_t row_stride,
                        int64_t col_stride, std::byte* out);

}  // namespace nestling
