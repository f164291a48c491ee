// The front of the audio tower (transformers: Gemma3nAudioSubSampleConvProjection): two 3 x 3 convolutions with stride
// 2 over time and mel bins, each with a cumulative group norm and ReLU. One frame for every four of mel.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/audio/cumulative_group_norm.h"
#include "model/audio/weights.h"

namespace nestling {

// One stage, fed with rows [bins][channels in] of time in pieces of any length. Output t reads inputs 2t, 2t + 1 and
// 2t + 2; beyond the end of the clip, and beside the first and last bin, there are zeros.
class SubsampleStage {
 public:
  SubsampleStage(const SubsampleStageWeights& weights, int64_t bins, float eps);

  int64_t input_size() const { return bins_ * channels_in_; }
  int64_t output_size() const { return bins_out_ * channels_out_; }
  // Appends the rows that the `count` new ones complete to `out`, [n][bins out][channels out]; `last`: no more follow.
  void push(const Kernels& kernels, ThreadPool& pool, const float* rows, int64_t count, bool last,
            std::vector<float>& out);
  // Most memory of one push of `count` rows, the state between pushes.
  uint64_t workspace_bytes(int64_t count, int threads) const;
  uint64_t state_bytes() const;

 private:
  void append_padded(const float* rows, int64_t count);
  void convolve(const Kernels& kernels, const float* window, float* patches, float* out) const;

  const SubsampleStageWeights& weights_;
  int64_t bins_, channels_in_, bins_out_, channels_out_;
  float eps_;
  std::vector<float> pending_;  // rows from that of the next output on, each with a zero bin on both sides
  CumulativeStatistics statistics_;
};

// Both stages, before the projection: mel [frames][bins] to rows [n][bins * channels], bin by bin.
class Subsample {
 public:
  explicit Subsample(const AudioNetwork& network);

  // Kept of both stages while a piece runs, for taps.
  struct Stages {
    std::vector<float> conv_0, conv_1;
  };
  void push(const Kernels& kernels, ThreadPool& pool, const float* mel, int64_t frames, bool last,
            std::vector<float>& out, Stages* stages);
  uint64_t workspace_bytes(int threads) const;
  uint64_t state_bytes() const { return first_.state_bytes() + second_.state_bytes(); }

 private:
  SubsampleStage first_, second_;
};

}  // namespace nestling
