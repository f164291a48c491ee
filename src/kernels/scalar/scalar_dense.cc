#include <algorithm>
#include <cstring>

#include "kernels/dense_coding.h"
#include "kernels/scalar/scalar_dense.h"
#include "tensor/layout.h"

namespace nestling {

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
          for (int i = 0; i < 4; ++i) dot[lane] += w_codes[(word * kLanes + lane) * 4 + i] * (x[i] + a.x.zeros[m]);
      }
      float* y = a.y + m * a.y_stride + g * kRowGroup;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        y[lane] = static_cast<float>(dot[lane]) * (w_scales[lane] * a.x.scales[m]);
    }
  }
}

void scalar_dense16(const DenseArgs& a) {
  for (int g = 0; g < a.groups; ++g) {
    const std::byte* w = a.w + g * a.w_stream;
    float w_scales[kLanes];
    std::memcpy(w_scales, w + dense_code_bytes(a.words), sizeof(w_scales));
    const auto* w_codes = reinterpret_cast<const int16_t*>(w);
    for (int m = 0; m < a.rows; ++m) {
      int32_t dot[kLanes] = {};
      for (int64_t word = 0; word < a.words; ++word) {
        const auto* x = reinterpret_cast<const int16_t*>(a.x.codes + word * a.rows + m);
        for (int64_t lane = 0; lane < kLanes; ++lane)
          for (int i = 0; i < 2; ++i) dot[lane] += w_codes[(word * kLanes + lane) * 2 + i] * x[i];
      }
      float* y = a.y + m * a.y_stride + g * kRowGroup;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        y[lane] = static_cast<float>(dot[lane]) * (w_scales[lane] * a.x.scales[m]);
    }
  }
}

void scalar_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out) {
  for (int m = 0; m < rows; ++m, x += stride) {
    float low = 0, high = 0;
    for (int64_t i = 0; i < cols; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
    const DenseRowCoding row = dense_row_coding(low, high);
    out.scales[m] = row.scale;
    out.zeros[m] = row.zero;
    out.sums[m] = dense_code_tail(x, 0, cols, row, out.codes + m, rows);
  }
}

}  // namespace nestling
