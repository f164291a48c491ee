// A pass that records its named intermediates, to compare with transformers: names and shapes of docs/tracing.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/taps.h"
#include "runtime/engine.h"
#include "runtime/multimodal.h"

namespace nestling {

struct TraceTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> floats;     // or
  std::vector<int64_t> integers;
};

// Keeps everything recorded, in order; only names that match `pattern` (shell wildcards; "" = all). A name that comes
// again, from a second picture or sound, is kept as NAME@2.
class TraceRecorder : public Taps {
 public:
  explicit TraceRecorder(std::string pattern) : pattern_(std::move(pattern)) {}
  bool wants(const std::string& name) const override;
  void record(const std::string& name, const std::vector<int64_t>& shape, const float* data,
              int64_t outer_stride) override;
  using Taps::record;
  void record_integers(const std::string& name, std::vector<int64_t> values);
  std::vector<TraceTensor>& tensors() { return tensors_; }

 private:
  void keep(TraceTensor tensor);
  std::string pattern_;
  std::vector<TraceTensor> tensors_;
  std::map<std::string, int> times_;
};

// Inputs of the towers, in the order of their placeholders.
struct TraceMedia {
  struct Picture {
    int64_t size = 0;            // pixels a side: 256, 512 or 768
    std::vector<float> pixels;   // [size][size][3] in [0, 1]
  };
  std::vector<Picture> pictures;
  std::vector<std::vector<float>> waveforms;  // mono samples, 16 kHz
  std::vector<LogMel> mels;                   // after the waveforms
};

struct TraceFeatures {
  std::vector<MediaFeatures> images, sounds;
};

// Runs the towers: taps mel.*, vision.* and audio.* up to the encoders' outputs. Needs no text core.
Result<TraceFeatures> trace_media(Towers& towers, const TraceMedia& media, TraceRecorder& recorder);
// What they become: taps vision.soft_tokens and audio.soft_tokens to audio.filled, filled up to the model's number of
// tokens. For a trace without ids; trace_text does it for the placeholders among its ids.
Status trace_soft_tokens(Towers& towers, const TraceFeatures& features, TraceRecorder& recorder);

struct TraceRequest {
  std::vector<int32_t> ids;
  TraceFeatures media;      // of the placeholders among the ids
  ModelSize size;
  bool all_logits = true;   // every position runs every layer; false leaves the prompt skip on
  int64_t generate = 0;     // greedy tokens after the prompt: generated_ids, step_logits
};

// The prompt runs as one pass: the engine's chunk must hold it. Greedy picks are over all ids, as in transformers.
Status trace_text(Engine& engine, const TraceRequest& request, TraceRecorder& recorder);

}  // namespace nestling
