// Edge residual: a full 3x3 convolution that expands, norm, GELU, a pointwise one that projects, norm; plus the input
// where the shape allows. No layer scale. timm: EdgeResidual.
#pragma once

#include "model/vision/pass.h"

namespace nestling {

struct EdgeResidual {
  int64_t stride = 1;
  bool skip = false;
  WeightMatrix conv_exp;           // [mid, 3 * 3 * in]
  const float* exp_norm = nullptr;   // [mid]
  WeightMatrix conv_pwl;           // [out, mid]
  const float* pwl_norm = nullptr;   // [out]
};

uint64_t scratch_bytes(const EdgeResidual& block, int64_t tile);
void run_block(const VisionPass& pass, const EdgeResidual& block, const FeatureMap& in, const FeatureMap& out);

}  // namespace nestling
