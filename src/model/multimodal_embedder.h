// The embedder that joins a tower to the text model: hard tokens (ids of the tower's own vocabulary) and soft tokens
// (rows of encoder output) become rows of the text model's width. Gemma3nMultimodalEmbedder.
#pragma once

#include "base/error.h"
#include "kernels/matmul.h"
#include "storage/package.h"

namespace nestling {

// W text width, E encoder width.
class MultimodalEmbedder {
 public:
  // `prefix`: "mm." (vision) or "mm.a." (audio); the tensors' region must be loaded and stay so.
  static Result<MultimodalEmbedder> bind(const Package& package, const std::string& prefix, int64_t vocabulary,
                                         int64_t encoder_width, int64_t text_width, float eps);

  int64_t vocabulary() const { return embedding_.rows; }
  int64_t encoder_width() const { return projection_.cols; }
  int64_t text_width() const { return projection_.rows; }

  // out [text_width] = rms_norm(projection rms_norm(embedding[index]; hard_norm)), the outer norm without weight.
  void hard(const Kernels& kernels, ThreadPool& pool, int64_t index, float* out) const;
  // out [rows, text_width] = rms_norm(projection rms_norm(scale * features; soft_norm)), features [rows, encoder_width].
  // `scale`: sqrt(encoder_width) for pictures, 1 for sound.
  void soft(const Kernels& kernels, ThreadPool& pool, const float* features, int64_t rows, float scale,
            float* out) const;

 private:
  void project(const Kernels& kernels, ThreadPool& pool, const float* normed, int64_t rows, float* out) const;
  WeightMatrix embedding_;                  // [vocabulary, E]
  WeightMatrix projection_;                 // [W, E]
  const float* hard_norm_ = nullptr;        // [E]
  const float* soft_norm_ = nullptr;        // [E]
  float eps_ = 1e-6f;
};

}  // namespace nestling
