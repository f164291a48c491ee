// The text model's weights as views into an open package: const for their whole life, shared by every size and session.
#pragma once

#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "storage/package.h"
#include "storage/ple_store.h"
#include "tensor/weight.h"

namespace nestling {

// One decoder layer. D model width, F ffn width of the file, H heads, G kv heads, K head dim, P per-layer width,
// R LAuReL rank, S AltUp streams.
struct LayerWeights {
  const float* input_layernorm = nullptr;             // [D]
  const float* post_attention_layernorm = nullptr;    // [D]
  const float* pre_feedforward_layernorm = nullptr;   // [D]
  const float* post_feedforward_layernorm = nullptr;  // [D]
  const float* post_per_layer_input_norm = nullptr;   // [D]

  WeightMatrix q_proj;                                 // [H*K, D]
  WeightMatrix k_proj, v_proj;                         // [G*K, D]; only layers that own K/V
  WeightMatrix o_proj;                                 // [D, H*K]
  const float* q_norm = nullptr;                       // [K]
  const float* k_norm = nullptr;                       // [K]; only layers that own K/V

  WeightMatrix gate_proj, up_proj;                     // [F, D]
  WeightMatrix down_proj;                              // [D, F]

  WeightMatrix laurel_left, laurel_right;              // [R, D], [D, R]
  const float* post_laurel_norm = nullptr;             // [D]

  std::vector<float> prediction_coefs;                 // [S*S, S]
  std::vector<float> correction_coefs;                 // [S, S]
  std::vector<float> modality_router;                  // [S, D]
  const float* router_norm = nullptr;                  // [D]
  const float* correct_output_scale = nullptr;         // [D]; null when altup_correct_scale is off

  WeightMatrix per_layer_input_gate;                   // [P, D]
  WeightMatrix per_layer_projection;                   // [D, P]
};

struct TextWeights {
  WeightMatrix embed_tokens;                           // [V', D]: embedding and tied head; V' <= V, the rest equal row 0
  WeightMatrix per_layer_model_projection;             // [L*P, D]
  const float* per_layer_projection_norm = nullptr;    // [P]
  std::vector<WeightMatrix> altup_projections;         // S-1 times [D, D]
  std::vector<WeightMatrix> altup_unembed_projections; // S-1 times [D, D]
  const float* norm = nullptr;                         // [D]
  std::vector<LayerWeights> layers;
  PleTable ple;                                        // where the per-layer embedding rows lie; not loaded

  // Binds every tensor by name and checks its shape against `config`.
  static Result<TextWeights> bind(const Package& package, const TextConfig& config);
};

}  // namespace nestling
