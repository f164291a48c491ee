#include "model/text/workspace.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/attention.h"
#include "kernels/ops.h"
#include "kernels/sparse_ffn.h"

namespace nestling {

int64_t most_kept_neurons(int64_t ffn_width, float z) {
  if (!(z > 0)) return ffn_width;
  return std::min<int64_t>(ffn_width, static_cast<int64_t>(static_cast<double>(ffn_width) / (1.0 + z * z)) + 1);
}

template <typename Take>
void Workspace::lay_out(const TextConfig& c, int threads, Take take) {
  const int64_t M = max_rows_, D = c.hidden_size, S = c.altup_num_inputs, P = c.hidden_size_per_layer_input;
  const int64_t Q = c.num_attention_heads * c.head_dim, KV = c.num_key_value_heads * c.head_dim;
  const int64_t F = *std::max_element(c.intermediate_size.begin(), c.intermediate_size.end());
  int64_t kept = 0;
  for (int64_t l = 0; l < c.num_hidden_layers; ++l)
    if (c.activation_sparsity[l] > 0)
      kept = std::max(kept, most_kept_neurons(c.intermediate_size[l], normal_quantile(c.activation_sparsity[l])));
  const auto floats = [&](float*& p, int64_t n) { p = reinterpret_cast<float*>(take(n * 4)); };
  floats(streams, S * M * D);
  floats(predicted, S * M * D);
  for (float** p : {&normed, &laurel, &attn_laurel, &branch, &activated}) floats(*p, M * D);
  floats(q, M * Q);
  floats(context, M * Q);
  floats(k, M * KV);
  floats(v, M * KV);
  floats(low_rank, M * c.laurel_rank);
  floats(gate, M * F);
  floats(up, M * F);
  floats(per_layer_inputs, M * c.num_hidden_layers * P);
  floats(per_layer_gate, M * P);
  floats(ple_rows, threads * c.num_hidden_layers * P);
  floats(rope, 2 * M * c.head_dim);
  kept_offsets = reinterpret_cast<int64_t*>(take((M + 1) * 8));
  kept_neurons = reinterpret_cast<int32_t*>(take(M * kept * 4));
  attention_scratch = take(static_cast<int64_t>(
      attention_scratch_bytes(c.num_attention_heads, c.num_key_value_heads, c.head_dim, threads)));
  sparse_scratch = take(static_cast<int64_t>(kept > 0 ? sparse_down_scratch_bytes(M, D, F, threads) : 0));
  const int64_t widest = std::max({D, Q, F, P, c.laurel_rank});
  for (Activations* a : {&activations, &other_activations}) {
    const int64_t inputs = a == &activations ? widest : std::max(D, c.laurel_rank);
    const auto bytes = static_cast<size_t>(Activations::bytes_needed(M, inputs));
    std::byte* memory = take(static_cast<int64_t>(bytes));
    if (memory != nullptr) *a = Activations({memory, bytes}, M, inputs);
  }
}

uint64_t Workspace::bytes_needed(const TextConfig& config, int64_t max_rows, int threads) {
  Workspace w;
  w.max_rows_ = max_rows;
  int64_t total = 0;
  w.lay_out(config, threads, [&](int64_t bytes) -> std::byte* {
    total += round_up(bytes, 64);
    return nullptr;
  });
  return static_cast<uint64_t>(total);
}

Workspace::Workspace(const TextConfig& config, int64_t max_rows, int threads)
    : max_rows_(max_rows), width_(config.hidden_size), memory_(bytes_needed(config, max_rows, threads)) {
  std::byte* next = memory_.data();
  lay_out(config, threads, [&](int64_t bytes) {
    std::byte* p = next;
    next += round_up(bytes, 64);
    return p;
  });
}

}  // namespace nestling
