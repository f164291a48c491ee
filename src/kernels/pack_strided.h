// Packing kIl16 from values that lie anyhow; i8 and i16, whose rows have one scale each, are packed here only. Private
// to kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/weight.h"

namespace nestling {

// f32, i8, or i16 (with col_stride 1). Value (r, c) is values[r * row_stride + c * col_stride]; `out`: packed_bytes(type, kIl16, rows, cols).
void pack_strided(WeightType type, int64_t rows, int64_t cols, const float* values, int64_t row_stride,
                  int64_t col_stride, std::byte* out);

void unpack_row_coded(const WeightMatrix& w, int64_t row, float* out);

}  // namespace nestling
