// The AVX2 functions. The build's baseline is x86-64-v3, so that they need no attributes; the AVX-VNNI and
// AVX-512 sets share some.
#pragma once

#include "kernels/kernel_table.h"

namespace nestling {

bool avx2_supported();
int64_t avx2_float_products(int64_t rounds);

void avx2_quantize_packed(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales);
void avx2_quantize_sums(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales);

void avx2_il16_f32(const Il16Args& a);
void avx2_il16_bf16(const Il16Args& a);
void avx2_il16_q8(const Il16Args& a);
void avx2_il16_q6(const Il16Args& a);
void avx2_il16_q4(const Il16Args& a);

void avx2_dense(const DenseArgs& a);
void avx2_dense16(const DenseArgs& a);
void avx2_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t* negative_sums);
void avx2_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out);

void avx2_lane_dot_f32(const LaneDotArgs& a);
void avx2_lane_dot_bf16(const LaneDotArgs& a);
void avx2_lane_dot_q8(const LaneDotArgs& a);
void avx2_lane_dot_q6(const LaneDotArgs& a);
void avx2_lane_dot_q4(const LaneDotArgs& a);

void avx2_sparse_down_f32(const SparseDownArgs& a);
void avx2_sparse_down_bf16(const SparseDownArgs& a);
void avx2_sparse_down_q8(const SparseDownArgs& a);
void avx2_sparse_down_q6(const SparseDownArgs& a);
void avx2_sparse_down_q4(const SparseDownArgs& a);

}  // namespace nestling
