#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/activation_form.h"
#include "kernels/matmul.h"

namespace nestling {
namespace {

constexpr int64_t kSpanCols = 1024;  // inputs quantised at a time on the stack, before they are interleaved
constexpr int64_t kSpanBlocks = kSpanCols / kQuantBlock;

struct QuantizedSpan {
  alignas(64) int8_t codes[kSpanCols];
  alignas(64) int32_t corrections[kSpanBlocks * kMaxCorrectionWords];
  alignas(64) float scales[kSpanBlocks];
};

}  // namespace

void ActivationForm::make_tile(int64_t first, int64_t tokens) const {
  const WritableTile out = writable_tile(first, tokens);
  if (tokens == 1) {
    table_.quantize(x_.row(first), x_.cols(), reinterpret_cast<int8_t*>(out.codes), out.corrections, out.scales);
    return;
  }
  QuantizedSpan span;
  for (int64_t begin = 0; begin < x_.cols(); begin += kSpanCols) {
    const int64_t cols = std::min(kSpanCols, x_.cols() - begin), blocks = block_count(cols);
    const int64_t first_block = begin / kQuantBlock;
    for (int64_t m = 0; m < tokens; ++m) {
      table_.quantize(x_.row(first + m) + begin, cols, span.codes, span.corrections, span.scales);
      int32_t* codes = out.codes + first_block * 8 * tokens + m;
      for (int64_t i = 0; i < blocks * 8; ++i) std::memcpy(codes + i * tokens, span.codes + 4 * i, 4);
      int32_t* corrections = out.corrections + first_block * words_ * tokens + m;
      for (int64_t i = 0; i < blocks * words_; ++i) corrections[i * tokens] = span.corrections[i];
      float* scales = out.scales + first_block * tokens + m;
      for (int64_t i = 0; i < blocks; ++i) scales[i * tokens] = span.scales[i];
    }
  }
}

void ActivationForm::make_single_row(int64_t begin, int64_t end) const {
  const WritableTile out = writable_tile(0, 1);
  const int64_t block = begin / kQuantBlock;
  table_.quantize(x_.row(0) + begin, end - begin, reinterpret_cast<int8_t*>(out.codes) + begin,
                  out.corrections + block * words_, out.scales + block);
}

void ActivationForm::make_lanes(int64_t row) const {
  const WritableTile out = writable_lanes(row);
  QuantizedSpan span;
  for (int64_t cell = 0; cell < lane_cells(x_.cols()); ++cell) {
    const int64_t begin = cell * kLanes * kQuantBlock;
    const int64_t cols = std::min(kLanes * kQuantBlock, x_.cols() - begin), blocks = block_count(cols);
    table_.quantize(x_.row(row) + begin, cols, span.codes, span.corrections, span.scales);
    std::memset(span.codes + blocks * kQuantBlock, 0, (kLanes - blocks) * kQuantBlock);
    int32_t words[8 * kLanes];
    std::memcpy(words, span.codes, sizeof(words));
    for (int64_t step = 0; step < 8; ++step)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        out.codes[(cell * 8 + step) * kLanes + lane] = words[8 * lane + step];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int64_t word = 0; word < words_; ++word)
        out.corrections[(word * lane_cells(x_.cols()) + cell) * kLanes + lane] =
            lane < blocks ? span.corrections[lane * words_ + word] : 0;
      out.scales[cell * kLanes + lane] = lane < blocks ? span.scales[lane] : 0.0f;
    }
  }
}

uint64_t Activations::bytes_needed(int64_t max_rows, int64_t max_cols) {
  return max_rows * (ActivationForm::tile_row_bytes(max_cols, kMaxCorrectionWords) +
                     ActivationForm::lane_row_form_bytes(max_cols, kMaxCorrectionWords));
}

Activations::Activations(std::span<std::byte> memory, int64_t max_rows, int64_t max_cols)
    : memory_(memory), max_rows_(max_rows), max_cols_(max_cols) {
  NESTLING_CHECK_GE(memory.size(), bytes_needed(max_rows, max_cols));
}

Activations Activations::of_floats(const float* x, int64_t rows, int64_t cols, int64_t stride) {
  Activations out;
  out.x_ = x;
  out.rows_ = rows;
  out.cols_ = cols;
  out.stride_ = stride;
  return out;
}

void Activations::set(const float* x, int64_t rows, int64_t cols, int64_t stride, bool quantize) {
  NESTLING_CHECK_LE(rows, max_rows_);
  NESTLING_CHECK_LE(cols, max_cols_);
  x_ = x;
  rows_ = rows;
  cols_ = cols;
  stride_ = stride;
  quantized_ = quantize;
}

int64_t Activations::rows_of_tile(const Kernels& kernels) { return kernels.table().tile_rows; }

void Activations::code_tile(const Kernels& kernels, int64_t first) const {
  ActivationForm(kernels.table(), *this).make_tile(first, std::min<int64_t>(rows_of_tile(kernels), rows_ - first));
}

void Activations::code_single_row(const Kernels& kernels, int64_t begin, int64_t end) const {
  ActivationForm(kernels.table(), *this).make_single_row(begin, end);
}

void Activations::assign(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t rows, int64_t cols,
                         int64_t stride, bool quantize) {
  set(x, rows, cols, stride, quantize);
  if (!quantize) return;
  const int64_t tile = rows_of_tile(kernels);
  // A fork-join costs about as much as coding some thousand values.
  constexpr int64_t kSerialValues = 16384;
  const auto make = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) code_tile(kernels, i * tile);
  };
  if (rows * cols <= kSerialValues)
    make(0, ceil_div(rows, tile));
  else
    pool.for_ranges(ceil_div(rows, tile), 1, make);
}

}  // namespace nestling
