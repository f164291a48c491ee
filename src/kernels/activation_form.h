// Where the int8 forms of X lie in the memory of Activations. Private to kernels.
//   tiles: rows in tiles of `tile_rows`, the last one narrower, each as ActivationTile;
//   lanes: rows one by one as LaneActivation, made by sparse_up.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/matmul.h"
#include "tensor/layout.h"

namespace nestling {

class ActivationForm {
 public:
  ActivationForm(const KernelTable& table, const Activations& x)
      : table_(table), x_(x), words_(correction_words(table.corrections)), blocks_(block_count(x.cols())) {}

  static constexpr uint64_t tile_row_bytes(int64_t cols, int words) {
    return static_cast<uint64_t>(round_up(block_count(cols) * (kQuantBlock + 4 + 4 * words), kLineBytes));
  }
  static constexpr uint64_t lane_row_form_bytes(int64_t cols, int words) {
    return static_cast<uint64_t>(lane_cells(cols) * kLanes * (kQuantBlock + 4 + 4 * words));
  }

  struct WritableTile {
    int32_t* codes;
    int32_t* corrections;
    float* scales;
  };
  // The tile that begins at row `first` and has `tokens` rows.
  WritableTile writable_tile(int64_t first, int64_t tokens) const {
    std::byte* base = x_.memory().data() + first * tile_row_bytes(x_.cols(), words_);
    auto* codes = reinterpret_cast<int32_t*>(base);
    int32_t* corrections = codes + tokens * blocks_ * 8;
    return {codes, corrections, reinterpret_cast<float*>(corrections + tokens * blocks_ * words_)};
  }
  // The same for reading, from input `col` (a multiple of 32) on.
  ActivationTile tile(int64_t first, int64_t tokens, int64_t col) const {
    const WritableTile t = writable_tile(first, tokens);
    const int64_t block = col / kQuantBlock;
    return {t.codes + block * 8 * tokens, t.corrections + block * words_ * tokens, t.scales + block * tokens};
  }

  WritableTile writable_lanes(int64_t row) const {
    std::byte* base = x_.memory().data() + x_.rows() * tile_row_bytes(x_.cols(), words_) +
                      row * lane_row_form_bytes(x_.cols(), words_);
    auto* codes = reinterpret_cast<int32_t*>(base);
    int32_t* corrections = codes + lane_cells(x_.cols()) * kLanes * 8;
    return {codes, corrections, reinterpret_cast<float*>(corrections + lane_cells(x_.cols()) * kLanes * words_)};
  }
  LaneActivation lanes(int64_t row) const {
    const WritableTile t = writable_lanes(row);
    return {t.codes, t.corrections, t.scales, x_.row(row)};
  }

  // Fill the forms from the floats.
  void make_tile(int64_t first, int64_t tokens) const;
  void make_lanes(int64_t row) const;
  // Inputs [begin, end) of the only row, `begin` the start of a block.
  void make_single_row(int64_t begin, int64_t end) const;

  int64_t blocks() const { return blocks_; }

 private:
  const KernelTable& table_;
  const Activations& x_;
  int words_;
  int64_t blocks_;
};

}  // namespace nestling
