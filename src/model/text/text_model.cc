#include "model/text/text_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "kernels/ops.h"
#include "kernels/pack.h"
#include "model/text/altup.h"
#include "model/text/attention.h"
#include "model/text/decoder_layer.h"
#include "model/text/per_layer_input.h"

namespace nestling {
namespace {

constexpr int64_t kMaxLayers = 256;  // parse_config allows no more

// The layers of a size, split where the prompt skip begins: `upper` starts with the last layer that owns K/V.
struct LayerPlan {
  std::array<int64_t, kMaxLayers> layers;
  size_t lower_count = 0, count = 0;
  std::span<const int64_t> lower() const { return {layers.data(), lower_count}; }
  std::span<const int64_t> upper() const { return {layers.data() + lower_count, count - lower_count}; }
};

LayerPlan plan_layers(const TextConfig& config, const ModelSize& size) {
  LayerPlan plan;
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    if (size.layers[static_cast<size_t>(l)].skipped) continue;
    if (l < config.first_kv_shared_layer()) plan.lower_count = plan.count;
    plan.layers[plan.count++] = l;
  }
  return plan;
}

// Moves the last `wanted` rows of everything that later layers read to the front.
void keep_wanted_rows(Step& step, int64_t wanted) {
  Workspace& ws = step.workspace;
  const int64_t skipped = step.rows - wanted, D = step.config.hidden_size;
  const int64_t width = step.config.num_hidden_layers * step.config.hidden_size_per_layer_input;
  for (int64_t s = 0; s < step.config.altup_num_inputs; ++s)
    std::copy_n(ws.stream(s, skipped), wanted * D, ws.stream(s, 0));
  std::copy_n(ws.per_layer_inputs + skipped * width, wanted * width, ws.per_layer_inputs);
  step.rows = wanted;
  step.first_position += skipped;
  compute_rope(step);
}

void tap_rows(const Step& step, const char* name, const float* data) {
  if (step.taps != nullptr) step.taps->record(name, {step.rows, step.config.hidden_size}, data);
}

}  // namespace

Result<TextModel> TextModel::bind(const Package& package, const TextConfig& config) {
  TextModel model;
  model.config_ = config;
  NESTLING_TRY(model.weights_, TextWeights::bind(package, config));
  for (const float sparsity : config.activation_sparsity)
    model.sparsity_z_.push_back(sparsity > 0 ? normal_quantile(sparsity) : 0.0f);
  return model;
}

void TextModel::embed(int32_t id, float* out) const {
  // Rows that were left out of the package are byte-equal to row 0.
  unpack_row(weights_.embed_tokens, id < weights_.embed_tokens.rows ? id : 0, out);
  const float scale = std::sqrt(static_cast<float>(config_.hidden_size));
  for (int64_t d = 0; d < config_.hidden_size; ++d) out[d] *= scale;
}

Result<const float*> TextModel::forward(const Kernels& kernels, ThreadPool& pool, Workspace& ws,
                                        const TextPass& pass) const {
  Step step{.config = config_, .kernels = kernels, .pool = pool, .workspace = ws, .taps = pass.taps};
  step.rows = static_cast<int64_t>(pass.ids.size());
  step.first_position = pass.first_position;
  NESTLING_CHECK_LE(step.rows, ws.max_rows());
  NESTLING_CHECK_LE(pass.wanted, step.rows);

  step.for_rows([&](int64_t t) { embed(pass.ids[t], ws.stream(0, t)); });
  tap_rows(step, "embed", ws.stream(0, 0));
  for (int64_t t = 0; t < static_cast<int64_t>(pass.embeddings.size()); ++t)
    if (pass.embeddings[t] != nullptr) std::copy_n(pass.embeddings[t], config_.hidden_size, ws.stream(0, t));
  tap_rows(step, "inputs_embeds", ws.stream(0, 0));

  const LayerPlan plan = plan_layers(config_, *pass.size);
  PerLayerInputs inputs(weights_, *pass.ple, pass.ple_ticket, plan.lower(), plan.upper(), pass.wanted);
  inputs.project(step);
  altup_embed(step, weights_);
  if (step.taps != nullptr)
    step.taps->record("streams_init", {config_.altup_num_inputs, step.rows, config_.hidden_size}, ws.streams,
                      ws.max_rows() * config_.hidden_size);
  compute_rope(step);

  for (size_t i = 0; i < plan.count; ++i) {
    step.layer = plan.layers[i];
    step.tap_layer = static_cast<int64_t>(i);
    step.weights = &weights_.layers[step.layer];
    step.kv = &pass.kv->layer(step.layer);
    step.owns_kv = step.layer < config_.first_kv_shared_layer();
    step.ffn_width = pass.size->layers[step.layer].width;
    step.sparsity_z = sparsity_z_[step.layer];
    if (i == plan.lower_count && pass.wanted < step.rows) {
      run_keys_values_only(step);
      NESTLING_TRY_VOID(inputs.arrive(step));
      if (pass.wanted == 0) return nullptr;
      keep_wanted_rows(step, pass.wanted);
      step.owns_kv = false;  // its K/V of these rows are stored
    }
    NESTLING_TRY_VOID(run_decoder_layer(step, inputs));
  }

  altup_unembed(step, weights_);
  tap_rows(step, "merged", ws.normed);
  step.for_rows([&](int64_t t) {
    float* row = ws.normed + t * config_.hidden_size;
    rms_norm(row, weights_.norm, config_.rms_norm_eps, config_.hidden_size, row);
  });
  tap_rows(step, "final_hidden", ws.normed);
  return ws.normed;
}

// A capped logit costs some ten multiply-adds (tanh).
constexpr int64_t kSoftcapWork = 10;

void TextModel::logits(const Kernels& kernels, ThreadPool& pool, Workspace& ws, const float* hidden, int64_t rows,
                       float* out) const {
  const int64_t D = config_.hidden_size, V = config_.vocab_size, stored = weights_.embed_tokens.rows;
  ws.activations.assign(kernels, pool, hidden, rows, D, D, is_quantized(weights_.embed_tokens.type));
  matmul(kernels, pool, ws.activations, weights_.embed_tokens, out, V);
  const float cap = config_.final_logit_softcapping;
  for (int64_t t = 0; t < rows; ++t) {
    float* row = out + t * V;
    if (cap > 0)
      pool.for_ranges(stored, 1024, [&](int64_t begin, int64_t end) { softcap(row + begin, end - begin, cap); },
                      stored * kSoftcapWork);
    std::fill(row + stored, row + V, row[0]);
  }
}

}  // namespace nestling
