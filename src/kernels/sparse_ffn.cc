#include "kernels/sparse_ffn.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/activation_form.h"
#include "kernels/kernel_table.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

constexpr int64_t kCacheBytes = 256 * 1024;  // weights of a group of neurons that all rows share stay in the L2 cache

// ---- up

// Into the L2 cache: the L1 cache allows fewer lines under way, which costs a third (measured on Zen 4).
void prefetch(const std::byte* bytes, uint64_t count) {
  for (uint64_t at = 0; at < count; at += kLineBytes) __builtin_prefetch(bytes + at, /*write=*/0, /*locality=*/2);
}

class UpProduct {
 public:
  UpProduct(const KernelTable& table, const ActivationForm& form, const WeightMatrix& up, const SparseSelection& kept,
            float* values)
      : dot_(table.lane_dot[static_cast<int>(up.type)]), form_(form), up_(up), kept_(kept), values_(values),
        row_bytes_(lane_row_bytes(up.type, up.stored_cols)) {}

  // Entries [begin, end) of row `row`.
  void run(int64_t row, int64_t begin, int64_t end) const {
    LaneDotArgs a;
    a.cols = up_.stored_cols;
    a.x = form_.lanes(row);
    for (int64_t i = begin; i < end; i += a.count) {
      a.count = static_cast<int>(std::min<int64_t>(std::size(a.rows), end - i));
      for (int r = 0; r < a.count; ++r) a.rows[r] = weights(i + r);
      for (int64_t next = i + a.count; next < std::min<int64_t>(i + 2 * a.count, end); ++next)
        prefetch(weights(next), row_bytes_);
      a.out = values_ + i;
      dot_(a);
    }
  }

  // One row after another: every weight row is read for one row of X only.
  void run_entries(int64_t begin, int64_t end) const {
    for (int64_t row = 0; row < kept_.rows; ++row)
      run(row, std::max(begin, kept_.offsets[row]), std::min(end, kept_.offsets[row + 1]));
  }

  // Neurons [begin, end) in groups that fit the cache, each for all rows of X.
  void run_neurons(int64_t begin, int64_t end) const {
    constexpr int64_t kRowsAtOnce = 256;
    const int64_t group = std::max<int64_t>(16, kCacheBytes / row_bytes_);
    int64_t cursors[kRowsAtOnce];
    for (int64_t first = 0; first < kept_.rows; first += kRowsAtOnce) {
      const int64_t rows = std::min(kRowsAtOnce, kept_.rows - first);
      for (int64_t r = 0; r < rows; ++r) cursors[r] = lower_bound(first + r, begin);
      for (int64_t neuron = begin; neuron < end; neuron += group) {
        const int64_t group_end = std::min(neuron + group, end);
        for (int64_t r = 0; r < rows; ++r) {
          int64_t last = cursors[r];
          while (last < kept_.offsets[first + r + 1] && kept_.neurons[last] < group_end) ++last;
          run(first + r, cursors[r], last);
          cursors[r] = last;
        }
      }
    }
  }

 private:
  const std::byte* weights(int64_t entry) const { return up_.data + kept_.neurons[entry] * row_bytes_; }
  int64_t lower_bound(int64_t row, int64_t neuron) const {
    const int32_t* begin = kept_.neurons + kept_.offsets[row];
    const int32_t* end = kept_.neurons + kept_.offsets[row + 1];
    return std::lower_bound(begin, end, neuron) - kept_.neurons;
  }

  void (*dot_)(const LaneDotArgs&);
  const ActivationForm& form_;
  const WeightMatrix& up_;
  const SparseSelection& kept_;
  float* values_;
  uint64_t row_bytes_;
};

// ---- down

// The kept values of all rows, cut into blocks of 32 neurons and coded.
class DownInput {
 public:
  DownInput(const SparseSelection& kept, const float* values, int64_t ffn_width, std::byte* scratch)
      : kept_(kept), values_(values), blocks_(block_count(ffn_width)) {
    starts_ = reinterpret_cast<int32_t*>(scratch);
    scales_ = reinterpret_cast<float*>(starts_ + kept.rows * (blocks_ + 1));
    codes_ = reinterpret_cast<int8_t*>(scales_ + kept.rows * blocks_);
  }

  static uint64_t bytes(int64_t rows, int64_t ffn_width) {
    const uint64_t blocks = block_count(ffn_width);
    return static_cast<uint64_t>(round_up(rows * (4 * (blocks + 1) + 4 * blocks + ffn_width), kLineBytes));
  }

  void find_blocks(int64_t row) const {
    const SparseRow r = row_input(row);
    int32_t* starts = starts_ + row * (blocks_ + 1);
    const auto count = static_cast<int32_t>(kept_.offsets[row + 1] - kept_.offsets[row]);
    int32_t i = 0;
    for (int64_t block = 0; block < blocks_; ++block) {
      starts[block] = i;
      while (i < count && r.neurons[i] < (block + 1) * kQuantBlock) ++i;
    }
    starts[blocks_] = i;
    NESTLING_CHECK_EQ(i, count);
  }

