#include "media/resize.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/check.h"

namespace nestling {
namespace {

constexpr int kWeightBits = 22;  // 8 bits of pixel and 22 of weight leave 2 for overflow in an int32 sum
constexpr int32_t kHalf = 1 << (kWeightBits - 1);

// The inputs first .. first + count - 1 that make one output, with their weights.
struct Taps {
  int64_t first = 0;
  int64_t count = 0;
  const int32_t* weights = nullptr;
};

// The triangle filter that takes `in` pixels to `out` along one axis.
class AxisFilter {
 public:
  AxisFilter(int64_t in, int64_t out) : taps_(static_cast<size_t>(out)) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double support = std::max(scale, 1.0), inverse = 1.0 / support;
    const auto stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
    weights_.resize(static_cast<size_t>(out * stride));
    std::vector<double> exact(static_cast<size_t>(stride));
    for (int64_t i = 0; i < out; ++i) {
      const double center = (static_cast<double>(i) + 0.5) * scale;
      const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
      const int64_t last = std::min(in, static_cast<int64_t>(center + support + 0.5));
      double sum = 0;
      for (int64_t j = 0; j < last - first; ++j) {
        const double distance = (static_cast<double>(j + first) - center + 0.5) * inverse;
        const double weight = std::max(0.0, 1.0 - std::abs(distance));
        exact[static_cast<size_t>(j)] = weight;
        sum += weight;
      }
      int32_t* weights = &weights_[static_cast<size_t>(i * stride)];
      for (int64_t j = 0; j < last - first; ++j)
        weights[j] = static_cast<int32_t>(0.5 + exact[static_cast<size_t>(j)] / sum * (1 << kWeightBits));
      taps_[static_cast<size_t>(i)] = {first, last - first, weights};
    }
  }

  const std::vector<Taps>& taps() const { return taps_; }

 private:
  std::vector<int32_t> weights_;
  std::vector<Taps> taps_;
};

uint8_t to_pixel(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

Image resize_horizontally(const Image& image, int64_t width) {
  Image out{width, image.height, std::vector<uint8_t>(static_cast<size_t>(width * image.height * 3))};
  const AxisFilter filter(image.width, width);
  uint8_t* to = out.pixels.data();
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* row = image.pixels.data() + y * image.width * 3;
    for (const Taps& taps : filter.taps()) {
      int32_t r = kHalf, g = kHalf, b = kHalf;
      const uint8_t* from = row + taps.first * 3;
      for (int64_t j = 0; j < taps.count; ++j, from += 3) {
        r += from[0] * taps.weights[j];
        g += from[1] * taps.weights[j];
        b += from[2] * taps.weights[j];
      }
      *to++ = to_pixel(r);
      *to++ = to_pixel(g);
      *to++ = to_pixel(b);
    }
  }
  return out;
}

Image resize_vertically(const Image& image, int64_t height) {
  const int64_t stride = image.width * 3;
  Image out{image.width, height, std::vector<uint8_t>(static_cast<size_t>(stride * height))};
  const AxisFilter filter(image.height, height);
  std::vector<int32_t> sums(static_cast<size_t>(stride));
  uint8_t* to = out.pixels.data();
  for (const Taps& taps : filter.taps()) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int64_t j = 0; j < taps.count; ++j) {
      const uint8_t* from = image.pixels.data() + (taps.first + j) * stride;
      for (int64_t x = 0; x < stride; ++x) sums[static_cast<size_t>(x)] += from[x] * taps.weights[j];
    }
    to = std::transform(sums.begin(), sums.end(), to, to_pixel);
  }
  return out;
}

}  // namespace

Image resize_bilinear(const Image& image, int64_t width, int64_t height) {
  NESTLING_CHECK_LE(1, std::min(width, height));
  NESTLING_CHECK_LE(1, std::min(image.width, image.height));
  NESTLING_CHECK_EQ(static_cast<int64_t>(image.pixels.size()), image.width * image.height * 3);
  const bool narrower = width != image.width, shorter = height != image.height;
  Image across = narrower ? resize_horizontally(image, width) : Image{};
  const Image& half_done = narrower ? across : image;
  if (shorter) return resize_vertically(half_done, height);
  return narrower ? std::move(across) : image;
}

}  // namespace nestling
