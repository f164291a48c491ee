#include "model/vision_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nestling {
namespace {

using testing::HasSubstr;

TensorShapes shapes_of(const VisionArchitecture& architecture) {
  TensorShapes shapes;
  for (const TowerTensor& t : vision_tensors(architecture))
    shapes[t.checkpoint.substr(kVisionCheckpointPrefix.size())] = t.shape;
  return shapes;
}

std::string refusal(const TensorShapes& shapes) {
  const auto architecture = vision_architecture("model", shapes);
  if (architecture) return "accepted";
  EXPECT_EQ(architecture.error().code, ErrorCode::kModel);
  return architecture.error().message;
}

TEST(VisionTensors, ThePublishedTower) {
  const VisionArchitecture a = published_vision_architecture();
  ASSERT_EQ(a.blocks.size(), 84u);
  int64_t values = 0, tensors = 0, four_axes = 0;
  for (const TowerTensor& t : vision_tensors(a)) {
    int64_t count = 1;
    for (const int64_t n : t.shape) count *= n;
    EXPECT_EQ(count, t.rows * t.cols) << t.checkpoint;
    values += count;
    four_axes += t.shape.size() == 4;
    ++tensors;
  }
  EXPECT_EQ(tensors, 548);
  EXPECT_EQ(values, 294'126'912);
  EXPECT_EQ(four_axes, 282);
  EXPECT_EQ(a.stage_channels(0), 128);
  EXPECT_EQ(a.stage_channels(2), 640);
  EXPECT_EQ(a.stage_channels(3), 1280);
}

// timm publishes 435.74 GMAC for 768 x 768 pixels.
TEST(VisionTensors, MultiplyAdds) {
  const VisionArchitecture a = published_vision_architecture();
  EXPECT_NEAR(static_cast<double>(vision_multiply_adds(a, 768)) / 1e9, 435.741, 5e-4);
  EXPECT_NEAR(static_cast<double>(vision_multiply_adds(a, 512)) / 1e9, 181.835, 5e-4);
  EXPECT_NEAR(static_cast<double>(vision_multiply_adds(a, 256)) / 1e9, 43.685, 5e-4);
}

TEST(VisionTensors, TheNetworkIsReadOffItsShapes) {
  const VisionArchitecture published = published_vision_architecture();
  const auto read = vision_architecture("model", shapes_of(published));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, published);

  VisionArchitecture narrow = published;
  narrow.stem = narrow.blocks[0].in = 32;
  narrow.blocks[0].mid = 96;
  const auto narrow_read = vision_architecture("model", shapes_of(narrow));
  ASSERT_TRUE(narrow_read) << narrow_read.error().message;
  EXPECT_EQ(*narrow_read, narrow);
}

TEST(VisionTensors, NamesAndShapesInAPackage) {
  for (const TowerTensor& t : vision_tensors(published_vision_architecture())) {
    const std::string name = vision_timm_name(t.package);
    EXPECT_EQ(std::string(kVisionCheckpointPrefix) + name, t.checkpoint);
    EXPECT_EQ(vision_package_name(name), t.package);
    EXPECT_EQ(vision_checkpoint_shape(name, t.rows, t.cols), t.shape) << t.checkpoint;
    EXPECT_LT(t.package.size(), 64u);  // the limit of GGUF readers
  }
  EXPECT_EQ(vision_package_name("blocks.2.9.attn.key.down_conv.weight"), "v.blk.2.9.attn.key.down_conv.weight");
  EXPECT_EQ(vision_package_name("conv_stem.conv.bias"), "v.conv_stem.conv.bias");
  EXPECT_EQ(vision_timm_name("mm.embedding.weight"), "");
  EXPECT_EQ(vision_checkpoint_shape("blocks.1.0.dw_mid.conv.weight", 24, 8), (std::vector<int64_t>{24, 8}));
}

TEST(VisionTensors, TheFirstUploadIsRecognised) {
  TensorShapes shapes = shapes_of(published_vision_architecture());
  shapes.erase("conv_stem.conv.bias");
  EXPECT_THAT(refusal(shapes), HasSubstr("conv_stem.conv.bias is missing: this is the first upload"));
}

TEST(VisionTensors, MismatchesNameTensorFoundAndNeeded) {
  const TensorShapes good = shapes_of(published_vision_architecture());
  const auto with = [&](const char* name, std::vector<int64_t> shape) {
    TensorShapes shapes = good;
    shapes[name] = std::move(shape);
    return refusal(shapes);
  };
  EXPECT_THAT(with("blocks.2.9.attn.value.proj.weight", {96, 640, 1, 1}),
              HasSubstr("blocks.2.9.attn.value.proj.weight has shape [96, 640, 1, 1]; the tensors before it need "
                        "[64, 640, 1, 1]"));
  EXPECT_THAT(with("blocks.1.2.pw_exp.conv.weight", {1024, 256, 3, 3}),
              HasSubstr("blocks.1.2.pw_exp.conv.weight has shape [1024, 256, 3, 3]"));
  EXPECT_THAT(with("msfa.ffn.pw_exp.conv.weight", {3840, 1280, 1, 1}), HasSubstr("[3840, 1920, 1, 1]"));
  EXPECT_THAT(with("conv_stem.conv.weight", {64, 1, 3, 3}), HasSubstr("[64, 3, 3, 3]"));
  EXPECT_THAT(with("blocks.0.0.conv_exp.weight", {0, 64, 3, 3}), HasSubstr("axis 0 may be 1 to 8192"));
  EXPECT_THAT(with("blocks.0.0.conv_exp.weight", {int64_t{1} << 40, 64, 3, 3}), HasSubstr("axis 0 may be 1 to 8192"));
  EXPECT_THAT(with("blocks.1.0.dw_mid.conv.weight", {768, 1, 4, 4}), HasSubstr("a kernel of 4; odd ones"));
  EXPECT_THAT(with("blocks.2.9.attn.query.proj.weight", {700, 640, 1, 1}),
              HasSubstr("has 700 rows; a multiple of the 64"));
  EXPECT_THAT(with("blocks.3.1.layer_scale.gamma", {}), HasSubstr("has shape []"));
  EXPECT_THAT(with("blocks.4.0.bn1.weight", {8}), HasSubstr("blocks.4.0.bn1.weight is not one that the network has"));
}

TEST(VisionTensors, MissingPartsAreRefused) {
  const TensorShapes good = shapes_of(published_vision_architecture());
  const auto without = [&](std::string_view prefix) {
    TensorShapes shapes = good;
    std::erase_if(shapes, [&](const auto& entry) { return entry.first.starts_with(prefix); });
    return refusal(shapes);
  };
  EXPECT_THAT(without(""), HasSubstr("conv_stem.conv.weight is missing"));
  EXPECT_THAT(without("blocks.3.38.layer_scale"), HasSubstr("blocks.3.38.layer_scale.gamma is missing"));
  EXPECT_THAT(without("blocks.1."), HasSubstr("no block blocks.1.0"));
  EXPECT_THAT(without("blocks.2.0.dw_mid"), HasSubstr("blocks.2.0.dw_mid.conv.weight is missing"));
  // A gap in the numbers: what lies behind it is left over.
  EXPECT_THAT(without("blocks.2.20."), HasSubstr("blocks.2.21.attn.key.down_conv.weight is not one"));
  // The last blocks of a stage: all shapes agree, but it is not the published list.
  EXPECT_THAT(without("blocks.3.38."), HasSubstr("83 blocks"));
  EXPECT_THAT(without("blocks.2.36."), HasSubstr("has the published widths, but block blocks.3.0."));
}

}  // namespace
}  // namespace nestling
