// What every step of a decoder layer is given: one layer, `rows` tokens, and where everything lies.
#pragma once

#include <initializer_list>

#include "base/thread_pool.h"
#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/taps.h"
#include "model/text/weights.h"
#include "model/text/workspace.h"

namespace nestling {

struct Step {
  const TextConfig& config;
  const Kernels& kernels;
  ThreadPool& pool;
  Workspace& workspace;
  Taps* taps = nullptr;           // null: nothing is tapped

  int64_t rows = 0;               // T: tokens this layer runs for
  int64_t first_position = 0;     // of row 0
  int64_t layer = 0;              // number in the file: per-layer inputs, attention type
  int64_t tap_layer = 0;          // number within the size in use: names of taps
  const LayerWeights* weights = nullptr;
  KvLayer* kv = nullptr;          // of the layer whose K/V this one reads; its own when owns_kv
  bool owns_kv = false;
  int64_t ffn_width = 0;          // F in use
  float sparsity_z = 0;           // > 0: gates below mean + z std are zero

  bool full_attention() const { return config.full_attention[layer]; }
  // Calls body(t) for every row, split over the threads. A step of a row costs some tens of operations per value of the
  // hidden state (norms, gates, mixes of four streams): from two rows of 2,048 on all threads share it.
  template <typename Body>
  void for_rows(Body&& body) const {
    constexpr int64_t kWorkPerValue = 16;
    const auto some_rows = [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) body(t);
    };
    pool.for_ranges(rows, 1, some_rows, rows * config.hidden_size * kWorkPerValue);
  }
  // Taps rows [rows, width] (or `shape` with the same number of elements) as layers.N.<name>.
  void tap(const char* name, std::initializer_list<int64_t> shape, const float* data, int64_t row_stride) const {
    if (taps != nullptr) taps->record(fmt::format("layers.{}.{}", tap_layer, name), shape, data, row_stride);
  }
  void tap_streams(const char* name, const float* data) const {
    tap(name, {config.altup_num_inputs, rows, config.hidden_size}, data, workspace.max_rows() * config.hidden_size);
  }
};

}  // namespace nestling
