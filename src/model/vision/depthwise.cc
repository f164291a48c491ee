#include "model/vision/depthwise.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/ops.h"

namespace nestling {

void Depthwise::run(const float* const* rows, int64_t side, int64_t first_x, int64_t count, float* out) const {
  NESTLING_CHECK_LE(kernel, kMaxDepthwiseKernel);
  const int64_t before = same_padding_before(side, kernel, stride);
  const float* inputs[kMaxDepthwiseKernel * kMaxDepthwiseKernel];
  const float* weights[kMaxDepthwiseKernel * kMaxDepthwiseKernel];
  for (int64_t i = 0; i < count; ++i) {
    const int64_t left = (first_x + i) * stride - before;
    const int64_t first = std::max<int64_t>(0, -left), last = std::min(kernel, side - left);
    int64_t taps = 0;
    for (int64_t ky = 0; ky < kernel; ++ky) {
      if (rows[ky] == nullptr) continue;
      for (int64_t kx = first; kx < last; ++kx, ++taps) {
        inputs[taps] = rows[ky] + (left + kx) * channels;
        weights[taps] = weight + (ky * kernel + kx) * weight_stride;
      }
    }
    std::fill_n(out + i * channels, channels, 0.0f);
    multiply_add_rows(out + i * channels, inputs, weights, taps, channels);
  }
}

void Depthwise::run(const FeatureMap& in, int64_t first, int64_t count, float* out) const {
  const int64_t out_side = strided_side(in.side, stride);
  for (const int64_t end = first + count; first < end;) {
    const int64_t y = first / out_side, x = first % out_side, n = std::min(out_side - x, end - first);
    const float* rows[kMaxDepthwiseKernel];
    for (int64_t ky = 0; ky < kernel; ++ky) {
      const int64_t row = input_row(in.side, y, ky);
      rows[ky] = row < 0 || row >= in.side ? nullptr : in.row(row);
    }
    run(rows, in.side, x, n, out);
    out += n * channels;
    first += n;
  }
}

}  // namespace nestling
