#include "model/multimodal_embedder.h"

#include <vector>

#include "base/aligned.h"
#include "kernels/ops.h"
#include "kernels/pack.h"

namespace nestling {

Result<MultimodalEmbedder> MultimodalEmbedder::bind(const Package& package, const std::string& prefix,
                                                    int64_t vocabulary, int64_t encoder_width, int64_t text_width,
                                                    float eps) {
  MultimodalEmbedder e;
  e.eps_ = eps;
  NESTLING_TRY(e.embedding_, package.matrix(prefix + "embedding.weight", vocabulary, encoder_width));
  NESTLING_TRY(e.projection_, package.matrix(prefix + "input_projection.weight", text_width, encoder_width));
  NESTLING_TRY(e.hard_norm_, package.vector(prefix + "hard_emb_norm.weight", encoder_width));
  NESTLING_TRY(e.soft_norm_, package.vector(prefix + "soft_emb_norm.weight", encoder_width));
  return e;
}

void MultimodalEmbedder::project(const Kernels& kernels, ThreadPool& pool, const float* normed, int64_t rows,
                                 float* out) const {
  const int64_t E = encoder_width(), W = text_width();
  const AlignedBuffer memory(Activations::bytes_needed(rows, E));
  Activations activations({memory.data(), static_cast<size_t>(memory.size())}, rows, E);
  activations.assign(kernels, pool, normed, rows, E, E, is_quantized(projection_.type));
  matmul(kernels, pool, activations, projection_, out, W);
  for (int64_t t = 0; t < rows; ++t) rms_norm(out + t * W, nullptr, eps_, W, out + t * W);
}

void MultimodalEmbedder::hard(const Kernels& kernels, ThreadPool& pool, int64_t index, float* out) const {
  std::vector<float> row(static_cast<size_t>(encoder_width()));
  unpack_row(embedding_, index, row.data());
  rms_norm(row.data(), hard_norm_, eps_, encoder_width(), row.data());
  project(kernels, pool, row.data(), 1, out);
}

void MultimodalEmbedder::soft(const Kernels& kernels, ThreadPool& pool, const float* features, int64_t rows,
                              float scale, float* out) const {
  const int64_t E = encoder_width();
  std::vector<float> normed(static_cast<size_t>(rows * E));
  for (int64_t t = 0; t < rows; ++t) {
    float* row = normed.data() + t * E;
    for (int64_t i = 0; i < E; ++i) row[i] = features[t * E + i] * scale;
    rms_norm(row, soft_norm_, eps_, E, row);
  }
  project(kernels, pool, normed.data(), rows, out);
}

}  // namespace nestling
