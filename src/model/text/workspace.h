// The memory of a forward pass, reserved once: a pass allocates nothing.
#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/matmul.h"
#include "model/config.h"

namespace nestling {

// Buffers for at most `max_rows` tokens. Letters as in weights.h; M = max_rows.
class Workspace {
 public:
  static uint64_t bytes_needed(const TextConfig& config, int64_t max_rows, int threads);
  Workspace(const TextConfig& config, int64_t max_rows, int threads);

  int64_t max_rows() const { return max_rows_; }
  uint64_t bytes() const { return memory_.size(); }
  // Row t of AltUp stream s.
  float* stream(int64_t s, int64_t t) const { return streams + (s * max_rows_ + t) * width_; }
  float* predicted_stream(int64_t s, int64_t t) const { return predicted + (s * max_rows_ + t) * width_; }

  float* streams = nullptr;           // [S, M, D]
  float* predicted = nullptr;         // [S, M, D]
  float* normed = nullptr;            // [M, D]    input of a weight product
  float* laurel = nullptr;            // [M, D]
  float* attn_laurel = nullptr;       // [M, D]
  float* branch = nullptr;            // [M, D]    output of o_proj, down_proj, per_layer_projection
  float* activated = nullptr;         // [M, D]
  float* q = nullptr;                 // [M, H*K]
  float* k = nullptr;                 // [M, G*K]
  float* v = nullptr;                 // [M, G*K]
  float* context = nullptr;           // [M, H*K]
  float* low_rank = nullptr;          // [M, R]
  float* gate = nullptr;              // [M, F]
  float* up = nullptr;                // [M, F]; sparse layers: the values of the kept neurons, compressed
  float* per_layer_inputs = nullptr;  // [M, L*P]
  float* per_layer_gate = nullptr;    // [M, P]
  float* ple_rows = nullptr;          // [threads, L*P] one unpacked PLE row per thread
  float* rope = nullptr;              // [2 types, 2 (cos, sin), M, K/2]
  int64_t* kept_offsets = nullptr;    // [M+1]
  int32_t* kept_neurons = nullptr;    // [M * most neurons a sparse layer can keep]
  std::byte* attention_scratch = nullptr;
  std::byte* sparse_scratch = nullptr;
  Activations activations;            // for inputs of at most max(D, H*K, F) values
  Activations other_activations;      // a second one, where two inputs are alive at once

 private:
  template <typename Take>
  void lay_out(const TextConfig& config, int threads, Take take);
  Workspace() = default;
  int64_t max_rows_ = 0, width_ = 0;
  AlignedBuffer memory_;
};

// The most neurons of F that can lie above mean + z std: F / (1 + z^2) for z > 0 (Cantelli's inequality; 27 % for the
// 0.95 of Gemma 3n), else all.
int64_t most_kept_neurons(int64_t ffn_width, float z);

}  // namespace nestling
