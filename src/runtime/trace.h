// A pass that records its named intermediates, to compare with transformers: names and shapes of docs/tracing.md.
#pragma once

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

// Keeps everything recorded, in order; only names that match `pattern` (shell wildcards; "" = all).
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
  std::string pattern_;
  std::vector<TraceTensor> tensors_;
};

struct TraceRequest {
  std::vector<int32_t> ids;
  std::vector<MediaFeatures> images, sounds;
  ModelSize size;
  bool all_logits = true;   // every position runs every layer; false leaves the prompt skip on
  int64_t generate = 0;     // greedy tokens after the prompt: generated_ids, step_logits
};

// The prompt runs as one pass: the engine's chunk must hold it. Greedy picks are over all ids, as in transformers.
Status trace_text(Engine& engine, const TraceRequest& request, TraceRecorder& recorder);

}  // namespace nestling
