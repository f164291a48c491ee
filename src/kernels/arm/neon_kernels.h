// The NEON functions. Those that need more than ARMv8.0 carry target attributes.
#pragma once

#include "kernels/kernel_table.h"

namespace nestling {

void neon_quantize(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales);

void neon_il16_f32(const Il16Args& a);
void neon_il16_bf16(const Il16Args& a);
void neon_il16_q8(const Il16Args& a);
void neon_il16_q6(const Il16Args& a);
void neon_il16_q4(const Il16Args& a);

void i8mm_il16_q8(const Il16Args& a);
void i8mm_il16_q6(const Il16Args& a);
void i8mm_il16_q4(const Il16Args& a);

void neon_dense(const DenseArgs& a);
void neon_dense16(const DenseArgs& a);
void neon_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t* negative_sums);
void neon_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out);
void i8mm_dense(const DenseArgs& a);

void neon_lane_dot_f32(const LaneDotArgs& a);
void neon_lane_dot_bf16(const LaneDotArgs& a);
void neon_lane_dot_q8(const LaneDotArgs& a);
void neon_lane_dot_q6(const LaneDotArgs& a);
void neon_lane_dot_q4(const LaneDotArgs& a);

void neon_sparse_down_f32(const SparseDownArgs& a);
void neon_sparse_down_bf16(const SparseDownArgs& a);
void neon_sparse_down_q8(const SparseDownArgs& a);
void neon_sparse_down_q6(const SparseDownArgs& a);
void neon_sparse_down_q4(const SparseDownArgs& a);

}  // namespace nestling
