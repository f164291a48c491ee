// Weights in ggml's block formats, as llama.cpp reads them (ggml-common.h: block_q4_0, block_q8_0, block_q6_K).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace nestling {

// The ids of ggml.h.
enum class GgmlType : uint32_t { kF32 = 0, kQ4_0 = 2, kQ8_0 = 8, kQ6_K = 14, kBF16 = 30 };

std::string_view ggml_type_name(GgmlType type);  // "F32", "Q4_0", "Q8_0", "Q6_K", "BF16"

// Weights of a block, and its bytes: 1 weight for the floats.
int64_t ggml_block_size(GgmlType type);
int64_t ggml_block_bytes(GgmlType type);

// Codes `values`, a multiple of the block, into values.size() / block blocks at `out`.
// BF16, Q4_0 and Q8_0 are exact: false when the values of some block are not an f16 scale times whole numbers in -8..7
// (Q4_0) or -127..127 (Q8_0), or not bf16. Weights of the package's q4, q8 and q6 (as Q8_0) always are.
// Q6_K rounds as llama.cpp's quantiser does without an importance matrix, and refuses values that are not finite.
bool encode_ggml(GgmlType type, std::span<const float> values, std::byte* out);

}  // namespace nestling
