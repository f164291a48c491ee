// The adapter to libjpeg-turbo.
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it and does not include it
#include <jpeglib.h>
#include <jerror.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "media/exif.h"
#include "media/image_codecs.h"

namespace nestling {
namespace {

// A progressive file may hold scans without end, each as expensive as the whole picture and a few bytes long.
constexpr int kMaxScans = 100;

// libjpeg reports errors by a call that must not return: it jumps back to the function that called the library. Those
// functions hold nothing that needs a destructor.
struct JpegReader {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};
  char message[JMSG_LENGTH_MAX]{};

  explicit JpegReader(std::span<const std::byte> encoded);
  JpegReader(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&info); }

  [[noreturn]] void stop(const char* reason) {
    std::snprintf(message, sizeof message, "%s", reason);
    std::longjmp(jump, 1);
  }
};

JpegReader& reader_of(j_common_ptr info) { return *static_cast<JpegReader*>(info->client_data); }

[[noreturn]] void on_error(j_common_ptr info) {
  JpegReader& reader = reader_of(info);
  char text[JMSG_LENGTH_MAX];
  info->err->format_message(info, text);
  reader.stop(text);
}

// Warnings are tolerated, as Pillow does, except data that ends early: libjpeg would paint the rest grey.
void on_message(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) reader_of(info).stop("the data ends early");
}

void on_progress(j_common_ptr info) {
  if (!info->is_decompressor) return;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans)
    reader_of(info).stop("more than 100 scans, the most that is allowed");
}

JpegReader::JpegReader(std::span<const std::byte> encoded) {
  info.err = jpeg_std_error(&errors);
  errors.error_exit = on_error;
  errors.emit_message = on_message;
  progress.progress_monitor = on_progress;
  info.client_data = this;
  if (setjmp(jump)) return;
  jpeg_create_decompress(&info);
  info.progress = &progress;
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(encoded.data()), encoded.size());
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
}

bool read_header(JpegReader& reader) {
  if (reader.message[0] != 0 || setjmp(reader.jump)) return false;
  jpeg_read_header(&reader.info, TRUE);
  const bool cmyk = reader.info.num_components == 4;
  reader.info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  return true;
}

// `row` has room for one row of four components.
bool read_rows(JpegReader& reader, Image& image, JSAMPLE* row) {
  if (setjmp(reader.jump)) return false;
  jpeg_start_decompress(&reader.info);
  const size_t stride = static_cast<size_t>(image.width) * 3;
  while (reader.info.output_scanline < reader.info.output_height) {
    uint8_t* out = image.pixels.data() + reader.info.output_scanline * stride;
    if (reader.info.output_components == 3) {
      jpeg_read_scanlines(&reader.info, &out, 1);
      continue;
    }
    jpeg_read_scanlines(&reader.info, &row, 1);
    // Adobe stores 255 - ink, and everybody followed. Ink c under black k leaves (255 - c)(255 - k) / 255, rounded the
    // way Pillow rounds it.
    for (int64_t x = 0; x < image.width; ++x)
      for (int64_t c = 0; c < 3; ++c) {
        const int black_left = row[x * 4 + 3], ink = 255 - row[x * 4 + c];
        const int product = ink * black_left + 128;
        out[x * 3 + c] = static_cast<uint8_t>(black_left - ((product + (product >> 8)) >> 8));
      }
  }
  return true;
}

int find_orientation(const JpegReader& reader) {
  for (const auto* marker = reader.info.marker_list; marker; marker = marker->next) {
    const std::span data(reinterpret_cast<const std::byte*>(marker->data), marker->data_length);
    if (data.size() > 6 && std::memcmp(data.data(), "Exif\0\0", 6) == 0) return exif_orientation(data);
  }
  return 1;
}

}  // namespace

Result<DecodedImage> decode_jpeg(std::string_view name, std::span<const std::byte> encoded, const ImageLimits& limits) {
  JpegReader reader(encoded);
  if (!read_header(reader)) return fail(ErrorCode::kFailed, "{}: damaged JPEG: {}", name, reader.message);
  DecodedImage decoded;
  NESTLING_TRY(decoded.image, allocate_image(name, reader.info.image_width, reader.info.image_height, encoded.size(),
                                             limits));
  decoded.orientation = find_orientation(reader);
  std::vector<JSAMPLE> row(static_cast<size_t>(decoded.image.width) * 4);
  if (!read_rows(reader, decoded.image, row.data()))
    return fail(ErrorCode::kFailed, "{}: damaged JPEG: {}", name, reader.message);
  return decoded;
}

}  // namespace nestling
