// Per-layer inputs: a value vector per token and layer, the sum of a row of the PLE table (which stays on storage) and a
// projection of the input embedding; every layer adds a gated projection of it to the streams that are not active.
#pragma once

#include <span>

#include "model/text/step.h"
#include "storage/ple_store.h"

namespace nestling {

// The per-layer inputs of one pass: projected when it begins, combined with the PLE rows once those have arrived.
// `lower` layers need them for all T rows, `upper` ones (those whose output only wanted rows need) for the last `wanted`.
class PerLayerInputs {
 public:
  PerLayerInputs(const TextWeights& weights, PleStore& store, int ticket, std::span<const int64_t> lower,
                 std::span<const int64_t> upper, int64_t wanted)
      : weights_(weights), store_(store), ticket_(ticket), lower_(lower), upper_(upper), wanted_(wanted) {}

  // workspace.per_layer_inputs[t][l] = per_layer_model_projection x_t, x = stream 0 before layer 0.
  void project(const Step& step);
  // ... = (rms_norm(that / sqrt D) + sqrt P * PLE row) / sqrt 2. Waits for the rows the first time, does nothing later.
  Status arrive(const Step& step);

 private:
  void combine(const Step& step, int64_t t, const float* ple) const;
  void tap(const Step& step) const;

  const TextWeights& weights_;
  PleStore& store_;
  int ticket_;
  std::span<const int64_t> lower_, upper_;
  int64_t wanted_;
  bool arrived_ = false;
};

// S_i += rms_norm(per_layer_projection (gelu(per_layer_input_gate (S_0 * correct_output_scale)) * input)) for i >= 1;
// stream 0 gets nothing.
void add_per_layer_input(const Step& step);

}  // namespace nestling
