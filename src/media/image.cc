#include "media/image.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "media/image_codecs.h"
#include "media/media_file.h"
#include "media/sniff.h"

namespace nestling {

Result<Image> allocate_image(std::string_view name, uint64_t width, uint64_t height, uint64_t encoded_bytes,
                             const ImageLimits& limits) {
  const auto max_side = static_cast<uint64_t>(limits.max_side);
  if (width < 1 || height < 1 || width > max_side || height > max_side)
    return fail(ErrorCode::kFailed, "{}: {} x {} pixels; each side may be 1 to {}", name, width, height, max_side);
  const uint64_t pixels = width * height;
  if (pixels > static_cast<uint64_t>(limits.max_pixels))
    return fail(ErrorCode::kFailed, "{}: {} x {} = {} pixels; at most {} are allowed", name, width, height, pixels,
                limits.max_pixels);
  const auto max_ratio = static_cast<uint64_t>(limits.max_pixels_per_byte);
  if (pixels > static_cast<uint64_t>(limits.small_pixels) && pixels / max_ratio > encoded_bytes)
    return fail(ErrorCode::kFailed, "{}: {} x {} pixels from {} bytes; at most {} pixels per byte are allowed", name,
                width, height, encoded_bytes, max_ratio);
  return Image{static_cast<int64_t>(width), static_cast<int64_t>(height), std::vector<uint8_t>(pixels * 3)};
}

Result<Image> decode_image(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits) {
  if (encoded.empty()) return fail(ErrorCode::kFailed, "{}: is empty; a JPEG, PNG, WebP or GIF image is needed", name);
  if (encoded.size() > limits.max_encoded_bytes)
    return fail(ErrorCode::kFailed, "{}: {} bytes; at most {} are allowed", name, encoded.size(),
                limits.max_encoded_bytes);
  const SniffedType sniffed = sniff_media(encoded);
  auto decoded = [&]() -> Result<DecodedImage> {
    switch (sniffed.type) {
      case MediaType::kJpeg: return decode_jpeg(name, encoded, limits);
      case MediaType::kPng: return decode_png(name, encoded, limits);
      case MediaType::kWebp: return decode_webp(name, encoded, limits);
      case MediaType::kGif: return decode_gif(name, encoded, limits);
      default:
        return fail(ErrorCode::kFailed, "{}: is {}; a JPEG, PNG, WebP or GIF image is needed", name,
                    sniffed.description);
    }
  }();
  if (!decoded) return std::unexpected(std::move(decoded).error());
  return apply_orientation(std::move(decoded->image), decoded->orientation);
}

Result<Image> load_image(const std::filesystem::path& path, const ImageLimits& limits) {
  NESTLING_TRY(const std::vector<std::byte> encoded, read_media_file(path, limits.max_encoded_bytes));
  return decode_image(path.string(), encoded, limits);
}

Image apply_orientation(Image image, int orientation) {
  NESTLING_CHECK(orientation >= 1 && orientation <= 8);
  if (orientation == 1) return image;
  const bool transposed = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright{image.width, image.height, std::vector<uint8_t>(image.pixels.size())};
  if (transposed) std::swap(upright.width, upright.height);
  uint8_t* out = upright.pixels.data();
  for (int64_t y = 0; y < upright.height; ++y)
    for (int64_t x = 0; x < upright.width; ++x, out += 3) {
      const int64_t across = transposed ? y : x, down = transposed ? x : y;  // in the stored picture
      const int64_t from_x = flip_x ? image.width - 1 - across : across;
      const int64_t from_y = flip_y ? image.height - 1 - down : down;
      std::copy_n(&image.pixels[static_cast<size_t>((from_y * image.width + from_x) * 3)], 3, out);
    }
  return upright;
}

std::vector<float> pixel_values(const Image& image) {
  constexpr float kScale = 1.0f / 255.0f;
  std::vector<float> values(image.pixels.size());
  std::transform(image.pixels.begin(), image.pixels.end(), values.begin(),
                 [](uint8_t v) { return static_cast<float>(v) * kScale; });
  return values;
}

}  // namespace nestling
