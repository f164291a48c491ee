// What a clip leaves behind for the frames still to come: all of it a few megabytes, whatever the clip's length.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "model/audio/subsample.h"

namespace nestling {

// Of one layer: [frames][D], oldest first; zeros for frames before the clip.
struct LayerState {
  float* keys = nullptr;    // [context_left - 1][D]
  float* values = nullptr;  // the same
  float* gated = nullptr;   // [taps - 1][D]
};

class AudioStreamState {
 public:
  explicit AudioStreamState(const AudioNetwork& network)
      : subsample(network), past_valid(static_cast<size_t>(network.config.context_left - 1), 0),
        width_(network.config.hidden_size), past_(network.config.context_left - 1),
        tail_(network.config.conv_kernel_size - 1),
        memory_(static_cast<uint64_t>(network.config.num_hidden_layers * layer_floats())) {}

  LayerState layer(int64_t i) {
    float* keys = memory_.data() + i * layer_floats();
    return {keys, keys + past_ * width_, keys + 2 * past_ * width_};
  }
  uint64_t bytes() const { return memory_.size() * sizeof(float) + subsample.state_bytes() + past_valid.size(); }

  Subsample subsample;
  std::vector<uint8_t> past_valid;   // of the last context_left - 1 encoder frames; 0 before the clip
  std::vector<uint8_t> next_valid;   // of encoder frames whose first mel frame has arrived, but not all of the others
  int64_t mel_frames = 0;            // received
  int64_t encoder_frames = 0;        // finished

 private:
  int64_t layer_floats() const { return (2 * past_ + tail_) * width_; }
  int64_t width_, past_, tail_;
  AlignedArray<float> memory_;
};

}  // namespace nestling
