#include "kernels/pack.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/block_codes.h"
#include "kernels/pack_strided.h"
#include "tensor/float_types.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

// Where one block of a quantised matrix lies: kIl16, kIl16Tiled and kLaneRows interleave lanes in the same cells.
struct CellPlace {
  uint64_t scale;
  uint64_t cell;
  int64_t lane;
  int64_t line_bytes;
};

CellPlace il16_place(const WeightMatrix& w, int64_t row, int64_t block) {
  const int64_t blocks_per_tile = kTileInputs / kQuantBlock;
  const int64_t tile = w.layout == Layout::kIl16Tiled ? block / blocks_per_tile : 0;
  const int64_t local = block - tile * blocks_per_tile;
  const uint64_t superblock = tile_offset(w, tile) + row / kRowGroup * tile_group_bytes(w, tile) +
                              local / 2 * il16_superblock_bytes(w.type);
  const int64_t half = local % 2, lane = row % kRowGroup;
  return {superblock + 32 * half + 2 * lane, superblock + kLineBytes + half * cell_bytes(w.type), lane, kLineBytes};
}

CellPlace lane_place(const WeightMatrix& w, int64_t row, int64_t block) {
  const uint64_t base = row * lane_row_bytes(w.type, w.stored_cols);
  const int64_t cell = block / kLanes;
  return {base + 2 * block, base + lane_scale_bytes(w.stored_cols) + cell * cell_bytes(w.type), block % kLanes,
          4 * lane_cell_lanes(w.stored_cols, cell)};
}

CellPlace cell_place(const WeightMatrix& w, int64_t row, int64_t block) {
  return w.layout == Layout::kLaneRows ? lane_place(w, row, block) : il16_place(w, row, block);
}

// Byte of a float weight in any layout.
uint64_t float_place(const WeightMatrix& w, int64_t row, int64_t col) {
  const int64_t size = float_bytes(w.type);
  switch (w.layout) {
    case Layout::kRows: return row * rows_stride_bytes(w.type, w.stored_cols) + col * size;
    case Layout::kLaneRows: return row * lane_row_bytes(w.type, w.stored_cols) + col * size;
    case Layout::kInputMajor: return col * input_major_row_bytes(w.type, w.stored_rows) + row * size;
    case Layout::kIl16:
    case Layout::kIl16Tiled: break;
  }
  const int64_t tile = w.layout == Layout::kIl16Tiled ? col / kTileInputs : 0;
  return tile_offset(w, tile) + row / kRowGroup * tile_group_bytes(w, tile) +
         ((col - tile * kTileInputs) * kRowGroup + row % kRowGroup) * size;
}

void store_block(const WeightMatrix& w, std::byte* out, int64_t row, int64_t block, const BlockCodes& codes) {
  if (w.layout == Layout::kRows) {
    std::byte* base = out + row * rows_stride_bytes(w.type, w.stored_cols);
    std::memcpy(base + 2 * block, &codes.scale, 2);
    store_row_codes(w.type, base + 2 * block_count(w.stored_cols) + block * code_bytes(w.type), codes.codes);
  } else if (w.layout == Layout::kInputMajor) {
    std::byte* base = out + block * input_major_block_bytes(w.type, w.stored_rows);
    std::memcpy(base + 2 * row, &codes.scale, 2);
    std::byte* input = base + 2 * input_major_width(w.stored_rows);
    for (int64_t i = 0; i < kQuantBlock; ++i, input += input_major_row_bytes(w.type, w.stored_rows))
      store_input_major_code(w.type, input, row, codes.codes[i]);
  } else {
    const CellPlace place = cell_place(w, row, block);
    std::memcpy(out + place.scale, &codes.scale, 2);
    store_cell_codes(w.type, out + place.cell, place.lane, place.line_bytes, codes.codes);
  }
}

// Not for kInputMajor.
BlockCodes load_block(const WeightMatrix& w, int64_t row, int64_t block) {
  BlockCodes out;
  if (w.layout == Layout::kRows) {
    const std::byte* base = w.data + row * rows_stride_bytes(w.type, w.stored_cols);
    std::memcpy(&out.scale, base + 2 * block, 2);
    load_row_codes(w.type, base + 2 * block_count(w.stored_cols) + block * code_bytes(w.type), out.codes);
  } else {
    const CellPlace place = cell_place(w, row, block);
    std::memcpy(&out.scale, w.data + place.scale, 2);
    load_cell_codes(w.type, w.data + place.cell, place.lane, place.line_bytes, out.codes);
  }
  return out;
}

// Rows and blocks the layout stores beyond the matrix itself, as zero codes.
void pack_quantized(const WeightMatrix& w, const float* values, std::byte* out) {
  const bool interleaved = w.layout == Layout::kIl16 || w.layout == Layout::kIl16Tiled;
  const int64_t padded_rows = interleaved                         ? round_up(w.rows, kRowGroup)
                              : w.layout == Layout::kInputMajor ? input_major_width(w.rows)
                                                                : w.rows;
  const int64_t blocks = block_count(w.cols);
  int64_t padded_blocks = blocks;
  if (interleaved) padded_blocks = round_up(blocks, 2);
  if (w.layout == Layout::kLaneRows)
    padded_blocks = (lane_cells(w.cols) - 1) * kLanes + lane_cell_lanes(w.cols, lane_cells(w.cols) - 1);
  for (int64_t row = 0; row < padded_rows; ++row)
    for (int64_t block = 0; block < padded_blocks; ++block) {
      const bool inside = row < w.rows && block < blocks;
      const int64_t first = block * kQuantBlock;
      store_block(w, out, row, block,
                  inside ? encode_block(w.type, values + row * w.cols + first, std::min(kQuantBlock, w.cols - first))
                         : BlockCodes{});
    }
}

