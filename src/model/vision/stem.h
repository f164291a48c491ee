// The first convolution: 3x3, stride 2, from the three colours, with a bias, norm and GELU. timm: ConvNormAct.
#pragma once

#include <vector>

#include "model/vision/pass.h"

namespace nestling {

struct Stem {
  WeightMatrix conv;            // [channels, 3 * 3 * 3] f32
  const float* bias = nullptr;  // [channels]
  const float* norm = nullptr;  // [channels]
};

uint64_t stem_scratch_bytes(const Stem& stem, int64_t tile);
// pixels [2 side][2 side][3] -> out [side][side][channels]
void run_stem(const VisionPass& pass, const Stem& stem, const FeatureMap& pixels, const FeatureMap& out);

}  // namespace nestling
