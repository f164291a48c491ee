#include "model/audio_tensors.h"

#include <numeric>
#include <set>

#include <gtest/gtest.h>

namespace nestling {
namespace {

AudioConfig published() {
  AudioConfig c;
  c.hidden_size = 1536;
  return c;
}

int64_t elements(const TowerTensor& t) { return t.rows * t.cols; }

TEST(AudioTensors, ThePublishedTower) {
  const auto tensors = audio_tensors(published());
  EXPECT_EQ(tensors.size(), 269u);
  int64_t total = 0;
  std::set<std::string> checkpoint, package;
  for (const TowerTensor& t : tensors) {
    total += elements(t);
    checkpoint.insert(t.checkpoint);
    package.insert(t.package);
    int64_t in_checkpoint = 1;
    for (const int64_t n : t.shape) in_checkpoint *= n;
    EXPECT_EQ(in_checkpoint, elements(t)) << t.checkpoint;
  }
  EXPECT_EQ(total, 681'348'640);
  EXPECT_EQ(checkpoint.size(), tensors.size());
  EXPECT_EQ(package.size(), tensors.size());
}

TEST(AudioTensors, NamesAndShapes) {
  const auto tensors = audio_tensors(published());
  const auto expect = [&](const char* checkpoint, const char* package, const std::vector<int64_t>& shape, int64_t rows,
                          int64_t cols) {
    for (const TowerTensor& t : tensors) {
      if (t.checkpoint != std::string("audio_tower.") + checkpoint) continue;
      EXPECT_EQ(t.package, package);
      EXPECT_EQ(t.shape, shape) << checkpoint;
      EXPECT_EQ(t.rows, rows) << checkpoint;
      EXPECT_EQ(t.cols, cols) << checkpoint;
      return;
    }
    ADD_FAILURE() << checkpoint << " is not there";
  };
  expect("subsample_conv_projection.conv_1.conv.weight", "a.conv1d.1.weight", {32, 128, 3, 3}, 32, 1152);
  expect("subsample_conv_projection.input_proj_linear.weight", "a.pre_encode.out.weight", {1536, 1024}, 1536, 1024);
  expect("conformer.0.ffw_layer_start.post_layer_norm.weight", "a.blk.0.ffn_post_norm.weight", {1536}, 1, 1536);
  expect("conformer.11.ffw_layer_end.ffw_layer_2.weight", "a.blk.11.ffn_down_1.weight", {1536, 6144}, 1536, 6144);
  expect("conformer.3.attention.attn.per_dim_scale", "a.blk.3.per_dim_scale", {192}, 1, 192);
  expect("conformer.3.attention.attn.relative_position_embedding.pos_proj.weight", "a.blk.3.linear_pos.weight",
         {1536, 1536}, 1536, 1536);
  expect("conformer.3.attention.post_norm.weight", "a.blk.3.ln2.weight", {1536}, 1, 1536);
  // The names of these two say the opposite of what they are.
  expect("conformer.3.lconv1d.pre_layer_norm.weight", "a.blk.3.conv_norm.weight", {1536}, 1, 1536);
  expect("conformer.3.lconv1d.conv_norm.weight", "a.blk.3.norm_conv.weight", {1536}, 1, 1536);
  expect("conformer.3.lconv1d.depthwise_conv1d.weight", "a.blk.3.conv_dw.weight", {1536, 1, 5}, 5, 1536);
  expect("conformer.11.norm.weight", "a.blk.11.layer_pre_norm.weight", {1536}, 1, 1536);
}

// What is read once comes before the layers, and a layer's tensors lie together.
TEST(AudioTensors, LayersAreContiguous) {
  const AudioConfig c = published();
  const auto tensors = audio_tensors(c);
  size_t at = 5;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    EXPECT_EQ(tensors[at++].package, audio_position_tensor(c, layer).package);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    for (const TowerTensor& t : audio_layer_tensors(c, layer)) EXPECT_EQ(tensors[at++].package, t.package);
  EXPECT_EQ(at, tensors.size());
}

TEST(AudioTensors, OddNumbersOfBins) {
  EXPECT_EQ(audio_bins_after(128, 2), 32);
  EXPECT_EQ(audio_bins_after(9, 1), 5);
  EXPECT_EQ(audio_bins_after(9, 2), 3);
}

}  // namespace
}  // namespace nestling
