#include "model/text/weights.h"

#include "kernels/pack.h"
#include "model/tensor_names.h"

namespace nestling {
namespace {

Result<std::vector<float>> small_matrix(const Package& package, const std::string& name, int64_t rows, int64_t cols) {
  NESTLING_TRY(const WeightMatrix w, package.matrix(name, rows, cols));
  std::vector<float> values(static_cast<size_t>(rows * cols));
  unpack_matrix(w, values.data());
  return values;
}

Result<LayerWeights> bind_layer(const Package& package, const TextConfig& c, int64_t layer) {
  using enum LayerTensor;
  const auto name = [&](LayerTensor tensor) { return package_name(tensor, layer); };
  const int64_t D = c.hidden_size, F = c.intermediate_size[layer], K = c.head_dim, S = c.altup_num_inputs;
  const int64_t query_width = c.num_attention_heads * K, kv_width = c.num_key_value_heads * K;
  LayerWeights w;
  NESTLING_TRY(w.input_layernorm, package.vector(name(kInputLayernorm), D));
  NESTLING_TRY(w.post_attention_layernorm, package.vector(name(kPostAttentionLayernorm), D));
  NESTLING_TRY(w.pre_feedforward_layernorm, package.vector(name(kPreFeedforwardLayernorm), D));
  NESTLING_TRY(w.post_feedforward_layernorm, package.vector(name(kPostFeedforwardLayernorm), D));
  NESTLING_TRY(w.post_per_layer_input_norm, package.vector(name(kPostPerLayerInputNorm), D));
  NESTLING_TRY(w.q_proj, package.matrix(name(kQProj), query_width, D));
  NESTLING_TRY(w.o_proj, package.matrix(name(kOProj), D, query_width));
  NESTLING_TRY(w.q_norm, package.vector(name(kQNorm), K));
  if (layer < c.first_kv_shared_layer()) {
    NESTLING_TRY(w.k_proj, package.matrix(name(kKProj), kv_width, D));
    NESTLING_TRY(w.v_proj, package.matrix(name(kVProj), kv_width, D));
    NESTLING_TRY(w.k_norm, package.vector(name(kKNorm), K));
  }
  NESTLING_TRY(w.gate_proj, package.matrix(name(kGateProj), F, D));
  NESTLING_TRY(w.up_proj, package.matrix(name(kUpProj), F, D));
  NESTLING_TRY(w.down_proj, package.matrix(name(kDownProj), D, F));
  NESTLING_TRY(w.laurel_left, package.matrix(name(kLaurelLeft), c.laurel_rank, D));
  NESTLING_TRY(w.laurel_right, package.matrix(name(kLaurelRight), D, c.laurel_rank));
  NESTLING_TRY(w.post_laurel_norm, package.vector(name(kPostLaurelNorm), D));
  NESTLING_TRY(w.prediction_coefs, small_matrix(package, name(kAltupPredictionCoefs), S * S, S));
  NESTLING_TRY(w.correction_coefs, small_matrix(package, name(kAltupCorrectionCoefs), S, S));
  NESTLING_TRY(w.modality_router, small_matrix(package, name(kAltupModalityRouter), S, D));
  NESTLING_TRY(w.router_norm, package.vector(name(kAltupRouterNorm), D));
  if (c.altup_correct_scale) {
    NESTLING_TRY(w.correct_output_scale, package.vector(name(kAltupCorrectOutputScale), D));
  }
  NESTLING_TRY(w.per_layer_input_gate, package.matrix(name(kPerLayerInputGate), c.hidden_size_per_layer_input, D));
  NESTLING_TRY(w.per_layer_projection, package.matrix(name(kPerLayerProjection), D, c.hidden_size_per_layer_input));
  return w;
}

Result<WeightMatrix> bind_embedding(const Package& package, const TextConfig& c) {
  const PackageTensor* tensor = package.find(package_name(GlobalTensor::kTokenEmbedding));
  if (tensor == nullptr)
    return fail(ErrorCode::kModel, "{}: holds no text model (token_embd.weight is missing)",
                package.file().path().string());
  if (tensor->rows > c.vocab_size || tensor->rows < std::min(c.vocab_size, c.vocab_size_per_layer_input))
    return fail(ErrorCode::kModel, "{}: token_embd.weight has {} rows; the vocabulary has {}",
                package.file().path().string(), tensor->rows, c.vocab_size);
  return package.matrix(package_name(GlobalTensor::kTokenEmbedding), tensor->rows, c.hidden_size);
}

Result<PleTable> find_ple(const Package& package, const TextConfig& c) {
  const int64_t cols = c.num_hidden_layers * c.hidden_size_per_layer_input;
  const PackageTensor* tensor = package.find(package_name(GlobalTensor::kPerLayerTokenEmbedding));
  if (tensor == nullptr || tensor->rows != c.vocab_size_per_layer_input || tensor->cols != cols ||
      tensor->layout != Layout::kRows)
    return fail(ErrorCode::kModel, "{}: per_layer_token_embd.weight is missing or not [{}, {}]",
                package.file().path().string(), c.vocab_size_per_layer_input, cols);
  return PleTable{.type = tensor->type, .rows = tensor->rows, .cols = cols, .offset = tensor->offset,
                  .stride = rows_stride_bytes(tensor->type, cols)};
}

}  // namespace

Result<TextWeights> TextWeights::bind(const Package& package, const TextConfig& c) {
  using enum GlobalTensor;
  TextWeights w;
  NESTLING_TRY(w.embed_tokens, bind_embedding(package, c));
  NESTLING_TRY(w.per_layer_model_projection,
               package.matrix(package_name(kPerLayerModelProjection),
                              c.num_hidden_layers * c.hidden_size_per_layer_input, c.hidden_size));
  NESTLING_TRY(w.per_layer_projection_norm,
               package.vector(package_name(kPerLayerProjectionNorm), c.hidden_size_per_layer_input));
  NESTLING_TRY(w.norm, package.vector(package_name(kNorm), c.hidden_size));
  for (int64_t s = 0; s + 1 < c.altup_num_inputs; ++s) {
    NESTLING_TRY(w.altup_projections.emplace_back(),
                 package.matrix(package_name(kAltupProjection, s), c.hidden_size, c.hidden_size));
    NESTLING_TRY(w.altup_unembed_projections.emplace_back(),
                 package.matrix(package_name(kAltupUnembedProjection, s), c.hidden_size, c.hidden_size));
  }
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    NESTLING_TRY(w.layers.emplace_back(), bind_layer(package, c, layer));
  }
  NESTLING_TRY(w.ple, find_ple(package, c));
  return w;
}

}  // namespace nestling