// Calls body(first column, columns, byte of the first, bytes from one to the next) for the parts of a row of floats in
// which the columns lie evenly.
template <typename Body>
void for_float_spans(const WeightMatrix& w, int64_t row, Body&& body) {
  const int64_t span = w.layout == Layout::kIl16Tiled ? kTileInputs : w.cols;
  for (int64_t col = 0; col < w.cols; col += span) {
    const uint64_t first = float_place(w, row, col);
    body(col, std::min(span, w.cols - col), first, float_place(w, row, col + 1) - first);
  }
}

void pack_floats(const WeightMatrix& w, const float* values, std::byte* out) {
  for (int64_t row = 0; row < w.rows; ++row)
    for_float_spans(w, row, [&](int64_t col, int64_t count, uint64_t at, uint64_t step) {
      const float* in = values + row * w.cols + col;
      for (int64_t i = 0; i < count; ++i, at += step)
        if (w.type == WeightType::kF32) {
          std::memcpy(out + at, in + i, 4);
        } else {
          const uint16_t bits = f32_to_bf16(in[i]);
          std::memcpy(out + at, &bits, 2);
        }
    });
}

void unpack_float_row(const WeightMatrix& w, int64_t row, float* out) {
  for_float_spans(w, row, [&](int64_t col, int64_t count, uint64_t at, uint64_t step) {
    const std::byte* in = w.data + at;
    if (w.type == WeightType::kF32 && step == 4) {
      std::memcpy(out + col, in, count * sizeof(float));
    } else if (w.type == WeightType::kF32) {
      for (int64_t i = 0; i < count; ++i) std::memcpy(out + col + i, in + i * step, 4);
    } else if (step == 2) {
      const auto* bits = reinterpret_cast<const uint16_t*>(in);
      for (int64_t i = 0; i < count; ++i) out[col + i] = bf16_to_f32(bits[i]);
    } else {
      for (int64_t i = 0; i < count; ++i) out[col + i] = bf16_to_f32(*reinterpret_cast<const uint16_t*>(in + i * step));
    }
  });
}

void unpack_any_row(const WeightMatrix& w, int64_t row, float* out) {
  NESTLING_CHECK_LT(row, w.rows);
  if (is_row_coded(w.type)) {
    unpack_row_coded(w, row, out);
    return;
  }
  if (!is_quantized(w.type)) {
    unpack_float_row(w, row, out);
    return;
  }
  for (int64_t first = 0; first < w.cols; first += kQuantBlock) {
    const BlockCodes block = load_block(w, row, first / kQuantBlock);
    const float scale = f16_to_f32(block.scale);
    const int64_t count = std::min(kQuantBlock, w.cols - first);
    for (int64_t i = 0; i < count; ++i) out[first + i] = scale * static_cast<float>(block.codes[i]);
  }
}

void unpack_input_major(const WeightMatrix& w, float* out) {
  const uint64_t row_bytes = input_major_row_bytes(w.type, w.stored_rows);
  for (int64_t col = 0; col < w.cols; ++col) {
    const std::byte* scales = w.data + col / kQuantBlock * input_major_block_bytes(w.type, w.stored_rows);
    const std::byte* codes = scales + 2 * input_major_width(w.stored_rows) + col % kQuantBlock * row_bytes;
    for (int64_t first = 0; first < w.rows; first += kInputMajorWidth) {
      int8_t block[kInputMajorWidth];
      load_input_major_codes(w.type, codes, first, block);
      for (int64_t row = first; row < std::min(first + kInputMajorWidth, w.rows); ++row) {
        uint16_t scale;
        std::memcpy(&scale, scales + 2 * row, 2);
        out[row * w.cols + col] = f16_to_f32(scale) * static_cast<float>(block[row - first]);
      }
    }
  }
}

}  // namespace

void pack_matrix(WeightType type, Layout layout, int64_t rows, int64_t cols, const float* values, std::byte* out) {
  if (is_row_coded(type)) {
    NESTLING_CHECK(layout == Layout::kIl16);
    return pack_strided(type, rows, cols, values, cols, 1, out);
  }
  const uint64_t bytes = packed_bytes(type, layout, rows, cols);
  std::memset(out, 0, bytes);
  const WeightMatrix w{type, layout, rows, cols, rows, cols, out, bytes};
  if (is_quantized(type))
    pack_quantized(w, values, out);
  else
    pack_floats(w, values, out);
}

void unpack_row(const WeightMatrix& w, int64_t row, float* out) {
  NESTLING_CHECK(w.layout != Layout::kInputMajor);
  unpack_any_row(w, row, out);
}

void unpack_stored_row(WeightType type, int64_t cols, const std::byte* row_bytes, float* out) {
  unpack_any_row({type, Layout::kRows, 1, cols, 1, cols, row_bytes, rows_stride_bytes(type, cols)}, 0, out);
}

void unpack_matrix(const WeightMatrix& w, float* out) {
  if (is_quantized(w.type) && w.layout == Layout::kInputMajor) return unpack_input_major(w, out);
  for (int64_t row = 0; row < w.rows; ++row) unpack_any_row(w, row, out + row * w.cols);
}

}  // namespace nestling
