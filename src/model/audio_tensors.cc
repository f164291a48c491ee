#include "model/audio_tensors.h"

#include <utility>

#include <fmt/format.h>

namespace nestling {
namespace {

TowerTensor vector(std::string checkpoint, std::string package, int64_t length) {
  return {std::move(checkpoint), std::move(package), {length}, TowerRole::kVector, Reorder::kNone, 1, length};
}

// kFineMatrix for the four products that int8 costs most: what attention and the convolution add is not halved as what
// the feed-forwards add. They are 22 % of the multiplications and most of the error (docs/mechanisms/audio.md).
TowerTensor matrix(std::string checkpoint, std::string package, int64_t rows, int64_t cols,
                   TowerRole role = TowerRole::kMatrix) {
  return {std::move(checkpoint), std::move(package), {rows, cols}, role, Reorder::kNone, rows, cols};
}

// Stage `stage` of the sub-sampling: a 3 x 3 kernel and the weight of its norm.
void append_convolution(std::vector<TowerTensor>& tensors, int stage, int64_t inputs, int64_t outputs) {
  const std::string from = fmt::format("audio_tower.subsample_conv_projection.conv_{}.", stage);
  const std::string to = fmt::format("a.conv1d.{}.", stage);
  tensors.push_back({from + "conv.weight", to + "weight", {outputs, inputs, 3, 3}, TowerRole::kTable,
                     Reorder::kConvolution, outputs, 9 * inputs});
  tensors.push_back(vector(from + "norm.weight", to + "norm.weight", outputs));
}

std::string layer_prefix(int64_t layer) { return fmt::format("audio_tower.conformer.{}.", layer); }
std::string package_prefix(int64_t layer) { return fmt::format("a.blk.{}.", layer); }

// `suffix`: "" for the part before attention, "_1" for the one at the end of the block.
void append_feed_forward(std::vector<TowerTensor>& tensors, const AudioConfig& c, int64_t layer,
                         const std::string& part, const std::string& suffix) {
  const std::string from = layer_prefix(layer) + part + ".", to = package_prefix(layer);
  const int64_t D = c.hidden_size, F = audio_ffn_width(c);
  tensors.push_back(vector(from + "pre_layer_norm.weight", to + "ffn_norm" + suffix + ".weight", D));
  tensors.push_back(matrix(from + "ffw_layer_1.weight", to + "ffn_up" + suffix + ".weight", F, D));
  tensors.push_back(matrix(from + "ffw_layer_2.weight", to + "ffn_down" + suffix + ".weight", D, F));
  tensors.push_back(vector(from + "post_layer_norm.weight", to + "ffn_post_norm" + suffix + ".weight", D));
}

void append_attention(std::vector<TowerTensor>& tensors, const AudioConfig& c, int64_t layer) {
  const std::string from = layer_prefix(layer) + "attention.", to = package_prefix(layer);
  const int64_t D = c.hidden_size;
  tensors.push_back(vector(from + "pre_attn_norm.weight", to + "ln1.weight", D));
  tensors.push_back(matrix(from + "attn.q_proj.weight", to + "attn_q.weight", D, D));
  tensors.push_back(matrix(from + "attn.k_proj.weight", to + "attn_k.weight", D, D));
  tensors.push_back(matrix(from + "attn.v_proj.weight", to + "attn_v.weight", D, D, TowerRole::kFineMatrix));
  tensors.push_back(vector(from + "attn.per_dim_scale", to + "per_dim_scale", D / c.num_attention_heads));
  tensors.push_back(matrix(from + "post.weight", to + "attn_out.weight", D, D, TowerRole::kFineMatrix));
  tensors.push_back(vector(from + "post_norm.weight", to + "ln2.weight", D));
}

void append_light_convolution(std::vector<TowerTensor>& tensors, const AudioConfig& c, int64_t layer) {
  const std::string from = layer_prefix(layer) + "lconv1d.", to = package_prefix(layer);
  const int64_t D = c.hidden_size, taps = c.conv_kernel_size;
  tensors.push_back(vector(from + "pre_layer_norm.weight", to + "conv_norm.weight", D));
  tensors.push_back(matrix(from + "linear_start.weight", to + "conv_pw1.weight", 2 * D, D, TowerRole::kFineMatrix));
  tensors.push_back({from + "depthwise_conv1d.weight", to + "conv_dw.weight", {D, 1, taps}, TowerRole::kTable,
                     Reorder::kDepthwise, taps, D});
  tensors.push_back(vector(from + "conv_norm.weight", to + "norm_conv.weight", D));
  tensors.push_back(matrix(from + "linear_end.weight", to + "conv_pw2.weight", D, D, TowerRole::kFineMatrix));
}

}  // namespace

TowerTensor audio_position_tensor(const AudioConfig& c, int64_t layer) {
  return matrix(layer_prefix(layer) + "attention.attn.relative_position_embedding.pos_proj.weight",
                package_prefix(layer) + "linear_pos.weight", c.hidden_size, c.hidden_size, TowerRole::kFloatMatrix);
}

std::vector<TowerTensor> audio_layer_tensors(const AudioConfig& c, int64_t layer) {
  std::vector<TowerTensor> tensors;
  append_feed_forward(tensors, c, layer, "ffw_layer_start", "");
  append_attention(tensors, c, layer);
  append_light_convolution(tensors, c, layer);
  append_feed_forward(tensors, c, layer, "ffw_layer_end", "_1");
  tensors.push_back(vector(layer_prefix(layer) + "norm.weight", package_prefix(layer) + "layer_pre_norm.weight",
                           c.hidden_size));
  return tensors;
}

std::vector<TowerTensor> audio_tensors(const AudioConfig& c) {
  std::vector<TowerTensor> tensors;
  append_convolution(tensors, 0, 1, c.sscp_channels[0]);
  append_convolution(tensors, 1, c.sscp_channels[0], c.sscp_channels[1]);
  tensors.push_back(matrix("audio_tower.subsample_conv_projection.input_proj_linear.weight", "a.pre_encode.out.weight",
                           c.hidden_size, audio_bins_after(c.input_feat_size, 2) * c.sscp_channels[1],
                           TowerRole::kFloatMatrix));
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) tensors.push_back(audio_position_tensor(c, layer));
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    for (TowerTensor& tensor : audio_layer_tensors(c, layer)) tensors.push_back(std::move(tensor));
  return tensors;
}

}  // namespace nestling
