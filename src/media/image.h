// Pictures: encoded bytes in, 8-bit RGB out, upright, as transformers' image loader gives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

// 8-bit RGB, pixels[height][width][3].
struct Image {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> pixels;
};

// What a picture may ask for; checked against its header before memory for pixels is asked for.
struct ImageLimits {
  uint64_t max_encoded_bytes = uint64_t{64} << 20;
  int64_t max_side = 32'768;           // pixels
  int64_t max_pixels = 67'108'864;     // 201 MB of RGB; decoders and rotation need up to three times that for a moment
  int64_t max_pixels_per_byte = 1000;  // above small_pixels: a larger ratio is a decompression bomb
  int64_t small_pixels = 16'777'216;   // never refused for its ratio: a blank scanned page compresses without bound
};

// Decodes JPEG, PNG, WebP or GIF (animations: the first frame), told apart by content. EXIF orientation is applied;
// grey is replicated; palettes are looked up; CMYK is converted with Adobe's inverted inks; of 16-bit samples the high
// byte is kept; alpha is dropped without compositing, so a hidden colour shows. Equal to Pillow's exif_transpose and
// convert("RGB"), but for 16-bit grey, which Pillow clips. `name` stands for the picture in errors (kFailed).
Result<Image> decode_image(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits = {});
Result<Image> load_image(const std::filesystem::path& path, const ImageLimits& limits = {});

// The picture with the EXIF orientation (1 to 8) undone.
Image apply_orientation(Image image, int orientation);

// What the vision encoder takes: value / 255 as float32, [height][width][3], in [0, 1].
std::vector<float> pixel_values(const Image& image);

}  // namespace nestling
