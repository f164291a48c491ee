// The adapters to the image libraries: one function and one source file each, called by image.cc only.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/error.h"
#include "media/image.h"

namespace nestling {

struct DecodedImage {
  Image image;
  int orientation = 1;  // EXIF, 1 to 8
};

Result<DecodedImage> decode_jpeg(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits);
Result<DecodedImage> decode_png(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits);
Result<DecodedImage> decode_webp(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits);
Result<DecodedImage> decode_gif(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits);

// Black pixels for the size a header announces, or the reason why that size is refused.
Result<Image> allocate_image(std::string_view name, uint64_t width, uint64_t height, uint64_t encoded_bytes,
                             const ImageLimits& limits);

}  // namespace nestling
