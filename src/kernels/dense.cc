#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/dense_coding.h"
#include "kernels/dense_form.h"
#include "kernels/matmul.h"
#include "kernels/pack_strided.h"

namespace nestling {
namespace {

// Where the int32 sums end: |weight code| <= 127, |code + zero| <= 256, 127 * 256 * 2^16 < 2^31.
constexpr int64_t kMaxI8Inputs = int64_t{1} << 16;
static_assert(static_cast<int64_t>(kLargestI16) * static_cast<int64_t>(kLargestI16) * kMaxI16Inputs < int64_t{1} << 31);

const DenseKernel& kernel_for(const Kernels& kernels, WeightType weights) {
  return weights == WeightType::kI16 ? kernels.table().dense16 : kernels.table().dense;
}
int64_t words_of(WeightType weights, int64_t cols) {
  return weights == WeightType::kI16 ? dense16_words(cols) : dense_words(cols);
}

// One row of X as int16 codes, the words `step` apart. Returns its scale. What is not a number becomes -1023; a row with an
// infinity has an infinite scale, so that what it touches is not finite either.
float code16_row(const float* x, int64_t cols, int32_t* words, int64_t step) {
  constexpr int64_t kSpan = 64;
  float peak = 0;
  for (int64_t i = 0; i < cols; ++i) peak = std::max(peak, std::fabs(x[i]));
  const bool zero = peak < kSmallestRange;
  const float inverse = zero || !std::isfinite(peak) ? 0.0f : kLargestI16 / peak;
  for (int64_t first = 0; first < 2 * dense16_words(cols); first += kSpan) {
    alignas(64) int16_t codes[kSpan] = {};
    for (int64_t i = 0; i < std::min(kSpan, cols - first); ++i)
      codes[i] = static_cast<int16_t>(
          std::min(kLargestI16, std::max(-kLargestI16, std::nearbyintf(x[first + i] * inverse))));
    const int64_t count = std::min(kSpan / 2, dense16_words(cols) - first / 2);
    for (int64_t word = 0; word < count; ++word)
      std::memcpy(words + (first / 2 + word) * step, codes + 2 * word, sizeof(int32_t));
  }
  return zero ? 0.0f : peak / kLargestI16;
}

void code16(const float* x, int64_t stride, int64_t rows, int64_t cols, const DenseTile& out) {
  for (int64_t m = 0; m < rows; ++m) out.scales[m] = code16_row(x + m * stride, cols, out.codes + m, rows);
}

// Of the row groups of a panel, where the set needs them.
struct PanelSums {
  alignas(64) int32_t all[kMaxDenseGroups * kRowGroup];
  alignas(64) int32_t negative[kMaxDenseGroups * kRowGroup];
};

// One product of i8 or i16 weights, cut into panels (the row groups of one kernel call) and row tiles.
class CodedProduct {
 public:
  CodedProduct(const DenseKernel& kernel, const DenseInput& x, const WeightMatrix& w, float* y, int64_t y_stride)
      : kernel_(kernel), x_(x), w_(w), words_(words_of(w.type, w.cols)),
        group_bytes_(il16_group_bytes(w.type, w.stored_cols)), y_(y), y_stride_(y_stride) {}

  int64_t panels() const { return ceil_div(row_groups(w_.rows), kernel_.groups); }
  int64_t tiles() const { return ceil_div(x_.rows(), kernel_.rows); }

  void run(int64_t panel, int64_t first_tile, int64_t end_tile) const {
    const int64_t first = panel * kernel_.groups;
    const int64_t end = std::min(first + kernel_.groups, row_groups(w_.rows));
    const int64_t full_end = std::min(end, w_.rows / kRowGroup);
    PanelSums sums;
    if (kernel_.sums != nullptr)
      for (int64_t group = first; group < end; ++group) {
        const int64_t at = (group - first) * kRowGroup;
        kernel_.sums(group_data(group), words_, sums.all + at, sums.negative + at);
      }
    for (int64_t tile = first_tile; tile < end_tile; ++tile) {
      if (first < full_end) kernel_.run(args(tile, first, full_end - first, sums, 0));
      if (full_end < end) run_partial(tile, sums, (full_end - first) * kRowGroup);
    }
  }

 private:
  const std::byte* group_data(int64_t group) const { return w_.data + static_cast<uint64_t>(group) * group_bytes_; }

  // `at`: of the first group in `sums`.
  DenseArgs args(int64_t tile, int64_t group, int64_t groups, const PanelSums& sums, int64_t at) const {
    const int64_t row = tile * kernel_.rows;
    const int64_t rows = std::min<int64_t>(kernel_.rows, x_.rows() - row);
    return {.w = group_data(group),
            .w_stream = group_bytes_,
            .groups = static_cast<int>(groups),
            .rows = static_cast<int>(rows),
            .words = words_,
            .sums = sums.all + at,
            .negative_sums = sums.negative + at,
            .x = dense_tile(x_, words_, row, rows),
            .y = y_ + row * y_stride_ + group * kRowGroup,
            .y_stride = y_stride_};
  }

