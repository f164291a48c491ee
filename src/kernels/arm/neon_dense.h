// What the dot-product and the matrix-multiply (i8mm) kernels of dense() have in common.
#pragma once

#include "kernels/arm/neon_common.h"
#include "kernels/kernel_table.h"

namespace nestling::neon {

// What the zero of row `m` adds to outputs 4 * quarter to 4 * quarter + 3.
NESTLING_NEON_INLINE int32x4_t dense_start(const DenseArgs& a, int m, int quarter) {
  return vmulq_n_s32(vld1q_s32(a.sums + 4 * quarter), a.x.zeros[m]);
}

// y = dot * (w_scale * x_scale) of row `m`, outputs 4 * quarter to 4 * quarter + 3.
NESTLING_NEON_INLINE void store_dense(const DenseArgs& a, int m, int quarter, int32x4_t dot) {
  const auto* w_scales = reinterpret_cast<const float*>(a.w + dense_code_bytes(a.words));
  const float32x4_t scale = vmulq_n_f32(vld1q_f32(w_scales + 4 * quarter), a.x.scales[m]);
  vst1q_f32(a.y + m * a.y_stride + 4 * quarter, vmulq_f32(vcvtq_f32_s32(dot), scale));
}

}  // namespace nestling::neon
