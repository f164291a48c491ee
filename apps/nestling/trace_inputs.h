// Inputs of `nestling trace`, from files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "options.h"
#include "runtime/trace.h"

namespace nestling {

// What the towers take, in order, and outputs that stand for them.
struct TraceInputs {
  std::vector<int32_t> ids;
  TraceMedia media;
  TraceFeatures features;
  bool has_media() const { return !media.pictures.empty() || !media.waveforms.empty() || !media.mels.empty(); }
};

// --inputs: the tensors input.ids, input.waveform, input.mel with input.mel_mask, input.pixel_values, and
// input.image_encoder_out, input.audio_encoder_out with input.audio_valid in place of the towers.
Status read_inputs(const std::string& path, TraceInputs& inputs);
// --pixels: pixel_values [3][S][S] or [S][S][3] in [0, 1], S 256, 512 or 768.
Status read_pixels(const std::string& path, TraceInputs& inputs);
// --mel: mel [T][bins], with mel_mask [T] where not all frames are valid.
Status read_mel(const std::string& path, TraceInputs& inputs);
// --image: scaled to `size`; 0: to `default_size`, unless it has a size of the encoder's already.
Status read_image(const std::string& path, int64_t size, int64_t default_size, TraceInputs& inputs);
// --audio
Status read_audio(const std::string& path, TraceInputs& inputs);

}  // namespace nestling
