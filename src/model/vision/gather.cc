#include "model/vision/gather.h"

#include <algorithm>

#include "model/vision/depthwise.h"

namespace nestling {

void gather_windows(const FeatureMap& in, int64_t stride, int64_t first, int64_t count, float* out) {
  const int64_t out_side = strided_side(in.side, stride), C = in.channels;
  const int64_t before = same_padding_before(in.side, kWindow, stride);
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t top = i / out_side * stride - before, left = i % out_side * stride - before;
    const int64_t begin = std::max<int64_t>(0, -left), end = std::min(kWindow, in.side - left);
    for (int64_t y = top; y < top + kWindow; ++y, out += kWindow * C) {
      if (y < 0 || y >= in.side) {
        std::fill_n(out, kWindow * C, 0.0f);
        continue;
      }
      std::fill_n(out, begin * C, 0.0f);
      std::copy_n(in.row(y) + (left + begin) * C, (end - begin) * C, out + begin * C);
      std::fill_n(out + end * C, (kWindow - end) * C, 0.0f);
    }
  }
}

}  // namespace nestling
