// What every part of a conformer block is given: one layer, `rows` encoder frames, and where everything lies.
#pragma once

#include <initializer_list>

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "kernels/dense.h"
#include "kernels/kernels.h"
#include "model/audio/stream_state.h"
#include "model/audio/weights.h"
#include "model/audio/workspace.h"
#include "model/config.h"
#include "model/taps.h"

namespace nestling {

struct AudioStep {
  const AudioConfig& config;
  const Kernels& kernels;
  ThreadPool& pool;
  AudioWorkspace& workspace;
  Taps* taps = nullptr;             // null: nothing is tapped

  int64_t rows = 0;                 // encoder frames in workspace.x
  const uint8_t* valid = nullptr;   // [context_left - 1 + rows]: those of the past first; 0 also where there is none
  bool all_valid = true;            // of the rows
  // The rows that go on after attention: `first_kept`, then every `keep_every`-th.
  int64_t first_kept = 0, keep_every = 1;
  int64_t layer = 0;
  const ConformerWeights* weights = nullptr;
  const float* positions = nullptr;  // [context_left][D]
  LayerState state;

  // Calls body(t) for every row, split over the threads.
  template <typename Body>
  void for_rows(Body&& body) const {
    pool.for_ranges(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) body(t);
    });
  }
  // y [rows][w.rows] = x [rows][w.cols] w^T, for every product that reads the same x.
  struct Product {
    const WeightMatrix& w;
    float* y;
  };
  void multiply(const float* x, std::initializer_list<Product> products) const {
    const int64_t cols = products.begin()->w.cols;
    for (const Product& p : products) {
      if (&p == products.begin() || !workspace.input.serves(p.w.type))
        workspace.input.assign(kernels, pool, x, rows, cols, cols, p.w.type);
      dense(kernels, pool, workspace.input, p.w, p.y, p.w.rows);
    }
  }
  // Taps the residual stream as audio.conformer.N<suffix>.
  void tap(const char* suffix) const {
    if (taps != nullptr)
      taps->record(fmt::format("audio.conformer.{}{}", layer, suffix), {rows, config.hidden_size}, workspace.x);
  }
};

}  // namespace nestling
