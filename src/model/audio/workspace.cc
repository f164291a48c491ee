#include "model/audio/workspace.h"

#include <algorithm>

#include "base/checked.h"
#include "model/audio_tensors.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

// Sizes in floats, each rounded up to a cache line.
struct Sizes {
  int64_t rows, hidden, past_rows, halves, shared, input_cols, input_bytes;
  Sizes(const AudioConfig& c, int64_t n) {
    const auto line = [](int64_t floats) { return round_up(floats, kLineBytes / static_cast<int64_t>(sizeof(float))); };
    const int64_t D = c.hidden_size, past = c.context_left - 1, tail = c.conv_kernel_size - 1;
    rows = line(n * D);
    hidden = line(n * audio_ffn_width(c));
    past_rows = line((past + n) * D);
    halves = line(n * 2 * D);
    shared = std::max({hidden, rows + 2 * past_rows, halves + line((tail + n) * D)});
    input_cols = std::max(audio_ffn_width(c), audio_bins_after(c.input_feat_size, 2) * c.sscp_channels[1]);
    input_bytes = round_up(static_cast<int64_t>(DenseInput::bytes_needed(n, input_cols)), kLineBytes);
  }
  uint64_t bytes() const {
    return static_cast<uint64_t>(3 * rows + shared) * sizeof(float) + static_cast<uint64_t>(input_bytes);
  }
};

}  // namespace

uint64_t AudioWorkspace::bytes_needed(const AudioConfig& config, int64_t frames) {
  return Sizes(config, frames).bytes();
}

AudioWorkspace::AudioWorkspace(const AudioConfig& c, int64_t frames) : memory_(bytes_needed(c, frames)) {
  const Sizes sizes(c, frames);
  x = reinterpret_cast<float*>(memory_.data());
  normed = x + sizes.rows;
  branch = normed + sizes.rows;
  hidden = query = halves = branch + sizes.rows;
  keys = query + sizes.rows;
  values = keys + sizes.past_rows;
  gated = halves + sizes.halves;
  auto* codes = reinterpret_cast<std::byte*>(hidden + sizes.shared);
  input = DenseInput({codes, static_cast<size_t>(sizes.input_bytes)}, frames, sizes.input_cols);
}

}  // namespace nestling
