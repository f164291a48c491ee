#include "media/resize.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/safetensors.h"

namespace nestling {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/resize";

Image load(const std::string& name) {
  auto image = load_image(kFolder / name);
  EXPECT_TRUE(image) << image.error().message;
  return image.value_or(Image{});
}

std::vector<int64_t> integers(const SafetensorsFile& file, const char* name) {
  const SafetensorsEntry* entry = file.find(name);
  if (!entry) return {};
  return file.read_integers(*entry).value_or(std::vector<int64_t>{});
}

uint64_t fnv1a(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001B3;
  return hash;
}

// One row of one channel pattern, the other channels as a check that they do not mix.
Image row_of(const std::vector<uint8_t>& values) {
  Image image{static_cast<int64_t>(values.size()), 1, {}};
  for (const uint8_t v : values) image.pixels.insert(image.pixels.end(), {v, 7, static_cast<uint8_t>(255 - v)});
  return image;
}

TEST(ResizeBilinear, CropsOfTransformersPillowBackEnd) {
  for (const std::string name : {"image_300x200", "image_1024x700", "image_1920x1080"}) {
    const auto golden = SafetensorsFile::open(kFolder / (name + ".safetensors"));
    ASSERT_TRUE(golden) << golden.error().message;
    const auto crop = integers(*golden, "input.crop");  // y, x, h, w
    const auto expected = integers(*golden, "resize.u8");
    ASSERT_EQ(crop.size(), 4u);
    ASSERT_EQ(expected.size(), 64u * 64 * 3);
    const Image resized = resize_bilinear(load(name + ".png"), 768, 768);
    std::vector<int64_t> found;
    for (int64_t y = crop[0]; y < crop[0] + crop[2]; ++y)
      for (int64_t i = crop[1] * 3; i < (crop[1] + crop[3]) * 3; ++i)
        found.push_back(resized.pixels[static_cast<size_t>(y * 768 * 3 + i)]);
    EXPECT_EQ(found, expected) << name;
  }
}

TEST(ResizeBilinear, WholePicturesEqualPillow) {
  std::ifstream list(kFolder / "hashes.txt");
  std::string name, hash;
  int64_t width = 0, height = 0;
  int cases = 0;
  while (list >> name >> width >> height >> hash) {
    const Image resized = resize_bilinear(load(name), width, height);
    EXPECT_EQ(resized.width, width);
    EXPECT_EQ(resized.height, height);
    EXPECT_EQ(fmt::format("{:016x}", fnv1a(resized.pixels)), hash) << name << " " << width << " x " << height;
    ++cases;
  }
  EXPECT_EQ(cases, 18);
}

// vision.md 1.3: the weights of single inputs, seen through an impulse of 255.
TEST(ResizeBilinear, WeightsOfTheFilter) {
  const auto response = [](int64_t in, int64_t at, int64_t out) {
    std::vector<uint8_t> values(static_cast<size_t>(in));
    values[static_cast<size_t>(at)] = 255;
    return static_cast<int>(resize_bilinear(row_of(values), 768, 1).pixels[static_cast<size_t>(out * 3)]);
  };
  EXPECT_EQ(response(1024, 0, 0), 179);      // 0.7
  EXPECT_EQ(response(1024, 1, 0), 76);       // 0.3: 76.5, the weight rounded down
  EXPECT_EQ(response(1024, 2, 1), 128);      // 0.5
  EXPECT_EQ(response(1024, 511, 383), 162);  // 0.636364
  EXPECT_EQ(response(1024, 1023, 767), 179);
  EXPECT_EQ(response(1920, 3, 0), 12);       // 0.045455
  EXPECT_EQ(response(1920, 3, 1), 92);       // 0.36
  EXPECT_EQ(response(1920, 1919, 767), 81);  // 0.318182
  EXPECT_EQ(response(640, 0, 0), 255);
  EXPECT_EQ(response(640, 1, 1), 191);       // 0.75
  EXPECT_EQ(response(640, 320, 383), 21);    // 0.083333
}

TEST(ResizeBilinear, SameSizeIsTheSamePicture) {
  const Image image = row_of({1, 2, 3, 250});
  EXPECT_EQ(resize_bilinear(image, 4, 1).pixels, image.pixels);
}

TEST(ResizeBilinear, ConstantStaysConstant) {
  for (const int64_t side : {1, 2, 255, 769, 1000}) {
    const Image image{side, side + 1, std::vector<uint8_t>(static_cast<size_t>(side * (side + 1) * 3), 201)};
    EXPECT_THAT(resize_bilinear(image, 256, 256).pixels, ::testing::Each(201)) << side;
  }
}

}  // namespace
}  // namespace nestling
