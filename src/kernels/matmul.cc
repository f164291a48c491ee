#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/activation_form.h"
#include "kernels/kernel_table.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

struct Range {
  int64_t begin, end;
};

// One thread's share of one product: a range of row groups for a range of tokens.
class ProductShare {
 public:
  ProductShare(const KernelTable& table, const Activations& x, const Product& product, Range tokens)
      : table_(table), kernel_(il16_kernel(table, product.w.type)), form_(table, x), x_(x), product_(product),
        w_(product.w), tokens_(tokens) {}

  void run(Range groups) {
    const int64_t tokens = tokens_.end - tokens_.begin;
    for (tile_ = 0; tile_ < tile_count(w_.layout, w_.cols); ++tile_) {
      const int64_t cols = tile_cols(w_.layout, w_.cols, tile_);
      // With one tile of tokens nothing is read twice, so the sums may stay in registers from end to end.
      const int64_t chunk = tokens <= table_.tile_rows ? cols : kernel_.chunk_cols;
      for (first_col_ = 0; first_col_ < cols; first_col_ += chunk) {
        cols_ = std::min(chunk, cols - first_col_);
        if (is_quantized(w_.type)) cols_ = round_up(cols_, kQuantBlock);
        walk(groups, tokens <= kernel_.far_tokens);
      }
    }
  }

 private:
  void walk(Range groups, bool far) const {
    const int64_t full_end = std::min(groups.end, w_.rows / kRowGroup);
    int64_t group = groups.begin;
    if (far && kernel_.far_streams > 1 && full_end - group >= kernel_.far_streams) {
      const int64_t stride = (full_end - group) / kernel_.far_streams;
      for (int64_t i = 0; i < stride; ++i) run_full(group + i, kernel_.far_streams, stride);
      group += stride * kernel_.far_streams;
    }
    for (; group < full_end; group += kernel_.near_streams)
      run_full(group, static_cast<int>(std::min<int64_t>(kernel_.near_streams, full_end - group)), 1);
    if (groups.end > full_end) run_partial();
  }

  // Groups group, group + stride, ...: `streams` of them.
  Il16Args args(int64_t group, int streams, int64_t stride, int64_t token, int64_t count) const {
    const uint64_t group_bytes = tile_group_bytes(w_, tile_);
    Il16Args a;
    a.w = w_.data + tile_offset(w_, tile_) + group * group_bytes + chunk_offset();
    a.w_stream = stride * group_bytes;
    a.streams = streams;
    a.tokens = static_cast<int>(count);
    a.cols = cols_;
    const int64_t col = tile_ * kTileInputs + first_col_;
    if (is_quantized(w_.type)) {
      a.tile = tile(token, col);
    } else {
      a.x = x_.row(token) + col;
      a.x_stride = x_.stride();
    }
    a.y = product_.y + token * product_.y_stride + group * kRowGroup;
    a.y_stride = product_.y_stride;
    a.y_stream = stride * kRowGroup;
    a.accumulate = col > 0;
    return a;
  }

  ActivationTile tile(int64_t token, int64_t col) const {
    return form_.tile(token, std::min<int64_t>(table_.tile_rows, x_.rows() - token), col);
  }

  uint64_t chunk_offset() const {
    if (is_quantized(w_.type)) return first_col_ / kSuperblock * il16_superblock_bytes(w_.type);
    return first_col_ * kRowGroup * float_bytes(w_.type);
  }

  template <typename Call>
  void for_token_tiles(Call&& call) const {
    for (int64_t token = tokens_.begin; token < tokens_.end; token += table_.tile_rows)
      call(token, std::min<int64_t>(table_.tile_rows, tokens_.end - token));
  }

  void run_full(int64_t group, int streams, int64_t stride) const {
    for_token_tiles([&](int64_t token, int64_t count) { kernel_.run(args(group, streams, stride, token, count)); });
  }

  // The last group of a matrix whose rows are no multiple of 16: only its own outputs may be written.
  void run_partial() const {
    const int64_t group = w_.rows / kRowGroup, rows = w_.rows % kRowGroup;
    for_token_tiles([&](int64_t token, int64_t count) {
      alignas(64) float y[kMaxTileRows * kRowGroup] = {};
      Il16Args a = args(group, 1, 1, token, count);
      float* out = a.y;
      if (a.accumulate)
        for (int64_t m = 0; m < count; ++m) std::memcpy(y + m * kRowGroup, out + m * a.y_stride, rows * sizeof(float));
      a.y = y;
      a.y_stride = kRowGroup;
      kernel_.run(a);
      for (int64_t m = 0; m < count; ++m)
        std::memcpy(out + m * product_.y_stride, y + m * kRowGroup, rows * sizeof(float));
    });
  }

  const KernelTable& table_;
  const Il16Kernel& kernel_;
  ActivationForm form_;
  const Activations& x_;
  const Product& product_;
  const WeightMatrix& w_;
  Range tokens_;
  int64_t tile_ = 0, first_col_ = 0, cols_ = 0;
};

void check(const Activations& x, const Product& product) {
  const WeightMatrix& w = product.w;
  NESTLING_CHECK(w.layout == Layout::kIl16 || w.layout == Layout::kIl16Tiled);
  NESTLING_CHECK(!is_row_coded(w.type));
  NESTLING_CHECK_LE(w.cols, x.cols());
  NESTLING_CHECK_LE(w.cols, w.stored_cols);
  NESTLING_CHECK_LE(w.rows, w.stored_rows);
  if (!is_quantized(w.type)) return;
  NESTLING_CHECK(x.quantized());
  // A slice ends on a block; only the whole width may end inside one (its other codes are zero).
  NESTLING_CHECK(w.cols % kQuantBlock == 0 || w.cols == w.stored_cols);
}

}  // namespace

void matmul_many(const Kernels& kernels, ThreadPool& pool, const Activations& x, std::span<const Product> products) {
  const KernelTable& table = kernels.table();
  int64_t groups = 0, work = 0;
  for (const Product& product : products) {
    check(x, product);
    groups += row_groups(product.w.rows);
    const WeightMatrix& w = product.w;
    work += x.rows() * static_cast<int64_t>(packed_bytes(w.type, w.layout, w.rows, w.cols));
  }
  if (groups == 0 || x.rows() == 0) return;
  // A unit is one row group for one part of the tokens. Tokens are divided only where there are too few groups.
  const int64_t token_tiles = ceil_div(x.rows(), table.tile_rows);
  const int64_t wanted = pool.size() == 1 ? 1 : ceil_div(4 * pool.size(), groups);
  const int64_t parts = std::clamp<int64_t>(wanted, 1, token_tiles);

  const auto run = [&](int64_t begin, int64_t end) {
    int64_t unit = begin;
    for (int64_t part = unit / groups; unit < end; ++part) {
      const Range tokens{token_tiles * part / parts * table.tile_rows,
                         std::min(x.rows(), token_tiles * (part + 1) / parts * table.tile_rows)};
      int64_t first = part * groups;
      for (const Product& product : products) {
        const int64_t count = row_groups(product.w.rows);
        const int64_t last = std::min(end, first + count);
        if (unit < last) {
          ProductShare(table, x, product, tokens).run({unit - first, last - first});
          unit = last;
        }
        first += count;
      }
    }
  };
  pool.for_shares(groups * parts, 1, run, work);
}

void matmul(const Kernels& kernels, ThreadPool& pool, const Activations& x, const WeightMatrix& w, float* y,
            int64_t y_stride) {
  const Product product{w, y, y_stride};
  matmul_many(kernels, pool, x, std::span(&product, 1));
}

}  // namespace nestling
