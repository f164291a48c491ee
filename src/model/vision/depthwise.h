// Depthwise convolution: every channel has its own k x k kernel. Padding is TensorFlow's SAME, with zeros: at stride 2
// it lies below and to the right first.
#pragma once

#include <cstdint>

#include "model/vision/feature_map.h"

namespace nestling {

// Zeros before the first pixel of a row (or column) of `in` pixels.
constexpr int64_t same_padding_before(int64_t in, int64_t kernel, int64_t stride) {
  const int64_t total = (ceil_div(in, stride) - 1) * stride + kernel - in;
  return total > 0 ? total / 2 : 0;
}

inline constexpr int64_t kMaxDepthwiseKernel = 7;

struct Depthwise {
  int64_t kernel = 0;  // 0: there is no such convolution
  int64_t stride = 1;
  int64_t channels = 0;
  int64_t weight_stride = 0;      // floats from one row of `weight` to the next
  const float* weight = nullptr;  // [kernel * kernel][channels]
  const float* norm = nullptr;    // [channels], of the RMS norm that follows

  bool empty() const { return kernel == 0; }
  // Input row of a map of `side` rows that lies under row `ky` of the kernel for output row `y`; it may lie outside.
  int64_t input_row(int64_t side, int64_t y, int64_t ky) const {
    return y * stride + ky - same_padding_before(side, kernel, stride);
  }
  // Output pixels [first_x, first_x + count) of one row, [count][channels], without the norm. rows [kernel]: the input
  // rows [side][channels] under the kernel, null for those outside the map.
  void run(const float* const* rows, int64_t side, int64_t first_x, int64_t count, float* out) const;
  // The same for pixels [first, first + count) of the output, counted row by row, of a map that is whole in memory.
  void run(const FeatureMap& in, int64_t first, int64_t count, float* out) const;
};

}  // namespace nestling
