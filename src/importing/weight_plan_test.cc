#include "importing/weight_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/test_checkpoint.h"

namespace nestling {
namespace {

using testing::HasSubstr;

class WeightPlan : public testing::Test {
 protected:
  std::vector<PlannedTensor> plan(const ImportOptions& options) {
    write_checkpoint(directory_ / "c", tensors_);
    checkpoint_ = open_checkpoint(directory_ / "c");
    auto plan = plan_import(checkpoint_, config_, options);
    EXPECT_TRUE(plan) << plan.error().message;
    return plan ? *plan : std::vector<PlannedTensor>{};
  }
  std::string refusal() {
    write_checkpoint(directory_ / "c", tensors_);
    checkpoint_ = open_checkpoint(directory_ / "c");
    const auto plan = plan_import(checkpoint_, config_, {});
    if (plan) return "accepted";
    EXPECT_EQ(plan.error().code, ErrorCode::kModel);
    return plan.error().message;
  }
  static PackageTensor find(const std::vector<PlannedTensor>& plan, std::string_view name) {
    for (const PlannedTensor& tensor : plan)
      if (tensor.target.name == name) return tensor.target;
    ADD_FAILURE() << name << " is not in the plan";
    return {};
  }
  static void expect(const std::vector<PlannedTensor>& plan, std::string_view name, WeightType type, Layout layout) {
    const PackageTensor tensor = find(plan, name);
    EXPECT_EQ(weight_type_name(tensor.type), weight_type_name(type)) << name;
    EXPECT_EQ(layout_name(tensor.layout), layout_name(layout)) << name;
    EXPECT_EQ(tensor.bytes, packed_bytes(type, layout, tensor.rows, tensor.cols)) << name;
  }

