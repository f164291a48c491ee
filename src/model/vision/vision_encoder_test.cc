#include "model/vision/vision_encoder.h"

#include <cmath>
#include <map>

#include <gmock/gmock.h>

#include "model/vision/test_network.h"

namespace nestling {
namespace {

using testing::HasSubstr;

struct Map {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

class Recorder : public Taps {
 public:
  bool wants(const std::string&) const override { return true; }
  void record(const std::string& name, const std::vector<int64_t>& shape, const float* data, int64_t) override {
    int64_t count = 1;
    for (const int64_t n : shape) count *= n;
    maps[name] = {shape, {data, data + count}};
  }
  std::map<std::string, Map> maps;
};

std::vector<float> noise(int64_t size, uint32_t seed = 3) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> pixels(static_cast<size_t>(size * size * 3));
  for (float& v : pixels) v = uniform(random);
  return pixels;
}

std::vector<float> encode(const Package& package, const std::vector<float>& pixels, int64_t size, int threads = 2,
                          Taps* taps = nullptr, const std::string& set = "") {
  const auto encoder = VisionEncoder::bind(package);
  EXPECT_TRUE(encoder) << encoder.error().message;
  const auto kernels = set.empty() ? Kernels::choose() : Kernels::named(set);
  ThreadPool pool(threads);
  std::vector<float> rows(static_cast<size_t>(kVisionTokens * encoder->width()));
  const Status status = encoder->encode(*kernels, pool, pixels.data(), size, rows.data(), taps);
  EXPECT_TRUE(status) << status.error().message;
  return rows;
}

TEST(VisionEncoder, EveryTapHasItsShape) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture());
  for (const int64_t size : {256, 512, 768}) {
    Recorder taps;
    encode(package, noise(size), size, 2, &taps);
    EXPECT_EQ(taps.maps["vision.stem"].shape, (std::vector<int64_t>{size / 2, size / 2, 6}));
    EXPECT_EQ(taps.maps["vision.stages.0"].shape, (std::vector<int64_t>{size / 4, size / 4, 10}));
    EXPECT_EQ(taps.maps["vision.stages.2"].shape, (std::vector<int64_t>{size / 16, size / 16, 18}));
    EXPECT_EQ(taps.maps["vision.blocks.3.2"].shape, (std::vector<int64_t>{size / 32, size / 32, 16}));
    EXPECT_EQ(taps.maps["vision.encoder_out"].shape, (std::vector<int64_t>{256, 20}));
    EXPECT_EQ(taps.maps["vision.msfa"].values, taps.maps["vision.encoder_out"].values);
  }
}

TEST(VisionEncoder, OtherSizesAreRefused) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture());
  const auto encoder = VisionEncoder::bind(package);
  const auto kernels = Kernels::choose();
  ThreadPool pool(1);
  for (const int64_t size : {0, 224, 255, 1024}) {
    const Status status = encoder->encode(*kernels, pool, nullptr, size, nullptr);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kUsage);
    EXPECT_THAT(status.error().message, HasSubstr(fmt::format("{0}x{0} pixels; 256, 512 or 768", size)));
  }
}

// The last norm has mean weight 1: a row's root mean square is near that of the weights, whatever the picture.
TEST(VisionEncoder, RowsAreNormed) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture(), {.fill = [](const auto& name, auto& values) {
    if (name == "msfa.norm.weight") std::ranges::fill(values, 1.0f);
  }});
  const std::vector<float> rows = encode(package, noise(256), 256);
  for (int64_t t = 0; t < kVisionTokens; ++t) {
    double squares = 0;
    for (int64_t c = 0; c < 20; ++c) squares += std::pow(rows[static_cast<size_t>(t * 20 + c)], 2);
    EXPECT_NEAR(squares / 20, 1, 1e-4);
  }
}

class VisionWeights : public testing::TestWithParam<WeightType> {};

TEST_P(VisionWeights, ThreadsChangeNoBit) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture(), {.weights = GetParam()});
  const std::vector<float> pixels = noise(256);
  const std::vector<float> alone = encode(package, pixels, 256, 1);
  for (const int threads : {2, 3, 7}) EXPECT_EQ(encode(package, pixels, 256, threads), alone) << threads << " threads";
}

