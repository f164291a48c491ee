// Packing kIl16 from values that lie anyhow; i8, whose rows have one scale each, is packed here only. Private to
// kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/weight.h"

namespace nestling {

// f32 or i8. Value (r, c) is values[r * row_stride + c * col_stride]; `out`: packed_bytes(type, kIl16, rows, cols).
void pack_strided(WeightType type, int64_t rows, int64_t cols, const float* values, int64_t row_stride,
                  int64_t col_stride, std::byte* out);

void unpack_i8_row(const WeightMatrix& w, int64_t row, float* out);

}  // namespace nestling
