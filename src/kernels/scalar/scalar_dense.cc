#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/scalar/scalar_dense.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

constexpr float kSmallestPeak = 1e-30f;

}  // namespace

void scalar_dense(const DenseArgs& a) {
  for (int g = 0; g < a.groups; ++g) {
    const std::byte* w = a.w + g * a.w_stream;
    float w_scales[kLanes];
    std::memcpy(w_scales, w + dense_code_bytes(a.words), sizeof(w_scales));
    const auto* w_codes = reinterpret_cast<const int8_t*>(w);
    for (int m = 0; m < a.rows; ++m) {
      int32_t dot[kLanes] = {};
      for (int64_t word = 0; word < a.words; ++word) {
        const auto* x = reinterpret_cast<const int8_t*>(a.x.codes + word * a.rows + m);
        for (int64_t lane = 0; lane < kLanes; ++lane)
          for (int i = 0; i < 4; ++i) dot[lane] += w_codes[(word * kLanes + lane) * 4 + i] * x[i];
      }
      float* y = a.y + m * a.y_stride + g * kRowGroup;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        y[lane] = static_cast<float>(dot[lane]) * (w_scales[lane] * a.x.scales[m]);
    }
  }
}

void scalar_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out) {
  for (int m = 0; m < rows; ++m, x += stride) {
    float peak = 0;
    for (int64_t i = 0; i < cols; ++i) peak = std::max(peak, std::fabs(x[i]));
    const bool zero = peak < kSmallestPeak;
    const float inverse = zero ? 0.0f : 127.0f / peak;
    out.scales[m] = zero ? 0.0f : peak / 127.0f;
    out.sums[m] = 0;
    for (int64_t word = 0; word < dense_words(cols); ++word) {
      int8_t codes[4] = {};
      for (int64_t i = 0; i < 4 && 4 * word + i < cols; ++i)
        out.sums[m] += codes[i] = static_cast<int8_t>(std::lrintf(x[4 * word + i] * inverse));
      std::memcpy(out.codes + word * rows + m, codes, 4);
    }
  }
}

}  // namespace nestling
