// Logits in, token out. The order of transformers: penalties and bias, temperature, top-k, top-p, min-p, softmax, draw.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"

namespace nestling {

struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy (the lowest id among equals)
  int64_t top_k = 64;               // 0: off
  float top_p = 0.95f;              // 1: off
  float min_p = 0.0f;               // 0: off
  float repetition_penalty = 1.0f;  // > 1 divides positive and multiplies negative logits of ids seen (prompt included)
  float presence_penalty = 0.0f;    // subtracted once from ids generated
  float frequency_penalty = 0.0f;   // subtracted per occurrence among ids generated
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;
  int64_t top_logprobs = 0;         // how many alternatives Sampled lists, at most kMaxTopLogprobs

  static constexpr int64_t kMaxTopLogprobs = 20;
  // kUsage naming the field, the value and what is allowed (finite, in range, bias ids below `vocabulary`).
  Status check(int64_t vocabulary) const;
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;  // natural logarithm of the softmax of the raw logits
};

struct Sampled {
  int32_t id = 0;
  float logprob = 0;                // only when top_logprobs > 0
  std::vector<TokenLogprob> top;    // best first; empty when top_logprobs is 0
};

// The random state and the counts of one conversation's generation. All memory is reserved by the constructor: sample()
// allocates nothing while top_logprobs is 0.
class Sampler {
 public:
  // Ids at or beyond `allowed` are never picked (multimodal ids); `vocabulary` = number of logits.
  Sampler(const SamplingParams& params, int64_t vocabulary, int64_t allowed);

  // Ids that count as seen for repetition_penalty (the prompt).
  void observe_prompt(std::span<const int32_t> ids);
  // Picks from logits [vocabulary] (changed in place) and counts the pick as generated.
  Sampled sample(std::span<float> logits);

 private:
  void adjust(std::span<float> logits) const;  // penalties and bias
  int32_t pick(std::span<float> logits);       // from logits [allowed_]
  SamplingParams params_;
  int64_t allowed_;
  std::mt19937_64 random_;
  std::vector<uint32_t> generated_counts_;  // per id; empty when no penalty needs it
  std::vector<uint8_t> seen_;
  std::vector<std::pair<float, int32_t>> candidates_;  // scratch
};

// Log-softmax of logits at `id`, accumulated in double.
double log_probability(std::span<const float> logits, int32_t id);

}  // namespace nestling