  // The rule of matmul.h; absent neurons are zero and change neither the scale nor a code.
  void encode(int64_t row) const {
    constexpr float kSmallestPeak = 1e-30f;
    const SparseRow r = row_input(row);
    for (int64_t block = 0; block < blocks_; ++block) {
      float peak = 0;
      for (int32_t i = r.starts[block]; i < r.starts[block + 1]; ++i) peak = std::max(peak, std::fabs(r.values[i]));
      const bool zero = peak < kSmallestPeak;
      const float inverse = zero ? 0.0f : 127.0f / peak;
      scales_[row * blocks_ + block] = zero ? 0.0f : peak / 127.0f;
      int8_t* codes = codes_ + (kept_.offsets[row] - kept_.offsets[0]);
      for (int32_t i = r.starts[block]; i < r.starts[block + 1]; ++i)
        codes[i] = static_cast<int8_t>(std::lrintf(r.values[i] * inverse));
    }
  }

  SparseRow row_input(int64_t row) const {
    const int64_t first = kept_.offsets[row];
    return {kept_.neurons + first, values_ + first, codes_ + (first - kept_.offsets[0]),
            starts_ + row * (blocks_ + 1), scales_ + row * blocks_};
  }
  int64_t blocks() const { return blocks_; }

 private:
  const SparseSelection& kept_;
  const float* values_;
  int64_t blocks_;
  int32_t* starts_;
  float* scales_;
  int8_t* codes_;
};

// Blocks of neurons whose weights for `outputs` outputs stay in the cache while all rows of X use them.
int64_t blocks_per_group(const WeightMatrix& down, int64_t outputs) {
  const uint64_t bytes = kQuantBlock * input_major_row_bytes(down.type, down.stored_rows) * outputs / down.stored_rows;
  return std::max<int64_t>(1, kCacheBytes / static_cast<int64_t>(bytes + 1));
}

}  // namespace

void sparse_up(const Kernels& kernels, ThreadPool& pool, const Activations& x, const WeightMatrix& up,
               const SparseSelection& kept, float* values) {
  NESTLING_CHECK(up.layout == Layout::kLaneRows);
  NESTLING_CHECK_EQ(up.cols, up.stored_cols);
  NESTLING_CHECK_EQ(up.cols, x.cols());
  NESTLING_CHECK_LE(kept.rows, x.rows());
  if (kept.rows == 0) return;
  const ActivationForm form(kernels.table(), x);
  if (is_quantized(up.type)) {
    const auto make = [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) form.make_lanes(row);
    };
    if (kept.rows == 1)
      make(0, 1);
    else
      pool.for_ranges(kept.rows, 1, make);
  }
  const UpProduct product(kernels.table(), form, up, kept, values);
  constexpr int64_t kFewRows = 4;
  const int64_t work = (kept.offsets[kept.rows] - kept.offsets[0]) * up.cols;
  if (kept.rows < kFewRows) {
    const int64_t first = kept.offsets[0];
    pool.for_ranges(kept.offsets[kept.rows] - first, 4,
                    [&](int64_t begin, int64_t end) { product.run_entries(first + begin, first + end); }, work);
  } else {
    pool.for_ranges(up.rows, 16, [&](int64_t begin, int64_t end) { product.run_neurons(begin, end); }, work);
  }
}

uint64_t sparse_down_scratch_bytes(int64_t max_rows, int64_t /*model_width*/, int64_t ffn_width, int /*threads*/) {
  return DownInput::bytes(max_rows, ffn_width);
}

void sparse_down(const Kernels& kernels, ThreadPool& pool, const SparseSelection& kept, const float* values,
                 const WeightMatrix& down, float* y, int64_t y_stride, std::byte* scratch) {
  NESTLING_CHECK(down.layout == Layout::kInputMajor);
  NESTLING_CHECK_LE(down.rows, down.stored_rows);
  if (kept.rows == 0) return;
  const DownInput input(kept, values, down.cols, scratch);
  const auto prepare = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      input.find_blocks(row);
      if (is_quantized(down.type)) input.encode(row);
    }
  };
  if (kept.rows == 1)
    prepare(0, 1);
  else
    pool.for_ranges(kept.rows, 1, prepare);

  const auto run = kernels.table().sparse_down[static_cast<int>(down.type)];
  const auto add_outputs = [&](int64_t begin, int64_t end) {
    SparseDownArgs a;
    a.w = down.data;
    a.rows = down.stored_rows;
    a.begin = begin;
    a.end = end;
    // Several rows share weights, so that they go in groups that fit the cache; one row reads every weight once.
    const int64_t group = kept.rows == 1 ? input.blocks() : blocks_per_group(down, end - begin);
    for (int64_t block = 0; block < input.blocks(); block += group) {
      a.first_block = block;
      a.end_block = std::min(block + group, input.blocks());
      for (int64_t row = 0; row < kept.rows; ++row) {
        a.x = input.row_input(row);
        a.y = y + row * y_stride;
        if (block == 0) std::fill(a.y + begin, a.y + end, 0.0f);
        run(a);
      }
    }
  };
  pool.for_ranges(down.rows, kInputMajorWidth, add_outputs, (kept.offsets[kept.rows] - kept.offsets[0]) * down.rows);
}

}  // namespace nestling
