// What the AVX2 and the AVX-VNNI kernels of dense() have in common.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/x86/avx2_common.h"

namespace nestling::avx2 {

// y = dot * (w_scale * x_scale); dots are [row][half of the 16 outputs].
template <int kRows>
NESTLING_AVX2_INLINE void store_dense(const DenseArgs& a, const __m256i (&dot)[kRows][2]) {
  const auto* w_scales = reinterpret_cast<const float*>(a.w + dense_code_bytes(a.words));
  NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
    const __m256 w_scale = _mm256_loadu_ps(w_scales + 8 * half);
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m256 scale = _mm256_mul_ps(w_scale, _mm256_set1_ps(a.x.scales[m]));
      _mm256_storeu_ps(a.y + m * a.y_stride + 8 * half, _mm256_mul_ps(_mm256_cvtepi32_ps(dot[m][half]), scale));
    }
  }
}

}  // namespace nestling::avx2
