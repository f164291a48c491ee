#include "media/image.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "media/exif.h"
#include "media/media_file.h"

namespace nestling {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kFolder = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/image";

std::vector<std::byte> read(const std::filesystem::path& path) {
  auto bytes = read_media_file(path, 1 << 20);
  EXPECT_TRUE(bytes) << bytes.error().message;
  return bytes.value_or(std::vector<std::byte>{});
}

// NAME.rgb: what Pillow makes of NAME (see make_fixtures.py).
Image expected_pixels(const std::string& name) {
  const std::vector<std::byte> bytes = read(kFolder / (name + ".rgb"));
  uint32_t size[2] = {};
  std::memcpy(size, bytes.data(), sizeof size);
  const auto* pixels = reinterpret_cast<const uint8_t*>(bytes.data()) + sizeof size;
  return {size[0], size[1], std::vector<uint8_t>(pixels, pixels + (bytes.size() - sizeof size))};
}

int largest_difference(const Image& a, const Image& b) {
  if (a.pixels.size() != b.pixels.size()) return 256;
  int largest = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  return largest;
}

std::string error_of(const std::string& name) {
  const Result<Image> image = load_image(kFolder / "bad" / name);
  if (image) return "no error";
  EXPECT_EQ(image.error().code, ErrorCode::kFailed);
  EXPECT_THAT(image.error().message, ::testing::StartsWith((kFolder / "bad" / name).string() + ": "));
  EXPECT_THAT(image.error().message, ::testing::Not(HasSubstr("\n")));
  return image.error().message;
}

TEST(DecodeImage, GivesWhatPillowGives) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    const std::string name = entry.path().filename();
    if (!entry.is_regular_file() || entry.path().extension() == ".rgb") continue;
    const Result<Image> image = load_image(entry.path());
    ASSERT_TRUE(image) << image.error().message;
    const Image expected = expected_pixels(name);
    EXPECT_EQ(image->width, expected.width) << name;
    EXPECT_EQ(image->height, expected.height) << name;
    // Lossy decoders of other library versions may round differently.
    const bool lossy = entry.path().extension() == ".jpg" || name.starts_with("lossy");
    EXPECT_LE(largest_difference(*image, expected), lossy ? 2 : 0) << name;
    ++files;
  }
  EXPECT_EQ(files, 38);
}

TEST(DecodeImage, IgnoresTheFileName) {
  const std::vector<std::byte> png = read(kFolder / "rgb.png");
  const Result<Image> image = decode_image("photo.jpg", png);
  ASSERT_TRUE(image);
  EXPECT_EQ(largest_difference(*image, expected_pixels("rgb.png")), 0);
}

TEST(DecodeImage, OnePixel) {
  // The smallest GIF: 1 x 1, two colours, index 1.
  constexpr char kGif[] = "GIF87a\1\0\1\0\x80\0\0\0\0\0\xAA\xBB\xCC,\0\0\0\0\1\0\1\0\0\2\2L\1\0;";
  const Result<Image> image = decode_image("dot", std::as_bytes(std::span(kGif).first(sizeof kGif - 1)));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->width, 1);
  EXPECT_EQ(image->height, 1);
  EXPECT_THAT(image->pixels, ::testing::ElementsAre(0xAA, 0xBB, 0xCC));
}

TEST(DecodeImage, SaysWhatIsWrong) {
  EXPECT_THAT(error_of("empty.png"), HasSubstr("is empty"));
  EXPECT_THAT(error_of("text.png"), HasSubstr("is no known image or sound; a JPEG, PNG, WebP or GIF image is needed"));
  EXPECT_THAT(error_of("truncated_rgb.png"), HasSubstr("damaged PNG: the data ends early"));
  EXPECT_THAT(error_of("truncated_progressive.jpg"), HasSubstr("damaged JPEG: the data ends early"));
  EXPECT_THAT(error_of("truncated_still.gif"), HasSubstr("damaged GIF"));
  EXPECT_THAT(error_of("truncated_lossless.webp"), HasSubstr("damaged WebP"));
  EXPECT_THAT(error_of("wrong_checksum.png"), HasSubstr("damaged PNG"));
  EXPECT_THAT(error_of("first_chunk_is_not_the_header.png"), HasSubstr("damaged PNG"));
  EXPECT_THAT(error_of("no_frame.gif"), HasSubstr("no first frame"));
  EXPECT_THAT(error_of("not_there.png"), HasSubstr("No such file"));
  EXPECT_THAT(load_image(kFolder).error().message, HasSubstr("Is a directory"));
  const auto heic = std::as_bytes(std::span("\0\0\0\x18" "ftypheic\0\0\0\0"));
  EXPECT_EQ(decode_image("a.jpg", heic).error().message,
            "a.jpg: is an HEIC image; a JPEG, PNG, WebP or GIF image is needed");
}