TEST_P(VisionWeights, KernelsChangeNoBit) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture(), {.weights = GetParam()});
  const std::vector<float> pixels = noise(256);
  const std::vector<float> portable = encode(package, pixels, 256, 2, nullptr, "scalar");
  for (const std::string_view set : Kernels::available())
    EXPECT_EQ(encode(package, pixels, 256, 2, nullptr, std::string(set)), portable) << set;
}

// A number rounded to 8 bits of its row's largest is off by about 1 % of the row's root mean square, so a product of
// two such rows by 1.5 %; two dozen of them in a row, some of them adding up in the residuals, give at most about 14 %, a
// cosine of 0.99. bf16 is off by 0.2 % of each number.
TEST_P(VisionWeights, RowsStayCloseToFloat32) {
  const TestDirectory directory, other;
  const std::vector<float> pixels = noise(256);
  const std::vector<float> exact = encode(write_tower(directory, small_architecture()), pixels, 256);
  const Package coded = write_tower(other, small_architecture(), {.weights = GetParam()});
  const std::vector<float> rows = encode(coded, pixels, 256);
  const double least = GetParam() == WeightType::kF32 ? 1 - 1e-12 : GetParam() == WeightType::kBF16 ? 0.9999 : 0.99;
  for (size_t t = 0; t < kVisionTokens; ++t) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = t * 20; i < (t + 1) * 20; ++i) {
      const double x = exact[i], y = rows[i];
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    EXPECT_GT(ab / std::sqrt(aa * bb), least) << "token " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(, VisionWeights, testing::Values(WeightType::kF32, WeightType::kBF16, WeightType::kI8),
                         [](const auto& tested) { return std::string(weight_type_name(tested.param)); });

// A block whose layer scale is zero hands its input on, where it has a skip.
TEST(VisionEncoder, LayerScaleZeroMakesBlocksTheIdentity) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture(), {.fill = [](const auto& name, auto& values) {
    if (name.ends_with("layer_scale.gamma")) std::ranges::fill(values, 0.0f);
  }});
  Recorder taps;
  encode(package, noise(256), 256, 2, &taps);
  const auto expect_same = [&](const char* before, const char* after) {
    EXPECT_EQ(taps.maps[before].values, taps.maps[after].values) << after;
  };
  expect_same("vision.blocks.1.0", "vision.blocks.1.1");
  expect_same("vision.blocks.2.0", "vision.blocks.2.1");
  expect_same("vision.blocks.2.1", "vision.blocks.2.2");
  expect_same("vision.blocks.3.0", "vision.blocks.3.1");
  EXPECT_NE(taps.maps["vision.blocks.0.0"].values, taps.maps["vision.blocks.0.1"].values);  // has no layer scale
}

// Rows and columns must not change places anywhere on the way.
TEST(VisionEncoder, OneQuadrantOfThePictureExcitesThatQuadrantOfTheGrid) {
  const TestDirectory directory;
  // Without attention, which sees the whole picture everywhere.
  const Package package = write_tower(directory, small_architecture(), {.fill = [](const auto& name, auto& values) {
    if (name.ends_with("attn.output.proj.weight")) std::ranges::fill(values, 0.0f);
  }});
  const std::vector<float> grey(256 * 256 * 3, 0.5f), plain = encode(package, grey, 256);
  for (int quadrant = 0; quadrant < 4; ++quadrant) {
    std::vector<float> pixels = grey;
    for (int64_t y = 0; y < 128; ++y)
      for (int64_t x = 0; x < 128 * 3; ++x)
        pixels[static_cast<size_t>(((quadrant / 2) * 128 + y) * 256 * 3 + quadrant % 2 * 128 * 3 + x)] =
            static_cast<float>((x * 7 + y * 13) % 10) / 10;
    const std::vector<float> rows = encode(package, pixels, 256);
    double change[4] = {};
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t token = i / 20, y = token / 16, x = token % 16;
      change[y / 8 * 2 + x / 8] += std::fabs(rows[i] - plain[i]);
    }
    for (int other = 0; other < 4; ++other) {
      if (other == quadrant) continue;
      EXPECT_GT(change[quadrant], 2 * change[other]) << quadrant << " against " << other;
    }
  }
}