  TestDirectory directory_;
  ModelConfig config_ = tiny_config();
  TestTensors tensors_ = random_text_tensors(config_);
  Checkpoint checkpoint_;
};

TEST_F(WeightPlan, Defaults) {
  const auto p = plan({});
  using enum WeightType;
  expect(p, "token_embd.weight", kQ6, Layout::kIl16);
  expect(p, "per_layer_token_embd.weight", kQ8, Layout::kRows);
  expect(p, "per_layer_model_proj.weight", kQ8, Layout::kIl16);
  expect(p, "altup_proj.1.weight", kQ8, Layout::kIl16);
  expect(p, "altup_unembd_proj.2.weight", kQ8, Layout::kIl16);
  expect(p, "output_norm.weight", kF32, Layout::kRows);
  expect(p, "blk.0.attn_q.weight", kQ4, Layout::kIl16);
  expect(p, "blk.34.attn_output.weight", kQ4, Layout::kIl16);
  expect(p, "blk.0.inp_gate.weight", kQ4, Layout::kIl16);
  expect(p, "blk.0.proj.weight", kQ4, Layout::kIl16);
  expect(p, "blk.0.laurel_l.weight", kQ8, Layout::kIl16);
  expect(p, "blk.0.laurel_r.weight", kQ8, Layout::kIl16);
  expect(p, "blk.0.altup_router.weight", kF32, Layout::kRows);
  expect(p, "blk.0.altup_predict_coef.weight", kF32, Layout::kRows);
  expect(p, "blk.0.altup_correct_scale.weight", kF32, Layout::kRows);
  EXPECT_EQ(find(p, "blk.0.altup_correct_scale.weight").rows, 1);
}

// The ten layers at 0.95 read single neurons; the others read whole matrices or prefixes of them.
TEST_F(WeightPlan, FeedForwardLayoutsFollowTheSparsity) {
  const auto p = plan({});
  for (const int layer : {0, 9, 10, 34}) {
    const bool sparse = layer < 10;
    const std::string blk = fmt::format("blk.{}.ffn_", layer);
    expect(p, blk + "gate.weight", WeightType::kQ4, Layout::kIl16);
    expect(p, blk + "up.weight", WeightType::kQ4, sparse ? Layout::kLaneRows : Layout::kIl16);
    expect(p, blk + "down.weight", WeightType::kQ4, sparse ? Layout::kInputMajor : Layout::kIl16Tiled);
  }
}

TEST_F(WeightPlan, FloatWeightsMakeAllOfItFloat) {
  for (const WeightType type : {WeightType::kF32, WeightType::kBF16}) {
    const auto p = plan({.weights = type});
    expect(p, "token_embd.weight", type, Layout::kIl16);
    expect(p, "per_layer_token_embd.weight", type, Layout::kRows);
    expect(p, "altup_proj.0.weight", type, Layout::kIl16);
    expect(p, "blk.3.ffn_down.weight", type, Layout::kInputMajor);
    expect(p, "blk.3.altup_router.weight", WeightType::kF32, Layout::kRows);
  }
  const auto p = plan({.weights = WeightType::kF32, .head = WeightType::kQ8, .ple = WeightType::kQ4});
  expect(p, "token_embd.weight", WeightType::kQ8, Layout::kIl16);
  expect(p, "per_layer_token_embd.weight", WeightType::kQ4, Layout::kRows);
}

TEST_F(WeightPlan, RegionsComeInOrderAndUnusedKvIsLeftOut) {
  add_embedders(tensors_, config_);
  const auto p = plan({});
  EXPECT_TRUE(std::ranges::is_sorted(p, {}, [](const PlannedTensor& t) { return t.target.region; }));
  EXPECT_EQ(p.back().target.name, "per_layer_token_embd.weight");
  EXPECT_EQ(p.back().target.region, Region::kPle);
  EXPECT_EQ(p.size(), text_tensors(config_.text).size() + 8);
  for (const PlannedTensor& t : p) EXPECT_NE(t.target.name, "blk.20.attn_k.weight");
  expect(p, "mm.embedding.weight", WeightType::kBF16, Layout::kRows);
  expect(p, "mm.input_projection.weight", WeightType::kQ8, Layout::kIl16);
  expect(p, "mm.a.soft_emb_norm.weight", WeightType::kF32, Layout::kRows);
  EXPECT_EQ(find(p, "mm.a.input_projection.weight").region, Region::kAudio);
  EXPECT_EQ(find(p, "mm.a.input_projection.weight").rows, config_.text.hidden_size);
}

TEST_F(WeightPlan, HeadRowsThatRepeatRow0AreNotStored) {
  EXPECT_EQ(find(plan({}), "token_embd.weight").rows, 40);
  TestTensor& table = tensors_["model.language_model.embed_tokens.weight"];
  for (int row = 32; row < 40; ++row) std::copy_n(table.values.begin(), 48, table.values.begin() + row * 48);
  EXPECT_EQ(find(plan({}), "token_embd.weight").rows, 32);
  table.values[39 * 48 + 47] += 1;
  EXPECT_EQ(find(plan({}), "token_embd.weight").rows, 40);
}

TEST_F(WeightPlan, TowersAlone) {
  tensors_.clear();
  EXPECT_THAT(refusal(), HasSubstr("holds no tensor of a Gemma 3n model"));
  add_embedders(tensors_, config_);
  EXPECT_EQ(plan({}).size(), 8u);
  config_.audio.reset();
  EXPECT_THAT(refusal(), HasSubstr("config.json has no audio_config"));
}

TEST_F(WeightPlan, MissingTensorsAndWrongShapesAreNamed) {
  const std::string name = "model.language_model.layers.3.mlp.up_proj.weight";
  tensors_[name].shape = {64, 96};
  EXPECT_THAT(refusal(), HasSubstr("tensor " + name + " has shape [64, 96]; config.json needs [128, 48]"));
  tensors_.erase(name);
  EXPECT_THAT(refusal(), HasSubstr("tensor language_model.layers.3.mlp.up_proj.weight is missing; config.json needs it "
                                   "with shape [128, 48]"));
}

TEST_F(WeightPlan, OnlyFloatsAreRead) {
  write_checkpoint(directory_ / "c", {{"model.language_model.norm.weight", {{48}, std::vector<float>(48)}}},
                   SafetensorsType::kI16);
  const Checkpoint checkpoint = open_checkpoint(directory_ / "c");
  EXPECT_THAT(find_tensor(checkpoint, "language_model.norm.weight", {48}).error().message,
              HasSubstr("has type I16; F32, F16, BF16 or F64"));
}

}  // namespace
}  // namespace nestling
