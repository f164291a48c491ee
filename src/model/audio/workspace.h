// The memory of one piece of a clip: a bump through one buffer, sized for the frames of the piece.
#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/dense.h"
#include "model/config.h"

namespace nestling {

class AudioWorkspace {
 public:
  AudioWorkspace(const AudioConfig& config, int64_t frames);
  static uint64_t bytes_needed(const AudioConfig& config, int64_t frames);

  // N frames, D width, P frames that attention keeps of the past, C that the convolution keeps.
  float* x = nullptr;       // [N][D] the residual stream
  float* normed = nullptr;  // [N][D]
  float* branch = nullptr;  // [N][D]
  float* hidden = nullptr;  // [N][4 D] feed-forward; the same memory as the following two groups
  float* query = nullptr;   // [N][D]
  float* keys = nullptr;    // [P + N][D]
  float* values = nullptr;  // [P + N][D]
  float* halves = nullptr;  // [N][2 D] the values and gates of the GLU
  float* gated = nullptr;   // [C + N][D] what the GLU gives
  DenseInput input;         // N rows of up to 4 D, or of the sub-sampling's projection

 private:
  AlignedBuffer memory_;
};

}  // namespace nestling
