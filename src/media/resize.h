// Resampling of pictures to the size the vision encoder takes.
#pragma once

#include <cstdint>

#include "media/image.h"

namespace nestling {

// Antialiased bilinear (triangle filter), each axis by itself: the aspect ratio is not kept. Equal bit for bit to
// Pillow's Image.resize((width, height), BILINEAR): horizontal pass first, fixed-point weights of 22 bits, the result
// of either pass rounded to 8 bits.
Image resize_bilinear(const Image& image, int64_t width, int64_t height);

}  // namespace nestling
