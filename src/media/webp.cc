// The adapter to libwebp and libwebpdemux.
#include <webp/decode.h>
#include <webp/demux.h>

#include <cstdint>
#include <memory>

#include "media/exif.h"
#include "media/image_codecs.h"

namespace nestling {
namespace {

const uint8_t* bytes_of(std::span<const std::byte> encoded) { return reinterpret_cast<const uint8_t*>(encoded.data()); }

bool decode_still(std::span<const std::byte> encoded, Image& image) {
  const auto stride = static_cast<int>(image.width * 3);
  return WebPDecodeRGBInto(bytes_of(encoded), encoded.size(), image.pixels.data(), image.pixels.size(), stride);
}

// The canvas after the first frame: outside that frame it is black (transparent, with the alpha dropped).
bool decode_first_frame(std::span<const std::byte> encoded, Image& image) {
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  const WebPData data{bytes_of(encoded), encoded.size()};
  const std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(WebPAnimDecoderNew(&data, &options),
                                                                             WebPAnimDecoderDelete);
  uint8_t* rgba = nullptr;
  int timestamp = 0;
  if (!decoder || !WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp)) return false;
  for (size_t i = 0; i < image.pixels.size() / 3; ++i)
    for (size_t c = 0; c < 3; ++c) image.pixels[i * 3 + c] = rgba[i * 4 + c];
  return true;
}

int find_orientation(std::span<const std::byte> encoded) {
  const WebPData data{bytes_of(encoded), encoded.size()};
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data), WebPDemuxDelete);
  if (!demuxer) return 1;
  WebPChunkIterator chunk{};
  int orientation = 1;
  if (WebPDemuxGetChunk(demuxer.get(), "EXIF", 1, &chunk))
    orientation = exif_orientation({reinterpret_cast<const std::byte*>(chunk.chunk.bytes), chunk.chunk.size});
  WebPDemuxReleaseChunkIterator(&chunk);
  return orientation;
}

}  // namespace

Result<DecodedImage> decode_webp(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits) {
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(bytes_of(encoded), encoded.size(), &features);
  if (status != VP8_STATUS_OK)
    return fail(ErrorCode::kFailed, "{}: damaged WebP: {}", name,
                status == VP8_STATUS_NOT_ENOUGH_DATA ? "the data ends early" : "its header makes no sense");
  DecodedImage decoded;
  NESTLING_TRY(decoded.image, allocate_image(name, static_cast<uint64_t>(features.width),
                                             static_cast<uint64_t>(features.height), encoded.size(), limits));
  const bool complete = features.has_animation ? decode_first_frame(encoded, decoded.image)
                                               : decode_still(encoded, decoded.image);
  if (!complete) return fail(ErrorCode::kFailed, "{}: damaged WebP: its pixels cannot be decoded to the end", name);
  decoded.orientation = find_orientation(encoded);
  return decoded;
}

}  // namespace nestling
