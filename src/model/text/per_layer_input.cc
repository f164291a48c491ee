#include "model/text/per_layer_input.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/ops.h"
#include "kernels/pack.h"

namespace nestling {
namespace {

constexpr int64_t kMaxLayers = 256;  // parse_config allows no more

// Rows [first_layer * P, (first_layer + count) * P) of per_layer_model_projection as a matrix of their own: groups of 16
// rows lie one after another.
WeightMatrix layer_rows(const WeightMatrix& w, int64_t first_layer, int64_t count, int64_t P) {
  WeightMatrix part = w;
  const uint64_t group_bytes = w.bytes / static_cast<uint64_t>(w.stored_rows / kRowGroup);
  part.data += group_bytes * static_cast<uint64_t>(first_layer * P / kRowGroup);
  part.rows = part.stored_rows = count * P;
  part.bytes = group_bytes * static_cast<uint64_t>(count * P / kRowGroup);
  return part;
}

void project_rows(const Step& step, const WeightMatrix& w, std::span<const int64_t> layers, int64_t first_row) {
  if (layers.empty() || first_row == step.rows) return;
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size, P = step.config.hidden_size_per_layer_input;
  const int64_t width = step.config.num_hidden_layers * P;
  ws.activations.assign(step.kernels, step.pool, ws.stream(0, first_row), step.rows - first_row, D, D,
                        is_quantized(w.type));
  float* out = ws.per_layer_inputs + first_row * width;
  if (P % kRowGroup != 0) {  // the rows of one layer do not fill whole groups: compute all layers
    matmul(step.kernels, step.pool, ws.activations, w, out, width);
    return;
  }
  std::array<Product, kMaxLayers> products;
  size_t count = 0;
  for (size_t i = 0; i < layers.size();) {
    size_t next = i + 1;
    while (next < layers.size() && layers[next] == layers[next - 1] + 1) ++next;
    products[count++] = {layer_rows(w, layers[i], static_cast<int64_t>(next - i), P), out + layers[i] * P, width};
    i = next;
  }
  matmul_many(step.kernels, step.pool, ws.activations, {products.data(), count});
}

}  // namespace

void PerLayerInputs::project(const Step& step) {
  project_rows(step, weights_.per_layer_model_projection, lower_, 0);
  project_rows(step, weights_.per_layer_model_projection, upper_, step.rows - wanted_);
}

Status PerLayerInputs::arrive(const Step& step) {
  if (arrived_) return {};
  arrived_ = true;
  NESTLING_TRY_VOID(store_.wait(ticket_));
  const int64_t width = store_.table().cols;
  const auto combine_share = [&](int thread) {
    float* ple = step.workspace.ple_rows + thread * width;
    for (int64_t t = thread; t < step.rows; t += step.pool.size()) {
      unpack_stored_row(store_.table().type, width, store_.row(ticket_, t), ple);
      combine(step, t, ple);
    }
  };
  step.rows == 1 ? combine_share(0) : step.pool.run(combine_share);
  if (step.taps != nullptr) tap(step);
  return {};
}

void PerLayerInputs::combine(const Step& step, int64_t t, const float* ple) const {
  const int64_t P = step.config.hidden_size_per_layer_input;
  const float projection_scale = 1.0f / std::sqrt(static_cast<float>(step.config.hidden_size));
  const float ple_scale = std::sqrt(static_cast<float>(P)), combination = 1.0f / std::sqrt(2.0f);
  const auto combine_layer = [&](int64_t layer) {
    float* x = step.workspace.per_layer_inputs + t * store_.table().cols + layer * P;
    for (int64_t i = 0; i < P; ++i) x[i] *= projection_scale;
    rms_norm(x, weights_.per_layer_projection_norm, step.config.rms_norm_eps, P, x);
    for (int64_t i = 0; i < P; ++i) x[i] = (x[i] + ple[layer * P + i] * ple_scale) * combination;
  };
  for (const int64_t layer : lower_) combine_layer(layer);
  if (t < step.rows - wanted_) return;
  for (const int64_t layer : upper_) combine_layer(layer);
}

// per_layer_embed and per_layer_inputs [T, L, P] over the layers in use.
void PerLayerInputs::tap(const Step& step) const {
  const int64_t P = step.config.hidden_size_per_layer_input, T = step.rows, width = store_.table().cols;
  const auto L = static_cast<int64_t>(lower_.size() + upper_.size());
  std::vector<float> embed, inputs, row(static_cast<size_t>(width));
  for (int64_t t = 0; t < T; ++t) {
    unpack_stored_row(store_.table().type, width, store_.row(ticket_, t), row.data());
    for (float& x : row) x *= std::sqrt(static_cast<float>(P));
    const float* combined = step.workspace.per_layer_inputs + t * width;
    for (const auto layers : {lower_, upper_})
      for (const int64_t l : layers) {
        embed.insert(embed.end(), row.data() + l * P, row.data() + (l + 1) * P);
        inputs.insert(inputs.end(), combined + l * P, combined + (l + 1) * P);
      }
  }
  step.taps->record("per_layer_embed", {T, L, P}, embed.data());
  step.taps->record("per_layer_inputs", {T, L, P}, inputs.data());
}

void add_per_layer_input(const Step& step) {
  Workspace& ws = step.workspace;
  const LayerWeights& w = *step.weights;
  const int64_t D = step.config.hidden_size, P = step.config.hidden_size_per_layer_input;
  const int64_t width = step.config.num_hidden_layers * P;
  step.for_rows([&](int64_t t) {
    const float* active = ws.stream(0, t);
    float* scaled = ws.normed + t * D;
    for (int64_t d = 0; d < D; ++d)
      scaled[d] = w.correct_output_scale != nullptr ? active[d] * w.correct_output_scale[d] : active[d];
  });
  ws.activations.assign(step.kernels, step.pool, ws.normed, step.rows, D, D, is_quantized(w.per_layer_input_gate.type));
  matmul(step.kernels, step.pool, ws.activations, w.per_layer_input_gate, ws.per_layer_gate, P);
  step.for_rows([&](int64_t t) {
    gelu_tanh_mul(ws.per_layer_gate + t * P, ws.per_layer_inputs + t * width + step.layer * P, P);
  });
  ws.activations.assign(step.kernels, step.pool, ws.per_layer_gate, step.rows, P, P,
                        is_quantized(w.per_layer_projection.type));
  matmul(step.kernels, step.pool, ws.activations, w.per_layer_projection, ws.branch, D);
  step.for_rows([&](int64_t t) {
    float* row = ws.branch + t * D;
    rms_norm(row, w.post_per_layer_input_norm, step.config.rms_norm_eps, D, row);
    for (int64_t s = 1; s < step.config.altup_num_inputs; ++s) {
      float* stream = ws.stream(s, t);
      for (int64_t d = 0; d < D; ++d) stream[d] += row[d];
    }
  });
  step.tap("per_layer_input", {step.rows, D}, ws.branch, D);
}

}  // namespace nestling
