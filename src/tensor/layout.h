// The bytes of the packed layouts (tensor/weight.h), said once for packing, unpacking and every kernel. All offsets are
// in bytes from the start of the matrix; the lines of whole cells, and so all of kIl16, are 64-byte aligned.
//
// A *cell* is 16 lanes x one block of 32 inputs of a quantised type, as lines of 16 lanes x 4 bytes. Lane r of line j:
//   q4  4 lines  byte i: low nibble code of input 8j + i, high nibble of input 8j + 4 + i, as unsigned code + 8
//   q6  6 lines  two nibble lines as q4 (code + 32, low 4 bits), then a line with bits 4 and 5 of their 16 inputs: bits
//                2g and 2g + 1 of byte i belong to input 4g + i; and the same once more for inputs 16 to 31
//   q8  8 lines  byte i: signed code of input 4j + i
//
// kIl16: lane = output row of a group of 16. A superblock of 64 inputs is the 16 f16 scales of its first block, those
// of the second, the first cell, the second cell. f32 and bf16: [input][16 rows].
//
// i8 in kIl16: per group of 16 rows [inputs / 4][16 rows][4 inputs] signed codes, inputs padded with zeros to a multiple of
// 64, then the 16 f32 scales of the rows (64 bytes).
//
// kLaneRows: lane = block of one row: the row's f16 scales (padded to 64 bytes), then one cell for every 16 blocks; the
// last cell has as many lanes as blocks are left, rounded up to 4 (its lines are that much shorter).
//
// kInputMajor: for every 32 inputs f16 scales [width], then the codes of 32 inputs, each [width] outputs, width = rows
// rounded up to 64. Codes of 64 outputs: q4 32 bytes, byte i: low nibble output i, high nibble output 32 + i; q6 the
// same 32 bytes, then 16 bytes with bits 4 and 5, bits 2g and 2g + 1 of byte i belong to output 16g + i; q8 64 signed
// bytes.
#pragma once

#include <cstdint>

#include "base/checked.h"
#include "tensor/weight.h"

namespace nestling {

inline constexpr int64_t kLineBytes = 64;
inline constexpr int64_t kSuperblock = 64;        // inputs of an il16 superblock
inline constexpr int64_t kLanes = 16;             // lanes of a cell
inline constexpr int64_t kInputMajorWidth = 64;   // outputs of kInputMajor are padded to a multiple of this

constexpr int64_t block_count(int64_t cols) { return ceil_div(cols, kQuantBlock); }
// Code bytes of one block of 32 weights.
constexpr int64_t code_bytes(WeightType type) {
  return type == WeightType::kQ4 ? 16 : type == WeightType::kQ6 ? 24 : 32;
}
// Bytes of one code of i8 and i16.
constexpr int64_t row_code_bytes(WeightType type) { return type == WeightType::kI16 ? 2 : 1; }
constexpr int64_t float_bytes(WeightType type) { return type == WeightType::kF32 ? 4 : 2; }
// What is added to a code to store it unsigned.
constexpr int code_offset(WeightType type) { return type == WeightType::kQ4 ? 8 : type == WeightType::kQ6 ? 32 : 0; }
constexpr int64_t cell_bytes(WeightType type) { return kLanes * code_bytes(type); }

constexpr int64_t il16_superblock_bytes(WeightType type) { return kLineBytes + 2 * cell_bytes(type); }
constexpr uint64_t il16_group_bytes(WeightType type, int64_t cols) {
  if (is_quantized(type)) return static_cast<uint64_t>(ceil_div(cols, kSuperblock) * il16_superblock_bytes(type));
  if (is_row_coded(type))
    return static_cast<uint64_t>(round_up(cols * row_code_bytes(type), kSuperblock) * kRowGroup + kLineBytes);
  return static_cast<uint64_t>(round_up(cols * kRowGroup * float_bytes(type), kLineBytes));
}

constexpr int64_t row_groups(int64_t rows) { return ceil_div(rows, kRowGroup); }
// Inputs of tile `tile`; kIl16 is one tile of all inputs.
constexpr int64_t tile_count(Layout layout, int64_t cols) {
  return layout == Layout::kIl16Tiled ? ceil_div(cols, kTileInputs) : 1;
}
constexpr int64_t tile_cols(Layout layout, int64_t cols, int64_t tile) {
  if (layout != Layout::kIl16Tiled) return cols;
  const int64_t left = cols - tile * kTileInputs;
  return left < kTileInputs ? left : kTileInputs;
}
// Bytes of one 16-row group in a tile, and where group 0 of the tile lies.
inline uint64_t tile_group_bytes(const WeightMatrix& w, int64_t tile) {
  return il16_group_bytes(w.type, tile_cols(w.layout, w.stored_cols, tile));
}
inline uint64_t tile_offset(const WeightMatrix& w, int64_t tile) {
  return tile == 0 ? 0 : tile * row_groups(w.stored_rows) * il16_group_bytes(w.type, kTileInputs);
}

constexpr int64_t lane_scale_bytes(int64_t cols) { return round_up(2 * block_count(cols), kLineBytes); }
// Lanes of cell `cell` of a row in kLaneRows.
constexpr int64_t lane_cell_lanes(int64_t cols, int64_t cell) {
  const int64_t left = block_count(cols) - cell * kLanes;
  return left >= kLanes ? kLanes : round_up(left, 4);
}
constexpr int64_t lane_cells(int64_t cols) { return ceil_div(block_count(cols), kLanes); }
constexpr uint64_t lane_row_bytes(WeightType type, int64_t cols) {
  if (!is_quantized(type)) return static_cast<uint64_t>(round_up(cols * float_bytes(type), kLineBytes));
  const int64_t last = lane_cells(cols) - 1;
  const int64_t codes = last * cell_bytes(type) + lane_cell_lanes(cols, last) * code_bytes(type);
  return static_cast<uint64_t>(round_up(lane_scale_bytes(cols) + codes, kLineBytes));
}

constexpr int64_t input_major_width(int64_t rows) { return round_up(rows, kInputMajorWidth); }
// Bytes of the codes (or floats) of one input.
constexpr uint64_t input_major_row_bytes(WeightType type, int64_t rows) {
  if (!is_quantized(type)) return static_cast<uint64_t>(round_up(rows * float_bytes(type), kLineBytes));
  return static_cast<uint64_t>(input_major_width(rows) / kQuantBlock * code_bytes(type));
}
// Bytes of 32 inputs with their scales; quantised types only.
constexpr uint64_t input_major_block_bytes(WeightType type, int64_t rows) {
  return 2 * static_cast<uint64_t>(input_major_width(rows)) + kQuantBlock * input_major_row_bytes(type, rows);
}

}  // namespace nestling
