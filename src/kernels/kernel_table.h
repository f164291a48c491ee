// What an instruction set provides: one table of functions per set, private to this folder. The drivers (matmul.cc,
// sparse_ffn.cc) split the work and walk tiles; everything here is single-threaded and computes whole groups of 16
// outputs. All sets give the same bits (the rules are in matmul.h and sparse_ffn.h), so only speed depends on the set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tensor/layout.h"

namespace nestling {

// The int8 form of up to `tile_rows` rows of X, interleaved so that kernels broadcast 4 codes at a time.
struct ActivationTile {
  const int32_t* codes = nullptr;        // [cols / 4][tokens], each 4 int8 codes of one token
  const int32_t* corrections = nullptr;  // [blocks][correction_words][tokens]
  const float* scales = nullptr;         // [blocks][tokens]
};

// Y tile [tokens, streams * 16] = X tile * W^T over `cols` inputs of `streams` row groups.
struct Il16Args {
  const std::byte* w = nullptr;  // the first row group, at the first input
  uint64_t w_stream = 0;         // bytes from one row group to the next
  int streams = 1;               // row groups computed together
  int tokens = 1;
  int64_t cols = 0;              // inputs; a multiple of 32 for quantised types
  ActivationTile tile;           // quantised types, at the first input
  const float* x = nullptr;      // f32 and bf16, at the first input
  int64_t x_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;   // floats from token to token
  int64_t y_stream = 0;   // floats from stream to stream
  bool accumulate = false;  // continue the sums that y holds, instead of starting at zero
};

struct Il16Kernel {
  void (*run)(const Il16Args&) = nullptr;
  // Few tokens are bound by reading weights: up to `far_tokens` the outputs of a thread are walked as `far_streams`
  // sub-ranges in lock-step, which is what the prefetchers of some cores want (limits measured per set).
  int far_tokens = 0;
  int far_streams = 1;
  // Otherwise this many adjacent row groups share one pass over the activations.
  int near_streams = 1;
  int64_t chunk_cols = 2048;  // inputs per pass when there are several tiles of tokens: weights of a pass stay in cache
};

// One row of X for kLaneRows: the codes of 16 blocks interleaved (quantised types), or floats padded with zeros.
struct LaneActivation {
  const int32_t* codes = nullptr;        // [cells][8][16]
  const int32_t* corrections = nullptr;  // [correction_words][cells * 16]
  const float* scales = nullptr;         // [cells * 16]
  const float* x = nullptr;              // [cols]
};

struct LaneDotArgs {
  const std::byte* rows[4] = {};
  int count = 0;  // rows used, 1 to 4
  int64_t cols = 0;
  LaneActivation x;
  float* out = nullptr;  // [count]
};

// The kept neurons of one row of X in a range of 32-neuron blocks, for kInputMajor.
struct SparseRow {
  const int32_t* neurons = nullptr;  // of the whole row, ascending
  const float* values = nullptr;     // f32 and bf16
  const int8_t* codes = nullptr;     // quantised types
  const int32_t* starts = nullptr;   // [blocks + 1], index of the first kept neuron of each block
  const float* scales = nullptr;     // [blocks]
};

// y[begin..end) (+)= sum over kept neurons of blocks [first_block, end_block).
struct SparseDownArgs {
  const std::byte* w = nullptr;
  int64_t rows = 0;  // stored outputs
  int64_t begin = 0, end = 0;  // outputs; begin a multiple of 64
  int64_t first_block = 0, end_block = 0;
  SparseRow x;
  float* y = nullptr;  // [rows]
};

// The codes of up to `rows` rows of X for dense(), interleaved so that kernels broadcast 4 int8 or 2 int16 at a time.
// x = scale * (code + zero); for i16 weights there are no sums and zeros.
struct DenseTile {
  int32_t* codes = nullptr;  // [words][rows], each 4 int8 or 2 int16 codes of one row
  int32_t* sums = nullptr;   // [rows], the sum of a row's codes
  int32_t* zeros = nullptr;  // [rows]
  float* scales = nullptr;   // [rows]
};

// Y tile [rows, groups * 16] = X tile * W^T, W being i8 or i16 in kIl16.
struct DenseArgs {
  const std::byte* w = nullptr;  // the first row group
  uint64_t w_stream = 0;         // bytes from one row group to the next
  int groups = 1;
  int rows = 1;
  int64_t words = 0;  // of a row of X
  const int32_t* sums = nullptr;           // [groups * 16], of DenseKernel::sums
  const int32_t* negative_sums = nullptr;  // [groups * 16]
  DenseTile x;
  float* y = nullptr;
  int64_t y_stride = 0;  // floats from row to row
};

struct DenseKernel {
  void (*run)(const DenseArgs&) = nullptr;
  int rows = 1;    // of a tile, at most kMaxDenseRows
  int groups = 1;  // row groups that share one pass over a tile
  // Where run() needs them: of each of the 16 rows of a group the sum of its codes, by which a row's zero is multiplied,
  // and (only AVX2 writes it) the sum of the magnitudes of the negative ones.
  void (*sums)(const std::byte* w, int64_t words, int32_t* sums, int32_t* negative_sums) = nullptr;
  // `rows` rows of X, `stride` floats apart, as a tile of dense_words(cols) words. Not for i16, which all sets code alike.
  void (*code)(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out) = nullptr;
};

inline constexpr int kMaxDenseRows = 16, kMaxDenseGroups = 4;
// A row of int8 codes is padded with zeros to a multiple of 8, one of int16 codes to a multiple of 4.
constexpr int64_t dense_words(int64_t cols) { return ceil_div(cols, 8) * 2; }
constexpr int64_t dense16_words(int64_t cols) { return ceil_div(cols, 4) * 2; }
// Code bytes of a row group; its scales follow.
constexpr int64_t dense_code_bytes(int64_t words) { return round_up(4 * words, kSuperblock) * kRowGroup; }

// How the sums of activation codes that remove the offset of unsigned weights are stored.
enum class Corrections : uint8_t {
  kSums,    // 1 word: -8 * sum of the block
  kPacked,  // 3 words of two int16, inputs k % 4 in {0, 1} and in {2, 3}: -8 * sum of the block; -32 * sum of its first
            // and of its second 16 inputs
};

struct AttentionKernel;  // attention_kernel.h

struct KernelTable {
  std::string_view name;
  bool (*supported)() = nullptr;
  int tile_rows = 1;  // at most kMaxTileRows
  Corrections corrections = Corrections::kSums;
  // x [cols] to natural order: codes and scales of ceil(cols / 32) blocks, corrections [blocks][words].
  void (*quantize)(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales) = nullptr;
  Il16Kernel il16[5];                                   // by WeightType, without i8 and i16
  void (*lane_dot[5])(const LaneDotArgs&) = {};         // by WeightType
  void (*sparse_down[5])(const SparseDownArgs&) = {};   // by WeightType
  DenseKernel dense;    // i8
  DenseKernel dense16;  // i16
  const AttentionKernel* attention = nullptr;
  // The set's best int8 multiply-add on registers alone, `rounds` times; returns the products it formed (ceilings.h).
  int64_t (*int8_products)(int64_t rounds) = nullptr;
  // The same for its widest float32 multiply-add.
  int64_t (*float_products)(int64_t rounds) = nullptr;
};

inline constexpr int kMaxTileRows = 8;
constexpr int correction_words(Corrections form) { return form == Corrections::kPacked ? 3 : 1; }
inline constexpr int kMaxCorrectionWords = 3;

inline const Il16Kernel& il16_kernel(const KernelTable& table, WeightType type) {
  return table.il16[static_cast<int>(type)];
}

extern const KernelTable kScalarKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvxVnniKernels;
extern const KernelTable kAvx512Kernels;
#elif defined(__aarch64__)
extern const KernelTable kNeonKernels;
extern const KernelTable kI8mmKernels;
#endif

}  // namespace nestling