  // The last group of a matrix whose rows are no multiple of 16: only its own outputs may be written.
  void run_partial(int64_t tile, const PanelSums& sums, int64_t at) const {
    const int64_t group = w_.rows / kRowGroup, outputs = w_.rows % kRowGroup;
    alignas(64) float y[kMaxDenseRows * kRowGroup];
    DenseArgs a = args(tile, group, 1, sums, at);
    float* out = a.y;
    a.y = y;
    a.y_stride = kRowGroup;
    kernel_.run(a);
    for (int64_t m = 0; m < a.rows; ++m) std::memcpy(out + m * y_stride_, y + m * kRowGroup, outputs * sizeof(float));
  }

  const DenseKernel& kernel_;
  const DenseInput& x_;
  const WeightMatrix& w_;
  int64_t words_;
  uint64_t group_bytes_;
  float* y_;
  int64_t y_stride_;
};

}  // namespace

uint64_t DenseInput::bytes_needed(int64_t max_rows, int64_t max_cols) {
  return static_cast<uint64_t>(max_rows) * dense_row_bytes(dense_words(max_cols));
}

DenseInput::DenseInput(std::span<std::byte> memory, int64_t max_rows, int64_t max_cols)
    : memory_(memory), max_rows_(max_rows), max_cols_(max_cols) {
  NESTLING_CHECK_GE(memory.size(), bytes_needed(max_rows, max_cols));
}

void DenseInput::assign(const Kernels& kernels, const float* x, int64_t rows, int64_t cols, int64_t stride,
                        WeightType weights) {
  ThreadPool alone(1);
  assign(kernels, alone, x, rows, cols, stride, weights);
}

void DenseInput::assign(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t rows, int64_t cols,
                        int64_t stride, WeightType weights) {
  NESTLING_CHECK_LE(rows, max_rows_);
  NESTLING_CHECK_LE(cols, max_cols_);
  NESTLING_CHECK_LE(cols, weights == WeightType::kI16 ? kMaxI16Inputs : kMaxI8Inputs);
  x_ = x;
  rows_ = rows;
  cols_ = cols;
  stride_ = stride;
  coded_for_ = weights;
  if (!is_row_coded(weights)) return;
  const DenseKernel& kernel = kernel_for(kernels, weights);
  const int64_t words = words_of(weights, cols);
  NESTLING_CHECK_LE(rows * dense_row_bytes(words), memory_.size());
  pool.for_ranges(rows, kernel.rows, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kernel.rows) {
      const int64_t count = std::min<int64_t>(kernel.rows, end - first);
      const DenseTile tile = dense_tile(*this, words, first, count);
      if (weights == WeightType::kI16)
        code16(row(first), stride, count, cols, tile);
      else
        kernel.code(row(first), stride, static_cast<int>(count), cols, tile);
    }
  });
}

void dense(const Kernels& kernels, const DenseInput& x, const WeightMatrix& w, float* y, int64_t y_stride) {
  ThreadPool alone(1);
  dense(kernels, alone, x, w, y, y_stride);
}

void dense(const Kernels& kernels, ThreadPool& pool, const DenseInput& x, const WeightMatrix& w, float* y,
           int64_t y_stride) {
  NESTLING_CHECK(w.layout == Layout::kIl16);
  NESTLING_CHECK_EQ(w.cols, x.cols());
  NESTLING_CHECK_EQ(w.cols, w.stored_cols);
  NESTLING_CHECK(!is_quantized(w.type));
  if (w.rows == 0 || x.rows() == 0) return;
  if (!is_row_coded(w.type)) {
    matmul(kernels, pool, Activations::of_floats(x.row(0), x.rows(), x.cols(), x.stride()), w, y, y_stride);
    return;
  }
  NESTLING_CHECK(x.serves(w.type));
  const CodedProduct product(kernel_for(kernels, w.type), x, w, y, y_stride);
  // A unit is one panel for one part of the rows. Rows are divided only where there are too few panels.
  const int64_t panels = product.panels(), tiles = product.tiles();
  const int64_t wanted = pool.size() == 1 ? 1 : ceil_div(4 * pool.size(), panels);
  const int64_t parts = std::clamp<int64_t>(wanted, 1, tiles);
  pool.for_shares(panels * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t part = unit / panels;
      product.run(unit % panels, tiles * part / parts, tiles * (part + 1) / parts);
    }
  });
}

WeightMatrix pack_dense(WeightType type, int64_t rows, int64_t cols, const float* values, int64_t row_stride,
                        int64_t col_stride, std::byte* out) {
  pack_strided(type, rows, cols, values, row_stride, col_stride, out);
  return {type, Layout::kIl16, rows, cols, rows, cols, out, packed_bytes(type, Layout::kIl16, rows, cols)};
}

}  // namespace nestling
