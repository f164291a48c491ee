#include "model/tensor_names.h"

#include <set>

#include <gtest/gtest.h>

namespace nestling {
namespace {

TextConfig e2b() {
  const auto config = parse_config(
      R"({"model_type": "gemma3n", "text_config": {"num_hidden_layers": 30, "num_kv_shared_layers": 10,
                                                   "intermediate_size": 8192}})",
      "", "test");
  EXPECT_TRUE(config) << config.error().message;
  return config->text;
}

const TextTensor& find(const std::vector<TextTensor>& tensors, const std::string& package) {
  for (const TextTensor& tensor : tensors)
    if (tensor.package == package) return tensor;
  ADD_FAILURE() << package << " is missing";
  return tensors.front();
}

// Google's E2B has 731 text tensors: 24 per layer and 11 others; ten layers' k_proj, v_proj and k_norm are unused.
TEST(TensorNames, CountAndParametersOfE2B) {
  const auto tensors = text_tensors(e2b());
  EXPECT_EQ(tensors.size(), 731u - 30u);
  int64_t parameters = 0;
  std::set<std::string> package, checkpoint;
  for (const TextTensor& tensor : tensors) {
    parameters += tensor.rows * tensor.cols;
    package.insert(tensor.package);
    checkpoint.insert(tensor.checkpoint);
  }
  EXPECT_EQ(parameters, 4'456'156'768 - 20'974'080);
  EXPECT_EQ(package.size(), tensors.size());
  EXPECT_EQ(checkpoint.size(), tensors.size());
}

TEST(TensorNames, NamesAndShapes) {
  const auto tensors = text_tensors(e2b());
  EXPECT_EQ(find(tensors, "token_embd.weight").checkpoint, "language_model.embed_tokens.weight");
  EXPECT_EQ(find(tensors, "altup_proj.2.weight").checkpoint, "language_model.altup_projections.2.weight");
  EXPECT_EQ(find(tensors, "altup_unembd_proj.0.weight").checkpoint,
            "language_model.altup_unembed_projections.0.weight");
  const TextTensor& down = find(tensors, "blk.7.ffn_down.weight");
  EXPECT_EQ(down.checkpoint, "language_model.layers.7.mlp.down_proj.weight");
  EXPECT_EQ(down.checkpoint_shape(), (std::vector<int64_t>{2048, 8192}));
  EXPECT_EQ(down.layer, 7);
  EXPECT_EQ(down.layer_tensor, LayerTensor::kDownProj);
  EXPECT_FALSE(down.global);
  const TextTensor& scale = find(tensors, "blk.29.altup_correct_scale.weight");
  EXPECT_EQ(scale.checkpoint, "language_model.layers.29.altup.correct_output_scale");
  EXPECT_EQ(scale.checkpoint_shape(), std::vector<int64_t>{2048});
  EXPECT_EQ(find(tensors, "blk.0.altup_predict_coef.weight").checkpoint_shape(), (std::vector<int64_t>{16, 4}));
  EXPECT_EQ(find(tensors, "per_layer_model_proj.weight").checkpoint_shape(), (std::vector<int64_t>{7680, 2048}));
}

TEST(TensorNames, PleTableIsLastAndSharingLayersHaveNoKv) {
  const auto tensors = text_tensors(e2b());
  EXPECT_EQ(tensors.back().package, "per_layer_token_embd.weight");
  EXPECT_EQ(tensors.back().checkpoint_shape(), (std::vector<int64_t>{262144, 7680}));
  for (const TextTensor& tensor : tensors)
    if (tensor.layer >= 20) {
      EXPECT_EQ(tensor.package.find("attn_k"), std::string::npos) << tensor.package;
      EXPECT_EQ(tensor.package.find("attn_v"), std::string::npos) << tensor.package;
    }
  find(tensors, "blk.19.attn_k.weight");
  find(tensors, "blk.20.attn_q.weight");
}

}  // namespace
}  // namespace nestling
