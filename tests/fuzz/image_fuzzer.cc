// Fuzzes the picture decoders, EXIF and the resize that follows. Seeds: tests/data/media/image.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "media/exif.h"
#include "media/image.h"
#include "media/resize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nestling;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const int orientation = exif_orientation(bytes);
  NESTLING_CHECK(orientation >= 1 && orientation <= 8);
  // Small limits keep a run fast; the code is the same.
  const ImageLimits limits{.max_pixels = 1 << 20, .max_pixels_per_byte = 1000, .small_pixels = 1 << 16};
  const Result<Image> image = decode_image("input", bytes, limits);
  if (!image) {
    NESTLING_CHECK(image.error().message.starts_with("input: "));
    return 0;
  }
  NESTLING_CHECK_LE(image->width * image->height, limits.max_pixels);
  NESTLING_CHECK_EQ(static_cast<int64_t>(image->pixels.size()), image->width * image->height * 3);
  NESTLING_CHECK_EQ(resize_bilinear(*image, 16, 16).pixels.size(), size_t{16 * 16 * 3});
  return 0;
}
