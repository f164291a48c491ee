// The tensors of the audio tower: what each is called in a checkpoint and in the package (llama.cpp's mmproj names),
// and its shape, which the configuration determines. Importing, the encoder and synthetic models read this list.
#pragma once

#include <vector>

#include "model/config.h"
#include "model/tower_tensor.h"

namespace nestling {

// Inner width of the feed-forward parts: transformers has no setting for it.
constexpr int64_t audio_ffn_width(const AudioConfig& config) { return 4 * config.hidden_size; }
// Mel bins left after `stages` convolutions with stride 2.
constexpr int64_t audio_bins_after(int64_t bins, int stages) {
  for (int i = 0; i < stages; ++i) bins = (bins + 1) / 2;
  return bins;
}

// All tensors in package order: sub-sampling, the position projections of all layers (read once, when the tower is
// bound), then layer after layer, so that a layer is one contiguous range of the file.
std::vector<TowerTensor> audio_tensors(const AudioConfig& config);

// The tensors of one layer, without its position projection, and that one.
std::vector<TowerTensor> audio_layer_tensors(const AudioConfig& config, int64_t layer);
TowerTensor audio_position_tensor(const AudioConfig& config, int64_t layer);

}  // namespace nestling
