// The audio tower's weights: the layers of the conformer as views, into the mapped audio region or into a buffer that a
// layer was read into; everything that is small as memory of its own.
#pragma once

#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "model/config.h"
#include "storage/package.h"
#include "tensor/weight.h"

namespace nestling {

// D model width, F ffn width, H heads, K head dim, P keys a frame sees (itself included).
struct AudioFeedForwardWeights {
  const float* pre_norm = nullptr;   // [D]
  WeightMatrix up;                   // [F, D]
  WeightMatrix down;                 // [D, F]
  const float* post_norm = nullptr;  // [D]
};

struct ConformerWeights {
  AudioFeedForwardWeights start, end;

  const float* pre_attention_norm = nullptr;   // [D]
  WeightMatrix q_proj, k_proj, v_proj;         // [D, D]
  const float* per_dim_scale = nullptr;        // [K]
  WeightMatrix post;                           // [D, D]
  const float* post_attention_norm = nullptr;  // [D]

  const float* convolution_norm = nullptr;     // [D]
  WeightMatrix linear_start;                   // [2 D, D]: the values, then their gates
  const float* depthwise = nullptr;            // [taps][D]; the last tap is the current frame
  const float* depthwise_norm = nullptr;       // [D]
  WeightMatrix linear_end;                     // [D, D]

  const float* norm = nullptr;                 // [D]
};

// One stage of the sub-sampling.
struct SubsampleStageWeights {
  AlignedBuffer memory;
  WeightMatrix kernel;      // [channels out, 9 * channels in], f32 in il16; inputs as [time][bin][channel]
  std::vector<float> norm;  // [channels out]
};

// Where the tensors of a layer lie in the package's file: one contiguous range.
struct LayerRange {
  uint64_t offset = 0, bytes = 0;
};

struct AudioNetwork {
  AudioConfig config;
  const Package* package = nullptr;
  std::vector<SubsampleStageWeights> stages;
  AlignedBuffer projection_memory;
  WeightMatrix projection;                     // [D, bins * channels], floats
  std::vector<std::vector<float>> positions;   // per layer r [P][D]: W_pos times the embedding of a distance
  std::vector<LayerRange> ranges;              // per layer
  std::vector<ConformerWeights> layers;        // into the mapped region; empty when layers are streamed
  uint64_t largest_range = 0;

  // kModel: a tensor is missing, or its shape, type or layout does not fit the configuration.
  static Result<AudioNetwork> bind(const Package& package, const AudioConfig& config, bool resident);
};

// The weights of a layer whose range of the file was read to `bytes` (64-byte aligned).
Result<ConformerWeights> bind_conformer_layer(const Package& package, const AudioConfig& config, int64_t layer,
                                              const std::byte* bytes, uint64_t file_offset);

}  // namespace nestling
