// The adapter to libpng.
#include <csetjmp>
#include <png.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "media/exif.h"
#include "media/image_codecs.h"

namespace nestling {
namespace {

constexpr png_alloc_size_t kMaxChunkBytes = 4 << 20;  // of a text, profile or EXIF chunk, unpacked

// libpng reports errors by a call that must not return: it jumps back to the function that called the library. Those
// functions hold nothing that needs a destructor.
struct PngReader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::span<const std::byte> rest;  // not read yet
  char message[128]{};

  PngReader(std::span<const std::byte> encoded, const ImageLimits& limits);
  PngReader(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto& reader = *static_cast<PngReader*>(png_get_error_ptr(png));
  std::snprintf(reader.message, sizeof reader.message, "%s", text);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, size_t bytes) {
  auto& reader = *static_cast<PngReader*>(png_get_io_ptr(png));
  if (reader.rest.size() < bytes) png_error(png, "the data ends early");
  std::memcpy(out, reader.rest.data(), bytes);
  reader.rest = reader.rest.subspan(bytes);
}

PngReader::PngReader(std::span<const std::byte> encoded, const ImageLimits& limits) : rest(encoded) {
  png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
  if (!png) return;
  info = png_create_info_struct(png);
  png_set_read_fn(png, this, on_read);
  const auto side = static_cast<png_uint_32>(limits.max_side);
  png_set_user_limits(png, side, side);
  png_set_chunk_malloc_max(png, kMaxChunkBytes);
  png_set_chunk_cache_max(png, 64);
}

bool read_header(PngReader& reader) {
  if (!reader.png || !reader.info) {
    std::snprintf(reader.message, sizeof reader.message, "out of memory");
    return false;
  }
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_read_info(reader.png, reader.info);
  // Every kind of PNG to 8-bit RGB. Pillow ignores the gamma chunk, and so do we.
  png_set_palette_to_rgb(reader.png);
  png_set_expand_gray_1_2_4_to_8(reader.png);
  png_set_strip_16(reader.png);
  png_set_gray_to_rgb(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return true;
}

bool read_pixels(PngReader& reader, png_bytepp rows) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_read_image(reader.png, rows);
  return true;
}

// The pixels are complete: what follows them can bring an orientation but not break the picture.
int find_orientation(PngReader& reader) {
  if (!setjmp(png_jmpbuf(reader.png))) png_read_end(reader.png, reader.info);
  png_uint_32 bytes = 0;
  png_bytep exif = nullptr;
  if (!png_get_eXIf_1(reader.png, reader.info, &bytes, &exif)) return 1;
  return exif_orientation({reinterpret_cast<const std::byte*>(exif), bytes});
}

uint64_t big_endian_32(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | std::to_integer<uint64_t>(bytes[i]);
  return value;
}

}  // namespace

Result<DecodedImage> decode_png(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits) {
  constexpr size_t kSizeOffset = 16, kHeaderEnd = 33;  // signature, then IHDR with its length, type and checksum
  if (encoded.size() < kHeaderEnd) return fail(ErrorCode::kFailed, "{}: damaged PNG: the data ends early", name);
  // The size is read here and not by libpng, which refuses one beyond its limits without saying what it was.
  DecodedImage decoded;
  NESTLING_TRY(decoded.image, allocate_image(name, big_endian_32(encoded.subspan(kSizeOffset)),
                                             big_endian_32(encoded.subspan(kSizeOffset + 4)), encoded.size(), limits));
  PngReader reader(encoded, limits);
  const size_t stride = static_cast<size_t>(decoded.image.width) * 3;
  if (!read_header(reader)) return fail(ErrorCode::kFailed, "{}: damaged PNG: {}", name, reader.message);
  if (png_get_rowbytes(reader.png, reader.info) != stride ||
      png_get_image_height(reader.png, reader.info) != static_cast<uint64_t>(decoded.image.height))
    return fail(ErrorCode::kFailed, "{}: damaged PNG: its header is not the first chunk", name);
  std::vector<png_bytep> rows(static_cast<size_t>(decoded.image.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = decoded.image.pixels.data() + y * stride;
  if (!read_pixels(reader, rows.data())) return fail(ErrorCode::kFailed, "{}: damaged PNG: {}", name, reader.message);
  decoded.orientation = find_orientation(reader);
  return decoded;
}

}  // namespace nestling
