// The adapter to giflib.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "media/image_codecs.h"

namespace nestling {
namespace {

int on_read(GifFileType* gif, GifByteType* out, int bytes) {
  auto& rest = *static_cast<std::span<const std::byte>*>(gif->UserData);
  const size_t n = std::min(rest.size(), static_cast<size_t>(std::max(bytes, 0)));
  if (n > 0) std::memcpy(out, rest.data(), n);
  rest = rest.subspan(n);
  return static_cast<int>(n);
}

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};
using GifPointer = std::unique_ptr<GifFileType, CloseGif>;

// Skips to the first picture; the index of its transparent colour is left in `transparent` (-1 = none).
bool find_first_frame(GifFileType* gif, int& transparent) {
  while (true) {
    GifRecordType record;
    if (DGifGetRecordType(gif, &record) == GIF_ERROR) return false;
    if (record == IMAGE_DESC_RECORD_TYPE) return DGifGetImageDesc(gif) != GIF_ERROR;
    if (record != EXTENSION_RECORD_TYPE) return false;
    int code = 0;
    GifByteType* block = nullptr;  // its first byte is its length
    if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) return false;
    while (block) {
      GraphicsControlBlock control;
      if (code == GRAPHICS_EXT_FUNC_CODE && DGifExtensionToGCB(block[0], block + 1, &control) != GIF_ERROR)
        transparent = control.TransparentColor;
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return false;
    }
  }
}

using Palette = std::array<std::array<uint8_t, 3>, 256>;

// The frame's own palette, the file's, or grey levels; indices beyond its end are black.
Palette palette_of(const GifFileType* gif) {
  Palette palette{};
  const ColorMapObject* colors = gif->Image.ColorMap ? gif->Image.ColorMap : gif->SColorMap;
  for (size_t i = 0; !colors && i < palette.size(); ++i) palette[i].fill(static_cast<uint8_t>(i));
  for (int i = 0; colors && i < std::min(colors->ColorCount, 256); ++i)
    palette[static_cast<size_t>(i)] = {colors->Colors[i].Red, colors->Colors[i].Green, colors->Colors[i].Blue};
  return palette;
}

// The rows of a frame in the order in which the file stores them.
std::vector<int> row_order(int rows, bool interlaced) {
  std::vector<int> order;
  if (!interlaced)
    for (int y = 0; y < rows; ++y) order.push_back(y);
  else
    for (const auto& [first, step] : {std::pair(0, 8), std::pair(4, 8), std::pair(2, 4), std::pair(1, 2)})
      for (int y = first; y < rows; y += step) order.push_back(y);
  return order;
}

}  // namespace

Result<DecodedImage> decode_gif(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits) {
  std::span<const std::byte> rest = encoded;
  int code = 0;
  const GifPointer gif(DGifOpen(&rest, on_read, &code));
  int transparent = NO_TRANSPARENT_COLOR;
  if (!gif || !find_first_frame(gif.get(), transparent))
    return fail(ErrorCode::kFailed, "{}: damaged GIF: no first frame", name);

  // A frame that reaches beyond the screen makes the picture larger, as in Pillow.
  const GifImageDesc& frame = gif->Image;
  const int64_t right = int64_t{frame.Left} + frame.Width, bottom = int64_t{frame.Top} + frame.Height;
  if (frame.Left < 0 || frame.Top < 0 || frame.Width < 1 || frame.Height < 1)
    return fail(ErrorCode::kFailed, "{}: damaged GIF: a first frame of {} x {} pixels", name, frame.Width,
                frame.Height);
  DecodedImage decoded;
  NESTLING_TRY(decoded.image, allocate_image(name, static_cast<uint64_t>(std::max<int64_t>(gif->SWidth, right)),
                                             static_cast<uint64_t>(std::max<int64_t>(gif->SHeight, bottom)),
                                             encoded.size(), limits));
  Image& image = decoded.image;
  const Palette palette = palette_of(gif.get());
  const auto& outside = palette[static_cast<size_t>(std::clamp(transparent, 0, 255))];
  for (size_t i = 0; i < image.pixels.size(); i += 3) std::copy_n(outside.data(), 3, &image.pixels[i]);

  std::vector<GifPixelType> row(static_cast<size_t>(frame.Width));
  for (const int y : row_order(frame.Height, frame.Interlace)) {
    if (DGifGetLine(gif.get(), row.data(), frame.Width) == GIF_ERROR)
      return fail(ErrorCode::kFailed, "{}: damaged GIF: its pixels cannot be decoded to the end", name);
    uint8_t* out = &image.pixels[static_cast<size_t>(((frame.Top + y) * image.width + frame.Left) * 3)];
    for (const GifPixelType index : row) out = std::copy_n(palette[index].data(), 3, out);
  }
  return decoded;
}

}  // namespace nestling
