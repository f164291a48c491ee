#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/import.h"
#include "importing/test_checkpoint.h"
#include "importing/weight_plan.h"
#include "kernels/pack.h"
#include "model/vision_tensors.h"

namespace nestling {
namespace {

using testing::HasSubstr;

// One block a stage, every kind of convolution; the width is that of the tiny configuration.
VisionArchitecture tiny_tower() {
  using enum VisionBlockKind;
  VisionArchitecture a{.stem = 4, .fusion = 20, .width = 24};
  a.blocks = {{.kind = kEdgeResidual, .stage = 0, .index = 0, .stride = 2, .in = 4, .out = 6, .mid = 10},
              {.kind = kInvertedResidual, .stage = 1, .index = 0, .stride = 2, .in = 6, .out = 8, .mid = 12,
               .start_kernel = 3, .mid_kernel = 5},
              {.kind = kInvertedResidual, .stage = 2, .index = 0, .stride = 2, .in = 8, .out = 10, .mid = 14,
               .mid_kernel = 3},
              {.kind = kAttention, .stage = 2, .index = 1, .in = 10, .out = 10, .mid = 12,
               .head_dim = 6, .kv_kernel = 3},
              {.kind = kInvertedResidual, .stage = 3, .index = 0, .stride = 2, .in = 10, .out = 12, .mid = 16,
               .mid_kernel = 5}};
  return a;
}

class VisionPlan : public testing::Test {
 protected:
  VisionPlan() {
    std::mt19937 random(3);
    add_embedders(tensors_, config_);
    for (const TowerTensor& t : vision_tensors(tiny_tower()))
      tensors_["model." + t.checkpoint] = random_tensor(t.shape, random);
  }
  Result<std::vector<PlannedTensor>> plan(const ImportOptions& options = {}) {
    write_checkpoint(directory_ / "c", tensors_);
    checkpoint_ = open_checkpoint(directory_ / "c");
    return plan_vision(checkpoint_, config_, options);
  }
  std::string refusal() {
    const auto planned = plan();
    if (planned) return "accepted";
    EXPECT_EQ(planned.error().code, ErrorCode::kModel);
    return planned.error().message;
  }
  TestTensor& tower(const std::string& name) { return tensors_["model.vision_tower.timm_model." + name]; }

  TestDirectory directory_;
  ModelConfig config_ = tiny_config();
  TestTensors tensors_;
  Checkpoint checkpoint_;
};

TEST_F(VisionPlan, TypesAndLayouts) {
  const auto planned = plan();
  ASSERT_TRUE(planned) << planned.error().message;
  EXPECT_EQ(planned->size(), vision_tensors(tiny_tower()).size() + 4);
  const auto expect = [&](std::string_view name, WeightType type, Layout layout, int64_t rows, int64_t cols) {
    for (const PlannedTensor& t : *planned) {
      if (t.target.name != name) continue;
      EXPECT_EQ(weight_type_name(t.target.type), weight_type_name(type)) << name;
      EXPECT_EQ(layout_name(t.target.layout), layout_name(layout)) << name;
      EXPECT_EQ(t.target.rows, rows) << name;
      EXPECT_EQ(t.target.cols, cols) << name;
      EXPECT_EQ(t.target.region, Region::kVision) << name;
      return;
    }
    ADD_FAILURE() << name << " is not in the plan";
  };
  using enum WeightType;
  expect("v.conv_stem.conv.weight", kF32, Layout::kRows, 4, 27);
  expect("v.conv_stem.conv.bias", kF32, Layout::kRows, 1, 4);
  expect("v.blk.0.0.conv_exp.weight", kI8, Layout::kIl16, 10, 36);
  expect("v.blk.1.0.dw_mid.conv.weight", kF32, Layout::kRows, 25, 12);
  expect("v.blk.2.1.attn.query.proj.weight", kI8, Layout::kIl16, 12, 10);
  expect("v.blk.2.1.layer_scale.gamma", kF32, Layout::kRows, 1, 10);
  expect("v.msfa.ffn.pw_proj.conv.weight", kI8, Layout::kIl16, 24, 20);
  expect("mm.input_projection.weight", kQ8, Layout::kIl16, 48, 24);
}

// The package holds channels innermost.
TEST_F(VisionPlan, KernelsAreReordered) {
  write_checkpoint(directory_ / "c", tensors_);
  const Checkpoint checkpoint = open_checkpoint(directory_ / "c");
  const auto path = directory_ / "p.nest";
  const ImportOptions options{.weights = WeightType::kF32};
  const Status imported = import_checkpoint(checkpoint, config_, options, path, {});
  ASSERT_TRUE(imported) << imported.error().message;
  auto package = Package::open(path);
  ASSERT_TRUE(package && package->load_region(Region::kVision));
  const auto values = [&](const char* name, int64_t rows, int64_t cols) {
    std::vector<float> v(static_cast<size_t>(rows * cols));
    const auto w = package->matrix(name, rows, cols);
    EXPECT_TRUE(w) << w.error().message;
    unpack_matrix(*w, v.data());
    return v;
  };
  const auto convolution = values("v.blk.0.0.conv_exp.weight", 10, 36);
  const auto depthwise = values("v.blk.1.0.dw_mid.conv.weight", 25, 12);
  const auto& original = tower("blocks.0.0.conv_exp.weight").values;
  for (size_t out = 0; out < 10; ++out)
    for (size_t in = 0; in < 4; ++in)
      for (size_t k = 0; k < 9; ++k)
        EXPECT_EQ(convolution[out * 36 + k * 4 + in], original[(out * 4 + in) * 9 + k]);
  for (size_t c = 0; c < 12; ++c)
    for (size_t k = 0; k < 25; ++k)
      EXPECT_EQ(depthwise[k * 12 + c], tower("blocks.1.0.dw_mid.conv.weight").values[c * 25 + k]);
}

TEST_F(VisionPlan, WhatDoesNotFitIsRefused) {
  const TestTensors good = tensors_;
  tensors_.erase("model.vision_tower.timm_model.conv_stem.conv.bias");
  EXPECT_THAT(refusal(), HasSubstr("conv_stem.conv.bias is missing: this is the first upload"));
  tensors_ = good;
  tower("blocks.2.0.pw_exp.conv.weight").shape = {8, 14, 1, 1};
  EXPECT_THAT(refusal(), HasSubstr("blocks.2.0.pw_exp.conv.weight has shape [8, 14, 1, 1]; the tensors before it need "
                                   "[8, 8, 1, 1]"));
  tensors_ = good;
  tensors_.erase("model.embed_vision.embedding.weight");
  EXPECT_THAT(refusal(), HasSubstr("embed_vision.embedding.weight is missing"));
  tensors_ = good;
  config_.vision->hidden_size = 32;
  EXPECT_THAT(refusal(), HasSubstr("the vision tower gives 24 channels; vision_config.hidden_size is 32"));
  config_.vision.reset();
  EXPECT_THAT(refusal(), HasSubstr("holds vision_tower tensors, but config.json has no vision_config"));
}

}  // namespace
}  // namespace nestling
