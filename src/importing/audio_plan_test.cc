#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/import.h"
#include "importing/synthetic.h"
#include "importing/test_checkpoint.h"
#include "kernels/pack.h"
#include "model/audio_tensors.h"
#include "storage/package.h"

namespace nestling {
namespace {

using testing::HasSubstr;

class AudioPlan : public testing::Test {
 protected:
  AudioPlan() {
    add_embedders(tensors_, config_);
    std::mt19937 random(2);
    for (const TowerTensor& t : tower_) tensors_["model." + t.checkpoint] = random_tensor(t.shape, random);
  }
  Result<std::vector<PlannedTensor>> plan(const ImportOptions& options = {}) {
    write_checkpoint(directory_ / "c", tensors_);
    checkpoint_ = std::make_unique<Checkpoint>(open_checkpoint(directory_ / "c"));
    return plan_audio(*checkpoint_, config_, options);
  }
  std::string refusal() {
    const auto planned = plan();
    return planned ? "accepted" : planned.error().message;
  }
  TestTensor& tensor(const std::string& name) { return tensors_.at("model.audio_tower." + name); }

  TestDirectory directory_;
  ModelConfig config_ = tiny_config();
  std::vector<TowerTensor> tower_ = audio_tensors(*config_.audio);
  TestTensors tensors_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(AudioPlan, TypesAndLayoutsByRole) {
  const auto expect = [&](const ImportOptions& options, const char* name, WeightType type, Layout layout) {
    const auto planned = plan(options);
    ASSERT_TRUE(planned) << planned.error().message;
    for (const PlannedTensor& t : *planned)
      if (t.target.name == name) {
        EXPECT_EQ(t.target.type, type) << name;
        EXPECT_EQ(t.target.layout, layout) << name;
        EXPECT_EQ(t.target.region, Region::kAudio) << name;
        return;
      }
    ADD_FAILURE() << name << " is not there";
  };
  using enum WeightType;
  for (const WeightType weights : {kQ4, kQ6, kQ8, kBF16, kF32}) {
    const WeightType products = weights == kF32 || weights == kBF16 ? weights : kI8;
    const WeightType floats = weights == kF32 ? kF32 : kBF16;
    expect({.weights = weights}, "a.blk.3.ffn_up_1.weight", products, Layout::kIl16);
    for (const char* name : {"attn_q", "attn_k", "ffn_up", "ffn_down"})
      expect({.weights = weights}, fmt::format("a.blk.2.{}.weight", name).c_str(), products, Layout::kIl16);
    for (const char* name : {"attn_v", "attn_out", "conv_pw1", "conv_pw2"})
      expect({.weights = weights}, fmt::format("a.blk.3.{}.weight", name).c_str(), products == kI8 ? kI16 : products,
             Layout::kIl16);
    expect({.weights = weights}, "a.blk.3.linear_pos.weight", floats, Layout::kIl16);
    expect({.weights = weights}, "a.pre_encode.out.weight", floats, Layout::kIl16);
    expect({.weights = weights}, "a.conv1d.1.weight", kF32, Layout::kRows);
    expect({.weights = weights}, "a.blk.0.conv_dw.weight", kF32, Layout::kRows);
    expect({.weights = weights}, "a.blk.0.per_dim_scale", kF32, Layout::kRows);
  }
  EXPECT_EQ(plan()->size(), tower_.size() + 4);
}

// The stored values are those of the checkpoint, with the axes of kernels in their new order.
TEST_F(AudioPlan, ImportedValues) {
  write_checkpoint(directory_ / "c", tensors_);
  const Status imported = import_checkpoint(open_checkpoint(directory_ / "c"), config_, {.weights = WeightType::kF32},
                                            directory_ / "model.nest", {});
  ASSERT_TRUE(imported) << imported.error().message;
  Package package = std::move(*Package::open(directory_ / "model.nest"));
  ASSERT_TRUE(package.load_region(Region::kAudio));
  for (const TowerTensor& t : tower_) {
    const auto w = package.matrix(t.package, t.rows, t.cols);
    ASSERT_TRUE(w) << w.error().message;
    std::vector<float> found(static_cast<size_t>(t.rows * t.cols)), expected(found.size());
    unpack_matrix(*w, found.data());
    reorder(t.reorder, t.shape, tensors_.at("model." + t.checkpoint).values.data(), expected.data());
    EXPECT_EQ(found, expected) << t.package;
  }
}

TEST_F(AudioPlan, WhatIsMissingOrOfAnotherShapeIsNamed) {
  tensor("conformer.7.lconv1d.depthwise_conv1d.weight").shape = {16, 5, 1};
  EXPECT_THAT(refusal(), HasSubstr("depthwise_conv1d.weight has shape [16, 5, 1]; config.json needs [16, 1, 5]"));
  tensors_.erase("model.audio_tower.conformer.7.lconv1d.depthwise_conv1d.weight");
  EXPECT_THAT(refusal(), HasSubstr("audio_tower.conformer.7.lconv1d.depthwise_conv1d.weight is missing"));
}

TEST_F(AudioPlan, ATowerNeedsItsEmbedderAndItsConfiguration) {
  tensors_.erase("model.embed_audio.embedding.weight");
  EXPECT_THAT(refusal(), HasSubstr("embed_audio.embedding.weight is missing"));
  config_.audio.reset();
  EXPECT_THAT(refusal(), HasSubstr("holds audio_tower tensors, but config.json has no audio_config"));
}

// A synthetic tower has the tensors of an imported one, and can stand without the text model.
TEST_F(AudioPlan, SyntheticTowerAlone) {
  SyntheticModel model{"tiny", config_, {.text = false, .audio = true}};
  ASSERT_TRUE(write_synthetic(model, {}, directory_ / "synthetic.nest", {}));
  const Package package = std::move(*Package::open(directory_ / "synthetic.nest"));
  const auto planned = *plan();
  ASSERT_EQ(package.tensors().size(), planned.size());
  for (size_t i = 0; i < planned.size(); ++i) {
    const PackageTensor &a = planned[i].target, &b = package.tensors()[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(std::tuple(a.type, a.layout, a.region, a.rows, a.cols, a.bytes),
              std::tuple(b.type, b.layout, b.region, b.rows, b.cols, b.bytes)) << a.name;
  }
}

TEST(SyntheticParts, NamesAndSections) {
  const auto model = synthetic_model("e2b", {}, {.text = true, .vision = true, .audio = true});
  ASSERT_TRUE(model);
  EXPECT_EQ(model->name, "e2b-vision-audio");
  EXPECT_TRUE(model->config.vision && model->config.audio);
  EXPECT_EQ(synthetic_model("e4b", {}, {.text = false, .audio = true})->name, "e4b-towers-audio");
  const auto text = synthetic_model("e2b", {});
  EXPECT_EQ(text->name, "e2b");
  EXPECT_FALSE(text->config.vision || text->config.audio);
}

}  // namespace
}  // namespace nestling
