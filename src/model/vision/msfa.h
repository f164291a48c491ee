// Multi-scale fusion: the outputs of the last two stages side by side (the last one at double size), a pointwise pair
// with norms and a GELU, an average over windows, a norm. timm: MobileNetV5MultiScaleFusionAdapter.
#pragma once

#include "model/vision/pass.h"

namespace nestling {

inline constexpr int64_t kFusionSide = 16;  // of the output, whatever the size of the picture

// The first product is taken apart by inputs: doubling a map and multiplying each of its pixels is multiplying first,
// which costs a quarter.
struct Msfa {
  WeightMatrix fine_exp;             // [mid, fine channels]
  WeightMatrix coarse_exp;           // [mid, coarse channels]
  const float* exp_norm = nullptr;   // [mid]
  WeightMatrix pw_proj;              // [width, mid]
  const float* proj_norm = nullptr;  // [width]
  const float* norm = nullptr;       // [width]
};

// Inputs [first, first + count) of w (il16, f32, bf16 or i8) as a matrix of its own; the scales of i8 stay those of the
// whole rows. `out`: packed_bytes(w.type, Layout::kIl16, w.rows, count) of zeros.
WeightMatrix columns_of(const WeightMatrix& w, int64_t first, int64_t count, std::byte* out);

uint64_t msfa_scratch_bytes(const Msfa& msfa, int64_t side, int threads);
// fine [side][side][..], side a multiple of kFusionSide; coarse [side / 2][side / 2][..] -> out [16][16][width].
// `expanded`: [side / 2][side / 2][mid], for the coarse part of the first product.
void run_msfa(const VisionPass& pass, const Msfa& msfa, const FeatureMap& fine, const FeatureMap& coarse,
              float* expanded, float* out);

}  // namespace nestling
