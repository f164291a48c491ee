#include "model/audio/relative_position.h"

#include <algorithm>
#include <cmath>

#include "kernels/ops.h"
#include "kernels/pack.h"

namespace nestling {
namespace {

std::vector<float> distance_embeddings(int64_t count, int64_t width) {
  const int64_t half = width / 2;
  const float step = std::log(10'000.0f) / static_cast<float>(std::max<int64_t>(half - 1, 1));
  std::vector<float> embeddings(static_cast<size_t>(count * width));
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * std::exp(static_cast<float>(i) * -step);
      embeddings[static_cast<size_t>(p * width + i)] = std::sin(angle);
      embeddings[static_cast<size_t>(p * width + half + i)] = std::cos(angle);
    }
  }
  return embeddings;
}

}  // namespace

std::vector<float> relative_positions(const WeightMatrix& w, int64_t count) {
  const std::vector<float> embeddings = distance_embeddings(count, w.cols);
  std::vector<float> row(static_cast<size_t>(w.cols)), positions(static_cast<size_t>(count * w.rows));
  for (int64_t r = 0; r < w.rows; ++r) {
    unpack_row(w, r, row.data());
    for (int64_t p = 0; p < count; ++p)
      positions[static_cast<size_t>(p * w.rows + r)] = dot(embeddings.data() + p * w.cols, row.data(), w.cols);
  }
  return positions;
}

}  // namespace nestling
