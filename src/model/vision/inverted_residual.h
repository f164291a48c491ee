// Universal inverted residual: an optional depthwise convolution, a pointwise one that expands, GELU, another optional
// depthwise one, which takes the stride, and a pointwise one that projects; a norm after each, a scale per channel, and
// the input where the shape allows. timm: UniversalInvertedResidual.
#pragma once

#include "model/vision/depthwise.h"
#include "model/vision/pass.h"

namespace nestling {

struct InvertedResidual {
  bool skip = false;
  Depthwise start;                  // may be empty
  WeightMatrix pw_exp;              // [mid, in]
  const float* exp_norm = nullptr;  // [mid]
  Depthwise middle;                 // may be empty
  WeightMatrix pw_proj;             // [out, mid]
  const float* proj_norm = nullptr;  // [out], layer scale multiplied in

  // Pixels read only themselves: `out` may be `in`.
  bool in_place() const { return start.empty() && middle.empty(); }
};

uint64_t scratch_bytes(const InvertedResidual& block, int64_t side, int64_t tile);
void run_block(const VisionPass& pass, const InvertedResidual& block, const FeatureMap& in, const FeatureMap& out);

}  // namespace nestling
