// The AVX-512 VNNI functions. All carry the target attribute: nothing wide may leak into functions other sets share.
#pragma once

#include "kernels/attention_kernel.h"
#include "kernels/kernel_table.h"

namespace nestling {

void avx512_il16_f32(const Il16Args& a);
void avx512_il16_bf16(const Il16Args& a);
void avx512_il16_q8(const Il16Args& a);
void avx512_il16_q6(const Il16Args& a);
void avx512_il16_q4(const Il16Args& a);

void avx512_dense(const DenseArgs& a);
void avx512_dense16(const DenseArgs& a);
void avx512_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t* negative_sums);

void avx512_lane_dot_q8(const LaneDotArgs& a);
void avx512_lane_dot_q6(const LaneDotArgs& a);
void avx512_lane_dot_q4(const LaneDotArgs& a);

extern const AttentionKernel kAvx512Attention;

}  // namespace nestling
