// EXIF, as far as it matters here: which way up a picture is.
#pragma once

#include <cstddef>
#include <span>

namespace nestling {

// The orientation (tag 0x0112 of the first directory), 1 to 8, of a block of EXIF data with or without its "Exif\0\0"
// prefix; 1 where there is none or where the block is damaged.
int exif_orientation(std::span<const std::byte> exif);

}  // namespace nestling
