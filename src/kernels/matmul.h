// Weight products Y = X W^T with one activation rule per weight type, the same for every number of rows:
//   f32, bf16 weights: float32 activations, sum over inputs in order, one fused multiply-add each;
//   q8, q6, q4 weights: activations as int8 per block of 32 inputs (scale = max|x| / 127, round half to even);
//                       exact int32 dot per block, then acc = fma(float(dot), d_weight * d_activation, acc) in block order.
// So a row of Y does not depend on how many rows X has, on the number of threads, or on how the work is split.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "tensor/weight.h"

namespace nestling {

// X [rows, cols] prepared once for all weight products that read it. Refers to the float rows; owns no memory.
class Activations {
 public:
  static uint64_t bytes_needed(int64_t max_rows, int64_t max_cols);
  Activations() = default;
  // `memory`: at least bytes_needed(max_rows, max_cols), 64-byte aligned, kept by the caller.
  Activations(std::span<std::byte> memory, int64_t max_rows, int64_t max_cols);

  // Takes x [rows, cols] with `stride` floats from row to row; `quantize` also makes the int8 form (needed when any
  // weight that reads it is quantised). x must stay alive and unchanged while products read it.
  void assign(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t rows, int64_t cols, int64_t stride,
              bool quantize);

  // The same for x that is still to be made: produce(row, begin, end) writes x[row][begin..end) and is called once for
  // every value, from the thread that codes it.
  template <typename Produce>
  void assign_produced(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t rows, int64_t cols,
                       int64_t stride, bool quantize, Produce&& produce) {
    set(x, rows, cols, stride, quantize);
    if (rows == 1) {
      pool.for_ranges(cols, kProducedCols, [&](int64_t begin, int64_t end) {
        produce(int64_t{0}, begin, end);
        if (quantize) code_single_row(kernels, begin, end);
      });
      return;
    }
    const int64_t tile = rows_of_tile(kernels);
    pool.for_ranges(rows, tile, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin; first < end; first += tile) {
        for (int64_t row = first; row < std::min(first + tile, end); ++row) produce(row, int64_t{0}, cols);
        if (quantize) code_tile(kernels, first);
      }
    });
  }

  // Rows that only float weights read.
  static Activations of_floats(const float* x, int64_t rows, int64_t cols, int64_t stride);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const float* row(int64_t i) const { return x_ + i * stride_; }
  int64_t stride() const { return stride_; }
  std::span<std::byte> memory() const { return memory_; }
  bool quantized() const { return quantized_; }

 private:
  static constexpr int64_t kProducedCols = 1024;  // what is worth a fork and a join
  void set(const float* x, int64_t rows, int64_t cols, int64_t stride, bool quantize);
  static int64_t rows_of_tile(const Kernels& kernels);
  void code_tile(const Kernels& kernels, int64_t first) const;                       // the tile that begins at a row
  void code_single_row(const Kernels& kernels, int64_t begin, int64_t end) const;    // of one row; whole blocks

  std::span<std::byte> memory_;
  int64_t max_rows_ = 0, max_cols_ = 0;
  const float* x_ = nullptr;
  int64_t rows_ = 0, cols_ = 0, stride_ = 0;
  bool quantized_ = false;
};

// y [x.rows(), w.rows], `y_stride` floats from row to row. w.layout: kIl16 or kIl16Tiled. Splits the outputs over the
// pool. x.cols() >= w.cols (a slice of down reads the first w.cols inputs).
void matmul(const Kernels& kernels, ThreadPool& pool, const Activations& x, const WeightMatrix& w, float* y,
            int64_t y_stride);

// One product of several that read the same X (q, k, v; gate and up): one parallel region for all of them.
struct Product {
  WeightMatrix w;
  float* y = nullptr;
  int64_t y_stride = 0;
};
void matmul_many(const Kernels& kernels, ThreadPool& pool, const Activations& x, std::span<const Product> products);

}  // namespace nestling
