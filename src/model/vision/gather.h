// The pixels under a full 3x3 convolution, gathered row by row: the map's own rows are the only copy of it.
#pragma once

#include "model/vision/pass.h"

namespace nestling {

inline constexpr int64_t kWindow = 3;

// out [count][3 * 3 * channels]: what lies under the kernel for output pixels [first, first + count), zeros outside the
// map (SAME padding).
void gather_windows(const FeatureMap& in, int64_t stride, int64_t first, int64_t count, float* out);

}  // namespace nestling
