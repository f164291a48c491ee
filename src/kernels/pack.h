// Packing weights into the layouts of tensor/weight.h at import, and reading single rows back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/weight.h"

namespace nestling {

// Packs values [rows, cols] (row-major float32) into packed_bytes(type, layout, rows, cols) bytes at `out`.
// kRows and kIl16 may be packed in pieces: consecutive pieces of a multiple of 16 rows, concatenated, equal the whole.
// q4 uses the least-squares scale of each block (search over scales, error minimised), q6 and q8 the scale of the
// largest magnitude (q6: least squares as well); i8, in kIl16 only, max|w| / 127 of each row, codes rounded half to
// even.
void pack_matrix(WeightType type, Layout layout, int64_t rows, int64_t cols, const float* values, std::byte* out);

// Row `row` as float32 [w.cols], from any layout but kInputMajor (embedding rows, PLE rows, tests).
void unpack_row(const WeightMatrix& w, int64_t row, float* out);
// The PLE store reads rows as bytes: one row of Layout::kRows, `row_bytes` = rows_stride_bytes(type, cols).
void unpack_stored_row(WeightType type, int64_t cols, const std::byte* row_bytes, float* out);
// The whole matrix [w.rows, w.cols] as float32 (tests, export).
void unpack_matrix(const WeightMatrix& w, float* out);

}  // namespace nestling
