#include "model/tower_tensor.h"

#include <algorithm>

namespace nestling {
namespace {

int64_t product_from(const std::vector<int64_t>& shape, size_t first) {
  int64_t product = 1;
  for (size_t i = first; i < shape.size(); ++i) product *= shape[i];
  return product;
}

// [outer][a][b] -> [outer][b][a]
void swap_inner(int64_t outer, int64_t a, int64_t b, const float* values, float* out) {
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < a; ++i)
      for (int64_t j = 0; j < b; ++j) out[(o * b + j) * a + i] = values[(o * a + i) * b + j];
}

}  // namespace

void reorder(Reorder order, const std::vector<int64_t>& shape, const float* values, float* out) {
  switch (order) {
    case Reorder::kNone: std::copy_n(values, product_from(shape, 0), out); return;
    case Reorder::kConvolution: swap_inner(shape[0], shape[1], product_from(shape, 2), values, out); return;
    case Reorder::kDepthwise: swap_inner(1, shape[0], product_from(shape, 1), values, out); return;
  }
}

}  // namespace nestling
