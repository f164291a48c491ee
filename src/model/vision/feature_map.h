// Maps of features between the parts of the vision network.
#pragma once

#include <cstdint>

#include "base/checked.h"

namespace nestling {

// A square map, channels innermost: [side][side][channels].
struct FeatureMap {
  float* data = nullptr;
  int64_t side = 0, channels = 0;
  int64_t pixels() const { return side * side; }
  int64_t size() const { return pixels() * channels; }
  float* pixel(int64_t i) const { return data + i * channels; }
  float* row(int64_t y) const { return pixel(y * side); }
};

// The side of a map after a convolution with SAME padding.
constexpr int64_t strided_side(int64_t side, int64_t stride) { return ceil_div(side, stride); }

}  // namespace nestling