// A sparse file with the published shapes: what a picture needs beyond the weights (checked against by every arena).
TEST(VisionEncoder, WorkspaceOfThePublishedNetwork) {
  const TestDirectory directory;
  std::vector<PackageTensor> tensors;
  for (const TowerTensor& t : vision_tensors(published_vision_architecture()))
    tensors.push_back(stored(t, WeightType::kI8));
  auto writer = PackageWriter::create(directory / "p.nest", {.config_json = "{}"}, tensors);
  ASSERT_TRUE(writer && writer->commit());
  auto package = Package::open(directory / "p.nest");
  ASSERT_TRUE(package && package->load_region(Region::kVision));
  const auto encoder = VisionEncoder::bind(*package);
  ASSERT_TRUE(encoder) << encoder.error().message;
  EXPECT_EQ(encoder->width(), 2048);
  EXPECT_NEAR(static_cast<double>(encoder->multiply_adds(768)) / 1e9, 435.741, 5e-4);
  EXPECT_LE(encoder->workspace_bytes(768, 2), 120'000'000u);
  EXPECT_LE(encoder->workspace_bytes(256, 2), encoder->workspace_bytes(512, 2));
  EXPECT_LE(encoder->workspace_bytes(512, 2), encoder->workspace_bytes(768, 2));
  EXPECT_LT(encoder->workspace_bytes(768, 1), encoder->workspace_bytes(768, 2));
}

std::string refusal(const std::function<void(std::vector<TowerTensor>&)>& edit) {
  const TestDirectory directory;
  const Package package = write_tower(directory, small_architecture(), {.edit = edit});
  const auto encoder = VisionEncoder::bind(package);
  if (encoder) return "accepted";
  EXPECT_EQ(encoder.error().code, ErrorCode::kModel);
  return encoder.error().message;
}

TowerTensor& find(std::vector<TowerTensor>& tensors, std::string_view package_name) {
  return *std::ranges::find(tensors, package_name, &TowerTensor::package);
}

TEST(VisionEncoder, PackagesThatDoNotFitAreRefused) {
  const auto without = [](std::string_view name) {
    return refusal([name](auto& all) { std::erase_if(all, [&](const auto& t) { return t.package == name; }); });
  };
  EXPECT_THAT(without("v.blk.2.1.norm.weight"), HasSubstr("blocks.2.1.norm.weight is missing"));
  EXPECT_THAT(without("v.blk.1.1.pw_exp.conv.weight"), HasSubstr("vision block blocks.1.1. has none of"));
  EXPECT_THAT(without("v.conv_stem.conv.bias"), HasSubstr("first upload"));
  EXPECT_THAT(without("v.msfa.norm.weight"), HasSubstr("msfa.norm.weight is missing"));
  EXPECT_THAT(refusal([](auto& all) { find(all, "v.blk.2.1.attn.output.proj.weight").rows = 17; }),
              HasSubstr("blocks.2.1.attn.output.proj.weight has shape [17, 24, 1, 1]; the tensors before it need "
                        "[18, 24, 1, 1]"));
  EXPECT_THAT(refusal([](auto& all) { find(all, "v.blk.1.0.dw_start.conv.weight").rows = 8; }),
              HasSubstr("blocks.1.0.dw_start.conv.weight has shape [8, 10]; four axes are needed"));
  EXPECT_THAT(refusal([](auto& all) { find(all, "v.blk.1.0.dw_start.conv.weight").rows = 16; }),
              HasSubstr("has a kernel of 4; odd ones are allowed"));
  EXPECT_THAT(refusal([](auto& all) { find(all, "v.blk.0.0.bn1.weight").rows = 2; }),
              HasSubstr("blocks.0.0.bn1.weight has shape [2, 24]"));
  EXPECT_THAT(refusal([](auto& all) { find(all, "v.blk.0.0.conv_exp.weight").role = TowerRole::kTable; }),
              HasSubstr("v.blk.0.0.conv_exp.weight is f32 in layout rows; f32, bf16 or i8 in il16 is needed"));
  EXPECT_THAT(refusal([](auto& all) { find(all, "v.blk.0.0.bn2.weight").package = "v.blk.0.0.bn3.weight"; }),
              HasSubstr("blocks.0.0.bn2.weight is missing"));
  EXPECT_THAT(refusal([](auto& all) {
                TowerTensor extra = find(all, "v.blk.0.0.bn2.weight");
                extra.package = "v.blk.7.0.bn2.weight";
                all.push_back(extra);
              }),
              HasSubstr("blocks.7.0.bn2.weight is not one that the network has"));
}

}  // namespace
}  // namespace nestling
