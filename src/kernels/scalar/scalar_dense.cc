#include <algorithm>
#include <cstring>

#include "kernels/dense_coding.h"
#include "kernels/scalar/scalar_dense.h"
#include "tensor/layout.h"

namespace nestling {

namespace {

// Code: int8_t or int16_t; only rows of i8 have a zero.
template <typename Code>
void dense(const DenseArgs& a) {
  constexpr int kCodes = sizeof(int32_t) / sizeof(Code);  // of a word
  for (int g = 0; g < a.groups; ++g) {
    const std::byte* w = a.w + g * a.w_stream;
    float w_scales[kLanes];
    std::memcpy(w_scales, w + dense_code_bytes(a.words), sizeof(w_scales));
    const auto* w_codes = reinterpret_cast<const Code*>(w);
    for (int m = 0; m < a.rows; ++m) {
      const int32_t zero = kCodes == 4 ? a.x.zeros[m] : 0;
      int32_t dot[kLanes] = {};
      for (int64_t word = 0; word < a.words; ++word) {
        const auto* x = reinterpret_cast<const Code*>(a.x.codes + word * a.rows + m);
        for (int64_t lane = 0; lane < kLanes; ++lane)
          for (int i = 0; i < kCodes; ++i) dot[lane] += w_codes[(word * kLanes + lane) * kCodes + i] * (x[i] + zero);
      }
      float* y = a.y + m * a.y_stride + g * kRowGroup;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        y[lane] = static_cast<float>(dot[lane]) * (w_scales[lane] * a.x.scales[m]);
    }
  }
}

}  // namespace

void scalar_dense(const DenseArgs& a) { dense<int8_t>(a); }
void scalar_dense16(const DenseArgs& a) { dense<int16_t>(a); }

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
