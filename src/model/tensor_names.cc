#include "model/tensor_names.h"

#include <array>

#include "base/check.h"

namespace nestling {
namespace {

enum class Dim { kNone, kD, kV, kVp, kLP, kP, kQ, kKv, kK, kF, kRank, kS, kSS };

template <typename Id>
struct Row {
  Id id;
  std::string_view checkpoint;  // {} stands for the index
  std::string_view package;
  Dim rows;  // kNone: a vector
  Dim cols;
};

using G = GlobalTensor;
constexpr std::array<Row<G>, 7> kGlobals = {{
    {G::kTokenEmbedding, "embed_tokens.weight", "token_embd.weight", Dim::kV, Dim::kD},
    {G::kPerLayerTokenEmbedding, "embed_tokens_per_layer.weight", "per_layer_token_embd.weight", Dim::kVp, Dim::kLP},
    {G::kPerLayerModelProjection, "per_layer_model_projection.weight", "per_layer_model_proj.weight", Dim::kLP,
     Dim::kD},
    {G::kPerLayerProjectionNorm, "per_layer_projection_norm.weight", "per_layer_proj_norm.weight", Dim::kNone, Dim::kP},
    {G::kAltupProjection, "altup_projections.{}.weight", "altup_proj.{}.weight", Dim::kD, Dim::kD},
    {G::kAltupUnembedProjection, "altup_unembed_projections.{}.weight", "altup_unembd_proj.{}.weight", Dim::kD,
     Dim::kD},
    {G::kNorm, "norm.weight", "output_norm.weight", Dim::kNone, Dim::kD},
}};

using T = LayerTensor;
constexpr std::array<Row<T>, 24> kLayer = {{
    {T::kInputLayernorm, "input_layernorm.weight", "attn_norm.weight", Dim::kNone, Dim::kD},
    {T::kPostAttentionLayernorm, "post_attention_layernorm.weight", "post_attention_norm.weight", Dim::kNone, Dim::kD},
    {T::kPreFeedforwardLayernorm, "pre_feedforward_layernorm.weight", "ffn_norm.weight", Dim::kNone, Dim::kD},
    {T::kPostFeedforwardLayernorm, "post_feedforward_layernorm.weight", "post_ffw_norm.weight", Dim::kNone, Dim::kD},
    {T::kPostPerLayerInputNorm, "post_per_layer_input_norm.weight", "post_norm.weight", Dim::kNone, Dim::kD},
    {T::kQProj, "self_attn.q_proj.weight", "attn_q.weight", Dim::kQ, Dim::kD},
    {T::kKProj, "self_attn.k_proj.weight", "attn_k.weight", Dim::kKv, Dim::kD},
    {T::kVProj, "self_attn.v_proj.weight", "attn_v.weight", Dim::kKv, Dim::kD},
    {T::kOProj, "self_attn.o_proj.weight", "attn_output.weight", Dim::kD, Dim::kQ},
    {T::kQNorm, "self_attn.q_norm.weight", "attn_q_norm.weight", Dim::kNone, Dim::kK},
    {T::kKNorm, "self_attn.k_norm.weight", "attn_k_norm.weight", Dim::kNone, Dim::kK},
    {T::kGateProj, "mlp.gate_proj.weight", "ffn_gate.weight", Dim::kF, Dim::kD},
    {T::kUpProj, "mlp.up_proj.weight", "ffn_up.weight", Dim::kF, Dim::kD},
    {T::kDownProj, "mlp.down_proj.weight", "ffn_down.weight", Dim::kD, Dim::kF},
    {T::kLaurelLeft, "laurel.linear_left.weight", "laurel_l.weight", Dim::kRank, Dim::kD},
    {T::kLaurelRight, "laurel.linear_right.weight", "laurel_r.weight", Dim::kD, Dim::kRank},
    {T::kPostLaurelNorm, "laurel.post_laurel_norm.weight", "laurel_post_norm.weight", Dim::kNone, Dim::kD},
    {T::kAltupCorrectOutputScale, "altup.correct_output_scale", "altup_correct_scale.weight", Dim::kNone, Dim::kD},
    {T::kAltupCorrectionCoefs, "altup.correction_coefs.weight", "altup_correct_coef.weight", Dim::kS, Dim::kS},
    {T::kAltupPredictionCoefs, "altup.prediction_coefs.weight", "altup_predict_coef.weight", Dim::kSS, Dim::kS},
    {T::kAltupModalityRouter, "altup.modality_router.weight", "altup_router.weight", Dim::kS, Dim::kD},
    {T::kAltupRouterNorm, "altup.router_norm.weight", "altup_router_norm.weight", Dim::kNone, Dim::kD},
    {T::kPerLayerInputGate, "per_layer_input_gate.weight", "inp_gate.weight", Dim::kP, Dim::kD},
    {T::kPerLayerProjection, "per_layer_projection.weight", "proj.weight", Dim::kD, Dim::kP},
}};

// The tables are in the order of the enums.
const Row<G>& row(G tensor) {
  const Row<G>& found = kGlobals[static_cast<size_t>(tensor)];
  NESTLING_CHECK(found.id == tensor);
  return found;
}
const Row<T>& row(T tensor) {
  const Row<T>& found = kLayer[static_cast<size_t>(tensor)];
  NESTLING_CHECK(found.id == tensor);
  return found;
}

int64_t extent(Dim dim, const TextConfig& c, int64_t layer) {
  switch (dim) {
    case Dim::kNone: return 1;
    case Dim::kD: return c.hidden_size;
    case Dim::kV: return c.vocab_size;
    case Dim::kVp: return c.vocab_size_per_layer_input;
    case Dim::kLP: return c.num_hidden_layers * c.hidden_size_per_layer_input;
    case Dim::kP: return c.hidden_size_per_layer_input;
    case Dim::kQ: return c.num_attention_heads * c.head_dim;
    case Dim::kKv: return c.num_key_value_heads * c.head_dim;
    case Dim::kK: return c.head_dim;
    case Dim::kF: return c.intermediate_size[layer];
    case Dim::kRank: return c.laurel_rank;
    case Dim::kS: return c.altup_num_inputs;
    case Dim::kSS: return c.altup_num_inputs * c.altup_num_inputs;
  }
  return 0;
}

template <typename Id>
TextTensor describe(const Row<Id>& r, const TextConfig& config, int64_t index) {
  TextTensor tensor{.checkpoint = checkpoint_name(r.id, index), .package = package_name(r.id, index)};
  if constexpr (std::is_same_v<Id, T>) {
    tensor.layer_tensor = r.id;
    tensor.layer = index;
  } else {
    tensor.global = r.id;
  }
  tensor.rows = extent(r.rows, config, index);
  tensor.cols = extent(r.cols, config, index);
  tensor.vector = r.rows == Dim::kNone;
  return tensor;
}

bool is_kv(T tensor) { return tensor == T::kKProj || tensor == T::kVProj || tensor == T::kKNorm; }

}  // namespace

std::string package_name(G tensor, int64_t index) { return fmt::format(fmt::runtime(row(tensor).package), index); }
std::string package_name(T tensor, int64_t layer) { return fmt::format("blk.{}.{}", layer, row(tensor).package); }

std::string checkpoint_name(G tensor, int64_t index) {
  return "language_model." + fmt::format(fmt::runtime(row(tensor).checkpoint), index);
}
std::string checkpoint_name(T tensor, int64_t layer) {
  return fmt::format("language_model.layers.{}.{}", layer, row(tensor).checkpoint);
}

std::vector<TextTensor> text_tensors(const TextConfig& config) {
  std::vector<TextTensor> tensors;
  for (const Row<G>& r : kGlobals) {
    if (r.id == G::kPerLayerTokenEmbedding) continue;
    const bool altup = r.id == G::kAltupProjection || r.id == G::kAltupUnembedProjection;
    const int64_t count = altup ? config.altup_num_inputs - 1 : 1;
    for (int64_t i = 0; i < count; ++i) tensors.push_back(describe(r, config, i));
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    for (const Row<T>& r : kLayer)
      if (layer < config.first_kv_shared_layer() || !is_kv(r.id)) tensors.push_back(describe(r, config, layer));
  tensors.push_back(describe(row(G::kPerLayerTokenEmbedding), config, 0));
  return tensors;
}

}  // namespace nestling