TEST(DecodeImage, RefusesSizesBeforeTheyAreAllocated) {
  EXPECT_THAT(error_of("pixels_30000x30000.png"), HasSubstr("30000 x 30000 = 900000000 pixels; at most 67108864"));
  EXPECT_THAT(error_of("pixels_65500x65500.jpg"), HasSubstr("65500 x 65500 pixels; each side may be 1 to 32768"));
  EXPECT_THAT(error_of("pixels_65535x65535.gif"), HasSubstr("65535 x 65535 pixels; each side"));
  EXPECT_THAT(error_of("pixels_16384x16384.webp"), HasSubstr("16384 x 16384 = 268435456 pixels; at most"));
  EXPECT_THAT(error_of("negative_size.png"), HasSubstr("2147483649 x 5 pixels; each side"));
  EXPECT_THAT(error_of("no_pixels.png"), HasSubstr("0 x 5 pixels; each side"));
  EXPECT_THAT(error_of("no_rows.jpg"), HasSubstr("damaged JPEG"));
  EXPECT_THAT(error_of("bomb_5000x5000.png"), HasSubstr("5000 x 5000 pixels from 3112 bytes; at most 1000 pixels per"));
  EXPECT_THAT(error_of("bomb_300_scans.jpg"), HasSubstr("more than 100 scans"));
}

TEST(DecodeImage, LimitsAreTheCallers) {
  const std::vector<std::byte> png = read(kFolder / "rgb.png");
  EXPECT_TRUE(decode_image("a", png, {.max_encoded_bytes = png.size(), .max_side = 37, .max_pixels = 37 * 23}));
  EXPECT_THAT(decode_image("a", png, {.max_encoded_bytes = png.size() - 1}).error().message, HasSubstr("at most 528"));
  EXPECT_THAT(decode_image("a", png, {.max_side = 36}).error().message, HasSubstr("each side may be 1 to 36"));
  EXPECT_THAT(decode_image("a", png, {.max_pixels = 850}).error().message, HasSubstr("= 851 pixels; at most 850"));
  EXPECT_THAT(load_image(kFolder / "rgb.png", {.max_encoded_bytes = 100}).error().message, HasSubstr("at most 100"));
}

TEST(ApplyOrientation, MovesTheFirstPixelToItsCorner) {
  // Where the stored first pixel belongs: EXIF names the visual edges of row 0 and column 0.
  struct Case {
    int orientation;
    int64_t x, y;
    bool transposed;
  };
  for (const Case& c : {Case{1, 0, 0, false}, Case{2, 2, 0, false}, Case{3, 2, 1, false}, Case{4, 0, 1, false},
                        Case{5, 0, 0, true}, Case{6, 1, 0, true}, Case{7, 1, 2, true}, Case{8, 0, 2, true}}) {
    Image stored{3, 2, std::vector<uint8_t>(18)};
    stored.pixels[0] = 255;
    const Image upright = apply_orientation(stored, c.orientation);
    EXPECT_EQ(upright.width, c.transposed ? 2 : 3);
    EXPECT_EQ(upright.height, c.transposed ? 3 : 2);
    EXPECT_EQ(upright.pixels[static_cast<size_t>((c.y * upright.width + c.x) * 3)], 255) << c.orientation;
    EXPECT_EQ(std::ranges::count(upright.pixels, 255), 1);
  }
}

TEST(ExifOrientation, BothByteOrdersAndDamage) {
  std::string intel("II*\0\x08\0\0\0\x02\0" "\x10\x01\x02\0\0\0\0\0\0\0\0\0" "\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 34);
  const std::string motorola("Exif\0\0MM\0*\0\0\0\x08\0\x01" "\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 28);
  const auto orientation = [](const std::string& text) { return exif_orientation(std::as_bytes(std::span(text))); };
  EXPECT_EQ(orientation(intel), 6);
  EXPECT_EQ(orientation(motorola), 8);
  for (size_t n = 0; n < 32; ++n) EXPECT_EQ(orientation(intel.substr(0, n)), 1) << n;
  intel[30] = 9;
  EXPECT_EQ(orientation(intel), 1);
  intel[4] = intel[5] = intel[6] = intel[7] = '\xFF';  // a directory far beyond the end
  EXPECT_EQ(orientation(intel), 1);
}

TEST(PixelValues, AreDividedBy255) {
  const Image image{1, 2, {0, 1, 255, 128, 51, 2}};
  EXPECT_THAT(pixel_values(image), ::testing::ElementsAre(0.0f, 1 * (1.0f / 255), 1.0f, 128 * (1.0f / 255),
                                                          51 * (1.0f / 255), 2 * (1.0f / 255)));
}

}  // namespace
}  // namespace nestling
